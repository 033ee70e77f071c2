"""Du et al., 2022: von Mises–Fisher densities, one row and class at a time; Bessel functions by series."""

import math
from collections.abc import Sequence

Vector = list[float]
Rows = Sequence[Sequence[float]]


def log_bessel(order: float, x: float) -> float:
    """log I_ν(x) of the series Σ_m (x/2)^(2m + ν) / (m! Γ(m + ν + 1))."""
    terms = [
        (2 * m + order) * math.log(x / 2) - math.lgamma(m + 1) - math.lgamma(m + order + 1)
        for m in range(200 + 2 * int(x))
    ]
    most = max(terms)
    return most + math.log(sum(math.exp(term - most) for term in terms))


def log_normalizer(concentration: float, dimensions: int) -> float:
    """log of κ^(d/2 − 1) / ((2π)^(d/2) I_(d/2 − 1)(κ))."""
    order = dimensions / 2 - 1
    return order * math.log(concentration) - dimensions / 2 * math.log(2 * math.pi) - log_bessel(order, concentration)


def product(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Sequence[float]) -> Vector:
    length = math.sqrt(product(a, a))
    return [x / length for x in a]


def log_densities(row: Sequence[float], prototypes: Rows, concentrations: Sequence[float]) -> Vector:
    """log C_d(κ_c) + κ_c·μ_c·z of a row z at unit length."""
    z = unit(row)
    return [
        log_normalizer(kappa, len(z)) + kappa * product(mean, z)
        for mean, kappa in zip(prototypes, concentrations, strict=True)
    ]


def loss(rows: Rows, targets: Rows, prototypes: Rows, concentrations: Sequence[float]) -> float:
    """The mean of −log(p(z | y) / Σ_c p(z | c)); for distributions over labels its expectation."""
    total = 0.0
    for row, y in zip(rows, targets, strict=True):
        densities = [math.exp(value) for value in log_densities(row, prototypes, concentrations)]
        total -= sum(share * math.log(p / sum(densities)) for share, p in zip(y, densities, strict=True))
    return total / len(rows)


def moved_in_order(rows: Rows, labels: Sequence[int], prototypes: Rows, momentum: float) -> list[Vector]:
    """μ_y ← unit(α·μ_y + (1 − α)·z), one row after the other."""
    after = [list(mean) for mean in prototypes]
    for row, label in zip(rows, labels, strict=True):
        after[label] = unit([momentum * a + (1 - momentum) * b for a, b in zip(after[label], unit(row), strict=True)])
    return after


def moved(rows: Rows, targets: Rows, prototypes: Rows, momentum: float) -> list[Vector]:
    """μ_c ← unit(αⁿ·μ_c + (1 − αⁿ)·the mean of its n rows)."""
    after = []
    for c, mean in enumerate(prototypes):
        count = sum(y[c] for y in targets)
        kept = momentum**count
        pull = [0.0] * len(mean)
        for row, y in zip(rows, targets, strict=True):
            pull = [a + y[c] * b / count for a, b in zip(pull, unit(row), strict=True)] if count else pull
        after.append(unit([kept * a + (1 - kept) * b for a, b in zip(mean, pull, strict=True)]))
    return after
