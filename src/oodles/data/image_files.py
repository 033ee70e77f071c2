"""Image files of 8 bits per channel: a single one, a folder of them, or those that a text file lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from oodles.data.found import Found, Pixels

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


def read_file(path: Path) -> Found:
    """A single image."""
    return Found(str(path), Files(path.parent, (path.name,)), None, (), (path.name,))


def read_folder(folder: Path) -> Found:
    """All images at any depth; the first folder tells the class, if every image is in one."""
    within = sorted(file.relative_to(folder) for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    within = [file for file in within if not any(part.startswith(".") for part in file.parts)]
    if not within:
        raise ValueError(f"{folder} must hold images ({', '.join(sorted(ENDINGS))}), but has none.")
    classes = tuple(sorted({file.parts[0] for file in within if len(file.parts) > 1}))
    flat = any(len(file.parts) == 1 for file in within)
    numbers = {name: number for number, name in enumerate(classes)}
    labels = None if flat else np.array([numbers[file.parts[0]] for file in within], dtype=np.int64)
    names = tuple(file.as_posix() for file in within)
    return Found(str(folder), Files(folder, names), labels, classes, names)


def read_list(path: Path, folder: Path) -> Found:
    """The images that a text file names: a path inside ``folder`` and a class id on each line.

    Where a line ends on something else than a class id, the images have no labels.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of images: {error}.") from error
    names, labels = [], []
    for number, line in enumerate(lines, start=1):
        if not line:
            continue
        name, _, label = line.rpartition(" ")
        if not name:
            raise ValueError(f"line {number} of {path} must be the path of an image and a class id, got {line!r}.")
        try:
            labels.append(int(label))
        except ValueError:
            name = line.split()[0]
        if not (folder / name).is_file():
            raise FileNotFoundError(f"line {number} of {path} names {name}, but nothing is at {folder / name}.")
        names.append(name)
    if not names:
        raise ValueError(f"{path} must list images, but is empty.")
    told = np.array(labels, dtype=np.int64) if len(labels) == len(names) else None
    return Found(str(path), Files(folder, tuple(names)), told, (), tuple(names))


def pixels(image: Image.Image) -> Pixels:
    """An image as (H, W, C) in bytes, grey or colour.

    Raises:
        ValueError: for more than 8 bits per channel.
    """
    _check_depth(image)
    return np.atleast_3d(np.asarray(image.convert("L" if _is_grey(image) else "RGB")))


def _is_grey(image: Image.Image) -> bool:
    return image.mode in ("1", "L", "LA")


def _check_depth(image: Image.Image) -> None:
    if image.mode.startswith(("I", "F")):
        raise ValueError(f"it has more than 8 bits per channel (mode {image.mode})")
