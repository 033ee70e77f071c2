"""Images and feature vectors that are stored as arrays: ``.npz``, ``.npy`` and idx files. Nothing is unpickled."""

import gzip
import math
import os
import zipfile
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data.names import composed, some
from oodles.data.preprocess import Pixels
from oodles.data.raw import Listed, RawImages
from oodles.spelling import reason

ROWS = ("images", "features")
"""What the rows of an archive may be called."""
ARRAYS = (*ROWS, "labels", "classes")
GZIP = b"\x1f\x8b"
IDX = b"\x00\x00"
UNPACKED, RATIO = 2**30, 16
"""A compressed file may unpack to so many bytes, or to so many times its own size where that is more: photographs
shrink by a few per cent, drawings to a tenth."""
LIMIT = "OODLES_MAX_UNPACKED"
"""The environment variable that says how many bytes a file may unpack to instead."""
NUMBERS = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_npz(path: Path) -> RawImages:
    """Read an archive with ``images`` or ``features``, and where there are some ``labels`` and ``classes``."""
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no zip archive, or one that was cut off")
            file.seek(0)
            _check_archive(file, path)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ARRAYS if name in archive}
                others = sorted(set(archive.files) - set(ARRAYS))
    except Exception as error:  # damaged archives fail in many ways
        raise ValueError(f"{path} cannot be read as .npz arrays: {reason(error)}.") from error
    rows = [name for name in ROWS if name in arrays]
    if len(rows) != 1:
        held = f": it holds {some(others)}" if others else ""
        how = "has both" if rows else f"has none{held}"
        raise ValueError(f"{path} must hold an array called images, or one called features, but {how}.")
    classes = _class_names(arrays["classes"], path) if "classes" in arrays else ()
    return from_arrays(str(path), arrays[rows[0]], arrays.get("labels"), classes, vectors=rows[0] == "features")


def are_vectors(path: Path) -> bool:
    """Tell whether a file of arrays holds vectors, by its header; what is damaged is told when it is read."""
    with suppress(Exception):
        if path.suffix.lower() == ".npy":
            return open_npy(path).ndim == 2
        with zipfile.ZipFile(path) as archive:
            return "features.npy" in archive.namelist()
    return False


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
    place: str,
    images: Pixels,
    labels: NDArray[np.generic] | None,
    classes: tuple[str, ...] = (),
    *,
    vectors: bool = False,
) -> RawImages:
    """Make raw images, or ``vectors``, of arrays; rows are named by their numbers.

    Raises:
        ValueError: for arrays of other shapes, types or values.
    """
    for name, given in (("images", images), ("labels", labels)):
        if not isinstance(given, np.ndarray) and (given is not None or name == "images"):
            raise TypeError(f"{name} in {place} must be an array, got {type(given).__name__}.")
    images = _as_vectors(images, place) if vectors else in_range(with_channels(images, place), place)
    return with_labels(place, images, labels, classes)


def with_labels(
    place: str, images: Pixels | Listed, labels: NDArray[np.generic] | None, classes: tuple[str, ...] = ()
) -> RawImages:
    """Return images or vectors with their labels, named by their numbers; refuse labels that are no class ids."""
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != (len(images),)):
        raise ValueError(
            f"labels in {place} must be {len(images)} whole numbers, got {labels.dtype} of shape {labels.shape}"
            f"{': put names into an array called classes, and count them' if labels.dtype.kind in 'US' else ''}."
        )
    names = tuple(str(row) for row in range(len(images)))
    return RawImages(place, images, None if labels is None else _as_int64(labels, place), classes, names)


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
            expected = number.itemsize * math.prod(shape)
            size = path.stat().st_size
            if zipped:
                _check_unpacked(expected, size)
            content = file.read(expected) if zipped or expected <= size else file.read()
            if len(content) != expected:
                raise ValueError(f"it should go on for {expected} bytes and ends after {len(content)}")
            if file.read(1):
                raise ValueError(f"it goes on after the {expected} bytes that it announces")
    except (OSError, ValueError, EOFError, zlib.error) as error:
        raise ValueError(f"{path} cannot be read as an idx file: {error}.") from error
    return np.frombuffer(content, number).astype(number.newbyteorder("=")).reshape(shape)


def _as_int64(labels: NDArray[np.generic], place: str) -> NDArray[np.int64]:
    numbers = labels.astype(np.int64)
    if not np.array_equal(numbers, labels):
        raise ValueError(f"labels in {place} must be below 2**63, got {labels.max()}.")
    return numbers


def _check_archive(file: Any, path: Path) -> None:
    """Refuse an archive whose arrays would take more memory than there are bytes for, before any is taken."""
    total = 0
    with zipfile.ZipFile(file) as archive:
        for member in archive.infolist():
            name = member.filename.removesuffix(".npy")
            if name not in ARRAYS:
                continue
            with archive.open(member) as content:
                version = np.lib.format.read_magic(content)
                read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
                shape, _, number = read(content)
                expected, there = number.itemsize * math.prod(shape), member.file_size - content.tell()
            if not number.hasobject and expected != there:
                raise ValueError(f"{name} should go on for {expected} bytes and has {there}")
            total += member.file_size
    file.seek(0)
    _check_unpacked(total, path.stat().st_size)


def _check_unpacked(unpacked: int, size: int) -> None:
    """Refuse what a file of a size unpacks to beyond the limit."""
    stated = os.environ.get(LIMIT, "")
    if stated and not stated.isdecimal():
        raise ValueError(f"{LIMIT} must be a whole number of bytes, got {stated!r}")
    limit = int(stated) if stated else max(UNPACKED, RATIO * size)
    if unpacked > limit:
        raise ValueError(
            f"its {size:,} bytes unpack to {unpacked:,}, and at most {limit:,} are taken: set {LIMIT} to as many bytes "
            "if it is right"
        )


def _class_names(names: NDArray[np.generic], path: Path) -> tuple[str, ...]:
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise ValueError(f"classes in {path} must be a list of names, got {names.dtype} of shape {names.shape}.")
    words = [name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name) for name in names.tolist()]
    return tuple(map(composed, words))


def with_channels(images: Pixels, place: str) -> Pixels:
    """Return images as (N, H, W, C); 1 or 3 tell the channels, or else they are fewer than the pixels of a side."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and not _has_channels_last(images) and _has_channels_last(np.moveaxis(images, 1, 3)):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or not _has_channels_last(images):
        raise ValueError(
            f"images in {place} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with fewer channels than "
            f"pixels a side, got {images.shape}: vectors (N, F) are called features."
        )
    if images.size == 0:
        raise ValueError(f"{place} must hold at least one image, got shape {images.shape}.")
    return images


def _has_channels_last(images: Pixels) -> bool:
    """Tell whether the last of four axes counts channels, the middle ones being sides."""
    _, first, second, last = images.shape
    return last in (1, 3) or (last < min(first, second) and first not in (1, 3))


def _as_vectors(vectors: Pixels, place: str) -> Pixels:
    """Return vectors (N, F) as float32; refuse others, and what is not finite."""
    if vectors.ndim != 2 or vectors.dtype.kind not in "fiu" or vectors.size == 0:
        raise ValueError(
            f"features in {place} must be numbers of shape (N, F), got {vectors.dtype} of shape {vectors.shape}."
        )
    with np.errstate(over="ignore"):  # told in the next line
        rows = vectors.astype(np.float32, copy=False)
    check_finite(rows, place, "rows")
    return rows


def open_npy(path: Path) -> NDArray[Any]:
    """Open a ``.npy`` array; its rows are read from the file when they are asked for, and cannot be written.

    Raises:
        ValueError: for a file that is damaged, holds no numbers, or no rows.
    """
    try:
        values = np.lib.format.open_memmap(path, mode="r")
        if rest := path.stat().st_size - values.offset - values.nbytes:
            raise ValueError(f"it goes on for {rest} bytes after the array that it announces")
    except Exception as error:  # damaged files fail in many ways
        raise ValueError(f"{path} cannot be read as an .npy array: {reason(error)}.") from error
    if values.dtype.kind not in "fiu" or values.size == 0:
        raise ValueError(f"{path} must hold rows of numbers, got {values.dtype} of shape {values.shape}.")
    return values


def in_range(images: Pixels, place: str) -> Pixels:
    """Return images in bytes as they are, those of 16 bits or in [0, 1] as float32 in [0, 1]; refuse others."""
    if images.dtype == np.uint8:
        return images
    if images.dtype == np.uint16:
        return images.astype(np.float32) / np.float32(2**16 - 1)
    if images.dtype.kind != "f":
        raise ValueError(f"images in {place} must be uint8, uint16 or floating point in [0, 1], got {images.dtype}.")
    check_finite(images, place)
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(
            f"floating-point images in {place} must be in [0, 1], got {low:g} to {high:g}: divide them by what white "
            "is, and leave normalising to the classifier."
        )
    return images.astype(np.float32)


def check_finite(images: Pixels, place: str, what: str = "images") -> None:
    """Refuse images (N, H, W, C) or vectors (N, F), or a single image (H, W, C), with values that are no numbers."""
    if np.isfinite(images.min()) and np.isfinite(images.max()):  # a NaN is passed on by both
        return
    rows = images.reshape(1 if images.ndim == 3 else len(images), -1)
    bad = [row for row, pixels in enumerate(rows) if not np.isfinite(pixels).all()]
    kind = "NaN" if any(np.isnan(rows[row]).any() for row in bad) else "infinity"
    raise ValueError(
        f"{place} holds {kind} in {len(bad)} of {len(rows)} {what} (row {some([str(row) for row in bad])}): "
        "leave these rows out."
    )
