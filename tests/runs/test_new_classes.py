"""How well new classes would be told: what is held out, what is measured, what is kept, and what is refused."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from oodles import Recipe, adopt, new_class_estimate, open_run, train
from oodles.cli import main
from oodles.data import Suite
from oodles.inference import collect
from oodles.metrics import auroc
from oodles.runs import new_classes
from oodles.runs.folder import CHOICE, NEW_CLASSES, RESULT, RUN, WEIGHTS, locked
from oodles.runs.new_classes import HeldOut, NewClassEstimate, draw_groups
from oodles.scores import Energy
from tests.runs.small import linear, small_suite, write_sets

SHORT = {"epochs": 2, "batch_size": 20, "learning_rate": 0.1}


@pytest.fixture(scope="module")
def suite() -> Suite:
    return replace(small_suite(classes=3), classes=("ant", "bee", "cat"))


@pytest.fixture(scope="module")
def trained(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "mixup"
    recipe = Recipe(methods=(("mixup", {"alpha": 1.0}),), class_weights=(1.0, 2.0, 3.0), **SHORT)
    train(recipe, suite, folder=folder, network=linear, accumulate=2, progress=False)
    return folder


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "run")


def opened(folder: Path) -> object:
    return open_run(folder, network=linear)


def test_groups_are_disjoint_and_the_same_for_more_of_them() -> None:
    for classes, splits, size in ((3, 3, 1), (9, 9, 1), (10, 5, 2), (100, 4, 20)):
        groups = draw_groups(classes, splits, seed=1)
        everyone = list(chain.from_iterable(groups))
        assert {len(group) for group in groups} == {size} and len(set(everyone)) == len(everyone) == size * splits
        assert set(everyone) <= set(range(classes)) and groups[:1] == draw_groups(classes, 1, seed=1)
    assert draw_groups(100, 4, seed=1) != draw_groups(100, 4, seed=2)


@pytest.mark.parametrize(
    ("classes", "splits", "words"),
    [
        (10, 6, "10 classes allow at most 5 trainings, since each holds out 2 and no class is held out twice, got 6"),
        (3, 4, "3 classes allow at most 3 trainings, since each holds out 1"),
        (2, 1, "needs two others, and the run has 2 classes"),
        (1, 1, "needs two others, and the run has 1 classes"),
        (10, 0, "the number of trainings for new classes must be a whole number of at least 1, got 0"),
        (10, 1.5, "must be a whole number of at least 1, got 1.5"),
        (10, True, "must be a whole number of at least 1, got True"),
    ],
)
def test_splits_that_cannot_be_are_refused(classes: int, splits: int, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        draw_groups(classes, splits, seed=0)


def test_a_suite_without_classes(suite: Suite) -> None:
    without = suite.without_classes([1])
    assert without.classes == ("ant", "cat") and set(without.sets()) == {
        "train",
        "validation",
        "test",
        "near:held-out",
    }
    rows = np.flatnonzero(suite.train.labels != 1)
    assert (without.train.images == suite.train.images[rows]).all() and without.train.augment == suite.train.augment
    assert (without.train.labels == suite.train.labels[rows] // 2).all()
    assert without.test is without.validation and (without.mean, without.std) == (suite.mean, suite.std)
    assert (without.validation.images == suite.validation.images[suite.validation.labels != 1]).all()
    assert (without.near["held-out"].images == suite.validation.images[suite.validation.labels == 1]).all()
    assert (without.near["held-out"].labels == -1).all()


def test_the_estimate_is_that_of_plain_trainings_without_some_classes(run: Path, suite: Suite, tmp_path: Path) -> None:
    estimate = new_class_estimate(opened(run), 2, suite=suite, progress=False)
    groups = draw_groups(3, 2, seed=0)
    for (number,), training in zip(groups, estimate.trainings, strict=True):
        assert training.held_out == (suite.classes[number],) and training.rows == 10
        weights = tuple(weight for other, weight in enumerate((1.0, 2.0, 3.0)) if other != number)
        left = suite.without_classes([number])
        plain = train(
            Recipe(class_weights=weights, **SHORT),
            left,
            folder=tmp_path / f"plain-{number}",
            network=linear,
            accumulate=2,
            progress=False,
        )
        classifier = plain.classifier()
        sets = (left.test, left.near["held-out"])
        known, unknown = (collect(classifier, images.loader()).logits.logsumexp(1).neg() for images in sets)
        assert training.aurocs["energy"] == auroc(known, unknown)
        assert training.aurocs["msp"] == plain.result["metrics"]["test"]["near:held-out"]["msp"]["auroc"]
    assert estimate.scores[0] == "msp" and {"energy", "knn"} < set(estimate.scores) and Energy().name == "energy"
    assert [path.name for path in run.iterdir() if path.is_dir()] == []  # what was trained is gone


def test_what_was_estimated_is_kept_and_goes_on(run: Path, suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[tuple[str, ...]] = []

    def counting(recipe: Recipe, data: Suite, **others: object) -> object:
        begun.append(data.classes)
        if len(begun) == 2:
            raise KeyboardInterrupt
        return train(recipe, data, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(new_classes, "train", counting)
    with pytest.raises(KeyboardInterrupt):
        new_class_estimate(opened(run), 2, suite=suite, progress=False)
    estimate = new_class_estimate(opened(run), 2, suite=suite, progress=False)
    assert len(begun) == 3 and begun[1] == begun[2] != begun[0]
    with locked(run):  # nothing is written where nothing is trained
        assert str(new_class_estimate(run, 2)) == str(estimate)  # no data, and no network
    assert new_class_estimate(run, 1).trainings == estimate.trainings[:1] and len(begun) == 3
    assert len(new_class_estimate(opened(run), 3, suite=suite, progress=False).trainings) == 3 and len(begun) == 4
    first = json.loads((run / NEW_CLASSES).read_text())
    (run / NEW_CLASSES).unlink()
    new_class_estimate(opened(run), 3, suite=suite, progress=False)
    assert json.loads((run / NEW_CLASSES).read_text()) == first  # the same bits


def test_the_words() -> None:
    first = HeldOut(("a", "b"), 40, {"msp": 0.7712, "energy": 0.9, "odd": 0.1})
    second = HeldOut(("c", "d"), 38, {"msp": 0.8299, "energy": 0.8})
    estimate = NewClassEstimate((first, second), 10, "msp")
    assert estimate.scores == ("msp", "energy")
    assert str(estimate).splitlines() == [
        "score    mean  lowest  highest",
        "msp      80.1    77.1     83.0",
        "energy   85.0    80.0     90.0",
        "AUROC of validation rows of 10 classes, some held out of plain training: a, b (40 rows); c, d (38 rows).",
        "A new class of this kind: AUROC 77 to 83 (msp).",
        "This is an estimate and no choice: neither this range nor the order of scores need hold for the next.",
    ]
    assert NewClassEstimate((first,), 10, "energy").sentence == "A new class of this kind: AUROC 90 (energy)."
    assert estimate.as_dict()["trainings"][1] == {"held_out": ("c", "d"), "rows": 38, "aurocs": dict(second.aurocs)}


def test_the_score_is_the_chosen_one_or_the_runs_own_where_plain_training_has_it(run: Path, suite: Suite) -> None:
    entry = {"held_out": [suite.classes[draw_groups(3, 1, 0)[0][0]]], "rows": 9, "aurocs": {"msp": 0.7, "energy": 0.6}}
    (run / NEW_CLASSES).write_text(json.dumps({"trainings": [entry]}))
    record, choice = json.loads((run / RUN).read_text()), json.loads((run / CHOICE).read_text())
    (run / CHOICE).write_text(json.dumps({**choice, "own": "energy", "chosen": "energy"}))
    assert new_class_estimate(run, 1).score == "energy"
    (run / CHOICE).unlink()
    for method, score in (("mixup", "msp"), ("energy-bounded", "energy"), ("cac", "msp")):
        (run / RUN).write_text(json.dumps({**record, "recipe": {**record["recipe"], "methods": [{"name": method}]}}))
        assert new_class_estimate(run, 1).score == score


def test_a_run_that_starts_from_another_trains_as_that_one_did(
    run: Path, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuned = tmp_path / "tuned"
    recipe = Recipe(methods=(("outlier-exposure", {}),), epochs=1, batch_size=20, weights=str(run))
    train(recipe, suite, folder=tuned, network=linear, progress=False)
    began: list[Recipe] = []

    def noted(recipe: Recipe, data: Suite, **others: object) -> object:
        began.append(recipe)
        return train(recipe, data, **others)  # type: ignore[arg-type]

    monkeypatch.setattr(new_classes, "train", noted)
    new_class_estimate(opened(tuned), 1, suite=suite, progress=False)
    (plain,) = began
    assert (plain.is_plain, plain.epochs, plain.weights) == (True, 2, None)
    (tuned / NEW_CLASSES).unlink()
    result = json.loads((run / RESULT).read_text())
    (run / RESULT).write_text(json.dumps({**result, "sha256": {WEIGHTS: "0" * 64}}))
    with pytest.raises(ValueError, match=r"starts from weights that .* had once, and it was trained anew since then"):
        new_class_estimate(opened(tuned), 1, suite=suite, progress=False)
    shutil.rmtree(run)
    with pytest.raises(ValueError, match="which may know the classes that are to be held out"):
        new_class_estimate(opened(tuned), 1, suite=suite, progress=False)


def test_what_cannot_be_estimated_is_refused_before_training(
    run: Path, suite: Suite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("trained")

    def few(keep: Callable[[np.ndarray], np.ndarray]) -> Suite:
        rows = np.flatnonzero(keep(suite.validation.labels))
        return replace(suite, validation=suite.validation.take(rows, suite.validation.labels[rows]))

    adopted = adopt(linear, weights=run / "weights.safetensors", data=suite, folder=tmp_path / "adopted")
    monkeypatch.setattr(new_classes, "train", never)
    with pytest.raises(ValueError, match="was adopted, so there is no training to repeat"):
        new_class_estimate(adopted, 1, suite=suite)
    with pytest.raises(FileNotFoundError, match=r"needs its data: .*, or call new_class_estimate"):
        new_class_estimate(opened(run), 1)
    with pytest.raises(ValueError, match="was trained on other classes than 'small' has now"):
        new_class_estimate(opened(run), 1, suite=small_suite())
    (held,) = draw_groups(3, 1, seed=0)[0]
    with pytest.raises(ValueError, match=f"'small' has none of {suite.classes[held]}, or none of the others"):
        new_class_estimate(opened(run), 1, suite=few(lambda labels: labels != held))
    with pytest.raises(ValueError, match="or none of the others: give it more"):
        new_class_estimate(opened(run), 1, suite=few(lambda labels: labels == held))
    (run / NEW_CLASSES).write_text('{"trainings": 3}')
    with pytest.raises(ValueError, match=f"{NEW_CLASSES}: trainings must be a list, got 3; delete it"):
        new_class_estimate(opened(run), 1, suite=suite)
    (run / NEW_CLASSES).write_text('{"trainings": [{"held_out": ["ant"], "rows": 1, "aurocs": {}}]}')
    with pytest.raises(ValueError, match=f"{NEW_CLASSES}: .*msp.*; delete it"):
        new_class_estimate(opened(run), 1, suite=suite)
    (run / NEW_CLASSES).write_text('{"trainings": [{"held_out": ["zebra"], "rows": 1, "aurocs": {"msp": 0.5}}]}')
    with pytest.raises(ValueError, match=f"{NEW_CLASSES} holds out other classes than the run's seed draws; delete it"):
        new_class_estimate(opened(run), 1, suite=suite)


def test_a_training_that_diverges_is_told(run: Path, suite: Suite) -> None:
    record = json.loads((run / RUN).read_text())
    (run / RUN).write_text(json.dumps({**record, "recipe": {**record["recipe"], "learning_rate": 1e30}}))
    (run / "recipe.toml").unlink()
    with pytest.raises(ValueError, match=r"A plain training without (ant|bee|cat) diverged: logits of validation rows"):
        new_class_estimate(opened(run), 1, suite=suite, progress=False)


def test_the_command(suite: Suite, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, run = tmp_path / "data", str(tmp_path / "run")
    known = {name: getattr(suite, name) for name in ("train", "validation", "test")}
    write_sets(data, **known, **{"near/noise": suite.near["noise"]})
    words = ["--data", str(data), "--network", "tests.runs.small:linear", "--epochs", "2", "--to", run]
    words += ["--batch-size", "20", "--learning-rate", "0.1"]
    assert main(["train", "mixup", *words]) == 0
    given = ["evaluate", run, "--network", "tests.runs.small:linear", "--new-classes"]
    capsys.readouterr()
    assert main([*given, "2"]) == 0
    shown = capsys.readouterr().out
    assert "A new class of this kind: AUROC " in shown and "score" in shown
    shutil.rmtree(data)  # it was kept
    assert main([*given, "2", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["sentence"] in shown and len(document["trainings"]) == 2
    for further, words in (
        (["3"], "needs its data"),
        (["4"], "3 classes allow at most 3 trainings"),
        (["1.5"], "--new-classes"),
        (["2", "--score", "msp"], "leave --score and --ood out"),
    ):
        with pytest.raises(SystemExit) as refused:
            raise SystemExit(main([*given, *further]))
        said = capsys.readouterr().err
        assert refused.value.code in (1, 2) and words in said and said.count("\n") == 1
