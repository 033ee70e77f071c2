"""Figures of single images by which sets can be told apart without any class: sharpness, shape and compression."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

from oodles.data.augment import ready
from oodles.data.decoded import Decoded, sample
from oodles.data.image_files import Files
from oodles.data.names import NAMED
from oodles.data.raw import BrokenImages
from oodles.data.suite import KNOWN
from oodles.metrics import auroc

Figures = Mapping[str, NDArray[np.float64]]
"""Of the images of a set, by the figure's name."""
ENOUGH = 2000
"""Images of a set that are measured, spread evenly over it; more change an AUROC by no more than its second digit."""
BLOCK = 256
"""Images that are measured at once."""
LEAST_SIDE = 3
"""Smaller images have no inner pixel, and so no Laplacian."""
TOLD, DEVIATIONS = 0.65, 4
"""An AUROC is told from here on, and from so many of its standard deviations above that of equal sets."""
MEANINGS = {
    "sharpness": "the mean |Laplacian|",
    "spectrum": "the share of power above half of the highest frequency",
    "aspect": "width / height of the files",
    "compression": "their bytes per pixel",
}
"""What figures are, by their names."""
IN_WORDS = {
    "sharpness": "Sharpness",
    "spectrum": "The spectrum's tail",
    "aspect": "The aspect ratio",
    "compression": "Compression",
}


def sharpness(images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Return the mean of |4·x − its four neighbours| of each image, grey by the mean of its channels."""
    grey = images.mean(1)
    inner = grey[:, 1:-1, 1:-1]
    around = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return (4 * inner - around).abs().mean((1, 2))


def spectrum_tail(images: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Return the share of each image's power above half of the highest frequency; zero of an image without change.

    The image is grey by the mean of its channels, less its mean, and fades to the border by Hann's window, since a
    spectrum takes opposite borders for neighbours.
    """
    grey = images.mean(1)
    height, width = grey.shape[1:]
    window = torch.outer(_hann(height), _hann(width))
    faded = (grey - grey.mean((1, 2), keepdim=True)) * window
    power = torch.fft.rfft2(faded).abs().square()
    across, down = torch.fft.rfftfreq(width), torch.fft.fftfreq(height)
    power[:, :, 1 : (width + 1) // 2] *= 2  # for the half of the spectrum that is left out
    fast = torch.hypot(down[:, None], across[None]) > 0.25
    total = power.sum((1, 2))
    return torch.where(total > 1e-9, power[:, fast].sum(1) / total.clamp_min(1e-9), 0.0)


def _hann(side: int) -> Float[Tensor, " side"]:
    """Return Hann's window without its zeros at the ends, which small images would lose too much by."""
    return torch.hann_window(side + 2, periodic=False)[1:-1]


def measure_images(images: NDArray[Any] | Decoded) -> dict[str, NDArray[np.float64]]:
    """Measure enough rows of a set as networks get them, see :func:`measure_pixels`."""
    rows = sample(len(images), ENOUGH)
    blocks = (images[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
    return joined([measure_pixels(block) for block in blocks])


def measure_pixels(rows: NDArray[Any]) -> dict[str, NDArray[np.float64]]:
    """Measure every image (n, C, H, W); nothing of feature vectors and of images below 3 × 3."""
    if rows.ndim != 4 or min(rows.shape[2:]) < LEAST_SIDE:
        return {}
    images = ready(torch.from_numpy(np.require(rows, requirements="W")), None, 0)
    return {"sharpness": _float64(sharpness(images)), "spectrum": _float64(spectrum_tail(images))}


def joined(parts: Sequence[Figures]) -> dict[str, NDArray[np.float64]]:
    """Return the figures of several parts of a set as one."""
    names = dict.fromkeys(name for figures in parts for name in figures)
    return {name: np.concatenate([figures[name] for figures in parts if name in figures]) for name in names}


def _float64(values: Tensor) -> NDArray[np.float64]:
    return values.numpy().astype(np.float64)


def measure_files(files: Files) -> dict[str, NDArray[np.float64]]:
    """Measure image files by their headers and sizes alone; those that cannot be opened are passed over."""
    aspects, bytes_per_pixel = [], []
    for row in sample(len(files), ENOUGH).tolist():
        name = files.names[row]
        with suppress(BrokenImages, OSError):
            ((height, width, _),) = Files(files.folder, (name,)).sizes()
            size = (files.folder / name).stat().st_size
            aspects.append(width / height)
            bytes_per_pixel.append(size / (width * height))
    if not aspects:
        return {}
    return {"aspect": np.array(aspects), "compression": np.array(bytes_per_pixel)}


class Apart(NamedTuple):
    """How well one figure alone tells two sets apart."""

    one: str
    other: str
    figure: str
    auroc: float
    """The probability that the figure of an image of ``one`` is the higher."""

    @property
    def certainty(self) -> float:
        """Return the AUROC, whichever of the two has the higher figures."""
        return max(self.auroc, 1 - self.auroc)


@dataclass(frozen=True)
class Measured:
    """Figures of the images of several sets.

    Args:
        figures: by set, then by the figure's name.
    """

    figures: Mapping[str, Figures] = field(default_factory=dict)

    def pairs(self) -> Iterator[tuple[Apart, ...]]:
        """Give every two sets, with every figure that both have."""
        for one, other in combinations(self.figures, 2):
            here, there = self.figures[one], self.figures[other]
            yield tuple(Apart(one, other, name, auroc(there[name], here[name])) for name in here if name in there)

    def told(self) -> list[tuple[Apart, ...]]:
        """Return the pairs that a figure alone tells apart, and these figures, the most certain first.

        Training and validation rows are left out beside those of other kinds, as test rows say the same.
        """
        again = {"train", "validation"} if "test" in self.figures else set()
        pairs = [pair for pair in self.pairs() if pair and not (again & {*pair[0][:2]} and {*pair[0][:2]} - {*KNOWN})]
        told = (sorted(filter(self._is_told, pair), key=lambda apart: -apart.certainty) for pair in pairs)
        return sorted((tuple(pair) for pair in told if pair), key=lambda pair: -pair[0].certainty)

    def _is_told(self, apart: Apart) -> bool:
        """Say whether an AUROC is worth telling, and is not reached by chance by two draws from one set."""
        n, m = (len(self.figures[name][apart.figure]) for name in (apart.one, apart.other))
        return apart.certainty >= max(TOLD, 0.5 + DEVIATIONS * math.sqrt((n + m + 1) / (12 * n * m)))

    def cells(self, name: str, reference: str = "test") -> tuple[str, ...]:
        """Return the median of each figure of a set, and in brackets the AUROC that tells it from a reference."""
        return tuple(self._cell(name, figure, reference) for figure in self.names)

    @property
    def names(self) -> tuple[str, ...]:
        """Return the names of the figures that any set has."""
        return tuple(name for name in MEANINGS if any(name in figures for figures in self.figures.values()))

    def in_words(self, reference: str = "test") -> list[str]:
        """Say what cells are, and which sets are told apart: a line for each."""
        meanings = ", ".join(f"{name} is {MEANINGS[name]}" for name in self.names)
        medians = f"Medians, in brackets the AUROC by which a figure alone tells a set from {reference}: {meanings}."
        told = self.told()
        more = len(told) - NAMED
        return [medians, *map(_sentence, told[:NAMED]), *([f"and {more} more pairs of sets."] if more > 0 else [])]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        medians = {
            name: {figure: float(np.median(values)) for figure, values in figures.items()}
            for name, figures in self.figures.items()
        }
        return {"medians": medians, "apart": [apart._asdict() for pair in self.pairs() for apart in pair]}

    def _cell(self, name: str, figure: str, reference: str) -> str:
        values = self.figures.get(name, {}).get(figure)
        if values is None:
            return ""
        others = self.figures.get(reference, {}).get(figure)
        beside = ""
        if name != reference and others is not None:
            beside = f" ({_rounded(Apart(name, reference, figure, auroc(others, values)))})"
        return f"{np.median(values):.3g}{beside}"


def _sentence(told: Sequence[Apart]) -> str:
    first, *others = told
    more = "".join(f", {IN_WORDS[apart.figure].lower()} at {_rounded(apart)}" for apart in others)
    return f"{IN_WORDS[first.figure]} alone tells {first.one} from {first.other} at {_rounded(first)}{more}."


def _rounded(apart: Apart) -> str:
    """Write an AUROC with two digits, without the zero before them."""
    return f"{apart.certainty:.2f}".removeprefix("0")
