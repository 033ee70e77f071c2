"""Images that are in two sets, found by their pixels as the network gets them."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.data.decoded import Decoded
from oodles.data.image_set import ImageSet
from oodles.data.raw import called
from oodles.data.suite import Suite
from oodles.remarks import warn

NAMED = 5
"""How many images of an overlap are named."""
LEARNT = ("train", "outliers", "wild")
"""Sets that are trained on."""


@dataclass(frozen=True)
class Overlap:
    """Images of one set whose pixels are in another set too.

    Args:
        one: name of a set.
        other: name of another.
        count: how many different images are in both.
        names: of the first few: how they are called in ``one`` and in ``other``.
        vectors: whether they are feature vectors, and no images.
    """

    one: str
    other: str
    count: int
    names: tuple[tuple[str, str], ...]
    vectors: bool = False

    def __str__(self) -> str:
        named = ", ".join(f"{one} = {other}" for one, other in self.names)
        more = ", …" if self.count > len(self.names) else ""
        what = called(self.vectors, self.count)
        return f"{self.one} and {self.other} share {self.count} {what}: {named}{more}"


def by_content(images: NDArray[Any] | Decoded) -> dict[bytes, int]:
    """Return the first row with each content, by a hash of it; bytes and what they are in [0, 1] are the same."""
    first: dict[bytes, int] = {}
    for row, content in enumerate(hashes(images)):
        first.setdefault(content, row)
    return first


def repeats(images: ImageSet, first: Mapping[bytes, int]) -> tuple[tuple[str, str], ...]:
    """Return the names of rows whose content an earlier row has, each with that row's, by :func:`by_content`."""
    if len(first) == len(images):
        return ()
    rows = enumerate(hashes(images.images))
    return tuple((_name(images, row), _name(images, first[content])) for row, content in rows if first[content] != row)


def hashes(images: NDArray[Any] | Decoded) -> Iterator[bytes]:
    """Give a hash of what is in each row, see :func:`by_content`."""
    for start in range(0, len(images), 256):
        yield from (blake2b(content, digest_size=16).digest() for content in _contents(images[start : start + 256]))


def _contents(images: NDArray[Any]) -> Iterator[bytes]:
    if images.dtype == np.uint8:
        yield from (image.tobytes() for image in images)
        return
    images = images.astype(np.float32)
    if images.ndim == 2:
        yield from (vector.tobytes() for vector in images)
        return
    levels = np.rint(255 * images)
    are_bytes = (np.abs(255 * images - levels) < 1e-3).all((1, 2, 3))
    for image, level, is_bytes in zip(images, levels, are_bytes, strict=True):
        yield level.astype(np.uint8).tobytes() if is_bytes else image.tobytes()


def find_overlaps(sets: Mapping[str, ImageSet], contents: Mapping[str, Mapping[bytes, int]]) -> Iterable[Overlap]:
    """Give every two sets that share images, by what :func:`by_content` says of each."""
    for one, other in combinations(contents, 2):
        shared = [(contents[one][content], row) for content, row in contents[other].items() if content in contents[one]]
        if shared:
            names = tuple((_name(sets[one], a), _name(sets[other], b)) for a, b in shared[:NAMED])
            yield Overlap(one, other, len(shared), names, sets[one].images.ndim == 2)


def warn_of_overlaps(suite: Suite) -> None:
    """Warn where images that are trained on are in another set too: what is measured there says nothing of new images.

    Sets that are decoded on demand are left out, since looking at all of them takes as long as an epoch.
    """
    sets = {name: images for name, images in suite.sets().items() if isinstance(images.images, np.ndarray)}
    overlaps = find_overlaps(sets, {name: by_content(images.images) for name, images in sets.items()})
    found = [overlap for overlap in overlaps if {overlap.one, overlap.other} & set(LEARNT)]
    if found:
        counts = ", ".join(f"{overlap.one} and {overlap.other} ({overlap.count})" for overlap in found)
        warn(
            f"{suite.name} has the same {called(suite.vectors)} in {counts}: what is measured on these says nothing of "
            "new ones, and oodles suite check names them."
        )


def _name(images: ImageSet, row: int) -> str:
    return images.names[row] if images.names else str(row)
