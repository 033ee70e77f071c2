"""Distillation (Hinton et al., 2014), of logits as they are or at one length, in plain float64."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def softmax(row: Sequence[float], temperature: float) -> list[float]:
    """exp(z_c / T) over their sum (section 2, equation 1)."""
    powers = [math.exp((value - max(row)) / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def at_one_length(row: Sequence[float], norm_temperature: float) -> list[float]:
    """z / (τ‖z‖), or z where τ is 0."""
    norm = math.sqrt(sum(value * value for value in row)) + 1e-7
    return [value / norm / norm_temperature for value in row] if norm_temperature else list(row)


def distillation(student: Rows, teacher: Rows, weight: float, temperature: float, norm_temperature: float) -> float:
    """λ·T² × the mean of Σ_c p_t·log(p_t / p_s)."""
    total = 0.0
    for own, other in zip(student, teacher, strict=True):
        p_s = softmax(at_one_length(own, norm_temperature), temperature)
        p_t = softmax(at_one_length(other, norm_temperature), temperature)
        total += sum(t * math.log(t / s) for t, s in zip(p_t, p_s, strict=True) if t > 0)
    return weight * temperature**2 * total / len(student)
