"""IsoMax in plain float64, one row at a time (Macêdo et al., 2021)."""

import math
from collections.abc import Sequence

Row = Sequence[float]


def distance(a: Row, b: Row) -> float:
    return math.sqrt(sum((x - y) ** 2 for x, y in zip(a, b, strict=True)))


def logits_of(features: Row, prototypes: Sequence[Row]) -> list[float]:
    """−‖f − p_j‖."""
    return [-distance(features, prototype) for prototype in prototypes]


def loss(logits: Sequence[Row], targets: Sequence[Row], entropic_scale: float) -> float:
    """The mean of −Σ_j t_j log (exp(E_s z_j) / Σ_k exp(E_s z_k))."""
    total = 0.0
    for row, target in zip(logits, targets, strict=True):
        normalizer = sum(math.exp(entropic_scale * z) for z in row)
        total -= sum(t * math.log(math.exp(entropic_scale * z) / normalizer) for z, t in zip(row, target, strict=True))
    return total / len(logits)
