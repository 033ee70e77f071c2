"""What is seen of a benchmark while it works."""

import io
import sys
from pathlib import Path

import pytest

from oodles import Benchmark, open_run
from oodles.benchmarking.description import Task
from oodles.benchmarking.display import display
from oodles.comparing.results import Result, result_of
from tests.comparing.synthetic_runs import write_run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def runs(folder: Path) -> dict[Task, Result]:
    """Write runs of two recipes with two seeds, of which one diverged."""
    spec = Benchmark.from_dict(
        {"suites": ["digits"], "seeds": 2, "recipes": [{"methods": ["mixup"]}, {"methods": ["energy-gap"]}]}, name="x"
    )
    results_by_task = {}
    for task in spec.tasks(folder):
        bad = "it grew" if (task.row, task.seed) == ("mixup", 1) else ""
        results_by_task[task] = result_of(
            open_run(write_run(task.folder, task.row, seed=task.seed, better=1.0, diverged=bad))
        )
    return results_by_task


def test_a_table_fills_in_on_a_terminal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm")
    results_by_task = runs(tmp_path)
    (first, its), *others = results_by_task.items()
    with display(list(results_by_task), {first: its}, shown=True) as show:
        for task, result in others:
            show(task, result, result.reason)
    screen = sys.stderr.getvalue()  # type: ignore[attr-defined]
    last = screen[screen.rindex("recipe") :]
    (mixup,) = [line.split() for line in last.splitlines() if "mixup" in line]
    (gap,) = [line.split() for line in last.splitlines() if "energy-gap" in line]
    assert mixup[1:4] == ["1/2,", "1", "failed"] and gap[1] == "2/2"
    assert "mixup, digits, seed 1: it grew" in screen and "4/4" in last

    def mean(kind: str, *results: Result) -> str:
        (by_score,) = [by for name, by in results[0].metrics["test"].items() if name.startswith(kind)]
        score = "energy" if results[0].label == "energy-gap" else "msp"
        assert by_score[score] != by_score["knn"]
        values = [result.metrics["test"][f"{kind}"][score]["auroc"] for result in results]
        return f"{100 * sum(values) / len(values):.1f}"

    two = [results_by_task[task] for task in results_by_task if task.row == "energy-gap"]
    accuracy = sum(result.accuracy or 0 for result in two) / 2
    assert gap[2:] == [f"{100 * accuracy:.1f}", mean("near:digits", *two), mean("far:letters", *two)]
    assert mixup[4:] == [f"{100 * (its.accuracy or 0):.1f}", mean("near:digits", its), mean("far:letters", its)]


def test_lines_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    results_by_task = runs(tmp_path)
    (first, its), *others = results_by_task.items()
    with display(list(results_by_task), {first: its}, shown=True) as show:
        for task, result in others:
            show(task, result, result.reason)
    accuracies = [f"{result.accuracy:.1%}" for result in results_by_task.values() if result.accuracy is not None]
    assert capsys.readouterr().err.splitlines() == [
        "1 of 4 runs had ended already.",
        "[2/4] mixup, digits, seed 1: it grew",
        f"[3/4] energy-gap, digits, seed 0: test accuracy {accuracies[1]}",
        f"[4/4] energy-gap, digits, seed 1: test accuracy {accuracies[2]}",
    ]
    with display(list(results_by_task), {}, shown=True) as show:
        show(first, None, "it went away")
    assert capsys.readouterr().err == "[1/4] mixup, digits, seed 0: it went away\n"
    with display(list(results_by_task), {}, shown=False) as show:
        show(first, its, "")
    assert capsys.readouterr().err == ""
