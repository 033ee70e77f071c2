"""A benchmark that is killed again and again ends with the table of one that was never disturbed; none is left over."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from oodles import benchmark
from tests.benchmarking.small import BUILT, HOLD, RUNS, begun, ended, hold, recorded, wait_until, write_benchmark


def started(file: Path, folder: Path) -> psutil.Popen:
    command = [sys.executable, "-m", "oodles", "benchmark", str(file), "--to", str(folder), "--jobs", "2"]
    return psutil.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # tests that a shell runs in the background ignore interrupts, and what they start would too
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def left_over(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Return the processes that are still there after some time."""
    return psutil.wait_procs(processes, timeout=20)[1]


def test_killed_benchmarks_end_like_undisturbed_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder, held = write_benchmark(tmp_path), tmp_path / "killed", tmp_path / "hold"
    monkeypatch.setenv(HOLD, str(held))
    only_fine_tunes = 40  # they forward outliers too
    monkeypatch.setenv(BUILT, str(tmp_path / "built"))
    moments: dict[str, tuple[int, int, Callable[[], object]]] = {
        "in the first runs": (1, 0, lambda: len(begun(folder)) == 2),
        # two networks then and two again now; the fifth is that of a run that follows one that is done
        "with a run done": (1, 5, lambda: ended(folder) and "mixup-0" in begun(folder)),
        "in runs that start from others": (
            only_fine_tunes,
            0,
            lambda: begun(folder) == {"outlier-exposure-0", "outlier-exposure-1"},
        ),
    }
    states: dict[str, tuple[int, set[str]]] = {}
    done: dict[str, int] = {}
    for name, (rows, built, moment) in moments.items():
        hold(held, rows=rows, built=built)
        process = started(file, folder)
        wait_until(moment, process)
        family = process.children(recursive=True)
        process.kill()
        process.communicate()
        assert len(family) >= 2 and not left_over(family), "a process without parent would keep its folder locked"
        states[name] = (len(ended(folder)), begun(folder))
        assert not (folder / "results.jsonl").exists()
        assert {run: ended(folder)[run] for run in done} == done, "what has ended is not repeated"
        done = ended(folder)
    held.unlink()
    print(*(f"killed {name}: {count} runs ended, in the middle: {runs}" for name, (count, runs) in states.items()))
    assert all(runs and count < RUNS for count, runs in states.values()), states
    assert len(states) == 3 and states["in the first runs"][0] == 0 < states["with a run done"][0]

    process = started(file, folder)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert {run: ended(folder)[run] for run in done} == done
    benchmark(file, tmp_path / "undisturbed", jobs=2, progress=False)
    assert recorded(folder) == recorded(tmp_path / "undisturbed") and len(recorded(folder)) == RUNS
    undisturbed = tmp_path / "undisturbed"  # the page names its folder
    page = (folder / "results.md").read_text().replace(str(folder), str(undisturbed))
    assert page == (undisturbed / "results.md").read_text()


def test_an_interrupt_ends_it_and_leaves_what_there_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, folder = write_benchmark(tmp_path), tmp_path / "out"
    monkeypatch.setenv(HOLD, str(tmp_path / "hold"))
    hold(tmp_path / "hold", rows=40)  # the fine-tunes
    process = started(file, folder)
    wait_until((folder / "runs").exists, process)
    second = started(file, folder)
    wait_until(lambda: ended(folder) and begun(folder), process)
    family = process.children(recursive=True)
    for running in (process, *family):
        running.send_signal(signal.SIGINT)  # as Ctrl-C does
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert output.endswith("oodles: stopped; the same command resumes from the last saved state.\n")
    assert "Traceback" not in output
    assert not left_over(family)
    assert 0 < len(recorded(folder)) == len(ended(folder)) < RUNS
    assert (folder / "report.html").is_file()
    refused, _ = second.communicate()
    assert second.returncode == 1 and f"oodles: {folder} is in use by another process" in refused
