"""Flooding: keep the training loss from falling below a level."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Method, Now, Paper, Terms
from oodles.processes import mean_over_processes


def flood(loss: Float[Tensor, ""], level: float) -> Float[Tensor, ""]:
    """Return 2·relu(b − S), which |S − b| + b adds to S, exactly 0 above the level; S is a mean over all processes."""
    mean, _ = mean_over_processes(loss)
    return 2 * (level - mean).relu()


class Flooding(Method):
    """Makes the sum S of all terms b + abs(S − b), so that training climbs where S is below the level b.

    When to use: where a long training would bring the loss to zero, and rows that are hard to learn need not be.
    Cost: none.
    Caveat: the right level depends on data and network; choose it by validation.

    Args:
        level: b; 0 switches off. The paper tries levels in steps of 0.01, 0.05 among them, and keeps the best one in
            validation.

    Raises:
        ValueError: for a level that is negative, NaN or infinite.

    Source: Ishida et al., the flooded training objective, S the loss of a batch. Zhu et al. (ICML 2023) fine-tune with
    it at a level that they measure, on the cross-entropy alone: UnleashingMask.
    """

    name = "flooding"
    paper = Paper(
        title="Do We Need Zero Training Loss After Achieving Zero Training Error?",
        authors="Ishida, Yamane, Sakai, Niu, Sugiyama",
        venue="ICML",
        year=2020,
        link="https://arxiv.org/abs/2002.08709",
        code="https://github.com/takashiishida/flooding",
    )
    strength = "level"
    terms = ("flooding",)

    def __init__(self, *, level: float = 0.05):
        super().__init__()
        check_number("level", level, low=0)
        self.level = level

    def forward(self, loss: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Loss |S − b| + b of a loss S."""
        return loss + flood(loss, self.level)

    def change_sum(self, terms: Terms, now: Now) -> Terms:
        return {**terms, "flooding": flood(torch.stack(list(terms.values())).sum(), self.level)}
