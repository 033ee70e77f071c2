"""What IsoMax and IsoMax+ have to do alike: prototypes that are known, and checks of either method."""

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from oodles import Batch, Classifier, IsoMax, IsoMaxPlus, OutlierExposure, Part, TrainingStep
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from ..references.isomax import loss
from .linear import TARGETS, WEIGHT, classifier, features, targets

Prototypes = type[IsoMax] | type[IsoMaxPlus]
SCALE = -1.5
"""The distance scale of IsoMax+; its sign does not count."""


def with_prototypes(step: TrainingStep) -> TrainingStep:
    """The step, with the prototypes and the scale of the references."""
    with torch.no_grad():
        step.classifier.head.prototypes.copy_(torch.tensor(WEIGHT, dtype=torch.float64))
        if hasattr(step.classifier.head, "distance_scale"):
            step.classifier.head.distance_scale.fill_(SCALE)
    return step


def check_loss_and_logits(
    cls: Prototypes,
    logits_of: Callable[[Sequence[float]], list[float]],
    scale: float,
    kind: str,
    dtype: torch.dtype,
    accuracy: float,
) -> None:
    """The step's loss, the trained classifier's logits, and the loss of those logits alone."""
    step = with_prototypes(TrainingStep(classifier(dtype), cls(entropic_scale=scale)))
    logits = [logits_of(row) for row in features(signed=True).tolist()]
    x = features(dtype=dtype, signed=True)
    expected = loss(logits, TARGETS[kind], scale)
    terms = step((x, targets(kind, dtype)))
    assert list(terms) == ["cross_entropy"] and terms["cross_entropy"].item() == pytest.approx(expected, rel=accuracy)
    found = step.classifier(x)
    torch.testing.assert_close(found.double(), torch.tensor(logits, dtype=torch.float64), rtol=accuracy, atol=accuracy)
    alone = cls(entropic_scale=scale)(found, targets(kind, dtype))
    assert alone.dtype == dtype and alone.item() == pytest.approx(expected, rel=accuracy)
    half = found.bfloat16()
    rounded = loss(half.double().tolist(), TARGETS[kind], scale)
    assert cls(entropic_scale=scale)(half, targets(kind, dtype)).item() == pytest.approx(rounded, rel=1e-5)


def check_every_part_is_scaled(cls: Prototypes) -> None:
    step = with_prototypes(TrainingStep(classifier(), cls(entropic_scale=3.0), OutlierExposure()))
    outliers = features(6, seed=1)
    terms = step(Batch({"id": Part(features(), targets("class ids")), "outliers": Part(outliers)}))
    expected = 0.5 * cross_entropy_to_uniform(3 * step.classifier(outliers))
    assert terms["outlier_exposure"].item() == pytest.approx(expected.item(), rel=1e-12)


def check_a_trained_head_stays(cls: Prototypes) -> None:
    """A second step takes the head that is there."""
    net = classifier()
    head = with_prototypes(TrainingStep(net, cls())).classifier.head
    TrainingStep(net, cls())
    assert net.head is head and torch.equal(head.prototypes.detach(), torch.tensor(WEIGHT, dtype=torch.float64))


def check_rows_at_a_prototype(cls: Prototypes) -> None:
    """Their distance is zero and their gradients are finite; so are those of a row of zeros."""
    x = torch.tensor(WEIGHT, dtype=torch.float64, requires_grad=True)
    net = with_prototypes(TrainingStep(classifier(), cls())).classifier
    logits = net(torch.cat([x, torch.zeros(1, 5, dtype=torch.float64)]))
    assert logits.diagonal().abs().max() < 1e-7
    (slope,) = torch.autograd.grad(logits.sum(), x)
    assert slope.isfinite().all() and logits.isfinite().all()


def check_float32_under_autocast(cls: Prototypes) -> None:
    net, x = with_prototypes(TrainingStep(classifier(torch.float32), cls())).classifier, features(dtype=torch.float32)
    expected = net(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(x), expected)


def check_unknown_features_are_refused(cls: Prototypes) -> None:
    net = Classifier(nn.Identity(), nn.Sequential(nn.Linear(5, 3)), num_classes=3)
    with pytest.raises(ValueError, match="num_features must be known to add or replace a head"):
        TrainingStep(net, cls())


EVERY: tuple[Callable[[Prototypes], None], ...] = (
    check_every_part_is_scaled,
    check_a_trained_head_stays,
    check_rows_at_a_prototype,
    check_float32_under_autocast,
    check_unknown_features_are_refused,
)
