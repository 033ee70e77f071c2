"""Images in a ``.npy`` file that stay there: rows are read when they are asked for, and the others never."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Self, TypeGuard

import numpy as np
from numpy.typing import NDArray

from oodles.data import decoded
from oodles.data.arrays import from_arrays, in_range, open_npy, with_channels, with_labels
from oodles.data.decoded import Decoded, loader_workers, sample
from oodles.data.preprocess import Fit, Pixels, fit_image
from oodles.data.raw import Listed, Places, RawImages
from oodles.files import cache_folder, write_text

LOOKED_AT = 4096
"""Rows of a file that tell whether it has changed, and the first bytes of each that are read for that."""
BLOCK = 64
"""Rows that are read at once."""
PIECE, READ = 2**26, 2**20
"""Bytes of a file that a thread hashes before it takes others, and that it reads at once."""


def read_npy(path: Path, labels: Path | None = None) -> RawImages:
    """Read a single array: images (N, H, W), (N, H, W, C) or (N, C, H, W), or vectors (N, F); labels from another.

    Images that would take more memory than :data:`oodles.data.decoded.IN_MEMORY` stay on the disk.
    """
    rows, place = open_npy(path), str(path)
    ids = None if labels is None else open_npy(labels)
    if rows.ndim == 2:
        return from_arrays(place, rows, ids, vectors=True)
    images = with_channels(rows, place)
    if images.size * (1 if images.dtype == np.uint8 else 4) > decoded.IN_MEMORY:
        return with_labels(place, Mapped.of(images), ids)
    return from_arrays(place, np.array(images), ids)


def lies_in_file(images: Any) -> "TypeGuard[np.memmap[Any, Any]]":
    """Tell whether an array is a view of a file, and shows what is in it."""
    return isinstance(images, np.memmap) and images.filename is not None and images.mode != "c"


def stream(images: "np.memmap[Any, Any]") -> Decoded:
    """Return a view (N, C, H, W) of a file as images that are read when they are asked for."""
    listed = Mapped.of(np.moveaxis(images, 1, 3))
    return Decoded(listed, images.shape, listed[0].dtype)


@dataclass(frozen=True, eq=False)
class Mapped(Listed):
    """Images of an array in a file; their pickle is as small as this description.

    Args:
        path: the file.
        start: the byte at which the first number of the first image is.
        shape: (N, H, W, C).
        strides: bytes from one number to the next along each axis.
        dtype: of the numbers.
    """

    path: Path
    start: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    dtype: np.dtype[Any]

    @classmethod
    def of(cls, images: Pixels) -> Self:
        """Describe a view (N, H, W, C) of a file.

        Raises:
            ValueError: for rows that do not lie one after the other.
        """
        whole = images
        while isinstance(whole.base, np.memmap):
            whole = whole.base
        start = whole.offset + images.ctypes.data - whole.ctypes.data  # type: ignore[attr-defined]  # of a memmap
        path = Path(whole.filename)  # type: ignore[attr-defined]  # likewise
        mapped = cls(path, start, images.shape, images.strides, images.dtype)
        if len(images) > 1 and abs(images.strides[0]) < mapped._length:
            raise ValueError(
                f"images in {path} must lie one after the other to be read one by one, as np.save writes an array that "
                "np.ascontiguousarray has made: write it anew."
            )
        return mapped

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, row: int) -> Pixels:
        images: Pixels = self._rows(np.array([row]))[0]
        return images

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        _, height, width, channels = self.shape
        return [(height, width, channels)] * len(self)

    def mark(self, row: int) -> str:
        (mark,) = self.marks(np.array([row]))
        return mark

    def marks(self, rows: NDArray[np.int64]) -> Iterator[str]:
        """Give one text for all rows, of the content of the whole file, so that copies of it are the same data."""
        about = self.start, self.shape, self.strides, self.dtype.str
        yield f"{_content(self.path, self._stamp())} {about} {sha256(rows.astype('<i8').tobytes()).hexdigest()}"

    def fitted_rows(self, rows: NDArray[np.int64], fit: Fit) -> Iterator[tuple[Places, Pixels]]:
        channels, height, width = fit.shape
        as_they_are = fit.resize is None and self.shape[1:] == (height, width, channels)
        order = np.argsort(rows * self.strides[0], kind="stable")  # as they lie in the file
        for start in range(0, len(rows), BLOCK):
            places = order[start : start + BLOCK]
            images = self._rows(rows[places])
            yield places, images if as_they_are else np.stack([fit_image(one, fit.shape, fit.resize) for one in images])

    def _rows(self, rows: NDArray[np.int64]) -> Pixels:
        """Read images (n, H, W, C); numbers that are no bytes are looked at."""
        content = self._read(rows, self._length)
        strides = (self._length, *self.strides[1:])
        images: Pixels = np.ndarray((len(rows), *self.shape[1:]), self.dtype, content, self._before, strides)
        if self.dtype == np.uint8:
            return images
        return np.stack([in_range(image, f"{self.path}, at {row},") for image, row in zip(images, rows, strict=True)])

    def _read(self, rows: NDArray[np.int64], length: int) -> NDArray[np.uint8]:
        """Read the first bytes of rows."""
        content = np.empty((len(rows), length), np.uint8)
        starts = self.start - self._before + rows * self.strides[0]
        with self.path.open("rb", buffering=0) as file:
            for image, start, row in zip(content, starts.tolist(), rows, strict=True):
                file.seek(start)
                if file.readinto(image.data) != length:
                    raise ValueError(f"{self.path} was cut off while it was read, before the end of row {row}.")
        return content

    @property
    def _length(self) -> int:
        """Bytes from the first to the last of an image, with those in between that are of others."""
        steps = (abs(step) * (side - 1) for step, side in zip(self.strides[1:], self.shape[1:], strict=True))
        return sum(steps) + self.dtype.itemsize

    @property
    def _before(self) -> int:
        """Bytes of an image that lie before its first number, where axes run backwards."""
        axes = zip(self.strides[1:], self.shape[1:], strict=True)
        return sum(-step * (side - 1) for step, side in axes if step < 0)

    def _stamp(self) -> str:
        """Return a text that changes when the file is written, from its size, time of change and a few rows."""
        about = self.path.stat()
        facts = self.start, self.shape, self.strides, self.dtype.str, about.st_size, about.st_mtime_ns
        digest, rows = sha256(repr(facts).encode()), sample(len(self), LOOKED_AT)
        for start in range(0, len(rows), BLOCK):
            digest.update(self._read(rows[start : start + BLOCK], min(self._length, LOOKED_AT)).data)
        return digest.hexdigest()


@lru_cache(maxsize=16)
def _content(path: Path, stamp: str) -> str:
    """Return the fingerprint of a file's content, as it is kept with this stamp, or else from reading it all.

    It is kept in a hidden file beside it, or where that cannot be written in the user's cache, if anywhere.
    """
    name = sha256(bytes(path.absolute())).hexdigest()
    places = path.with_name(f".{path.name}.sha256"), cache_folder() / f"{name}.sha256"
    for place in places:
        with suppress(OSError, ValueError):
            kept, content = place.read_text(encoding="ascii").split()
            if kept == stamp:
                return content
    content = _hashed(path)
    for place in places:
        with suppress(OSError):
            write_text(place, f"{stamp} {content}\n")
            break
    return content


def _hashed(path: Path) -> str:
    """Hash a file in pieces, side by side: hashlib lets other threads run meanwhile."""

    def hashed(start: int) -> bytes:
        digest = sha256()
        with path.open("rb", buffering=0) as file:
            file.seek(start)
            for _ in range(PIECE // READ):
                digest.update(file.read(READ))
        return digest.digest()

    with ThreadPoolExecutor(loader_workers()) as threads:
        return sha256(b"".join(threads.map(hashed, range(0, path.stat().st_size, PIECE)))).hexdigest()
