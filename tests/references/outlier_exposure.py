"""Outlier Exposure (Hendrycks et al., 2019), in plain float64."""

import numpy as np

from .equations import Rows, cross_entropy


def cross_entropy_to_uniform(logits: Rows) -> float:
    """The mean of H(U, softmax(z)) (section 4.3)."""
    classes = logits.shape[1]
    return cross_entropy(logits, np.full(logits.shape, 1 / classes))
