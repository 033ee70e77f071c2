"""Outlier Exposure: the method's term, the standalone loss, and where uniform predictions lie."""

import math

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from oodles import OutlierExposure, OutlierExposureLoss, TrainingStep
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from ..contract.steps import is_one_sentence
from ..references import outlier_exposure as reference
from ..references.equations import cross_entropy
from .losses import (
    CASES,
    LABELS,
    Case,
    check_huge_logits,
    check_plain_without_outliers,
    check_signature,
    check_wrong_outliers,
    given,
    logits,
    logits_alone,
)


@CASES
def test_the_value(case: Case) -> None:
    one = given(case)
    plain, uniform = cross_entropy(one.z_in, one.t), reference.cross_entropy_to_uniform(one.z_out)
    one.check(OutlierExposure(weight=0.7)(one.unknown), 0.7 * uniform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one.check(OutlierExposureLoss(0.7)(one.known, one.targets, one.unknown), plain + 0.7 * uniform)
        one.check(OutlierExposureLoss(0.7)(one.known, one.targets), plain)


@pytest.mark.parametrize("outliers", [1, 7, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step(outliers: int, dtype: torch.dtype) -> None:
    """The weight does not depend on how many outliers there are, as it would with one mean over all rows."""
    one = given(("rows", "class ids", dtype))
    o = logits(outliers, seed=1, dtype=torch.float64)
    terms = TrainingStep(logits_alone(), OutlierExposure(weight=0.4))((one.known, one.targets), outliers=o.to(dtype))
    assert set(terms) == {"cross_entropy", "outlier_exposure"}
    one.check(terms["cross_entropy"], cross_entropy(one.z_in, one.t))
    one.check(terms["outlier_exposure"], 0.4 * reference.cross_entropy_to_uniform(o.numpy()))


def test_uniform_predictions_cost_the_least() -> None:
    for value in (-1000.0, 0.0, 1000.0):
        flat = torch.full((3, 7), value, requires_grad=True)
        loss = cross_entropy_to_uniform(flat)
        assert loss.item() == pytest.approx(math.log(7), rel=1e-4)
        (gradient,) = torch.autograd.grad(loss, flat)
        torch.testing.assert_close(gradient, torch.zeros(3, 7), rtol=0, atol=1e-6)


def test_one_class_costs_nothing() -> None:
    assert cross_entropy_to_uniform(torch.tensor([[5.0], [-3.0]])).item() == pytest.approx(0)


def test_the_gradient_is_the_distance_from_uniform() -> None:
    z = logits(4, dtype=torch.float64).requires_grad_()
    OutlierExposure(weight=0.5)(z).backward()
    torch.testing.assert_close(z.grad, 0.5 * (z.detach().softmax(1) - 1 / 5) / 4)


@drawn(n=st.integers(1, 6), classes=st.integers(1, 8), seed=st.integers(0, 2**32), shift=st.floats(-50, 50))
def test_a_shift_of_all_logits_is_not_felt(n: int, classes: int, seed: int, shift: float) -> None:
    z = logits(n, classes, seed=seed, dtype=torch.float64)
    uniform = cross_entropy_to_uniform(z)
    torch.testing.assert_close(cross_entropy_to_uniform(z + shift), uniform, rtol=1e-9, atol=1e-9)
    assert uniform >= math.log(classes) - 1e-12


def test_huge_logits_stay_finite() -> None:
    check_huge_logits(lambda a, b: OutlierExposureLoss()(a, torch.tensor([0, 2]), b))


# the standalone loss


def test_its_signature() -> None:
    check_signature(OutlierExposureLoss, {"lambda_oe": 0.5})


def test_without_outliers_it_is_cross_entropy() -> None:
    check_plain_without_outliers(OutlierExposureLoss())


def test_no_known_rows_leave_the_term_of_outliers() -> None:
    a, b = logits(0).requires_grad_(), logits(4, seed=1).requires_grad_()
    value = OutlierExposureLoss()(a, LABELS[:0], b)
    value.backward()
    assert value.item() == pytest.approx(0.5 * reference.cross_entropy_to_uniform(b.detach().double().numpy()))
    assert b.grad is not None and b.grad.isfinite().all()


def test_outliers_that_do_not_fit_are_refused() -> None:
    check_wrong_outliers(lambda a, b: OutlierExposureLoss()(a, LABELS, b))


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_wrong_weights_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"lambda_oe must be a finite number >= 0, got {value}") as refusal:
        OutlierExposureLoss(value)
    assert is_one_sentence(str(refusal.value))


def test_a_method_without_anything_to_measure_suggests_nothing() -> None:
    assert OutlierExposure.suggest(logits_alone(), [], []) == {}
