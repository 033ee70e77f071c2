"""Liu et al., 2020: random features, the process's variance, and a bounded spectral norm, with NumPy in float64."""

import math

import numpy as np

Rows = np.ndarray


def random_features(features: Rows, frequencies: Rows, phases: Rows) -> Rows:
    """√(2/M)·cos(hΩ + b), of rows that are brought to mean 0 and variance 1 first."""
    result = []
    for h in features:
        normal = (h - h.mean()) / math.sqrt(h.var() + 1e-5)
        result.append(
            [math.sqrt(2 / len(phases)) * math.cos(normal @ w + b) for w, b in zip(frequencies.T, phases, strict=True)]
        )
    return np.array(result)


def variance(train: Rows, rows: Rows, ridge: float) -> Rows:
    """φᵀ(I + Σφφᵀ/r)⁻¹φ of random features."""
    precision = np.eye(train.shape[1])
    for phi in train:
        precision += np.outer(phi, phi) / ridge
    covariance = np.linalg.inv(precision)
    return np.array([phi @ covariance @ phi for phi in rows])


def bounded(weight: Rows, bound: float) -> Rows:
    """W·min(1, c / σ) with the largest singular value σ of the matrix of output channels."""
    largest = np.linalg.svd(weight.reshape(len(weight), -1), compute_uv=False)[0]
    return weight * min(1.0, bound / largest)
