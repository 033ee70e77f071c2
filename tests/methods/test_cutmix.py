"""CutMix: boxes, what is pasted into them, and shares that are exactly the area that is left."""

import inspect
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from oodles import CutMix
from oodles.methods.cutmix import cutmix_box, cutmix_data, outside_of_box

from ..contract.steps import is_one_sentence
from ..references import cutmix as reference
from . import mixers


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 1, 1, 9), (5, 1, 7, 4), (5, 2, 3, 6, 6)])
def test_boxes_of_other_rows_are_pasted(shape: tuple[int, ...], per_sample: bool) -> None:
    x, y = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(5)
    changed = 0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        mixed_x, y_a, y_b, lam = CutMix(1.0, per_sample=per_sample)(x, y, generator=generator)
        partners, shares = mixers.partners_of(y_a, y_b), mixers.shares_of(lam, 5)
        boxes = [_box_of(mixed_x[row] != x[row]) for row in range(5)]
        if not per_sample:  # rows that were mixed with themselves do not show it
            box = max(boxes, key=lambda edges: (edges[1] - edges[0]) * (edges[3] - edges[2]))
            boxes = [box] * 5
        expected, left = reference.pasted(x.numpy(), partners, boxes)
        np.testing.assert_array_equal(mixed_x.numpy(), expected)
        for row in range(5):
            if partners[row] != row:
                assert shares[row] == pytest.approx(left[row], abs=1e-7)
                changed += shares[row] < 1
    assert changed > 10


def _box_of(different: Tensor) -> tuple[int, int, int, int]:
    """The box around what changed; inside it everything has to be pasted, which the reference then shows."""
    where = different.flatten(0, -3).any(0).nonzero()
    if not len(where):
        return 0, 0, 0, 0
    (top, left), (bottom, right) = where.amin(0).tolist(), where.amax(0).tolist()
    return top, bottom + 1, left, right + 1


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("check", [*mixers.EVERY, mixers.check_step, mixers.check_collate])
def test_it_mixes(check: mixers.Check, per_sample: bool) -> None:
    check(CutMix, per_sample)


def test_by_position_as_a_standalone_piece() -> None:
    position = inspect.Parameter.POSITIONAL_OR_KEYWORD
    call = inspect.signature(CutMix().forward).parameters
    assert [(name, p.kind) for name, p in call.items()][:2] == [("x", position), ("y", position)]
    x, y = mixers.images(4), torch.arange(4)
    for mixed_x, y_a, y_b, lam in (CutMix(0.5)(x, y), CutMix()(x, y)):
        assert type(lam) is float and 0 <= lam <= 1
        assert y_a is y and sorted(y_b.tolist()) == [0, 1, 2, 3]
        assert mixed_x.shape == x.shape and mixed_x.dtype == x.dtype


# boxes


def test_boxes_are_those_of_the_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    lam = torch.rand(200, generator=generator, dtype=torch.float64)
    centre = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    for height, width in ((8, 8), (32, 20), (1, 9), (224, 224)):
        found = cutmix_box(lam, centre, height, width)
        expected = [
            reference.box(float(share), (float(down), float(right)), height, width)
            for share, down, right in zip(lam, *centre, strict=True)
        ]
        assert found.T.tolist() == [list(edges) for edges in expected]


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


def test_one_box_is_that_of_the_equation() -> None:
    generator = torch.Generator().manual_seed(0)
    for height, width in ((8, 8), (32, 20), (1, 9), (2, 2), (31, 33)):
        lam = torch.cat([torch.rand(50, generator=generator, dtype=torch.float64), torch.tensor([0.0, 0.25, 1.0])])
        centre = torch.rand(2, 53, generator=generator, dtype=torch.float64)
        centre[:, 50:] = torch.tensor([[0.5, 0.0, 1.0], [0.5, 0.25, 0.75]])  # edges halfway between pixels too
        x = torch.rand(2, 3, height, width, generator=generator)
        for index, (top, bottom, left, right) in enumerate(cutmix_box(lam, centre, height, width).T.tolist()):
            outside, share = outside_of_box(float(lam[index]), centre[:, index : index + 1], x)
            expected = torch.ones(height, width)
            expected[top:bottom, left:right] = 0
            assert torch.equal(outside, expected)
            assert share == 1 - (bottom - top) * (right - left) / (height * width)


def test_boxes_at_the_limits() -> None:
    middle = torch.full((2, 1), 0.5, dtype=torch.float64)
    whole, nothing = (cutmix_box(torch.tensor([lam], dtype=torch.float64), middle, 8, 12)[:, 0] for lam in (0.0, 1.0))
    assert whole.tolist() == [0, 8, 0, 12]
    assert nothing.tolist() == [4, 4, 6, 6]


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
    x, y = mixers.images(8, height=1, width=16), torch.arange(8)
    changed = sum(
        not torch.equal(cutmix_data(x, y, per_sample=per_sample, generator=torch.Generator().manual_seed(seed))[0], x)
        for seed in range(20)
    )
    assert changed > 8


# bad input


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_wrong_alphas_of_the_function(alpha: float) -> None:
    with pytest.raises(ValueError, match=rf"alpha must be a finite number >= 0, got {alpha}") as refusal:
        cutmix_data(mixers.images(4), torch.arange(4), alpha)
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("shape", [(4,), (4, 6), (4, 3, 8)])
@pytest.mark.parametrize("per_sample", [False, True])
def test_height_and_width_are_needed(shape: tuple[int, ...], per_sample: bool) -> None:
    with pytest.raises(ValueError, match=r"x must have shape \(n, channels, …, h, w\) with .*, got \(4,") as refusal:
        CutMix(per_sample=per_sample)(torch.rand(shape), torch.arange(4))
    assert is_one_sentence(str(refusal.value))


def test_a_label_per_pixel_is_refused() -> None:
    with pytest.raises(ValueError, match="CutMix needs one label per image, got targets of shape") as refusal:
        CutMix()(mixers.images(4), torch.zeros(4, 8, 8, dtype=torch.long))
    assert is_one_sentence(str(refusal.value))
