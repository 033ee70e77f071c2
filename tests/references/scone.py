"""SCONE (Bai et al., 2023), in plain float64."""

from .equations import Rows
from .woods import wild


def scone(logits: Rows, slope: float, bias: float, margin: float) -> float:
    """The mean of σ(−φ(lse − η)) over wild rows: that of WOODS with a margin."""
    return wild(logits, slope, bias, margin)
