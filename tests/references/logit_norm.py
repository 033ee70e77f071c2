"""LogitNorm (Wei et al., 2022), in plain float64."""

import math

import numpy as np

from .equations import Rows, cross_entropy


def logit_norm(logits: Rows, targets: Rows, temperature: float) -> float:
    """The cross-entropy of z / (τ‖z‖) (equation 5)."""
    scaled = []
    for z in logits:
        norm = math.sqrt(sum(value * value for value in z)) + 1e-7
        scaled.append([value / norm / temperature for value in z])
    return cross_entropy(np.array(scaled), targets)
