"""Cross-entropy to smoothed labels (Szegedy et al., 2016), in plain float64."""

import numpy as np

from .equations import Rows, cross_entropy


def smoothed(targets: Rows, amount: float) -> Rows:
    """(1 − ε)·t + ε / C (section 7)."""
    return np.array([[(1 - amount) * t + amount / len(row) for t in row] for row in targets])


def loss(logits: Rows, targets: Rows, amount: float) -> float:
    """The mean cross-entropy to smoothed targets."""
    return cross_entropy(logits, smoothed(targets, amount))
