"""A run that is killed again and again ends with the weights of one that was never disturbed."""

import multiprocessing
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from oodles.recipe import Recipe
from oodles.run_folder import Run, open_run
from oodles.training import train
from tests.training.small import small_suite

RECIPE = Recipe(
    methods=(("mixup", {"alpha": 0.4}), ("outlier-exposure", {})),
    learning_rate=0.05,
    epochs=13,
    batch_size=10,
    outlier_batch_size=7,
)
STEPS_PER_EPOCH = 12


def _train(folder: Path, *, workers: int, save_every: float) -> Run:
    return train(
        RECIPE,
        small_suite(),
        folder=folder,
        network="tests.training.small:with_dropout",
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


def _moment(folder: Path) -> str:
    """What a kill interrupted, as the folder shows it."""
    position = _position(folder)
    if (folder / "weights.safetensors").exists():
        return "during evaluation"
    if (folder / ".state.safetensors.unfinished").exists():
        return f"while state was being written, after step {position}"
    epoch, place = divmod(position, STEPS_PER_EPOCH)
    return f"in the middle of epoch {epoch}, to go on from step {place}" if place else f"near the start of epoch {epoch}"


def test_killed_runs_end_like_undisturbed_ones(tmp_path: Path) -> None:
    undisturbed = _train(tmp_path / "undisturbed", workers=0, save_every=1e9)
    folder = tmp_path / "killed"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["oodles.training", "oodles.run_evaluation", __name__])
    draw = random.Random(0)
    kills: list[str] = []

    def kill_when(moment: Callable[[], bool], delay: float) -> None:
        process = context.Process(target=_live, args=(folder, draw.choice([0.0, 0.0, 0.03])))
        process.start()
        while not moment():
            assert process.is_alive(), "the run ended before it could be killed"
            time.sleep(0.001)
        time.sleep(delay)
        process.kill()
        process.join()
        process.close()
        kills.append(_moment(folder))

    def after_some_steps() -> Callable[[], bool]:
        goal = _position(folder) + draw.randint(1, 6)
        return lambda: _position(folder) >= goal

    unfinished, weights = folder / ".state.safetensors.unfinished", folder / "weights.safetensors"
    for _ in range(4):
        kill_when(after_some_steps(), delay=draw.uniform(0, 0.03))
        begun = time.monotonic()
        wait = draw.uniform(0, 0.3)
        kill_when(lambda: time.monotonic() - begun > wait or _position(folder) > 100, delay=0)
        for _ in range(20):  # until the file was still there when the kill came
            unfinished.unlink(missing_ok=True)
            kill_when(unfinished.exists, delay=draw.uniform(0, 0.005))
            if kills[-1].startswith("while"):
                break
    kill_when(weights.exists, delay=0)
    kill_when(weights.exists, delay=draw.uniform(0, 0.1))
    print(f"killed {len(kills)} times:", *kills, sep="\n  ")
    assert len(kills) >= 10
    for expected in ("in the middle", "while state", "during evaluation"):
        assert any(kill.startswith(expected) for kill in kills), f"no kill {expected}: {kills}"
    assert open_run(folder).status == "unfinished"

    survivor = _train(folder, workers=2, save_every=1e9)
    assert survivor.status == undisturbed.status == "finished"
    for name in ("weights.safetensors",):
        assert (folder / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    assert [line["terms"] for line in survivor.log] == [line["terms"] for line in undisturbed.log]
    for key, values in undisturbed.scores.items():
        np.testing.assert_array_equal(survivor.scores[key], values, err_msg=key)
