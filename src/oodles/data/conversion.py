"""The size of all images of a set."""

import numpy as np

from oodles.data.preprocess import Shape
from oodles.data.raw import RawImages


def one_shape(raw: RawImages) -> Shape:
    """Return (C, H, W) of images that have one size, or (F,); grey images among colour ones count as colour.

    Raises:
        ValueError: for images of several sizes.
    """
    if isinstance(raw.images, np.ndarray):
        *_, last = shape = raw.images.shape[1:]
        return last, *shape[:-1]
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
