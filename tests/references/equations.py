"""What several papers share, in plain float64: one row, one class, one pixel at a time, with math and NumPy only."""

import math
from collections.abc import Sequence

import numpy as np

Rows = np.ndarray


def log_sum_exp(z: Sequence[float]) -> float:
    """log Σ exp z."""
    highest = max(z)
    return highest + math.log(sum(math.exp(value - highest) for value in z))


def energy(z: Sequence[float]) -> float:
    """E = −log Σ_c exp z_c (Liu et al., 2020, equation 4, at temperature 1)."""
    return -log_sum_exp(z)


def cross_entropy_of_row(z: Sequence[float], target: Sequence[float]) -> float:
    """−Σ_c t_c log softmax(z)_c."""
    return sum(t * (log_sum_exp(z) - value) for value, t in zip(z, target, strict=True))


def cross_entropy(logits: Rows, targets: Rows) -> float:
    """The mean over rows of the cross-entropy to distributions."""
    values = [cross_entropy_of_row(z, t) for z, t in zip(logits, targets, strict=True)]
    return sum(values) / len(values)


def one_hot(labels: Sequence[int], classes: int) -> Rows:
    """Class ids as distributions."""
    rows = np.zeros((len(labels), classes))
    for index, label in enumerate(labels):
        rows[index, label] = 1.0
    return rows


def pixels_as_rows(values: Rows) -> Rows:
    """(N, C, H, W) as (N·H·W, C): for dense prediction every pixel is a row."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
