"""van Amersfoort et al., 2020: kernels, their binary cross-entropy, centroids and the slope, one number at a time."""

import math
from collections.abc import Callable, Sequence

Vector = Sequence[float]
Rows = Sequence[Vector]


def embedding(weights: Rows, h: Vector) -> list[float]:
    """W_c·h of one class."""
    return [sum(w * x for w, x in zip(row, h, strict=True)) for row in weights]


def log_kernel(weights: Rows, centroid: Vector, h: Vector, length_scale: float) -> float:
    """Equation 1: −(1/n)‖W_c·h − e_c‖² / 2ℓ²."""
    z = embedding(weights, h)
    return -sum((a - b) ** 2 for a, b in zip(z, centroid, strict=True)) / len(z) / (2 * length_scale**2)


def binary_cross_entropy(log_kernels: Rows, targets: Rows) -> float:
    """Equation 3, as a mean over rows and classes."""
    values = []
    for row, y in zip(log_kernels, targets, strict=True):
        for log_k, share in zip(row, y, strict=True):
            values.append(-share * log_k - (1 - share) * math.log(1 - math.exp(log_k)))
    return sum(values) / len(values)


def followed(
    sums: Rows, counts: Vector, embeddings: Sequence[Rows], targets: Rows, momentum: float
) -> tuple[list[list[float]], list[float]]:
    """Equations 4 to 6: N_c and m_c after one batch; ``embeddings`` of each row and class."""
    new_sums, new_counts = [], []
    for c, old in enumerate(sums):
        number = sum(y[c] for y in targets)
        added = [sum(y[c] * z[c][n] for z, y in zip(embeddings, targets, strict=True)) for n in range(len(old))]
        new_sums.append([momentum * a + (1 - momentum) * b for a, b in zip(old, added, strict=True)])
        new_counts.append(momentum * counts[c] + (1 - momentum) * number)
    return new_sums, new_counts


def slope_penalty(kernels: Callable[[list[float]], float], x: list[float]) -> float:
    """Equation 7 for one row: (‖∂ΣK/∂x‖ − 1)², by central differences."""
    step, square = 1e-5, 0.0
    for i in range(len(x)):
        up, down = list(x), list(x)
        up[i] += step
        down[i] -= step
        square += ((kernels(up) - kernels(down)) / (2 * step)) ** 2
    return (math.sqrt(square) - 1) ** 2
