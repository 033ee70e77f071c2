"""Jigsaw puzzles (Yu et al., CVIU 2024), one image, one pixel, one class at a time."""

import math
from collections.abc import Sequence

import numpy as np


def puzzle(image: np.ndarray, order: Sequence[int], patches: int) -> np.ndarray:
    """The i-th place takes the ``order[i]``-th patch of an image (C, H, W); what is left over stays."""
    channels, height, width = image.shape
    tall, wide = height // patches, width // patches
    result = image.copy()
    for place, source in enumerate(order):
        for c in range(channels):
            for i in range(tall):
                for j in range(wide):
                    result[c, place // patches * tall + i, place % patches * wide + j] = image[
                        c, source // patches * tall + i, source % patches * wide + j
                    ]
    return result


def positive_norm(z: Sequence[float]) -> float:
    """‖relu(z)‖₂."""
    return math.sqrt(sum(max(value, 0.0) ** 2 for value in z))


def term(logits: np.ndarray) -> float:
    """The mean norm."""
    return sum(positive_norm(z) for z in logits) / len(logits)


def threshold(logits: Sequence[Sequence[float]]) -> float:
    """The mean of the second largest logit."""
    return sum(sorted(z)[-2] for z in logits) / len(logits)
