"""OpenMix (Zhu et al., CVPR 2023) in plain float64, one row and one class at a time, over K + 1 logits."""

import numpy as np

from .equations import cross_entropy_of_row


def over_all(z: np.ndarray, label: np.ndarray) -> float:
    """Cross-entropy of K + 1 logits to a distribution over the first K classes."""
    return cross_entropy_of_row(z, [*label, 0.0])


def term(logits: np.ndarray, labels: np.ndarray, lam: float, weight: float) -> float:
    """γ × the mean of λ·CE(z, y) + (1 − λ)·CE(z, K + 1)."""
    outlier = [0.0] * (logits.shape[1] - 1) + [1.0]
    values = [
        lam * over_all(z, labels[i % len(labels)]) + (1 - lam) * cross_entropy_of_row(z, outlier)
        for i, z in enumerate(logits)
    ]
    return weight * sum(values) / len(values)
