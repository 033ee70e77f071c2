"""A suite, a network and a benchmark that take a moment, and what can be seen of them from outside."""

import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch import Tensor, nn

BUILT = "OODLES_TEST_BUILT"
"""Environment variable: a file with one line for each network that was made."""
HOLD = "OODLES_TEST_HOLD"
"""Environment variable: a file that holds runs up in the middle, see :func:`hold`."""
EPOCHS = 8
RUNS = 6
"""Of the benchmark that :func:`write_benchmark` writes."""


def write_suite(folder: Path) -> Path:
    """Write a suite of images whose brightest rows tell the class; other sets are noise."""
    random = np.random.default_rng(0)
    for name, count in {"train": 60, "validation": 30, "test": 30, "outliers": 40, "near/noise": 30}.items():
        images = random.random((count, 8, 8), dtype=np.float32) / 2
        labels = np.arange(count) % 3
        if name in ("train", "validation", "test"):
            for row, label in enumerate(labels):
                images[row, 3 * label : 3 * label + 2] += 0.3
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", images=images, labels=labels)
    return folder


def write_benchmark(folder: Path, rows: str = "") -> Path:
    """Write a benchmark of two seeds of three recipes, one of which starts from another."""
    write_suite(folder / "small")
    path = folder / "tiny.toml"
    path.write_text(
        f"""
        suites = ["small"]
        seeds = 2
        network = "tests.benchmarking.small:slow"
        device = "cpu"
        [settings]
        epochs = {EPOCHS}
        batch_size = 20
        outlier_batch_size = 20
        [[recipes]]
        methods = ["cross-entropy"]
        [[recipes]]
        methods = ["mixup"]
        [[recipes]]
        methods = ["outlier-exposure"]
        weights = "cross-entropy"
        {rows}
        """,
        encoding="utf-8",
    )
    return path


class _Held(nn.Module):
    """From the second epoch on, training waits here while it is held up; no other moment has to be hit."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, inputs: Tensor) -> Tensor:
        learns = self.training and torch.is_grad_enabled()  # a classifier that is made is tried out in training mode
        self.calls += learns
        while learns and self.calls > 3 and _is_held(len(inputs)):
            time.sleep(0.02)
        return inputs


def hold(file: Path, *, rows: int = 20, built: int = 0) -> None:
    """Hold up runs that forward at least ``rows`` at once, once ``built`` networks were made."""
    file.with_suffix(".new").write_text(f"{rows} {built}")
    file.with_suffix(".new").replace(file)


def _is_held(rows: int) -> bool:
    file = Path(os.environ.get(HOLD, "nowhere"))
    if not file.is_file():
        return False
    least, built = map(int, file.read_text().split())
    return rows >= least and (not built or len(Path(os.environ[BUILT]).read_text().split()) >= built)


def slow(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build a network that can be held up in training, and note which process built it."""
    if BUILT in os.environ:
        with Path(os.environ[BUILT]).open("a") as file:
            file.write(f"{os.getpid()}\n")
    return nn.Sequential(_Held(), nn.Flatten(), nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, num_classes))


def recorded(folder: Path) -> list[dict[str, Any]]:
    """Read ``results.jsonl`` without what depends on machine and time."""
    lines = (folder / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in ("seconds", "environment")} for line in lines]


def ended(folder: Path) -> dict[str, int]:
    """Return the time at which each run ended, of those that have."""
    return {path.parent.name: path.stat().st_mtime_ns for path in folder.glob("runs/*/*/result.json")}


def begun(folder: Path) -> set[str]:
    """Return the runs in the middle: an epoch is over, and the run is not."""
    return {path.parent.name for path in folder.glob("runs/*/*/log.jsonl")} - set(ended(folder))


def wait_until(moment: Callable[[], object], process: psutil.Popen | None = None) -> None:
    """Wait for the moment; fail if the process ends or two minutes pass before it."""
    end = time.monotonic() + 120
    while not moment():
        assert time.monotonic() < end and (process is None or process.poll() is None), "the moment never came"
        time.sleep(0.002)
