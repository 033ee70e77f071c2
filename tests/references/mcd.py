"""The discrepancy of two classifiers (Yu and Aizawa, 2019), row by row."""

import math
from collections.abc import Sequence

from .equations import Rows, log_sum_exp


def probabilities(z: Sequence[float]) -> list[float]:
    """Softmax over the classes."""
    return [math.exp(value - log_sum_exp(z)) for value in z]


def entropy(z: Sequence[float]) -> float:
    """H(p) = −Σ_c p_c log p_c, in nats."""
    return -sum(p * math.log(p) for p in probabilities(z))


def hinge(first: Rows, second: Rows, margin: float) -> float:
    """max(0, m − mean(H(p₁) − H(p₂)))."""
    differences = [entropy(a) - entropy(b) for a, b in zip(first, second, strict=True)]
    return max(0.0, margin - sum(differences) / len(differences))


def score(first: Sequence[float], second: Sequence[float]) -> float:
    """Σ_c |p₁ − p₂|."""
    return sum(abs(a - b) for a, b in zip(probabilities(first), probabilities(second), strict=True))
