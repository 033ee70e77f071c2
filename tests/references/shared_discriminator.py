"""Cross-entropy over K classes beside logistic regression, and its scores (Bitterwolf et al., 2022), row by row."""

import math
from collections.abc import Sequence

from .equations import Rows, cross_entropy, log_sum_exp


def sigmoid(d: float) -> float:
    """σ(d)."""
    return 1 / (1 + math.exp(-d))


def loss(logits_in: Rows, targets: Rows, d_in: Sequence[float], d_out: Sequence[float], weight: float) -> float:
    """mean CE − mean log σ(d(x)) − λ · mean log σ(−d(o))."""
    known = sum(-math.log(sigmoid(d)) for d in d_in) / len(d_in)
    unknown = sum(-math.log(sigmoid(-d)) for d in d_out) / len(d_out)
    return cross_entropy(logits_in, targets) + known + weight * unknown


def scores(z: Sequence[float], d: float) -> tuple[float, float, float]:
    """1 − s1, 1 − s2 and 1 − s3."""
    s1 = sigmoid(d)
    s2 = s1 * max(math.exp(value - log_sum_exp(z)) for value in z)
    s3 = s2 + (1 - s1) / len(z)
    return 1 - s1, 1 - s2, 1 - s3
