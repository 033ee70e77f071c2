"""AugMix (Hendrycks et al., ICLR 2020) in plain float64, one row, one class and one pixel at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .augmentations import augmented

Step = tuple[str, float, float]
"""Name, level and direction of an augmentation."""


def softmax(z: Sequence[float]) -> list[float]:
    weights = [math.exp(value - max(z)) for value in z]
    return [weight / sum(weights) for weight in weights]


def jensen_shannon(*logits: np.ndarray) -> float:
    """The mean over rows of (KL(p ‖ m) + KL(p₁ ‖ m) + KL(p₂ ‖ m)) / 3, where m is at least 1e-7."""
    rows = []
    for row in zip(*logits, strict=True):
        distributions = [softmax(z) for z in row]
        total = 0.0
        for c in range(len(row[0])):
            mean = max(sum(p[c] for p in distributions) / len(distributions), 1e-7)
            total += sum(p[c] * math.log(p[c] / mean) for p in distributions if p[c] > 0)
        rows.append(total / len(distributions))
    return sum(rows) / len(rows)


def view(image: np.ndarray, chains: Sequence[Sequence[Step]], shares: Sequence[float], m: float) -> np.ndarray:
    """(1 − m)·image + m·Σ_i w_i·chain_i(image)."""
    result = (1 - m) * image
    for steps, share in zip(chains, shares, strict=True):
        changed = image
        for name, level, sign in steps:
            changed = augmented(changed, name, level, sign)
        result = result + m * share * changed
    return result
