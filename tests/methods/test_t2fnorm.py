"""T2FNorm: what is trained, what is tested, and weights that move between plain runs and these."""

import numpy as np
import pytest
import torch
from torch import nn

from oodles import Batch, Classifier, OutlierExposure, Part, RegMixup, T2FNorm, TrainingStep
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.methods.t2fnorm import unit_length
from oodles.targets import cross_entropy as cross_entropy_of

from ..contract.steps import is_one_sentence
from ..references.equations import cross_entropy
from ..references.t2fnorm import testing_logits as logits_in_testing
from ..references.t2fnorm import training_logits as logits_in_training
from .linear import BIAS, PRECISIONS, TARGETS, WEIGHT, classifier, features, targets


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("temperature", [0.1, 2.0])
def test_the_loss_is_that_of_unit_features(dtype, accuracy: float, kind: str, temperature: float) -> None:  # type: ignore[no-untyped-def]
    x = features(dtype=dtype)
    step = TrainingStep(classifier(dtype), T2FNorm(temperature=temperature))
    logits = [logits_in_training(row, WEIGHT, BIAS, temperature) for row in features().tolist()]
    expected = cross_entropy(np.array(logits), np.array(TARGETS[kind]))
    assert step((x, targets(kind, dtype)))["cross_entropy"].item() == pytest.approx(expected, rel=accuracy)


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
def test_the_classifier_is_that_of_testing(dtype, accuracy: float) -> None:  # type: ignore[no-untyped-def]
    net, x = classifier(dtype), features(dtype=dtype)
    TrainingStep(net, T2FNorm(temperature=0.1))
    expected = [logits_in_testing(row, WEIGHT, BIAS, 0.1) for row in features().tolist()]
    for mode in (True, False):
        torch.testing.assert_close(
            net.train(mode)(x).double(), torch.tensor(expected, dtype=torch.float64), rtol=accuracy, atol=accuracy
        )


def test_lengths_of_features_do_not_matter_in_training() -> None:
    step = TrainingStep(classifier(), T2FNorm())
    x, lengths = features(), torch.tensor([[0.01], [1.0], [30.0], [1e4]], dtype=torch.float64)
    once, again = (step((rows, targets("class ids")))["cross_entropy"].item() for rows in (x, x * lengths))
    assert again == pytest.approx(once, rel=1e-12)
    net = step.classifier
    assert not torch.allclose(net(x * lengths).softmax(1), net(x).softmax(1), atol=0.1), "in testing they do"


def test_a_row_of_zeros_has_the_bias_as_logits_and_a_finite_gradient() -> None:
    zeros = torch.zeros(4, 5, dtype=torch.float64, requires_grad=True)
    assert torch.equal(unit_length(zeros), zeros)
    loss = TrainingStep(classifier(), T2FNorm())((zeros, targets("class ids")))["cross_entropy"]
    loss.backward()
    assert loss.item() == pytest.approx(cross_entropy(np.array([BIAS] * 4), np.array(TARGETS["class ids"])), rel=1e-12)
    assert zeros.grad is not None and zeros.grad.isfinite().all()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_every_part_is_normalised(order: tuple[int, ...]) -> None:
    methods = [RegMixup(alpha=2.0), T2FNorm(), OutlierExposure()]
    step = TrainingStep(classifier(), *(methods[index] for index in order))
    given = Batch({"id": Part(features(), targets("class ids")), "outliers": Part(features(6, seed=1))})
    prepared = step.prepare(given)
    terms = step.losses(prepared)
    head = step.classifier.head

    def logits(role: str) -> torch.Tensor:
        x = prepared[role].inputs
        return (x / x.norm(dim=1, keepdim=True) / 0.1) @ head.weight.T + head.bias

    assert terms["regmixup"].item() == pytest.approx(
        cross_entropy_of(logits("mixed"), prepared["mixed"].targets).item(), rel=1e-10
    )
    assert terms["outlier_exposure"].item() == pytest.approx(
        0.5 * cross_entropy_to_uniform(logits("outliers")).item(), rel=1e-10
    )


def test_a_trained_layer_tests_at_the_temperature_of_its_training() -> None:
    plain, fresh = classifier(), classifier()
    TrainingStep(plain, T2FNorm(temperature=0.1))
    TrainingStep(fresh, T2FNorm(temperature=0.5))
    fresh.load_state_dict(plain.state_dict())
    torch.testing.assert_close(fresh(features()), classifier()(10 * features()))


def test_a_second_step_decides_the_temperature_and_keeps_the_weights() -> None:
    net = classifier()
    weight, bias = net.head.weight, net.head.bias
    TrainingStep(net, T2FNorm(temperature=0.1))
    TrainingStep(net, T2FNorm(temperature=0.2))
    assert net.head.weight is weight and net.head.bias is bias
    torch.testing.assert_close(net(features()), features() / 0.2 @ weight.T + bias)


def test_a_layer_without_bias() -> None:
    net = Classifier(nn.Identity(), nn.Linear(5, 3, bias=False, dtype=torch.float64))
    step = TrainingStep(net, T2FNorm())
    expected = cross_entropy_of(unit_length(features()) @ net.head.weight.T / 0.1, targets("class ids"))
    assert step((features(), targets("class ids")))["cross_entropy"].item() == pytest.approx(expected.item())


def test_another_last_layer_is_refused() -> None:
    net = Classifier(nn.Identity(), nn.Sequential(nn.Linear(5, 3)), num_classes=3)
    with pytest.raises(ValueError, match=r"t2fnorm needs a linear last layer, .*, got Sequential: split") as refusal:
        TrainingStep(net, T2FNorm())
    assert is_one_sentence(str(refusal.value))
    assert isinstance(net.head, nn.Sequential)


def test_the_standalone_form() -> None:
    torch.testing.assert_close(T2FNorm(temperature=0.5)(features()).norm(dim=1), torch.full((4,), 2.0).double())
    assert T2FNorm()(features(0)).shape == (0, 5)
    with pytest.raises(TypeError, match="features must be floating point"):
        T2FNorm()(torch.ones(2, 5, dtype=torch.int64))
