"""Thresholds and p-values from the scores of held-out known rows, with what they promise.

Conformal prediction (Vovk, Gammerman and Shafer, 2005): where known rows and new known inputs come in no particular
order, a new known input has a p-value of at most α with a probability of at most α, whatever the network and the score.
"""

import math
import warnings
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv

from oodles.checks import check_flag, check_number
from oodles.remarks import CalibrationWarning

COMFORT = 10
"""A warning comes below so many times the rows that a rate needs: the rate then varies a lot between calibrations."""

Numbers = NDArray[np.float64]
Ids = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Calibration:
    """The scores of held-out known rows, and the promise that is read from them.

    Args:
        scores: (n,) of rows that chose nothing: no weights, checkpoint, score or margin.
        predictions: (n,) the class ids that were predicted for them.
        classes: names of the classes.
        false_alarms: α, the share of new known inputs that may be refused, in (0, 1).
        per_class: keep the promise for each predicted class by itself.

    Raises:
        ValueError: for a rate that is none, ids of no class, scores that are not finite, and fewer rows than the rate
            needs: 1/α − 1, with ``per_class`` of each class.
    """

    scores: Numbers
    predictions: Ids
    classes: tuple[str, ...]
    false_alarms: float = 0.05
    per_class: bool = False

    def __post_init__(self) -> None:
        check_rate(self.false_alarms)
        check_flag("per_class", self.per_class)
        if not np.isin(self.predictions, range(len(self.classes))).all():
            raise ValueError(f"predictions must be ids of the {len(self.classes)} classes: give the names of all.")
        if not np.isfinite(self.scores).all():
            raise ValueError("scores of calibration rows must be finite, got NaN or infinity: did training diverge?")
        needed = rows_needed(self.false_alarms)
        sizes = dict(zip((f"of class {name!r}" for name in self.classes), self._sizes(), strict=True))
        groups = sizes if self.per_class else {"": len(self.scores)}
        few = {name: rows for name, rows in groups.items() if rows < needed}
        rate = f"{100 * self.false_alarms:g} %"
        if few:
            of, rows = next(iter(few.items()))
            more = f" and {len(few) - 1} more classes" if len(few) > 1 else ""
            least = f"{100 / (min(few.values()) + 1):.2g} %"
            raise ValueError(
                f"A rate of false alarms of {rate} needs {needed} held-out known rows{f' {of}' if of else ''}, got "
                f"{rows}{more}: hold more back for validation, or allow {least}."
            )
        if (rows := min(groups.values())) < COMFORT * needed:
            where = "of the smallest class " if self.per_class else ""
            low, high = (100 * rate for rate in self.likely_rates(rows))
            warnings.warn(
                f"The threshold for {rate} false alarms comes from {rows} known rows {where}alone: the rate will "
                f"mostly be between {low:.1f} % and {high:.1f} %; {COMFORT * needed} rows would tell more.",
                CalibrationWarning,
                stacklevel=4,
            )

    def _sizes(self) -> list[int]:
        return [int((self.predictions == number).sum()) for number in range(len(self.classes))]

    def groups(self, predictions: Ids) -> list[tuple[NDArray[np.bool_], Numbers]]:
        """Return, for each group with a promise of its own, which of some rows belong to it, and its sorted scores."""
        if not self.per_class:
            return [(np.ones(len(predictions), bool), np.sort(self.scores))]
        ids = range(len(self.classes))
        return [(predictions == number, np.sort(self.scores[self.predictions == number])) for number in ids]

    @property
    def thresholds(self) -> Numbers:
        """Return the largest score that is accepted: (1,), or (C,) by predicted class.

        A score is accepted exactly where its p-value is above the rate of false alarms.
        """
        groups = self.groups(np.zeros(0, np.int64))
        return np.array([scores[len(scores) - refused_rank(self.false_alarms, len(scores))] for _, scores in groups])

    def threshold_of(self, predictions: Ids) -> Numbers:
        """Return the threshold of each row, by its predicted class."""
        thresholds = self.thresholds
        return thresholds[predictions] if self.per_class else np.broadcast_to(thresholds, predictions.shape)

    def p_values(self, scores: Numbers, predictions: Ids) -> Numbers:
        """Return (1 + the number of calibration scores that are at least as high) / (n + 1) of each row."""
        result = np.empty(len(scores))
        for rows, known in self.groups(predictions):
            as_high = len(known) - np.searchsorted(known, scores[rows], side="left")  # NaN stands above all
            result[rows] = (1 + as_high) / (len(known) + 1)
        return result

    def likely_rates(self, rows: int) -> tuple[float, float]:
        """Return the bounds within which nine of ten calibrations with so many rows put the true rate."""
        rank = refused_rank(self.false_alarms, rows)
        low, high = betaincinv(rank, rows + 1 - rank, [0.05, 0.95]).tolist()
        return low, high


def _exact(share: float) -> Fraction:
    """Return a share a little above its digits in binary, since these may lie a little below 0.05 or 1/3."""
    return Fraction(share) * (1 + Fraction(1, 10**12))


def check_rate(false_alarms: float) -> None:
    """Refuse a rate of false alarms that is none."""
    check_number("false_alarms", false_alarms, above=0)
    if false_alarms >= 1:
        raise ValueError(f"false_alarms must be below 1, got {false_alarms}: 0.05 refuses at most 5 % of known inputs.")


def enough_rows(predictions: Ids, classes: int, false_alarms: float, *, per_class: bool) -> bool:
    """Say whether held-out rows with these predicted classes can promise a rate, with ``per_class`` for each class."""
    check_rate(false_alarms)
    rows = int(np.bincount(predictions, minlength=classes).min()) if per_class else len(predictions)
    return rows >= rows_needed(false_alarms)


def rows_needed(false_alarms: float) -> int:
    """Return the least number of known rows with which a rate can be promised, 1/α − 1 rounded up, and one at least."""
    return max(math.ceil(1 / _exact(false_alarms) - 1), 1)


def refused_rank(false_alarms: float, rows: int) -> int:
    """Return the rank, from the highest score, of the threshold: the whole part of α·(n + 1)."""
    return min(math.floor(_exact(false_alarms) * (rows + 1)), rows)


def refused_by_fdr(p_values: Numbers, fdr: float) -> NDArray[np.bool_]:
    """Say which inputs of a batch to refuse so that at most a share ``fdr`` of them is known, in expectation.

    With p-values in ascending order, those up to the last i with pᵢ ≤ q·i/m are refused.

    Args:
        p_values: (m,) of :meth:`Calibration.p_values`.
        fdr: q, in (0, 1).

    Source: Benjamini and Hochberg, JRSS B 1995; for conformal p-values Bates et al., Annals of Statistics 2023,
    theorem 2.
    """
    check_number("fdr", fdr, above=0)
    if fdr >= 1:
        raise ValueError(f"fdr must be below 1, got {fdr}: 0.1 lets a tenth of the refused inputs be known ones.")
    ordered = np.sort(p_values)
    low = np.flatnonzero(ordered * len(ordered) <= float(_exact(fdr)) * np.arange(1, len(ordered) + 1))
    refused: NDArray[np.bool_] = p_values <= (ordered[low[-1]] if len(low) else -1.0)
    return refused


def choosing_rows(rows: int) -> NDArray[np.bool_]:
    """Return the half of so many validation rows that may choose something; the other half is kept for calibration.

    It depends on the number of rows alone.
    """
    choose = np.zeros(rows, bool)
    choose[np.random.default_rng(0).permutation(rows)[: rows // 2]] = True
    return choose
