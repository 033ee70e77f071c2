"""Chen et al., 2021: distances to reciprocal points and the margin constraint, one row and class at a time."""

from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def squared_distance(h: Sequence[float], point: Sequence[float]) -> float:
    """d_e: the mean over features of the squared differences."""
    return sum((a - b) ** 2 for a, b in zip(h, point, strict=True)) / len(h)


def logits(features: Rows, points: Rows) -> list[list[float]]:
    """d_e − d_d, with d_d the product of features and point."""
    return [[squared_distance(h, p) - sum(a * b for a, b in zip(h, p, strict=True)) for p in points] for h in features]


def excess(features: Rows, points: Rows, targets: Rows, radius: float, margin: float) -> float:
    """The mean of max(0, d_e(h, P_y) − R + margin), for distributions over labels its expectation."""
    total = 0.0
    for h, y in zip(features, targets, strict=True):
        for point, share in zip(points, y, strict=True):
            total += share * max(0.0, squared_distance(h, point) - radius + margin)
    return total / len(features)
