"""The hinge on mean energies, in plain float64; no paper has it."""

from .equations import Rows, energy


def energy_gap(logits_in: Rows, logits_out: Rows, margin: float) -> float:
    """max(0, mean E(x) − mean E(o) + m)."""
    mean_in = sum(energy(z) for z in logits_in) / len(logits_in)
    mean_out = sum(energy(z) for z in logits_out) / len(logits_out)
    return max(0.0, mean_in - mean_out + margin)
