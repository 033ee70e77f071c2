"""The hinge on mean energies: the method's term and the standalone loss, which says that it is no published one."""

import inspect
import math

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from oodles import EnergyGap, EnergyRegularizedLoss, TrainingStep, TrainingWarning
from oodles.methods.energy_gap import energy_gap
from oodles.scores import energy

from ..contract.steps import is_one_sentence
from ..references import energy_gap as reference
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
    one, margin = given(case), 10.0
    plain, gap = cross_entropy(one.z_in, one.t), reference.energy_gap(one.z_in, one.z_out, margin)
    assert gap > 0, "open, so that there is something to compare"
    one.check(EnergyGap(weight=0.3, margin=margin)(one.known, one.unknown), 0.3 * gap)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        one.check(EnergyRegularizedLoss(0.3, margin)(one.known, one.targets, one.unknown), plain + 0.3 * gap)
        one.check(EnergyRegularizedLoss(0.3, margin)(one.known, one.targets), plain)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step(dtype: torch.dtype) -> None:
    one = given(("rows", "class ids", dtype))
    step = TrainingStep(logits_alone(), EnergyGap(weight=0.2, margin=4.0))
    terms = step((one.known, one.targets), outliers=one.unknown)
    assert set(terms) == {"cross_entropy", "energy_gap"}
    one.check(terms["cross_entropy"], cross_entropy(one.z_in, one.t))
    one.check(terms["energy_gap"], 0.2 * reference.energy_gap(one.z_in, one.z_out, 4.0))


def test_a_hinge_on_means() -> None:
    a, b = torch.tensor([[4.0], [6.0]]), torch.tensor([[1.0], [2.0], [3.0]])  # mean energies −5 and −2
    assert energy_gap(a, b, 10.0).item() == pytest.approx(7)
    assert energy_gap(a, b, 3.0).item() == 0
    assert energy_gap(b, a, 0.0).item() == pytest.approx(3)


rows = st.integers(1, 6)


@drawn(n=rows, m=rows, seed=st.integers(0, 2**32), margin=st.floats(-20, 20))
def test_the_gap_opens_with_the_margin(n: int, m: int, seed: int, margin: float) -> None:
    a, b = logits(n, seed=seed, dtype=torch.float64), logits(m, seed=seed + 1, dtype=torch.float64)
    distance = (energy(b).mean() - energy(a).mean()).item()
    assert energy_gap(a, b, margin).item() == pytest.approx(max(0.0, margin - distance), abs=1e-9)


def test_an_empty_population_costs_nothing() -> None:
    for known, unknown in ((0, 4), (4, 0), (0, 0)):
        a, b = logits(known).requires_grad_(), logits(unknown, seed=1).requires_grad_()
        gap = EnergyGap()(a, b)
        gap.backward()
        assert gap.item() == 0
        assert a.grad is not None and not a.grad.any() and b.grad is not None and not b.grad.any()


# the standalone loss


def test_its_signature() -> None:
    check_signature(EnergyRegularizedLoss, {"lambda_energy": 0.1, "margin": 10.0})


def test_without_outliers_it_is_cross_entropy() -> None:
    check_plain_without_outliers(EnergyRegularizedLoss())


def test_no_known_rows_are_an_exact_zero() -> None:
    a, b = logits(0).requires_grad_(), logits(4, seed=1).requires_grad_()
    value = EnergyRegularizedLoss()(a, LABELS[:0], b)
    value.backward()
    assert value.item() == 0 and b.grad is not None and not b.grad.any()


def test_huge_logits_stay_finite() -> None:
    check_huge_logits(lambda a, b: EnergyRegularizedLoss()(a, torch.tensor([0, 2]), b))


def test_logits_that_do_not_fit_are_refused() -> None:
    check_wrong_outliers(EnergyGap())
    check_wrong_outliers(lambda a, b: EnergyRegularizedLoss()(a, LABELS, b))
    with pytest.raises(TypeError, match=r"logits_in must be floating point, got torch.int32"):
        EnergyGap()(torch.ones(6, 5, dtype=torch.int32), logits(6))


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
def test_wrong_weights_are_refused(value: float) -> None:
    with pytest.raises(ValueError, match=f"lambda_energy must be a finite number >= 0, got {value}") as refusal:
        EnergyRegularizedLoss(value)
    assert is_one_sentence(str(refusal.value))


def test_a_wrong_margin_is_refused() -> None:
    with pytest.raises(ValueError, match="margin must be a finite number, got nan"):
        EnergyRegularizedLoss(0.1, math.nan)


def test_it_says_what_it_is_not() -> None:
    page = inspect.getdoc(EnergyRegularizedLoss) or ""
    assert "mean-gap" in page and "EnergyBounded" in page and "not" in page


def test_energies_that_lie_the_wrong_way_round_are_said_once() -> None:
    low, high = torch.full((6, 1), 20.0), torch.full((6, 1), 2.0)  # of one class, so the energies are −20 and −2
    targets = torch.zeros(6, dtype=torch.long)
    words = r"wants the outliers' mean energy 10 above .* it is 18 below"
    method, loss = EnergyGap(), EnergyRegularizedLoss()
    with pytest.warns(TrainingWarning, match=words):
        method(high, low)
    with pytest.warns(TrainingWarning, match=words):
        loss(high, targets, low)
    method(high, low)
    loss(high, targets, low)
    EnergyGap()(low, high)
    EnergyRegularizedLoss(lambda_energy=0.0)(high, targets, low)
