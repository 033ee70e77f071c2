"""Show the progress of a benchmark: a table that fills in on a terminal, lines elsewhere."""

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Protocol

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from oodles.benchmarking.description import Task
from oodles.benchmarking.forecast import Forecast
from oodles.comparing.results import Result
from oodles.runs.recipe import own_score


class Show(Protocol):
    """A function to call with each run that has ended, and its result or the reason why it has none."""

    def __call__(self, task: Task, result: Result | None, reason: str) -> None: ...


@contextmanager
def display(
    tasks: Sequence[Task], earlier: Mapping[Task, Result], forecast: Forecast, *, shown: bool
) -> Iterator[Show]:
    """Say what a benchmark will take, and open a function that shows the result of each run, on standard error.

    Args:
        tasks: all runs.
        earlier: the results of those that ended in an earlier call.
        forecast: how long the others will take; what ends is told to it.
        shown: whether to show anything.
    """
    if not shown:
        yield lambda task, result, reason: None
        return
    print(f"{len(tasks)} run{'s' if len(tasks) > 1 else ''}: {forecast.plan}.", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        with _live(tasks, earlier, forecast) as show:
            yield show
    else:
        done = len(earlier)

        def line(task: Task, result: Result | None, reason: str) -> None:
            nonlocal done
            done += 1
            forecast.end(task, result)
            left = f", {forecast}" if str(forecast) and not reason else ""
            print(f"[{done}/{len(tasks)}] {task}: {_words(result, reason)}{left}", file=sys.stderr, flush=True)

        yield line


def _words(result: Result | None, reason: str) -> str:
    return reason if reason or result is None else f"test accuracy {result.accuracy:.1%}"


@dataclass
class _Cells:
    """The results of the runs of one row and suite so far."""

    accuracy: list[float] = field(default_factory=list)
    near: list[float] = field(default_factory=list)
    far: list[float] = field(default_factory=list)
    failed: int = 0

    def add(self, result: Result | None, reason: str) -> None:
        if reason or result is None or result.accuracy is None:
            self.failed += 1
            return
        self.accuracy.append(result.accuracy)
        score = own_score(result.methods)
        for kind, aurocs in (("near", self.near), ("far", self.far)):
            sets = [by for name, by in result.metrics.get("test", {}).items() if name.startswith(f"{kind}:")]
            if values := [by[score]["auroc"] for by in sets if score in by]:
                aurocs.append(math.fsum(values) / len(values))


@contextmanager
def _live(tasks: Sequence[Task], earlier: Mapping[Task, Result], forecast: Forecast) -> Iterator[Show]:
    cells: dict[tuple[str, str], _Cells] = {(task.suite, task.row): _Cells() for task in tasks}
    seeds = {place: sum((task.suite, task.row) == place for task in tasks) for place in cells}
    several = len({suite for suite, _ in cells}) > 1
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[left]}"))
    bar = Progress(*columns)
    runs = bar.add_task("runs", total=len(tasks), completed=len(earlier), left=str(forecast))

    def picture() -> Group:
        table = Table(box=None, pad_edge=False)
        for heading in (*(["suite"] if several else []), "recipe"):
            table.add_column(heading)
        for heading in ("seeds", "accuracy", "AUROC near", "AUROC far"):
            table.add_column(heading, justify="right")
        for place, cell in cells.items():
            failed = f", {cell.failed} failed" if cell.failed else ""
            done = f"{len(cell.accuracy)}/{seeds[place]}{failed}"
            means = [_mean(values) for values in (cell.accuracy, cell.near, cell.far)]
            table.add_row(*(place if several else place[1:]), done, *means)
        return Group(table, bar)

    for task, result in earlier.items():
        cells[task.suite, task.row].add(result, result.reason)
    console = Console(stderr=True)
    with Live(get_renderable=picture, console=console, refresh_per_second=4) as live:

        def show(task: Task, result: Result | None, reason: str) -> None:
            cells[task.suite, task.row].add(result, reason)
            forecast.end(task, result)
            bar.update(runs, advance=1, left=str(forecast))
            if reason:
                live.console.print(f"{task}: {reason}", style="red", markup=False, highlight=False)

        yield show


def _mean(values: Sequence[float]) -> str:
    return f"{100 * math.fsum(values) / len(values):.1f}" if values else ""
