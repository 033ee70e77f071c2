"""Partial and asymmetric contrastive learning (Wang et al., 2022), one pair of rows at a time."""

import math
from collections.abc import Sequence

from .palm import product

Rows = Sequence[Sequence[float]]


def rare_classes(counts: Sequence[float], share: float) -> list[int]:
    """The classes that are left when the round((1 − share)·C) largest are taken away, one by one."""
    left = list(range(len(counts)))
    for _ in range(round((1 - share) * len(counts))):
        left.remove(max(left, key=lambda c: counts[c]))
    return left


def loss(rows: Rows, labels: Sequence[int], outliers: Rows, rare: Sequence[int], temperature: float) -> float:
    """The mean over rows of rare classes of the cross-entropy to others of their class, outliers being in the sum."""
    tail = [index for index, label in enumerate(labels) if label in rare]
    total = 0.0
    for i in tail:
        others = [j for j in tail if j != i]
        same = [j for j in others if labels[j] == labels[i]]
        if not same:
            continue
        contrast = [rows[j] for j in others] + list(outliers)
        everybody = sum(math.exp(product(rows[i], z) / temperature) for z in contrast)
        logs = [product(rows[i], rows[j]) / temperature - math.log(everybody) for j in same]
        total -= sum(logs) / len(same)
    return total / len(tail) if tail else 0.0


def expected_loss(rows: Rows, targets: Rows, outliers: Rows, rare: Sequence[int], temperature: float) -> float:
    """The same of distributions: rows are in the tail, and two of one class, with a probability."""
    inside = [sum(y[c] for c in rare) for y in targets]
    total = 0.0
    for i, anchor in enumerate(rows):
        others = [j for j in range(len(rows)) if j != i]
        alike = {j: sum(targets[i][c] * targets[j][c] for c in rare) for j in others}
        if not sum(alike.values()):
            continue
        everybody = sum(inside[j] * math.exp(product(anchor, rows[j]) / temperature) for j in others)
        everybody += sum(math.exp(product(anchor, z) / temperature) for z in outliers)
        logs = {j: product(anchor, rows[j]) / temperature - math.log(everybody) for j in others}
        total -= inside[i] * sum(alike[j] * logs[j] for j in others) / sum(alike.values())
    return total / sum(inside)
