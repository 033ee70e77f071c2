"""Watch the rate of refusals of a detector in use, and say when it is more than was promised."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from oodles.checks import check_number, check_whole
from oodles.detection.verdicts import Verdicts
from oodles.files import check_writable

SHRINK = np.array([0.8, 0.6, 0.4, 0.2, 0.1, 0.05, 0.02, 0.01])
"""What the odds against a refusal may have become multiplied by: from a little more refusals to nearly all."""
STARTS = 64
"""So many windows are kept in which a change may have begun."""


class Evidence:
    """An anytime-valid test of whether a group's rows are refused more often than their calibration lets expect.

    Before anything is seen, the rate of refusals is distributed as Beta(k, n + 1 − k), where the threshold is the k-th
    highest of n calibration scores. The evidence compares the refusals with what they would be if, from some window on,
    the rate followed Beta(k, s·(n + 1 − k)) for some s < 1: it is the mean of such likelihood ratios over s and over
    the first window, a martingale with mean one while all is as promised, over the draw of the calibration rows too. By
    Ville's inequality it ever exceeds 1/δ with a probability of at most δ. Equal scores make refusals rarer, never more
    frequent.

    Args:
        rank: k.
        rows: n.
    """

    def __init__(self, rank: int, rows: int):
        self._refusals, self._acceptances = float(rank), float(rows + 1 - rank)
        self._windows = 0
        self._starts: list[_Start] = []
        self.begin()

    def begin(self) -> None:
        """Begin a window, in which a change may begin."""
        self._windows += 1
        weight = 1 / (self._windows * (self._windows + 1))  # they sum to 1; those to come have 1 / (windows + 1)
        self._starts.append(_Start(math.log(weight), self._refusals, self._acceptances))
        if len(self._starts) > STARTS:  # leaving one out lowers the evidence, which is allowed
            self._starts.remove(min(self._starts, key=lambda start: start.last))

    def add(self, refused: NDArray[np.bool_]) -> float:
        """Take in rows in their order; return the highest logarithm of the evidence at a refusal or the last row."""
        rows = np.append(np.flatnonzero(refused), len(refused) - 1)  # it rises with a refusal only
        refusals = np.cumsum(refused)[rows]
        acceptances = rows + 1 - refusals
        logs = [start.add(refusals, acceptances) for start in self._starts]
        self._refusals += float(refusals[-1])
        self._acceptances += float(acceptances[-1])
        return float(np.logaddexp.reduce([*logs, np.full(len(rows), self._log_left)]).max())

    @property
    def log(self) -> float:
        """Return the logarithm of the evidence so far."""
        return float(np.logaddexp.reduce([*(start.last for start in self._starts), self._log_left]))

    @property
    def _log_left(self) -> float:
        return -math.log(self._windows + 1)


class _Start:
    """The likelihood ratio of a change that began with one window."""

    def __init__(self, log_weight: float, refusals: float, acceptances: float):
        self._log_weight = log_weight
        self._known = refusals, acceptances  # the rate's distribution until then
        self._seen = 0.0, 0.0
        self.last = log_weight

    def add(self, refusals: NDArray[np.int64], acceptances: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the logarithm of its part in the evidence after each row; counts are of the rows so far."""
        a, b = self._known
        more, less = self._seen[0] + refusals, self._seen[1] + acceptances
        promised = betaln(a + more, b + less) - betaln(a, b)
        changed = np.logaddexp.reduce(
            [betaln(a + more, b * shrink + less) - betaln(a, b * shrink) for shrink in SHRINK]
        )
        ratio: NDArray[np.float64] = changed - math.log(len(SHRINK)) - promised + self._log_weight
        self._seen = float(more[-1]), float(less[-1])
        self.last = float(ratio[-1])
        return ratio


@dataclass(frozen=True)
class Window:
    """What was seen in so many inputs."""

    number: int
    """From 1."""
    rows: int
    refused: int
    promised: float
    """The rate of false alarms that was promised."""
    evidence: float
    """The likelihood ratio that speaks for more refusals than promised, so far."""
    alarm: bool
    """True from the window on in which it exceeded one over the level."""

    def as_line(self) -> str:
        """Write it as a line of JSON, with the time."""
        rate = self.refused / self.rows
        now = datetime.now(UTC).isoformat(timespec="seconds")
        return json.dumps(
            {
                "window": self.number,
                "rows": self.rows,
                "refused": self.refused,
                "rate": rate,
                "promised": self.promised,
                "evidence": self.evidence,
                "alarm": self.alarm,
                "at": now,
            }
        )


class Watch:
    """Counts the refusals of a detector in use; made by :meth:`Detector.watch`.

    Calling it scores inputs as the detector does. ``alarm`` becomes true when more inputs are refused than the promised
    rate explains, the uncertainty of the calibration included: while all inputs are known ones like the calibration
    rows, that ever happens with a probability of at most ``level``, however long it watches.

    Args:
        score: scores inputs.
        evidence: of each group of classes with a promise of its own.
        false_alarms: the promised rate.
        window: inputs per line.
        level: the probability of an alarm without a cause, in (0, 1).
        to: a file to which a JSON line per full window is appended, or none.
    """

    def __init__(
        self,
        score: Callable[[Any], Verdicts],
        evidence: list[Evidence],
        false_alarms: float,
        *,
        window: int = 1000,
        level: float = 0.01,
        to: str | Path | None = None,
    ):
        check_whole("window", window, low=1)
        check_number("level", level, above=0)
        if level >= 1:
            raise ValueError(f"level must be below 1, got {level}: 0.01 gives an alarm without a cause in 1 of 100.")
        if to is not None:
            check_writable(Path(to))
        self._score, self._groups, self._promised = score, evidence, false_alarms
        self._window, self._level, self._to = window, level, None if to is None else Path(to)
        self.alarm = False
        self.rows = self.refused = 0
        self.windows: list[Window] = []
        """Those that are full; of a long watch, the last thousand."""
        self._number = self._in_window = self._refused_in_window = 0

    def __call__(self, inputs: Any) -> Verdicts:
        """Score inputs, count them, and return their verdicts."""
        verdicts = self._score(inputs)
        self.count(verdicts)
        return verdicts

    @property
    def evidence(self) -> float:
        """Return the likelihood ratio that speaks for more refusals than promised, so far."""
        return math.exp(min(sum(group.log for group in self._groups), 700.0))

    def count(self, verdicts: Verdicts) -> bool:
        """Take in verdicts of this detector, by its threshold, and return whether there is an alarm."""
        refused = ~(verdicts.scores <= verdicts.thresholds)  # also what is no number
        ids = verdicts.predictions if len(self._groups) > 1 else np.zeros(len(refused), np.int64)
        begin = 0
        while begin < len(refused):
            end = min(begin + self._window - self._in_window, len(refused))
            self._take(refused[begin:end], ids[begin:end])
            begin = end
        return self.alarm

    def _take(self, refused: NDArray[np.bool_], ids: NDArray[np.int64]) -> None:
        """Take in rows of one window."""
        for number, group in enumerate(self._groups):
            others = sum(other.log for other in self._groups if other is not group)
            if (rows := refused[ids == number]).size:
                self.alarm |= group.add(rows) + others >= -math.log(self._level)
        self.rows += len(refused)
        self.refused += int(refused.sum())
        self._in_window += len(refused)
        self._refused_in_window += int(refused.sum())
        if self._in_window == self._window:
            self._end_window()

    def _end_window(self) -> None:
        self._number += 1
        line = Window(self._number, self._window, self._refused_in_window, self._promised, self.evidence, self.alarm)
        self.windows = [*self.windows[-999:], line]
        self._in_window = self._refused_in_window = 0
        if self._to is not None:
            self._to.parent.mkdir(parents=True, exist_ok=True)
            with self._to.open("a", encoding="utf-8") as file:
                file.write(line.as_line() + "\n")
        for group in self._groups:
            group.begin()
