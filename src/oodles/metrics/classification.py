"""How often a classifier is right, and whether that is better than chance."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from oodles.metrics.numbers import as_array

if TYPE_CHECKING:
    from oodles.metrics.numbers import Values


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
    predictions, ids = as_array(logits_or_predictions), as_array(labels)
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
    ids = as_array(labels).flatten()
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


def doubts(named: NDArray[np.int64], labels: NDArray[np.int64], accuracy: float, rows: str) -> list[str]:
    """Say what is wrong with a classifier that has learned nothing: one class for all rows, an accuracy at chance.

    Args:
        named: how many rows each class is predicted for, (C,).
        labels: how many rows each class has, (C,).
        accuracy: share of right predictions.
        rows: what the rows are called.
    """
    share = float(labels.max() / labels.sum())
    if share == 1:  # of a single class there is nothing to learn
        return []
    words = [f"All predictions of {rows} are one class."] if np.count_nonzero(named) == 1 else []
    return [*words, accuracy_at_chance(rows)] if at_chance(accuracy, int(labels.sum()), share) else words
