"""The score that a run is deployed with: chosen when training ends or later, and kept in its folder."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodles.cli import main
from oodles.comparing.comparison import compare
from oodles.comparing.results import result_of
from oodles.contract import Part
from oodles.detection.calibration import choosing_rows
from oodles.detection.choosing import Choice, made_unknowns
from oodles.evaluation import score_rows
from oodles.metrics import auroc
from oodles.runs import deployment
from oodles.runs.choice import choose_score, trained_on_outliers
from oodles.runs.deployment import export
from oodles.runs.fits import kept_fit
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Methods, Recipe
from oodles.runs.testing import evaluate_run, possible_scores, ready_scores
from oodles.runs.testing import figures as figures_of
from oodles.runs.training import train
from tests.runs.small import small_suite

NETWORK = "tests.runs.small:linear"
WIDE = replace(small_suite(), validation=small_suite(360).train.rows(np.arange(120, 360)))
"""With enough validation rows to choose."""


def trained(
    folder: Path, methods: Methods = (), *, weights: str | None = None, teacher: str | None = None, seed: int = 0
) -> Run:
    recipe = Recipe(
        methods,
        epochs=1,
        learning_rate=0.01,
        batch_size=20,
        outlier_batch_size=20,
        weights=weights,
        teacher=teacher,
        seed=seed,
        suggest=False,
    )
    return train(recipe, WIDE, folder=folder, network=NETWORK, progress=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("plain") / "run")


@pytest.fixture(scope="module")
def exposed(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained(tmp_path_factory.mktemp("exposed") / "run", (("outlier-exposure", {}),))


def figures(run: Run, *, outliers: bool) -> dict[str, dict[str, float]]:
    """Compute the AUROC of every score and kind by itself."""
    classifier, may = run.classifier(), choosing_rows(240)
    scores, _ = ready_scores(run, classifier, WIDE, possible_scores(classifier, WIDE, []))
    rows = torch.from_numpy(WIDE.validation.images[may])
    part = Part(rows, torch.from_numpy(run.scores["validation/predictions"][may]).long())
    found: dict[str, dict[str, float]] = {score.name: {} for score in scores}
    for kind, made in made_unknowns(part):
        for name, values in score_rows(classifier, [made], scores).scores.items():
            found[name][kind] = auroc(run.scores[f"validation/{name}"][may], values)
    for score in scores if outliers else []:
        found[score.name]["outliers"] = auroc(
            run.scores[f"validation/{score.name}"][may], run.scores[f"outliers/{score.name}"]
        )
    return found


def test_it_is_chosen_when_training_ends_and_kept(plain: Run) -> None:
    choice = choose_score(plain.folder)
    assert choice.as_dict() == json.loads((plain.folder / "choice.json").read_text("utf-8"))
    assert choice.own == "msp" and choice.rows == 120 and choice.kinds == ("blends", "jigsaw", "shuffled", "outliers")
    expected = figures(plain, outliers=True)
    for score, by_kind in expected.items():
        assert choice.aurocs[score] == pytest.approx(by_kind, abs=1e-9), score
    together = {
        s: np.mean([f["blends"], f["jigsaw"], f["shuffled"]]) / 2 + f["outliers"] / 2 for s, f in expected.items()
    }
    best = max(together, key=lambda score: together[score])
    assert together[best] > together["msp"] + 0.02 and choice.chosen == best


def test_outliers_that_were_trained_on_do_not_choose(exposed: Run, tmp_path: Path) -> None:
    tuned = trained(tmp_path / "tuned", weights=str(exposed.folder))
    again = trained(tmp_path / "again", weights=str(tuned.folder))
    made = trained(tmp_path / "made", (("generated-outliers", {}), ("outlier-exposure", {})))
    for run in (exposed, tuned, again, made):
        choice = choose_score(run)
        assert choice.kinds == ("blends", "jigsaw", "shuffled")
        assert "The outliers were trained on, so what they say of scores is worth nothing" in choice.remarks[0]
    assert choose_score(exposed).aurocs["msp"] == pytest.approx(figures(exposed, outliers=False)["msp"], abs=1e-9)


def test_outliers_that_a_teacher_was_trained_on_do_not_choose(plain: Run, exposed: Run, tmp_path: Path) -> None:
    distilled = (("distillation", {}),)
    of_exposed = trained(tmp_path / "exposed", distilled, teacher=str(exposed.folder))
    assert choose_score(of_exposed).kinds == ("blends", "jigsaw", "shuffled")
    assert "outliers" in choose_score(trained(tmp_path / "plain", distilled, teacher=str(plain.folder))).kinds
    (of_exposed.folder / "choice.json").unlink()
    record = json.loads((of_exposed.folder / "run.json").read_text("utf-8"))
    record["teacher"]["file"] = str(tmp_path / "gone" / "weights.safetensors")
    (of_exposed.folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert trained_on_outliers(open_run(of_exposed.folder, network=NETWORK)), "by its label"


def test_what_weights_come_from_is_asked_only_where_it_still_is(exposed: Run, tmp_path: Path) -> None:
    first = Path(shutil.copytree(exposed.folder, tmp_path / "first"))
    tuned = trained(tmp_path / "tuned", weights=str(first))
    again = trained(tmp_path / "again", weights=str(tuned.folder))
    record = json.loads((first / "run.json").read_text("utf-8"))
    (first / "run.json").write_text("{", encoding="utf-8")
    assert trained_on_outliers(tuned), "by its label"
    shutil.rmtree(first)
    trained(first, weights=str(again.folder))  # a folder that is used in turn leads back to itself
    assert trained_on_outliers(open_run(first, network=NETWORK))
    del record["initial"]["file"]
    record["recipe"]["methods"] = [{"name": "mixup"}]
    (first / "run.json").write_text(json.dumps(record), encoding="utf-8")
    assert not trained_on_outliers(open_run(first, network=NETWORK))


def test_a_run_of_an_earlier_version_chooses_once_and_keeps_it(tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for name in ("train", "validation", "test"):
        part = getattr(WIDE, name)
        np.savez(data / f"{name}.npz", images=part.images, labels=part.labels)
    run = train(Recipe(epochs=3, batch_size=20), data, folder=tmp_path / "run", network=NETWORK, progress=False)
    kept = (run.folder / "choice.json").read_text("utf-8")
    (run.folder / "choice.json").unlink()
    assert run.detector(false_alarms=0.2).about["choice"]
    assert (run.folder / "choice.json").read_text("utf-8") == kept, "the same bits"
    (run.folder / "choice.json").unlink()
    assert evaluate_run(run).deployed == "", "nothing is marked before something has chosen"
    for images in (WIDE.validation.images[:100], WIDE.validation.images / 2):
        np.savez(data / "validation.npz", images=images, labels=WIDE.validation.labels[: len(images)])
        assert run.detector(false_alarms=0.2).score.name == "msp", "the own score, where the rows have changed"
        with pytest.raises(FileNotFoundError, match=r"validation of .*data changed since the run was trained"):
            run.detector("best", false_alarms=0.2)
        with pytest.raises(FileNotFoundError, match=r"keeps nothing of knn\(k=3\), .*changed since"):
            run.detector("knn(k=3)", false_alarms=0.2)
        evaluate_run(run, "knn(k=3)")
        assert kept_fit(run.folder, "knn(k=3)") is None, "values of other rows are not kept"
    np.savez(data / "validation.npz", images=WIDE.validation.images, labels=WIDE.validation.labels)
    assert run.detector("knn(k=3)", false_alarms=0.2).score.name == "knn(k=3)"
    data.rename(tmp_path / "gone")
    assert run.detector(false_alarms=0.2).score.name == "msp", "the own score, where nothing can be chosen"
    with pytest.raises(
        FileNotFoundError, match=r"keeps no choice of a score, which needs the run's data once: .*--root"
    ):
        run.detector("best", false_alarms=0.2)
    assert choose_score(run, root=tmp_path / "gone").chosen == json.loads(kept)["chosen"]


def test_the_detector_has_the_chosen_score_and_the_other_half_sets_its_threshold(plain: Run) -> None:
    choice, half = choose_score(plain), ~choosing_rows(240)
    detector = plain.detector(false_alarms=0.1)
    assert detector.score.name == choice.chosen != "msp" and detector.about["choice"] == choice.reason
    values = plain.scores[f"validation/{choice.chosen}"]
    assert detector.calibration.scores.tolist() == values[half].tolist()
    assert plain.deployed_score == choice.chosen and f"  {choice.chosen} * " in figures_of(plain)
    own = plain.detector("own", false_alarms=0.1)
    assert own.score.name == "msp" and len(own.calibration.scores) == 240 and "choice" not in own.about
    assert len(plain.detector("energy").calibration.scores) == 240, "a score that was named chose nothing"
    rare = plain.detector(false_alarms=0.006)
    assert rare.score.name == "msp" and len(rare.calibration.scores) == 240, "half of the rows cannot promise that"


def test_a_folder_that_may_only_be_read_is_chosen_for_once(
    plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, chosen = choose_score(plain), []

    def choose(*_: object, **__: object) -> Choice:
        chosen.append(kept)
        return kept  # and keeps it nowhere

    monkeypatch.setattr(deployment, "choose_score", choose)
    exported = export(plain, tmp_path / "model.pt2", false_alarms=0.1)
    assert exported.about["score"] == kept.chosen and exported.about["choice"] == kept.reason and len(chosen) == 1


def test_too_few_rows_tell_nothing(tmp_path: Path) -> None:
    recipe = Recipe(epochs=1, batch_size=20)
    few = train(recipe, small_suite(), folder=tmp_path / "run", network=NETWORK, progress=False)
    choice = choose_score(few)
    words = "30 validation rows are too few to tell which score is best: 100 are needed."
    assert (choice.chosen, choice.aurocs, choice.remarks) == ("msp", {}, (words,))
    assert str(choice) == f"Score: msp stays: nothing could be compared.\n{words}"
    detector = few.detector(false_alarms=0.2)
    assert detector.score.name == "msp" and len(detector.calibration.scores) == 30
    with pytest.raises(ValueError, match=r"are too few to tell which score is best: 100 are needed\. Name a score"):
        few.detector("best")


def test_a_damaged_choice_is_refused(plain: Run, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    shutil.copytree(plain.folder, folder)
    for content, words in (
        ("{", "is not JSON"),
        ('{"own": 3}', "own must be text"),
        (
            json.dumps({**choose_score(plain).as_dict(), "chosen": "odin"}),
            "names the score 'odin', which the run has not",
        ),
        (
            json.dumps({**choose_score(plain).as_dict(), "aurocs": {"msp": {"blends": 0.5}, "knn": {"jigsaw": 0.5}}}),
            "must have the same kinds of unknowns for every score",
        ),
    ):
        (folder / "choice.json").write_text(content, encoding="utf-8")
        with pytest.raises(ValueError, match=words) as refused:
            open_run(folder, network=NETWORK).detector()
        assert "delete it, and the score is chosen anew from the validation data" in str(refused.value)


def test_comparisons_show_the_chosen_score_beside_plain_training_with_its_own_choice(plain: Run, exposed: Run) -> None:
    (table,) = compare([plain, exposed]).tables
    own, chosen = table.groups[1].versus[-1], table.groups[1].versus[0]
    assert own == ("msp", "msp") and chosen == ("chosen", "chosen")
    figure = table.figure(table.groups[1], "near:noise", "auroc", *chosen)
    assert figure is not None and figure.plain is not None
    for run, value in ((exposed, figure.value), (plain, figure.plain)):
        choice = choose_score(run).chosen
        assert value.mean == run.result["metrics"]["test"]["near:noise"][choice]["auroc"]
    words = next(remark for remark in table.remarks if remark.startswith("chosen: "))
    assert f"{choose_score(plain).chosen} (cross-entropy" in words
    (without,) = compare([replace(result_of(run), chosen="") for run in (plain, exposed)]).tables
    assert without.groups[1].versus == (("msp", "msp"),)


def test_the_command_says_it(plain: Run, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["evaluate", str(plain.folder), "--choose-score", "--network", NETWORK]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    choice = choose_score(plain)
    assert said.startswith(str(choice)) and said.splitlines()[-1] == f"Use it: oodles score {plain.folder} INPUTS"
    assert main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == choice.as_dict()
    with pytest.raises(SystemExit):
        main([*arguments, "--score", "msp"])
    assert "leave --score and --ood out" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main([*arguments, "--new-classes", "1"])
    assert "leave one of them out" in capsys.readouterr().err
