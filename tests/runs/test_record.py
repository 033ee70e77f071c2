"""Everything that changes the weights is in the record of a run: a folder answers only for what it was asked."""

import inspect
import json
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodles.data import Augment, ImageSet, Suite
from oodles.data.features import Features
from oodles.remarks import TrainingWarning
from oodles.runs.batches import Batches
from oodles.runs.folder import RUN, augment_in_words
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.runs.small import small_suite

RECIPE = Recipe(
    methods=(("energy-bounded", {}),),
    learning_rate=0.1,
    epochs=4,
    batch_size=20,
    outlier_batch_size=10,
    schedule="steps",
    milestones=(2,),
)
ARGUMENTS: dict[str, Any] = {
    "recipe": replace(RECIPE, epochs=5),
    "data": replace(small_suite(), name="other"),
    "seed": 1,
    "weights": "cross-entropy",
    "teacher": "tests.runs.small:taught",
    "network": "tests.runs.small:with_dropout",
    "head": "3",
    "mean": [0.5],
    "std": [0.5],
    "accumulate": 2,
    "device": "cuda",
    "compile": True,
    "channels_last": True,
}
WITHOUT_INFLUENCE = {"root", "folder", "workers", "tracker", "progress", "save_every", "keep_frozen"}
"""Data are compared by content, wherever they lie."""
SETTINGS: dict[str, Any] = {
    "methods": (("energy-bounded", {"weight": 0.2}),),
    "optimizer": "adamw",
    "learning_rate": 0.2,
    "momentum": 0.5,
    "nesterov": False,
    "weight_decay": 0.0,
    "schedule": "cosine",
    "milestones": (3,),
    "epochs": 5,
    "batch_size": 10,
    "outlier_batch_size": 20,
    "max_outliers": 20,
    "wild_batch_size": 8,
    "mixed_precision": "bf16",
    "seed": 1,
    "weights": "cross-entropy",
    "suggest": False,
    "train_layers": ("1",),
    "batch_norm": "frozen",
    "backbone_learning_rate": 0.1,
    "head_learning_rate": 10.0,
    "warm_up": 0.5,
    "decay_exempt": True,
    "clip_gradients": 1.0,
    "ema": 0.999,
    "keep": "best",
    "patience": 2,
    "class_weights": "balanced",
    "balanced_sampling": True,
    "teacher": "tests.runs.small:taught",
}


def _train(recipe: Recipe, folder: Path, data: Suite | None = None, **options: Any) -> Run:
    options = {"network": "tests.runs.small:linear", "device": "cpu", "progress": False, **options}
    return train(recipe, data or small_suite(), folder=folder, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(RECIPE, tmp_path_factory.mktemp("record") / "run")


def test_every_argument_is_tried() -> None:
    assert set(inspect.signature(train).parameters) == set(ARGUMENTS) | WITHOUT_INFLUENCE
    assert {setting.name for setting in fields(Recipe)} == set(SETTINGS)
    assert {part.name for part in fields(Suite)} | {"augment"} == {name.partition(" ")[0] for name in SUITES}
    assert {part.name for part in fields(ImageSet)} - {"names"} == {"images", "labels", "augment", "seed"}


@pytest.mark.parametrize("name", sorted(set(ARGUMENTS) - {"recipe", "data", "device"}))
def test_another_argument_is_refused(name: str, run: Run, tmp_path: Path) -> None:
    value = ARGUMENTS[name]
    if name == "weights":
        (tmp_path / "w.safetensors").write_bytes((run.folder / "weights.safetensors").read_bytes())
        value = tmp_path / "w.safetensors"
    with pytest.raises(ValueError, match=rf"holds a run with other settings: .*{name} is "):
        more = {"mean": [1.0], "std": [1.0]} if name in ("mean", "std") else {}
        _train(RECIPE, run.folder, **{**more, name: value})


def test_the_device_is_in_the_record(run: Run) -> None:
    assert run.arguments["device"] == "cpu" and run.other_settings({"device": "cuda"})


@pytest.mark.parametrize("name", sorted(set(SETTINGS) - {"weights"}))
def test_another_setting_of_the_recipe_is_refused(name: str, run: Run) -> None:
    more = {"milestones": ()} if name == "schedule" else {}
    with pytest.raises(ValueError, match=rf"holds a run with other settings: .*{name} is "):
        _train(replace(RECIPE, **{name: SETTINGS[name]}, **more), run.folder)


def _images(change: Callable[[ImageSet], ImageSet], part: str) -> Callable[[Suite], Suite]:
    return lambda suite: replace(suite, **{part: change(getattr(suite, part))})


def _pixel(images: ImageSet) -> ImageSet:
    pixels = images.images[:].copy()
    pixels[0, 0, 0, 0] = 0.9
    return replace(images, images=pixels)


def _label(images: ImageSet) -> ImageSet:
    return replace(images, labels=np.where(np.arange(len(images)) == 0, (images.labels + 1) % 3, images.labels))


SUITES: dict[str, Callable[[Suite], Suite]] = {
    "name": lambda suite: replace(suite, name="other"),
    "train": _images(_pixel, "train"),
    "train labels": _images(_label, "train"),
    "validation": _images(_pixel, "validation"),
    "test": _images(_pixel, "test"),
    "outliers": _images(_pixel, "outliers"),
    "validation_outliers": lambda suite: replace(suite, validation_outliers=suite.near["noise"]),
    "wild": lambda suite: replace(suite, wild=suite.outliers),
    "near": lambda suite: replace(suite, near={}),
    "far": lambda suite: replace(suite, far={}),
    "classes": lambda suite: replace(suite, classes=("a", "b", "d")),
    "mean": lambda suite: replace(suite, mean=(0.25,)),
    "std": lambda suite: replace(suite, std=(0.25,)),
    "draft": lambda suite: replace(suite, draft=True),
    "outlier_shares": lambda suite: replace(suite, outlier_shares=((20, 0.5), (30, 0.5))),
    "resize": lambda suite: replace(suite, resize=9),
    "imbalance": lambda suite: replace(suite, imbalance=100),
    "features": lambda suite: replace(suite, features=Features(("a", "b"))),
    "notes": lambda suite: replace(suite, notes={"noise": "a remark"}),
    "augment": lambda suite: suite.augmented(Augment(shift=2, flip=True)),
    "augment by colours": lambda suite: suite.augmented(Augment(shift=1, flip=True, brightness=0.1)),
    "augment of outliers alone": _images(lambda images: replace(images, augment=Augment()), "outliers"),
    "augment by another seed": _images(lambda images: replace(images, seed=3), "train"),
}


@pytest.mark.parametrize("change", SUITES.values(), ids=SUITES.keys())
def test_other_data_are_refused(change: Callable[[Suite], Suite], run: Run) -> None:
    with pytest.raises(ValueError, match=r"begun with other data of the same name|other settings: data is"):
        _train(RECIPE, run.folder, change(small_suite()))


def test_what_an_old_record_does_not_tell_is_not_compared(run: Run, tmp_path: Path) -> None:
    record = json.loads((run.folder / RUN).read_text(encoding="utf-8"))
    assert record["suite"]["augment"] == {name: {"shift": 1, "flip": True, "seed": 0} for name in ("train", "outliers")}
    assert augment_in_words(record["suite"]["augment"]) == "shifted by up to 1 pixel and mirrored at random"
    del record["suite"]["augment"]
    old = tmp_path / "old"
    old.mkdir()
    for file in run.folder.iterdir():
        if file.is_file():
            (old / file.name).write_bytes(file.read_bytes())
    (old / RUN).write_text(json.dumps(record), encoding="utf-8")
    assert _train(RECIPE, old, small_suite().augmented(Augment())).result == run.result
    assert augment_in_words(open_run(old).record["suite"].get("augment", {})) == "changes at random were not recorded"


def test_a_resume_on_another_machine_is_in_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    give = Batches.__getitem__

    def get(self: Batches, index: int) -> Any:
        if index == 14:
            raise KeyboardInterrupt
        return give(self, index)

    plain = replace(RECIPE, methods=(), suggest=None)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Batches, "__getitem__", get)
        _train(plain, tmp_path / "run", save_every=0)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Batches, "__getitem__", get)
        _train(plain, tmp_path / "run", save_every=0)
    assert "resumed" not in open_run(tmp_path / "run").record, "on the same machine it is the same run"
    threads, torch_version = torch.get_num_threads(), torch.__version__
    record = json.loads((tmp_path / "run" / RUN).read_text(encoding="utf-8"))
    record["environment"] |= {"threads": threads + 3, "torch": "1.0"}
    (tmp_path / "run" / RUN).write_text(json.dumps(record), encoding="utf-8")
    words = f"resumed with threads {threads} instead of {threads + 3}, torch {torch_version} instead of 1.0"
    with pytest.warns(TrainingWarning, match=words.replace("+", r"\+")):
        run = _train(plain, tmp_path / "run")
    (again,) = run.record["resumed"]
    assert {key: value for key, value in again.items() if key != "started"} == {
        "threads": threads,
        "torch": torch_version,
    }
    assert run.record["environment"]["threads"] == threads + 3 and words in run.result["warnings"][0]
    assert {**run.record, "resumed": None} == {**record, "resumed": None}


def test_what_training_warns_of_is_in_the_result(tmp_path: Path) -> None:
    suite = small_suite()
    noise = np.random.default_rng(1).random((120, 1, 8, 8), dtype=np.float32)
    blind = replace(suite, train=replace(suite.train, images=noise))
    recipe = replace(RECIPE, methods=(("outlier-exposure", {"weight": 1e4}),), learning_rate=1e-9, suggest=None)
    heavy = "The term 'outlier_exposure' was more than 50 times the cross-entropy"
    with pytest.warns(TrainingWarning) as said:
        run = _train(recipe, tmp_path / "run", blind)
    texts = [str(warning.message) for warning in said if warning.category is TrainingWarning]
    assert texts[0].startswith(heavy) and sum(text.startswith(heavy) for text in texts) == 1
    assert any(text.startswith("The accuracy on test rows is at chance") for text in texts)
    assert run.result["warnings"] == list(dict.fromkeys(texts)) and run.result["chance"] == pytest.approx(1 / 3)


def test_a_run_that_learns_warns_of_nothing(run: Run) -> None:
    assert run.result["warnings"] == []
