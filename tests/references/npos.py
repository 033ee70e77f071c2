"""Tao et al., 2023: border rows, the candidates that are kept, and the judge's loss, one distance at a time."""

import math
from collections.abc import Sequence

Rows = Sequence[Sequence[float]]


def unit(row: Sequence[float]) -> list[float]:
    length = math.sqrt(sum(x * x for x in row))
    return [x / length for x in row]


def distance_to_neighbor(row: Sequence[float], others: Rows, k: int) -> float:
    """The distance at unit length to the k-th nearest of the others, of which the row itself may be one."""
    return sorted(math.dist(unit(row), unit(other)) for other in others)[k - 1]


def border(rows: Rows, k: int, count: int) -> list[int]:
    """The places of the rows that are farthest from their k-th neighbour."""
    far = [distance_to_neighbor(row, rows, k) for row in rows]
    return sorted(range(len(rows)), key=lambda place: -far[place])[:count]


def candidates(anchor: Sequence[float], steps: Rows, rows: Rows, k: int, kept: int) -> list[list[float]]:
    """Of anchor + step for all steps, those that are farthest from their k-th neighbour among the rows."""
    made = [[a + s for a, s in zip(anchor, step, strict=True)] for step in steps]
    return sorted(made, key=lambda row: -distance_to_neighbor(row, rows, k))[:kept]


def loss(known: Sequence[float], virtual: Sequence[float]) -> float:
    """−E_known[log 1 / (1 + exp(−φ))] − E_virtual[log 1 / (1 + exp(φ))]."""
    first = sum(math.log(1 + math.exp(-phi)) for phi in known) / len(known)
    return first + sum(math.log(1 + math.exp(phi)) for phi in virtual) / len(virtual)
