"""The balanced energy loss (Choi et al., 2023), row by row."""

import math
from collections.abc import Sequence

from .equations import Rows, energy, log_sum_exp


def z_gamma(z: Sequence[float], prior: Sequence[float], gamma: float) -> float:
    """Z_γ = Σ_c p_c · π_c^γ / ‖π^γ‖₁."""
    norm = sum(p**gamma for p in prior)
    total = 0.0
    for value, share in zip(z, prior, strict=True):
        total += math.exp(value - log_sum_exp(z)) * share**gamma / norm
    return total


def loss(
    logits_in: Rows,
    logits_out: Rows,
    margin_in: float,
    margin_out: float,
    alpha: float,
    gamma: float,
    prior: Sequence[float],
) -> float:
    """mean max(0, E(x) − m_in)² + Σ Z · max(0, m_out − (E(o) − α Z))² / Σ Z."""
    known = sum(max(0.0, energy(z) - margin_in) ** 2 for z in logits_in) / len(logits_in)
    above = below = 0.0
    for z in logits_out:
        frequent = z_gamma(z, prior, gamma)
        above += frequent * max(0.0, margin_out - (energy(z) - alpha * frequent)) ** 2
        below += frequent
    return known + above / below
