"""LogitNorm: logits of one length, of every part, in training."""

import math

import pytest
import torch
from hypothesis import given as drawn
from hypothesis import strategies as st

from oodles import LogitNorm, OutlierExposure, TrainingStep
from oodles.methods.logit_norm import normalized

from ..contract.steps import is_one_sentence
from ..references import logit_norm as reference
from ..references.outlier_exposure import cross_entropy_to_uniform
from .losses import CASES, LABELS, Case, check_huge_logits, given, logits, logits_alone


@CASES
def test_the_value(case: Case) -> None:
    one = given(case)
    for temperature in (0.04, 0.5):
        expected = reference.logit_norm(one.z_in, one.t, temperature)
        one.check(LogitNorm(temperature=temperature)(one.known, one.targets), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step_normalises_every_part(dtype: torch.dtype) -> None:
    one = given(("rows", "class ids", dtype))
    step = TrainingStep(logits_alone(), LogitNorm(temperature=0.5), OutlierExposure(weight=0.7))
    terms = step((one.known, one.targets), outliers=one.unknown)
    one.check(terms["cross_entropy"], reference.logit_norm(one.z_in, one.t, 0.5))
    unknown = 2 * one.z_out / ((one.z_out**2).sum(1, keepdims=True) ** 0.5 + 1e-7)
    one.check(terms["outlier_exposure"], 0.7 * cross_entropy_to_uniform(unknown))
    assert torch.equal(step.classifier(one.known), one.known), "scores use the logits as they are"


@drawn(n=st.integers(1, 6), seed=st.integers(0, 2**32), temperature=st.floats(0.01, 10), scale=st.floats(1e-3, 1e3))
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


def test_the_temperature_bounds_the_loss() -> None:
    """However sure, a row of two classes has logits of length 1/τ, at most √2/τ apart."""
    sure = torch.tensor([[1e6, -1e6]], dtype=torch.float64)
    for temperature in (0.5, 2.0):
        apart = math.sqrt(2) / temperature
        right, wrong = (LogitNorm(temperature=temperature)(sure, torch.tensor([label])).item() for label in (0, 1))
        assert right == pytest.approx(math.log1p(math.exp(-apart)), rel=1e-9)
        assert wrong == pytest.approx(apart + math.log1p(math.exp(-apart)), rel=1e-9)


def test_huge_logits_stay_finite() -> None:
    check_huge_logits(lambda a, b: LogitNorm()(a, torch.tensor([0, 2])))


def test_whole_numbers_are_refused() -> None:
    with pytest.raises(TypeError, match=r"logits must be floating point, got torch.int64") as refusal:
        LogitNorm()(torch.ones(6, 5, dtype=torch.long), LABELS)
    assert is_one_sentence(str(refusal.value))
