"""PixMix: mix images with augmented copies of themselves and with pictures of fractals, and keep their labels."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Generator, Tensor

from oodles.augmentations import Operations, augment_, check_severity, draw_operations, on_device
from oodles.checks import check_flag, check_number, check_one_label, check_unit_range, check_whole
from oodles.contract import Batch, Method, Now, Paper, Part
from oodles.data.mixing_pictures import mixing_pictures
from oodles.precision import at_least_float32
from oodles.spelling import shown

SMALLEST = 1e-37
"""Replaces zeros, which a negative power would make infinite; still a normal number of float32."""


def add(x: Tensor, picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return a·x + b·picture on the scale [−1, 1], clipped to [0, 1]."""
    return (x * a).addcmul_(picture, b).add_((1 - a - b) / 2).clamp_(0, 1)


def multiply(x: Tensor, picture: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return x^a · picture^b on the scale [0, 2], clipped to [0, 1]; a must be above 0."""
    # one exponential of two logarithms: several times faster than two powers; a trifle below 0 has no logarithm
    power = (2 * x).clamp_(min=0).log_().mul_(a).addcmul_((2 * picture).clamp_(min=SMALLEST).log_(), b)
    return power.exp_().div_(2).clamp_(0, 1)


@dataclass(frozen=True)
class Rounds:
    """The draws for each round, a row of an array, and image, a column; round 0 is what mixing starts with."""

    uses_copy: NDArray[np.bool_]
    """True where the round takes an augmented copy of the image, and not its picture."""
    multiplies: NDArray[np.bool_]
    """True where the round multiplies, and does not add."""
    a: NDArray[np.float64]
    b: NDArray[np.float64]
    last: NDArray[np.int64]
    """The last round of each image."""
    picture: NDArray[np.int64]
    """The number of each image's picture."""

    @property
    def wants_copy(self) -> NDArray[np.bool_]:
        """True where a copy is needed: not after an image's last round."""
        return self.uses_copy & (np.arange(len(self.uses_copy))[:, None] <= self.last)

    def coefficients(self, number: int, rows: NDArray[np.int64], like: Tensor) -> tuple[Tensor, Tensor]:
        """Return a and b of a round for these rows, in a shape that broadcasts over pixels."""
        a, b = (on_device(share[number, rows], like).to(like.dtype)[:, None, None, None] for share in (self.a, self.b))
        return a, b


def draw_rounds(rounds: int, rows: int, pictures: int, beta: float, generator: Generator | None = None) -> Rounds:
    """Draw 0 to ``rounds`` rounds for each of ``rows`` images."""
    slots = rounds + 1
    uses_copy, multiplies = (torch.rand(2, slots, rows, dtype=torch.float64, generator=generator) < 0.5).numpy()
    last = torch.randint(slots, (rows,), generator=generator).numpy()
    picture = torch.randint(pictures, (rows,), generator=generator).numpy()
    a, b = draw_coefficients((slots, rows), beta, generator)
    return Rounds(uses_copy, multiplies, a, b, last, picture)


class Others:
    """All that images are mixed with, in one tensor: a copy for each round that wants one, and the pictures."""

    def __init__(self, images: Tensor, pictures: Tensor, wants_copy: NDArray[np.bool_], operations: Operations):
        slots, rows = wants_copy.shape
        wanted = np.flatnonzero(wants_copy)
        copies = images.index_select(0, on_device(wanted % max(rows, 1), images))
        augment_(copies, operations.at(wanted))
        self._packed = torch.cat([copies, pictures])
        self._places = np.tile(len(wanted) + np.arange(rows), (slots, 1))
        self._places.flat[wanted] = np.arange(len(wanted))

    def of(self, number: int, rows: NDArray[np.int64]) -> Tensor:
        """Return what these rows are mixed with in a round."""
        return self._packed.index_select(0, on_device(self._places[number, rows], self._packed))


def draw_coefficients(
    shape: tuple[int, ...], beta: float, generator: Generator | None = None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw a and b of mixing: half of the time Beta(β, 1) and Beta(1, β), else 1 + Beta(1, β) and −Beta(1, β)."""
    coin, first, second = torch.rand(3, *shape, dtype=torch.float64, generator=generator).numpy()
    large, small = (1 - first) ** (1 / beta), 1 - (1 - second) ** (1 / beta)
    large = large.clip(min=1e-30)  # 0 · log 0 is no number
    return np.where(coin < 0.5, large, 2 - large), np.where(coin < 0.5, small, -small)


class PixMix(Method):
    """Trains on images mixed up to k times, by adding or multiplying, with themselves augmented or with pictures.

    When to use: images, no outliers at hand; it makes classifiers robust and calibrated as well.
    Cost: some milliseconds per batch; about 3 MB of pictures of 32 × 32 pixels, made once and kept on the disk.
    Caveat: pictures that look like test data would be outliers in disguise.

    Args:
        pictures: a folder or ``.npz`` file of pictures to mix with; by default a thousand generated ones.
        rounds: k; each image is mixed 0 to k times.
        beta: β; the larger, the less of the pictures.
        severity: of the augmentations, from 0.1 to 10.
        all_operations: with the four augmentations that overlap with a benchmark's corruptions: colour, contrast,
            brightness and sharpness.

    Raises:
        ValueError: for a number of rounds that is not whole or below 0, a β that is not above 0, or another severity;
            with the first batch, for a place without pictures.

    Source: Hendrycks et al., section 3 and the appendix. The authors mix with fractals from the web and feature
    visualisations; here iterated function systems, noise, stripes, cells and discs are generated. All operations take
    part in the runs of the paper and in OpenOOD's, and not in the authors' code by default.
    """

    name = "pixmix"
    paper = Paper(
        title="PixMix: Dreamlike Pictures Comprehensively Improve Safety Measures",
        authors="Hendrycks, Zou, Mazeika, Tang, Li, Song, Steinhardt",
        venue="CVPR",
        year=2022,
        link="https://arxiv.org/abs/2112.05135",
        code="https://github.com/andyzoujm/pixmix",
    )
    needs = ("images",)
    replaces = ("in-distribution inputs",)

    def __init__(
        self,
        *,
        pictures: str = "",
        rounds: int = 4,
        beta: float = 3.0,
        severity: float = 3.0,
        all_operations: bool = False,
    ):
        super().__init__()
        if not isinstance(pictures, str | Path):
            raise TypeError(f"pictures must be the path of a folder or .npz file, got {shown(pictures)}.")
        check_whole("rounds", rounds, low=0)
        check_number("beta", beta, above=0)
        check_severity(severity)
        check_flag("all_operations", all_operations)
        self.pictures = pictures
        self.rounds = rounds
        self.beta = float(beta)
        self.severity = float(severity)
        self.all_operations = all_operations

    def forward(self, x: Float[Tensor, "n c h w"], *, generator: Generator | None = None) -> Float[Tensor, "n c h w"]:
        """Rows mixed with pictures and with augmented copies of themselves; ``x`` has to be in [0, 1]."""
        images = at_least_float32(x)
        check_unit_range(self.name, images)
        pictures = mixing_pictures(self.pictures, (x.shape[1], x.shape[2], x.shape[3]))
        rounds = draw_rounds(self.rounds, len(x), len(pictures), self.beta, generator)
        operations = draw_operations(
            rounds.uses_copy.size, self.severity, generator, all_operations=self.all_operations
        )
        others = Others(images, pictures.rows(rounds.picture, images), rounds.wants_copy, operations)

        start = np.flatnonzero(rounds.uses_copy[0])
        mixed = images.index_copy(0, on_device(start, images), others.of(0, start))
        for number in range(1, self.rounds + 1):
            for mix, chosen in ((add, ~rounds.multiplies[number]), (multiply, rounds.multiplies[number])):
                rows = np.flatnonzero(chosen & (number <= rounds.last))
                places, (a, b) = on_device(rows, images), rounds.coefficients(number, rows, images)
                mixed.index_copy_(0, places, mix(mixed.index_select(0, places), others.of(number, rows), a, b))
        return mixed.to(x.dtype)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part = batch["id"]
        images = part.rows
        check_one_label(self.name, part.targets)
        check_unit_range(self.name, images, read_gpu=now.step == 0)
        return batch.with_part("id", Part(self(images, generator=now.generator), part.targets))
