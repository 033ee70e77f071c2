"""Runs with a teacher: where it may come from, what is recorded of it, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from oodles import Detector, Recipe, Run, compare, open_run, train
from oodles.cli import main
from oodles.runs.folder import RUN
from tests.contract.steps import is_one_sentence
from tests.runs.small import linear, small_suite, taught

LINEAR, TAUGHT = "tests.runs.small:linear", "tests.runs.small:taught"
PLAIN = Recipe(epochs=6, batch_size=16, learning_rate=0.1)
PUPIL = replace(PLAIN, methods=(("distillation", {"weight": 0.5}), ("logit-norm", {})), epochs=2, learning_rate=0.02)


def _train(recipe: Recipe, folder: Path, **options: Any) -> Run:
    options = {"network": LINEAR, "data": small_suite(), **options}
    return train(recipe, folder=folder, device="cpu", progress=False, **options)


def _same(a: Run, b: Run) -> bool:
    pairs = zip(a.classifier().state_dict().values(), b.classifier().state_dict().values(), strict=True)
    return all(torch.equal(mine, theirs) for mine, theirs in pairs)


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(PLAIN, tmp_path_factory.mktemp("master") / "run")


@pytest.fixture(scope="module")
def pupil(master: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(replace(PUPIL, teacher=str(master.folder)), tmp_path_factory.mktemp("pupil") / "run")


def test_a_run_teaches_and_is_recorded(master: Run, pupil: Run) -> None:
    weights = master.folder / "weights.safetensors"
    about = {
        "label": f"cross-entropy ({LINEAR})",
        "file": str(weights),
        "sha256": master.result["sha256"][weights.name],
    }
    assert pupil.record["teacher"] == about and pupil.recipe.teacher == str(master.folder)
    assert pupil.teacher == pupil.settings["teacher"] == about["label"] and master.teacher is None
    assert pupil.status == "finished" and set(pupil.log[0]["terms"]) == {"cross_entropy", "distillation"}
    assert pupil.log[-1]["terms"]["distillation"] < pupil.log[0]["terms"]["distillation"]
    assert f"--teacher {master.folder}" in pupil.record["command"]
    names = set(pupil.classifier().state_dict())
    assert names == set(master.classifier().state_dict()), "the teacher is not kept"


def test_without_its_teacher_it_is_tested_and_deployed(master: Run, pupil: Run, tmp_path: Path) -> None:
    run = open_run(pupil.folder, network=LINEAR)
    detector = run.detector("entropy", false_alarms=0.2)
    detector.save(tmp_path / "detector")
    rows = small_suite().test.images[:]
    again = Detector.load(tmp_path / "detector", network=LINEAR)
    assert again(rows).accepted.tolist() == detector(rows).accepted.tolist()
    words = " ".join(compare([pupil.folder, master.folder]).to_text().split())
    assert f"learns from cross-entropy ({LINEAR})" in words


@pytest.mark.parametrize("kind", ["file", "module", "classifier", "function", "path of a run"])
def test_other_teachers(kind: str, master: Run, pupil: Run, tmp_path: Path) -> None:
    classifier = master.classifier()
    module = linear(3, (1, 8, 8))
    module.load_state_dict(classifier.join().get_submodule("network").state_dict())
    teachers: dict[str, Any] = {
        "file": master.folder / "weights.safetensors",
        "module": module,
        "classifier": master.classifier(),
        "function": TAUGHT,
        "path of a run": master.folder,
    }
    run = _train(PUPIL, tmp_path / "run", teacher=teachers[kind])
    labels = {"file": "weights.safetensors", "module": "module Sequential", "classifier": "module Classifier"}
    labels |= {"function": TAUGHT, "path of a run": f"cross-entropy ({LINEAR})"}
    assert run.record["teacher"]["label"] == labels[kind] and len(run.record["teacher"]["sha256"]) == 64
    assert _same(run, pupil) == (kind != "function"), "the same teacher teaches the same"


def test_its_draws_leave_those_of_the_student(master: Run, tmp_path: Path) -> None:
    """At weight 0, a run with a teacher is plain training, bit for bit; with one that is built anew, too."""
    plain = _train(replace(PLAIN, epochs=1), tmp_path / "plain")
    for number, (weight, teacher) in enumerate([(0.0, master.folder), (1e-30, TAUGHT)]):
        recipe = replace(PLAIN, epochs=1, methods=(("distillation", {"weight": weight}),))
        run = _train(recipe, tmp_path / str(number), teacher=teacher)
        assert _same(run, plain) and ("teacher" in run.record) == (weight > 0)


def test_a_stopped_run_goes_on_with_its_teacher_and_no_other(
    master: Run, pupil: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from oodles.runs import training

    folder, teacher = tmp_path / "run", tmp_path / "teacher.safetensors"
    teacher.write_bytes((master.folder / "weights.safetensors").read_bytes())
    whole = training.learning_rate

    def stopping(recipe: Recipe, update: int, updates: int) -> float:
        if update == 5:
            raise KeyboardInterrupt
        return whole(recipe, update, updates)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(training, "learning_rate", stopping)
        _train(PUPIL, folder, teacher=teacher, save_every=0.0)
    content = teacher.read_bytes()
    teacher.write_bytes((pupil.folder / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="was begun with another teacher of the same name: choose another") as refusal:
        _train(PUPIL, folder, teacher=teacher)
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="holds a run with other settings: teacher is "):
        _train(PUPIL, folder, teacher=master.folder)
    teacher.write_bytes(content)
    assert _same(_train(PUPIL, folder, teacher=teacher), pupil)


def test_runs_of_earlier_versions_have_none(master: Run, tmp_path: Path) -> None:
    record = json.loads((master.folder / RUN).read_text())
    assert "teacher" not in record
    del record["recipe"]["teacher"]
    (tmp_path / RUN).write_text(json.dumps(record))
    assert open_run(tmp_path).recipe == master.recipe


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_frozen_layers_run_in_every_step(master: Run, tmp_path: Path) -> None:
    """What they gave for an image is nothing that a teacher could read."""
    data = replace(small_suite(), train=replace(small_suite().train, augment=small_suite().test.augment))
    whole = replace(PUPIL, train_layers="head", weights=str(master.folder / "weights.safetensors"))
    run = _train(whole, tmp_path / "run", teacher=TAUGHT, data=data)
    assert run.record["frozen"]["because"] == "a teacher sees the inputs, too"
    plain = replace(PLAIN, epochs=1, train_layers="head", weights=whole.weights)
    assert _train(plain, tmp_path / "plain", data=data).record["frozen"]["runs"] == "once"


def wide(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
    """Build a network that brings all of its weights, for five classes."""
    return taught(5, input_shape)


@pytest.mark.parametrize(
    "recipe, teacher, sentence",
    [
        (PUPIL, None, "distillation needs a teacher, got none: name the folder of a run, a file of weights, or a net"),
        (PLAIN, TAUGHT, f"cross-entropy learns from no teacher, got '{TAUGHT}': leave it out, or add distillation"),
        (PUPIL, "nowhere", "There is no teacher at nowhere: give the folder of a run, a file of weights, or a network"),
        (PUPIL, "small-cnn", r"all of its weights, and small-cnn is built with random ones for these 3 classes: give"),
        (PUPIL, LINEAR, f"A teacher must bring all of its weights, and {LINEAR} is built with random ones"),
        (PUPIL, "tests.runs.test_teacher:wide", "The teacher tests.*wide cannot be built: .* must give 3 logits"),
        (PUPIL, "tests.runs.small:nothing", "The teacher tests.runs.small:nothing cannot be built: "),
        (PUPIL, __file__, "The teacher .*test_teacher.py cannot be built: "),
        (PUPIL, Path(__file__).parent, "runs is no run folder"),
    ],
)
def test_what_is_no_teacher_is_refused_before_training(
    recipe: Recipe, teacher: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence) as refusal:
        _train(recipe, tmp_path / "run", teacher=teacher)
    assert is_one_sentence(str(refusal.value))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "change, sentence",
    [
        (
            {"suite": {"classes": ["x", "y", "z"]}},
            "with the classes a, b, c of 'small', got x, y, z: train one on",
        ),
        ({"suite": {"classes": ["a", "c", "b"]}}, "with the classes a, b, c of 'small', got a, c, b: train one"),
        ({"suite": {"input_shape": [3, 32, 32]}}, "with the shape of inputs 1, 8, 8 of 'small', got 3, 32, 32"),
        ({"suite": {"features": {"encoder": "e"}}}, "with the encoder None of 'small', got 'e': train one on these"),
        ({"suite": {"sha256": {"train": "0"}}}, "was trained on other rows of 'small', which may be test rows here"),
        ({"arguments": {"network": TAUGHT}}, f"names a network of one's own, '{TAUGHT}', and no code is imported"),
    ],
    ids=["classes", "order", "shape", "encoder", "rows", "own code"],
)
def test_runs_that_cannot_teach_are_refused(
    change: dict[str, dict[str, Any]], sentence: str, master: Run, tmp_path: Path
) -> None:
    record = json.loads((master.folder / RUN).read_text())
    for key, values in change.items():
        record[key] |= values
    other = tmp_path / "other"
    other.mkdir()
    for name in ("weights.safetensors", "result.json"):
        (other / name).write_bytes((master.folder / name).read_bytes())
    (other / RUN).write_text(json.dumps(record))
    with pytest.raises(ValueError, match=f"The teacher {other} .*{sentence}") as refusal:
        _train(PUPIL, tmp_path / "run", teacher=other)
    assert is_one_sentence(str(refusal.value)) and not (tmp_path / "run").exists()


def test_an_unfinished_run_cannot_teach(master: Run, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / RUN).write_bytes((master.folder / RUN).read_bytes())
    with pytest.raises(FileNotFoundError, match="other has no trained weights: finish it first"):
        _train(PUPIL, tmp_path / "run", teacher=tmp_path / "other")


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_settings_are_measured_after_a_warm_up_without_it(master: Run, tmp_path: Path) -> None:
    methods = (("distillation", {"weight": 0.5}), ("energy-bounded", {}))
    run = _train(replace(PUPIL, methods=methods, epochs=1), tmp_path / "run", teacher=master.folder)
    assert run.suggested["energy-bounded"] and open_run(run.folder / "warm-up").recipe.teacher is None


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_one_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    big = "train cross-entropy --epochs 1 --network small-cnn --device cpu --to big"
    assert main(big.split()) == 0
    line = "train distillation --weight 0.5 + logit-norm --teacher big --network mlp --epochs 1 --device cpu --to run"
    assert main(line.split()) == 0
    run = open_run("run")
    assert run.teacher == "cross-entropy (small-cnn)" and run.recipe.teacher == str(tmp_path / "big")
    assert dict(run.methods)["distillation"] == {"weight": 0.5, "temperature": 4.0, "norm_temperature": 0.04}
    capsys.readouterr()
    assert main(["train", "distillation", "--epochs", "1", "--to", "no"]) == 1
    assert "distillation needs a teacher, got none" in capsys.readouterr().err and not Path("no").exists()
