"""Sensoy et al., 2018, equations 3 to 5 and the divergence, one row and class at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def digamma(x: float) -> float:
    """ψ(x): upwards with ψ(x) = ψ(x + 1) − 1 / x, then the asymptotic series."""
    shift = 0.0
    while x < 12:
        shift -= 1 / x
        x += 1
    series = 1 / 12 - (1 / 120 - (1 / 252 - (1 / 240 - 1 / 132 / x**2) / x**2) / x**2) / x**2
    return shift + math.log(x) - 1 / (2 * x) - series / x**2


def concentration(z: Sequence[float], evidence: str) -> list[float]:
    """α_k = e_k + 1."""
    if evidence == "relu":
        return [max(0.0, value) + 1 for value in z]
    if evidence == "softplus":
        return [math.log(1 + math.exp(value)) + 1 for value in z]
    return [math.exp(min(10.0, max(-10.0, value))) + 1 for value in z]


def risk_of_label(alpha: Sequence[float], label: int, form: str) -> float:
    strength = sum(alpha)
    if form == "log":
        return math.log(strength) - math.log(alpha[label])
    if form == "digamma":
        return digamma(strength) - digamma(alpha[label])
    total = 0.0
    for k, value in enumerate(alpha):
        p = value / strength
        total += ((k == label) - p) ** 2 + p * (1 - p) / (strength + 1)
    return total


def divergence_of_label(alpha: Sequence[float], label: int) -> float:
    """KL(Dir(α̃) ‖ Dir(1, …, 1)), where α̃ = y + (1 − y) ⊙ α."""
    kept = [1.0 if k == label else value for k, value in enumerate(alpha)]
    strength = sum(kept)
    value = math.lgamma(strength) - math.lgamma(len(kept)) - sum(math.lgamma(a) for a in kept)
    return value + sum((a - 1) * (digamma(a) - digamma(strength)) for a in kept)


def edl(outputs: Rows, targets: Rows, evidence: str, form: str) -> tuple[float, float]:
    """The means of risk and divergence, for distributions over labels their expectation."""
    both = [0.0, 0.0]
    for z, y in zip(outputs, targets, strict=True):
        alpha = concentration(z, evidence)
        for label, share in enumerate(y):
            both[0] += share * risk_of_label(alpha, label, form)
            both[1] += share * divergence_of_label(alpha, label)
    return both[0] / len(outputs), both[1] / len(outputs)


def vacuity(z: Sequence[float], evidence: str) -> float:
    """K / S."""
    return len(z) / sum(concentration(z, evidence))
