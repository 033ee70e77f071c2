"""What is seen of a benchmark while it works."""

import io
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from oodles import Benchmark, Recipe, open_run
from oodles.benchmarking.description import Task
from oodles.benchmarking.display import display
from oodles.benchmarking.forecast import Forecast, in_words, together, work
from oodles.cards import card
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
    forecast = Forecast([task for task, _ in others], {first: its}, 2)
    with display(list(results_by_task), {first: its}, forecast, shown=True) as show:
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
    results_by_task = {task: replace(result, seconds=None) for task, result in runs(tmp_path).items()}
    (first, its), *others = results_by_task.items()
    forecast = Forecast([task for task, _ in others], {first: its}, 2)
    with display(list(results_by_task), {first: its}, forecast, shown=True) as show:
        for task, result in others:
            show(task, result, result.reason)
    accuracies = [f"{result.accuracy:.1%}" for result in results_by_task.values() if result.accuracy is not None]
    assert capsys.readouterr().err.splitlines() == [
        "4 runs: 1 ended, 3 to train, 2 side by side; how long that takes is said when one has ended.",
        "[2/4] mixup, digits, seed 1: it grew",
        f"[3/4] energy-gap, digits, seed 0: test accuracy {accuracies[1]}",
        f"[4/4] energy-gap, digits, seed 1: test accuracy {accuracies[2]}",
    ]
    with display([first], {}, Forecast([first], {}, None), shown=True) as show:
        show(first, None, "it went away")
    assert capsys.readouterr().err.splitlines() == [
        "1 run: 0 ended, 1 to train; how long that takes is said when one has ended.",
        "[1/1] mixup, digits, seed 0: it went away",
    ]
    with display([first], {}, Forecast([first], {}, None), shown=False) as show:
        show(first, its, "")
    assert capsys.readouterr().err == ""


def test_lines_say_how_long_the_rest_will_train(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    seconds = {("mixup", 0): 600.0, ("mixup", 1): 5.0, ("energy-gap", 0): 1200.0, ("energy-gap", 1): 1200.0}
    results = {task: replace(one, seconds=seconds[task.row, task.seed]) for task, one in runs(tmp_path).items()}
    first, *others = results
    forecast = Forecast(others, {first: results[first]}, 2)
    with display(list(results), {first: results[first]}, forecast, shown=True) as show:
        for task in others:
            show(task, results[task], results[task].reason)
    planned, diverged, finished, last = capsys.readouterr().err.splitlines()
    # one like that of ten minutes and two of twice the step, two at a time; what diverges early says nothing of others
    assert planned == "4 runs: 1 ended, 3 to train, 2 side by side, about 30 min of training left."
    assert diverged == "[2/4] mixup, digits, seed 1: it grew"
    assert finished.endswith("%, about 20 min of training left")
    assert "left" not in last


def test_what_is_expected_of_runs(tmp_path: Path) -> None:
    spec = {"suites": ["digits", "fashion"], "seeds": 3, "recipes": [{"methods": ["mixup"]}, {"methods": ["cutmix"]}]}
    tasks = {(task.row, task.suite, task.seed): task for task in Benchmark.from_dict(spec, name="x").tasks(tmp_path)}
    done = next(iter(runs(tmp_path).values()))

    def took(seconds: float | None) -> Result:
        return replace(done, seconds=seconds)

    ended = {
        tasks["mixup", "digits", 0]: took(10.0),
        tasks["mixup", "digits", 1]: took(30.0),
        tasks["cutmix", "digits", 0]: took(100.0),
    }
    left = [tasks["mixup", "digits", 2], tasks["cutmix", "digits", 1]]
    assert str(Forecast(left, ended, 1)) == "about 2 min of training left"  # 20 s and 100 s
    assert str(Forecast(left, ended, 2)) == "about 2 min of training left"  # 100 s
    assert str(Forecast(left[:1], ended, 8)) == "about 20 s of training left"
    others = [tasks["cutmix", "fashion", seed] for seed in range(2)]
    forecast = Forecast([*left, *others], {tasks["mixup", "digits", 0]: took(10.0)}, 1)
    assert str(forecast) == "about 20 s of training left, and 2 runs of suites of which none has ended"
    forecast.end(others[0], took(7200.0))
    assert str(forecast) == "about 2.0 h of training left"
    for task in (*left, others[1]):
        forecast.end(task, None)  # failed
    assert str(forecast) == ""
    assert str(Forecast(left, {tasks["mixup", "digits", 0]: took(None)}, 1)) == ""


def test_what_is_expected_goes_by_epochs_and_steps() -> None:
    plain = Recipe(epochs=10)
    assert work(plain) == 10.0 and work(replace(plain, epochs=3)) == 3.0
    rotated = Recipe(methods=(("rotation-prediction", {}),), epochs=10)
    both = Recipe(methods=(("outlier-exposure", {}), ("rotation-prediction", {})), epochs=10)
    extra = [10.0 * ((card(name).step_time or 0.0) - 1.0) for name in ("rotation-prediction", "outlier-exposure")]
    assert min(extra) > 5.0
    assert work(rotated) == pytest.approx(10.0 + extra[0]) and work(both) == pytest.approx(10.0 + sum(extra))


def test_runs_side_by_side() -> None:
    assert together([3, 1, 1, 1], 1) == 6 and together([3, 1, 1, 1], 2) == 3 and together([1, 1, 1, 3], 2) == 4
    assert [in_words(seconds) for seconds in (0.4, 89, 90, 5399, 5400)] == ["0 s", "89 s", "2 min", "90 min", "1.5 h"]
