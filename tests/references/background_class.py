"""Cross-entropy over K + 1 classes, and its scores (Bitterwolf et al., 2022), one row at a time."""

import math
from collections.abc import Sequence

from .equations import Rows, log_sum_exp


def probabilities(z: Sequence[float]) -> list[float]:
    """Softmax over all K + 1 logits, the background's the last."""
    total = log_sum_exp(z)
    return [math.exp(value - total) for value in z]


def loss(logits_in: Rows, targets: Rows, logits_out: Rows, weight: float) -> float:
    """mean CE(z(x), y) + β · mean CE(z(o), K); y gives the background class nothing."""
    known = 0.0
    for z, target in zip(logits_in, targets, strict=True):
        for value, share in zip(z[:-1], target, strict=True):
            known += share * (log_sum_exp(z) - value) / len(logits_in)
    unknown = 0.0
    for z in logits_out:
        unknown += (log_sum_exp(z) - z[-1]) / len(logits_out)
    return known + weight * unknown


def s1(z: Sequence[float]) -> float:
    """The probability of all known classes together."""
    return sum(probabilities(z)[:-1])


def s2(z: Sequence[float]) -> float:
    """The probability of the likeliest known class."""
    return max(probabilities(z)[:-1])


def s3(z: Sequence[float]) -> float:
    """s2 with the background's probability spread evenly over the known classes."""
    known = probabilities(z)[:-1]
    return max(p + probabilities(z)[-1] / len(known) for p in known)
