"""Figures over seeds: mean ± standard deviation, and the difference to another figure, paired by seed."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import combinations_with_replacement
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import stdtr, stdtrit


class Metric(NamedTuple):
    """The heading of a metric, and its explanation."""

    heading: str
    meaning: str
    higher_is_better: bool


METRICS = {
    "accuracy": Metric("accuracy", "in-distribution test rows with the right class", True),
    "auroc": Metric("AUROC", "chance that an OOD row scores above an in-distribution row", True),
    "aupr_in": Metric("AUPR in", "average precision, in-distribution positive", True),
    "aupr_out": Metric("AUPR out", "average precision, OOD positive", True),
    "fpr95_id_positive": Metric(
        "FPR95 ID-positive", "OOD rows accepted where 95 % of in-distribution rows are accepted", False
    ),
    "fpr95_ood_positive": Metric(
        "FPR95 OOD-positive", "in-distribution rows rejected where 95 % of OOD rows are caught", False
    ),
}
OOD_METRICS = tuple(METRICS)[1:]

FEWEST_SEEDS = 3
"""Fewer say too little for an interval."""
ALL_RESAMPLES = 10
"""Up to this many seeds the bootstrap goes through every resample and needs no random numbers."""
DRAWN_RESAMPLES = 10_000
LEVEL = 0.05
"""Of the tests: below this p a difference is marked."""
CAUTION = (
    "The bootstrap interval is the percentile one over seeds; with 3 to 5 seeds it is too narrow, so go by Student's, "
    "which decides the marks. The sign test is exact and two-sided with ties dropped; with n seeds its p "
    "cannot be below 2^(1−n), which is 0.25 for 3 seeds, 0.06 for 5 and 0.002 for 10."
)


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
        """Return the sample standard deviation (n − 1); none for a single seed."""
        if self.n < 2:
            return None
        mean = self.mean
        return math.sqrt(math.fsum((value - mean) ** 2 for value in self.by_seed.values()) / (self.n - 1))

    @property
    def half_interval(self) -> float | None:
        """Return half the width of Student's 95 % interval; none below three seeds, which say too little."""
        if self.n < FEWEST_SEEDS or self.std is None:
            return None
        return float(stdtrit(self.n - 1, 0.975)) * self.std / math.sqrt(self.n)

    @property
    def interval(self) -> tuple[float, float] | None:
        """Return Student's 95 % interval of the mean."""
        half = self.half_interval
        return None if half is None else (self.mean - half, self.mean + half)

    @property
    def p(self) -> float | None:
        """Return the two-sided p of Student's test of mean 0, below 0.05 where :attr:`interval` excludes 0.

        None below three seeds. Equal values other than 0 have p = 0.
        """
        if self.n < FEWEST_SEEDS or self.std is None:
            return None
        if self.std == 0.0:
            return 1.0 if self.mean == 0.0 else 0.0
        return 2.0 * float(stdtr(self.n - 1, -abs(self.mean) * math.sqrt(self.n) / self.std))

    @cached_property
    def bootstrap(self) -> tuple[float, float] | None:
        """Return the percentile bootstrap's 95 % interval of the mean, resampling seeds; none below three seeds.

        Either end is the outermost mean beyond which less than 2.5 % of all resamples lie.
        """
        if self.n < FEWEST_SEEDS:
            return None
        counts, weights = _resamples(self.n)
        means = counts @ np.array(list(self.by_seed.values()), dtype=np.float64) / self.n
        order = means.argsort()
        below = weights[order].cumsum()  # whole numbers, hence exact
        total = below[-1]
        low = int(np.searchsorted(40 * below, total))
        high = int(np.searchsorted(40 * below, 39 * total, side="right"))
        return float(means[order[low]]), float(means[order[high]])

    @property
    def sign_test(self) -> float:
        """Return the two-sided p of the sign test, with zeros dropped."""
        positive = sum(value > 0 for value in self.by_seed.values())
        negative = sum(value < 0 for value in self.by_seed.values())
        n, fewer = positive + negative, min(positive, negative)
        return min(1.0, 2.0 * sum(math.comb(n, k) for k in range(fewer + 1)) / 2.0**n)

    @property
    def smallest_p(self) -> float:
        """Return the smallest p that a sign test over this many seeds can give."""
        return 2.0 ** (1 - self.n)

    @property
    def caution(self) -> str:
        """Say what to bear in mind when reading the bootstrap and the sign test of so few seeds."""
        narrow = "a bootstrap over so few is too narrow, " if FEWEST_SEEDS <= self.n <= 5 else ""
        return f"{self.n} seeds: {narrow}the sign test's p cannot be below {self.smallest_p:.2g}"

    def __str__(self) -> str:
        return _percent(self.mean, self.std)

    def minus(self, other: "Seeds") -> "Seeds | None":
        """Return the differences over the seeds that both have; none where there is no such seed."""
        pairs = {seed: value - other.by_seed[seed] for seed, value in self.by_seed.items() if seed in other.by_seed}
        return Seeds(pairs) if pairs else None


@lru_cache(maxsize=16)
def _resamples(n: int) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Return the counts of n values in each distinct resample, and how often it occurs; for large n, draw some."""
    if n > ALL_RESAMPLES:
        drawn = np.random.default_rng(n).multinomial(n, [1 / n] * n, size=DRAWN_RESAMPLES)
        return drawn.astype(np.float64), np.ones(DRAWN_RESAMPLES, dtype=np.int64)
    chosen = np.array(list(combinations_with_replacement(range(n), n)))
    counts = (chosen[:, :, None] == np.arange(n)).sum(1)
    factorials = np.array([math.factorial(k) for k in range(n + 1)])
    return counts.astype(np.float64), factorials[n] // factorials[counts].prod(1)


def holm(values: Sequence[float]) -> list[float]:
    """Return p-values adjusted by Holm's step-down procedure (1979), which takes no account of how they depend."""
    order = np.argsort(values, kind="stable")
    steps = np.asarray(values, dtype=np.float64)[order] * np.arange(len(values), 0, -1)
    adjusted = np.empty(len(values))
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return [float(value) for value in adjusted]


@dataclass(frozen=True)
class Figure:
    """One metric of one method on one set, and plain cross-entropy's to compare with."""

    label: str
    score: str
    ood_set: str | None
    metric: str
    value: Seeds
    plain: Seeds | None
    plain_score: str
    difference: Seeds | None
    best_score: str | None = None
    """The score that is best for plain cross-entropy on validation data."""
    difference_to_best: Seeds | None = None
    """To plain cross-entropy under that score."""
    p_holm: float | None = None
    """p of ``difference`` with Holm's correction over its family, see :attr:`oodles.comparing.tables.Table.holm`; none
    where it belongs to no family."""

    @property
    def sign(self) -> int:
        """Return 1 where larger differences are better, −1 where smaller ones are."""
        return 1 if METRICS[self.metric].higher_is_better else -1

    @property
    def wins(self) -> int:
        """Count the paired seeds on which the method is better; ties are no wins."""
        return self.better_on(self.difference) if self.difference else 0

    @property
    def verdict(self) -> str:
        """Return ``better`` or ``worse`` where the paired difference's 95 % interval excludes zero, else nothing."""
        return self.judge(self.difference) if self.difference else ""

    @property
    def mark(self) -> str:
        """Return ▲ (better) or ▼ (worse) where there is a verdict, twice where it holds with Holm's correction."""
        return self._mark(self.difference) if self.difference else ""

    @property
    def verdict_in_words(self) -> str:
        """Say the verdict, or why there is none."""
        if self.difference is not None and self.difference.half_interval is None:
            return "not tested, fewer than three seeds"
        return self.verdict or "inside the noise"

    @property
    def against_plain(self) -> str:
        """Write the paired difference as ``+1.3 ± 0.6 ▲ 5/5``; empty without one."""
        return self.in_words(self.difference) if self.difference else ""

    def better_on(self, difference: Seeds) -> int:
        """Count the seeds on which a difference of this metric is for the better."""
        return sum(self.sign * value > 0 for value in difference.by_seed.values())

    def judge(self, difference: Seeds) -> str:
        """Return ``better`` or ``worse`` where such a difference's 95 % interval excludes zero, else nothing."""
        half = difference.half_interval
        if half is None or abs(difference.mean) <= half:
            return ""
        return "better" if self.sign * difference.mean > 0 else "worse"

    def in_words(self, difference: Seeds) -> str:
        """Write such a difference with its mark, and the number of seeds on which it is for the better."""
        won = f"{self.better_on(difference)}/{difference.n}"
        return " ".join(filter(None, (_percent(difference.mean, difference.std, "+"), self._mark(difference), won)))

    def _mark(self, difference: Seeds) -> str:
        sign = {"better": "▲", "worse": "▼", "": ""}[self.judge(difference)]
        holds = difference is self.difference and self.p_holm is not None and self.p_holm < LEVEL
        return 2 * sign if holds else sign


def in_points(difference: float) -> str:
    """Write a difference in per cent with its sign, ``−0.3``."""
    return _percent(difference, None, "+")


def in_brackets(interval: tuple[float, float] | None) -> str:
    """Write an interval of differences in per cent, ``[−0.3, +1.2]``; a dash where there is none."""
    return "–" if interval is None else f"[{', '.join(map(in_points, interval))}]"


def _percent(mean: float, std: float | None, sign: str = "") -> str:
    deviation = "" if std is None else f" ± {100 * std:.1f}"
    return f"{100 * mean:{sign}.1f}{deviation}".replace("-", "−")
