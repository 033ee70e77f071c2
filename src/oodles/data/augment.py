"""Random changes of training images, each a function of (seed, epoch, row) alone."""

import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Float32, Int64
from numpy.typing import NDArray
from torch import Tensor

from oodles.augmentations import brightness, color, contrast, hue
from oodles.checks import check_flag, check_number
from oodles.importing import function_at, in_words
from oodles.randomness import COLOURS, CROPS, TRANSFORMS, random_seed

Transform = Callable[[Tensor], Any]
FACTORS = ("brightness", "contrast", "saturation")
UNCHANGED = np.array([1, 1, 1, 0], dtype=np.float32)
"""Three factors and a turn that change no colour."""
FIRST = ("shift", "flip")
"""The changes that every version has recorded."""
ATTEMPTS = 10
"""So often a crop is drawn until it fits into the image; the whole image is taken then."""
NARROWEST, WIDEST = 3 / 4, 4 / 3


@dataclass(frozen=True)
class Augment:
    """Random changes of a training image, made in the order crop, shift, flip, colours, transforms.

    All but ``transforms`` are made on the device that holds the images.

    Args:
        shift: pixels by which an image moves at most, up or down and left or right; black comes in at the edge.
        flip: mirror half of the images left to right.
        crop: least and largest share of the area that is cropped and enlarged to the whole, 3/4 to 4/3 as wide as
            high, by bilinear interpolation.
        brightness: multiply by a factor between 1 − brightness and 1 + brightness.
        contrast: likewise, the distance from the mean of the grey image.
        saturation: likewise, the distance from the grey image.
        hue: turn hues by up to so many whole turns, at most 0.5.
        transforms: ``package.module:function``, which takes and gives an image (C, H, W), float32 in [0, 1], on the
            CPU; torchvision's ``v2`` transforms are such functions. Draws from the global generators of torch, Python
            and NumPy depend on (seed, epoch, row), and leave no trace there.

    Raises:
        TypeError: for values of another type.
        ValueError: for values outside of these ranges.

    Source: crops and colours are those of Szegedy et al., CVPR 2015, and of torchvision's ``RandomResizedCrop`` and
    ``ColorJitter``; the colours are changed in the order above, where ``ColorJitter`` draws the order.
    """

    shift: int = 0
    flip: bool = False
    crop: tuple[float, float] | None = None
    brightness: float = 0.0
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0
    transforms: str | None = None

    def __post_init__(self) -> None:
        if isinstance(self.shift, bool) or not isinstance(self.shift, int) or self.shift < 0:
            raise ValueError(f"shift must be a whole number of pixels of at least 0, got {self.shift!r}.")
        check_flag("flip", self.flip)
        if self.crop is not None:
            object.__setattr__(self, "crop", _area(self.crop))
        for name in FACTORS:
            check_number(name, getattr(self, name), low=0, high=1)
        check_number("hue", self.hue, low=0, high=0.5)
        if self.transforms is not None and not (isinstance(self.transforms, str) and ":" in self.transforms):
            raise ValueError(f"transforms must be the text package.module:function, got {self.transforms!r}.")

    @property
    def colours(self) -> bool:
        """Tell whether colours change."""
        return any(getattr(self, name) for name in (*FACTORS, "hue"))

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for a record: shift and flip, and of the others those that change something."""
        values = {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}
        return {name: value for name, value in values.items() if name in FIRST or value}

    def check_images(self, shape: tuple[int, ...]) -> None:
        """Refuse what cannot be done to images (C, H, W), and any change of feature vectors (F,)."""
        if len(shape) != 3:
            if self != PLAIN:
                raise ValueError("random changes are for images, and these rows are feature vectors: leave them out.")
            return
        channels, height, width = shape
        if self.shift and self.shift >= min(height, width):
            raise ValueError(
                f"shift must be smaller than the sides of the images, {height} × {width} pixels, got {self.shift}."
            )
        if channels != 3 and (self.saturation or self.hue):
            raise ValueError(
                f"saturation and hue are for images of 3 channels, and these have {channels}: leave them out."
            )


PLAIN = Augment()
"""No changes."""
SETTINGS = tuple(field.name for field in fields(Augment))


@dataclass(frozen=True)
class Changes:
    """What is drawn for each of n images."""

    moves: Int64[Tensor, "n 3"]
    """Where the crop of the padded image begins (y, x), and 1 to mirror it, else 0."""
    boxes: Int64[Tensor, "n 4"] | None
    """Top, left, height and width of what is enlarged to the whole, where there are crops."""
    colours: Float32[Tensor, "n 4"] | None
    """Factors of brightness, contrast and saturation, and turns of hue, where colours change."""

    def to(self, device: torch.device) -> "Changes":
        """Copy them to a device, without waiting for it."""
        boxes, colours = (None if it is None else it.to(device, non_blocking=True) for it in (self.boxes, self.colours))
        return Changes(self.moves.to(device, non_blocking=True), boxes, colours)


def draw(
    augment: Augment,
    seed: int,
    epochs: NDArray[np.int64],
    rows: NDArray[np.int64],
    images: tuple[int, ...],
) -> Changes | None:
    """Draw the changes of rows of (N, C, H, W) images, each in its epoch; none below epoch 0, nothing if all are."""
    if augment == PLAIN or (epochs < 0).all():
        return None
    count, _, height, width = images
    moves = np.tile([augment.shift, augment.shift, 0], (len(rows), 1))
    boxes, colours = np.tile([0, 0, height, width], (len(rows), 1)), np.tile(UNCHANGED, (len(rows), 1))
    for epoch in np.unique(epochs[epochs >= 0]).tolist():
        chosen = epochs == epoch
        moves[chosen] = _moves(augment, seed, epoch, count)[rows[chosen]]
        if augment.crop is not None:
            boxes[chosen] = _boxes(augment.crop, seed, epoch, count, height, width)[rows[chosen]]
        if augment.colours:
            colours[chosen] = _colours(augment, seed, epoch, count)[rows[chosen]]
    return Changes(
        torch.from_numpy(moves),
        None if augment.crop is None else torch.from_numpy(boxes),
        torch.from_numpy(colours) if augment.colours else None,
    )


def ready(pixels: Tensor, changes: Changes | None, shift: int) -> Float[Tensor, "n c h w"]:
    """Return pixels as networks take them: float32 in [0, 1], changed; moves alone are made in bytes."""
    if changes is not None:
        if changes.boxes is not None:
            pixels = enlarge(_in_0_to_1(pixels), changes.boxes)
        pixels = _move(pixels, changes.moves, shift)
    images = _in_0_to_1(pixels)
    if changes is None or changes.colours is None:
        return images
    light, depth, saturation, turn = changes.colours.unbind(1)
    images = contrast(brightness(images, light), depth)
    return hue(color(images, saturation), turn) if images.shape[1] == 3 else images


def enlarge(images: Float[Tensor, "n c h w"], boxes: Int64[Tensor, "n 4"]) -> Float[Tensor, "n c h w"]:
    """Enlarge the box (top, left, height, width) of each image to the whole, by bilinear interpolation."""
    top, left, high, wide = boxes.unbind(1)
    across = _enlarge_side(images.transpose(2, 3), left, wide).transpose(2, 3)
    return _enlarge_side(across, top, high)


def transformed(
    place: str, images: Float[Tensor, "n c h w"], seed: int, epochs: NDArray[np.int64], rows: NDArray[np.int64]
) -> Float[Tensor, "n c h w"]:
    """Change each row by the function at ``package.module:function`` as in its epoch; rows below epoch 0 stay.

    Raises:
        ValueError: where it breaks, or gives something else than an image of the same shape in [0, 1].
    """
    function, images = _function(place), images.clone()
    with _global_state_kept():
        for image, epoch, row in zip(images, epochs.tolist(), rows.tolist(), strict=True):
            if epoch >= 0:
                _seed_globally(random_seed(seed, epoch, row, TRANSFORMS))
                image.copy_(_transformed(function, place, image))
    return images


def _area(crop: Any) -> tuple[float, float]:
    pair = tuple(crop) if isinstance(crop, list | tuple) else ()
    if len(pair) != 2 or any(isinstance(share, bool) or not isinstance(share, int | float) for share in pair):
        raise ValueError(f"crop must be the least and the largest share of the area, got {crop!r}.")
    if not 0 < pair[0] <= pair[1] <= 1:
        raise ValueError(f"crop must be two shares above 0 and at most 1, the lesser first, got {crop!r}.")
    return float(pair[0]), float(pair[1])


@lru_cache(maxsize=8)
def _moves(augment: Augment, seed: int, epoch: int, rows: int) -> NDArray[np.int64]:
    """Draw for each row of an epoch where its crop of the padded image begins (y, x), and 1 to mirror it, else 0."""
    random = np.random.default_rng((seed, epoch))
    corners = random.integers(0, 2 * augment.shift + 1, size=(rows, 2))
    mirrored = random.integers(0, 2, size=(rows, 1)) * augment.flip
    return np.concatenate([corners, mirrored], axis=1)


@lru_cache(maxsize=8)
def _boxes(crop: tuple[float, float], seed: int, epoch: int, rows: int, height: int, width: int) -> NDArray[np.int64]:
    """Draw (top, left, height, width) for each row of an epoch."""
    random = np.random.default_rng((seed, epoch, CROPS))
    sides, left = np.tile([height, width], (rows, 1)), np.ones(rows, dtype=bool)
    for _ in range(ATTEMPTS):
        area = height * width * random.uniform(*crop, size=rows)
        ratio = np.exp(random.uniform(math.log(NARROWEST), math.log(WIDEST), size=rows))
        drawn = np.rint(np.sqrt(np.stack([area / ratio, area * ratio], axis=1))).astype(np.int64)
        fits = left & ((drawn >= 1) & (drawn <= (height, width))).all(1)
        sides[fits], left = drawn[fits], left & ~fits
    corners = np.floor(random.random((rows, 2)) * ((height, width) - sides + 1)).astype(np.int64)
    return np.concatenate([corners, sides], axis=1)


@lru_cache(maxsize=8)
def _colours(augment: Augment, seed: int, epoch: int, rows: int) -> NDArray[np.float32]:
    """Draw factors of brightness, contrast and saturation, and turns of hue, for each row of an epoch."""
    spread = [*(getattr(augment, name) for name in FACTORS), augment.hue]
    drawn = np.random.default_rng((seed, epoch, COLOURS)).uniform(-1, 1, size=(rows, 4))
    changed: NDArray[np.float64] = UNCHANGED + np.array(spread) * drawn
    return changed.astype(np.float32)


def _in_0_to_1(pixels: Tensor) -> Float[Tensor, "n c h w"]:
    return pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels.float()


def _move(pixels: Tensor, moves: Int64[Tensor, "n 3"], shift: int) -> Tensor:
    height, width = pixels.shape[2:]
    y, x, mirrored = moves.T
    crops = F.pad(pixels, (shift, shift, shift, shift)).unfold(2, height, 1).unfold(3, width, 1)
    moved = crops[torch.arange(len(pixels), device=pixels.device), :, y, x]
    return torch.where(mirrored[:, None, None, None] == 1, moved.flip(3), moved)


def _enlarge_side(images: Tensor, start: Int64[Tensor, " n"], length: Int64[Tensor, " n"]) -> Tensor:
    """Enlarge a stretch of each image's rows to all of its rows; a stretch that is all of them stays bit for bit."""
    count, channels, height, width = images.shape
    middles = torch.arange(height, device=images.device) + 0.5
    places = (middles * length[:, None] / height - 0.5).clamp(min=0)
    before = places.floor().long()
    after = torch.minimum(before + 1, length[:, None] - 1)
    share = (places - before)[:, None, :, None]
    first, second = (
        images.gather(2, (start[:, None] + at)[:, None, :, None].expand(count, channels, height, width))
        for at in (before, after)
    )
    return torch.lerp(first, second, share)


@lru_cache(maxsize=8)
def _function(place: str) -> Transform:
    return function_at(place, "transforms")


def _transformed(function: Transform, place: str, image: Float[Tensor, "c h w"]) -> Float[Tensor, "c h w"]:
    try:
        new = function(image.clone())
    except Exception as error:  # it is the user's, and may do anything
        raise ValueError(f"transforms {place!r} broke on an image: {in_words(error)}.") from error
    if not isinstance(new, Tensor) or not new.is_floating_point() or new.shape != image.shape:
        got = f"{new.dtype} of shape {tuple(new.shape)}" if isinstance(new, Tensor) else type(new).__name__
        raise ValueError(
            f"transforms {place!r} must give a floating-point tensor of the shape {tuple(image.shape)} that it took, "
            f"got {got}."
        )
    low, high = (float(bound) for bound in new.aminmax())
    if not -1e-3 <= low <= high <= 1 + 1e-3:
        raise ValueError(
            f"transforms {place!r} must give images in [0, 1], got {low:.3g} to {high:.3g}: "
            "leave out normalisation, which is the classifier's first layer."
        )
    return new.clamp(0, 1)


@contextmanager
def _global_state_kept() -> Iterator[None]:
    """Restore the global generators of torch's CPU, Python and NumPy."""
    of_torch, of_python, of_numpy = torch.get_rng_state(), random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        torch.set_rng_state(of_torch)
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def _seed_globally(seed: int) -> None:
    torch.default_generator.manual_seed(seed)  # not that of GPUs, which torch.manual_seed would change too
    random.seed(seed)
    np.random.seed(seed % 2**32)
