"""A look at a suite before training on it: sizes, classes, images that are in two sets, and a contact sheet."""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import get_data_path
from PIL import Image, ImageDraw, ImageFont

from oodles.data import SUITES, describe_suite, load_suite
from oodles.data.decoded import sample
from oodles.data.description import read_description, sources
from oodles.data.image_set import ImageSet
from oodles.data.names import some
from oodles.data.overlaps import Overlap, by_content, find_overlaps, repeats
from oodles.data.preprocess import fit_image
from oodles.data.raw import called
from oodles.data.sharpness import Measured, joined, measure_files, measure_images
from oodles.data.sources import files_of
from oodles.data.suite import KNOWN, Suite
from oodles.data.texts import near_duplicates
from oodles.files import in_one_piece

COLUMNS, TILE, MARGIN, LINE = 16, 64, 4, 20
"""Of a contact sheet: how many images of a set it shows, and sizes in pixels."""
EMBEDDED = {
    "digits": "Six handwritten digits against other digits, letters and a photograph; needs no files.",
    "digits-wild": "The same, and wild rows: unlabelled ones of the six digits and of those near them; needs no files.",
}
"""What the suites hold that are functions."""
_HEADERS = {"features": ("least", "most"), "texts": ("shortest", "median", "longest")}
"""What is told of sets besides: ranges of numbers, and lengths in characters."""


@dataclass(frozen=True)
class SuiteCheck:
    """Sizes, classes and repeated images of a suite.

    Args:
        suite: the suite that was looked at.
        twice: images that are in one set more than once, by set.
        overlaps: images that are in two sets.
        repeats: names of these images, by set, each with that of the first one with the same pixels.
        remarks: what else was noticed while files were read, such as files that were left out.
        measured: figures by which sets of images may be told apart without any class, such as sharpness.
    """

    suite: Suite
    twice: Mapping[str, int]
    overlaps: tuple[Overlap, ...]
    repeats: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    measured: Measured = field(default_factory=Measured)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        sets = self.suite.sets()
        return {
            "name": self.suite.name,
            "input_shape": list(self.suite.input_shape),
            "mean": list(self.suite.mean),
            "std": list(self.suite.std),
            "sets": {name: len(images) for name, images in sets.items()},
            "classes": {name: dict(zip(KNOWN, counts, strict=True)) for name, counts in self._per_class()},
            "twice": dict(self.twice),
            "repeats": {name: [list(pair) for pair in pairs] for name, pairs in self.repeats.items() if pairs},
            "overlaps": [
                {"sets": [o.one, o.other], "count": o.count, "names": [list(pair) for pair in o.names]}
                for o in self.overlaps
            ],
            "remarks": list(self.remarks),
            "figures": self.measured.as_dict(),
        }

    def __str__(self) -> str:
        suite = self.suite
        what = called(suite.vectors)
        if suite.vectors:
            lines = [f"{suite.name}: {suite.input_shape[0]} features", ""]
        else:
            numbers = [", ".join(f"{value:.4f}" for value in values) for values in (suite.mean, suite.std)]
            sides = " × ".join(map(str, suite.input_shape))
            lines = [f"{suite.name}: {sides}, mean {numbers[0]}, deviation {numbers[1]}", ""]
        headers = _HEADERS.get(suite.kind, ("", *self.measured.names))
        lines += [*columns([("set", what, *headers), *self._rows()]), ""]
        lines += [*self.measured.in_words(), ""] if self.measured.names else []
        lines += [
            *columns([("class", *KNOWN), *((name, *map(str, counts)) for name, counts in self._per_class())]),
            "",
        ]
        lines += self.remarks
        for name, count in self.twice.items():
            if count:
                pairs = [f"{one} = {other}" for one, other in self.repeats.get(name, ())]
                lines.append(f"{name} holds {count} {called(suite.vectors, count)} more than once: {some(pairs)}")
        lines += [f"{overlap}" for overlap in self.overlaps]
        return "\n".join(lines if self.overlaps else [*lines, f"No {called(suite.vectors, 1)} is in two sets."])

    def _rows(self) -> Iterator[tuple[str, ...]]:
        """Give a line of each set: its name, its rows, and what can be told of them."""
        for name, images in self.suite.sets().items():
            on_demand = "" if isinstance(images.images, np.ndarray) else "decoded on demand"
            told: tuple[str, ...] = (on_demand, *self.measured.cells(name))
            if self.suite.kind == "features":
                told = tuple(f"{value:.4g}" for value in (images.images[:].min(), images.images[:].max()))
            elif self.suite.kind == "texts":
                lengths = sorted(map(len, images.names))
                told = tuple(map(str, (lengths[0], lengths[len(lengths) // 2], lengths[-1])))
            yield (name, f"{len(images):,}", *told)

    def _per_class(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        sets = self.suite.sets()
        counts = [np.bincount(sets[name].labels, minlength=len(self.suite.classes)).tolist() for name in KNOWN]
        return zip(self.suite.classes, zip(*counts, strict=True), strict=True)


def check_suite(suite: Suite | str | Path, root: str | Path | Sequence[str | Path] = ()) -> SuiteCheck:
    """Open everything, and find images that are in two sets by their pixels as the network sees them.

    Copies that were stored with other losses, or at another size, are not found.

    Args:
        suite: a suite, or what :func:`oodles.data.load_suite` takes.
        root: where its files are.

    Raises:
        ValueError: for a suite that cannot be used.
        FileNotFoundError: for files that are not there.
    """
    place = suite
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        suite = place if isinstance(place, Suite) else load_suite(place, root=root)
        measured = measure_suite(suite, place, root)
    sets = suite.sets()
    rows = {name: by_content(images.images) for name, images in sets.items()}
    again = {name: repeats(images, rows[name]) for name, images in sets.items()}
    twice = {name: len(pairs) for name, pairs in again.items()}
    remarks = tuple(dict.fromkeys([*(str(warning.message) for warning in told), *_looked_at(suite)]))
    return SuiteCheck(suite, twice, tuple(find_overlaps(sets, rows)), again, remarks, measured)


def measure_suite(suite: Suite, place: Suite | str | Path, root: str | Path | Sequence[str | Path] = ()) -> Measured:
    """Measure the images of every set, and where ``place`` says that they are files, these too."""
    figures = {name: measure_images(images.images) for name, images in suite.sets().items()}
    if isinstance(place, Suite) or isinstance(SUITES.get(str(place)), str):
        return Measured(figures)
    for name, source in sources(describe_suite(place, root)):
        files = files_of(source)
        if files is not None and figures.get(name):
            figures[name] = joined([figures[name], measure_files(files)])
    return Measured(figures)


def _looked_at(suite: Suite) -> Iterator[str]:
    """Say what is worth knowing of feature vectors: constant features, and texts that are nearly the same."""
    if suite.features is None:
        return
    vectors = suite.train.images[:]
    names = suite.features.columns or tuple(str(place) for place in range(vectors.shape[1]))
    if constant := [name for name, is_one in zip(names, (vectors == vectors[0]).all(0), strict=True) if is_one]:
        yield f"train has the same number in every row of {len(constant)} features: {some(constant)}"
    if suite.features.encoder:
        placed = [(f"{name}: {text}", text) for name, rows in suite.sets().items() for text in rows.names]
        pairs = near_duplicates([text for _, text in placed])
        if near := [f"{placed[a][0]} = {placed[b][0]}" for a, b in pairs if placed[a][1] != placed[b][1]]:
            yield f"{len(near)} texts differ from others by case, punctuation or blanks alone: {some(near)}"


def suite_list(root: str | Path | Sequence[str | Path] = ()) -> list[dict[str, str]]:
    """List the suites that have a name: ``name``, what it ``holds``, and what is ``missing``, empty for nothing."""
    listed = []
    for name, place in SUITES.items():
        missing = ""
        if isinstance(place, Path):
            holds = read_description(place)["about"]
            try:
                describe_suite(name, root)
            except FileNotFoundError as error:
                missing = str(error)
        else:
            holds = EMBEDDED[name]
        listed.append({"name": name, "holds": holds, "missing": missing})
    return listed


def write_sheet(suite: Suite, path: str | Path) -> None:
    """Write a picture with the first images of every class and of every set of unknown ones, under the set's name.

    Raises:
        ValueError: for a file ending that Pillow does not write, and rows that are no images.
    """
    if suite.vectors:
        raise ValueError("A sheet shows images, and the rows of this suite are feature vectors: leave it out.")
    sets = suite.sets()
    height = TILE + MARGIN + LINE
    sheet = Image.new("RGB", (COLUMNS * (TILE + MARGIN) + MARGIN, len(sets) * height + MARGIN), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.truetype(Path(get_data_path(), "fonts/ttf/DejaVuSans.ttf"), size=13)
    for index, (name, images) in enumerate(sets.items()):
        top = MARGIN + index * height
        pen.text((MARGIN, top), f"{name}, {len(images):,}", font=font, fill="black")
        for column, row in enumerate(_shown(images)):
            picture = Image.fromarray(as_tile(images.images[int(row)]))
            sheet.paste(picture, (MARGIN + column * (TILE + MARGIN), top + LINE))
    kind = Image.registered_extensions().get(Path(path).suffix.lower())
    if kind not in Image.SAVE:
        raise ValueError(f"{path} must end on .png or another ending of images that Pillow writes.")
    with in_one_piece(Path(path)) as file:
        sheet.save(file, kind)


def _shown(images: ImageSet) -> Any:
    """Return the rows of a sheet: in turn one of each class, so that classes stand beside each other."""
    ranks = np.empty(len(images), dtype=np.int64)
    for label in np.unique(images.labels):
        own = images.labels == label
        ranks[own] = np.arange(own.sum())
    if (images.labels < 0).all():
        return sample(len(images), COLUMNS)
    return np.lexsort((images.labels, ranks))[:COLUMNS]


def as_tile(image: Any) -> Any:
    """Return an image (C, H, W) as a square of colour; small ones become larger by a whole factor first."""
    pixels = np.moveaxis(image, 0, 2)
    pixels = pixels if pixels.dtype == np.uint8 else np.rint(np.clip(pixels, 0, 1) * 255).astype(np.uint8)
    factor = max(1, TILE // max(pixels.shape[:2]))
    return np.ascontiguousarray(fit_image(pixels.repeat(factor, 0).repeat(factor, 1), (3, TILE, TILE)))


def columns(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return the lines of a table, the first column to the left and the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    first, *others = widths
    return [
        "  ".join([row[0].ljust(first), *(f"{cell:>{width}}" for cell, width in zip(row[1:], others, strict=True))])
        for row in rows
    ]
