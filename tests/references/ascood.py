"""ASCOOD in plain float64, one row and one number at a time (Regmi, section 3)."""

import math
from collections.abc import Sequence

Row = Sequence[float]


def standardized(features: Row) -> list[float]:
    """(h − mean h) / (std h + 1e-6), with F − 1 in the standard deviation."""
    mean = sum(features) / len(features)
    deviation = math.sqrt(sum((h - mean) ** 2 for h in features) / (len(features) - 1))
    return [(h - mean) / (deviation + 1e-6) for h in features]


def gradient_outlier(x: Row, slope: Row, alpha: float, count: int) -> list[float]:
    """x + α·∇ where |∇| is among the largest, x elsewhere."""
    chosen = sorted(range(len(x)), key=lambda index: -abs(slope[index]))[:count]
    return [value + alpha * slope[i] if i in chosen else value for i, value in enumerate(x)]


def divergence_from_uniform(logits: Sequence[Row]) -> float:
    """The mean of KL(U‖p) = Σ_c (1/C) log((1/C) / p_c)."""
    total = 0.0
    for row in logits:
        normalizer = sum(math.exp(z) for z in row)
        total += sum(math.log((1 / len(row)) / (math.exp(z) / normalizer)) / len(row) for z in row)
    return total / len(logits)
