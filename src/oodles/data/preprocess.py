"""Turn an image file into what a classifier reads, with NumPy and Pillow alone.

A copy of this file lies beside every exported classifier, so that other programs feed it as it was trained.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

Pixels = NDArray[Any]
Shape = tuple[int, ...]
"""(C, H, W)."""
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601, as Pillow has it
BILINEAR = Image.Resampling.BILINEAR
DEEP = re.compile(r"\b(L|LA|RGB|RGBA|RGBX|CMYK|I);16")
"""Of Pillow's raw modes: those of 16 bits per channel, of which it would keep the upper half, but of grey ones."""
GREY_16 = "I;16"
"""Begins the mode of grey images of 16 bits."""
PAPER = "white"
"""The colour on which transparent images are laid."""


class Fit(NamedTuple):
    """How images get one shape; see :func:`fit_image` and :func:`draft_file`."""

    shape: Shape
    resize: int | None = None
    draft: bool = False


def as_input(
    image: str | Path | Image.Image, shape: Shape, resize: int | None = None, *, draft: bool = False
) -> NDArray[np.float32]:
    """Return an image, or the image in a file, as classifiers read it: (1, C, H, W), from 0 to 1, not normalised.

    Args:
        image: a file, or one of Pillow's.
        shape: (C, H, W) of the result.
        resize: see :func:`fit_image`.
        draft: of a file, see :func:`draft_file`; an image of Pillow's is taken as it is.

    Raises:
        ValueError: for more than 8 bits per channel.
    """
    if not isinstance(image, Image.Image):
        with Image.open(image) as opened:
            if draft:
                draft_file(opened, shape, resize)
            return as_input(opened, shape, resize)
    rows = np.moveaxis(fit_image(image, shape, resize), 2, 0)[None]
    return np.ascontiguousarray(rows).astype(np.float32) / np.float32(255 if rows.dtype == np.uint8 else 1)


def draft_file(image: Image.Image, shape: Shape, resize: int | None = None) -> None:
    """Let a JPEG file that is not decoded yet be decoded at 1/2, 1/4 or 1/8 of its size; others stay as they are.

    The least of these is chosen that :func:`fit_image` need not enlarge. Pixels differ a little from those of a file
    that is decoded whole, so classifiers read images as they were trained: all drafted, or none.
    """
    height, width = shape[1:] if resize is None else (resize, resize)
    turned = image.getexif().get(0x0112, 1) >= 5  # quarter turns, of EXIF
    image.draft(None, (height, width) if turned else (width, height))


def pixels(image: Image.Image) -> Pixels:
    """Return an image as (H, W, C), grey or colour: upright, on white paper, the first of several frames.

    It is in bytes, or in [0, 1] for grey of 16 bits.

    Raises:
        ValueError: for more than 8 bits per channel otherwise.
    """
    if image.mode.startswith(GREY_16):
        return np.asarray(ImageOps.exif_transpose(image))[..., None].astype(np.float32) / np.float32(2**16 - 1)
    return np.atleast_3d(np.asarray(upright(image)))


def upright(image: Image.Image) -> Image.Image:
    """Return an image in the mode L or RGB, see :func:`pixels`."""
    check_depth(image)
    mode = "L" if is_grey(image) else "RGB"
    if image.getexif().get(0x0112, 1) != 1:  # the orientation, of EXIF
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:  # what lies under transparent pixels is an encoder's whim
        image = Image.alpha_composite(Image.new("RGBA", image.size, PAPER), image.convert("RGBA"))
    return image if image.mode == mode else image.convert(mode)


def fit_image(image: Pixels | Image.Image, shape: Shape, resize: int | None = None) -> Pixels:
    """Bring an image to ``shape``: one of Pillow's, or an array (H, W, C) in bytes or floating point.

    Colour becomes grey by Rec. 601 luma, and grey fills all channels.

    Args:
        image: of any size.
        shape: (C, H, W) of the result, whose axes stay in the order (H, W, C).
        resize: pixels of the shorter side, of which the centre is cropped; without it, the image is cropped about its
            centre to the aspect ratio and then resized. Both by Pillow's bilinear filter.
    """
    channels, height, width = shape
    if isinstance(image, Image.Image) and image.mode.startswith(GREY_16):
        image = pixels(image)
    if isinstance(image, Image.Image):
        image = upright(image)
        if len(image.getbands()) <= channels:  # no array of all pixels is needed
            image = np.atleast_3d(np.asarray(_resized(image, height, width, resize)))
            return np.broadcast_to(image, (height, width, channels))
        image = np.atleast_3d(np.asarray(image))
    if image.shape[2] not in (1, channels) and (image.shape[2], channels) != (3, 1):
        raise ValueError(f"images of {image.shape[2]} channels cannot become images of {channels}: ask for as many.")
    if image.shape[2] > channels:
        luma = image @ LUMA
        image = (np.rint(luma) if image.dtype == np.uint8 else luma).astype(image.dtype)[..., None]
    if resize is not None or image.shape[:2] != (height, width):
        image = _apply_pillow(image, lambda it: _resized(it, height, width, resize))
    return np.broadcast_to(image, (height, width, channels))


def _resized(image: Image.Image, height: int, width: int, resize: int | None) -> Image.Image:
    """Resize an image and crop it, see :func:`fit_image`."""
    if resize is None:
        return image if image.size == (width, height) else ImageOps.fit(image, (width, height), BILINEAR)
    across, down = (resize * side // min(image.size) for side in image.size)
    if image.size != (across, down):
        image = image.resize((across, down), BILINEAR)
    left, top = round((across - width) / 2), round((down - height) / 2)
    return image.crop((left, top, left + width, top + height))


def is_grey(image: Image.Image) -> bool:
    """Tell whether an image has no colour."""
    return image.mode in ("1", "L", "LA", "La") or image.mode.startswith(GREY_16)


def check_depth(image: Image.Image) -> None:
    """Refuse an image of more than 8 bits per channel, of which Pillow keeps 8; it keeps all 16 of grey ones.

    Raises:
        ValueError: for such an image.
    """
    if image.mode.startswith(GREY_16):
        return
    deep = image.mode.startswith(("I", "F"))
    for codec, _, _, parameters in getattr(image, "tile", ()):  # of a file that is not decoded yet
        maximum = parameters[-1] if codec.startswith("ppm") and isinstance(parameters, tuple) else 255
        deep = deep or maximum > 255 or DEEP.search(str(parameters)) is not None
    if deep:
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode}): convert it to 8 bits")


def _apply_pillow(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Change an image by Pillow: colour in bytes at once, all others plane by plane."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(plane)) for plane in planes], axis=2)
