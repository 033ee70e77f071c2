"""Outlier Exposure, the energy losses, LogitNorm, cross-entropy: limits, pure functions, mistakes of others."""

import inspect
import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oodles import (
    Classifier,
    CrossEntropy,
    EnergyBounded,
    EnergyGap,
    EnergyRegularizedLoss,
    LogitNorm,
    OutlierExposure,
    OutlierExposureLoss,
    TrainingStep,
)
from oodles.methods.energy_bounded import energy_hinge
from oodles.methods.energy_gap import energy_gap
from oodles.methods.logit_norm import normalized
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.scores import energy
from oodles.targets import cross_entropy

from ..contract.steps import is_one_sentence

PIECES = {"OutlierExposureLoss": OutlierExposureLoss, "EnergyRegularizedLoss": EnergyRegularizedLoss}


def logits(rows: int, classes: int = 5, *, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


LABELS = torch.tensor([0, 1, 2, 3, 4, 0])


def test_signatures_of_the_standalone_losses() -> None:
    kind = inspect.Parameter.POSITIONAL_OR_KEYWORD
    expected = {OutlierExposureLoss: {"lambda_oe": 0.5}, EnergyRegularizedLoss: {"lambda_energy": 0.1, "margin": 10.0}}
    for piece, defaults in expected.items():
        found = inspect.signature(piece).parameters
        assert {name: p.default for name, p in found.items()} == defaults
        assert {p.kind for p in found.values()} == {kind}
        call = inspect.signature(piece().forward).parameters
        assert list(call) == ["logits_in", "targets_in", "logits_out"]
        assert call["logits_out"].default is None and {p.kind for p in call.values()} == {kind}


def test_the_standalone_losses_are_the_terms_of_the_methods() -> None:
    a, b = logits(6), logits(9, seed=1)
    plain = F.cross_entropy(a, LABELS)
    torch.testing.assert_close(OutlierExposureLoss(0.7)(a, LABELS, b), plain + OutlierExposure(weight=0.7)(b))
    both = plain + EnergyGap(weight=0.3, margin=4.0)(a, b)
    torch.testing.assert_close(EnergyRegularizedLoss(0.3, 4.0)(a, LABELS, b), both)


# limits


@pytest.mark.parametrize("piece", PIECES)
def test_without_outliers_plain_cross_entropy(piece: str) -> None:
    a = logits(6)
    plain = F.cross_entropy(a, LABELS)
    assert torch.equal(PIECES[piece]()(a, LABELS), plain)
    assert torch.equal(PIECES[piece]()(a, LABELS, None), plain)
    assert torch.equal(PIECES[piece]()(a, LABELS, logits(0)), plain), "no rows, and no NaN"


@pytest.mark.parametrize("piece", PIECES)
def test_an_empty_in_distribution_batch_is_not_nan(piece: str) -> None:
    a, b = logits(0).requires_grad_(), logits(4, seed=1).requires_grad_()
    value = PIECES[piece]()(a, LABELS[:0], b)
    value.backward()
    expected = 0.5 * cross_entropy_to_uniform(b).item() if piece == "OutlierExposureLoss" else 0.0
    assert value.item() == pytest.approx(expected)
    assert b.grad is not None and b.grad.isfinite().all()


def test_uniform_predictions_cost_the_least() -> None:
    for value in (-1000.0, 0.0, 1000.0):
        flat = torch.full((3, 7), value, requires_grad=True)
        loss = cross_entropy_to_uniform(flat)
        assert loss.item() == pytest.approx(math.log(7), rel=1e-4)
        (gradient,) = torch.autograd.grad(loss, flat)
        torch.testing.assert_close(gradient, torch.zeros(3, 7), rtol=0, atol=1e-6)


def test_one_class_costs_nothing() -> None:
    assert cross_entropy_to_uniform(torch.tensor([[5.0], [-3.0]])).item() == pytest.approx(0)


def test_the_gradient_of_outlier_exposure_is_the_distance_from_uniform() -> None:
    z = logits(4, dtype=torch.float64).requires_grad_()
    OutlierExposure(weight=0.5)(z).backward()
    torch.testing.assert_close(z.grad, 0.5 * (z.detach().softmax(1) - 1 / 5) / 4)


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


def test_the_gap_is_a_hinge_on_means() -> None:
    a, b = torch.tensor([[4.0], [6.0]]), torch.tensor([[1.0], [2.0], [3.0]])  # mean energies −5 and −2
    assert energy_gap(a, b, 10.0).item() == pytest.approx(7)
    assert energy_gap(a, b, 3.0).item() == 0
    assert energy_gap(b, a, 0.0).item() == pytest.approx(3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_gap_in_half_precision(dtype: torch.dtype) -> None:
    a, b = logits(6).to(dtype), logits(300, seed=1).to(dtype)
    expected = energy_gap(a.double(), b.double(), 3.0).item()
    found = energy_gap(a, b, 3.0)
    assert found.dtype == torch.float32 and found.item() == pytest.approx(expected, rel=1e-6)


def test_label_smoothing_is_torchs() -> None:
    z = logits(6)
    for amount in (0.0, 0.1, 0.9):
        expected = F.cross_entropy(z, LABELS, label_smoothing=amount)
        torch.testing.assert_close(CrossEntropy(label_smoothing=amount)(z, LABELS), expected)


# pure functions

rows = st.integers(1, 6)
seeds = st.integers(0, 2**32)


@given(n=rows, classes=st.integers(1, 8), seed=seeds, shift=st.floats(-50, 50))
def test_cross_entropies_do_not_feel_a_shift(n: int, classes: int, seed: int, shift: float) -> None:
    z = logits(n, classes, seed=seed, dtype=torch.float64)
    y = torch.arange(n) % classes
    torch.testing.assert_close(cross_entropy(z + shift, y), cross_entropy(z, y), rtol=1e-9, atol=1e-9)
    uniform = cross_entropy_to_uniform(z)
    torch.testing.assert_close(cross_entropy_to_uniform(z + shift), uniform, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(energy(z + shift), energy(z) - shift, rtol=1e-9, atol=1e-9)
    assert cross_entropy(z, y) >= 0
    assert uniform >= math.log(classes) - 1e-12


@given(n=rows, classes=st.integers(1, 8), seed=seeds)
def test_no_target_costs_less_than_the_prediction_itself(n: int, classes: int, seed: int) -> None:
    z = logits(n, classes, seed=seed, dtype=torch.float64)
    p, t = z.softmax(1), logits(n, classes, seed=seed + 1, dtype=torch.float64).softmax(1)
    entropy = -(t * t.log()).sum(1).mean()
    assert cross_entropy(z, t) >= entropy - 1e-9
    torch.testing.assert_close(cross_entropy(z, p), -(p * p.log()).sum(1).mean(), rtol=1e-9, atol=1e-9)


@given(n=rows, m=rows, seed=seeds, low=st.floats(-40, 0), gap=st.floats(0.1, 40), power=st.sampled_from([1, 2]))
def test_wider_margins_cost_more(n: int, m: int, seed: int, low: float, gap: float, power: int) -> None:
    a, b = logits(n, seed=seed, dtype=torch.float64), logits(m, seed=seed + 1, dtype=torch.float64)
    value = energy_hinge(a, b, low, low + gap, power)
    assert value >= 0
    assert energy_hinge(a, b, low - 1, low + gap, power) >= value
    assert energy_hinge(a, b, low, low + gap + 1, power) >= value
    order_a, order_b = torch.randperm(n), torch.randperm(m)
    torch.testing.assert_close(energy_hinge(a[order_a], b[order_b], low, low + gap, power), value)


@given(n=rows, m=rows, seed=seeds, margin=st.floats(-20, 20))
def test_the_gap_opens_with_the_margin(n: int, m: int, seed: int, margin: float) -> None:
    a, b = logits(n, seed=seed, dtype=torch.float64), logits(m, seed=seed + 1, dtype=torch.float64)
    value = energy_gap(a, b, margin)
    distance = (energy(b).mean() - energy(a).mean()).item()
    assert value.item() == pytest.approx(max(0.0, margin - distance), abs=1e-9)


@given(n=rows, seed=seeds, temperature=st.floats(0.01, 10), scale=st.floats(1e-3, 1e3))
def test_normalised_logits_have_one_length(n: int, seed: int, temperature: float, scale: float) -> None:
    z = logits(n, seed=seed, dtype=torch.float64)
    found = normalized(z, temperature)
    torch.testing.assert_close(found.norm(dim=1), torch.full((n,), 1 / temperature).double(), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(normalized(z * scale, temperature), found, rtol=1e-3, atol=1e-3)
    assert torch.equal(found.argmax(1), z.argmax(1))


def test_logits_of_zero_length_are_not_nan() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    loss = LogitNorm()(z, torch.tensor([0, 1]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(3))
    assert z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_huge_logits_stay_finite(size: float) -> None:
    a = torch.tensor([[size, 0.0, -size]] * 2, requires_grad=True)
    b = torch.tensor([[0.0, size, size]] * 3, requires_grad=True)
    y = torch.tensor([0, 2])
    for loss in (
        OutlierExposureLoss()(a, y, b),
        EnergyRegularizedLoss()(a, y, b),
        EnergyBounded()(a, b),
        LogitNorm()(a, y),
        CrossEntropy(label_smoothing=0.1)(a, y),
    ):
        assert loss.isfinite()
        for gradient in torch.autograd.grad(loss, (a, b), allow_unused=True):
            assert gradient is None or gradient.isfinite().all()


# mistakes not to repeat


def test_the_weight_does_not_depend_on_the_number_of_outliers() -> None:
    """One mean over both populations would give 128 + 256 rows an effective weight of 1 instead of 0.5."""
    a, b = logits(128), logits(256, seed=1)
    y = torch.arange(128) % 5
    expected = F.cross_entropy(a, y) + 0.5 * (b.logsumexp(1) - b.mean(1)).mean()
    torch.testing.assert_close(OutlierExposureLoss()(a, y, b), expected)
    net = Classifier(nn.Identity(), nn.Identity(), num_classes=5)
    terms = TrainingStep(net, OutlierExposure())((a, y), outliers=b)
    torch.testing.assert_close(terms["cross_entropy"] + terms["outlier_exposure"], expected)


def test_losses_do_not_crash_inside_autocast() -> None:
    a, b = logits(6).bfloat16().requires_grad_(), logits(9, seed=1).bfloat16().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for loss in (OutlierExposureLoss()(a, LABELS, b), EnergyRegularizedLoss()(a, LABELS, b), EnergyBounded()(a, b)):
            assert loss.dtype == torch.float32
            loss.backward()
    assert a.grad is not None and a.grad.isfinite().all() and a.grad.dtype == torch.bfloat16


def test_default_temperature_and_margins_are_the_papers() -> None:
    assert LogitNorm().temperature == 0.04
    assert (EnergyBounded().weight, EnergyBounded().margin_in, EnergyBounded().margin_out) == (0.1, -25.0, -7.0)
    assert OutlierExposure().weight == OutlierExposureLoss().lambda_oe == 0.5


def test_the_mean_gap_form_says_what_it_is_not() -> None:
    page = inspect.getdoc(EnergyRegularizedLoss) or ""
    assert "mean-gap" in page and "EnergyBounded" in page and "not" in page


# bad input

GOOD = {"logits_in": logits(6), "targets_in": LABELS, "logits_out": logits(4, seed=1)}
WRONG = {
    "labels too high": ({"targets_in": LABELS + 1}, ValueError, "targets must be class ids from 0 to 4, got 5"),
    "labels below zero": ({"targets_in": LABELS - 100}, ValueError, "targets must be class ids from 0 to 4, got -100"),
    "lengths": ({"targets_in": LABELS[:5]}, ValueError, "logits and targets must have as many rows, got 6 and 5"),
    "sums": ({"targets_in": torch.full((6, 5), 0.3)}, ValueError, "non-negative and sum to one.* a sum of 1.5"),
    "classes of targets": (
        {"targets_in": torch.full((6, 4), 0.25)},
        ValueError,
        r"must have shape \(N, 5\), got \(6, 4\)",
    ),
    "classes": ({"logits_out": logits(4, 6)}, ValueError, "must have as many classes, got 5 and 6"),
    "whole logits": ({"logits_in": torch.ones(6, 5, dtype=torch.long)}, TypeError, "logits must be floating point"),
    "whole logits of outliers": (
        {"logits_out": torch.ones(4, 5, dtype=torch.long)},
        TypeError,
        "logits_out must be floating point, got torch.int64",
    ),
    "one dimension": (
        {"logits_out": torch.ones(5)},
        ValueError,
        r"logits_out must have shape \(N, C\) or \(N, C, H, W\)",
    ),
    "one dimension of logits": ({"logits_in": torch.ones(6)}, ValueError, r"logits must have shape \(N, C\)"),
    "no tensor": ({"logits_out": [[1.0] * 5]}, TypeError, "logits_out must be a floating-point tensor, got list"),
    "no targets": (
        {"targets_in": None},
        TypeError,
        "targets must be a tensor with a row for each sample, got NoneType",
    ),
    "truth values": (
        {"targets_in": LABELS > 1},
        TypeError,
        "targets must be class ids or probabilities, got torch.bool",
    ),
}


@pytest.mark.parametrize("case", WRONG)
@pytest.mark.parametrize("piece", PIECES)
def test_bad_input_of_the_standalone_losses(piece: str, case: str) -> None:
    wrong, error, sentence = WRONG[case]
    with pytest.raises(error, match=sentence) as refusal:
        PIECES[piece]()(**{**GOOD, **wrong})
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("value", [-0.1, math.nan, math.inf])
@pytest.mark.parametrize(
    "piece, name", [("OutlierExposureLoss", "lambda_oe"), ("EnergyRegularizedLoss", "lambda_energy")]
)
def test_wrong_weights(piece: str, name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} must be a finite number >= 0, got {value}") as refusal:
        PIECES[piece](value)
    assert is_one_sentence(str(refusal.value))


def test_a_wrong_margin() -> None:
    with pytest.raises(ValueError, match="margin must be a finite number, got nan"):
        EnergyRegularizedLoss(0.1, math.nan)


@pytest.mark.parametrize("method", [EnergyBounded(), EnergyGap()])
def test_bad_input_of_the_energy_methods(method: nn.Module) -> None:
    for a, b, error, sentence in (
        (logits(6), logits(6, 4), ValueError, "logits_in and logits_out must have as many classes, got 5 and 4"),
        (
            torch.ones(6, 5, dtype=torch.int32),
            logits(6),
            TypeError,
            "logits_in must be floating point, got torch.int32",
        ),
    ):
        with pytest.raises(error, match=sentence) as refusal:
            method(a, b)
        assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "targets, sentence",
    [
        (
            torch.zeros(2, 4, 5, dtype=torch.long),
            r"must have shape \(2, 4, 4\) for logits of shape \(2, 3, 4, 4\), got \(2, 4, 5\)",
        ),
        (
            torch.zeros(2, dtype=torch.long),
            r"must have shape \(2, 4, 4\) for logits of shape \(2, 3, 4, 4\), got \(2,\)",
        ),
        (torch.full((2, 3), 1 / 3), r"must have shape \(2, 3, 4, 4\) for logits of shape \(2, 3, 4, 4\), got \(2, 3\)"),
    ],
)
def test_targets_that_do_not_fit_a_dense_prediction_are_refused(targets: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        cross_entropy(torch.randn(2, 3, 4, 4), targets)
    assert is_one_sentence(str(refusal.value))


# margins measured on a trained classifier


def one_class_with_energy(values: list[float]) -> list[tuple[Tensor, Tensor]]:
    """Batches for a classifier of one class, whose energy is minus its input."""
    return [(torch.tensor([[-value]]), torch.zeros(1, dtype=torch.long)) for value in values]


def test_suggested_margins_lie_outside_the_two_mean_energies() -> None:
    net = Classifier(nn.Identity(), nn.Identity(), num_classes=1).train()
    found = EnergyBounded.suggest(net, one_class_with_energy([-12.0, -8.0]), one_class_with_energy([-5.0, -3.0]))
    assert found == pytest.approx({"margin_in": -13.0, "margin_out": -1.0})  # means −10 and −4, half their distance 3
    assert EnergyBounded(**found).margin_in < -10 < -4 < EnergyBounded(**found).margin_out  # type: ignore[arg-type]
    assert net.training


def test_margins_need_a_classifier_that_tells_the_two_apart() -> None:
    net = Classifier(nn.Identity(), nn.Identity(), num_classes=1)
    with pytest.raises(ValueError, match="gives outliers the higher mean energy, got -3") as refusal:
        EnergyBounded.suggest(net, one_class_with_energy([-3.0]), one_class_with_energy([-5.0]))
    assert is_one_sentence(str(refusal.value))


def test_methods_without_margins_suggest_nothing() -> None:
    assert OutlierExposure.suggest(Classifier(nn.Identity(), nn.Identity(), num_classes=1), [], []) == {}
