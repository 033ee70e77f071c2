"""Ding et al., 2026: logits divided by the mean distance of features to the decision boundaries, one at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .equations import Rows, cross_entropy


def product(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def logits(features: Rows, weight: Rows, bias: Sequence[float]) -> list[list[float]]:
    """z_c = w_c·h + b_c."""
    return [[product(w, h) + b for w, b in zip(weight, bias, strict=True)] for h in features]


def boundary_distance(h: Sequence[float], weight: Rows, bias: Sequence[float]) -> float:
    """The mean over c ≠ k of |(w_k − w_c)·h + b_k − b_c| / ‖w_k − w_c‖, with k the class of the highest logit."""
    (z,) = logits([h], weight, bias)
    k = z.index(max(z))
    total = 0.0
    for c, w in enumerate(weight):
        if c != k:
            apart = [a - b for a, b in zip(weight[k], w, strict=True)]
            total += abs(product(apart, h) + bias[k] - bias[c]) / math.sqrt(product(apart, apart))
    return total / (len(weight) - 1)


def loss(features: Rows, weight: Rows, bias: Sequence[float], targets: Rows) -> float:
    """The cross-entropy of z / D."""
    scaled = [
        [value / boundary_distance(h, weight, bias) for value in z]
        for h, z in zip(features, logits(features, weight, bias), strict=True)
    ]
    return cross_entropy(np.array(scaled), targets)
