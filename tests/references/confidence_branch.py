"""DeVries and Taylor, 2018, equations 2 to 4, one row at a time."""

import math
from collections.abc import Sequence

from .equations import log_sum_exp


def sigmoid(a: float) -> float:
    return 1 / (1 + math.exp(-a))


def hinted_cross_entropy(
    logits: Sequence[Sequence[float]],
    confidence: Sequence[float],
    targets: Sequence[Sequence[float]],
    hints: Sequence[bool],
) -> float:
    """The mean of −Σ_i y_i log(p'_i), p'_i = c·p_i + (1 − c)·y_i, with c = 1 on rows without hints."""
    total = 0.0
    for z, a, y, hint in zip(logits, confidence, targets, hints, strict=True):
        c = sigmoid(a) if hint else 1.0
        for z_i, y_i in zip(z, y, strict=True):
            if y_i > 0:
                p_i = math.exp(z_i - log_sum_exp(z))
                total -= y_i * math.log(c * p_i + (1 - c) * y_i)
    return total / len(logits)


def confidence_penalty(confidence: Sequence[float]) -> float:
    """The mean of −log c."""
    return -sum(math.log(sigmoid(a)) for a in confidence) / len(confidence)


def steered(multiplier: float, penalties: Sequence[float], budget: float) -> float:
    """λ after some steps: divided by 0.99 after each above the budget, by 1.01 after each below."""
    for penalty in penalties:
        multiplier = multiplier / (1.01 if penalty < budget else 0.99)
    return multiplier
