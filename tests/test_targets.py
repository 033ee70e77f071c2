"""Targets as distributions, and the one cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodles import soft_targets
from oodles.targets import cross_entropy

from .contract.steps import is_one_sentence
from .methods.losses import logits


@given(
    rows=st.integers(1, 6),
    classes=st.integers(1, 6),
    seed=st.integers(0, 2**32),
    lam=st.floats(0, 1),
    hard=st.booleans(),
)
def test_soft_targets_are_distributions(rows: int, classes: int, seed: int, lam: float, hard: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    if hard:
        y_a, y_b = torch.randint(classes, (2, rows), generator=generator)
    else:
        y_a, y_b = torch.rand(2, rows, classes, generator=generator).softmax(-1)
    soft = soft_targets(y_a, y_b, lam, classes)
    assert soft.min() >= 0
    torch.testing.assert_close(soft.sum(1), torch.ones(rows))
    for endpoint, expected in ((1.0, y_a), (0.0, y_b)):
        wanted = F.one_hot(expected, classes).float() if hard else expected
        torch.testing.assert_close(soft_targets(y_a, y_b, endpoint, classes), wanted)


@pytest.mark.parametrize(
    "y_a, y_b, sentence",
    [
        (torch.tensor([0, 3]), torch.tensor([0, 1]), "y_a must be class ids from 0 to 2, got 3"),
        (torch.tensor([0, 1]), torch.tensor([0, -1]), "y_b must be class ids from 0 to 2, got -1"),
        (
            torch.tensor([0, 1]),
            torch.tensor([0]),
            r"y_b of torch.int64 must have shape \(n,\) with n = 2, as y_a has, got \(1,\)",
        ),
        (torch.full((2, 3), 0.5), torch.full((2, 3), 1 / 3), "y_a given as probabilities must be non-negative and sum"),
        (torch.full((2, 4), 0.25), torch.full((2, 4), 0.25), r"y_a given as probabilities must have shape \(N, 3\)"),
    ],
)
def test_soft_targets_of_wrong_labels(y_a: Tensor, y_b: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        soft_targets(y_a, y_b, 0.5, 3)
    assert is_one_sentence(str(refusal.value))


def test_a_lambda_for_each_row_needs_as_many_rows() -> None:
    y = torch.tensor([0, 1, 2])
    with pytest.raises(ValueError, match=r"lam must have shape \(n,\) with n = 3, as y_a has, got \(2,\)") as refusal:
        soft_targets(y, y, torch.rand(2), 3)
    assert is_one_sentence(str(refusal.value))


rows, seeds = st.integers(1, 6), st.integers(0, 2**32)


@given(n=rows, classes=st.integers(1, 8), seed=seeds, shift=st.floats(-50, 50))
def test_a_shift_of_all_logits_is_not_felt(n: int, classes: int, seed: int, shift: float) -> None:
    z = logits(n, classes, seed=seed, dtype=torch.float64)
    y = torch.arange(n) % classes
    torch.testing.assert_close(cross_entropy(z + shift, y), cross_entropy(z, y), rtol=1e-9, atol=1e-9)
    assert cross_entropy(z, y) >= 0


@given(n=rows, classes=st.integers(1, 8), seed=seeds)
def test_no_target_costs_less_than_the_prediction_itself(n: int, classes: int, seed: int) -> None:
    z = logits(n, classes, seed=seed, dtype=torch.float64)
    p, t = z.softmax(1), logits(n, classes, seed=seed + 1, dtype=torch.float64).softmax(1)
    entropy = -(t * t.log()).sum(1).mean()
    assert cross_entropy(z, t) >= entropy - 1e-9
    torch.testing.assert_close(cross_entropy(z, p), -(p * p.log()).sum(1).mean(), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "targets, sentence",
    [
        (
            torch.zeros(2, 4, 5, dtype=torch.long),
            r"must have shape \(n, 4, 4\) with n = 2, as logits has, got \(2, 4, 5\)",
        ),
        (torch.zeros(2, dtype=torch.long), r"must have shape \(n, 4, 4\) with n = 2, as logits has, got \(2,\)"),
        (
            torch.full((2, 3), 1 / 3),
            r"must have shape \(n, c, 4, 4\) with n = 2 and c = 3, as logits has, got \(2, 3\)",
        ),
    ],
)
def test_targets_that_do_not_fit_a_dense_prediction_are_refused(targets: Tensor, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        cross_entropy(torch.randn(2, 3, 4, 4), targets)
    assert is_one_sentence(str(refusal.value))
