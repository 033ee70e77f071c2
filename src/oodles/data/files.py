"""A user's own images: ``.npz`` arrays and folders of image files. Nothing is unpickled; all fits into memory."""

import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from oodles.data.image_set import PLAIN, Augment, ImageSet
from oodles.data.suite import Suite
from oodles.spelling import suggestion

Shape = tuple[int, int, int]
Pixels = NDArray[Any]

PARTS = ("train", "validation", "test", "outliers", "near", "far")
ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)  # Rec. 601, as Pillow has it


@dataclass(frozen=True)
class _Found:
    """What lies at a path, before it is brought to one shape: images (H, W, C), and class names where it has some."""

    path: Path
    images: Pixels | list[Pixels]
    labels: NDArray[np.int64] | None
    classes: tuple[str, ...]
    names: tuple[str, ...]


def read_set(path: Path, input_shape: Shape | None = None) -> ImageSet:
    """See :func:`oodles.data.read_images`."""
    found = _read(path)
    labels = found.labels if found.labels is not None and not path.is_dir() else np.full(len(found.images), -1)
    return ImageSet(_converted(found.images, input_shape or _one_shape(found)), labels, names=found.names)


def read_suite(folder: Path, seed: int, augment: Augment | None = None) -> Suite:
    """See :func:`oodles.data.load_suite`."""
    paths = _sets_in(folder)
    for path in paths.values():
        if path.name not in {*PARTS, *(f"{part}.npz" for part in PARTS[:4])}:
            hint = suggestion(path.stem, PARTS, "move it elsewhere.")
            raise ValueError(f"{folder} may hold {', '.join(PARTS)}, got {path.name!r}{hint}")
    for part in ("train", "test"):
        if part not in paths:
            raise FileNotFoundError(f"{folder} must hold {part}.npz or a folder {part}, but has neither.")
    found = _read(paths["train"])
    classes, shape = _classes(found), _one_shape(found)
    augment = augment or Augment(shift=min(shape[1:]) // 8)

    def labelled(path: Path) -> ImageSet:
        other = _read(path)
        return ImageSet(_converted(other.images, shape), _labels(other, classes), names=other.names)

    def unknown(path: Path, augment: Augment = PLAIN) -> ImageSet:
        other = _read(path)
        return ImageSet(
            _converted(other.images, shape), np.full(len(other.images), -1), augment, seed, names=other.names
        )

    train = ImageSet(_converted(found.images, shape), _labels(found, classes), augment, seed, found.names)
    if "validation" in paths:
        validation = labelled(paths["validation"])
    else:
        rows = np.random.default_rng(seed).permutation(len(train))
        tenth = max(1, round(len(train) / 10))
        validation, train = _rows(train, np.sort(rows[:tenth])), _rows(train, np.sort(rows[tenth:]))
    return Suite(
        name=folder.resolve().name,
        train=train,
        validation=validation,
        test=labelled(paths["test"]),
        classes=classes,
        outliers=unknown(paths["outliers"], augment) if "outliers" in paths else None,
        near={name: unknown(path) for name, path in _named_sets(paths, "near").items()},
        far={name: unknown(path) for name, path in _named_sets(paths, "far").items()},
    )


def _named_sets(paths: dict[str, Path], part: str) -> dict[str, Path]:
    if part not in paths:
        return {}
    sets = _sets_in(paths[part])
    if not sets:
        raise ValueError(f"{paths[part]} must hold one .npz file or one folder per set, but has none.")
    return sets


def _sets_in(folder: Path) -> dict[str, Path]:
    """The ``.npz`` files and folders in a folder, by name."""
    sets: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.name.startswith(".") or not (path.is_dir() or path.suffix == ".npz"):
            continue
        name = path.name.removesuffix(".npz")
        if name in sets:
            raise ValueError(f"{folder} must hold {name}.npz or a folder {name}, but has both: keep one.")
        sets[name] = path
    return sets


def _read(path: Path) -> _Found:
    if path.suffix == ".npz" and path.is_file():
        return _read_arrays(path)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if _is_image(file.relative_to(path)))
        within = [file.relative_to(path) for file in files]
        classes = tuple(sorted({file.parts[0] for file in within if len(file.parts) > 1}))
        flat = any(len(file.parts) == 1 for file in within)
        labels = None if flat else np.array([classes.index(file.parts[0]) for file in within], dtype=np.int64)
        names = tuple(file.as_posix() for file in within)
        found = _Found(path, [_read_file(file) for file in files], labels, classes, names)
    elif path.exists():
        found = _Found(path, [_read_file(path)], None, (), (path.name,))
    else:
        raise FileNotFoundError(f"images must be at an existing path, but nothing is at {path}.")
    if not found.images:
        raise ValueError(f"{path} must hold images ({', '.join(sorted(ENDINGS))}), but has none.")
    return found


def _is_image(file: Path) -> bool:
    return file.suffix.lower() in ENDINGS and not any(part.startswith(".") for part in file.parts)


def _read_file(path: Path) -> Pixels:
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"it has more than 8 bits per channel (mode {image.mode})")
            return np.atleast_3d(np.asarray(image.convert("L" if image.mode in ("1", "L", "LA") else "RGB")))
    except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be used as an image: {error}.") from error


def _read_arrays(path: Path) -> _Found:
    try:
        with path.open("rb") as file:
            if not zipfile.is_zipfile(file):
                raise ValueError("it is no zip archive, or one that was cut off")
            file.seek(0)
            with np.load(file, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in ("images", "labels", "classes") if name in archive}
    except Exception as error:  # damaged archives fail in many ways
        raise ValueError(f"{path} cannot be read as .npz arrays: {error}.") from error
    if "images" not in arrays:
        raise ValueError(f"{path} must hold an array called images, but has none.")
    images = _checked_images(arrays["images"], path)
    labels = arrays.get("labels")
    if labels is not None and (labels.dtype.kind not in "iu" or labels.shape != images.shape[:1]):
        raise ValueError(
            f"labels in {path} must be {len(images)} whole numbers, got {labels.dtype} of shape {labels.shape}."
        )
    names = tuple(str(row) for row in range(len(images)))
    classes = tuple(str(name) for name in arrays.get("classes", ()))
    return _Found(path, images, None if labels is None else labels.astype(np.int64), classes, names)


def _checked_images(images: Pixels, path: Path) -> Pixels:
    """The images as (N, H, W, C), uint8 or float32."""
    if images.ndim == 3:
        images = images[..., None]
    elif images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
        images = np.moveaxis(images, 1, 3)
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise ValueError(
            f"images in {path} must have shape (N, H, W), (N, H, W, C) or (N, C, H, W) with 1 or 3 channels, "
            f"got {images.shape}."
        )
    if images.size == 0:
        raise ValueError(f"{path} must hold at least one image, got shape {images.shape}.")
    if images.dtype == np.uint8:
        return images
    if images.dtype.kind != "f":
        raise ValueError(f"images in {path} must be uint8 or floating point in [0, 1], got {images.dtype}.")
    low, high = images.min(), images.max()
    if not (low >= 0 and high <= 1):
        raise ValueError(f"floating-point images in {path} must be in [0, 1], got {low:g} to {high:g}: divide them.")
    return images.astype(np.float32)


def _classes(train: _Found) -> tuple[str, ...]:
    """Names of the known classes, of which each has at least one row to train on."""
    if train.labels is None:
        raise ValueError(f"{train.path} must tell classes: give labels in a .npz file, or one folder per class.")
    count = len(train.classes) or int(train.labels.max()) + 1
    missing = sorted(set(range(min(count, len(train.labels) + 1))) - set(train.labels.tolist()))
    if missing:
        raise ValueError(
            f"every class must have images in {train.path}, class {missing[0]} has none: number classes from 0 up."
        )
    if count < 2:
        raise ValueError(f"{train.path} must hold at least 2 classes, got {count}.")
    if len(set(train.classes)) < len(train.classes):
        raise ValueError(f"classes in {train.path} must have different names, got {', '.join(train.classes)}.")
    return train.classes or tuple(str(index) for index in range(count))


def _labels(found: _Found, classes: tuple[str, ...]) -> NDArray[np.int64]:
    """Class ids in the order of ``classes``."""
    if found.labels is None:
        raise ValueError(f"{found.path} must tell classes: give labels in a .npz file, or one folder per class.")
    if strange := sorted(set(found.classes) - set(classes)):
        raise ValueError(f"classes in {found.path} must be those of train, got {strange[0]!r}.")
    own = len(found.classes or classes)
    low, high = int(found.labels.min()), int(found.labels.max())
    if low < 0 or high >= own:
        raise ValueError(f"labels in {found.path} must be 0 to {own - 1}, got {low if low < 0 else high}.")
    places = np.array([classes.index(name) for name in found.classes or classes], dtype=np.int64)
    return places[found.labels]


def _one_shape(found: _Found) -> Shape:
    """(C, H, W) of images that have one size; grey ones among colour ones count as colour."""
    if isinstance(found.images, np.ndarray):
        _, height, width, channels = found.images.shape
        return channels, height, width
    (height, width), *others = sorted({image.shape[:2] for image in found.images})
    if others:
        raise ValueError(
            f"images in {found.path} must have one size, got {height} × {width} and {others[0][0]} × {others[0][1]}: "
            "resize them first."
        )
    return max(image.shape[2] for image in found.images), height, width


def _converted(images: Pixels | Sequence[Pixels], shape: Shape) -> Pixels:
    """Images (N, C, H, W) of one shape; those that have it already stay as they are."""
    channels, height, width = shape
    if channels not in (1, 3):
        raise ValueError(f"images read from files have 1 or 3 channels, but {channels} are asked for.")
    if not (isinstance(images, np.ndarray) and images.shape[1:] == (height, width, channels)):
        images = np.stack([_fitted(image, shape) for image in images])
    return np.ascontiguousarray(np.moveaxis(images, 3, 1))


def _fitted(image: Pixels, shape: Shape) -> Pixels:
    channels, height, width = shape
    if image.shape[2] > channels:
        luma = image @ LUMA
        image = (np.rint(luma) if image.dtype == np.uint8 else luma).astype(image.dtype)[..., None]
    if image.shape[:2] != (height, width):
        bilinear = Image.Resampling.BILINEAR
        planes = [Image.fromarray(np.ascontiguousarray(plane)) for plane in np.moveaxis(image, 2, 0)]
        image = np.stack([np.asarray(ImageOps.fit(plane, (width, height), bilinear)) for plane in planes], axis=2)
    return np.broadcast_to(image, (height, width, channels))


def _rows(images: ImageSet, rows: NDArray[np.int64]) -> ImageSet:
    names = tuple(images.names[row] for row in rows)
    return ImageSet(images.images[rows], images.labels[rows], images.augment, images.seed, names)
