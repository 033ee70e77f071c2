"""Ming et al., 2023: moves of prototypes, in the order of the rows and at once, compactness and dispersion."""

import math
from collections.abc import Sequence

from .palm import Vector, product, unit

Rows = Sequence[Sequence[float]]


def moved_in_order(prototypes: Rows, rows: Rows, labels: Sequence[int], momentum: float) -> list[Vector]:
    """P_y ← unit(m·P_y + (1 − m)·z) for one row after the other."""
    after = [list(prototype) for prototype in prototypes]
    for row, y in zip(rows, labels, strict=True):
        after[y] = unit([momentum * a + (1 - momentum) * b for a, b in zip(after[y], row, strict=True)])
    return after


def moved(prototypes: Rows, rows: Rows, targets: Rows, momentum: float) -> list[Vector]:
    """P_c ← unit(mⁿ·P_c + (1 − mⁿ)·mean), with n the rows of the class and their mean."""
    after = []
    for c, prototype in enumerate(prototypes):
        n = sum(y[c] for y in targets)
        if n == 0:
            after.append(list(prototype))
            continue
        mean = [sum(y[c] * row[d] for y, row in zip(targets, rows, strict=True)) / n for d in range(len(prototype))]
        kept = momentum**n
        after.append(unit([kept * a + (1 - kept) * b for a, b in zip(prototype, mean, strict=True)]))
    return after


def compactness(rows: Rows, prototypes: Rows, targets: Rows, temperature: float) -> float:
    """The mean cross-entropy of z·P / T to the targets, among the classes whose prototype is not zero."""
    total = 0.0
    for row, y in zip(rows, targets, strict=True):
        near = {c: product(row, p) / temperature for c, p in enumerate(prototypes) if any(p)}
        everybody = math.log(sum(math.exp(value) for value in near.values()))
        total += sum(y[c] * (everybody - value) for c, value in near.items())
    return total / len(rows)


def dispersion(prototypes: Rows, temperature: float) -> float:
    """The mean over classes of log(1 / (C − 1) Σ_{j ≠ i} exp(P_i·P_j / T)), among prototypes that are not zero."""
    there = [prototype for prototype in prototypes if any(prototype)]
    if len(there) < 2:
        return 0.0
    logs = []
    for i, prototype in enumerate(there):
        others = [math.exp(product(prototype, other) / temperature) for j, other in enumerate(there) if j != i]
        logs.append(math.log(sum(others) / len(others)))
    return sum(logs) / len(logs)
