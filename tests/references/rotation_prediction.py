"""Rotation prediction (Hendrycks et al., NeurIPS 2019), one image, one pixel, one class at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .equations import log_sum_exp


def turned(image: np.ndarray, quarters: int) -> np.ndarray:
    """A square image (C, S, S) turned counter-clockwise: its right edge becomes its upper one."""
    for _ in range(quarters):
        channels, side, _ = image.shape
        result = np.zeros_like(image)
        for c in range(channels):
            for i in range(side):
                for j in range(side):
                    result[c, i, j] = image[c, j, side - 1 - i]
        image = result
    return image


def rotation_losses(said: Sequence[np.ndarray]) -> list[list[float]]:
    """−log softmax(z)_k of each image turned k times, for k = 0, 1, 2, 3."""
    return [[log_sum_exp(z) - z[k] for z in rows] for k, rows in enumerate(said)]


def term(said: Sequence[np.ndarray]) -> float:
    """The mean over all 4 N images."""
    every = [loss for losses in rotation_losses(said) for loss in losses]
    return sum(every) / len(every)


def score(logits: np.ndarray, said: Sequence[np.ndarray]) -> list[float]:
    """−KL(U ‖ p) + ¼ Σ_k KL(1_k ‖ p_rot), with binary logarithms."""
    losses, scores = rotation_losses(said), []
    for row, z in enumerate(logits):
        divergence = 0.0
        for value in z:
            p = math.exp(value - log_sum_exp(z))
            divergence += 1 / len(z) * math.log2((1 / len(z)) / p)
        scores.append(-divergence + sum(losses[k][row] for k in range(4)) / 4 / math.log(2))
    return scores
