"""A run gives methods their epochs, with data to pass over, and logs what they measure."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import Data, Method, Now, Outputs
from oodles.contract import Batch, Terms
from oodles.data import Augment, ImageSet
from oodles.methods import build_methods
from oodles.runs import training
from oodles.runs.batches import Batches
from oodles.runs.folder import LOG, read_log
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from oodles.scores import energy
from tests.runs.small import small_suite

RECIPE = Recipe(epochs=3, batch_size=40, learning_rate=0.1)
OPTIONS: dict[str, Any] = {"network": "tests.runs.small:linear", "device": "cpu", "progress": False, "workers": 0}


class Notes(Method):
    """Notes the mean of the training rows before each epoch, and measures the energy beside it."""

    name = "notes"
    measures = ("mean_energy",)
    brightness: Tensor
    passes: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("brightness", torch.zeros(()))
        self.register_buffer("passes", torch.zeros((), dtype=torch.int64))

    def start_epoch(self, data: Data, now: Now) -> None:
        for rows in (data.train, data.outliers):
            assert rows is not None
            first, second = (torch.cat([images for images, _ in rows]) for _ in range(2))
            assert torch.equal(first, second), "the same rows in the same order, as often as they are wanted"
        assert data.train is not None and data.wild is None and now.epochs == RECIPE.epochs
        self.brightness.copy_(torch.cat([images for images, _ in data.train]).mean() + now.epoch)
        self.passes += 1

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"mean_energy": energy(outputs.logits["id"]).mean() + 0 * self.brightness}


@pytest.fixture
def notes(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Notes]]:
    """Recipes whose methods are joined by one that is not in the package."""
    made: list[Notes] = []

    def build(methods: Any, measured: Any = None, teacher: Any = None) -> list[Method]:
        made.append(Notes())
        return [*build_methods(methods, measured, teacher), made[-1]]

    monkeypatch.setattr(training, "build_methods", build)
    yield made


def test_measures_are_logged_beside_the_terms(notes: list[Notes], tmp_path: Path) -> None:
    suite = small_suite()
    run = train(RECIPE, suite, folder=tmp_path / "run", network="tests.runs.small:linear", device="cpu", progress=False)
    log = read_log(run.folder)
    assert (run.folder / LOG).is_file() and len(log) == 3
    for entry in log:
        assert set(entry["terms"]) == {"cross_entropy"} and set(entry["measures"]) == {"mean_energy"}
        assert entry["measures"]["mean_energy"] < 0 < entry["terms"]["cross_entropy"]
    assert int(notes[-1].passes) == 3
    mean = float(torch.cat([images for images, _ in suite.train.in_order(torch.device("cpu"))]).mean())
    assert float(notes[-1].brightness) == pytest.approx(mean + 2, rel=1e-5)


def test_an_epoch_that_is_resumed_does_not_begin_again(
    notes: list[Notes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop_at(position: int) -> Callable[[Batches, int], Any]:
        def item(batches: Batches, index: int) -> Any:
            if index == position:
                raise KeyboardInterrupt
            return original(batches, index)

        return item

    original = Batches.__getitem__
    whole = train(RECIPE, small_suite(), folder=tmp_path / "whole", **OPTIONS)
    expected = notes[-1].state_dict()
    for position in (1, 3, 5):  # in the middle of an epoch, at its beginning, in the middle of another
        monkeypatch.setattr(Batches, "__getitem__", stop_at(position))
        with pytest.raises(KeyboardInterrupt):
            train(RECIPE, small_suite(), folder=tmp_path / "parts", save_every=0, **OPTIONS)
    monkeypatch.setattr(Batches, "__getitem__", original)
    resumed = train(RECIPE, small_suite(), folder=tmp_path / "parts", save_every=0, **OPTIONS)
    assert {name: value.item() for name, value in notes[-1].state_dict().items()} == {
        name: value.item() for name, value in expected.items()
    }
    for first, second in zip(read_log(whole.folder), read_log(resumed.folder), strict=True):
        assert first["measures"] == second["measures"] and first["terms"] == second["terms"]


@pytest.mark.filterwarnings("ignore:The term:oodles.TrainingWarning")
def test_wild_rows_train_and_a_resumed_run_ends_with_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Duals and what was measured before the first epoch come back with the state."""
    random = np.random.default_rng(1)
    wild = ImageSet(random.random((50, 1, 8, 8), dtype=np.float32), np.full(50, -1), Augment(shift=1))
    suite = replace(small_suite(), wild=wild)
    first = train(RECIPE, suite, folder=tmp_path / "first", **OPTIONS)
    recipe = replace(RECIPE, methods=(("woods", {}),), weights=str(first.folder), wild_batch_size=20)
    whole = train(recipe, suite, folder=tmp_path / "whole", **OPTIONS)
    assert whole.record["suite"]["sizes"]["wild"] == 50 and whole.record["suite"]["augment"]["wild"]["shift"] == 1
    assert whole.record["recipe"]["wild_batch_size"] == 20 and "--wild-batch-size 20" in whole.record["command"]
    original = Batches.__getitem__

    def stop(batches: Batches, index: int) -> Any:
        if index == 4:
            raise KeyboardInterrupt
        return original(batches, index)

    monkeypatch.setattr(Batches, "__getitem__", stop)
    with pytest.raises(KeyboardInterrupt):
        train(recipe, suite, folder=tmp_path / "parts", save_every=0, **OPTIONS)
    monkeypatch.setattr(Batches, "__getitem__", original)
    resumed = train(recipe, suite, folder=tmp_path / "parts", **OPTIONS)
    expected = whole.classifier().state_dict()
    for name, value in resumed.classifier().state_dict().items():
        assert torch.equal(value, expected[name]), name
    logs = read_log(whole.folder), read_log(resumed.folder)
    assert [entry["terms"] for entry in logs[0]] == [entry["terms"] for entry in logs[1]]
    assert set(logs[0][0]["measures"]) == {"known_cross_entropy", "false_alarms"}
    other = replace(suite, wild=replace(wild, images=wild.images[::-1].copy()))
    with pytest.raises(ValueError, match="was begun with other data of the same name"):
        train(recipe, other, folder=tmp_path / "parts", **OPTIONS)


def test_what_does_not_train_runs_once_for_wild_rows_too(tmp_path: Path) -> None:
    suite = small_suite()
    plain = ImageSet(suite.train.images, suite.train.labels)
    wild = ImageSet(suite.near["noise"].images, suite.near["noise"].labels)
    suite = replace(suite, train=plain, wild=wild, outliers=None, near={})
    first = train(RECIPE, suite, folder=tmp_path / "first", **{**OPTIONS, "network": "small-cnn"})
    recipe = replace(RECIPE, methods=(("woods", {}),), weights=str(first.folder), train_layers="head")
    run = train(recipe, suite, folder=tmp_path / "head", **{**OPTIONS, "network": "small-cnn"})
    assert run.record["frozen"]["runs"] == "once" and run.status == "finished"
    changed = replace(suite, wild=replace(wild, augment=Augment(shift=1)))
    run = train(recipe, changed, folder=tmp_path / "changed", **{**OPTIONS, "network": "small-cnn"})
    assert run.record["frozen"]["because"] == "wild rows are changed at random"
