"""How well an outlier score separates two sets: exact with ties, in float64; higher is more OOD."""

from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from oodles.metrics.histogram import Bins, Histogram, joined
from oodles.metrics.numbers import as_array, numbers

if TYPE_CHECKING:
    from oodles.metrics.numbers import Values

    Scores: TypeAlias = "Values | Histogram"

METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95_id_positive", "fpr95_ood_positive")


class Counts(NamedTuple):
    """Rows whose score is at or below each distinct score, in ascending order, with a zero in front."""

    id: NDArray[np.int64]
    ood: NDArray[np.int64]


def counts(id_scores: "Scores", ood_scores: "Scores") -> Counts:
    """Count the rows, which all metrics follow from; ``1 - ood / ood[-1]`` over ``1 - id / id[-1]`` is the ROC.

    Args:
        id_scores: scores of in-distribution rows, of any shape; infinities are ordered like numbers.
        ood_scores: scores of out-of-distribution rows.

    Raises:
        ValueError: for NaN, or where one side is empty.
    """
    if not (_few(id_scores) and _few(ood_scores)):
        known_bins, unknown_bins, _ = _common("id_scores", id_scores, "ood_scores", ood_scores)
        return Counts(*(np.append(0, np.cumsum(count)) for count in (known_bins, unknown_bins)))
    known, unknown = _sorted("id_scores", id_scores), _sorted("ood_scores", ood_scores)
    # two sorted runs, which a stable sort only merges
    both = np.concatenate([known, unknown])
    order = both.argsort(kind="stable")
    both = both[order]
    last_of_ties = np.append(np.flatnonzero(both[1:] != both[:-1]), len(both) - 1)
    unknown_so_far = np.cumsum(order >= len(known))[last_of_ties]
    rows_so_far = last_of_ties + 1
    return Counts(*(np.append(0, count) for count in (rows_so_far - unknown_so_far, unknown_so_far)))


def auroc(id_scores: "Scores", ood_scores: "Scores") -> float:
    """Return the probability that an out-of-distribution row scores above an in-distribution row; ties are half."""
    return _auroc(counts(id_scores, ood_scores))


def aupr_in(id_scores: "Scores", ood_scores: "Scores") -> float:
    """Return the average precision with in-distribution rows as positives: Σ (Rₖ − Rₖ₋₁) Pₖ, without interpolation."""
    return _aupr_in(counts(id_scores, ood_scores))


def aupr_out(id_scores: "Scores", ood_scores: "Scores") -> float:
    """Return the average precision with out-of-distribution rows as positives."""
    return _aupr_out(counts(id_scores, ood_scores))


def fpr95_id_positive(id_scores: "Scores", ood_scores: "Scores") -> float:
    """Return the share of out-of-distribution rows accepted where at least 95 % of in-distribution rows are.

    The FPR95 of most papers (energy, VOS, LogitNorm, CIDER).
    """
    return _fpr95_id_positive(counts(id_scores, ood_scores))


def fpr95_ood_positive(id_scores: "Scores", ood_scores: "Scores") -> float:
    """Return the share of in-distribution rows rejected where at least 95 % of out-of-distribution rows are.

    The FPR95 of Outlier Exposure and of OpenOOD 1.5.
    """
    return _fpr95_ood_positive(counts(id_scores, ood_scores))


def ood_metrics(id_scores: "Scores", ood_scores: "Scores") -> dict[str, float]:
    """Return all five metrics by name, from one sort.

    Example:
        >>> ood_metrics(np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.5]))["auroc"]
        0.8333333333333334
    """
    return _metrics(counts(id_scores, ood_scores))


def _metrics(c: Counts) -> dict[str, float]:
    return {
        "auroc": _auroc(c),
        "aupr_in": _aupr_in(c),
        "aupr_out": _aupr_out(c),
        "fpr95_id_positive": _fpr95_id_positive(c),
        "fpr95_ood_positive": _fpr95_ood_positive(c),
    }


def metric_bounds(id_scores: "Scores", ood_scores: "Scores") -> dict[str, tuple[float, float]]:
    """Return between which numbers each metric is, which is exact but for neighbours that a histogram takes as equal.

    Of neighbours, it is unknown which is higher: all known ones may be, or all unknown ones.
    """
    if _few(id_scores) and _few(ood_scores):
        return {name: (value, value) for name, value in ood_metrics(id_scores, ood_scores).items()}
    known, unknown, alike = _common("id_scores", id_scores, "ood_scores", ood_scores)

    def apart(lower: NDArray[np.int64], upper: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Put of each bin all rows of one kind below all of the other."""
        below = np.stack([np.where(alike, lower, 0), lower], 1)
        above = np.stack([np.zeros_like(upper), upper], 1)
        below[:, 1] -= below[:, 0]
        some = below + above > 0
        return tuple(np.append(0, np.cumsum(side[some])) for side in (below, above))  # type: ignore[return-value]  # two

    best = Counts(*apart(known, unknown))
    unknown_below, known_above = apart(unknown, known)
    worst = Counts(known_above, unknown_below)
    found, lowest = _metrics(best), _metrics(worst)
    # of rows that are apart within a bin, the first has the lowest precision
    lowest["aupr_in"] = _least_precision(known, unknown, alike)
    lowest["aupr_out"] = _least_precision(unknown[::-1], known[::-1], alike[::-1])
    return {
        name: (lowest[name], found[name]) if name.startswith("au") else (found[name], lowest[name]) for name in METRICS
    }


def _least_precision(positive: NDArray[np.int64], negative: NDArray[np.int64], alike: NDArray[np.bool_]) -> float:
    """Return the average precision where all positives have that of the first one behind all negatives of their bin."""
    positives, negatives = np.cumsum(positive), np.cumsum(negative)
    right = np.where(alike, positives - positive + 1, positives)
    precision = right / np.maximum(right + negatives, 1)
    return float(np.sum(positive * precision) / positive.sum())


class Decided(NamedTuple):
    """Shares of right decisions under a threshold."""

    accuracy: float
    """Of in-distribution rows, those that are accepted and classified rightly; refused ones count as errors."""
    recall: float
    """Of out-of-distribution rows, those that are refused."""


def decided(threshold: float, id_scores: "Values", right: "Values", ood_scores: "Values") -> Decided:
    """Return which shares of rows are decided rightly where those that score above a threshold are refused.

    Args:
        threshold: the largest score that is accepted.
        id_scores: scores of in-distribution rows.
        right: for each of them, whether it is classified rightly.
        ood_scores: scores of out-of-distribution rows.

    Raises:
        ValueError: for NaN, a side without rows, and truth values of another number.

    Example:
        >>> decided(0.3, np.array([0.1, 0.2, 0.4]), np.array([True, False, True]), np.array([0.3, 0.5]))
        Decided(accuracy=0.3333333333333333, recall=0.5)
    """
    of_right, rows, unknown = _decisions(id_scores, right, ood_scores)
    return Decided(float((of_right <= threshold).sum() / rows), float((unknown > threshold).mean()))


def best_threshold(id_scores: "Values", right: "Values", ood_scores: "Values") -> float:
    """Return the threshold under which most rows are decided rightly, see :func:`decided`: the lowest of them.

    All rows count alike, as if out-of-distribution were one more class: the rule of Larson et al. (EMNLP 2019), for
    validation rows. Its ``ood_scores`` must be of other rows than those that are measured afterwards.

    Raises:
        ValueError: as :func:`decided`.

    Example:
        >>> best_threshold(np.array([0.1, 0.2, 0.4]), np.array([True, True, False]), np.array([0.3, 0.5]))
        0.2
    """
    of_right, _, unknown = _decisions(id_scores, right, ood_scores)
    of_right, unknown = np.sort(of_right), np.sort(unknown)
    thresholds = np.unique(np.concatenate([[-np.inf], of_right, unknown]))
    refused = len(unknown) - np.searchsorted(unknown, thresholds, "right")
    return float(thresholds[np.argmax(np.searchsorted(of_right, thresholds, "right") + refused)])


def _decisions(id_scores: "Values", right: "Values", ood_scores: "Values") -> tuple[NDArray[Any], int, NDArray[Any]]:
    """Return the scores of rows that are classified rightly, how many rows there are, and scores of unknown ones."""
    known, truths, unknown = numbers("id_scores", id_scores), as_array(right).ravel(), numbers("ood_scores", ood_scores)
    if truths.dtype != np.bool_ or len(truths) != len(known):
        raise ValueError(
            f"right must be a truth value for each of {len(known)} id_scores, got {truths.dtype} of length "
            f"{len(truths)}."
        )
    for name, scores in (("id_scores", known), ("ood_scores", unknown)):
        if not scores.size:
            raise ValueError(f"{name} must hold at least one score, got none.")
    return known[truths], len(known), unknown


def _auroc(c: Counts) -> float:
    id_at_or_below, id_below = c.id[1:], c.id[:-1]
    twice = np.sum(np.diff(c.ood) * (id_at_or_below + id_below))  # in whole numbers, hence exact
    return float(twice / 2 / c.id[-1] / c.ood[-1])


def _aupr_in(c: Counts) -> float:
    precision = c.id[1:] / (c.id[1:] + c.ood[1:])
    return float(np.sum(np.diff(c.id) * precision) / c.id[-1])


def _aupr_out(c: Counts) -> float:
    ood_at_or_above, id_at_or_above = c.ood[-1] - c.ood[:-1], c.id[-1] - c.id[:-1]
    precision = ood_at_or_above / (ood_at_or_above + id_at_or_above)
    return float(np.sum(np.diff(c.ood) * precision) / c.ood[-1])


def _fpr95_id_positive(c: Counts) -> float:
    enough = np.searchsorted(c.id, _at_least_95_percent(c.id[-1]))
    return float(c.ood[enough] / c.ood[-1])


def _fpr95_ood_positive(c: Counts) -> float:
    enough = np.searchsorted(c.ood, c.ood[-1] - _at_least_95_percent(c.ood[-1]), side="right") - 1
    return float((c.id[-1] - c.id[enough]) / c.id[-1])


def _at_least_95_percent(rows: np.int64) -> np.int64:
    return -(-19 * rows // 20)


def _few(scores: "Scores") -> bool:
    return not isinstance(scores, Histogram) or scores.values is not None


def _common(
    id_name: str, id_scores: "Scores", ood_name: str, ood_scores: "Scores"
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Return how many scores of either kind are in each of their common bins, and in which ones they may differ."""
    both, rounded = [], False
    for name, scores in ((id_name, id_scores), (ood_name, ood_scores)):
        if isinstance(scores, Histogram):
            histogram = scores
        else:
            histogram = Histogram()
            histogram.add(scores)
        if not len(histogram):
            raise ValueError(f"{name} must hold at least one score, got none.")
        both.append(histogram.bins())
        rounded |= histogram.rounds
    common = joined(*both)
    known, unknown = (_in_bins(common, bins) for bins in both)
    return known, unknown, (common.level > 0) | rounded


def _in_bins(common: Bins, bins: Bins) -> NDArray[np.int64]:
    place = np.searchsorted(common.key, bins.key, side="right") - 1
    total = np.zeros(len(common.key), dtype=np.int64)
    np.add.at(total, place, bins.scores)
    return total


def _sorted(name: str, scores: "Scores") -> NDArray[Any]:
    kept = scores.values if isinstance(scores, Histogram) else scores
    values = numbers(name, kept)  # type: ignore[arg-type]  # few, hence kept
    if not values.size:
        raise ValueError(f"{name} must hold at least one score, got none.")
    return np.sort(values)
