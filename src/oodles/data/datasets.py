"""Images of any map-style ``Dataset``, or of a list."""

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from oodles.data import decoded, preprocess
from oodles.data.arrays import in_range
from oodles.data.image_files import Files
from oodles.data.names import shown, some
from oodles.data.preprocess import Fit, Pixels
from oodles.data.raw import Listed, RawImages
from oodles.importing import in_words

_ONE_BY_ONE = threading.Lock()
"""A data set of somebody's own need not bear threads."""


@dataclass(frozen=True, eq=False)
class Items(Listed):
    """The images of a data set, one by one."""

    dataset: Any
    place: str

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Pixels:
        with _ONE_BY_ONE:
            return _item(self.dataset, row, self.place)[0]

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        """Return that of the first one for all: to look at every item would be to decode them all."""
        height, width, channels = self[0].shape
        return [(height, width, channels)] * len(self)

    def mark(self, row: int) -> str:
        return f"{self.place} {row}"


class Kept(list[Pixels], Listed):
    """Images in memory, of any sizes."""

    def mark(self, row: int) -> str:
        return str(row)


def read_dataset(dataset: Any, place: str) -> RawImages:
    """Read the images and labels of a data set, into memory where they fit.

    Raises:
        TypeError: for something that is no map-style data set.
        ValueError: for items that are not an image and a class id.
    """
    if not (hasattr(dataset, "__len__") and hasattr(dataset, "__getitem__")):
        raise TypeError(f"{place} must be a map-style data set, with a length and rows, got {type(dataset).__name__}.")
    if len(dataset) == 0:
        raise ValueError(f"{place} must hold at least one image, but has length 0.")
    names = tuple(str(row) for row in range(len(dataset)))
    first, label = _item(dataset, 0, place)
    if first.nbytes * len(dataset) <= decoded.IN_MEMORY:
        items = list(_items(dataset, place))
        labels = np.array([label for _, label in items], dtype=np.int64)
        return RawImages(place, Kept(image for image, _ in items), labels, (), names)
    targets: Any = getattr(dataset, "targets", ())
    if len(targets) != len(dataset) or targets[0] != label:
        targets = [label for _, label in _items(dataset, place)]
    listed: Listed = Items(dataset, place)
    return RawImages(place, listed, np.asarray(targets).astype(np.int64), (), names)


@dataclass(frozen=True, eq=False)
class Several(Listed):
    """Images of a list, one by one: files, Pillow's, tensors (C, H, W), or arrays (H, W) or (H, W, C)."""

    images: Sequence[Any]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, row: int) -> Pixels:
        image = self.images[row]
        return _file(image)[0] if isinstance(image, str | Path) else _pixels(image, f"the list, at {row},")

    def fitted(self, row: int, fit: Fit) -> Pixels:
        image = self.images[row]
        return _file(image).fitted(0, fit) if isinstance(image, str | Path) else super().fitted(row, fit)

    def mark(self, row: int) -> str:
        return str(row)


def read_list(images: Sequence[Any]) -> RawImages:
    """Read images one by one, named by their files or else by their places in the list.

    Raises:
        FileNotFoundError: where there is no such file.
        ValueError: for an empty list, and by what is read for images that cannot be used.
    """
    if not len(images):
        raise ValueError("images must be at least one, got an empty list.")
    files = [Path(image) for image in images if isinstance(image, str | Path)]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise FileNotFoundError(f"images must be in files that are there, and these are not: {some(missing)}.")
    names = (str(image) if isinstance(image, str | Path) else str(row) for row, image in enumerate(images))
    return RawImages("the list of images", Several(images), None, (), tuple(map(shown, names)))


def _file(path: str | Path) -> Files:
    return Files(Path(path).parent, (Path(path).name,))


def _items(dataset: Any, place: str) -> Iterator[tuple[Pixels, int]]:
    return (_item(dataset, row, place) for row in range(len(dataset)))


def _item(dataset: Any, row: int, place: str) -> tuple[Pixels, int]:
    try:
        item = dataset[row]
    except Exception as error:  # it is the user's, and may do anything
        raise ValueError(f"{place} broke at row {row}: {in_words(error)}.") from error
    if not isinstance(item, tuple | list) or len(item) != 2:
        raise ValueError(f"items of {place} must be (image, class id), got {type(item).__name__} at {row}.")
    image, label = item
    if np.ndim(label) != 0 or np.asarray(label).dtype.kind not in "iu" or int(label) >= 2**63:
        raise ValueError(f"items of {place} must be (image, class id), got {label!r} for a class at {row}.")
    return _pixels(image, f"{place}, at {row},"), int(label)


def _pixels(image: Any, place: str) -> Pixels:
    """Return an image as (H, W, C): one of Pillow's, a tensor (C, H, W), or an array (H, W) or (H, W, C)."""
    if isinstance(image, Image.Image):
        try:
            return preprocess.pixels(image)
        except (OSError, SyntaxError, ValueError, EOFError) as error:  # Pillow may decode no sooner
            raise ValueError(f"images in {place} cannot be used: {in_words(error)}.") from error
    if isinstance(image, torch.Tensor):
        pixels = image.detach().cpu().numpy()
        pixels = np.moveaxis(pixels, 0, 2) if pixels.ndim == 3 else pixels
    else:
        pixels = np.asarray(image)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[2] not in (1, 3) or pixels.size == 0:
        raise ValueError(
            f"images in {place} must be Pillow's, tensors (C, H, W) or arrays (H, W, C) with 1 or 3 channels, "
            f"got {type(image).__name__} of shape {np.shape(image)}."
        )
    return in_range(pixels, place)
