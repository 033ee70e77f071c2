"""The demonstration: several methods and seeds on the embedded suite, compared."""

import multiprocessing
import os
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from oodles.comparison import Comparison

PLAIN = "cross-entropy"
RECIPES = (
    "mixup",
    "cutmix",
    "regmixup",
    "logit-norm",
    "outlier-exposure",
    "energy-bounded",
)
"""Recipes of the package that stand beside plain cross-entropy."""

Job = tuple[str, int, Path]


def demo(folder: str | Path = "oodles-demo", *, seeds: int = 5, jobs: int | None = None) -> "Comparison":
    """Trains plain cross-entropy and six methods with several seeds, prints a comparison and writes ``report.html``.

    Progress goes to standard error, the comparison to standard output. Runs that have finished are kept, so the same
    call goes on where it was stopped.

    Args:
        folder: for the runs and the report.
        seeds: how many seeds, counted from 0; each draws a split of its own.
        jobs: processes side by side, one core each; as many as there are cores by default.

    Raises:
        ValueError: for less than one seed or process.
    """
    if seeds < 1 or (jobs is not None and jobs < 1):
        raise ValueError(f"seeds and jobs must be at least 1, got {seeds} and {jobs}.")
    runs = Path(folder) / "runs"
    plain = [(PLAIN, seed, runs / f"{PLAIN}-digits-{seed}") for seed in range(seeds)]
    others = [(name, seed, runs / f"{name}-{seed}") for name in RECIPES for seed in range(seeds)]
    _run_all([plain, others], min(jobs or _cores(), len(plain) + len(others)))

    from oodles.comparison import compare

    comparison = compare([folder for _, _, folder in [*plain, *others]])
    print(comparison)
    report = comparison.write(Path(folder) / "report.html")
    print(f"\nThe report with pictures: {report}")
    return comparison


def _run_all(stages: Sequence[Sequence[Job]], processes: int) -> None:
    """Every stage waits for the one before, which it may start from."""
    count, done = sum(map(len, stages)), 0
    # spawned and not forked: threads of the parent do not survive a fork
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn"), initializer=_one_thread) as pool:
        for stage in stages:
            for future in as_completed([pool.submit(_train, *job) for job in stage]):
                done += 1
                print(f"[{done}/{count}] {future.result()}", file=sys.stderr)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def _train(name: str, seed: int, folder: Path) -> str:
    from oodles.training import train

    run = train(name, "digits", seed=seed, folder=folder, progress=False)
    if run.status == "diverged":
        return f"{name}, seed {seed}: {run.reason}"
    return f"{name}, seed {seed}: test accuracy {run.result['test_accuracy']:.1%}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
