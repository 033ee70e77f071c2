"""Wang et al., 2023: the regret of outliers' predictions, and each layer's perturbation, one number at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .outlier_exposure import cross_entropy_to_uniform

Vector = Sequence[float]


def regret(logits: Sequence[Vector], step: float = 1e-5) -> float:
    """The square of the derivative of the mean H(U, softmax(s·z)) in s at 1, by central differences."""
    z = np.asarray(logits, dtype=np.float64)
    up, down = (cross_entropy_to_uniform(s * z) for s in (1 + step, 1 - step))
    return ((up - down) / (2 * step)) ** 2


def as_long(gradient: Vector, weight: Vector) -> list[float]:
    """NORM: a layer's gradient at the length of its weights."""
    ratio = math.sqrt(sum(w * w for w in weight)) / math.sqrt(sum(g * g for g in gradient))
    return [ratio * g for g in gradient]


def averaged(perturbations: Sequence[Vector], momentum: float) -> list[float]:
    """The moving average of perturbations, from the first one on."""
    mean = list(perturbations[0])
    for new in perturbations[1:]:
        mean = [momentum * a + (1 - momentum) * b for a, b in zip(mean, new, strict=True)]
    return mean
