"""Manifold mixup (Verma et al., ICML 2019) in plain float64: a network of two layers, one row at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .equations import cross_entropy
from .mixup import mixed

Layer = tuple[np.ndarray, np.ndarray]
"""Weights and biases."""


def layer(rows: np.ndarray, weights: Layer) -> np.ndarray:
    weight, bias = weights
    return np.array(
        [
            [sum(w * v for w, v in zip(of, row, strict=True)) + b for of, b in zip(weight, bias, strict=True)]
            for row in rows
        ]
    )


def loss(
    x: np.ndarray, labels: np.ndarray, layers: Sequence[Layer], place: int, partners: Sequence[int], lam: float
) -> float:
    """Cross-entropy to mixed labels; rows are mixed at the input (place 0) or after the first or second layer."""
    shares = [lam] * len(x)
    hidden = x
    for index, weights in enumerate(layers):
        if index == place:
            hidden = mixed(hidden, partners, shares)
        hidden = layer(hidden, weights)
        if index < len(layers) - 1:
            hidden = np.array([[math.tanh(value) for value in row] for row in hidden])
    return cross_entropy(hidden, mixed(labels, partners, shares))
