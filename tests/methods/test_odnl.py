"""Open-set label noise: labels, cross-entropy to them, and what it is in expectation."""

import math

import pytest
import torch
from torch import Tensor, nn

from oodles import ODNL, Batch, Classifier, OutlierExposure, Part, TrainingStep
from oodles.methods.odnl import random_labels

from ..contract.networks import batch, classifier
from ..references import odnl as reference

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("soft", [False, True])
def test_cross_entropy_to_the_drawn_labels(soft: bool, dtype: torch.dtype) -> None:
    x, o, y = normal(7, 5), normal(9, 5, seed=1), torch.arange(7) % 5
    targets = nn.functional.one_hot(y, 5).to(dtype) if soft else y
    step = TrainingStep(Classifier(nn.Identity(), nn.Identity(), num_classes=5), ODNL(weight=0.7))
    prepared = step.prepare((x.to(dtype), targets), outliers=o.to(dtype))
    labels = prepared["outliers"].targets
    assert labels is not None and labels.shape == (9,) and labels.dtype == torch.int64
    expected = 0.7 * reference.loss(o.numpy(), labels.tolist())
    assert step.losses(prepared)["odnl"].item() == pytest.approx(expected, rel=ACCURACY[dtype])


def test_labels_are_new_in_every_step_and_equally_likely() -> None:
    step = TrainingStep(classifier("vectors"), ODNL())
    first, second = (step.prepare(batch("vectors"))["outliers"].targets for _ in range(2))
    assert first is not None and second is not None and not torch.equal(first, second)
    counts = random_labels((4000,), 4, generator=torch.Generator().manual_seed(0)).bincount(minlength=4)
    assert len(counts) == 4 and (counts - 1000).abs().max() < 5 * math.sqrt(4000 * 0.25 * 0.75)


def test_the_mean_over_all_labels_is_outlier_exposure() -> None:
    z = normal(6, 5)
    values = [ODNL(weight=3)(z, torch.full((6,), label)).item() for label in range(5)]
    assert sum(values) / 5 == pytest.approx(OutlierExposure(weight=3)(z).item(), rel=1e-12)


def test_every_pixel_has_a_label() -> None:
    given = batch("dense")
    labels = TrainingStep(classifier("dense"), ODNL()).prepare(given)["outliers"].targets
    assert labels is not None and labels.shape == (10, 8, 8) and labels.unique().tolist() == [0, 1, 2, 3]
    assert labels[0].unique().numel() > 1


def test_labels_that_outliers_came_with_do_not_count() -> None:
    o = torch.rand(50, 6)
    given = batch("vectors").with_part("outliers", Part(o, torch.zeros(50, dtype=torch.int64)))
    prepared = TrainingStep(classifier("vectors"), ODNL()).prepare(given)
    assert prepared["outliers"].inputs is o and given["outliers"].targets is not None
    labels = prepared["outliers"].targets
    assert labels is not None and labels.unique().tolist() == [0, 1, 2, 3] and given["outliers"].targets.max() == 0


def test_equal_logits_cost_the_logarithm_of_the_classes_whatever_the_label() -> None:
    assert ODNL(weight=2)(torch.zeros(5, 4), torch.arange(5) % 4).item() == pytest.approx(2 * math.log(4))
    assert ODNL()(torch.ones(3, 1), torch.zeros(3, dtype=torch.int64)).item() == 0


def test_no_outliers_are_an_exact_zero() -> None:
    given = batch("vectors")
    empty = Batch({"id": given["id"], "outliers": Part(torch.rand(0, 6))})
    term = TrainingStep(classifier("vectors"), ODNL())(empty)["odnl"]
    assert term.item() == 0 and term.requires_grad
