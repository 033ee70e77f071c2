"""Images that are stored as arrays: ``.npz`` files and idx files. Nothing is unpickled."""

import gzip
import zipfile
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from oodles.data.raw import Pixels, RawImages
from oodles.spelling import reason

GZIP = b"\x1f\x8b"
IDX = b"\x00\x00"
NUMBERS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_npz(path: Path) -> RawImages:
    """Read an archive with ``images``, and where there are some ``labels`` and ``classes``."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no zip archive, or one that was cut off")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("images", "labels", "classes") if name in archive}
    except Exception as error:  # damaged archives fail in many ways
        raise ValueError(f"{path} cannot be read as .npz arrays: {reason(error)}.") from error
    if "images" not in arrays:
        raise ValueError(f"{path} must hold an array called images, but has none.")
    classes = tuple(str(name) for name in arrays.get("classes", ()))
    return from_arrays(str(path), arrays["images"], arrays.get("labels"), classes)


def read_idx(images: Path, labels: Path | None = None) -> RawImages:
    """Read images in the format of the MNIST family, gzipped or not, and their labels from another such file."""
    return from_arrays(str(images), _idx(images), None if labels is None else _idx(labels))


def is_idx(start: bytes, path: Path) -> bool:
    """Tell whether a file that starts so is in that format."""
    if start[:2] == GZIP:
        try:
            with gzip.open(path) as file:
                start = file.read(4)
        except (OSError, EOFError, zlib.error):
            return path.name.removesuffix(".gz").endswith("-ubyte")  # reading it then says that it is damaged
    return start[:2] == IDX and len(start) >= 4 and start[2] in NUMBERS


def from_arrays(
    place: str, images: Pixels, labels: NDArray[np.generic] | None, classes: tuple[str, ...] = ()
) -> RawImages:
    """Make raw images of arrays; rows are named by their numbers.

    Raises:
        ValueError: for arrays of other shapes, types or values.
    """
    for name, given in (("images", images), ("labels", labels)):
        if not isinstance(given, np.ndarray) and (given is not None or name == "images"):
            raise TypeError(f"{name} in {place} must be an array, got {type(given).__name__}.")
    images = _as_rows(images, place)
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
        raise ValueError(
            f"labels in {place} must be {len(images)} whole numbers, got {labels.dtype} of shape {labels.shape}."
        )
    names = tuple(str(row) for row in range(len(images)))
    return RawImages(place, images, None if labels is None else labels.astype(np.int64), classes, names)


def _idx(path: Path) -> NDArray[np.generic]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == GZIP
        with gzip.open(path) if zipped else path.open("rb") as file:
            start = file.read(4)
            if len(start) < 4 or start[:2] != IDX or start[2] not in NUMBERS:
                raise ValueError("it does not begin like one")
            header = file.read(4 * start[3])
            shape = np.frombuffer(header, ">u4").tolist()
            if len(shape) != start[3]:
                raise ValueError("it is cut off")
            number = np.dtype(NUMBERS[start[2]])
            expected = number.itemsize * int(np.prod([float(side) for side in shape]))
            content = file.read(expected) if expected < 2**40 else b""
            if len(content) != expected:
                raise ValueError(f"it should go on for {expected} bytes and ends after {len(content)}")
            if file.read(1):
                raise ValueError(f"it goes on after the {expected} bytes that it announces")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an idx file: {error}.") from error
    return np.frombuffer(content, number).astype(number.newbyteorder("=")).reshape(shape)


def _as_rows(images: Pixels, place: str) -> Pixels:
    """Return the images as (N, H, W, C), uint8 or float32."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images in {place} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, "
            f"got {images.shape}."
        )
    if images.size == 0:
        raise ValueError(f"{place} must hold at least one image, got shape {images.shape}.")
    return in_range(images, place)


def in_range(images: Pixels, place: str) -> Pixels:
    """Return images in bytes as they are, and floating-point ones in [0, 1] as float32; refuse others."""
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"images in {place} must be uint8 or floating point in [0, 1], got {images.dtype}.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"floating-point images in {place} must be in [0, 1], got {low:g} to {high:g}: divide them.")
    return images.astype(np.float32)
