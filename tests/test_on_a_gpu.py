"""What waits for a GPU is tried on a CPU: small images, a small network, a short training."""

import argparse
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
RUNS = ["cifar10 cross-entropy 0", "cifar10 outlier-exposure 0"]


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("on_a_gpu")


def _work(on_a_gpu: Any, folder: Path, **flags: Any) -> Any:
    return on_a_gpu.Work(argparse.Namespace(**{"to": folder, "root": (), "device": "cpu", "tiny": True, **flags}))


def _command(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(BENCHMARKS / "on_a_gpu.py"), "--to", str(folder), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_every_step_works_on_a_cpu(on_a_gpu: Any, tmp_path: Path) -> None:
    (tmp_path / "results").mkdir()
    work, found = _work(on_a_gpu, tmp_path), {}
    steps = {step.name: step for step in work.steps()}
    assert list(steps)[-2:] == RUNS
    for name, step in steps.items():
        found[name] = step.act()
    assert found["about"]["device"] == "cpu"
    assert found["tests"]["files"] == ["tests/runs/test_on_a_gpu.py"]
    assert set(found["waits"]["methods"]) == set(on_a_gpu.COMPILED[:2])
    for name in ("costs-float32", "costs-bf16", "costs-compiled"):
        assert all(row["over bare"] > 0 for row in found[name]["methods"].values())
    assert 0 < found["cold-start"]["seconds of training"] < found["cold-start"]["seconds from cold start"]
    lines = [json.loads(line) for line in (tmp_path / "results" / "cifar10.jsonl").read_text().splitlines()]
    assert [(line["label"], line["seed"]) for line in lines] == [("cross-entropy", 0), ("outlier-exposure", 0)]
    assert json.loads((tmp_path / "results" / "training-small-cnn-cpu.json").read_text())["rows"] > 0


def test_steps_are_done_once_and_listed(tmp_path: Path) -> None:
    tiny = ("--device", "cpu", "--tiny")
    done = _command(tmp_path, *tiny, "--only", "about")
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("about: done")
    assert json.loads((tmp_path / "results" / "about.json").read_text())["device"] == "cpu"
    state = json.loads((tmp_path / "results" / "state.json").read_text())
    assert state["about"]["status"] == "done"
    listed = [re.split(" {2,}", line)[:2] for line in _command(tmp_path, *tiny, "--list").stdout.splitlines()]
    assert [name for name, status in listed if status != "to do"] == ["about"]
    assert [name for name, _ in listed][-2:] == RUNS


def test_steps_that_are_done_are_left_out(on_a_gpu: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes, begun = {"waits": "stopped", "loop": "failed"}, []

    def do(step: Any, flags: Any, to: Path, limit: float) -> tuple[str, float]:
        begun.append(step.name)
        return outcomes.get(step.name, "done"), 1.0

    monkeypatch.setattr(on_a_gpu, "do", do)
    work = _work(on_a_gpu, tmp_path)
    (tmp_path / "results").mkdir()
    flags = argparse.Namespace(list=False, only=None, minutes=None)
    assert on_a_gpu.go(work, flags) == 1
    assert begun == [step.name for step in work.steps()]
    begun.clear()
    on_a_gpu.go(work, flags)
    assert begun == ["waits", "loop"]
    begun.clear()
    on_a_gpu.go(work, argparse.Namespace(list=False, only=["about", "costs"], minutes=None))
    assert begun == ["about", "costs-float32", "costs-bf16", "costs-compiled"]
    begun.clear()
    on_a_gpu.go(work, argparse.Namespace(list=False, only=None, minutes=0.5))
    assert begun == []


def test_a_step_that_takes_too_long_is_stopped(on_a_gpu: Any, tmp_path: Path) -> None:
    flags = argparse.Namespace(device="cpu", tiny=True, root=())
    step = _work(on_a_gpu, tmp_path).steps()[0]
    status, seconds = on_a_gpu.do(step, flags, tmp_path, 0.01)
    assert status == "stopped" and seconds < 60
    assert not (tmp_path / "results" / "about.json").exists()


def test_the_rows_of_the_benchmark_are_runs_seed_by_seed(on_a_gpu: Any, tmp_path: Path) -> None:
    work = _work(on_a_gpu, tmp_path, device="cuda", tiny=False)
    runs = [step.name.removeprefix("cifar10 ") for step in work.steps() if step.name.startswith("cifar10 ")]
    rows = [row.name for row in work.benchmark().rows]
    assert rows.index("cross-entropy") == 0 and {"pixmix + outlier-exposure", "isomax", "t2fnorm"} <= set(rows)
    assert runs == [f"{row} {seed}".replace(" + ", "+") for seed in (0, 1, 2) for row in rows]
