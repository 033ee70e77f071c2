"""How long the runs of a benchmark that are left will train, from those that have ended."""

from collections.abc import Iterable, Mapping, Sequence
from heapq import heapreplace
from statistics import median

from oodles.benchmarking.description import Task
from oodles.cards import card
from oodles.comparing.results import Result
from oodles.runs.recipe import Recipe


class Forecast:
    """The training time of the runs that are left.

    A run is expected to take the median of the ended ones of its row and suite, or else as long as those of its suite
    for each epoch and for what its methods add to a step; nothing is expected of a suite of which no run has ended.
    Testing is not counted, and neither is what a run that goes on has done before.

    Args:
        left: runs to train, in their order.
        ended: the results of others.
        side_by_side: so many run at a time; where that is not known, their times are added up.
    """

    def __init__(self, left: Sequence[Task], ended: Mapping[Task, Result], side_by_side: int | None):
        self._left = list(left)
        self._ended = len(ended)
        self._side_by_side = side_by_side
        self._seconds: dict[tuple[str, str], list[float]] = {}
        self._seconds_of_work: dict[str, list[float]] = {}
        for task, result in ended.items():
            self._learn(task, result)

    def end(self, task: Task, result: Result | None) -> None:
        """Note that a run has ended, or has failed without a result."""
        self._left = [other for other in self._left if other is not task]
        if result is not None:
            self._learn(task, result)

    def _learn(self, task: Task, result: Result) -> None:
        if result.seconds is not None and result.status == "finished":
            self._seconds.setdefault((task.suite, task.row), []).append(result.seconds)
            self._seconds_of_work.setdefault(task.suite, []).append(result.seconds / work(task.recipe))

    @property
    def plan(self) -> str:
        """Say what is to be done, before it begins: ``4 ended, 3 to train, 2 side by side, about 12 min of …``."""
        beside = f"{self._side_by_side} side by side" if self._side_by_side else ""
        words = (f"{self._ended} ended", f"{len(self._left)} to train", beside, str(self))
        unknown = "" if str(self) else "; how long that takes is said when one has ended"
        return ", ".join(filter(None, words)) + unknown

    def __str__(self) -> str:
        """Return ``about 12 min of training left``; nothing where nothing is known, or nothing left."""
        expected = [self._expected(task) for task in self._left]
        known = [seconds for seconds in expected if seconds is not None]
        if not known:
            return ""
        others = len(expected) - len(known)
        more = f", and {others} run{'s' if others > 1 else ''} of suites of which none has ended" if others else ""
        return f"about {in_words(together(known, self._side_by_side or 1))} of training left{more}"

    def _expected(self, task: Task) -> float | None:
        if seconds := self._seconds.get((task.suite, task.row)):
            return median(seconds)
        each = self._seconds_of_work.get(task.suite)
        return median(each) * work(task.recipe) if each else None


def work(recipe: Recipe) -> float:
    """Return how long a recipe trains, in epochs of plain training, by what was measured of its methods' steps.

    What methods add to a step is added up; those that were not measured are taken to add nothing.
    """
    times = [card(name).step_time or 1.0 for name, _ in recipe.methods]
    return recipe.epochs * (1.0 + sum(time - 1.0 for time in times))


def together(seconds: Iterable[float], side_by_side: int) -> float:
    """Return how long runs take, so many at a time, where each begins in its turn as soon as there is room."""
    ends = [0.0] * side_by_side
    for one in seconds:
        heapreplace(ends, ends[0] + one)
    return max(ends)


def in_words(seconds: float) -> str:
    """Write a time in the unit that fits: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
