"""IsoMax+ in plain float64, one row at a time (Macêdo and Ludermir, 2021); the loss is IsoMax's."""

from collections.abc import Sequence

from .isomax import Row, distance


def unit(row: Row) -> list[float]:
    length = distance(row, [0.0] * len(row))
    return [x / length for x in row]


def logits_of(features: Row, prototypes: Sequence[Row], distance_scale: float) -> list[float]:
    """−|d_s|·‖f̂ − p̂_j‖."""
    return [-abs(distance_scale) * distance(unit(features), unit(prototype)) for prototype in prototypes]
