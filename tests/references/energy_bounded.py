"""Energy-bounded learning (Liu et al., 2020), in plain float64."""

from .equations import Rows, energy


def energy_bounded(logits_in: Rows, logits_out: Rows, margin_in: float, margin_out: float, power: int = 2) -> float:
    """E max(0, E(x) − m_in)² + E max(0, m_out − E(o))² (equation 8)."""
    too_high = [max(0.0, energy(z) - margin_in) ** power for z in logits_in]
    too_low = [max(0.0, margin_out - energy(z)) ** power for z in logits_out]
    return sum(too_high) / len(too_high) + sum(too_low) / len(too_low)
