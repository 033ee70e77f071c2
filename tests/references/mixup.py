"""Mixup (Zhang et al., 2018), in plain float64."""

from collections.abc import Sequence

import numpy as np

from .equations import Rows


def mixed(rows: Rows, permutation: Sequence[int], lam: Sequence[float]) -> Rows:
    """λ_i x_i + (1 − λ_i) x_π(i) (section 2); works on inputs and on targets."""
    result = np.empty_like(rows, dtype=np.float64)
    for index, (other, share) in enumerate(zip(permutation, lam, strict=True)):
        result[index] = share * rows[index] + (1 - share) * rows[other]
    return result
