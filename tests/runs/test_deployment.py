"""Scoring new inputs: the threshold, the verdicts and the file."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodles.cli import main
from oodles.detection.calibration import choosing_rows
from oodles.runs.deployment import score_inputs
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train
from tests.runs.small import small_suite


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(methods=(("energy-gap", {}),), epochs=10, batch_size=20, outlier_batch_size=20)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe, small_suite(), folder=folder, network="tests.runs.small:linear", progress=False)


@pytest.fixture
def validation(tmp_path: Path) -> Path:
    """Write the validation rows to a file: their classes and scores are known."""
    np.savez(tmp_path / "validation.npz", images=small_suite().validation.images)
    return tmp_path / "validation.npz"


@pytest.mark.parametrize("accept", [0.95, 0.5, 0.9])
def test_the_threshold_accepts_the_share_that_was_asked_for(
    run: Run, validation: Path, accept: float, tmp_path: Path
) -> None:
    verdicts = score_inputs(run, validation, accept=accept, to=None)
    assert verdicts.score == "energy", "the score that the method's paper uses"
    scores = run.scores["validation/energy"]
    np.testing.assert_allclose(verdicts.scores, scores, rtol=1e-6)
    rank = np.sum(scores >= verdicts.threshold)
    assert rank / 31 <= 1 - accept + 1e-9 < (rank + 1) / 31, (
        "so that a 31st known row is accepted as often as asked for"
    )
    assert score_inputs(run, validation, false_alarms=1 - accept, to=None).threshold == verdicts.threshold
    assert verdicts.classes == tuple("abc"[index] for index in run.scores["validation/predictions"])
    assert verdicts.accepted.sum() == (verdicts.scores <= verdicts.threshold).sum()


def test_noise_is_rejected_and_the_file_says_so(run: Run, tmp_path: Path) -> None:
    outliers = small_suite().outliers
    assert outliers is not None
    both = np.concatenate([small_suite().test.images[:5], outliers.images[:5]])
    np.savez(tmp_path / "new.npz", images=both)
    opened = open_run(run.folder, network="tests.runs.small:linear")
    verdicts = score_inputs(opened, tmp_path / "new.npz", to=tmp_path / "scores.csv")
    with (tmp_path / "scores.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [row["verdict"] for row in rows[5:]] == ["reject"] * 5
    assert [row["verdict"] for row in rows[:5]].count("accept") >= 4
    assert [row["class"] for row in rows[:5]] == list("abcab")
    assert [float(row["score"]) for row in rows] == verdicts.scores.tolist()
    assert [row["input"] for row in rows] == list(verdicts.names)
    accepted = sum(row["verdict"] == "accept" for row in rows)
    assert str(verdicts).startswith(f"{accepted} of 10 accepted: energy of at most ")


def test_scores_that_compare_with_training_rows_read_the_data(tmp_path: Path) -> None:
    """A run on data by path finds its training rows again."""
    suite, data = small_suite(), tmp_path / "data"
    data.mkdir()
    for name, images in (("train", suite.train), ("validation", suite.validation), ("test", suite.test)):
        np.savez(data / f"{name}.npz", images=images.images, labels=images.labels)
    recipe = Recipe(methods=(("mixup", {}),), epochs=2, batch_size=20)
    own = train(recipe, data, folder=tmp_path / "run", network="tests.runs.small:linear", progress=False)
    assert own.data == str(data.resolve())
    verdicts = score_inputs(own, data / "validation.npz", score="knn", to=None)
    np.testing.assert_allclose(verdicts.scores, own.scores["validation/knn"], rtol=1e-6)
    (tmp_path / "elsewhere").mkdir()
    data.rename(tmp_path / "elsewhere" / "data")
    for root in (tmp_path / "elsewhere", tmp_path / "elsewhere" / "data"):
        verdicts = score_inputs(own, tmp_path / "elsewhere/data/validation.npz", score="knn", to=None, root=root)
        np.testing.assert_allclose(verdicts.scores, own.scores["validation/knn"], rtol=1e-6)
        assert evaluate_run(own, root=root).accuracy == own.result["test_accuracy"]
    with pytest.raises(FileNotFoundError, match=r"is not at .*data any more: say where it is with --root"):
        evaluate_run(own, root=tmp_path)


def test_a_suite_is_found_again_where_its_files_are_now(tmp_path: Path) -> None:
    suite, before, after = small_suite(), tmp_path / "before", tmp_path / "after"
    before.mkdir()
    sets = {"train": suite.train, "validation": suite.validation, "test": suite.test, "noise": suite.near["noise"]}
    for name, images in sets.items():
        np.savez(before / f"{name}.npz", images=images.images, labels=images.labels)
    words = "\n".join(f'{name} = "{name}.npz"' for name in ("train", "validation", "test"))
    (tmp_path / "mine.toml").write_text(f'{words}\n[near]\nnoise = "noise.npz"\n', encoding="utf-8")
    recipe = Recipe(epochs=1, batch_size=20)
    options = {"folder": tmp_path / "run", "network": "tests.runs.small:linear", "progress": False}
    run = train(recipe, tmp_path / "mine.toml", root=before, **options)  # type: ignore[arg-type]
    assert run.record["arguments"]["root"] == [str(before)]
    known, metrics = run.scores["validation/knn"], evaluate_run(run).metrics
    before.rename(after)
    verdicts = score_inputs(run, after / "validation.npz", score="knn", to=None, root=after)
    assert verdicts.scores.tolist() == known.tolist()
    assert evaluate_run(run, root=after).metrics == metrics
    assert train(recipe, tmp_path / "mine.toml", root=after, **options).result == run.result  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="--root"):
        evaluate_run(run)


def test_mistakes_get_a_sentence(run: Run, validation: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"accept must be below 1, got 95: 0\.95 accepts"):
        score_inputs(run, validation, accept=95)
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        score_inputs(run, validation, score="enrgy")
    with pytest.raises(FileNotFoundError, match="none"):
        score_inputs(run, tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        score_inputs(tmp_path, validation)


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_validation_rows_that_chose_margins_are_no_calibration_rows(tmp_path: Path) -> None:
    recipe = Recipe(methods=(("energy-bounded", {}),), epochs=4, batch_size=20, outlier_batch_size=20)
    bounded = train(
        recipe, small_suite(120), folder=tmp_path / "run", network="tests.runs.small:linear", progress=False
    )
    assert bounded.record["validation_chose"] == ["energy-bounded.margin_in", "energy-bounded.margin_out"]
    known = bounded.scores["validation/energy"]
    assert bounded.detector(false_alarms=0.2).calibration.scores.tolist() == known[~choosing_rows(30)].tolist()
    assert "validation_chose" in open_run(bounded.folder).record
    given = replace(recipe, methods=(("energy-bounded", {"margin_in": -5.0, "margin_out": -2.0}),), suggest=None)
    options = {"network": "tests.runs.small:linear", "progress": False}
    plain = train(given, small_suite(), folder=tmp_path / "given", **options)  # type: ignore[arg-type]
    assert plain.record["validation_chose"] == [] and len(plain.detector().calibration.scores) == 30


def test_a_saved_detector_takes_the_place_of_its_run(run: Run, validation: Path, tmp_path: Path) -> None:
    detector = run.detector(false_alarms=0.1)
    folder = detector.save(tmp_path / "detector")
    words = {"false_alarms": 0.1, "to": None, "network": "tests.runs.small:linear"}
    scored, by_run = (score_inputs(place, validation, **words) for place in (folder, run.folder))  # type: ignore[arg-type]
    assert scored.to_csv() == by_run.to_csv() == detector(validation).to_csv()
    with pytest.raises(ValueError, match="holds a detector with the score energy, got knn: leave it out"):
        score_inputs(folder, validation, score="knn", **words)  # type: ignore[arg-type]
    arguments = ["score", str(folder), str(validation), "--network", "tests.runs.small:linear", "--json"]
    assert main([*arguments, "--false-alarms", "0.1", "--accept", "0.9"]) == 1
    assert main(["export", str(folder), "--to", str(tmp_path / "m.pt2"), "--network", "tests.runs.small:linear"]) == 0


def test_the_watch_of_a_run_counts_what_it_refuses(run: Run, tmp_path: Path) -> None:
    watch = run.detector(false_alarms=0.1).watch(window=10, to=tmp_path / "watch.jsonl")
    suite = small_suite()
    watch(suite.test.images)
    assert watch.rows == 30 and not watch.alarm
    assert suite.outliers is not None
    verdicts = watch(suite.outliers.images)
    assert watch.alarm and watch.refused >= (~verdicts.accepted).sum() == 50
    lines = [json.loads(line) for line in (tmp_path / "watch.jsonl").read_text().splitlines()]
    assert [line["refused"] for line in lines[3:]] == [10] * 5 and lines[-1]["alarm"]


@pytest.mark.filterwarnings("always:The threshold for")
def test_few_rows_are_told_in_a_sentence(run: Run, validation: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["score", str(run.folder), str(validation), "--network", "tests.runs.small:linear", "--json"]
    assert main(arguments) == 0
    err = capsys.readouterr().err
    assert err.startswith("oodles: The threshold for 5 % false alarms comes from 30 known rows alone:")
    assert err.count("\n") == 1
