"""Mixup: combinations of rows and labels, the functions it is made of, and the draws behind them."""

import inspect
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oodles import Mixup, mixup_criterion, mixup_data

from ..contract.steps import is_one_sentence
from . import mixers


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shape", mixers.SHAPES)
def test_rows_and_labels_are_combinations(shape: tuple[int, ...], per_sample: bool) -> None:
    mixers.check_combinations(Mixup, per_sample, shape)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("check", [*mixers.EVERY, mixers.check_step, mixers.check_collate])
def test_it_mixes(check: mixers.Check, per_sample: bool) -> None:
    check(Mixup, per_sample)


@pytest.mark.parametrize("per_sample", [False, True])
def test_the_method_is_the_function(per_sample: bool) -> None:
    x, y = mixers.images(4), torch.arange(4)
    first, second = (
        mix(x, y, generator=torch.Generator().manual_seed(2))
        for mix in (
            Mixup(alpha=0.3, per_sample=per_sample),
            lambda x, y, generator: mixup_data(x, y, 0.3, per_sample=per_sample, generator=generator),
        )
    )
    for a, b in zip(first, second, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_signatures_of_the_functions() -> None:
    def parameters(function: object) -> list[tuple[str, object, object]]:
        assert callable(function)
        return [(name, p.kind, p.default) for name, p in inspect.signature(function).parameters.items()]

    position, keyword = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
    none = inspect.Parameter.empty
    rows = [("x", position, none), ("y", position, none), ("alpha", position, 1.0)]
    assert parameters(mixup_data) == [*rows, ("per_sample", keyword, False), ("generator", keyword, None)]
    names = ["criterion", "pred", "y_a", "y_b", "lam"]
    assert parameters(mixup_criterion) == [(name, position, none) for name in names]


def test_by_position_and_with_torchs_own_generator() -> None:
    x, y = mixers.images(4), torch.arange(4)
    for mixed_x, y_a, y_b, lam in (mixup_data(x, y, 0.5), mixup_data(x, y)):
        assert type(lam) is float and 0 <= lam <= 1
        assert y_a is y and sorted(y_b.tolist()) == [0, 1, 2, 3]
        assert mixed_x.shape == x.shape and mixed_x.dtype == x.dtype


@given(
    shape=st.lists(st.integers(1, 5), min_size=1, max_size=4),
    alpha=st.floats(1e-3, 50),
    seed=st.integers(0, 2**32),
    per_sample=st.booleans(),
)
def test_mixed_rows_lie_between_the_rows(shape: list[int], alpha: float, seed: int, per_sample: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(shape, generator=generator, dtype=torch.float64)
    mixed_x, _, y_b, lam = mixup_data(x, torch.arange(shape[0]), alpha, per_sample=per_sample, generator=generator)
    other = x[y_b]
    assert ((mixed_x >= torch.minimum(x, other) - 1e-12) & (mixed_x <= torch.maximum(x, other) + 1e-12)).all()
    share = torch.as_tensor(lam)
    assert (share >= 0).all() and (share <= 1).all()
    if not per_sample:  # one λ for all: the mean of a batch stays
        torch.testing.assert_close(mixed_x.mean(0), x.mean(0), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf, -math.inf])
def test_wrong_alphas_are_refused_after_torch_compile_too(alpha: float) -> None:
    torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2))
    with pytest.raises(ValueError, match=rf"alpha must be a finite number >= 0, got {alpha}") as refusal:
        mixup_data(mixers.images(4), torch.arange(4), alpha)
    assert is_one_sentence(str(refusal.value))


def test_an_alpha_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="alpha must be a number, got '1'"):
        mixup_data(mixers.images(4), torch.arange(4), "1")  # type: ignore[arg-type]


# the loss of mixed rows


@pytest.mark.parametrize(
    "criterion, pred, y_a, y_b",
    [
        (nn.CrossEntropyLoss(), torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])),
        (
            nn.CrossEntropyLoss(reduction="none"),
            torch.randn(4, 3),
            torch.tensor([0, 1, 2, 0]),
            torch.tensor([1, 1, 0, 2]),
        ),
        (nn.MSELoss(), torch.randn(4), torch.randn(4), torch.randn(4)),
        (nn.BCEWithLogitsLoss(), torch.randn(4, 2), torch.rand(4, 2), torch.rand(4, 2)),
        (nn.L1Loss(reduction="sum"), torch.randn(4, 2), torch.rand(4, 2), torch.rand(4, 2)),
    ],
)
def test_any_criterion_is_mixed(criterion: nn.Module, pred: Tensor, y_a: Tensor, y_b: Tensor) -> None:
    expected = 0.3 * criterion(pred, y_a) + 0.7 * criterion(pred, y_b)
    torch.testing.assert_close(mixup_criterion(criterion, pred, y_a, y_b, 0.3), expected)
    torch.testing.assert_close(mixup_criterion(criterion, pred, y_a, y_b, torch.tensor(0.3)), expected)
    torch.testing.assert_close(mixup_criterion(criterion, pred, y_a, y_b, 1.0), criterion(pred, y_a))


def test_a_lambda_per_row_needs_a_loss_per_row() -> None:
    pred, y, lam = torch.randn(4, 3), torch.tensor([0, 1, 2, 0]), torch.rand(4)
    with pytest.raises(ValueError, match="criterion must give one value per row for a lam per row") as refusal:
        mixup_criterion(nn.CrossEntropyLoss(), pred, y, y, lam)
    assert is_one_sentence(str(refusal.value))
    per_row = nn.CrossEntropyLoss(reduction="none")
    found = mixup_criterion(per_row, pred, y, y.flip(0), lam)
    torch.testing.assert_close(found, lam * per_row(pred, y) + (1 - lam) * per_row(pred, y.flip(0)))


def test_a_share_per_row_reaches_every_pixel_of_its_row() -> None:
    pred, lam = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 0.9])
    y_a, y_b = torch.zeros(3, 3, 3, dtype=torch.long), torch.ones(3, 3, 3, dtype=torch.long)
    rows = mixup_criterion(nn.CrossEntropyLoss(reduction="none"), pred, y_a, y_b, lam)
    for row in range(3):
        log_p = pred[row].double().log_softmax(0)
        expected = -(lam[row] * log_p[0] + (1 - lam[row]) * log_p[1])
        torch.testing.assert_close(rows[row].double(), expected, rtol=0, atol=1e-6)
