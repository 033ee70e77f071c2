"""Image files of 8 bits per channel: a single one, a folder of them, or those that a text file lists."""

import math
import os
import re
import threading
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError, features

from oodles.data.names import composed, find, numbered, shown, some
from oodles.data.preprocess import Fit, Pixels, check_depth, draft_file, fit_image, is_grey, pixels
from oodles.data.raw import Listed, RawImages, broken_images
from oodles.remarks import warn

AVIF = {"AVIF": (".avif",)} if "avif" in features.modules and features.check_module("avif") else {}
FORMATS: dict[str, tuple[str, ...]] = {
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png", ".apng"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    **AVIF,
}
"""The decoders that Pillow may use, whatever a file is called, and the endings of files that are taken for images.
Pillow knows others, of which some start programs."""
ENDINGS = tuple(ending for endings in FORMATS.values() for ending in endings)
UNSEEN = {"__macosx", "thumbs.db", "desktop.ini"}
"""What systems leave in folders without being asked; it is passed over like hidden files."""
ORIENTATION, QUARTER_TURNS = 0x0112, (5, 6, 7, 8)  # of EXIF

_LOCK = threading.RLock()
_quiet = False


@contextmanager
def quietly() -> Iterator[None]:
    """Silence Pillow's warnings of large images, which are refused; once around threads, since these cannot do it."""
    global _quiet
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        before, _quiet = _quiet, True
        try:
            yield
        finally:
            _quiet = before


@dataclass(frozen=True, eq=False)
class Files(Listed):
    """Image files, decoded one by one."""

    folder: Path
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, row: int) -> Pixels:
        with _opened(self.folder / self.names[row]) as image:
            return pixels(image)

    def stamp(self, row: int) -> str:
        path = self.folder / self.names[row]
        about = path.stat()
        return f"{path} {about.st_size} {about.st_mtime_ns}"

    def fitted(self, row: int, fit: Fit) -> Pixels:
        with _opened(self.folder / self.names[row]) as image:
            if fit.draft:
                draft_file(image, fit.shape, fit.resize)
            return fit_image(image, fit.shape, fit.resize)

    def sizes(self) -> Sequence[tuple[int, int, int]]:
        return [self._size(self.folder / name) for name in self.names]

    def mark(self, row: int) -> str:
        name = self.names[row]
        return f"{name} {(self.folder / name).stat().st_size}"

    def _size(self, path: Path) -> tuple[int, int, int]:
        with _opened(path) as image:
            check_depth(image)
            turned = image.getexif().get(ORIENTATION) in QUARTER_TURNS
            height, width = image.size if turned else image.size[::-1]
            return height, width, 1 if is_grey(image) else 3


def read_file(path: Path) -> RawImages:
    """Read a single image."""
    return RawImages(str(path), Files(path.parent, (path.name,)), None, (), (shown(path.name),))


def read_folder(folder: Path) -> RawImages:
    """Read all images at any depth, links followed; the first folder tells the class, if every image is in one.

    What is no image is counted in a warning.

    Raises:
        ValueError: for a folder without images, and one in which a folder can be reached in two ways.
    """
    inside = _look_into(folder)
    if not inside.images:
        held = f": it holds {inside.others}" if str(inside.others) else ""
        raise ValueError(f"{folder} must hold images ({', '.join(ENDINGS)}), but has none{held}.")
    if str(inside.others):
        warn(f"{folder} holds more than images, and this is left out: {inside.others}.")
    images = sorted(inside.images, key=lambda name: name.split("/"))
    first = [_class_of(name) for name in images]
    ids, classes = numbered(name for name in first if name)
    labels = None if "" in first else ids
    without = {name: str(inside.others.of(name)) for name in sorted(inside.folders - set(classes))}
    names = tuple(map(shown, images))
    return RawImages(str(folder), Files(folder, tuple(images)), labels, classes, names, without)


def read_list(path: Path, folder: Path) -> RawImages:
    """Read the images that a text file names: a path inside ``folder``, a blank and a class id on each line.

    Where no line ends on a number, the images have no labels, and a path may be followed by something else.

    Raises:
        FileNotFoundError: where lines name no files: the first of them, and how many there are.
        ValueError: for other lines.
    """
    places = read_lines(path)
    labels = [_class_id(line, place) for place, line in places]
    told = [label for label in labels if label is not None]
    names, missing = [], []
    for (place, line), label in zip(places, labels, strict=True):
        if told and label is None:
            raise ValueError(f"{place} must be a path, a blank and a class id, as other lines are, got {line!r}.")
        if label is not None:
            name = line.rsplit(maxsplit=1)[0]
        else:
            name = line if os.path.isfile(folder / line) else line.split()[0]
        file = folder / name
        found = file if os.path.isfile(file) else find(file)
        if found is None or not found.is_file():
            hint = ": path and class id are separated by a blank" if "," in line else ""
            missing.append(f"{place} names {name}, but {'no file' if found else 'nothing'} is at {file}{hint}")
        else:
            names.append(name if found == file else found.relative_to(folder).as_posix())
    if missing:
        more = f"; {len(missing) - 1} more of its lines name no file" if len(missing) > 1 else ""
        raise FileNotFoundError(f"{missing[0]}{more}.")
    ids = np.array(told, dtype=np.int64) if told else None
    return RawImages(str(path), Files(folder, tuple(names)), ids, (), tuple(names))


def read_lines(path: Path) -> list[tuple[str, str]]:
    """Read the lines of a list of images that are not blank, each with the words that name it in sentences.

    Raises:
        ValueError: for a file that is no text, or empty.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as a list of images: {error}.") from error
    places = [(f"line {number} of {path}", line) for number, line in enumerate(lines, start=1) if line]
    if not places:
        raise ValueError(f"{path} must list images, but is empty.")
    return places


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image of a known format and of a size that can be decoded.

    Raises:
        BrokenImages: for others, and whatever goes wrong while it is decoded.
    """
    most = Image.MAX_IMAGE_PIXELS or math.inf
    too_large = f"and at most {most:,} are decoded: make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS"
    try:
        with nullcontext() if _quiet else quietly():
            opened = Image.open(path, formats=tuple(FORMATS))
        with opened:
            if opened.width * opened.height > most:
                raise ValueError(f"it has {opened.width * opened.height:,} pixels, {too_large}")
            yield opened
    except Exception as error:  # damaged files fail in many ways
        reason = str(error) or type(error).__name__
        if isinstance(error, UnidentifiedImageError):
            known = f"cannot identify its format as one of {', '.join(FORMATS)}"
            reason = known if path.stat().st_size else "it is empty"
        elif isinstance(error, Image.DecompressionBombError):
            reason = f"it has more than {2 * most:,} pixels, {too_large}"
        elif isinstance(error, OSError) and error.strerror:
            reason = error.strerror
        raise broken_images({shown(str(path)): reason}) from error


@dataclass(frozen=True)
class Others:
    """What is no image, by its path in a folder."""

    files: list[str] = field(default_factory=list)
    """With other endings."""
    special: list[str] = field(default_factory=list)
    """Pipes, sockets and devices."""
    dead: list[str] = field(default_factory=list)
    """Links to nothing."""

    def of(self, class_name: str) -> "Others":
        """Return what is in the folder of a class, or in its place."""
        kinds = (self.files, self.special, self.dead)
        return Others(*([name for name in names if _first(name) == class_name] for names in kinds))

    def __str__(self) -> str:
        counts = Counter(os.path.splitext(name)[1].lower() or "without ending" for name in self.files)
        endings = sorted(counts, key=lambda ending: (-counts[ending], ending))
        named = {
            some([f"{counts[ending]} × {shown(ending)}" for ending in endings]): "",
            some(sorted(map(shown, self.special))): " (no regular file)",
            some(sorted(map(shown, self.dead))): " (a link to nothing)",
        }
        return "; ".join(f"{names}{kind}" for names, kind in named.items() if names)


@dataclass(frozen=True)
class Inside:
    """What is in a folder at any depth, by its path in it, and the names of the folders directly in it."""

    images: list[str] = field(default_factory=list)
    others: Others = field(default_factory=Others)
    folders: set[str] = field(default_factory=set)


def _look_into(folder: Path) -> Inside:
    """Find everything in a folder, links followed; a folder that can be reached in two ways is refused."""
    inside, left = Inside(), [""]
    seen = {os.path.realpath(folder): folder}
    while left:
        above = left.pop()
        with os.scandir(folder / above) as opened:
            entries = sorted(opened, key=lambda entry: entry.name)
        for entry in entries:
            if entry.name.startswith(".") or entry.name.casefold() in UNSEEN:
                continue
            name, link = f"{above}{entry.name}", entry.is_symlink()
            if os.path.isdir(entry.path) if link else entry.is_dir():
                place = os.path.realpath(entry.path)
                if place in seen:
                    raise ValueError(f"{folder / name} and {seen[place]} are one folder, by a link: keep one of them.")
                seen[place] = folder / name
                left.append(f"{name}/")
                if not above:
                    inside.folders.add(_first(name))
            elif os.path.exists(entry.path) and not os.path.isfile(entry.path) if link else not entry.is_file():
                inside.others.special.append(name)  # a pipe would be waited for, for ever
            elif os.path.splitext(entry.name)[1].lower() in ENDINGS:
                inside.images.append(name)
            elif link and not os.path.exists(entry.path):
                inside.others.dead.append(name)
                if not above:  # perhaps a class
                    inside.folders.add(_first(name))
            else:
                inside.others.files.append(name)
    return inside


def _class_of(name: str) -> str:
    """Return the class that a file's first folder names, nothing for a file in none."""
    return _first(name) if "/" in name else ""


def _first(name: str) -> str:
    return shown(composed(name.partition("/")[0]))


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
