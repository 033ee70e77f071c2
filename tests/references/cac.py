"""Miller et al., 2021: distances to anchors, the two terms, the rejection score; one row and class at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def distances(z: Sequence[float], centres: Rows) -> list[float]:
    """‖z − c_k‖₂ for every centre."""
    return [math.sqrt(sum((a - b) ** 2 for a, b in zip(z, centre, strict=True))) for centre in centres]


def anchors(classes: int, alpha: float) -> list[list[float]]:
    """α·e_1, …, α·e_K."""
    return [[alpha if i == k else 0.0 for i in range(classes)] for k in range(classes)]


def tuplet(d: Sequence[float], label: int) -> float:
    """log(1 + Σ_{j≠y} exp(d_y − d_j))."""
    return math.log(1 + sum(math.exp(d[label] - other) for j, other in enumerate(d) if j != label))


def cac(logits: Rows, targets: Rows, alpha: float) -> tuple[float, float]:
    """The means of both terms, for distributions over labels their expectation."""
    both = [0.0, 0.0]
    for z, y in zip(logits, targets, strict=True):
        d = distances(z, anchors(len(z), alpha))
        for label, share in enumerate(y):
            both[0] += share * tuplet(d, label)
            both[1] += share * d[label]
    return both[0] / len(logits), both[1] / len(logits)


def centres(logits: Rows, labels: Sequence[int], alpha: float) -> list[list[float]]:
    """The mean logits of the rows of each class that are classified rightly; its anchor where there are none."""
    classes = len(logits[0])
    found = anchors(classes, alpha)
    for k in range(classes):
        right = [z for z, y in zip(logits, labels, strict=True) if y == k and max(z) == z[k]]
        if right:
            found[k] = [sum(z[i] for z in right) / len(right) for i in range(classes)]
    return found


def score(z: Sequence[float], around: Rows) -> float:
    """min_k d_k (1 − softmin(d)_k)."""
    d = distances(z, around)
    total = sum(math.exp(-value) for value in d)
    return min(value * (1 - math.exp(-value) / total) for value in d)
