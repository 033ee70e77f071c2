"""Unleashing Mask (Zhu et al., 2023), in plain float64."""

from .equations import Rows, cross_entropy
from .flooding import flooded


def loss(logits: Rows, targets: Rows, level: float) -> float:
    """|CE − b| + b of the cross-entropy of known rows alone."""
    return flooded(cross_entropy(logits, targets), level)
