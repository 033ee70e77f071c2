"""Images of a source before they get one shape: in memory, or in a list that decodes them one by one."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from oodles.data.names import some
from oodles.data.preprocess import Fit, Pixels, fit_image


def called(vectors: bool, count: int = 2) -> str:
    """Return what rows are called in sentences: images, unless they are feature vectors, as of tables and texts."""
    return ("row" if vectors else "image") + "s" * (count != 1)


Places = Sequence[int] | NDArray[np.int64]
"""Where rows stand among those that were asked for."""


class BrokenImages(ValueError):
    """Images that cannot be used; made by :func:`broken_images`, since loaders pass on nothing but the sentence."""

    reasons: Mapping[str, str] = {}
    """What is wrong, by the file."""


def broken_images(reasons: Mapping[str, str]) -> BrokenImages:
    """Return the error that names images and says what is wrong with them."""
    if len(reasons) == 1:
        ((path, reason),) = reasons.items()
        error = BrokenImages(f"{path} cannot be used as an image: {reason}.")
    else:
        named = some([f"{path} ({reason})" for path, reason in reasons.items()])
        error = BrokenImages(f"{len(reasons)} files cannot be used as images: {named}.")
    error.reasons = reasons
    return error


class Listed(Protocol):
    """Images that are decoded one by one: (H, W, C) each, of any size, uint8 or float32 in [0, 1]."""

    def __len__(self) -> int: ...

    def __getitem__(self, row: int, /) -> Pixels: ...

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        """Return (H, W, C) of every image, at less cost than decoding where that is possible."""
        return [(image.shape[0], image.shape[1], image.shape[2]) for image in map(self.__getitem__, range(len(self)))]

    def mark(self, row: int, /) -> str:
        """Return a text that changes with the image of a row, without decoding it."""
        ...

    def marks(self, rows: NDArray[np.int64], /) -> Iterator[str]:
        """Give texts that change with the images of rows and their order, without decoding them."""
        return (self.mark(int(row)) for row in rows)

    def stamp(self, row: int, /) -> str | None:
        """Return a text that changes whenever the file of a row is written; none of images that are in no file."""
        return None

    def fitted(self, row: int, fit: Fit, /) -> Pixels:
        """Return the image of a row in the shape that is asked for."""
        return fit_image(self[row], fit.shape, fit.resize)

    def fitted_rows(self, rows: NDArray[np.int64], fit: Fit, /) -> Iterator[tuple[Places, Pixels]]:
        """Give the images (n, H, W, C) of n rows at a time, with their places in ``rows``, in any order."""
        return (([place], self.fitted(int(row), fit)[None]) for place, row in enumerate(rows))


@dataclass(frozen=True)
class RawImages:
    """Images of a source, and what it says of them.

    Args:
        place: the source's name in errors.
        images: (N, H, W, C), uint8 or float32 in [0, 1], or a list that decodes them; or feature vectors (N, F).
        labels: whole numbers, where the source has some.
        classes: names of the classes that labels count, where the source has some.
        names: one per row.
        without: folders in the place of classes that have no image, and what they hold instead.
        columns: names of the features of a table, empty elsewhere.
    """

    place: str
    images: Pixels | Listed
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]
    without: Mapping[str, str] = field(default_factory=dict)
    columns: tuple[str, ...] = ()

    @property
    def vectors(self) -> bool:
        """Tell whether they are feature vectors."""
        return isinstance(self.images, np.ndarray) and self.images.ndim == 2

    def take(self, rows: NDArray[np.int64]) -> "RawImages":
        """Return some of the rows."""
        images = self.images[rows] if isinstance(self.images, np.ndarray) else Chosen(self.images, rows)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=images, labels=labels, names=tuple(self.names[row] for row in rows))


@dataclass(frozen=True, eq=False)
class Chosen(Listed):
    """Some rows of a list."""

    images: Listed
    rows: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, row: int) -> Pixels:
        return self.images[int(self.rows[row])]

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        sizes = self.images.sizes()
        return [sizes[row] for row in self.rows]

    def mark(self, row: int) -> str:
        return self.images.mark(int(self.rows[row]))

    def stamp(self, row: int) -> str | None:
        return self.images.stamp(int(self.rows[row]))

    def marks(self, rows: NDArray[np.int64]) -> Iterator[str]:
        return self.images.marks(self.rows[rows])

    def fitted(self, row: int, fit: Fit) -> Pixels:
        return self.images.fitted(int(self.rows[row]), fit)

    def fitted_rows(self, rows: NDArray[np.int64], fit: Fit) -> Iterator[tuple[Places, Pixels]]:
        return self.images.fitted_rows(self.rows[rows], fit)


@dataclass(frozen=True, eq=False)
class Joined(Listed):
    """The images of several sources, one after the other."""

    parts: Sequence[Pixels | Listed]

    def __len__(self) -> int:
        return sum(map(len, self.parts))

    def __getitem__(self, row: int) -> Pixels:
        part, own = self._source(row)
        return part[own]

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        sizes: list[tuple[int, int, int]] = []
        for part in self.parts:
            sizes += [image.shape for image in part] if isinstance(part, np.ndarray) else part.sizes()
        return sizes

    def mark(self, row: int) -> str:
        (mark,) = self.marks(np.array([row]))
        return mark

    def marks(self, rows: NDArray[np.int64]) -> Iterator[str]:
        numbers, own = self._sources(rows)
        for number, places in groupby(range(len(rows)), numbers.__getitem__):
            part, within = self.parts[number], own[list(places)]
            if isinstance(part, np.ndarray):
                yield from (blake2b(part[row].tobytes()).hexdigest() for row in within)
            else:
                yield from part.marks(within)

    def stamp(self, row: int) -> str | None:
        part, own = self._source(row)
        return None if isinstance(part, np.ndarray) else part.stamp(own)

    def fitted(self, row: int, fit: Fit) -> Pixels:
        part, own = self._source(row)
        return super().fitted(row, fit) if isinstance(part, np.ndarray) else part.fitted(own, fit)

    def fitted_rows(self, rows: NDArray[np.int64], fit: Fit) -> Iterator[tuple[Places, Pixels]]:
        numbers, own = self._sources(rows)
        for number in np.unique(numbers):
            part, places = self.parts[number], np.flatnonzero(numbers == number)
            if isinstance(part, np.ndarray):
                yield from (([place], self.fitted(int(rows[place]), fit)[None]) for place in places.tolist())
            else:
                yield from ((places[few], images) for few, images in part.fitted_rows(own[places], fit))

    def _source(self, row: int) -> tuple[Pixels | Listed, int]:
        """Return the source of a row, and its row there."""
        (number,), (own,) = self._sources(np.array([row]))
        return self.parts[number], int(own)

    def _sources(self, rows: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the number of the source of each row, and its row there."""
        ends = np.cumsum([len(part) for part in self.parts])
        numbers = np.searchsorted(ends, rows, side="right")
        return numbers, rows - np.concatenate([[0], ends])[numbers]


def join(raws: Sequence[RawImages]) -> RawImages:
    """Return the images of several sources as those of one, without labels; names begin with their source's."""
    if len(raws) == 1:
        return raws[0]
    names = tuple(f"{raw.place}/{name}" for raw in raws for name in raw.names)
    places = " and ".join(raw.place for raw in raws)
    if not any(raw.vectors for raw in raws):
        return RawImages(places, Joined([raw.images for raw in raws]), None, (), names)
    widths = {raw.images.shape[1:] for raw in raws if isinstance(raw.images, np.ndarray)}
    if len(widths) > 1 or not all(raw.vectors for raw in raws):
        raise ValueError(f"{places} must hold vectors of one width to be one set: leave one of them out.")
    images = np.concatenate([raw.images for raw in raws if isinstance(raw.images, np.ndarray)])
    return RawImages(places, images, None, (), names, columns=raws[0].columns)
