"""Pursuing Feature Separation (Wu et al., 2025): the two terms and the score, one row and class at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def cosine(a: Sequence[float], b: Sequence[float]) -> float:
    """a·b / (‖a‖ ‖b‖)."""
    length = math.sqrt(sum(x * x for x in a)) * math.sqrt(sum(x * x for x in b))
    return sum(x * y for x, y in zip(a, b, strict=True)) / length


def orthogonal(features: Rows, weight: Rows) -> float:
    """The mean over outliers of the 1-norm of their cosines with the weights of all classes."""
    return sum(sum(abs(cosine(o, w)) for w in weight) for o in features) / len(features)


def parallel(features: Rows, weight: Rows, targets: Rows) -> float:
    """Minus the mean cosine of a row with the weights of its class; of distributions the expectation."""
    total = 0.0
    for h, y in zip(features, targets, strict=True):
        total -= sum(share * cosine(h, w) for share, w in zip(y, weight, strict=True))
    return total / len(features)


def score(h: Sequence[float], z: Sequence[float], weight: Rows) -> float:
    """−(the 1-norm of the cosines) − the maximum softmax probability."""
    most = max(math.exp(value) for value in z) / sum(math.exp(value) for value in z)
    return -sum(abs(cosine(h, w)) for w in weight) - most
