"""Huang and Li, 2021: a softmax for each group of classes and its "others", one group at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def probabilities(
    logits: Sequence[float], others: Sequence[float], groups: Sequence[int]
) -> tuple[list[float], list[float]]:
    """p of each class in its group, and of each group's others."""
    of_classes, of_others = [0.0] * len(logits), []
    for group, other in enumerate(others):
        classes = [c for c, own in enumerate(groups) if own == group]
        total = math.exp(other) + sum(math.exp(logits[c]) for c in classes)
        for c in classes:
            of_classes[c] = math.exp(logits[c]) / total
        of_others.append(math.exp(other) / total)
    return of_classes, of_others


def loss(logits: Rows, others: Rows, groups: Sequence[int], targets: Rows) -> float:
    """Σ over groups of −log p of the class, or of others where the class is in another group; its expectation."""
    total = 0.0
    for z, other, y in zip(logits, others, targets, strict=True):
        p, p_others = probabilities(z, other, groups)
        for c, share in enumerate(y):
            for group in range(len(other)):
                total -= share * math.log(p[c] if groups[c] == group else p_others[group])
    return total / len(logits)


def score(logits: Sequence[float], others: Sequence[float], groups: Sequence[int]) -> float:
    """−max over groups of −p of others."""
    return -max(-p for p in probabilities(logits, others, groups)[1])


def decision(logits: Sequence[float], others: Sequence[float], groups: Sequence[int]) -> int:
    """The likeliest class of the group whose likeliest class is the likeliest."""
    p, _ = probabilities(logits, others, groups)
    return p.index(max(p))
