"""The embedded suite: handwritten digits, from packages that are installed anyway; nothing is downloaded."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64
from matplotlib import get_data_path
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from sklearn.datasets import load_digits, load_sample_image

from oodles.data.image_set import Augment, ImageSet
from oodles.data.suite import Suite

Images = Float32[np.ndarray, "n 1 8 8"]

TRAIN, VALIDATION = 0.6, 0.2  # shares of each known digit; the rest is the test set
PATCHES = 360  # as many as there are rows of two digits
FONTS = (
    *(f"DejaVu{kind}" for kind in ("Sans", "Sans-Bold", "Sans-Oblique", "Sans-BoldOblique")),
    *(f"DejaVu{kind}" for kind in ("SansMono", "SansMono-Bold", "SansMono-Oblique", "SansMono-BoldOblique")),
    *(f"DejaVu{kind}" for kind in ("Serif", "Serif-Bold", "Serif-Italic", "Serif-BoldItalic")),
    *(f"STIX{kind}" for kind in ("General", "GeneralBol", "GeneralItalic", "GeneralBolIta")),
    *("cmr10", "cmb10", "cmss10", "cmtt10"),
)
LETTERS = "ACEFHKLMNPRUVWXYadefhkmnr"  # none that reads as a digit at this size, none twice


def digits(seed: int) -> Suite:
    """Six digits to know, two near them, two among the outliers, drawn by the seed.

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


def _unknown(images: Images, augment: Augment = Augment(), seed: int = 0) -> ImageSet:
    return ImageSet(images, np.full(len(images), -1), augment, seed)


@lru_cache(maxsize=1)
def _handwritten() -> tuple[Images, Int64[np.ndarray, " n"]]:
    """The 1797 handwritten digits of Alpaydin and Kaynak (UCI, 1998) that scikit-learn holds."""
    bunch = load_digits()
    return (bunch.images[:, None] / 16).astype(np.float32), bunch.target.astype(np.int64)


def _shuffled(images: Images, random: Generator) -> Images:
    chosen = images[random.choice(len(images), PATCHES, replace=False)]
    return random.permuted(chosen.reshape(PATCHES, -1), axis=1).reshape(chosen.shape)


@lru_cache(maxsize=1)
def _windows(name: str) -> list[NDArray[np.float32]]: ...


def _patches(name: str, random: Generator) -> Images:
    """Grey 8 × 8 windows of one of scikit-learn's photographs, each reduced by 1, 2, 4 or 8."""
    photograph = Image.fromarray(load_sample_image(name)).convert("L")
    windows = []
    for factor in random.choice((1, 2, 4, 8), PATCHES): ...


@lru_cache(maxsize=1)
def _letters() -> Images:
    folder = Path(get_data_path()) / "fonts" / "ttf"
    drawn = []
    for name in FONTS:
        font = ImageFont.truetype(folder / f"{name}.ttf", size=96)
        drawn += [_reduced(font, letter) for letter in LETTERS]
    return np.stack(drawn)[:, None]


def _as_handwritten(font: ImageFont.FreeTypeFont, letter: str) -> Float32[np.ndarray, "8 8"]:
    """A letter in the digits' frame: scaled to 32 × 32 …"""
