"""The papers' equations in plain float64: one row, one class, one pixel at a time, with math and NumPy only."""

import math
from collections.abc import Sequence

import numpy as np

Rows = np.ndarray


def log_sum_exp(z: Sequence[float]) -> float:
    """log Σ exp z."""
    highest = max(z)
    return highest + math.log(sum(math.exp(value - highest) for value in z))


def energy(z: Sequence[float]) -> float:
    """E = −log Σ_c exp z_c (Liu et al., 2020, equation 4, at temperature 1)."""
    return -log_sum_exp(z)


def cross_entropy_of_row(z: Sequence[float], target: Sequence[float]) -> float:
    """−Σ_c t_c log softmax(z)_c."""
    return sum(t * (log_sum_exp(z) - value) for value, t in zip(z, target, strict=True))


def cross_entropy(logits: Rows, targets: Rows) -> float:
    """The mean over rows of the cross-entropy to distributions."""
    values = [cross_entropy_of_row(z, t) for z, t in zip(logits, targets, strict=True)]
    return sum(values) / len(values)


def one_hot(labels: Sequence[int], classes: int) -> Rows:
    """Class ids as distributions."""
    rows = np.zeros((len(labels), classes))
    for index, label in enumerate(labels):
        rows[index, label] = 1.0
    return rows


def smoothed(targets: Rows, amount: float) -> Rows:
    """(1 − ε)·t + ε / C (Szegedy et al., 2016, section 7)."""
    return np.array([[(1 - amount) * t + amount / len(row) for t in row] for row in targets])


def cross_entropy_to_uniform(logits: Rows) -> float:
    """The mean of H(U, softmax(z)) (Hendrycks et al., 2019, section 4.3)."""
    classes = logits.shape[1]
    return cross_entropy(logits, np.full(logits.shape, 1 / classes))


def energy_bounded(logits_in: Rows, logits_out: Rows, margin_in: float, margin_out: float, power: int = 2) -> float:
    """E max(0, E(x) − m_in)² + E max(0, m_out − E(o))² (Liu et al., 2020, equation 8)."""
    too_high = [max(0.0, energy(z) - margin_in) ** power for z in logits_in]
    too_low = [max(0.0, margin_out - energy(z)) ** power for z in logits_out]
    return sum(too_high) / len(too_high) + sum(too_low) / len(too_low)


def energy_gap(logits_in: Rows, logits_out: Rows, margin: float) -> float:
    """max(0, mean E(x) − mean E(o) + m)."""
    mean_in = sum(energy(z) for z in logits_in) / len(logits_in)
    mean_out = sum(energy(z) for z in logits_out) / len(logits_out)
    return max(0.0, mean_in - mean_out + margin)


def logit_norm(logits: Rows, targets: Rows, temperature: float) -> float:
    """The cross-entropy of z / (τ‖z‖) (Wei et al., 2022, equation 5)."""
    scaled = []
    for z in logits:
        norm = math.sqrt(sum(value * value for value in z)) + 1e-7
        scaled.append([value / norm / temperature for value in z])
    return cross_entropy(np.array(scaled), targets)


def mixed(rows: Rows, permutation: Sequence[int], lam: Sequence[float]) -> Rows:
    """λ_i x_i + (1 − λ_i) x_π(i) (Zhang et al., 2018, section 2); works on inputs and on targets."""
    result = np.empty_like(rows, dtype=np.float64)
    for index, (other, share) in enumerate(zip(permutation, lam, strict=True)):
        result[index] = share * rows[index] + (1 - share) * rows[other]
    return result


def box(lam: float, centre: tuple[float, float], height: int, width: int) -> tuple[int, int, int, int]:
    """Top, bottom, left, right of the box of relative side √(1 − λ), clipped, its edges at the nearest pixels."""
    half = math.sqrt(1 - lam) / 2
    edges = []
    for middle, size in zip(centre, (height, width), strict=True):
        for edge in (middle - half, middle + half):
            edges.append(round(min(1.0, max(0.0, edge)) * size))
    return edges[0], edges[1], edges[2], edges[3]


def pasted(
    images: Rows, permutation: Sequence[int], boxes: Sequence[tuple[int, int, int, int]]
) -> tuple[Rows, list[float]]:
    """Images with a box of another one, and the share that is left (Yun et al., 2019, equation 1)."""
    result, shares = images.copy(), []
    height, width = images.shape[-2:]
    for index, (other, (top, bottom, left, right)) in enumerate(zip(permutation, boxes, strict=True)):
        replaced = 0
        for row in range(top, bottom):
            for column in range(left, right):
                result[index, ..., row, column] = images[other, ..., row, column]
                replaced += 1
        shares.append(1 - replaced / (height * width))
    return result, shares


def pixels_as_rows(values: Rows) -> Rows:
    """(N, C, H, W) as (N·H·W, C): for dense prediction every pixel is a row."""
    return np.moveaxis(values, 1, -1).reshape(-1, values.shape[1])
