"""IsoMax+: scaled distances on the unit sphere, which do not feel lengths, and the entropic scale."""

from collections.abc import Callable

import pytest
import torch

from oodles import IsoMaxPlus, TrainingStep
from oodles.methods.isomax_plus import UnitDistanceHead

from ..references.isomax_plus import logits_of
from . import prototypes
from .linear import PRECISIONS, TARGETS, WEIGHT, classifier, features, targets
from .prototypes import SCALE, with_prototypes


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("scale", [10.0, 0.5])
def test_loss_and_logits(scale: float, kind: str, dtype: torch.dtype, accuracy: float) -> None:
    prototypes.check_loss_and_logits(
        IsoMaxPlus, lambda row: logits_of(row, WEIGHT, SCALE), scale, kind, dtype, accuracy
    )


@pytest.mark.parametrize("check", prototypes.EVERY)
def test_prototypes(check: Callable[[prototypes.Prototypes], None]) -> None:
    check(IsoMaxPlus)


def test_prototypes_begin_on_all_sides() -> None:
    net = classifier()
    TrainingStep(net, IsoMaxPlus())
    assert isinstance(net.head, UnitDistanceHead) and net.head.distance_scale.tolist() == [1.0]
    assert net.head.prototypes.shape == (3, 5) and 0.5 < net.head.prototypes.std() < 1.5


def test_lengths_are_not_felt() -> None:
    net = with_prototypes(TrainingStep(classifier(), IsoMaxPlus())).classifier
    torch.testing.assert_close(net(7 * features()), net(features()))
    assert net(features()).amin() >= -3.0, "2·|s| is the largest distance on the sphere"
    with torch.no_grad():
        net.head.prototypes.mul_(0.1)
    torch.testing.assert_close(net(7 * features()), net(features()))


def test_opposite_directions_are_two_scales_apart() -> None:
    net = with_prototypes(TrainingStep(classifier(), IsoMaxPlus())).classifier
    logits = net(-3 * torch.tensor(WEIGHT, dtype=torch.float64))
    torch.testing.assert_close(logits.diagonal(), torch.full((3,), 2 * SCALE, dtype=torch.float64))


def test_the_scale_is_learned() -> None:
    step = with_prototypes(TrainingStep(classifier(), IsoMaxPlus()))
    step((features(signed=True), targets("class ids")))["cross_entropy"].backward()
    head = step.classifier.head
    assert head.distance_scale.grad is not None and head.distance_scale.grad.abs() > 1e-3
    assert head.prototypes.grad is not None and head.prototypes.grad.abs().max() > 1e-3
