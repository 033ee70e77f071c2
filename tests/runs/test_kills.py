"""A run that is killed again and again ends with the weights of one that was never disturbed."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from oodles.files import UNFINISHED
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.runs.small import small_suite

RECIPE = Recipe(
    methods=(("mixup", {"alpha": 0.4}), ("outlier-exposure", {})),
    learning_rate=0.05,
    epochs=25,  # more steps than twelve lives can take
    batch_size=10,
    outlier_batch_size=7,
)
STEPS_PER_EPOCH = 12


def _train(folder: Path, *, workers: int, save_every: float) -> Run:
    return train(
        RECIPE,
        small_suite(),
        folder=folder,
        network="tests.runs.small:with_dropout",
        workers=workers,
        save_every=save_every,
        progress=False,
    )


def _live(folder: Path, save_every: float) -> None:
    """One life of the training process, on a slow disk, so that writing takes a while."""
    fsync = os.fsync

    def slow(file: int) -> None:
        time.sleep(0.01)
        fsync(file)

    os.fsync = slow
    _train(folder, workers=2, save_every=save_every)


def _position(folder: Path) -> int:
    """Where a new life would go on."""
    try:
        with safe_open(folder / "state.safetensors", framework="np") as file:
            return int(file.metadata()["counters"].split('"position": ')[1].split(",")[0])
    except (FileNotFoundError, SafetensorError):
        return 0


def _written(folder: Path) -> int:
    """When state was last written to a file that has not taken its place yet; 0 where there is none."""
    times = [0]
    for file in folder.glob(f".state.safetensors.*{UNFINISHED}"):
        with suppress(FileNotFoundError):
            times.append(file.stat().st_mtime_ns)
    return max(times)


def test_killed_runs_end_like_undisturbed_ones(tmp_path: Path) -> None:
    undisturbed = _train(tmp_path / "undisturbed", workers=0, save_every=1e9)
    folder = tmp_path / "killed"
    weights = folder / "weights.safetensors"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["oodles.runs.training", "oodles.runs.testing", __name__])
    draw = random.Random(0)
    kills: list[str] = []

    def kill_when(moment: Callable[[], bool], delay: float = 0.0, save_every: float | None = None) -> None:
        before = _written(folder)
        pause = draw.choice([0.0, 0.0, 0.03]) if save_every is None else save_every
        process = context.Process(target=_live, args=(folder, pause))
        process.start()
        while not moment():
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        process.close()
        position = _position(folder)
        if weights.exists():
            kills.append("after the end" if (folder / "result.json").exists() else "during evaluation")
        elif _written(folder) not in (0, before):
            kills.append(f"while state was being written, to go on from step {position}")
        else:
            middle = "in the middle" if position % STEPS_PER_EPOCH else "at the start"
            kills.append(f"{middle} of epoch {position // STEPS_PER_EPOCH}, to go on from step {position}")

    def after(steps: int, seconds: float = 1e9) -> Callable[[], bool]:
        goal, end = _position(folder) + steps, time.monotonic() + seconds
        return lambda: _position(folder) >= goal or time.monotonic() >= end

    def writing() -> Callable[[], bool]:
        before = _written(folder)
        return lambda: _written(folder) not in (0, before)

    for _ in range(4):
        kill_when(after(draw.randint(1, 15)), delay=draw.uniform(0, 0.03))
        kill_when(after(15, seconds=draw.uniform(0, 0.6)))
        kill_when(writing(), delay=draw.uniform(0, 0.01))
    while not any(kill.startswith("while state") for kill in kills):  # the renaming was quicker than the kill
        kill_when(writing())
    kill_when(weights.exists, save_every=1.0)
    kill_when(weights.exists, delay=draw.uniform(0, 0.05), save_every=1.0)

    print(f"killed {len(kills)} times:", *kills, sep="\n  ")
    assert len(kills) >= 10
    for expected in ("in the middle", "while state", "during evaluation"):
        assert any(kill.startswith(expected) for kill in kills), f"no kill {expected}: {kills}"

    survivor = _train(folder, workers=2, save_every=1e9)
    assert survivor.status == undisturbed.status == "finished"
    assert weights.read_bytes() == (tmp_path / "undisturbed" / "weights.safetensors").read_bytes()
    assert [line["terms"] for line in survivor.log] == [line["terms"] for line in undisturbed.log]
    for key, values in undisturbed.scores.items():
        np.testing.assert_array_equal(survivor.scores[key], values, err_msg=key)
