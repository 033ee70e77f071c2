"""Calibrated outlier class learning (Miao et al., 2024), one pair of rows at a time."""

import math
from collections.abc import Sequence

Row = Sequence[float]
Rows = Sequence[Row]


def cosine(a: Row, b: Row) -> float:
    """a·b / (‖a‖ ‖b‖)."""
    product = sum(x * y for x, y in zip(a, b, strict=True))
    return product / math.sqrt(sum(x * x for x in a)) / math.sqrt(sum(x * x for x in b))


def of_halves(a: Row, b: Row) -> float:
    """The sum of the cosines of the first and of the second halves, the first being the longer one."""
    middle = (len(a) + 1) // 2
    return cosine(a[:middle], b[:middle]) + cosine(a[middle:], b[middle:])


def tail(features: Rows, targets: Rows, outliers: Rows, prototypes: Rows, temperature: float) -> float:
    """The mean over rows of rare classes of the cross-entropy to their prototype, outliers being in the sum."""
    total, weight = 0.0, 0.0
    for h, y in zip(features, targets, strict=True):
        near = [of_halves(h, other) / temperature for other in [*prototypes, *outliers]]
        everybody = sum(math.exp(value) for value in near)
        total -= sum(share * (value - math.log(everybody)) for share, value in zip(y, near, strict=False))
        weight += sum(y)
    return total / weight if weight else 0.0


def head(outliers: Rows, features: Rows, frequent: Row, margin: float) -> float:
    """The mean over outliers o and rows h of frequent classes of max(0, max_o' ‖o − o'‖ − ‖o − h‖ + margin)."""
    total = 0.0
    for o in outliers:
        farthest = max(math.dist(o, other) for other in outliers)
        for h, share in zip(features, frequent, strict=True):
            total += share * max(0.0, farthest - math.dist(o, h) + margin)
    return total / (len(outliers) * sum(frequent))


def score(z: Row, background: float, counts: Row, tau: float) -> float:
    """The softmax's last share of z_c − τ·log π_c and the outliers' own logit."""
    shifted = [value - tau * math.log(count / sum(counts)) for value, count in zip(z, counts, strict=True)]
    return math.exp(background) / (math.exp(background) + sum(math.exp(value) for value in shifted))
