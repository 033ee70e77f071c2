"""One size and colour depth for all images, reached the same way in every set."""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

from oodles.data.raw import Pixels, RawImages, Shape

LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601, as Pillow has it
BILINEAR = Image.Resampling.BILINEAR


def one_shape(raw: RawImages) -> Shape:
    """Return (C, H, W) of images that have one size; grey ones among colour ones count as colour.

    Raises:
        ValueError: for images of several sizes.
    """
    if isinstance(raw.images, np.ndarray):
        _, height, width, channels = raw.images.shape
        return channels, height, width
    sizes = raw.images.sizes()
    (height, width), *others = sorted({size[:2] for size in sizes})
    if others:
        raise ValueError(
            f"images in {raw.place} must have one size, got {height} × {width} and {others[0][0]} × {others[0][1]}: "
            "resize them first, or give input_shape in a suite file."
        )
    return max(size[2] for size in sizes), height, width


def check_shape(shape: Shape) -> None:
    """Refuse a channel count that no file can have."""
    if shape[0] not in (1, 3):
        raise ValueError(f"images read from files have 1 or 3 channels, but {shape[0]} are asked for.")


def fit_image(image: Pixels, shape: Shape, resize: int | None = None) -> Pixels:
    """Bring an image (H, W, C) to ``shape`` (C, H, W); see :func:`oodles.data.read_images`."""
    channels, height, width = shape
    if image.shape[2] > channels:
        luma = image @ LUMA
        image = (np.rint(luma) if image.dtype == np.uint8 else luma).astype(image.dtype)[..., None]
    if resize is not None:
        down, across = (resize * side // min(image.shape[:2]) for side in image.shape[:2])
        if image.shape[:2] != (down, across):
            image = _apply_pillow(image, lambda it: it.resize((across, down), BILINEAR))
        top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
        image = image[top : top + height, left : left + width]
    elif image.shape[:2] != (height, width):
        image = _apply_pillow(image, lambda it: ImageOps.fit(it, (width, height), BILINEAR))
    return np.broadcast_to(image, (height, width, channels))


def _apply_pillow(image: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    """Change an image by Pillow: colour in bytes at once, all others plane by plane."""
    if image.dtype == np.uint8 and image.shape[2] == 3:
        return np.asarray(change(Image.fromarray(np.ascontiguousarray(image))))
    planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
    return np.stack([np.asarray(change(plane)) for plane in planes], axis=2)
