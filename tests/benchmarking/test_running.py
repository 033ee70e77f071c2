"""A benchmark on this machine: broken, diverged and killed runs stop no others, and what has ended is not repeated."""

import json
import os
import shutil
import signal
import sys
import threading
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from oodles import Benchmark, benchmark, cli
from oodles.benchmarking.cluster import cluster
from oodles.benchmarking.local import local
from oodles.benchmarking.running import Benchmarked
from oodles.cli import benchmarks
from oodles.runs.opened import open_run
from tests.benchmarking.small import BUILT, HOLD, RUNS, begun, ended, hold, recorded, wait_until, write_benchmark

MISTAKES = """
[[recipes]]
name = "wild"
methods = ["mixup"]
learning_rate = 1e30
[[recipes]]
name = "after-wild"
methods = ["logit-norm"]
weights = "wild"
[[recipes]]
name = "after-after-wild"
methods = ["logit-norm"]
weights = "after-wild"
[[recipes]]
name = "unreadable"
methods = ["logit-norm"]
weights = "tiny.toml"
"""
PUPILS = """
[[recipes]]
methods = ["distillation"]
teacher = "cross-entropy"
[[recipes]]
name = "wild"
methods = ["mixup"]
learning_rate = 1e30
[[recipes]]
name = "taught-by-wild"
methods = ["distillation"]
teacher = "wild"
"""
DIVERGED = "the loss term 'cross_entropy' was not finite in epoch"


def test_broken_runs_stop_no_others_and_ended_ones_are_not_repeated(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, folder = write_benchmark(tmp_path, MISTAKES), tmp_path / "out"
    done = benchmark(file, folder, seeds=1)
    planned, *progress = capsys.readouterr().err.splitlines()
    assert {name.removesuffix(", small, seed 0") for name in done.failed} == {
        "wild",
        "after-wild",
        "after-after-wild",
        "unreadable",
    }
    assert done.failed["wild, small, seed 0"].startswith(DIVERGED)
    assert done.failed["after-wild, small, seed 0"] == "it starts from wild-0, which failed"
    assert done.failed["after-after-wild, small, seed 0"] == "it starts from after-wild-0, which failed"
    assert str(tmp_path / "tiny.toml") in done.failed["unreadable, small, seed 0"]
    assert set(ended(folder)) == {"cross-entropy-0", "mixup-0", "outlier-exposure-0", "wild-0"}
    assert planned.startswith("7 runs: 0 ended, 7 to train, ") and "side by side; how long that takes is" in planned
    assert [line.split("]")[0] for line in progress] == [f"[{number}/7" for number in range(1, 8)]
    accuracy = open_run(folder / "runs" / "small" / "mixup-0").result["test_accuracy"]
    (line,) = (line for line in progress if "mixup, small, seed 0" in line)
    assert line.partition("] ")[2].startswith(f"mixup, small, seed 0: test accuracy {accuracy:.1%}")
    assert done.comparison is not None
    assert [group.label for group in done.comparison.tables[0].groups] == [
        "cross-entropy",
        "mixup",
        "outlier-exposure",
        "wild",
    ]
    tuned = open_run(folder / "runs" / "small" / "outlier-exposure-0")
    assert tuned.initial_weights == "cross-entropy" and tuned.recipe.weights == str(
        tuned.folder.parent / "cross-entropy-0"
    )
    assert [(row["label"], row["status"]) for row in recorded(folder)] == [
        ("cross-entropy", "finished"),
        ("mixup", "finished"),
        ("outlier-exposure", "finished"),
        ("wild", "diverged"),
    ]
    assert "</html>" in (folder / "report.html").read_text(encoding="utf-8")
    assert "outlier-exposure" in (folder / "results.md").read_text(encoding="utf-8")

    before = ended(folder)
    capsys.readouterr()
    assert cli.main(["benchmark", str(file), "--to", str(folder), "--seeds", "1", "--json"]) == 1
    out, err = capsys.readouterr()
    assert ended(folder) == before
    assert json.loads(out)["failed"].keys() == done.failed.keys()
    assert "7 runs: 4 ended, 3 to train" in err
    assert "oodles: 4 runs failed" in err and f"wild, small, seed 0: {DIVERGED}" in err


def test_other_settings_in_the_same_folder_are_refused(tmp_path: Path) -> None:
    file, folder = write_benchmark(tmp_path), tmp_path / "out"
    spec = Benchmark.load(file)
    only = Benchmark(spec.name, spec.rows[:1], spec.suites, (0,), spec.options)
    assert not benchmark(only, folder, jobs=1, progress=False).failed
    before = ended(folder)
    for old, new, words in (
        ("epochs = 8", "epochs = 9", "epochs is 8 there and 9 here"),
        ("network =", "accumulate = 2\nnetwork =", "accumulate is 1 there and 2 here"),
    ):
        other = tmp_path / "other.toml"
        other.write_text(file.read_text().replace(old, new))
        with pytest.raises(ValueError, match=f"holds a run with other settings: {words}. Choose another"):
            benchmark(other, folder, progress=False)
    assert ended(folder) == before


def test_a_damaged_run_stops_no_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = write_benchmark(tmp_path), tmp_path / "out"
    spec = Benchmark.load(file)
    only = Benchmark(spec.name, spec.rows[:2], spec.suites, (0,), spec.options)
    benchmark(only, folder, jobs=1, progress=False)
    before, runs = ended(folder), folder / "runs" / "small"
    (runs / "cross-entropy-0" / "result.json").write_text('{"status": "fini')
    (runs / "mixup-1").mkdir()
    (runs / "mixup-1" / "run.json").write_text('{"recipe": {}}')
    done = benchmark(file, folder, jobs=1)
    lines = capsys.readouterr().err.splitlines()
    assert done.failed.keys() == {
        "cross-entropy, small, seed 0",
        "mixup, small, seed 1",
        "outlier-exposure, small, seed 0",
    }
    broken = runs / "cross-entropy-0"
    sentence = done.failed["cross-entropy, small, seed 0"]
    assert sentence.startswith(f"{broken} cannot be read ({broken / 'result.json'} is not JSON (line 1, column 12)")
    assert sentence.endswith("): delete this folder to train it again.")
    assert done.failed["mixup, small, seed 1"].startswith(f"{runs / 'mixup-1'} cannot be read (")
    assert done.failed["outlier-exposure, small, seed 0"] == "it starts from cross-entropy-0, which failed"
    assert f"[2/6] cross-entropy, small, seed 0: {sentence}" in lines and lines[-1].startswith("[6/6]")
    assert ended(folder)["mixup-0"] == before["mixup-0"]
    assert set(ended(folder)) == {"cross-entropy-0", "cross-entropy-1", "mixup-0", "outlier-exposure-1"}
    assert [(row["label"], row["seed"]) for row in recorded(folder)] == [
        ("cross-entropy", 1),
        ("mixup", 0),
        ("outlier-exposure", 1),
    ]
    shutil.rmtree(broken)
    shutil.rmtree(runs / "mixup-1")
    assert not benchmark(file, folder, jobs=1, progress=False).failed and len(ended(folder)) == RUNS


def test_a_row_learns_from_the_run_of_another_row_once_it_has_ended(tmp_path: Path) -> None:
    file, folder = write_benchmark(tmp_path, PUPILS), tmp_path / "out"
    done = benchmark(file, folder, seeds=1, progress=False)
    assert set(done.failed) == {"wild, small, seed 0", "taught-by-wild, small, seed 0"}
    assert done.failed["taught-by-wild, small, seed 0"] == "it learns from wild-0, which failed"
    run = open_run(folder / "runs" / "small" / "distillation-0")
    assert run.recipe.teacher == str(run.folder.parent / "cross-entropy-0") and "distillation" in run.log[0]["terms"]
    assert run.teacher == "cross-entropy (tests.benchmarking.small:slow)"
    moved = folder.rename(tmp_path / "moved")
    assert set(benchmark(file, moved, seeds=1, progress=False).failed) == set(done.failed), "nothing is trained again"


def test_missing_files_and_outliers_are_refused_before_anything_trains(tmp_path: Path) -> None:
    file, folder = write_benchmark(tmp_path), tmp_path / "out"
    (tmp_path / "small" / "outliers.npz").unlink()
    with pytest.raises(
        ValueError, match="The row 'outlier-exposure' cannot be trained on 'small': outlier-exposure nee"
    ):
        benchmark(file, folder, progress=False)
    (tmp_path / "small" / "test.npz").unlink()
    with pytest.raises(FileNotFoundError, match=r"small must hold test\.npz or a folder test"):
        benchmark(file, folder, progress=False)
    assert not folder.exists()


def test_equal_reasons_are_given_once() -> None:
    failed = {"a, x, seed 0": "it broke", "b, x, seed 0": "it went away", "a, x, seed 1": "it broke"}
    assert Benchmarked(Path(), None, failed).failures.splitlines() == [
        "3 runs failed; the same command repeats those that did not diverge:",
        "a, x, seed 0; a, x, seed 1: it broke",
        "b, x, seed 0: it went away",
    ]


@pytest.mark.parametrize(
    ("stated", "jobs", "expected"),
    [("3", 1, 3), ("3,2", 4, 3), ("", 1, 8), (None, 4, 2), ("0", 4, 2), ("x", 9, 1)],
)
def test_a_run_has_the_threads_that_were_asked_for_or_its_share(
    monkeypatch: pytest.MonkeyPatch, stated: str | None, jobs: int, expected: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if stated is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", stated)
    monkeypatch.setattr("oodles.benchmarking.local._cores", lambda: 8)
    with local(jobs, use_gpus=False) as submit:
        assert submit(torch.get_num_threads).result() == expected


@pytest.mark.parametrize(("stated", "jobs", "expected"), [("", 2, 4), ("", None, 1), ("3", 2, 3)])
def test_a_call_on_a_cluster_has_as_many_threads_as_cores(
    monkeypatch: pytest.MonkeyPatch, stated: str, jobs: int | None, expected: int
) -> None:
    """Ray itself is replaced by something that calls at once."""
    monkeypatch.setenv("OMP_NUM_THREADS", stated)
    cores: list[object] = []

    def remote(**share: Any) -> Any:
        cores.append(share["num_cpus"])

        def call(function: Any, *given: Any) -> Any:
            result: Future[Any] = Future()
            result.set_result(function(*given))
            return SimpleNamespace(future=lambda: result)

        return lambda function: SimpleNamespace(
            options=lambda name: SimpleNamespace(remote=lambda *given: call(function, *given))
        )

    nodes = [{"Alive": True, "Resources": {"CPU": 4.0}}] * 2
    fake = {"is_initialized": lambda: True, "nodes": lambda: nodes, "remote": remote, "cancel": lambda *_, **__: None}
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(**fake))
    before = torch.get_num_threads()
    try:
        with cluster(jobs, False, None) as submit:
            assert submit(_threads_and, "x").result() == (expected, "x")
    finally:
        torch.set_num_threads(before)
    assert cores == [4 if jobs else 1]


def _threads_and(word: str) -> tuple[int, str]:
    return torch.get_num_threads(), word


def test_a_killed_process_breaks_its_run_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUILT, str(tmp_path / "built"))
    monkeypatch.setenv(HOLD, str(tmp_path / "hold"))
    hold(tmp_path / "hold", built=2)  # the second run
    file, folder = write_benchmark(tmp_path), tmp_path / "out"
    killed: list[str] = []

    def kill() -> None:
        wait_until(lambda: "cross-entropy-1" in begun(folder))
        killed.extend(begun(folder))
        os.kill(int((tmp_path / "built").read_text().split()[-1]), signal.SIGKILL)
        (tmp_path / "hold").unlink()

    killer = threading.Thread(target=kill)
    killer.start()
    done = benchmark(file, folder, jobs=1)
    killer.join()
    assert killed == ["cross-entropy-1"]
    assert done.failed == {
        "cross-entropy, small, seed 1": "its process was killed by SIGKILL, perhaps because memory ran out",
        "outlier-exposure, small, seed 1": "it starts from cross-entropy-1, which failed",
    }
    before = ended(folder)
    assert len(before) == RUNS - 2
    done = benchmark(file, folder, jobs=1, progress=False)
    assert not done.failed and len(ended(folder)) == RUNS
    assert {name: ended(folder)[name] for name in before} == before
    assert [row["seed"] for row in recorded(folder)] == [0, 1] * 3, "in the benchmark's order"


def test_mistakes_get_a_sentence(tmp_path: Path) -> None:
    for arguments, sentence in (
        ({"seeds": 0}, "seeds must be how many, at least 1"),
        ({"jobs": 0}, "jobs must be at least 1, got 0"),
        ({"engine": "slurm"}, "engine must be one of local, ray, got 'slurm'"),
        ({"address": "auto"}, "An address belongs to the engine 'ray', got 'auto' with 'local'"),
    ):
        with pytest.raises(ValueError, match=sentence):
            benchmark("digits", tmp_path / "out", **arguments)
    assert not (tmp_path / "out").exists()


def test_the_demo_is_a_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    called = []
    monkeypatch.setattr(benchmarks, "benchmark", lambda *given, **named: called.append((given, named)) or 0)
    assert benchmarks.demo(to=tmp_path, seeds=2, jobs=3) == 0
    assert called == [(("demo",), {"to": tmp_path, "seeds": 2, "jobs": 3})]
