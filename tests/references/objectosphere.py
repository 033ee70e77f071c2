"""The magnitudes of the Objectosphere loss and its score (Dhamija et al., 2018), row by row."""

import math
from collections.abc import Sequence

from .equations import Rows, log_sum_exp


def length(h: Sequence[float]) -> float:
    """‖h‖."""
    return math.sqrt(sum(value * value for value in h))


def known(h: Sequence[float], minimum: float) -> float:
    """max(ξ − ‖h‖, 0)²."""
    return max(minimum - length(h), 0.0) ** 2


def unknown(h: Sequence[float]) -> float:
    """‖h‖²."""
    return length(h) ** 2


def penalty(features_in: Rows, features_out: Rows, minimum: float) -> float:
    """The mean of each population."""
    mean_in = sum(known(h, minimum) for h in features_in) / len(features_in)
    return mean_in + sum(unknown(h) for h in features_out) / len(features_out)


def score(h: Sequence[float], z: Sequence[float]) -> float:
    """−max_c S_c · ‖h‖."""
    return -max(math.exp(value - log_sum_exp(z)) for value in z) * length(h)
