"""The choice of DOS (Jiang et al., 2024, algorithm 1): k-means, and the hardest of each cluster."""

import math
from collections.abc import Sequence

import numpy as np


def unit(rows: np.ndarray) -> list[list[float]]:
    """Rows at unit length."""
    return [[value / math.sqrt(sum(v * v for v in row)) for value in row] for row in rows.tolist()]


def distance(a: Sequence[float], b: Sequence[float]) -> float:
    """‖a − b‖²."""
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def first_centers(points: list[list[float]], u: Sequence[float]) -> list[list[float]]:
    """k-means++: each center drawn in proportion to the squared distance from the nearest one so far."""
    centers: list[list[float]] = []
    for share in u:
        weights = [min((distance(point, center) for center in centers), default=1.0) for point in points]
        left = share * sum(weights)
        place = len(points) - 1
        for number, weight in enumerate(weights):
            left -= weight
            if left < 0:
                place = number
                break
        centers.append(points[place])
    return centers


def clusters(points: list[list[float]], u: Sequence[float], rounds: int) -> list[int]:
    """Lloyd's algorithm; the center of an empty cluster stays where it is."""
    centers = first_centers(points, u)

    def nearest(point: list[float]) -> int:
        return min(range(len(centers)), key=lambda number: distance(point, centers[number]))

    for _ in range(rounds):
        own = [nearest(point) for point in points]
        for number in range(len(centers)):
            inside = [point for point, label in zip(points, own, strict=True) if label == number]
            if inside:
                centers[number] = [sum(values) / len(inside) for values in zip(*inside, strict=True)]
    return [nearest(point) for point in points]


def chosen(unknown: Sequence[float], labels: Sequence[int], keep: int) -> list[int]:
    """The least unknown of each cluster; then, where fewer clusters than rows are left, the next of each."""
    rest = set(range(len(unknown)))
    places: list[int] = []
    while len(places) < keep:
        round_of = []
        for label in set(labels):
            inside = [place for place in rest if labels[place] == label]
            if inside:
                round_of.append(min(inside, key=lambda place: (unknown[place], place)))
        round_of.sort(key=lambda place: (unknown[place], place))
        places += round_of
        rest -= set(round_of)
    return places[:keep]
