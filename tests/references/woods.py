"""WOODS (Katz-Samuels et al., 2022), in plain float64."""

import math

from .equations import Rows, cross_entropy, energy


def sigmoid(value: float) -> float:
    """1 / (1 + exp(−v))."""
    return 1 / (1 + math.exp(-value))


def wild(logits: Rows, slope: float, bias: float, margin: float = 0.0) -> float:
    """The mean of σ(−φ(lse − η)) over wild rows, φ(s) = b − a·s."""
    return sum(sigmoid(-(bias - slope * (-energy(z) - margin))) for z in logits) / len(logits)


def false_alarms(logits: Rows, slope: float, bias: float) -> float:
    """The mean of σ(φ(lse)) over known rows."""
    return sum(sigmoid(bias - slope * -energy(z)) for z in logits) / len(logits)


def augmented(excess: float, multiplier: float, penalty: float) -> float:
    """λ·c + ρ/2·c², or −λ² / 2ρ where ρ·c + λ < 0 (algorithm 1)."""
    if penalty * excess + multiplier >= 0:
        return multiplier * excess + penalty / 2 * excess**2
    return -(multiplier**2) / (2 * penalty)


def moved(excess: float, multiplier: float, penalty: float, rate: float, growth: float) -> tuple[float, float]:
    """λ and ρ after an epoch whose constraint was missed by this much, or kept."""
    step = excess if penalty * excess + multiplier >= 0 else -multiplier / penalty
    return multiplier + rate * step, penalty * (growth if excess > 0 else 1)


def measured(logits: Rows, targets: Rows) -> tuple[float, float, float]:
    """The cross-entropy, and mean and deviation of energies."""
    energies = [energy(z) for z in logits]
    mean = sum(energies) / len(energies)
    return cross_entropy(logits, targets), mean, math.sqrt(sum((e - mean) ** 2 for e in energies) / len(energies))
