"""Mixup, CutMix and RegMixup: limits, pure functions, and mistakes that other libraries make."""

import inspect
import math
import pickle

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader

from oodles import CutMix, Mixup, RegMixup, mixup_criterion, mixup_data, soft_targets
from oodles.methods.cutmix import cutmix_box, cutmix_data
from oodles.randomness import draw_beta, draw_permutation

from ..contract.steps import is_one_sentence

MIXERS = {
    "mixup_data": mixup_data,
    "Mixup": Mixup(),
    "Mixup, per sample": Mixup(per_sample=True),
    "CutMix": CutMix(),
    "CutMix, per sample": CutMix(per_sample=True),
    "RegMixup": RegMixup(),
    "RegMixup, per sample": RegMixup(per_sample=True),
}


def images(rows: int, *, height: int = 8, width: int = 8, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(rows, 2, height, width, generator=generator, dtype=torch.float64).to(dtype)


def parameters(function: object) -> list[tuple[str, object, object]]:
    assert callable(function)
    return [(name, p.kind, p.default) for name, p in inspect.signature(function).parameters.items()]


POSITIONAL, KEYWORD, NONE = (
    inspect.Parameter.POSITIONAL_OR_KEYWORD,
    inspect.Parameter.KEYWORD_ONLY,
    inspect.Parameter.empty,
)


def test_signatures_of_the_standalone_mixers() -> None:
    further = [("per_sample", KEYWORD, False), ("generator", KEYWORD, None)]
    data = [("x", POSITIONAL, NONE), ("y", POSITIONAL, NONE), ("alpha", POSITIONAL, 1.0)]
    assert parameters(mixup_data) == [*data, *further]
    names = ["criterion", "pred", "y_a", "y_b", "lam"]
    assert parameters(mixup_criterion) == [(name, POSITIONAL, NONE) for name in names]
    assert parameters(CutMix) == [("alpha", POSITIONAL, 1.0), ("per_sample", KEYWORD, False)]
    assert parameters(CutMix().forward)[:2] == data[:2]


def test_the_standalone_mixers_by_position() -> None:
    x, y = images(4), torch.arange(4)
    for mixed_x, y_a, y_b, lam in (mixup_data(x, y, 0.5), mixup_data(x, y), CutMix(0.5)(x, y), CutMix()(x, y)):
        assert type(lam) is float and 0 <= lam <= 1
        assert y_a is y and sorted(y_b.tolist()) == [0, 1, 2, 3]
        assert mixed_x.shape == x.shape and mixed_x.dtype == x.dtype


# limits


@pytest.mark.parametrize("mixer", MIXERS)
def test_alpha_zero_hands_on_the_very_same_tensors(mixer: str) -> None:
    x, y = images(5), torch.arange(5)
    if mixer == "mixup_data":
        mixed_x, y_a, y_b, lam = mixup_data(x, y, 0)
    else:
        module = MIXERS[mixer]
        assert isinstance(module, nn.Module)
        mixed_x, y_a, y_b, lam = type(module)(alpha=0, per_sample=module.per_sample)(x, y)
    assert mixed_x is x and y_a is y and y_b is y
    assert torch.equal(torch.as_tensor(lam), torch.ones(5) if "per sample" in mixer else torch.tensor(1.0))
    assert type(lam) is (Tensor if "per sample" in mixer else float)


@pytest.mark.parametrize("rows", [0, 1, 2, 3, 7, 64, 65])
@pytest.mark.parametrize("mixer", MIXERS)
def test_any_batch_size(mixer: str, rows: int) -> None:
    x, y = images(rows), torch.arange(rows)
    before = x.clone()
    mixed_x, y_a, y_b, lam = MIXERS[mixer](x, y)
    assert mixed_x.shape == x.shape and torch.equal(x, before)
    assert sorted(y_b.tolist()) == y.tolist() == y_a.tolist()
    if "per sample" in mixer:
        assert isinstance(lam, Tensor) and lam.shape == (rows,)
    if rows == 1:  # nothing to mix with but itself
        torch.testing.assert_close(mixed_x, x)


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16])
def test_dtypes_stay(mixer: str, dtype: torch.dtype) -> None:
    mixed_x, *_ = MIXERS[mixer](images(6, dtype=dtype), torch.arange(6))
    assert mixed_x.dtype == dtype and mixed_x.isfinite().all()


@pytest.mark.parametrize("mixer", MIXERS)
def test_soft_labels_are_mixed_too(mixer: str) -> None:
    x, y = images(6), torch.rand(6, 3).softmax(1)
    _, y_a, y_b, lam = MIXERS[mixer](x, y)
    soft = soft_targets(y_a, y_b, lam, 3)
    torch.testing.assert_close(soft.sum(1), torch.ones(6))
    share = torch.as_tensor(lam, dtype=torch.float32).reshape(-1, 1)
    torch.testing.assert_close(soft, share * y_a + (1 - share) * y_b)


@pytest.mark.parametrize("mixer", MIXERS)
def test_gradients_reach_the_inputs(mixer: str) -> None:
    x = images(6, dtype=torch.float64).requires_grad_()
    mixed_x, *_ = MIXERS[mixer](x, torch.arange(6))
    mixed_x.sum().backward()
    assert x.grad is not None and x.grad.sum() == pytest.approx(mixed_x.numel())


@pytest.mark.parametrize("mixer", MIXERS)
def test_labels_that_are_distinct_stay_in_pairs_with_their_rows(mixer: str) -> None:
    x, y = images(9), torch.arange(9)
    mixed_x, y_a, y_b, lam = MIXERS[mixer](x, y)
    share = torch.as_tensor(lam, dtype=torch.float32).expand(9)
    for row in range(9):
        own, other = x[y_a[row]], x[y_b[row]]
        if "CutMix" in mixer:
            assert ((mixed_x[row] == own) | (mixed_x[row] == other)).all()
        else:
            torch.testing.assert_close(mixed_x[row], share[row] * own + (1 - share[row]) * other)


# pure functions


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


@given(
    lam=st.floats(0, 1),
    down=st.floats(0, 1),
    right=st.floats(0, 1),
    height=st.integers(1, 300),
    width=st.integers(1, 300),
)
def test_boxes_lie_in_the_image_and_have_the_right_sides(
    lam: float, down: float, right: float, height: int, width: int
) -> None:
    centre = torch.tensor([[down], [right]], dtype=torch.float64)
    top, bottom, left, end = cutmix_box(torch.tensor([lam], dtype=torch.float64), centre, height, width)[:, 0].tolist()
    side = math.sqrt(1 - lam)
    for middle, low, high, size in ((down, top, bottom, height), (right, left, end, width)):
        assert 0 <= low <= high <= size
        assert abs(low - max(0, middle - side / 2) * size) <= 0.5 + 1e-9
        assert abs(high - min(1, middle + side / 2) * size) <= 0.5 + 1e-9


def test_boxes_at_the_limits() -> None:
    middle = torch.full((2, 1), 0.5, dtype=torch.float64)
    whole, nothing = (cutmix_box(torch.tensor([lam], dtype=torch.float64), middle, 8, 12)[:, 0] for lam in (0.0, 1.0))
    assert whole.tolist() == [0, 8, 0, 12]
    assert nothing.tolist() == [4, 4, 6, 6]


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


@given(alpha=st.floats(0, allow_infinity=False, exclude_min=True), seed=st.integers(0, 2**32))
def test_shares_are_shares_for_every_alpha(alpha: float, seed: int) -> None:
    lam = draw_beta(alpha, 50, torch.Generator().manual_seed(seed))
    assert lam.dtype == torch.float64 and (lam >= 0).all() and (lam <= 1).all()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 20.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    lam = draw_beta(alpha, 200_000, torch.Generator().manual_seed(0))
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=0.005)
    assert lam.var().item() == pytest.approx(variance, rel=0.02)
    if alpha == 1:  # the uniform distribution
        assert np.abs(np.sort(lam.numpy()) - np.linspace(0, 1, 200_000)).max() < 0.005


def test_permutations_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(4, 4)
    for _ in range(4000):
        counts[torch.arange(4), draw_permutation(4, torch.device("cpu"), generator)] += 1
    assert ((counts / 1000 - 1).abs() < 0.15).all()


# mistakes not to repeat


def test_the_pasted_share_at_8x8_is_the_continuous_one() -> None:
    """2 ∫ s (s − s²/4)² ds = 77/240 for α = 1. Boxes rounded down paste .23 there."""
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(20_000, 1, 8, 8)
    x[::2] = 1
    *_, lam = cutmix_data(x, torch.zeros(20_000), 1.0, per_sample=True, generator=generator)
    assert isinstance(lam, Tensor)
    assert 1 - lam.mean().item() == pytest.approx(77 / 240, abs=0.006)


@pytest.mark.parametrize("per_sample", [False, True])
def test_lambda_is_the_share_that_is_left_exactly(per_sample: bool) -> None:
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        x = torch.arange(6.0)[:, None, None, None].expand(6, 1, 7, 5)
        mixed_x, y_a, y_b, lam = cutmix_data(x, torch.arange(6), 1.0, per_sample=per_sample, generator=generator)
        left = (mixed_x == x).flatten(1).float().mean(1)
        share = torch.as_tensor(lam, dtype=torch.float32).expand(6)
        moved = y_a != y_b
        assert moved.any()
        torch.testing.assert_close(share[moved], left[moved], rtol=0, atol=1e-7)


@pytest.mark.parametrize("per_sample", [False, True])
def test_images_one_pixel_high_are_cut_as_well(per_sample: bool) -> None:
    x, y = images(8, height=1, width=16), torch.arange(8)
    changed = sum(
        not torch.equal(cutmix_data(x, y, per_sample=per_sample, generator=torch.Generator().manual_seed(seed))[0], x)
        for seed in range(20)
    )
    assert changed > 8


def test_vectors_and_single_numbers_are_mixed_as_well() -> None:
    for shape in ((6,), (6, 3), (6, 2, 3)):
        x = torch.arange(6.0).reshape(-1, *[1] * (len(shape) - 1)).expand(shape)
        mixed_x, _, y_b, lam = mixup_data(x, torch.arange(6), generator=torch.Generator().manual_seed(1))
        torch.testing.assert_close(mixed_x, lam * x + (1 - lam) * x[y_b])


def test_per_sample_draws_a_lambda_for_each_row() -> None:
    *_, lam = mixup_data(torch.rand(50, 3), torch.arange(50), per_sample=True)
    assert isinstance(lam, Tensor) and len(lam.unique()) > 40
    *_, lam = cutmix_data(torch.rand(50, 1, 32, 32), torch.arange(50), per_sample=True)
    assert isinstance(lam, Tensor) and len(lam.unique()) > 30


def test_wrong_alphas_are_refused_after_torch_compile_too() -> None:
    torch.compile(lambda x: x + 1, backend="eager")(torch.zeros(2))
    for alpha in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="alpha must be a finite number >= 0"):
            mixup_data(torch.rand(4, 2), torch.arange(4), alpha)


def test_mixers_inside_a_data_loader() -> None:
    rows = [(torch.full((1, 4, 4), float(index)), index % 3) for index in range(10)]
    for mixer in (Mixup(), Mixup(per_sample=True), CutMix(), CutMix(per_sample=True)):
        collate = mixer.collate(3)
        assert pickle.loads(pickle.dumps(collate)).num_classes == 3  # workers get a copy
        batches = list(DataLoader(rows, batch_size=4, collate_fn=collate))  # type: ignore[arg-type]
        assert [x.shape for x, _ in batches] == [(4, 1, 4, 4), (4, 1, 4, 4), (2, 1, 4, 4)]
        for _, soft in batches:
            torch.testing.assert_close(soft.sum(1), torch.ones(len(soft)))


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


# bad input


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("call", [mixup_data, cutmix_data, lambda x, y, alpha: CutMix(alpha)])
def test_wrong_alphas(call, alpha: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=rf"alpha must be a finite number >= 0, got {alpha}") as refusal:
        call(images(4), torch.arange(4), alpha)
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("alpha", ["1", None, True, [1.0]])
@pytest.mark.parametrize("call", [mixup_data, cutmix_data, lambda x, y, alpha: CutMix(alpha)])
def test_alphas_that_are_no_numbers(call, alpha: object) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(TypeError, match="alpha must be a number >= 0, got") as refusal:
        call(images(4), torch.arange(4), alpha)
    assert is_one_sentence(str(refusal.value))


WRONG_ROWS = {
    "lengths": (images(4), torch.arange(5), ValueError, "x and y must have as many rows, got 4 and 5"),
    "whole numbers": (
        torch.zeros(4, 1, 8, 8, dtype=torch.uint8),
        torch.arange(4),
        TypeError,
        r"x must be floating point, got torch.uint8: convert it with x.float\(\)",
    ),
    "no tensor": ([1.0, 2.0], torch.arange(2), TypeError, "x must be a floating-point tensor, got list"),
}


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("case", WRONG_ROWS)
def test_wrong_rows(mixer: str, case: str) -> None:
    x, y, error, sentence = WRONG_ROWS[case]
    with pytest.raises(error, match=sentence) as refusal:
        MIXERS[mixer](x, y)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("mixer", MIXERS)
@pytest.mark.parametrize("alpha", [0, 1.0])
def test_targets_that_are_no_tensor_are_refused(mixer: str, alpha: float) -> None:
    if mixer == "mixup_data":
        with pytest.raises(TypeError, match="y must be a tensor with a row for each sample, got list") as refusal:
            mixup_data(images(2), [0, 1], alpha)  # type: ignore[arg-type]
    else:
        module = type(MIXERS[mixer])(alpha=alpha)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="y must be a tensor with a row for each sample, got list") as refusal:
            module(images(2), [0, 1])
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 3, 8)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_cutmix_needs_height_and_width(shape: tuple[int, ...], per_sample: bool) -> None:
    with pytest.raises(ValueError, match=r"CutMix needs images of shape \(N, C, H, W\), got \(4,") as refusal:
        CutMix(per_sample=per_sample)(torch.rand(shape), torch.arange(4))
    assert is_one_sentence(str(refusal.value))


def test_cutmix_refuses_a_label_per_pixel() -> None:
    with pytest.raises(ValueError, match="CutMix needs one label per image, got targets of shape") as refusal:
        CutMix()(images(4), torch.zeros(4, 8, 8, dtype=torch.long))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "y_a, y_b, sentence",
    [
        (torch.tensor([0, 3]), torch.tensor([0, 1]), "y_a must be class ids from 0 to 2, got 3"),
        (torch.tensor([0, 1]), torch.tensor([0, -1]), "y_b must be class ids from 0 to 2, got -1"),
        (torch.tensor([0, 1]), torch.tensor([0]), "y_a and y_b must have as many rows, got 2 and 1"),
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
    with pytest.raises(ValueError, match="y_a and lam must have as many rows, got 3 and 2") as refusal:
        soft_targets(y, y, torch.rand(2), 3)
    assert is_one_sentence(str(refusal.value))


def test_a_share_per_row_reaches_every_pixel_of_its_row() -> None:
    pred, lam = torch.randn(3, 4, 3, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.5, 0.9])
    y_a, y_b = torch.zeros(3, 3, 3, dtype=torch.long), torch.ones(3, 3, 3, dtype=torch.long)
    rows = mixup_criterion(torch.nn.CrossEntropyLoss(reduction="none"), pred, y_a, y_b, lam)
    for row in range(3):
        log_p = pred[row].double().log_softmax(0)
        expected = -(lam[row] * log_p[0] + (1 - lam[row]) * log_p[1])
        torch.testing.assert_close(rows[row].double(), expected, rtol=0, atol=1e-6)
