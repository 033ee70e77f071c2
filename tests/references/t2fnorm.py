"""T2FNorm in plain float64, one row at a time (Regmi et al., section 3)."""

import math
from collections.abc import Sequence

Row = Sequence[float]


def last_layer(features: Row, weight: Sequence[Row], bias: Row) -> list[float]:
    """W·h + b."""
    return [sum(w * h for w, h in zip(row, features, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def training_logits(features: Row, weight: Sequence[Row], bias: Row, temperature: float) -> list[float]:
    """fc(h / ‖h‖ / τ)."""
    length = math.sqrt(sum(h * h for h in features))
    return last_layer([h / length / temperature for h in features], weight, bias)


def testing_logits(features: Row, weight: Sequence[Row], bias: Row, temperature: float) -> list[float]:
    """fc(h / τ)."""
    return last_layer([h / temperature for h in features], weight, bias)
