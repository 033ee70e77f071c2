"""Train a benchmark's runs, each once and each after those that it starts and learns from, and compare them."""

import os
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from oodles.benchmarking.cluster import cluster
from oodles.benchmarking.description import OPTIONS, Benchmark, Task, check_data, list_seeds
from oodles.benchmarking.display import display
from oodles.benchmarking.forecast import Forecast
from oodles.benchmarking.local import local, side_by_side
from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.results import RESULTS, Result, result_of, write_results
from oodles.remarks import TrainingWarning
from oodles.runs.folder import RUN, locked
from oodles.runs.opened import open_run
from oodles.runs.preparation import default_network

PATIENCE = 60.0
"""Seconds for which a run waits for its folder: a process may outlast the loss of its machine a little."""

LOST = "do all machines see this folder?"

Submit = Callable[..., Future[str]]


@dataclass(frozen=True, eq=False)
class Benchmarked:
    """The outcome of a benchmark; its files are ``results.jsonl``, ``results.md`` and ``report.html``."""

    folder: Path
    comparison: Comparison | None
    """Of the runs that have ended; none where no run has."""
    failed: Mapping[str, str]
    """The runs that failed, by row, suite and seed, with the reason."""

    def __str__(self) -> str:
        return "\n\n".join(str(part) for part in (self.comparison, self.failures) if part)

    @property
    def failures(self) -> str:
        """List the runs that failed, one reason a line; return nothing where none did."""
        if not self.failed:
            return ""
        by_reason: dict[str, list[str]] = {}
        for run, reason in self.failed.items():
            by_reason.setdefault(reason, []).append(run)
        lines = [f"{'; '.join(runs)}: {reason}" for reason, runs in by_reason.items()]
        count = f"{len(self.failed)} run{'s' if len(self.failed) > 1 else ''}"
        return "\n".join([f"{count} failed; the same command repeats those that did not diverge:", *lines])


def benchmark(
    spec: Benchmark | str | Path,
    folder: str | Path | None = None,
    *,
    seeds: int | Sequence[int] | None = None,
    jobs: int | None = None,
    root: str | Path | Sequence[str | Path] = (),
    engine: Literal["local", "ray"] = "local",
    address: str | None = None,
    progress: bool = True,
) -> Benchmarked:
    """Train every recipe on every suite with every seed, and compare them.

    The same call resumes a benchmark that was stopped, by whatever means: runs that have ended are not repeated. A run
    that fails does not stop the others. With the local engine, a script must make this call under
    ``if __name__ == "__main__":``, because other processes import it.

    Args:
        spec: a benchmark; or the name of one that comes with the package, or the path of its TOML file.
        folder: for the runs and the results; ``oodles-NAME`` unless given.
        seeds: in place of the benchmark's: how many, counted from 0, or a list.
        jobs: runs side by side; one for each GPU unless given, or for each core where there are no GPUs.
        root: where the files of the suites are, in place of what the benchmark says.
        engine: ``local`` is this machine; ``ray`` is a cluster, all of whose machines see the folder and the data.
        address: of a running Ray cluster; unless given, one that runs on this machine, or else a new one.
        progress: show progress on standard error.

    Returns:
        The comparison, and the runs that failed.

    Raises:
        ValueError: before anything trains, for a benchmark with a mistake, for a suite without the outliers that a row
            needs, and for a folder that holds runs with other settings or is in use.
        FileNotFoundError: for a benchmark or files of a suite that are not there.
        ImportError: for the engine ``ray`` without Ray.
    """
    spec = spec if isinstance(spec, Benchmark) else Benchmark.load(spec)
    if seeds is not None:
        spec = replace(spec, seeds=list_seeds(seeds if isinstance(seeds, int) else list(seeds)))
    if roots := [root] if isinstance(root, str | Path) else root:
        spec = replace(spec, root=tuple(str(Path(place).resolve()) for place in roots))
    if jobs is not None and jobs < 1:
        raise ValueError(f"jobs must be at least 1, got {jobs}.")
    use_gpus = spec.options.get("device") != "cpu"
    engines = {
        "local": lambda: local(jobs, use_gpus),
        "ray": lambda: cluster(jobs, use_gpus, address),
    }
    if engine not in engines:
        raise ValueError(f"engine must be one of {', '.join(engines)}, got {engine!r}.")
    if address is not None and engine != "ray":
        raise ValueError(f"An address belongs to the engine 'ray', got {address!r} with {engine!r}.")
    folder = Path(folder or f"oodles-{spec.name}").resolve()
    tasks = spec.tasks(folder)
    with locked(folder):
        at_once = side_by_side(jobs, use_gpus) if engine == "local" else jobs
        results, failed = _run_all(tasks, engines[engine], folder, at_once, progress)
    return Benchmarked(folder, _write(folder, tasks, results), failed)


def _run_all(
    tasks: Sequence[Task],
    engine: Callable[[], AbstractContextManager[Submit]],
    folder: Path,
    at_once: int | None,
    progress: bool,
) -> tuple[dict[Task, Result], dict[str, str]]:
    """Return results by run and the reasons of failed runs; an interruption writes the results so far."""
    outcomes = {task: _outcome(task) for task in tasks}
    results = {task: result for task, (result, _) in outcomes.items() if result}
    failed = {str(task): reason for task, (_, reason) in outcomes.items() if reason}
    reasons = {task.folder: reason for task, (result, reason) in outcomes.items() if result or reason}
    left = [task for task in tasks if task.folder not in reasons]
    if not left:
        return results, failed
    check_data(left)
    try:
        forecast = Forecast(left, results, at_once)
        with engine() as submit, display(tasks, dict(results), forecast, shown=progress) as show:
            for task, (result, reason) in outcomes.items():
                if reason and not result:
                    show(task, None, reason)
            for task, reason in _run_each_once(left, reasons, submit):
                result, failure = _outcome(task)  # the folder knows best
                if result:
                    results[task] = result
                reason = failure or ("" if result else reason or f"nothing of it is at {task.folder}: {LOST}")
                if reason:
                    failed[str(task)] = reason
                reasons[task.folder] = reason
                show(task, result, reason)
    except KeyboardInterrupt:
        _write(folder, tasks, {task: result for task in tasks if (result := _outcome(task)[0])})
        raise
    return results, failed


def _run_each_once(tasks: Sequence[Task], reasons: Mapping[Path, str], submit: Submit) -> Iterator[tuple[Task, str]]:
    """Run each task once, after those that it starts and learns from; yield it when it is done, with the reason if it
    failed.

    Args:
        tasks: those that have not ended, each after those that it starts and learns from.
        reasons: of those that are done, why they failed or nothing, by folder; the caller adds each task it gets.
        submit: starts one.
    """
    waiting, begun = list(tasks), dict[Future[str], Task]()
    while waiting or begun:
        blocked: list[Task] = []
        for task in waiting:
            before = {"starts": task.after, "learns": task.taught_by}
            needed = {word: folder for word, folder in before.items() if folder is not None}
            if any(folder not in reasons for folder in needed.values()):
                blocked.append(task)
            elif failed := [
                f"it {word} from {folder.name}, which failed" for word, folder in needed.items() if reasons[folder]
            ]:
                yield task, failed[0]
            else:
                begun[submit(train_task, task)] = task
        waiting = blocked
        for future in wait(begun, return_when=FIRST_COMPLETED).done if begun else ():
            error = future.exception()
            yield begun.pop(future), future.result() if error is None else _sentence(error)


def train_task(task: Task) -> str:
    """Train one run, in a process of an engine; return the reason if it failed."""
    from oodles.runs.training import train

    began = time.monotonic()
    while True:
        try:
            with locked(task.folder):
                break
        except ValueError as error:
            if time.monotonic() - began > PATIENCE:
                return str(error)
            time.sleep(0.2)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", TrainingWarning)  # results and reports say them
            return train(task.recipe, task.data, folder=task.folder, progress=False, **task.options).reason
    except Exception as error:
        if "OODLES_TRACEBACK" in os.environ:
            traceback.print_exc()
        return _sentence(error)


def _sentence(error: BaseException) -> str:
    """Say in one line what went wrong, with the error's type where it is not written for users."""
    first = str(error).strip().partition("\n")[0]
    if first and isinstance(error, ValueError | OSError | RuntimeError):
        return first
    return f"{type(error).__name__}: {first}"


def _outcome(task: Task) -> tuple[Result | None, str]:
    """Return the result of a run, if it has ended, and the reason why it failed, if it did.

    Raises:
        ValueError: where its folder holds a run with other settings.
    """
    if not (task.folder / RUN).is_file():
        return None, ""
    wanted: dict[str, Any] = {**task.recipe.as_dict(), **OPTIONS, "data": task.data, **task.options}
    wanted["network"] = wanted["network"] or default_network(task.data, wanted.get("root", ()))
    # a folder may have moved, and the row is in its place
    besides = {key for key, folder in (("weights", task.after), ("teacher", task.taught_by)) if folder}
    besides |= {"device"} if wanted["device"] == "auto" else set()
    try:
        run = replace(open_run(task.folder), suite=task.data)
        other = run.other_settings(wanted, besides)
        result = replace(result_of(run), label=task.row) if run.result and not other else None
    except Exception as error:  # files can be damaged in any way
        words = _sentence(error).rstrip(".")
        return None, f"{task.folder} cannot be read ({words}): delete this folder to train it again."
    if other:
        raise ValueError(other)
    return result, result.reason if result else ""


def _write(folder: Path, tasks: Sequence[Task], results: Mapping[Task, Result]) -> Comparison | None:
    """Write the results in the order of the benchmark, whatever order the runs ended in."""
    if not results:
        return None
    ordered = [results[task] for task in tasks if task in results]
    write_results(folder / RESULTS, ordered)
    comparison = compare(ordered)
    comparison.write(folder / "results.md")
    comparison.write(folder / "report.html")
    return comparison
