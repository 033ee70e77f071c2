"""Decoded images on disk, for suites that name a folder for them: files are then decoded once, and not in every run."""

from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from oodles.data.decoded import Decoded
from oodles.data.preprocess import Fit, Pixels
from oodles.data.raw import Listed
from oodles.files import in_one_piece

BLOCK = 1024
"""Images that are decoded and written at once."""


def from_cache(decoded: Decoded, folder: Path) -> Pixels | Decoded:
    """Return images as they were kept, after decoding and keeping them where they were not.

    They are kept by the name, size and time of change of every file, and by the shape they are brought to. What is not
    in files is not kept.

    Raises:
        OSError: where the folder cannot be written.
    """
    name = _name(decoded)
    if name is None:
        return decoded.all() if decoded.fits else decoded
    path = folder / f"{name}.npy"
    if (images := _opened(path, decoded)) is None:
        with in_one_piece(path) as file:
            about = {"descr": decoded.dtype.str, "fortran_order": False, "shape": decoded.shape}
            np.lib.format.write_array_header_2_0(file, about)
            for start in range(0, len(decoded), BLOCK):
                file.write(decoded.decode(range(start, min(start + BLOCK, len(decoded)))).data)
        images = np.load(path, mmap_mode="r")
    return np.array(images) if decoded.fits else replace(decoded, listed=_Stored(images, decoded.listed))


@dataclass(frozen=True, eq=False)
class _Stored(Listed):
    """Images (N, C, H, W) in a file, in the place of the list that they were decoded from."""

    images: Pixels
    source: Listed

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Pixels:
        return np.moveaxis(self.images[row], 0, 2)

    def fitted(self, row: int, fit: Fit) -> Pixels:
        return self[row]

    def mark(self, row: int) -> str:
        return self.source.mark(row)


def _name(decoded: Decoded) -> str | None:
    """Return the fingerprint of files and shape; none where images are not in files."""
    digest = sha256(repr((decoded.shape, str(decoded.dtype), decoded.resize, decoded.draft)).encode())
    for row in range(len(decoded)):
        if (stamp := decoded.listed.stamp(row)) is None:
            return None
        digest.update(f"\n{stamp}".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:32]


def _opened(path: Path, decoded: Decoded) -> Any:
    """Open what was kept; nothing where it is not there, or is not what was written."""
    with suppress(OSError, ValueError):
        images = np.load(path, mmap_mode="r", allow_pickle=False)
        if images.shape == decoded.shape and images.dtype == decoded.dtype:
            return images
    return None
