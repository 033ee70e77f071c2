"""Targets as distributions, and the one cross-entropy."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodles import Classifier, TrainingStep, mixup_criterion, mixup_data, soft_targets
from oodles.targets import cross_entropy, mean_per_row

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


@pytest.mark.parametrize("lam", [1.5, -0.1, float("nan"), torch.tensor([0.5, 1.5])])
def test_a_share_outside_0_to_1_is_refused(lam: float | Tensor) -> None:
    y = torch.tensor([0, 1])
    with pytest.raises(ValueError, match=r"lam must be (a finite number >= 0|at most 1), got") as refusal:
        soft_targets(y, y, lam, 3)
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match=r"lam must be (a finite number >= 0|at most 1), got"):
        mixup_criterion(F.cross_entropy, torch.zeros(2, 3), y, y, lam)


def test_one_hot_rows_of_whole_numbers_are_refused_with_what_to_do() -> None:
    y = F.one_hot(torch.tensor([0, 2, 1]), 3)
    with pytest.raises(ValueError, match=r"y_a must be .*, got one-hot rows of torch.int64: .* \.float\(\).*argmax"):
        soft_targets(y, y, 0.5, 3)
    torch.testing.assert_close(soft_targets(y.float(), y.float(), 0.5, 3), y.float())


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.int32, torch.uint32, torch.uint64, torch.int8])
def test_class_ids_of_every_width_are_the_same_targets(dtype: torch.dtype) -> None:
    z, y = logits(3, 4, seed=0), torch.tensor([0, 3, 1])
    assert torch.equal(cross_entropy(z, y.to(dtype)), cross_entropy(z, y))
    assert torch.equal(soft_targets(y.to(dtype), y.flip(0), 0.3, 4), soft_targets(y, y.flip(0), 0.3, 4))
    _, y_a, y_b, _ = mixup_data(torch.rand(3, 2), y.to(dtype), generator=torch.Generator().manual_seed(1))
    _, _, ids, _ = mixup_data(torch.rand(3, 2), y, generator=torch.Generator().manual_seed(1))
    assert y_a.dtype == dtype and torch.equal(y_b.long(), ids)


@pytest.mark.parametrize("of_logits, of_targets", [(torch.float32, torch.float64), (torch.float64, torch.float32)])
def test_logits_and_targets_may_differ_in_precision(of_logits: torch.dtype, of_targets: torch.dtype) -> None:
    z, t = logits(3, 4, seed=0, dtype=of_logits), logits(3, 4, seed=1, dtype=torch.float64).softmax(1)
    expected = -(t * z.double().log_softmax(1)).sum(1).mean()
    found = cross_entropy(z, t.to(of_targets))
    assert found.dtype == of_logits
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-6)


def test_targets_that_do_not_fit_the_logits_are_refused_by_a_step() -> None:
    """What a step has checked are labels; only the forward pass says which shape predictions have."""
    step = TrainingStep(Classifier(torch.nn.Conv2d(1, 4, 3), torch.nn.Conv2d(4, 3, 1)))
    with pytest.raises(ValueError, match=r"must have shape \(2, 6, 6\) for logits of shape .*, got \(2, 5\)"):
        step((torch.rand(2, 1, 8, 8), torch.zeros(2, 5, dtype=torch.long)))


def test_a_row_is_the_mean_of_its_pixels_that_count() -> None:
    values = torch.tensor([[[1.0, 3.0], [5.0, 7.0]], [[2.0, 2.0], [2.0, 10.0]], [[9.0, 9.0], [9.0, 9.0]]])
    valid = torch.tensor([[[1, 0], [0, 1]], [[0, 0], [0, 1]], [[0, 0], [0, 0]]]).bool()
    assert mean_per_row(values).tolist() == [4, 4, 9]
    for odd in (0.0, torch.inf, torch.nan):
        assert mean_per_row(values.masked_fill(~valid, odd), valid).tolist() == [4, 10, 0]
    assert mean_per_row(values[:, 0, 0]).tolist() == [1, 2, 9]
    assert mean_per_row(values[:, 0, 0], valid[:, 0, 0]).tolist() == [1, 0, 0]
    assert mean_per_row(values, valid[:, 0, 0]).tolist() == [4, 4, 9]
    assert mean_per_row(values[:0]).shape == (0,)
