"""Outlier Exposure with confidence control (Papadopoulos et al., 2021), row by row."""

import math
from collections.abc import Sequence

from .equations import Rows, log_sum_exp


def probabilities(z: Sequence[float]) -> list[float]:
    """Softmax."""
    return [math.exp(value - log_sum_exp(z)) for value in z]


def confidence(logits_in: Rows, training_accuracy: float) -> float:
    """Σ_x (max_c p_c − A)²."""
    total = 0.0
    for z in logits_in:
        total += (max(probabilities(z)) - training_accuracy) ** 2
    return total


def outliers(logits_out: Rows) -> float:
    """Σ_o Σ_c |p_c − 1 / K|."""
    total = 0.0
    for z in logits_out:
        for p in probabilities(z):
            total += abs(p - 1 / len(z))
    return total
