"""The shared discriminator beside the classes; recorded: the formula, computed apart ("SharedCD")."""

import math

import pytest
import torch
from torch import Tensor, nn

from oodles import BackgroundClass, Classifier, SharedDiscriminator, TrainingStep
from oodles.methods.shared_discriminator import (
    Discriminator,
    DiscriminatorS2,
    DiscriminatorS3,
    mean_log_loss,
)

from ..contract.steps import total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import shared_discriminator as reference
from ..references.equations import one_hot

ACCURACY = {torch.float64: 1e-11, torch.float32: 1e-5}
SCORES = Discriminator(), DiscriminatorS2(), DiscriminatorS3()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step_on(z: nn.Module, d: nn.Module, weight: float = 1.0) -> TrainingStep:
    """A step whose logits and d are linear layers of the inputs."""
    classifier = Classifier(nn.Identity(), z)
    classifier.heads["discriminator"] = d
    return TrainingStep(classifier, SharedDiscriminator(weight=weight))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_value(dtype: torch.dtype) -> None:
    step = step_on(layer(0, 5, dtype), layer(5, 6, dtype))
    loss = total(step((X_IN.to(dtype), Y), outliers=X_OUT.to(dtype)))
    assert loss.item() == pytest.approx(VALUES["background"]["SharedCD"][0], rel=1e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("targets", ["ids", "probabilities"])
def test_the_loss(targets: str, dtype: torch.dtype) -> None:
    x, o, y = normal(7, 6), normal(9, 6, seed=1), torch.arange(7) % 5
    soft = torch.rand(7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)
    given, rows = (y, one_hot(y.tolist(), 5)) if targets == "ids" else (soft.to(dtype), soft.numpy())
    whole = layer(0, 6, torch.float64)
    seen = whole(x).detach(), whole(o).detach()
    expected = reference.loss(seen[0][:, :5].numpy(), rows, seen[0][:, 5].tolist(), seen[1][:, 5].tolist(), 0.7)
    loss = total(step_on(layer(0, 5, dtype), layer(5, 6, dtype), 0.7)((x.to(dtype), given), outliers=o.to(dtype)))
    assert loss.item() == pytest.approx(expected, rel=ACCURACY[dtype])


def test_pixels_are_rows() -> None:
    d = normal(3, 1, 4, 2)
    assert mean_log_loss(d, known=True).item() == pytest.approx(
        sum(math.log(1 + math.exp(-value)) for value in d.flatten().tolist()) / 24, rel=1e-12
    )


def test_the_classes_learn_nothing_from_outliers() -> None:
    step = step_on(layer(0, 5, torch.float64), layer(5, 6, torch.float64))
    terms = step((X_IN.double(), Y), outliers=X_OUT.double())
    (slope,) = torch.autograd.grad(terms["shared_discriminator"], step.classifier.head.weight, allow_unused=True)
    assert slope is None


def test_a_logit_of_zero_costs_the_logarithm_of_two() -> None:
    zeros = torch.zeros(4, 1)
    assert SharedDiscriminator(weight=0.5)(zeros).item() == pytest.approx(0.5 * math.log(2))
    assert mean_log_loss(zeros, known=True).item() == pytest.approx(math.log(2))


def test_one_known_class_is_the_background_class_at_zero() -> None:
    d = normal(6, 1)
    assert SharedDiscriminator()(d).item() == pytest.approx(BackgroundClass()(d, torch.zeros_like(d)).item(), rel=1e-12)


def test_logits_far_away_stay_finite() -> None:
    d = torch.tensor([[1e4], [-1e4]], requires_grad=True)
    loss = SharedDiscriminator()(d)
    loss.backward()
    assert loss.item() == pytest.approx(5e3) and d.grad is not None and d.grad.flatten().tolist() == [0.5, 0.0]


def test_no_outliers_are_an_exact_zero() -> None:
    loss = SharedDiscriminator()(torch.zeros(0, 1, requires_grad=True))
    assert loss.item() == 0 and loss.requires_grad


def test_the_scores() -> None:
    z, d = normal(20, 5), normal(20, 1, seed=1)
    expected = [reference.scores(row, value) for row, (value,) in zip(z.tolist(), d.tolist(), strict=True)]
    for index, score in enumerate(SCORES):
        assert score(z, z, d).tolist() == pytest.approx([each[index] for each in expected], rel=1e-11), score.name


def test_confident_rows_keep_their_order_in_float32() -> None:
    z, d = torch.zeros(40, 3), torch.full((40, 1), 60.0)
    z[:, 1] = torch.arange(20, 60)
    assert (SCORES[1](z, z, d).diff() < 0).all() and (SCORES[2](z, z, d).diff() < 0).all()


def test_where_the_discriminator_is_sure_the_scores_are_its_own_and_the_classes() -> None:
    z = normal(6, 4)
    outside, inside = torch.full((6, 1), -800.0).double(), torch.full((6, 1), 800.0).double()
    highest = 1 - z.softmax(1).amax(1)
    assert [score(z, z, outside).tolist() for score in SCORES] == [[1.0] * 6, [1.0] * 6, [0.75] * 6]
    assert SCORES[0](z, z, inside).tolist() == [0.0] * 6
    for score in SCORES[1:]:
        torch.testing.assert_close(score(z, z, inside), highest)
