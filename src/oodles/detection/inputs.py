"""What a detector is given: images of many kinds, or batches as a loop has them, checked and in batches."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from oodles.checks import check_whole
from oodles.classifier import Inputs, first_of
from oodles.data import ImageSet, from_images, read_images
from oodles.data.arrays import from_arrays
from oodles.data.conversion import check_shape
from oodles.data.features import Features
from oodles.inference import finite_rows, read_batch

SLACK = 1e-3
"""By so much inputs may lie outside [0, 1], whatever the precision that they were rounded to."""
DRAFTED = "at the least of 1, 1/2, 1/4, 1/8 of its size that need not be enlarged"
Batches = Iterable[Any]


@dataclass(frozen=True)
class Preprocessing:
    """How images become inputs: what a suite does, so that new images are treated like those in training.

    Args:
        input_shape: (C, H, W), C being 1 for grey or 3 for RGB; inputs are in [0, 1], normalising is the classifier's.
        resize: pixels of the shorter side, of which the centre is cropped; without it, images are cropped about their
            centre to the aspect ratio and then resized. By Pillow's bilinear filter either way.
        draft: whether JPEG files are decoded no larger than needed; images that are not files are taken as they are.

    Raises:
        ValueError: for another number of channels, and a side that is cropped to more than there is.
    """

    input_shape: tuple[int, int, int]
    resize: int | None = None
    draft: bool = False

    def __post_init__(self) -> None:
        shape = tuple(self.input_shape)
        if len(shape) != 3:
            raise ValueError(f"input_shape must be (C, H, W), got {shape}.")
        for side in shape:
            check_whole("input_shape", side, low=1)
        object.__setattr__(self, "input_shape", shape)
        check_shape(self.input_shape)
        if self.resize is not None:
            check_whole("resize", self.resize, low=max(shape[1:]))
        if not isinstance(self.draft, bool):
            raise TypeError(f"draft must be True or False, got {self.draft!r}.")

    def as_dict(self) -> dict[str, Any]:
        """Describe it for other programs."""
        channels, height, width = self.input_shape
        one = {"shorter_side": self.resize} if self.resize else {"crop_first_to_aspect_ratio": [height, width]}
        return {
            "channels": "RGB" if channels == 3 else "grey, Rec. 601 luma",
            "layout": "NCHW",
            "dtype": "float32",
            "range": [0.0, 1.0],
            "normalisation": "inside the classifier",
            "resize": {**one, "interpolation": "bilinear, as Pillow's with its antialiasing"},
            "jpeg": f"decoded {DRAFTED}" if self.draft else "decoded whole",
            "crop": {"size": [height, width], "place": "centre"},
            "orientation": "upright by EXIF",
            "transparency": "on white",
        }


Reading = Preprocessing | Features
"""How images, tables or texts become rows."""


@dataclass
class Expected:
    """What the rows of inputs look like, as far as calibration rows or the preprocessing tell."""

    shape: tuple[int, ...] | None = None
    """Of one row; none of dictionaries."""
    unit_range: bool = False
    """True where all numbers are in [0, 1]."""
    dtype: str = "float32"

    def read(self, batch: Any) -> Inputs:
        """Return the inputs of a batch, a tensor in the precision that the classifier reads.

        Raises:
            ValueError: for inputs of another shape, range or kind of number, and a dictionary in a tensor's place.
        """
        inputs, _ = read_batch(batch, "Inputs")
        if isinstance(inputs, Mapping):
            if self.shape is not None:
                raise ValueError(f"inputs must be one tensor (N, {_sides(self.shape)}), got a dictionary.")
            return inputs
        if self.shape is not None:
            self._check(inputs, self.shape)
        dtype: torch.dtype = getattr(torch, self.dtype)
        if _kind(inputs.dtype) != _kind(dtype):
            got = str(inputs.dtype).removeprefix("torch.")
            raise ValueError(f"inputs must be {self.dtype} numbers, got {got}: convert them, x.to(torch.{self.dtype}).")
        return inputs.to(dtype)

    def _check(self, rows: Tensor, shape: tuple[int, ...]) -> None:
        if tuple(rows.shape[1:]) != shape:
            hint = ": a single one needs another dimension, x[None]" if tuple(rows.shape) == shape else ""
            raise ValueError(f"inputs must have shape (N, {_sides(shape)}), got {tuple(rows.shape)}{hint}.")
        if self.unit_range and (rows := rows.detach()[finite_rows(rows)]).numel():  # the others are never accepted
            low, high = (float(bound) for bound in rows.aminmax())
            if not (low >= -SLACK and high <= 1 + SLACK):
                hint = ": divide by 255" if high > 2 and low >= 0 else ": leave normalising to the classifier"
                raise ValueError(f"inputs must be in [0, 1], got {low:.3g} to {high:.3g}{hint}.")


@dataclass
class Observed:
    """Batches of a loader that are passed on, while their rows' shape and range are noted.

    Raises:
        ValueError: behind the last batch, for rows that are not finite.
    """

    loader: Iterable[Any]
    shapes: set[tuple[int, ...] | None] = field(default_factory=set)
    low: float = 0.0
    high: float = 0.0
    rows: int = 0
    dtype: str = "float32"
    example: Any = None
    """The first batch."""

    def __iter__(self) -> Iterator[Any]:
        broken = 0
        for batch in self.loader:
            inputs, _ = read_batch(batch, "A batch of the validation loader")
            self.example = inputs if self.example is None else self.example
            one = isinstance(inputs, Tensor)
            first = first_of(inputs)
            self.rows += len(first)
            broken += int((~finite_rows(inputs)).sum())
            self.shapes.add(tuple(first.shape[1:]) if one else None)
            self.dtype = str(first.dtype).removeprefix("torch.")
            if first.numel() and not first.is_complex():
                low, high = (float(bound) for bound in first.detach().aminmax())
                self.low, self.high = min(self.low, low), max(self.high, high)
            yield batch
        if broken:  # said before what comes of them is called not finite, too
            raise ValueError(
                f"Validation rows must be finite, as no other row is accepted later, got NaN or infinity in {broken} "
                f"of {self.rows}: leave them out, or fill them in before they reach the detector."
            )

    def expected(self) -> Expected:
        """Return what rows look like that are like those seen; images in [0, 1] tell their range, other rows do not."""
        shape = next(iter(self.shapes)) if len(self.shapes) == 1 else None
        image = shape is not None and len(shape) == 3 and self.dtype.startswith(("float", "bfloat"))
        return Expected(shape, image and self.low >= -SLACK and self.high <= 1 + SLACK, self.dtype)


def as_batches(given: Any, expected: Expected, preprocessing: Reading | None) -> tuple[Batches, Sequence[str]]:
    """Return inputs as batches, checked one by one as they come, and their names where they have some.

    Args:
        given: a path, of an image, a folder, an array or a table; an image of Pillow's or an array, or a list of images
            and paths, or of texts; a tensor or a dictionary of tensors; or any iterable of batches, such as a
            ``DataLoader``.
        expected: what the rows look like.
        preprocessing: how images, tables or texts become rows; without it images must have the size already.

    Raises:
        TypeError: for what is none of these.
        ValueError: for images that cannot be used, and others than expected.
    """
    if isinstance(given, Tensor) and given.dtype == torch.uint8 and expected.unit_range:
        given = given.detach().cpu().numpy()
    if isinstance(given, np.ndarray) and not expected.unit_range:
        given = torch.from_numpy(np.ascontiguousarray(given))
    if isinstance(given, Tensor | Mapping):
        return _Checked([given], expected), ()
    images = given if isinstance(given, ImageSet) else None
    if isinstance(preprocessing, Features):
        images = _vectors(given, preprocessing) or images
    elif isinstance(given, str | Path):
        images = read_images(given, **_sizes_for(expected, preprocessing))
    elif (listed := _as_list(given, expected)) is not None:
        images = from_images(listed, **_sizes_for(expected, preprocessing))
    if images is not None:
        return _Checked(images.loader(), expected), images.names
    if not isinstance(given, Iterable) or (isinstance(given, Sequence) and not given):
        got = type(given).__name__ if not isinstance(given, Sequence) else "nothing"
        raise TypeError(f"inputs must be images, paths, tensors or a loader, got {got}.")
    return _Checked(given, expected), ()


def _vectors(given: Any, features: Features) -> ImageSet | None:
    """Return what a path or a list of texts holds, where one of these is given."""
    if isinstance(given, str | Path):
        return features.read(given)
    if isinstance(given, Sequence) and given and all(isinstance(one, str) for one in given):
        return features.of_texts(given)
    return None


def _as_list(given: Any, expected: Expected) -> Sequence[Any] | None:
    """Return a list of single images, where that is given: one of Pillow's, an array of one or several, or a list."""
    if isinstance(given, Image.Image):
        return [given]
    if isinstance(given, np.ndarray):
        if given.ndim == 3 and given.shape == expected.shape:
            return [torch.from_numpy(np.ascontiguousarray(given))]
        if given.ndim == 2 or (given.ndim == 3 and given.shape[2] in (1, 3)):
            return [given]
        return from_arrays("the array", given, None).images  # type: ignore[return-value]  # an array of images, and no list
    if isinstance(given, Sequence) and given:
        kinds = str | Path | Image.Image | np.ndarray
        single = all(isinstance(one, Tensor) and tuple(one.shape) == expected.shape for one in given)
        return given if single or isinstance(given[0], kinds) else None
    return None


def _sizes_for(expected: Expected, preprocessing: Preprocessing | None) -> dict[str, Any]:
    """Return how images are read; without preprocessing none is changed."""
    if preprocessing is not None:
        return asdict(preprocessing)
    if not expected.unit_range:
        raise ValueError(
            "Images and paths need to know how they become inputs: say preprocessing=Preprocessing((3, 224, 224)), or "
            "hand over tensors as the classifier reads them."
        )
    return {}


def _kind(dtype: torch.dtype) -> tuple[bool, bool, bool]:
    """Say what tells numbers apart that cannot stand for each other, whatever their precision."""
    return dtype.is_floating_point, dtype.is_complex, dtype == torch.bool


def _sides(shape: Sequence[int]) -> str:
    return ", ".join(map(str, shape))


@dataclass(frozen=True)
class _Checked:
    """Batches that are looked at before they are passed on, without their labels."""

    batches: Batches
    expected: Expected

    def __iter__(self) -> Iterator[Any]:
        return map(self.expected.read, self.batches)
