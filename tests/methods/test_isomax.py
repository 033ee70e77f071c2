"""IsoMax: distances, the entropic scale, and prototypes that begin where the paper begins."""

import math
from collections.abc import Callable

import pytest
import torch

from oodles import IsoMax, TrainingStep
from oodles.methods.isomax import DistanceHead

from ..references.isomax import logits_of
from . import prototypes
from .linear import PRECISIONS, TARGETS, WEIGHT, classifier, features, targets


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("scale", [10.0, 0.5])
def test_loss_and_logits(scale: float, kind: str, dtype: torch.dtype, accuracy: float) -> None:
    prototypes.check_loss_and_logits(IsoMax, lambda row: logits_of(row, WEIGHT), scale, kind, dtype, accuracy)


@pytest.mark.parametrize("check", prototypes.EVERY)
def test_prototypes(check: Callable[[prototypes.Prototypes], None]) -> None:
    check(IsoMax)


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
