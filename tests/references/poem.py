"""The regression of POEM (Ming et al., 2022): weights of features, of known rows and outliers, and what they choose."""

from collections.abc import Sequence

import numpy as np


def sums(known: np.ndarray, outliers: np.ndarray, confidence: float) -> tuple[np.ndarray, np.ndarray]:
    """HᵀH and Hᵀy, row by row."""
    features = known.shape[1]
    gram, products = np.zeros((features, features)), np.zeros(features)
    for rows, y in ((known, -confidence), (outliers, confidence)):
        for h in rows:
            gram += np.outer(h, h)
            products += y * h
    return gram, products


def posterior(gram: np.ndarray, products: np.ndarray, variance: float, noise: float) -> tuple[np.ndarray, np.ndarray]:
    """A = HᵀH / σ_n + I / σ: the mean A⁻¹ Hᵀy / σ_n and the covariance A⁻¹ of the weights."""
    inverse = np.linalg.inv(gram / noise + np.eye(len(gram)) / variance)
    return inverse @ products / noise, inverse


def root(covariance: np.ndarray) -> np.ndarray:
    """The symmetric matrix whose square it is."""
    values, vectors = np.linalg.eigh(covariance)
    return np.asarray(vectors @ np.diag(np.sqrt(values)) @ vectors.T)


def chosen(features: np.ndarray, direction: Sequence[float], keep: int) -> list[int]:
    """The rows with the least |wᵀh|."""
    distances = [abs(sum(w * value for w, value in zip(direction, h, strict=True))) for h in features.tolist()]
    return sorted(range(len(distances)), key=lambda place: (distances[place], place))[:keep]
