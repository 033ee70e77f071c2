"""Khosla et al., 2020, equation 2, one pair of rows at a time."""

import math
from collections.abc import Sequence

from .palm import product

Rows = Sequence[Sequence[float]]


def loss(rows: Rows, targets: Rows, temperature: float) -> float:
    """The mean over anchors of −Σ_p a_ip·log(exp(z_i·z_p / T) / Σ_k exp(z_i·z_k / T)) / Σ_p a_ip."""
    total = 0.0
    for i, anchor in enumerate(rows):
        others = [p for p in range(len(rows)) if p != i]
        alike = {p: product(targets[i], targets[p]) for p in others}
        if sum(alike.values()) == 0:
            continue
        everybody = sum(math.exp(product(anchor, rows[k]) / temperature) for k in others)
        logs = {p: product(anchor, rows[p]) / temperature - math.log(everybody) for p in others}
        total -= sum(alike[p] * logs[p] for p in others) / sum(alike.values())
    return total / len(rows)
