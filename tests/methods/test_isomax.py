"""IsoMax and IsoMax+: distances, the entropic scale, and prototypes that begin where the papers begin."""

import math

import pytest
import torch
from torch import Tensor, nn

from oodles import Batch, IsoMax, IsoMaxPlus, OutlierExposure, Part, TrainingStep
from oodles.heads import distances
from oodles.methods.isomax import DistanceHead
from oodles.methods.isomax_plus import UnitDistanceHead
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from ..references.isomax import isomax_logits, isomax_plus_logits, loss
from .linear import PRECISIONS, TARGETS, WEIGHT, classifier, features, targets


def with_prototypes(step: TrainingStep, dtype: torch.dtype = torch.float64) -> TrainingStep:
    head = step.classifier.head
    with torch.no_grad():
        head.prototypes.copy_(torch.tensor(WEIGHT, dtype=torch.float64))
        if isinstance(head, UnitDistanceHead):
            head.distance_scale.fill_(-1.5)
    return step


REFERENCES = {
    IsoMax: lambda row: isomax_logits(row, WEIGHT),
    IsoMaxPlus: lambda row: isomax_plus_logits(row, WEIGHT, -1.5),
}


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("cls", REFERENCES)
@pytest.mark.parametrize("scale", [10.0, 0.5])
def test_loss_and_logits(cls, dtype, accuracy: float, kind: str, scale: float) -> None:  # type: ignore[no-untyped-def]
    step = with_prototypes(TrainingStep(classifier(dtype), cls(entropic_scale=scale)))
    logits = [REFERENCES[cls](row) for row in features(signed=True).tolist()]
    x = features(dtype=dtype, signed=True)
    expected = loss(logits, TARGETS[kind], scale)
    assert step((x, targets(kind, dtype)))["cross_entropy"].item() == pytest.approx(expected, rel=accuracy)
    found = step.classifier(x)
    torch.testing.assert_close(found.double(), torch.tensor(logits, dtype=torch.float64), rtol=accuracy, atol=accuracy)
    alone = cls(entropic_scale=scale)(found, targets(kind, dtype))
    assert alone.item() == pytest.approx(expected, rel=accuracy)


@pytest.mark.parametrize("cls", REFERENCES)
def test_every_part_is_scaled(cls: type) -> None:
    step = with_prototypes(TrainingStep(classifier(), cls(entropic_scale=3.0), OutlierExposure()))
    outliers = features(6, seed=1)
    terms = step(Batch({"id": Part(features(), targets("class ids")), "outliers": Part(outliers)}))
    expected = 0.5 * cross_entropy_to_uniform(3 * step.classifier(outliers))
    assert terms["outlier_exposure"].item() == pytest.approx(expected.item(), rel=1e-12)


def test_prototypes_begin_at_zero_and_with_a_spread_that_is_asked_for() -> None:
    for spread in (0.0, 0.5):
        net = classifier()
        TrainingStep(net, IsoMax(spread=spread))
        assert isinstance(net.head, DistanceHead) and net.head.prototypes.shape == (3, 5)
        assert net.head.prototypes.dtype == torch.float64
        assert net.head.prototypes.std().item() == pytest.approx(spread, abs=0.2)
    net = classifier()
    x = features().requires_grad_()
    terms = TrainingStep(net, IsoMax())((x, targets("class ids")))
    assert terms["cross_entropy"].item() == pytest.approx(math.log(3))
    terms["cross_entropy"].backward()
    assert x.grad is not None and x.grad.abs().max() < 1e-12, "from zero, prototypes move first"
    assert net.head.prototypes.grad.abs().max() > 1e-2


def test_prototypes_of_isomax_plus_begin_on_all_sides() -> None:
    net = classifier()
    TrainingStep(net, IsoMaxPlus())
    assert isinstance(net.head, UnitDistanceHead) and net.head.distance_scale.tolist() == [1.0]
    assert 0.5 < net.head.prototypes.std() < 1.5


@pytest.mark.parametrize("cls", REFERENCES)
def test_a_trained_head_stays_in_a_second_step(cls: type) -> None:
    net = classifier()
    head = with_prototypes(TrainingStep(net, cls())).classifier.head
    TrainingStep(net, cls())
    assert net.head is head and torch.equal(head.prototypes.detach(), torch.tensor(WEIGHT, dtype=torch.float64))


def test_isomax_plus_does_not_feel_lengths() -> None:
    net = with_prototypes(TrainingStep(classifier(), IsoMaxPlus())).classifier
    torch.testing.assert_close(net(7 * features()), net(features()))
    assert net(features()).amin() >= -3.0, "2·|s| is the largest distance on the sphere"


def test_rows_at_a_prototype_have_distance_zero_and_finite_gradients() -> None:
    x = torch.tensor(WEIGHT, dtype=torch.float64, requires_grad=True)
    far = torch.cat([x, torch.zeros(1, 5, dtype=torch.float64)])
    for cls in REFERENCES:
        net = with_prototypes(TrainingStep(classifier(), cls())).classifier
        logits = net(far)
        assert logits.diagonal().abs().max() < 1e-7
        (slope,) = torch.autograd.grad(logits.sum(), x)
        assert slope.isfinite().all() and all(p.grad is None for p in net.parameters())


def test_close_rows_far_from_the_origin_keep_their_distances() -> None:
    rows = torch.full((30, 64), 100.0)
    rows[:, 0] += torch.arange(30) / 1000
    found = distances(rows, rows[:1])[:, 0]
    torch.testing.assert_close(found, rows[:, 0] - 100.0, rtol=1e-3, atol=1e-5)


def test_distances_under_autocast_are_float32() -> None:
    x: Tensor = features(dtype=torch.float32)
    net = with_prototypes(TrainingStep(classifier(torch.float32), IsoMaxPlus())).classifier
    expected = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(x), expected)


def test_a_classifier_that_does_not_know_its_features_is_refused() -> None:
    from oodles import Classifier

    for cls in REFERENCES:
        net = Classifier(nn.Identity(), nn.Sequential(nn.Linear(5, 3)), num_classes=3)
        with pytest.raises(ValueError, match="num_features must be known to add or replace a head"):
            TrainingStep(net, cls())
