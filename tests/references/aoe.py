"""AOE (Botschen et al., CVPR workshop 2025) on a linear classifier, one row at a time."""

import numpy as np

from .divoe import slope


def moved(x: np.ndarray, weight: np.ndarray, bias: np.ndarray, objective: str, epsilon: float) -> np.ndarray:
    """o + ε · sign of the gradient, within [0, 1]."""
    rise = slope(list(x), weight, bias, objective)
    return np.array([min(max(value + epsilon * float(np.sign(rise[i])), 0.0), 1.0) for i, value in enumerate(x)])
