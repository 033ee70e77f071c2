"""Figures over seeds: mean ± standard deviation, and the difference to another figure, paired by seed."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

from scipy.special import stdtrit


class Metric(NamedTuple):
    """How a metric is headed and explained."""

    heading: str
    meaning: str
    higher_is_better: bool


METRICS = {
    "accuracy": Metric("accuracy", "in-distribution test rows with the right class", True),
    "auroc": Metric("AUROC", "chance that an unknown scores above a known", True),
    "aupr_in": Metric("AUPR in", "average precision, in-distribution positive", True),
    "aupr_out": Metric("AUPR out", "average precision, out-of-distribution positive", True),
    "fpr95_id_positive": Metric("FPR95 ID-positive", "unknowns accepted where 95 % of knowns are accepted", False),
    "fpr95_ood_positive": Metric("FPR95 OOD-positive", "knowns rejected where 95 % of unknowns are caught", False),
}
OOD_METRICS = tuple(METRICS)[1:]


@dataclass(frozen=True)
class Seeds:
    """One figure per seed."""

    by_seed: Mapping[int, float]

    @property
    def n(self) -> int:
        return len(self.by_seed)

    @property
    def mean(self) -> float:
        return math.fsum(self.by_seed.values()) / self.n

    @property
    def std(self) -> float | None:
        """The sample standard deviation (n − 1); none for a single seed."""
        if self.n < 2:
            return None
        mean = self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.by_seed.values()) / (self.n - 1))

    @property
    def half_interval(self) -> float | None:
        """Half the width of Student's 95 % interval of the mean; none below three seeds, which say too little."""
        if self.n < 3 or self.std is None:
            return None
        return float(stdtrit(self.n - 1, 0.975)) * self.std / math.sqrt(self.n)

    def __str__(self) -> str:
        return _percent(self.mean, self.std)

    def minus(self, other: "Seeds") -> "Seeds | None":
        """The differences over the seeds that both have; none where there is no such seed."""
        pairs = {seed: value - other.by_seed[seed] for seed, value in self.by_seed.items() if seed in other.by_seed}
        return Seeds(pairs) if pairs else None


@dataclass(frozen=True)
class Figure:
    """One metric of one method on one set, and plain cross-entropy's beside it."""

    label: str
    score: str
    ood_set: str | None
    metric: str
    value: Seeds
    plain: Seeds | None
    plain_score: str
    difference: Seeds | None

    @property
    def sign(self) -> int:
        """1 where larger differences are better, −1 where smaller ones are."""
        return 1 if METRICS[self.metric].higher_is_better else -1

    @property
    def wins(self) -> int:
        """On how many of the paired seeds the method is better; ties are no wins."""
        if self.difference is None:
            return 0
        return sum(self.sign * value > 0 for value in self.difference.by_seed.values())

    @property
    def verdict(self) -> str:
        """``better`` or ``worse`` where the 95 % interval of the paired difference leaves out zero, else empty."""
        half = None if self.difference is None else self.difference.half_interval
        if self.difference is None or half is None or abs(self.difference.mean) <= half:
            return ""
        return "better" if self.sign * self.difference.mean > 0 else "worse"

    @property
    def verdict_in_words(self) -> str:
        """The verdict, or why there is none."""
        if self.difference is not None and self.difference.half_interval is None:
            return "not tested, fewer than three seeds"
        return self.verdict or "inside the noise"

    @property
    def against_plain(self) -> str:
        """The paired difference in words: ``+1.3 ± 0.6 ▲ 5/5``; empty without one."""
        if self.difference is None:
            return ""
        mark = {"better": "▲ ", "worse": "▼ ", "": ""}[self.verdict]
        return f"{_percent(self.difference.mean, self.difference.std, '+')} {mark}{self.wins}/{self.difference.n}"


def _percent(mean: float, std: float | None, sign: str = "") -> str:
    deviation = "" if std is None else f" ± {100 * std:.1f}"
    return f"{100 * mean:{sign}.1f}{deviation}".replace("-", "−")
