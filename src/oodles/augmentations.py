"""Image operations for augmentation, on whole batches of tensors in [0, 1]: AugMix's nine and its further four.

An operation for each row is drawn on the CPU; rows with the same operation are then changed together, so that the
number of torch calls depends neither on the draws nor on the rows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from oodles.checks import check_number
from oodles.precision import at_least_float32

AUTOCONTRAST, EQUALIZE, POSTERIZE, SOLARIZE, ROTATE, SHEAR_X, SHEAR_Y, TRANSLATE_X, TRANSLATE_Y = range(9)
COLOR, CONTRAST, BRIGHTNESS, SHARPNESS = range(9, 13)
OPERATIONS, ALL_OPERATIONS = 9, 13
"""The last four overlap with the corruptions of a benchmark, and are drawn on request only."""
NONE = -1
"""In the place of a kind: the row stays as it is."""

LOWEST_LEVEL, HIGHEST_LEVEL = 0.1, 10.0
LEVELS = 256
"""Grey levels of the 8-bit images that the severities are made for."""


@dataclass(frozen=True)
class Operations:
    """One operation per row: its kind, its level from 0 to 10, and its direction (±1)."""

    kind: NDArray[np.int64]
    level: NDArray[np.float64]
    sign: NDArray[np.float64]

    def at(self, rows: NDArray[np.int64]) -> "Operations":
        """Return the operations of some rows."""
        return Operations(self.kind[rows], self.level[rows], self.sign[rows])

    def only(self, rows: NDArray[np.bool_]) -> "Operations":
        """Return the operations, with those of all other rows switched off."""
        return Operations(np.where(rows, self.kind, NONE), self.level, self.sign)


def draw_operations(
    count: int, severity: float, generator: Generator | None = None, *, all_operations: bool = False
) -> Operations:
    """Draw operations, of nine or of all, at levels spread evenly between 0.1 and ``severity``."""
    kinds = ALL_OPERATIONS if all_operations else OPERATIONS
    kind = torch.randint(kinds, (count,), generator=generator).numpy()
    level, sign = torch.rand(2, count, dtype=torch.float64, generator=generator).numpy()
    return Operations(kind, LOWEST_LEVEL + (severity - LOWEST_LEVEL) * level, np.where(sign < 0.5, 1.0, -1.0))


def on_device(values: NDArray[np.generic], like: Tensor) -> Tensor:
    """Copy numbers that were drawn on the CPU to the device of another tensor, without waiting for it."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(like.device, non_blocking=True)


def augment(images: Float[Tensor, "n c h w"], operations: Operations) -> Float[Tensor, "n c h w"]:
    """Return new images, each changed by its operation; see :func:`augment_`."""
    new = at_least_float32(images).clone()
    augment_(new, operations)
    return new.to(images.dtype)


def augment_(images: Float[Tensor, "n c h w"], operations: Operations) -> None:
    """Change each image by its operation, in place; black comes in at the edges.

    Degrees, pixels, bits and grey levels are whole numbers, rounded towards zero; results are not rounded to 8 bits.

    Source: Hendrycks et al., ICLR 2020, section 3, with the severities of the authors' code, which calls Pillow.
    Equalisation divides exactly; Pillow's whole numbers saturate on small images, or leave them as they are.
    """
    kind, level = operations.kind, operations.level

    def change(where: NDArray[np.bool_], operation: Callable[..., Tensor], *settings: NDArray[np.float64]) -> None:
        rows = np.flatnonzero(where)
        of_rows = [on_device(setting[rows], images).to(images.dtype) for setting in settings]
        places = on_device(rows, images)
        images.index_copy_(0, places, operation(images.index_select(0, places), *of_rows))

    change(kind == AUTOCONTRAST, autocontrast)
    change(kind == EQUALIZE, equalize)
    change(kind == POSTERIZE, posterize, np.trunc(level * 4 / 10).clip(max=3))  # one bit has to stay
    change(kind == SOLARIZE, solarize, np.trunc(level * LEVELS / 10))
    change((kind >= ROTATE) & (kind < COLOR), warp, matrices(operations, *images.shape[2:]))
    factor = 0.1 + level * 1.8 / 10
    change(kind == COLOR, color, factor)
    change(kind == CONTRAST, contrast, factor)
    change(kind == BRIGHTNESS, brightness, factor)
    change(kind == SHARPNESS, sharpness, factor)


def autocontrast(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Stretch each channel to all of [0, 1]; a channel of one value stays."""
    low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
    return torch.where(high > low, (images - low) / (high - low), images)


def equalize(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Spread each channel's grey levels evenly: the share of darker pixels among those that are not the brightest."""
    levels = _levels(images).long().flatten(2)
    ones = torch.ones_like(levels, dtype=images.dtype)
    counts = images.new_zeros(*levels.shape[:2], LEVELS).scatter_add_(2, levels, ones)
    darker = (counts.cumsum(2) - counts).gather(2, levels)
    below_top = darker.amax(2, keepdim=True)
    return torch.where(below_top > 0, darker / below_top, images.flatten(2)).reshape(images.shape)


def posterize(images: Float[Tensor, "n c h w"], severity: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Keep the 4 − severity highest bits of each grey level alone."""
    step = (4 + severity).exp2()[:, None, None, None]
    return (_levels(images) / step).floor() * step / (LEVELS - 1)


def solarize(images: Float[Tensor, "n c h w"], severity: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Invert grey levels from 256 − severity on."""
    return torch.where(_levels(images) < (LEVELS - severity)[:, None, None, None], images, 1 - images)


def color(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Move away from the grey image where the factor is above 1, towards it below."""
    return _beyond(_luminance(images).expand_as(images), images, factor)


def contrast(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Move away from the grey image's mean where the factor is above 1, towards it below."""
    return _beyond(_luminance(images).mean((2, 3), keepdim=True).expand_as(images), images, factor)


def hue(images: Float[Tensor, "n 3 h w"], turn: Float[Tensor, " n"]) -> Float[Tensor, "n 3 h w"]:
    """Turn each colour's hue around the hexagon of red, yellow, green, cyan, blue and magenta, by whole turns.

    Source: the conversion of HSV to RGB in closed form, as in Wikipedia's article "HSL and HSV".
    """
    value, place = images.max(1, keepdim=True)
    chroma = value - images.amin(1, keepdim=True)
    red, green, blue = images.chunk(3, dim=1)
    from_corner = torch.cat([green - blue, blue - red, red - green], dim=1).gather(1, place)
    corner = 2 * place + from_corner / torch.where(chroma > 0, chroma, 1)
    corners = torch.tensor([5.0, 3.0, 1.0], device=images.device, dtype=images.dtype)[:, None, None]
    k = (corners + corner + 6 * turn[:, None, None, None]) % 6
    turned = value - chroma * torch.minimum(k, 4 - k).clamp(0, 1)
    return torch.where((turn == 0)[:, None, None, None], images, turned)


def brightness(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Multiply by the factor."""
    return _beyond(torch.zeros_like(images), images, factor)


def sharpness(images: Float[Tensor, "n c h w"], factor: Float[Tensor, " n"]) -> Float[Tensor, "n c h w"]:
    """Move away from a smoothed image where the factor is above 1, towards it below; pixels at the edges stay."""
    smooth = images.clone()
    if min(images.shape[2:]) > 2:
        around = F.avg_pool2d(images, 3, stride=1)
        smooth[:, :, 1:-1, 1:-1] = (9 * around + 4 * images[:, :, 1:-1, 1:-1]) / 13
    return _beyond(smooth, images, factor)


def _beyond(start: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    return torch.lerp(start, images, factor[:, None, None, None]).clamp(0, 1)


def _luminance(images: Float[Tensor, "n c h w"]) -> Float[Tensor, "n 1 h w"]:
    """Return 0.299 R + 0.587 G + 0.114 B; of other than three channels their mean."""
    if images.shape[1] != 3:
        return images.mean(1, keepdim=True)
    red, green, blue = images.unbind(1)
    return (0.299 * red + 0.587 * green + 0.114 * blue).unsqueeze(1)


def warp(images: Float[Tensor, "n c h w"], matrix: Float[Tensor, "n 2 3"]) -> Float[Tensor, "n c h w"]:
    """Fetch each pixel (x, y) from ``matrix`` · (x, y, 1), interpolated between the pixels around that place.

    Both x and y count from −1 at one edge of the image to 1 at the other; what lies outside is black.
    """
    y, x = (_middles(size, images) for size in images.shape[2:])
    across, down, shift = matrix[:, :, None, None].unbind(4)
    places = (across * x + shift) + down * y[:, None]  # no matrix product, which might be rounded to 10 bits
    inside = places.abs().amax(1, keepdim=True) <= 1
    # half a pixel at each edge has no neighbour on one side, and looks like the edge
    result = F.grid_sample(images, places.movedim(1, 3), mode="bilinear", padding_mode="border", align_corners=False)
    return result.mul_(inside)


def matrices(operations: Operations, height: int, width: int) -> NDArray[np.float64]:
    """Return one matrix per row for :func:`warp`, (n, 2, 3); the identity for operations that move nothing."""
    kind, level, sign = operations.kind, operations.level, operations.sign
    angle = np.radians(np.where(kind == ROTATE, sign * np.trunc(level * 30 / 10), 0.0))
    shear = sign * level * 0.3 / 10
    matrix = np.zeros((len(kind), 2, 3))
    matrix[:, 0, 0] = matrix[:, 1, 1] = np.cos(angle)
    # the same number of pixels is another share of a longer side
    matrix[:, 0, 1] = (np.where(kind == SHEAR_X, shear, 0.0) - np.sin(angle)) * height / width
    matrix[:, 1, 0] = (np.where(kind == SHEAR_Y, shear, 0.0) + np.sin(angle)) * width / height
    # Pillow shears about the first corner, (−1, −1)
    matrix[:, 0, 2] = np.where(kind == SHEAR_X, matrix[:, 0, 1], 0.0)
    matrix[:, 1, 2] = np.where(kind == SHEAR_Y, matrix[:, 1, 0], 0.0)
    for row, (moves, size) in enumerate(((TRANSLATE_X, width), (TRANSLATE_Y, height))):
        pixels = sign * np.trunc(level * size / 3 / 10)
        matrix[:, row, 2] += np.where(kind == moves, 2 * pixels / size, 0.0)
    return matrix


def _middles(size: int, like: Tensor) -> Float[Tensor, " s"]:
    """Return the places of pixels' middles between the edges −1 and 1."""
    return ((torch.arange(size, dtype=torch.float64, device=like.device) * 2 + 1) / size - 1).to(like.dtype)


def _levels(images: Tensor) -> Tensor:
    return (images * (LEVELS - 1)).round()


def check_severity(severity: float) -> None:
    """Refuse a severity at which these operations are not defined."""
    check_number("severity", severity, low=LOWEST_LEVEL)
    if severity > HIGHEST_LEVEL:
        raise ValueError(f"severity must be at most {HIGHEST_LEVEL:g}, got {severity}.")
