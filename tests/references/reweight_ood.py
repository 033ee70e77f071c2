"""Regmi et al., 2024: reweighted sums of exponentials over the pairs of one class and of two, one pair at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    lengths = math.hypot(*a) * math.hypot(*b)
    return sum(x * y for x, y in zip(a, b, strict=True)) / lengths


def loss(rows: Rows, targets: Rows, temperature: float) -> float:
    """ELU of log Σ exp(−w⁺s/T) + log Σ exp(w⁻s/T); a pair counts in each sum by its probability of that kind."""
    one_class = two_classes = 0.0
    for i in range(len(rows)):
        for j in range(i + 1, len(rows)):
            s = cosine(rows[i], rows[j])
            alike = sum(a * b for a, b in zip(targets[i], targets[j], strict=True))
            one_class += alike * math.exp(-sigmoid(-(2 * s - 1)) * s / temperature)
            two_classes += (1 - alike) * math.exp(sigmoid(5 * s - 4) * s / temperature)
    total = math.log(one_class) + math.log(two_classes)
    return total if total > 0 else math.exp(total) - 1
