"""How well an outlier score separates two sets: exact with ties, in float64; higher is more OOD.

Two different numbers are called FPR95 in the literature; here each has a name of its own.
"""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Values = NDArray[Any] | Tensor


METRICS = ("auroc", "aupr_in", "aupr_out", "fpr95_id_positive", "fpr95_ood_positive")


class Counts(NamedTuple):
    """Rows whose score is at or below each distinct score, in ascending order, with a zero in front."""

    id: NDArray[np.int64]
    ood: NDArray[np.int64]


def counts(id_scores: "Values", ood_scores: "Values") -> Counts:
    """Count the rows, which all metrics follow from; ``1 - ood / ood[-1]`` over ``1 - id / id[-1]`` is the ROC.

    Args:
        id_scores: scores of in-distribution rows, of any shape; infinities are ordered like numbers.
        ood_scores: scores of out-of-distribution rows.

    Raises:
        ValueError: for NaN, or where one side is empty.
    """
    known, unknown = _sorted("id_scores", id_scores), _sorted("ood_scores", ood_scores)
    # two sorted runs, which a stable sort only merges
    both = np.concatenate([known, unknown])
    order = both.argsort(kind="stable")
    both = both[order]
    last_of_ties = np.append(np.flatnonzero(both[1:] != both[:-1]), len(both) - 1)
    unknown_so_far = np.cumsum(order >= len(known))[last_of_ties]
    rows_so_far = last_of_ties + 1
    return Counts(*(np.append(0, count) for count in (rows_so_far - unknown_so_far, unknown_so_far)))


def auroc(id_scores: "Values", ood_scores: "Values") -> float:
    """Return the probability that an out-of-distribution row scores above an in-distribution row; ties are half."""
    return _auroc(counts(id_scores, ood_scores))


def aupr_in(id_scores: "Values", ood_scores: "Values") -> float:
    """Return the average precision with in-distribution rows as positives: Σ (Rₖ − Rₖ₋₁) Pₖ, without interpolation."""
    return _aupr_in(counts(id_scores, ood_scores))


def aupr_out(id_scores: "Values", ood_scores: "Values") -> float:
    """Return the average precision with out-of-distribution rows as positives."""
    return _aupr_out(counts(id_scores, ood_scores))


def fpr95_id_positive(id_scores: "Values", ood_scores: "Values") -> float:
    """Return the share of out-of-distribution rows accepted where at least 95 % of in-distribution rows are.

    The FPR95 of most papers (energy, VOS, LogitNorm, CIDER).
    """
    return _fpr95_id_positive(counts(id_scores, ood_scores))


def fpr95_ood_positive(id_scores: "Values", ood_scores: "Values") -> float:
    """Return the share of in-distribution rows rejected where at least 95 % of out-of-distribution rows are.

    The FPR95 of Outlier Exposure and of OpenOOD 1.5.
    """
    return _fpr95_ood_positive(counts(id_scores, ood_scores))


def ood_metrics(id_scores: "Values", ood_scores: "Values") -> dict[str, float]:
    """Return all five metrics by name, from one sort.

    Example:
        >>> ood_metrics(np.array([0.1, 0.2, 0.4]), np.array([0.3, 0.5]))["auroc"]
        0.8333333333333334
    """
    c = counts(id_scores, ood_scores)
    return {
        "auroc": _auroc(c),
        "aupr_in": _aupr_in(c),
        "aupr_out": _aupr_out(c),
        "fpr95_id_positive": _fpr95_id_positive(c),
        "fpr95_ood_positive": _fpr95_ood_positive(c),
    }


def accuracy(logits_or_predictions: "Values", labels: "Values") -> float:
    """Return the share of right predictions.

    Args:
        logits_or_predictions: logits (N, C, …), or predicted class ids of the labels' shape. Where the largest logit is
            NaN or infinite there is no prediction, and it counts as wrong.
        labels: class ids (N, …).

    Raises:
        TypeError: for labels that are not whole numbers.
        ValueError: for other shapes, or no rows.
    """
    predictions, ids = _array(logits_or_predictions), _array(labels)
    if ids.dtype.kind not in "iu":
        raise TypeError(f"labels must be class ids, got {ids.dtype}.")
    predicted = np.True_
    if predictions.ndim == ids.ndim + 1 > 1 and predictions.shape[1]:
        predicted, predictions = np.isfinite(predictions.max(1)), predictions.argmax(1)
    if predictions.shape != ids.shape or not ids.size:
        raise ValueError(
            "predictions and labels must have the same shape and at least one row, "
            f"got {predictions.shape} and {ids.shape}."
        )
    return float(np.mean((predictions == ids) & predicted))


def largest_share(labels: "Values") -> float:
    """Return the share of rows in the largest class, which is how often naming it for every row is right."""
    ids = _array(labels).flatten()
    return float(np.unique(ids, return_counts=True)[1].max() / len(ids))


def at_chance(accuracy: float, rows: int, share: float) -> bool:
    """Say whether an accuracy exceeds the largest class's share by no more than two deviations of chance.

    Args:
        accuracy: share of right predictions.
        rows: on so many rows.
        share: of the largest class, see :func:`largest_share`.
    """
    return bool(accuracy <= share + 2 * np.sqrt(share * (1 - share) / rows))


def accuracy_at_chance(rows: str) -> str:
    """Say that the accuracy on some rows is at chance."""
    return f"The accuracy on {rows} is at chance, no better than naming the largest class for every row."


def doubts(predictions: "Values", labels: "Values", rows: str) -> list[str]:
    """Say what is wrong with a classifier that has learned nothing: one class for all rows, an accuracy at chance.

    Args:
        predictions: class ids.
        labels: class ids, of the same shape.
        rows: what the rows are called.
    """
    named, ids = _array(predictions), _array(labels)
    share = largest_share(ids)
    if share == 1:  # of a single class there is nothing to learn
        return []
    words = [f"All predictions of {rows} are one class."] if (named == named.flat[0]).all() else []
    return [*words, accuracy_at_chance(rows)] if at_chance(accuracy(named, ids), ids.size, share) else words


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


def _sorted(name: str, scores: "Values") -> NDArray[Any]:
    values = _array(scores).ravel()
    if not values.size:
        raise ValueError(f"{name} must hold at least one score, got none.")
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if values.dtype.kind != "f":
        raise TypeError(f"{name} must be numbers, got {values.dtype}.")
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{name} must not hold NaN, got {missing} of {values.size}: did training diverge?")
    return np.sort(values)


def _array(values: "Values") -> NDArray[Any]:
    """Return tensors as arrays; NumPy does not know bfloat16."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().to_dense()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    return np.asarray(values)
