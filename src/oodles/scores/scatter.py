"""How training rows spread within their classes: means and covariance in float64, however many rows and features."""

import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float, Float64, Int64
from torch import Tensor

PRECISE = 4
"""Of so many steps of the features' precision a deviation has to be, to be more than rounding."""


@dataclass(frozen=True)
class Scatter:
    """Rows, centred by class, as a matrix of at most F rows with the same RᵀR: their scatter matrix."""

    triangle: Float64[Tensor, "r f"]
    """R."""
    means: Float64[Tensor, "c f"]
    """Of each class."""
    counts: Int64[Tensor, " c"]
    """The rows of each class."""
    center: Float64[Tensor, " f"]
    """The mean of all rows."""
    rounding: Float64[Tensor, " f"]
    """By how much a feature may be rounded."""

    @property
    def rows(self) -> int:
        """Return how many rows there are."""
        return int(self.counts.sum())

    def whitening(self) -> Float64[Tensor, "f r"]:
        """Return a matrix that makes the covariance the identity, and squared lengths Mahalanobis distances.

        Where rows vary in all directions the units of features make no difference, so each is taken in its own
        deviation and features of any scale count. Elsewhere it is the root of the covariance's pseudo-inverse, which
        depends on units.
        """
        deviation = (self.triangle.square().sum(0) / self.rows).sqrt()
        vary = deviation > PRECISE * self.rounding
        units = torch.where(vary, deviation, 1.0)
        scaled = replace(self, triangle=self.triangle * vary / units, rounding=self.rounding / units)
        deviations, directions = scaled.principal()
        if len(deviations) < int(vary.sum()):
            deviations, directions = self.principal()
            units = torch.ones_like(units)
        return directions / deviations / units.unsqueeze(1)

    def varying(self) -> int:
        """Return how many features vary by more than rounding."""
        return int(((self.triangle.square().sum(0) / self.rows).sqrt() > PRECISE * self.rounding).sum())

    def of_all(self) -> Float64[Tensor, "r f"]:
        """Return R of all rows as one class."""
        between = self.counts.sqrt().unsqueeze(1) * (self.means - self.center)
        return torch.cat([self.triangle, between])

    def principal(self) -> tuple[Float64[Tensor, " r"], Float64[Tensor, "f r"]]:
        """Return the directions in which rows vary by more than rounding, and their deviations, the largest first."""
        directions = self.triangle.new_zeros(self.triangle.shape[1], 0)
        vary = self.triangle.abs().amax(0) > 0 if len(self.triangle) else directions.new_zeros(0)
        if not bool(vary.any()):
            return self.triangle.new_zeros(0), directions
        _, lengths, axes = torch.linalg.svd(self.triangle[:, vary], full_matrices=False)
        found = lengths / self.rows**0.5
        rounding = (axes.square() @ self.rounding[vary].square()).sqrt()
        smallest = torch.finfo(torch.float64).eps * max(self.triangle.shape) * found[0]
        kept = (found > PRECISE * rounding) & (found > smallest)
        directions = self.triangle.new_zeros(self.triangle.shape[1], int(kept.sum()))
        directions[vary] = axes[kept].T
        return found[kept], directions


def scatter_of(
    score: str,
    features: Float[Tensor, "n f"],
    labels: Int64[Tensor, " n"],
    normalize: bool = False,
    center: Float64[Tensor, " f"] | None = None,
) -> Scatter:
    """Find the scatter of features around their class means, or around a given center, in one block of rows at a time.

    The time grows with the smaller of N and F, and no F × F matrix is made where there are fewer rows.

    Raises:
        ValueError: for one row of each class, which does not vary.
    """
    classes, ids = torch.unique(labels, return_inverse=True)
    if center is None and len(classes) == len(features):
        raise ValueError(
            f"{score} compares rows of one class, and there is one row of each class: give several rows of a class."
        )
    size = features.shape[1]
    sums = features.new_zeros(len(classes), size, dtype=torch.float64)
    squares = features.new_zeros(size, dtype=torch.float64)
    at_once = max(size, 2**22 // size)
    blocks = list(zip(torch.split(features, at_once), torch.split(ids, at_once), strict=True))
    for block, of_block in blocks:
        rows = in_float64(block, normalize)
        sums.index_add_(0, of_block, rows)
        squares += rows.square().sum(0)
    counts = ids.bincount()
    means = sums / counts.unsqueeze(1) if center is None else center.unsqueeze(0)
    triangle = features.new_zeros(0, size, dtype=torch.float64)
    for block, of_block in _shown(blocks, score):
        triangle = torch.cat([triangle, in_float64(block, normalize) - means[of_block]])
        if len(triangle) > size:
            triangle = torch.linalg.qr(triangle, mode="r").R
    rounding = torch.finfo(features.dtype).eps * (squares / len(features)).sqrt()
    return Scatter(triangle, means, counts, sums.sum(0) / len(features), rounding)


def in_float64(features: Float[Tensor, "n f"], normalize: bool = False) -> Float64[Tensor, "n f"]:
    """Return features in float64, of unit length if asked for; a row of zeros stays."""
    rows = features.double()
    return F.normalize(rows, eps=torch.finfo(torch.float64).tiny) if normalize else rows


def rank_remark(score: str, scatter: Scatter, rank: int) -> None:
    """Warn where rows vary in fewer directions than there are features that vary."""
    if rank < (features := scatter.varying()):
        warnings.warn(
            f"{score}: {scatter.rows} rows vary in {rank} directions only, and {features} features vary: "
            "what lies beside these directions is not seen.",
            stacklevel=3,
        )


def _shown(blocks: list[tuple[Tensor, Tensor]], score: str) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the blocks, with a progress bar on a terminal where they take more than a second."""
    began = time.monotonic()
    for number, block in enumerate(blocks):
        if number and sys.stderr.isatty() and time.monotonic() - began > 1:
            from rich.console import Console
            from rich.progress import track

            console = Console(stderr=True)
            yield from track(blocks[number:], f"fitting {score}", console=console, transient=True)
            return
        yield block
