"""CEDA (Hein et al., CVPR 2019), one image, one pixel, one class at a time."""

import math
from collections.abc import Sequence

import numpy as np

from .equations import log_sum_exp


def log_confidence(z: Sequence[float]) -> float:
    """max_c log softmax(z)_c."""
    return max(value - log_sum_exp(z) for value in z)


def term(logits: np.ndarray) -> float:
    """E max_c log p_c."""
    return sum(log_confidence(z) for z in logits) / len(logits)


def mirrored(index: int, size: int) -> int:
    """The pixel that is seen at ``index`` where the image and its mirror image alternate."""
    while not 0 <= index < size:
        index = -1 - index if index < 0 else 2 * size - 1 - index
    return index


def low_pass(image: np.ndarray, sigma: float, radius: int = 7) -> np.ndarray:
    """An image (C, H, W) under a Gaussian window of 15 × 15 pixels whose weights sum to one."""
    offsets = range(-radius, radius + 1)
    window = {(a, b): math.exp(-(a * a + b * b) / (2 * sigma**2)) for a in offsets for b in offsets}
    total = sum(window.values())
    channels, height, width = image.shape
    result = np.zeros_like(image)
    for c in range(channels):
        for i in range(height):
            for j in range(width):
                result[c, i, j] = sum(
                    weight / total * image[c, mirrored(i + a, height), mirrored(j + b, width)]
                    for (a, b), weight in window.items()
                )
    return result


def full_range(image: np.ndarray) -> np.ndarray:
    """From 0 to 1."""
    low, high = image.min(), image.max()
    return np.array([(value - low) / (high - low) for value in image.flatten()]).reshape(image.shape)


def permuted(image: np.ndarray, keys: Sequence[float]) -> np.ndarray:
    """The pixels of an image (C, H, W) in the order of one key per pixel, all channels of a pixel together."""
    channels, _, width = image.shape
    result = np.zeros_like(image)
    for place, source in enumerate(sorted(range(len(keys)), key=keys.__getitem__)):
        for c in range(channels):
            result[c, place // width, place % width] = image[c, source // width, source % width]
    return result
