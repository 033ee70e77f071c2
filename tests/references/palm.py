"""Lu et al., 2024: assignment to prototypes, their moves, likelihood and contrast, one row and prototype at a time."""

import math
from collections.abc import Sequence

Vector = list[float]
Rows = Sequence[Sequence[float]]


def product(a: Sequence[float], b: Sequence[float]) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Sequence[float]) -> Vector:
    length = math.sqrt(product(a, a))
    return [x / length for x in a]


def assignment(rows: Rows, prototypes: Rows) -> list[Vector]:
    """Three rounds in which prototypes get equal parts of the rows, and then rows are divided wholly."""
    q = [[math.exp(product(row, p) / 0.05) for p in prototypes] for row in rows]
    for _ in range(3):
        columns = [sum(q[i][p] for i in range(len(rows))) for p in range(len(prototypes))]
        q = [[value / columns[p] for p, value in enumerate(row)] for row in q]
        q = [[value / sum(row) for value in row] for row in q]
    return q


def of_class(q: Rows, targets: Rows, nearest: int) -> list[Vector]:
    """The assignment to prototypes p of class p mod C, weighted by the class; only the largest of each row."""
    classes = len(targets[0])
    own = [[value * y[p % classes] for p, value in enumerate(row)] for row, y in zip(q, targets, strict=True)]
    kept = []
    for row in own:
        largest = sorted(range(len(row)), key=lambda p: -row[p])[:nearest]
        kept.append([value if p in largest else 0.0 for p, value in enumerate(row)])
    return kept


def shares(values: Sequence[float]) -> Vector:
    total = sum(values)
    return [value / total if total else 0.0 for value in values]


def moved(rows: Rows, targets: Rows, prototypes: Rows, nearest: int, momentum: float) -> list[Vector]:
    """P ← unit(α·P + (1 − α)·the rows assigned to it, each divided among prototypes first)."""
    own = [shares(row) for row in of_class(assignment(rows, prototypes), targets, nearest)]
    result = []
    for p, prototype in enumerate(prototypes):
        weights = shares([row[p] for row in own])
        pull = [sum(w * row[d] for w, row in zip(weights, rows, strict=True)) for d in range(len(prototype))]
        result.append(unit([momentum * a + (1 - momentum) * b for a, b in zip(prototype, pull, strict=True)]))
    return result


def loss(
    rows: Rows,
    targets: Rows,
    prototypes: Rows,
    *,
    nearest: int,
    momentum: float,
    temperature: float,
    spread: float,
) -> float:
    """−log-likelihood under the moved prototypes, and the contrast between these at temperature 0.5."""
    after = moved(rows, targets, prototypes, nearest, momentum)
    likelihood = 0.0
    for row, own in zip(rows, of_class(assignment(rows, after), targets, nearest), strict=True):
        near = [product(row, p) / temperature for p in after]
        likelihood += product(shares(own), near) - math.log(sum(math.exp(value) for value in near))
    contrast, classes = 0.0, len(targets[0])
    for p, a in enumerate(after):
        others = [(k, product(a, b) / 0.5) for k, b in enumerate(after) if k != p]
        alike = [value for k, value in others if k % classes == p % classes]
        contrast += math.log(sum(math.exp(value) for _, value in others)) - sum(shares_of(alike))
    return spread * contrast / len(after) - likelihood / len(rows)


def shares_of(values: Sequence[float]) -> Vector:
    """Each value divided by how many there are."""
    return [value / len(values) for value in values]
