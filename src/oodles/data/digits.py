"""The embedded suite: handwritten digits, from packages that are installed anyway; nothing is downloaded."""

from dataclasses import replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from matplotlib import get_data_path
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_image

from oodles.data.augment import PLAIN, Augment
from oodles.data.image_set import ImageSet
from oodles.data.suite import Suite
from oodles.randomness import WILD_ROWS

Images = Float32[np.ndarray, "n 1 8 8"]

TRAIN, VALIDATION = 0.15, 0.35  # shares of each known digit; the rest is the test set
PATCHES = 360  # as many as there are rows of two digits
WILD = 0.4  # the share of the validation rows that are wild ones in the suite that has some
UNKNOWN = 0.1  # the share of wild rows that are of no known digit
FONTS = (
    *(f"DejaVu{kind}" for kind in ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")),
    *(f"DejaVu{kind}" for kind in ("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique")),
    *(f"DejaVu{kind}" for kind in ("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic")),
    *(f"STIX{kind}" for kind in ("General", "GeneralBol", "GeneralItalic", "GeneralBolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
LETTERS = "ACEFHKLMNPRUVWXYdfhkmnr"  # none that reads as a digit at this size, none twice


def digits(seed: int) -> Suite:
    """Draw six digits to know, two near them and two for the outliers.

    The handwritten digits are 32 × 32 bitmaps of which each 4 × 4 block counts its ink: 17 levels of grey. Letters go
    through the same steps, and patches of photographs have the same levels, so that nothing but the picture tells one
    set from another. Auxiliary outliers are the rows of two digits and as many each of shuffled training images
    (every image's pixels in an order of its own) and patches of one photograph.
    """
    random = np.random.default_rng(seed)
    images, labels = _handwritten()
    order = random.permutation(10)
    known, near, auxiliary = np.sort(order[:6]), order[6:8], order[8:]

    parts: list[list[Int64[np.ndarray, " n"]]] = [[], [], []]
    for digit in known:
        rows = random.permutation(np.flatnonzero(labels == digit))
        ends = [round(len(rows) * TRAIN), round(len(rows) * (TRAIN + VALIDATION))]
        for part, chosen in zip(parts, np.split(rows, ends), strict=True):
            part.append(chosen)
    train, validation, test = (np.sort(np.concatenate(part)) for part in parts)

    flower, china = (_patches(name, random) for name in ("flower.jpg", "china.jpg"))
    kinds = [images[np.isin(labels, auxiliary)], _shuffled(images[train], random), flower]
    augment = Augment(shift=1)
    return Suite(
        name="digits",
        train=ImageSet(images[train], np.searchsorted(known, labels[train]), augment, seed),
        validation=ImageSet(images[validation], np.searchsorted(known, labels[validation])),
        test=ImageSet(images[test], np.searchsorted(known, labels[test])),
        outliers=_unknown(np.concatenate(kinds), augment, seed),
        near={"digits": _unknown(images[np.isin(labels, near)])},
        far={"photograph": _unknown(china), "letters": _unknown(_letters())},
        classes=tuple(str(digit) for digit in known),
        notes={"photograph": "same kind as the auxiliary outliers"},
    )


def digits_wild(seed: int) -> Suite:
    """Draw the same digits, and wild rows: validation rows without their labels and, of ten rows, one near digit.

    Rows that are wild are in no other set.
    """
    suite = digits(seed)
    random = np.random.default_rng((seed, WILD_ROWS))
    validation, near = suite.validation, suite.near["digits"]
    order = random.permutation(len(validation))
    kept, known = np.split(order, [round(len(order) * (1 - WILD))])
    rest, unknown = np.split(random.permutation(len(near)), [-round(len(known) * UNKNOWN / (1 - UNKNOWN))])
    wild = np.concatenate([validation.images[np.sort(known)], near.images[np.sort(unknown)]])
    kept = np.sort(kept)
    return replace(
        suite,
        name="digits-wild",
        validation=ImageSet(validation.images[kept], validation.labels[kept]),
        near={"digits": _unknown(near.images[np.sort(rest)])},
        notes={**suite.notes, "digits": "same kind as the wild rows"},
        wild=_unknown(wild, suite.train.augment, seed),
    )


def _unknown(images: Images, augment: Augment = PLAIN, seed: int = 0) -> ImageSet:
    return ImageSet(images, np.full(len(images), -1), augment, seed)


@lru_cache(maxsize=1)
def _handwritten() -> tuple[Images, Int64[np.ndarray, " n"]]:
    """Load the 1797 handwritten digits of Alpaydin and Kaynak (UCI, 1998) that scikit-learn holds."""
    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64)


def _shuffled(images: Images, random: Generator) -> Images:
    chosen = images[random.integers(len(images), size=PATCHES)]
    return random.permuted(chosen.reshape(PATCHES, -1), axis=1).reshape(chosen.shape)


def _patches(name: str, random: Generator) -> Images:
    tiles = _tiles(name)
    return tiles[random.choice(len(tiles), PATCHES, replace=False)]


@lru_cache(maxsize=2)
def _tiles(name: str) -> Images:
    """Cut a photograph at 1, 1/2 and 1/4 of its size into 8 × 8 tiles of 17 grey levels; leave out even ones."""
    photograph = Image.fromarray(load_sample_image(name)).convert("L")
    shown = []
    for factor in (1, 2, 4):
        levels = np.rint(np.asarray(photograph.reduce(factor), dtype=np.float32) / 255 * 16) / 16
        height, width = (side // 8 for side in levels.shape)
        tiles = levels[: height * 8, : width * 8].reshape(height, 8, width, 8).swapaxes(1, 2).reshape(-1, 1, 8, 8)
        shown.append(tiles[np.ptp(tiles, axis=(1, 2, 3)) >= 0.25])
    return np.concatenate(shown)


@lru_cache(maxsize=1)
def _letters() -> Images:
    """Draw printed letters in the fonts that matplotlib holds."""
    folder = Path(get_data_path(), "fonts", "ttf")
    fonts = [ImageFont.truetype(folder / f"{name}.ttf", size=64) for name in FONTS]
    return np.stack([_as_handwritten(font, letter) for font in fonts for letter in LETTERS])[:, None]


def _as_handwritten(font: ImageFont.FreeTypeFont, letter: str) -> Float32[np.ndarray, "8 8"]:
    left, top, right, bottom = font.getbbox(letter)
    ink = Image.new("L", (round(right - left), round(bottom - top)))
    ImageDraw.Draw(ink).text((-left, -top), letter, font=font, fill=255)
    width = min(32, round(32 * ink.width / ink.height))
    bitmap = np.zeros((32, 32), dtype=np.float32)
    start = (32 - width) // 2
    bitmap[:, start : start + width] = np.asarray(ink.resize((width, 32))) > 127
    blocks: Float32[np.ndarray, "8 8"] = bitmap.reshape(8, 4, 8, 4).mean(axis=(1, 3))
    return blocks
