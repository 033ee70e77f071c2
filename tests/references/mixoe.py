"""MixOE (Zhang et al., WACV 2023) in plain float64, one row, one class and one pixel at a time."""

import numpy as np

from .equations import cross_entropy_of_row


def mixed_rows(x: np.ndarray, outliers: np.ndarray, lam: float) -> np.ndarray:
    """λ·x + (1 − λ)·o; whichever are fewer begin anew when they are used up."""
    pairs = max(len(x), len(outliers))
    return np.array([lam * x[i % len(x)] + (1 - lam) * outliers[i % len(outliers)] for i in range(pairs)])


def pasted_rows(x: np.ndarray, outliers: np.ndarray, box: tuple[int, int, int, int]) -> tuple[np.ndarray, float]:
    """Images with the box of the outliers, and the share of the image that is left."""
    top, bottom, left, right = box
    pairs = max(len(x), len(outliers))
    result = np.array([x[i % len(x)] for i in range(pairs)])
    taken = 0
    for i in range(top, bottom):
        for j in range(left, right):
            taken += 1
            for row in range(pairs):
                result[row, :, i, j] = outliers[row % len(outliers), :, i, j]
    return result, 1 - taken / (x.shape[2] * x.shape[3])


def targets(labels: np.ndarray, pairs: int, lam: float) -> np.ndarray:
    """λ·y + (1 − λ)/C."""
    return np.array(
        [[lam * y + (1 - lam) / len(row) for y in row] for row in (labels[i % len(labels)] for i in range(pairs))]
    )


def term(logits: np.ndarray, labels: np.ndarray, lam: float, weight: float) -> float:
    """β × the mean cross-entropy of mixed rows to mixed labels."""
    rows = targets(labels, len(logits), lam)
    return weight * sum(cross_entropy_of_row(z, t) for z, t in zip(logits, rows, strict=True)) / len(logits)
