"""DOS: of many outliers, those that look most like known rows in each of as many clusters as are kept."""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor

from oodles.checks import check_whole
from oodles.contract import Batch, Method, Now, Paper
from oodles.methods.ntom import check_criterion, criterion
from oodles.outliers.choice import how_unknown, look, take
from oodles.precision import at_least_float32, unit_length

ROUNDS = 10
"""Lloyd's steps from first centers to clusters; a fixed number, since looking whether they have settled would wait."""


def first_centers(points: Float[Tensor, "n f"], counts: Float[Tensor, " n"], u: Float[Tensor, " k"]) -> Tensor:
    """Return k of the points, (k, f), drawn as k-means++ does (Arthur and Vassilvitskii, SODA 2007).

    Args:
        points: of which each is drawn in proportion to the square of its distance from the nearest one so far.
        counts: 1 for points that may be drawn, and 0 for others.
        u: numbers from 0 to 1, on which the draws depend.
    """
    weights, centers = counts, []
    nearest = torch.full_like(counts, torch.inf)
    for share in u.unbind():
        reached = weights.cumsum(0)
        place = torch.searchsorted(reached, share * reached[-1:], right=True).clamp(max=len(points) - 1)
        center = points.index_select(0, place)
        nearest = torch.minimum(nearest, (points - center).square().sum(1))
        weights = counts * nearest
        centers.append(center)
    return torch.cat(centers)


def cluster(points: Float[Tensor, "n f"], counts: Bool[Tensor, " n"], u: Float[Tensor, " k"]) -> Int64[Tensor, " n"]:
    """Return each point's cluster, from 0 to k − 1, by k-means over those that count; some may be empty."""
    points = torch.where(counts[:, None], points, 0.0)
    centers = first_centers(points, counts.to(points.dtype), u)
    numbers = torch.arange(len(u), device=points.device)
    for _ in range(ROUNDS):
        inside = ((_nearest(points, centers)[:, None] == numbers) & counts[:, None]).to(points.dtype)
        sizes = inside.sum(0)[:, None]
        centers = torch.where(sizes > 0, inside.T @ points / sizes.clamp(min=1), centers)
    return _nearest(points, centers)


def _nearest(points: Tensor, centers: Tensor) -> Tensor:
    """Return the number of the nearest center, by ‖c‖² − 2·x·c, which leaves out what all of them share."""
    return (centers.square().sum(1) - 2 * points @ centers.T).argmin(1)


def hardest_of_each(unknown: Float[Tensor, " n"], clusters: Int64[Tensor, " n"], kept: int) -> Int64[Tensor, " k"]:
    """Return the places of ``kept`` rows: the least unknown of every cluster, then the next ones, and so on.

    Rows of one rank in their clusters come in ascending order of how unknown they look, and rows that are infinitely
    unknown last.
    """
    order = unknown.argsort(stable=True)
    own = clusters[order]
    together = own.argsort(stable=True)
    rank = together.argsort() - torch.searchsorted(own[together], own)
    last = ~(unknown[order] < torch.inf)
    return order[torch.where(last, rank + len(order), rank).argsort(stable=True)[:kept]]


class DOS(Method):
    """Keeps the outlier that looks least unknown in each of as many clusters of the candidates as rows are kept.

    When to use: many outliers at hand, of many kinds, most of which are easy.
    Cost: all candidates once more, without gradients, and k-means of their features.
    Caveat: the clusters are those of the features, which say little before the network has learnt.

    Args:
        kept: the number of clusters, and of outliers that are kept in each process; of no more candidates all are.
        by: the outlier score by which they look unknown; that of the method that trains on outliers unless given.

    Raises:
        TypeError: for a score that is no name.
        ValueError: for fewer rows than one, an unknown score, and one that compares with training rows or
            differentiates in the inputs.

    Source: Jiang et al., algorithm 1, whose score is the probability of a background class, and whose features have
    unit length. The best of the authors' five runs of k-means is here one run of ten steps. In the place of an empty
    cluster they draw any row that is left; here it is the least unknown of those that come second in their clusters.
    """

    name = "dos"
    paper = Paper(
        title="DOS: Diverse Outlier Sampling for Out-of-Distribution Detection",
        authors="Jiang, Cheng, Chen, Wang, Wei",
        venue="ICLR",
        year=2024,
        link="https://arxiv.org/abs/2306.02031",
        code="https://github.com/lygjwy/DOS",
    )
    needs = ("outliers", "vectors")
    consumes = ("outliers",)
    replaces = ("choice of outliers",)

    def __init__(self, *, kept: int = 64, by: str = ""):
        super().__init__()
        check_whole("kept", kept, low=1)
        check_criterion(by)
        self.kept = kept
        self.by = by

    def forward(
        self, features_out: Float[Tensor, "n f"], unknown: Float[Tensor, " n"], generator: Generator | None = None
    ) -> Int64[Tensor, " k"]:
        """Places of the outliers to keep, for the features of candidates and how unknown each looks."""
        if len(features_out) <= self.kept:
            return torch.arange(len(features_out), device=features_out.device)
        u = torch.rand(self.kept, dtype=torch.float64, generator=generator)
        points = unit_length(at_least_float32(features_out))
        with torch.autocast(points.device.type, enabled=False):
            clusters = cluster(points, unknown < torch.inf, u.to(points.device, points.dtype, non_blocking=True))
        return hardest_of_each(unknown, clusters, self.kept)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        candidates = batch["outliers"]
        if len(candidates) <= self.kept:
            return batch
        score, seen = criterion(self.by or now.score_of("outliers")), look(candidates, now)
        places = self(seen.features, how_unknown(score, candidates, seen, now), now.generator)
        return batch.with_part("outliers", take(candidates, places))
