"""What a detector says of inputs."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.files import csv_text


@dataclass(frozen=True, eq=False)
class Verdicts:
    """The class, score, p-value and verdict of inputs, row by row."""

    names: tuple[str, ...]
    """File names, or row numbers."""
    classes: tuple[str, ...]
    """The predicted classes; meaningless for inputs that are not accepted."""
    predictions: NDArray[np.int64]
    """Their class ids."""
    scores: NDArray[np.float64]
    """Higher is more out-of-distribution; infinity of inputs that are not finite, or that the classifier makes so."""
    p_values: NDArray[np.float64]
    """Of a known input, at most α with a probability of at most α."""
    thresholds: NDArray[np.float64]
    """Of each input, the highest score that is accepted."""
    accepted: NDArray[np.bool_]
    """True where an input is accepted: its score is at most the threshold, or, with ``fdr``, the batch lets it pass."""
    score: str
    """The outlier score's name."""
    rule: str
    """What is accepted, in words."""
    choice: str = ""
    """Why the score was chosen, in words; nothing where it was asked for."""

    def __len__(self) -> int:
        return len(self.names)

    @property
    def threshold(self) -> float:
        """Return the threshold, where it is one for all.

        Raises:
            ValueError: where classes have thresholds of their own.
        """
        if len(set(self.thresholds.tolist())) > 1:
            raise ValueError("The threshold must be one for all inputs, and classes have their own: read thresholds.")
        return float(self.thresholds[0])

    @property
    def not_finite(self) -> int:
        """Return how many inputs are refused since NaN or infinity is in them, or in what the classifier says."""
        return int((~np.isfinite(self.scores)).sum())

    def __str__(self) -> str:
        broken = f"; {self.not_finite} not finite, and refused for it" if self.not_finite else ""
        return f"{int(self.accepted.sum())} of {len(self.names)} accepted: {self.rule}{broken}"

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON; a score that is not finite is None."""
        keys = ("input", "class", "score", "accepted", "p_value", "threshold")
        scores = [score if math.isfinite(score) else None for score in self.scores.tolist()]
        numbers = (self.accepted.tolist(), self.p_values.tolist(), self.thresholds.tolist())
        columns = (self.names, self.classes, scores, *numbers)
        rows = [dict(zip(keys, row, strict=True)) for row in zip(*columns, strict=True)]
        alike = len(set(self.thresholds.tolist())) == 1
        about = {"score": self.score, "threshold": self.threshold if alike else None, "not_finite": self.not_finite}
        about |= {"choice": self.choice} if self.choice else {}
        return {**about, "inputs": rows}

    def to_csv(self) -> str:
        """Write one line per input: its name, class, score, ``accept`` or ``reject``, and p-value."""
        verdicts = ["accept" if accepted else "reject" for accepted in self.accepted.tolist()]
        columns = (self.names, self.classes, self.scores.tolist(), verdicts, self.p_values.tolist())
        return csv_text([("input", "class", "score", "verdict", "p_value"), *zip(*columns, strict=True)])
