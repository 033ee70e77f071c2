"""Training on outliers that stay in their file: that of outliers in memory, and resumed on the same file alone."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodles.data import Augment, ImageSet, Suite, mapped
from oodles.networks import build_network
from oodles.runs import preparation
from oodles.runs.batches import chosen_outliers
from oodles.runs.opened import Run
from oodles.runs.preparation import measure_settings
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.runs.small import small_suite

EXPOSED = Recipe(methods=(("outlier-exposure", {}),), learning_rate=0.1, epochs=3, batch_size=20, outlier_batch_size=10)
POOL = np.random.default_rng(5).integers(0, 256, (70, 1, 8, 8), dtype=np.uint8)
NONE = np.full(70, -1)


def suites(folder: Path) -> tuple[Suite, Suite]:
    """A suite with outliers and a near set in memory, and the same one with both in a file."""
    np.save(folder / "pool.npy", POOL)
    augment = Augment(shift=1, flip=True)
    in_file = np.load(folder / "pool.npy", mmap_mode="r")
    first, second = (
        replace(
            small_suite(),
            outliers=ImageSet(images[:40], NONE[:40], augment),
            near={"pool": ImageSet(images[40:], NONE[40:])},
        )
        for images in (POOL, in_file)
    )
    return first, second


def trained(suite: Suite, folder: Path, workers: int | None = 0, save_every: float = 10.0) -> Run:
    network = "tests.runs.small:linear"
    return train(EXPOSED, suite, network=network, folder=folder, progress=False, workers=workers, save_every=save_every)


def test_training_is_that_of_outliers_in_memory(tmp_path: Path) -> None:
    in_memory, in_file = suites(tmp_path)
    expected = trained(in_memory, tmp_path / "memory", workers=None)
    for workers in (0, 1):
        run = trained(in_file, tmp_path / f"file-{workers}", workers)
        assert run.log[-1]["terms"] == expected.log[-1]["terms"]
        for name, value in expected.classifier().state_dict().items():
            assert torch.equal(run.classifier().state_dict()[name], value), name
        for name in ("outliers/msp", "near:pool/msp"):
            assert len(expected.scores[name]) >= 30
            np.testing.assert_array_equal(run.scores[name], expected.scores[name])


def test_a_run_goes_on_with_the_same_pool_alone(tmp_path: Path) -> None:
    _, in_file = suites(tmp_path)
    run = trained(in_file, tmp_path / "run")
    expected, path = run.classifier().state_dict(), tmp_path / "pool.npy"

    def stop() -> None:
        for name in ("result.json", "weights.safetensors"):
            (run.folder / name).unlink()
        mapped._content.cache_clear()

    stop()
    os.utime(path, ns=(0, 10**18))  # a copy of the same content, as after moving to another disk
    again = trained(in_file, run.folder)
    assert all(torch.equal(value, expected[name]) for name, value in again.classifier().state_dict().items())
    stop()
    changed = POOL.copy()
    changed[13, 0, 2, 1] ^= 1
    np.save(path, changed)
    sentence = r"was begun with other data of the same name \(outliers, near:pool changed\): choose another folder\.$"
    with pytest.raises(ValueError, match=sentence):
        trained(in_file, run.folder)


@pytest.mark.filterwarnings("ignore:Margins want a classifier")
def test_settings_are_measured_on_some_of_a_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_memory, in_file = suites(tmp_path)
    monkeypatch.setattr(preparation, "ENOUGH", 24)
    recipe = replace(EXPOSED, methods=(("energy-bounded", {}),))
    torch.manual_seed(0)
    about = {"num_classes": 3, "input_shape": (1, 8, 8), "mean": in_file.mean, "std": in_file.std}
    classifier = build_network("tests.runs.small:linear", **about)
    assert in_memory.outliers is not None
    some = replace(in_memory, outliers=in_memory.outliers.evenly(24))
    measured = [measure_settings(recipe, classifier, suite) for suite in (in_file, some, in_memory)]
    assert measured[0] == measured[1] != measured[2]
    fewer = replace(recipe, max_outliers=30)
    chosen = chosen_outliers(in_memory.outliers, fewer)
    assert chosen is not None and len(chosen) == 30
    some = replace(in_memory, outliers=in_memory.outliers.rows(chosen).evenly(24))
    assert measure_settings(fewer, classifier, in_file) == measure_settings(recipe, classifier, some) != measured[0]
