"""Energy-bounded learning: a hinge for each row, and margins measured on a trained classifier."""

import warnings
from typing import Any

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st
from torch import Tensor

from oodles import BalancedEnergy, EnergyBounded, EnergyGap, TrainingStep, TrainingWarning
from oodles.methods.energy_bounded import energy_hinge

from ..contract.steps import is_one_sentence
from ..references import energy_bounded as reference
from ..references.equations import cross_entropy
from .losses import CASES, Case, check_huge_logits, check_wrong_outliers, given, logits, logits_alone

MARGINS = {"margin_in": -4.0, "margin_out": -3.0}


@CASES
def test_the_value(case: Case) -> None:
    one = given(case)
    for power in (1, 2):
        expected = 0.3 * reference.energy_bounded(one.z_in, one.z_out, -4.0, -3.0, power)
        one.check(EnergyBounded(weight=0.3, power=power, **MARGINS)(one.known, one.unknown), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step(dtype: torch.dtype) -> None:
    one = given(("rows", "class ids", dtype))
    step = TrainingStep(logits_alone(), EnergyBounded(weight=0.2, **MARGINS))
    terms = step((one.known, one.targets), outliers=one.unknown)
    assert set(terms) == {"cross_entropy", "energy_bounded"}
    one.check(terms["cross_entropy"], cross_entropy(one.z_in, one.t))
    one.check(terms["energy_bounded"], 0.2 * reference.energy_bounded(one.z_in, one.z_out, -4.0, -3.0))


def test_energies_on_the_right_side_of_their_margins_cost_nothing() -> None:
    low, high = torch.full((3, 4), 30.0, requires_grad=True), torch.full((5, 4), 1.0, requires_grad=True)
    value = EnergyBounded()(low, high)  # energies −31.4 and −2.4, margins −25 and −7
    value.backward()
    assert value.item() == 0
    assert low.grad is not None and not low.grad.any() and high.grad is not None and not high.grad.any()


@pytest.mark.parametrize("power", [1, 2])
def test_the_hinge_on_energies(power: int) -> None:
    a = torch.tensor([[20.0], [26.0]])  # one class: the energy is −z
    b = torch.tensor([[9.0], [3.0], [8.0]])
    value = EnergyBounded(power=power)(a, b)
    assert value.item() == pytest.approx(0.1 * (5**power / 2 + (2**power + 1) / 3))


def test_each_row_has_a_hinge_of_its_own() -> None:
    """One extreme row does not hide the others, as it does where the hinge is on means."""
    a = torch.tensor([[5.0], [5.0], [500.0]], requires_grad=True)
    b = torch.zeros(2, 1)
    (per_row,) = torch.autograd.grad(EnergyBounded()(a, b), a)
    (on_means,) = torch.autograd.grad(EnergyGap()(a, b), a, allow_unused=True)
    assert (per_row[:2] < 0).all() and per_row[2] == 0
    assert not on_means.any()


rows = st.integers(1, 6)


@drawn(
    n=rows,
    m=rows,
    seed=st.integers(0, 2**32),
    low=st.floats(-40, 0),
    gap=st.floats(0.1, 40),
    power=st.sampled_from([1, 2]),
    shift=st.floats(-50, 50),
)
def test_wider_margins_cost_more(n: int, m: int, seed: int, low: float, gap: float, power: int, shift: float) -> None:
    a, b = logits(n, seed=seed, dtype=torch.float64), logits(m, seed=seed + 1, dtype=torch.float64)
    value = energy_hinge(a, b, low, low + gap, power)
    assert value >= 0
    assert energy_hinge(a, b, low - 1, low + gap, power) >= value
    assert energy_hinge(a, b, low, low + gap + 1, power) >= value
    order_a, order_b = torch.randperm(n), torch.randperm(m)
    torch.testing.assert_close(energy_hinge(a[order_a], b[order_b], low, low + gap, power), value)
    shifted = energy_hinge(a + shift, b + shift, low - shift, low + gap - shift, power)
    torch.testing.assert_close(shifted, value, rtol=1e-9, atol=1e-9)


def test_huge_logits_stay_finite() -> None:
    check_huge_logits(EnergyBounded(margin_in=-24.0))


def test_logits_that_do_not_fit_are_refused() -> None:
    check_wrong_outliers(EnergyBounded())
    with pytest.raises(TypeError, match=r"logits_in must be floating point, got torch.int32"):
        EnergyBounded()(torch.ones(6, 5, dtype=torch.int32), logits(6))


# margins measured on a trained classifier


def one_class_with_energy(values: list[float]) -> list[tuple[Tensor, Tensor]]:
    """Batches for a classifier of one class, whose energy is minus its input."""
    return [(torch.tensor([[-value]]), torch.zeros(1, dtype=torch.long)) for value in values]


def test_suggested_margins_lie_outside_the_two_mean_energies() -> None:
    net = logits_alone(1).train()
    found = EnergyBounded.suggest(net, one_class_with_energy([-12.0, -8.0]), one_class_with_energy([-5.0, -3.0]))
    assert found == pytest.approx({"margin_in": -13.0, "margin_out": -1.0})  # means −10 and −4, half their distance 3
    assert EnergyBounded(**found).margin_in < -10 < -4 < EnergyBounded(**found).margin_out  # type: ignore[arg-type]
    assert net.training


def test_margins_of_a_classifier_that_tells_the_two_apart_the_wrong_way_round() -> None:
    with pytest.warns(
        TrainingWarning, match="the higher mean energy, and it is -3 in-distribution and -5 for outl"
    ) as said:
        found = EnergyBounded.suggest(
            logits_alone(1), one_class_with_energy([-1.0, -5.0]), one_class_with_energy([-5.0])
        )
    assert is_one_sentence(str(said[0].message))
    assert found == pytest.approx({"margin_in": -6.0, "margin_out": -2.0})  # −4, and 2 on either side
    with pytest.raises(ValueError, match="Margins need a classifier whose energies differ, got -3") as refusal:
        EnergyBounded.suggest(logits_alone(1), one_class_with_energy([-3.0]), one_class_with_energy([-3.0]))
    assert is_one_sentence(str(refusal.value))


def far(mean: float, rows: int = 40) -> Tensor:
    """Logits of one class whose energies lie around a mean."""
    return -mean + torch.linspace(-1, 1, rows)[:, None]


@pytest.mark.parametrize(
    "known, unknown, warns", [(-10, -4, True), (-20, -18, True), (-20, -12, False), (-40, -3, False)]
)
@pytest.mark.parametrize("make", [EnergyBounded, BalancedEnergy])
def test_the_papers_margins_are_doubted_once_where_energies_lie_far_off(
    make: Any, known: float, unknown: float, warns: bool
) -> None:
    method = make()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(3):
            method(far(known), far(unknown))
        make(margin_in=-25.1)(far(known), far(unknown))
    assert [warning.category for warning in said] == [TrainingWarning] * warns
    if warns:
        assert f"mean energies are {known} in-distribution and {unknown} for outliers" in str(said[0].message)
        assert "measure margins with suggest" in str(said[0].message) and is_one_sentence(str(said[0].message))


def test_half_of_the_rows_on_the_wrong_side_are_no_reason_to_warn() -> None:
    mixed = torch.cat([far(-10), far(-30)])
    EnergyBounded()(mixed, far(-5))
