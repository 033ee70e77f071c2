"""Image files of 8 bits per channel: a single one, a folder of them, or those that a text file lists."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from oodles.data.raw import Pixels, RawImages

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm"}
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF


@dataclass(frozen=True, eq=False)
class Files:
    """Image files, decoded one by one."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Pixels:
        path = self.folder / self.names[row]
        try:
            with Image.open(path) as opened:
                return pixels(ImageOps.exif_transpose(opened))
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be used as an image: {error}.") from error

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        return [self._size(self.folder / name) for name in self.names]

    def mark(self, row: int) -> str:
        name = self.names[row]
        return f"{name} {(self.folder / name).stat().st_size}"

    def _size(self, path: Path) -> tuple[int, int, int]:
        try:
            with Image.open(path) as image:
                _check_depth(image)
                turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
                height, width = image.size if turned else image.size[::-1]
                return height, width, 1 if _is_grey(image) else 3
        except (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise ValueError(f"{path} cannot be used as an image: {error}.") from error


def read_file(path: Path) -> RawImages:
    """Read a single image."""
    return RawImages(str(path), Files(path.parent, (path.name,)), None, (), (path.name,))


def read_folder(folder: Path) -> RawImages:
    """Read all images at any depth; the first folder tells the class, if every image is in one."""
    within = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    within = [file for file in within if not any(part.startswith(".") for part in file.parts)]
    if not within:
        raise ValueError(f"{folder} must hold images ({', '.join(sorted(ENDINGS))}), but has none.")
    classes = _in_order({file.parts[0] for file in within if len(file.parts) > 1})
    flat = any(len(file.parts) == 1 for file in within)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = None if flat else np.array([numbers[file.parts[0]] for file in within], dtype=np.int64)
    names = tuple(file.as_posix() for file in within)
    return RawImages(str(folder), Files(folder, names), labels, classes, names)


def read_list(path: Path, folder: Path) -> RawImages:
    """Read the images that a text file names: a path inside ``folder``, a blank and a class id on each line.

    Where no line ends on a number, the images have no labels, and a path may be followed by something else.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of images: {error}.") from error
    places = [(f"line {number} of {path}", line) for number, line in enumerate(lines, start=1) if line]
    if not places:
        raise ValueError(f"{path} must list images, but is empty.")
    labels = [_class_id(line, place) for place, line in places]
    told = [label for label in labels if label is not None]
    names = []
    for (place, line), label in zip(places, labels, strict=True):
        if told and label is None:
            raise ValueError(f"{place} must be a path, a blank and a class id, as other lines are, got {line!r}.")
        if label is not None:
            name = line.rsplit(maxsplit=1)[0]
        else:
            name = line if (folder / line).is_file() else line.split()[0]
        if not (folder / name).is_file():
            hint = ": path and class id are separated by a blank" if "," in line else ""
            raise FileNotFoundError(f"{place} names {name}, but nothing is at {folder / name}{hint}.")
        names.append(name)
    ids = np.array(told, dtype=np.int64) if told else None
    return RawImages(str(path), Files(folder, tuple(names)), ids, (), tuple(names))


def pixels(image: Image.Image) -> Pixels:
    """Return an image as (H, W, C) in bytes, grey or colour.

    Raises:
        ValueError: for more than 8 bits per channel.
    """
    _check_depth(image)
    return np.atleast_3d(np.asarray(image.convert("L" if _is_grey(image) else "RGB")))


def _in_order(classes: set[str]) -> tuple[str, ...]:
    """Sort names of classes by the alphabet, or as numbers where all are whole numbers."""
    numbered = all(name.isdecimal() for name in classes)
    return tuple(sorted(classes, key=lambda name: (int(name) if numbered else 0, name)))


def _class_id(line: str, place: str) -> int | None:
    """Return the number that a line ends on, if it does."""
    words = line.rsplit(maxsplit=1)
    try:
        float(words[1])
    except (IndexError, ValueError):
        return None
    if not re.fullmatch(r"-?[0-9]{1,18}", words[1]):  # as many digits as surely fit into int64
        raise ValueError(f"{place} must end on a class id, a whole number, got {words[1]!r}.")
    return int(words[1])


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA")


def _check_depth(image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode})")
