"""ELogitNorm: distances to boundaries, what they divide, and layers of zeros."""

import pytest
import torch
from torch import nn

from oodles import Batch, Classifier, ELogitNorm, IsoMax, LogitNorm, OutlierExposure, Part, T2FNorm, TrainingStep
from oodles.methods.elogit_norm import boundary_distance, weight_distances
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from ..contract.steps import is_one_sentence, total
from ..references import elogit_norm as reference
from .linear import BIAS, PRECISIONS, TARGETS, WEIGHT, classifier, features, targets


def expected_distances(rows: list[list[float]]) -> torch.Tensor:
    return torch.tensor([[reference.boundary_distance(h, WEIGHT, BIAS)] for h in rows], dtype=torch.float64)


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("dtype, accuracy", PRECISIONS)
def test_the_papers_equations(dtype: torch.dtype, accuracy: float, kind: str) -> None:
    h, net = features(dtype=dtype, signed=True), classifier(dtype)
    wide = features(signed=True).tolist()
    found = boundary_distance(net(h), weight_distances(net.head.weight))
    torch.testing.assert_close(found.double(), expected_distances(wide), rtol=accuracy, atol=accuracy)
    expected = reference.loss(wide, WEIGHT, BIAS, TARGETS[kind])
    loss = ELogitNorm()(net(h), targets(kind, dtype), net.head.weight)
    assert loss.dtype == dtype and loss.item() == pytest.approx(expected, rel=accuracy)
    terms = TrainingStep(net, ELogitNorm())((h, targets(kind, dtype)))
    assert list(terms) == ["cross_entropy"] and total(terms).item() == pytest.approx(expected, rel=accuracy)


def test_every_part_is_divided_and_scores_see_logits_as_they_are() -> None:
    net = classifier()
    before = net(features())
    o = features(6, seed=1, signed=True)
    step = TrainingStep(net, ELogitNorm(), OutlierExposure())
    terms = step(Batch({"id": Part(features(), targets("class ids")), "outliers": Part(o)}))
    expected = 0.5 * cross_entropy_to_uniform(net(o) / expected_distances(o.tolist()))
    assert terms["outlier_exposure"].item() == pytest.approx(expected.item(), rel=1e-12)
    assert torch.equal(net(features()), before)


def test_the_gradient_passes_through_distance_and_weights() -> None:
    net = classifier()

    def loss(weight: torch.Tensor) -> torch.Tensor:
        return ELogitNorm()(features(signed=True) @ weight.T, targets("soft"), weight)

    assert torch.autograd.gradcheck(loss, net.head.weight.detach().clone().requires_grad_())


def test_the_scale_of_features_does_not_count_and_that_of_weights_does() -> None:
    weight = torch.tensor(WEIGHT, dtype=torch.float64)
    h, y = features(signed=True), targets("class ids")
    once = ELogitNorm()(h @ weight.T, y, weight)
    assert ELogitNorm()(3 * h @ weight.T, y, weight).item() == pytest.approx(once.item(), rel=1e-12)
    assert ELogitNorm()(h @ (3 * weight).T, y, 3 * weight).item() != pytest.approx(once.item(), rel=0.1)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_layer_of_zeros_divides_by_nothing(classes: int) -> None:
    net = Classifier(nn.Identity(), nn.Linear(5, classes))
    nn.init.zeros_(net.head.weight), nn.init.zeros_(net.head.bias)  # type: ignore[arg-type]  # of a linear layer
    h = features(dtype=torch.float32).requires_grad_()
    y = torch.tensor([0, 0, 0, 0])
    loss = total(TrainingStep(net, ELogitNorm())((h, y)))
    loss.backward()
    assert loss.item() == pytest.approx(torch.tensor(float(classes)).log().item())
    plain = classifier(torch.float32) if classes == 3 else net
    nn.init.zeros_(plain.head.weight), nn.init.zeros_(plain.head.bias)  # type: ignore[arg-type]
    (slope,) = torch.autograd.grad(total(TrainingStep(plain)((h.detach(), y))), plain.head.weight)
    torch.testing.assert_close(net.head.weight.grad, slope)


def test_classes_of_the_same_weights_and_rows_at_a_boundary_are_finite() -> None:
    weight = torch.tensor([WEIGHT[0], WEIGHT[0], WEIGHT[1]], requires_grad=True)
    h = torch.stack([torch.zeros(5), torch.ones(5)])
    loss = ELogitNorm()(h @ weight.T, torch.tensor([0, 1]), weight)
    loss.backward()
    assert loss.isfinite() and weight.grad is not None and weight.grad.isfinite().all()


def test_close_weights_far_from_zero_keep_their_distance_in_float32() -> None:
    apart = 1e-3 * torch.eye(4, 8)
    found = weight_distances(5.0 + apart)
    expected = (apart[:, None] - apart[None]).norm(dim=2).masked_fill(torch.eye(4, dtype=torch.bool), 1.0)
    torch.testing.assert_close(found, expected, rtol=1e-2, atol=0)


def test_no_classes_times_classes_times_features() -> None:
    """A thousand classes and 512 features: 2 GB if every pair of weights were subtracted, 4 MB for the distances."""
    weight = torch.randn(1000, 512, requires_grad=True)
    sizes: list[int] = []

    def note(kept: torch.Tensor) -> torch.Tensor:
        sizes.append(kept.numel())
        return kept

    with torch.autograd.graph.saved_tensors_hooks(note, lambda kept: kept):
        ELogitNorm()(torch.randn(8, 1000), torch.arange(8), weight).backward()
    assert max(sizes) <= 1000 * 1000


@pytest.mark.parametrize("other", [IsoMax(), LogitNorm(), T2FNorm()])
def test_other_heads_and_norms_are_refused(other: IsoMax | LogitNorm | T2FNorm) -> None:
    with pytest.raises(ValueError, match="elogit-norm") as refusal:
        TrainingStep(classifier(), other, ELogitNorm())
    assert other.name in str(refusal.value) and is_one_sentence(str(refusal.value))


def test_a_last_layer_that_is_not_linear_is_refused() -> None:
    net = Classifier(nn.Identity(), nn.Sequential(nn.Linear(5, 3), nn.ReLU()), num_classes=3, num_features=5)
    with pytest.raises(ValueError, match="elogit-norm needs a linear last layer") as refusal:
        TrainingStep(net, ELogitNorm())
    assert is_one_sentence(str(refusal.value))
