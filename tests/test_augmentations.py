"""Augmentations of whole batches, against loops and against Pillow, which the published severities were made for."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from torch import Tensor

from oodles import augmentations
from oodles.augmentations import NONE, Operations, augment, augment_, draw_operations

from .references.augmentations import NINE
from .references.augmentations import augmented as by_loops

NAMES = (*NINE, "color", "contrast", "brightness", "sharpness")
KIND = {name: getattr(augmentations, name.upper()) for name in NAMES}
LEVELS = (0.1, 1.3, 2.9, 7.7, 10.0)


def images(rows: int, height: int = 9, width: int = 12, *, channels: int = 2, grey_levels: bool = True) -> Tensor:
    drawn = torch.rand(rows, channels, height, width, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return (drawn * 255).round() / 255 if grey_levels else drawn


def same(name: str, rows: int, levels: np.ndarray, signs: np.ndarray) -> Operations:
    return Operations(np.full(rows, KIND[name]), levels, signs)


def each_level() -> tuple[np.ndarray, np.ndarray]:
    return np.repeat(LEVELS, 2), np.tile([1.0, -1.0], len(LEVELS))


def test_the_names_are_those_of_all_operations() -> None:
    assert sorted(KIND.values()) == list(range(augmentations.ALL_OPERATIONS))


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize("name", NAMES)
def test_every_operation_against_loops(name: str, dtype: torch.dtype, accuracy: float) -> None:
    levels, signs = each_level()
    x = images(len(levels))
    changed = augment(x.to(dtype), same(name, len(x), levels, signs))
    assert changed.dtype == dtype
    expected = [by_loops(image.numpy(), name, *how) for image, *how in zip(x, levels, signs, strict=True)]
    if name == "color":  # which colours the weights are for
        x = images(len(levels), channels=3)
        changed = augment(x.to(dtype), same(name, len(x), levels, signs))
        expected = [by_loops(image.numpy(), name, *how) for image, *how in zip(x, levels, signs, strict=True)]
    np.testing.assert_allclose(changed.double().numpy(), np.stack(expected), atol=accuracy)
    assert not np.allclose(changed.double().numpy(), x.numpy(), atol=1e-2), "it does nothing"


def by_pillow(pixels: np.ndarray, name: str, level: float, sign: float) -> np.ndarray:
    """What AugMix's program calls, with its parameters."""
    image, (height, width) = Image.fromarray(pixels), pixels.shape[:2]

    def affine(*matrix: float) -> Image.Image:
        return image.transform((width, height), Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)

    shear = sign * level * 0.3 / 10
    factor = 0.1 + level * 1.8 / 10
    calls = {
        "color": lambda: ImageEnhance.Color(image).enhance(factor),
        "contrast": lambda: ImageEnhance.Contrast(image).enhance(factor),
        "brightness": lambda: ImageEnhance.Brightness(image).enhance(factor),
        "sharpness": lambda: ImageEnhance.Sharpness(image).enhance(factor),
        "autocontrast": lambda: ImageOps.autocontrast(image),
        "equalize": lambda: ImageOps.equalize(image),
        "posterize": lambda: ImageOps.posterize(image, 4 - min(3, int(level * 4 / 10))),
        "solarize": lambda: ImageOps.solarize(image, 256 - int(level * 256 / 10)),
        "rotate": lambda: image.rotate(sign * int(level * 30 / 10), Image.Resampling.BILINEAR),
        "shear_x": lambda: affine(1, shear, 0, 0, 1, 0),
        "shear_y": lambda: affine(1, 0, 0, shear, 1, 0),
        "translate_x": lambda: affine(1, 0, sign * int(level * (width / 3) / 10), 0, 1, 0),
        "translate_y": lambda: affine(1, 0, 0, 0, 1, sign * int(level * (height / 3) / 10)),
    }
    return np.asarray(calls[name]())


@pytest.mark.parametrize("name", NAMES)
def test_every_operation_against_pillow(name: str) -> None:
    """To one grey level, which Pillow cuts off; to two where it rounds before it multiplies."""
    levels, signs = each_level()
    # equalisation by whole numbers is exact enough on larger images only
    x = images(len(levels), *((160, 200) if name == "equalize" else (24, 32)), channels=3)
    changed = augment(x, same(name, len(x), levels, signs)) * 255
    for row, how in enumerate(zip(levels, signs, strict=True)):
        pixels = (x[row] * 255).round().to(torch.uint8).permute(1, 2, 0).numpy()
        expected = by_pillow(pixels, name, *how).transpose(2, 0, 1)
        np.testing.assert_allclose(
            changed[row].numpy(), expected.astype(float), atol=2.05 if name in NAMES[9:] else 1.05
        )


def test_rows_get_their_own_operation_and_others_none() -> None:
    operations = draw_operations(40, 10.0, torch.Generator().manual_seed(1))
    assert set(operations.kind) == set(range(9))
    everything = draw_operations(200, 10.0, torch.Generator().manual_seed(1), all_operations=True)
    assert set(everything.kind) == set(range(13))
    some = operations.only(np.arange(40) % 5 > 0)
    x = images(40)
    changed = augment(x, some)
    for row in range(40):
        alone = augment(x[row : row + 1], some.at(np.array([row])))
        torch.testing.assert_close(changed[row], alone[0], rtol=0, atol=1e-12)
    assert (some.kind[::5] == NONE).all() and torch.equal(changed[::5], x[::5])


def test_given_images_stay_and_changes_in_place_are_made_in_place() -> None:
    x = images(40)
    before, operations = x.clone(), draw_operations(40, 3.0, torch.Generator().manual_seed(1))
    changed = augment(x, operations)
    assert torch.equal(x, before) and not torch.equal(changed, before)
    augment_(x, operations)
    assert torch.equal(x, changed)


def test_levels_directions_and_kinds_are_drawn_evenly() -> None:
    drawn = draw_operations(9000, 3.0, torch.Generator().manual_seed(0))
    assert (np.abs(np.bincount(drawn.kind) - 1000) < 130).all()
    assert 0.1 <= drawn.level.min() < 0.11 and 2.99 < drawn.level.max() <= 3.0
    assert drawn.level.mean() == pytest.approx(1.55, abs=0.03)
    assert set(drawn.sign) == {1.0, -1.0} and abs(drawn.sign.mean()) < 0.05
    again = draw_operations(9000, 3.0, torch.Generator().manual_seed(0))
    assert (drawn.kind == again.kind).all() and (drawn.level == again.level).all()


@pytest.mark.parametrize("value", [0.0, 0.4, 1.0])
def test_images_of_one_grey_level(value: float) -> None:
    operations = Operations(np.arange(9), np.full(9, 2.0), np.ones(9))
    changed = augment(torch.full((9, 1, 6, 6), value), operations)
    assert changed.isfinite().all() and changed.min() >= 0 and changed.max() <= 1
    for name in ("autocontrast", "equalize", "translate_x"):  # two tenths of a third of six pixels are none
        torch.testing.assert_close(changed[KIND[name]], torch.full((1, 6, 6), value))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_single(dtype: torch.dtype) -> None:
    operations = draw_operations(30, 8.0, torch.Generator().manual_seed(0))
    x = images(30).to(dtype)
    torch.testing.assert_close(augment(x, operations), augment(x.float(), operations).to(dtype))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(augment(x.float(), operations), augment(x.float().clone(), operations))
        within = augment(x.float(), operations)
    torch.testing.assert_close(within, augment(x.float(), operations), rtol=0, atol=0)


def test_no_rows() -> None:
    assert augment(torch.zeros(0, 3, 8, 8), draw_operations(0, 3.0)).shape == (0, 3, 8, 8)
