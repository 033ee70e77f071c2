"""The Objectosphere loss; recorded: Vastlab/vast, the magnitude loss of each row at ξ = 10, knowns first."""

import math

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, EntropicOpenSet, Objectosphere, TrainingStep, evaluate
from oodles.methods.objectosphere import ObjectosphereScore, magnitude_penalty

from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import objectosphere as reference
from ..references.equations import pixels_as_rows

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_rows(dtype: torch.dtype) -> None:
    rows = VALUES["entropic_objectosphere"]["objectosphere(xi=10,per-sample)"]
    none = torch.zeros(0, 6, dtype=dtype)
    for h, expected in zip(X_IN.to(dtype), rows[:4], strict=True):
        assert magnitude_penalty(h[None], none, 10.0).item() == pytest.approx(expected, rel=1e-6)
    for h, expected in zip(X_OUT.to(dtype), rows[4:], strict=True):
        assert magnitude_penalty(none, h[None], 10.0).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
def test_both_terms(dtype: torch.dtype) -> None:
    x, o, y = normal(5, 6), normal(9, 6, seed=1), torch.arange(5)
    method = Objectosphere(weight=0.7, magnitude_weight=0.03, minimum_magnitude=7.0)  # some rows are longer
    terms = TrainingStep(Classifier(nn.Identity(), layer(0, 5, dtype)), method)((x.to(dtype), y), outliers=o.to(dtype))
    assert list(terms) == ["cross_entropy", "entropic_open_set", "objectosphere"]
    entropic = EntropicOpenSet(weight=0.7)(layer(0, 5, torch.float64)(o)).item()
    assert terms["entropic_open_set"].item() == pytest.approx(entropic, rel=ACCURACY[dtype])
    penalty = 0.7 * 0.03 * reference.penalty(x.numpy(), o.numpy(), 7.0)
    assert terms["objectosphere"].item() == pytest.approx(penalty, rel=ACCURACY[dtype])
    assert any(reference.known(h, 7.0) == 0 for h in x.numpy()) and any(reference.known(h, 7.0) > 0 for h in x.numpy())


def test_without_magnitudes_it_is_the_entropic_loss() -> None:
    given = (X_IN, Y), X_OUT
    terms = TrainingStep(Classifier(nn.Identity(), layer(0, 5, torch.float32)), Objectosphere(magnitude_weight=0))(
        *given
    )
    expected = TrainingStep(Classifier(nn.Identity(), layer(0, 5, torch.float32)), EntropicOpenSet())(*given)
    assert list(terms) == list(expected) and total(terms).item() == total(expected).item()


def test_the_two_losses_are_not_added_up() -> None:
    with pytest.raises(ValueError, match="both add the term 'entropic_open_set'") as refusal:
        TrainingStep(Classifier(nn.Identity(), nn.Linear(6, 5)), EntropicOpenSet(), Objectosphere())
    assert is_one_sentence(str(refusal.value))


def test_pixels_are_rows() -> None:
    h_in, h_out = normal(2, 5, 3, 2), normal(3, 5, 3, 2, seed=1)
    expected = reference.penalty(pixels_as_rows(h_in.numpy()), pixels_as_rows(h_out.numpy()), 6.0)
    assert magnitude_penalty(h_in, h_out, 6.0).item() == pytest.approx(expected, rel=1e-12)


def test_features_of_zero_have_a_finite_gradient() -> None:
    zero = torch.zeros(2, 3, requires_grad=True)
    loss = magnitude_penalty(zero, zero, 2.0)
    loss.backward()
    assert loss.item() == 4 and zero.grad is not None and zero.grad.tolist() == [[0.0] * 3] * 2


def test_no_minimum_leaves_known_rows_alone_and_empty_parts_are_zero() -> None:
    none = torch.zeros(0, 3, requires_grad=True)
    assert magnitude_penalty(normal(4, 3), none, 0.0).item() == 0
    loss = Objectosphere()(none, none)
    assert loss.item() == 0 and loss.requires_grad


def test_the_score_multiplies_the_highest_probability_by_the_length_of_the_features() -> None:
    h, z = normal(9, 6), normal(9, 4, seed=1)
    expected = [reference.score(*rows) for rows in zip(h.tolist(), z.tolist(), strict=True)]
    assert ObjectosphereScore()(h, z).tolist() == pytest.approx(expected, rel=1e-12)
    h, z = torch.tensor([[3.0, 4.0], [0.3, 0.4]]), torch.zeros(2, 5)
    assert ObjectosphereScore()(h, z).tolist() == pytest.approx([-1.0, -0.1])  # 5 / 5; logits have no length here


def test_the_score_needs_features() -> None:
    rows = [torch.ones(2, 6)]
    with pytest.raises(ValueError, match="objectosphere needs features and Linear gives logits alone") as refusal:
        evaluate(nn.Linear(6, 3), rows, {}, ["objectosphere"])
    assert is_one_sentence(str(refusal.value))
    found = evaluate(Classifier(nn.Identity(), layer(0, 5, torch.float32)), rows, {}, ["objectosphere"])
    z = layer(0, 5, torch.float32)(rows[0]).detach()
    expected = -z.softmax(1).max().item() * math.sqrt(6)
    assert found.scores["id"]["objectosphere"].tolist() == pytest.approx([expected] * 2, rel=1e-6)
