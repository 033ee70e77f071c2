"""NTOM: of many outliers, those that look most like known rows."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from oodles.checks import check_share, check_whole
from oodles.contract import Batch, Method, Now, Paper
from oodles.methods import score_named
from oodles.outliers.choice import how_unknown, look, take
from oodles.scores import Score
from oodles.spelling import shown


def hard_slice(unknown: Float[Tensor, " n"], kept: int, quantile: float = 0.0) -> Int64[Tensor, " k"]:
    """Return the places of ``kept`` rows in ascending order of how unknown they look, behind a share of the lowest.

    Where fewer are left behind that share, it is cut. Rows that are infinitely unknown are no part of what is shared
    out, and come last.
    """
    order = unknown.argsort(stable=True)
    count = (unknown < torch.inf).sum()
    start = torch.minimum((count.double() * quantile).long(), (count - kept).clamp(min=0))
    return order[start + torch.arange(min(kept, len(order)), device=order.device)]


def criterion(by: str) -> Score:
    """Make the score of a name by which outliers can be chosen in the middle of training.

    Raises:
        ValueError: for an unknown score, and for one that needs more than what a classifier gives for the row.
    """
    score = score_named(by)
    if score.needs_fit or score.differentiates:
        needs = "compares with training rows" if score.needs_fit else "differentiates in the inputs"
        raise ValueError(
            f"by must be a score of what the classifier gives for a row, got {by!r}, which {needs}: choose another, "
            "such as energy."
        )
    return score


def check_criterion(by: object) -> None:
    """Refuse what neither names a score by which outliers can be chosen nor, empty, leaves it open."""
    if not isinstance(by, str):
        raise TypeError(f"by must be the name of an outlier score, got {shown(by)}.")
    if by:
        criterion(by)


class NTOM(Method):
    """Keeps the outliers that look least unknown, behind a share of the least, of the candidates that a batch brings.

    When to use: many outliers at hand, most of which are easy, and some of the hardest of which may be known things.
    Cost: all candidates once more, without gradients.
    Caveat: hard rows alone are less diverse than random ones, and may train worse; the quantile has to be chosen.

    Args:
        kept: the number of outliers that are kept in each process; of no more candidates all are.
        quantile: q, the share of the candidates, from the least unknown on, that is left out, in [0, 1).
        by: the outlier score by which they look unknown; that of the method that trains on outliers unless given.

    Raises:
        TypeError: for a score that is no name.
        ValueError: for fewer rows than one, a quantile outside [0, 1), an unknown score, and one that compares with
            training rows or differentiates in the inputs.

    Source: Chen et al., algorithm 1, whose score is the probability of a background class. They choose before every
    epoch, from a pool of four times as many; here each step chooses from its own candidates, as the network is by then.
    For pixels, pictures are chosen by the mean of the scores of their pixels.
    """

    name = "ntom"
    paper = Paper(
        title="ATOM: Robustifying Out-of-distribution Detection Using Outlier Mining",
        authors="Chen, Li, Wu, Liang, Jha",
        venue="ECML",
        year=2021,
        link="https://arxiv.org/abs/2006.15207",
        code="https://github.com/jfc43/informative-outlier-mining",
    )
    needs = ("outliers",)
    consumes = ("outliers",)
    replaces = ("choice of outliers",)

    def __init__(self, *, kept: int = 128, quantile: float = 0.125, by: str = ""):
        super().__init__()
        check_whole("kept", kept, low=1)
        check_share("quantile", quantile)
        check_criterion(by)
        self.kept = kept
        self.quantile = quantile
        self.by = by

    def forward(self, unknown: Float[Tensor, " n"]) -> Int64[Tensor, " k"]:
        """Places of the outliers to keep, for how unknown each candidate looks."""
        return hard_slice(unknown, self.kept, self.quantile)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        candidates = batch["outliers"]
        if len(candidates) <= self.kept:
            return batch
        score = criterion(self.by or now.score_of("outliers"))
        unknown = how_unknown(score, candidates, look(candidates, now), now)
        return batch.with_part("outliers", take(candidates, self(unknown)))
