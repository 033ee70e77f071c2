"""diverseMix (Yao et al., NeurIPS 2024), one outlier at a time."""

import math

import numpy as np

from .equations import log_sum_exp


def parameters(logits: np.ndarray, others: list[int], alpha: float, temperature: float) -> list[tuple[float, float]]:
    """Both parameters of the distribution of each outlier's share."""
    found = []
    for i, j in enumerate(others):
        own, other = (math.exp(log_sum_exp(logits[row]) / temperature) for row in (i, j))
        found.append((alpha * own / (own + other) + 0.01, alpha * other / (own + other) + 0.01))
    return found


def mixed(outliers: np.ndarray, others: list[int], shares: list[float]) -> np.ndarray:
    """λ·o + (1 − λ)·o'."""
    pairs = zip(outliers, others, shares, strict=True)
    return np.array([share * own + (1 - share) * outliers[other] for own, other, share in pairs])
