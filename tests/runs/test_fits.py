"""What scores have learnt is kept in the run folder: scoring and exporting need no data then."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from oodles import Detector
from oodles.cli import main
from oodles.evaluation import score_rows
from oodles.inference import collect
from oodles.methods import score_named
from oodles.runs.deployment import export, score_inputs
from oodles.runs.fits import Fit, keep_fits, kept_fit, size_of_fits
from oodles.runs.folder import FITS, SCORES
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train
from oodles.scores import FURTHER_SCORES
from tests.runs.small import small_suite, write_suite

FITTED = ("knn", "mahalanobis", "relative-mahalanobis")
LATER = (
    "vim",
    "gen",
    "react",
    "dice",
    "she",
    "kl-matching",
    "odin",
    "cosine",
    "knn(k=5)",
    "mahalanobis(normalize=True)",
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train a run on data by path, beside it."""
    folder = tmp_path_factory.mktemp("runs")
    write_suite(folder / "data", small_suite())
    recipe = Recipe(methods=(("cac", {}),), epochs=3, batch_size=20)
    options = {"folder": folder / "run", "network": "tests.runs.small:linear", "progress": False}
    train(recipe, folder / "data", **options)  # type: ignore[arg-type]
    return folder / "run"


@pytest.fixture
def run(made: Path, tmp_path: Path) -> Run:
    return open_run(shutil.copytree(made, tmp_path / "run"), network="tests.runs.small:linear")


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("the data are read")

    monkeypatch.setattr("oodles.runs.testing.suite_of", refuse)


@pytest.mark.parametrize("score", [*FITTED, "cac"])
def test_a_tested_run_scores_and_exports_without_data(
    run: Run, made: Path, score: str, no_data: None, tmp_path: Path
) -> None:
    verdicts = score_inputs(run, made.parent / "data" / "test.npz", score=score, to=None)
    np.testing.assert_allclose(verdicts.scores, run.scores[f"test/{score}"], rtol=1e-6)
    assert verdicts.threshold == np.sort(run.scores[f"validation/{score}"])[-1], "of 30 rows, 1 of 31 is below 5 %"
    assert export(run, tmp_path / "model.pt2", score=score).threshold == verdicts.threshold


def test_the_fits_are_those_of_the_training_rows(run: Run) -> None:
    rows = collect(run.classifier(), small_suite().train.loader())
    for name in (*FITTED, "cac"):
        fit, expected = kept_fit(run.folder, name), score_named(name).fit(*rows).state()
        assert fit is not None and not fit.values and set(fit.state) == set(expected)
        for key, value in expected.items():
            torch.testing.assert_close(fit.state[key], value, rtol=1e-4, atol=1e-5)
    assert kept_fit(run.folder, "msp") is None and kept_fit(run.folder, "vim") is None
    assert size_of_fits(run.folder).endswith(" MB")


@pytest.mark.parametrize("score", LATER)
def test_a_score_that_is_named_later_is_kept(
    run: Run, made: Path, score: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != FITS}
    evaluation = evaluate_run(run, [score])
    monkeypatch.setattr("oodles.runs.testing.suite_of", None)
    verdicts = score_inputs(run, made.parent / "data" / "test.npz", score=score, to=None)
    np.testing.assert_allclose(verdicts.scores, evaluation.scores["id"][score], rtol=1e-5, atol=1e-6)
    fit = kept_fit(run.folder, score)
    assert fit is not None and set(fit.values) == {"validation", "test", "near:noise"}
    assert verdicts.threshold == np.sort(fit.values["validation"])[-1]
    validation = score_inputs(run, made.parent / "data" / "validation.npz", score=score, to=None)
    np.testing.assert_allclose(validation.scores, fit.values["validation"], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(fit.values["near:noise"], evaluation.scores["near:noise"][score])
    assert before == {path.name: path.read_bytes() for path in run.folder.iterdir() if path.name != FITS}
    assert kept_fit(run.folder, "knn") is not None, "the others stay"
    if score != "odin":
        exported = export(run, tmp_path / "model.pt2", score=score)
        assert exported.threshold == verdicts.threshold and set(exported.about["rejected"]) == {"near:noise"}


@pytest.mark.parametrize("score", ["knn(k=3, head=rotation)", "mahalanobis(head=rotation)", "cosine(head=rotation)"])
def test_scores_of_a_further_head(score: str, tmp_path: Path) -> None:
    write_suite(tmp_path / "data", small_suite())
    recipe = Recipe(methods=(("rotation-prediction", {}),), epochs=2, batch_size=20)
    train(recipe, tmp_path / "data", folder=tmp_path / "run", network="tests.runs.small:linear", progress=False)
    opened = open_run(tmp_path / "run", network="tests.runs.small:linear")
    evaluation = evaluate_run(opened, [score])
    rows = collect(net := opened.classifier(), small_suite().train.loader())
    with torch.no_grad():
        outputs = net.heads["rotation"](rows.features)
    fit = kept_fit(opened.folder, score)
    assert fit is not None
    plain = score_named(score.replace("head=rotation", "").replace(", )", ")")).fit(outputs, *rows[1:])
    for name, value in plain.state().items():
        torch.testing.assert_close(fit.state[name], value, rtol=1e-4, atol=1e-5)
    test = tmp_path / "data" / "test.npz"
    verdicts = score_inputs(opened, test, score=score, to=None)
    np.testing.assert_allclose(verdicts.scores, evaluation.scores["id"][score], rtol=1e-5, atol=1e-6)
    exported = export(opened, tmp_path / "model.pt2", score=score)
    assert exported.checked and exported.threshold == verdicts.threshold
    detector = Detector.load(opened.detector(score).save(tmp_path / "detector"), network="tests.runs.small:linear")
    images, _ = next(iter(small_suite().test.loader(30)))
    assert detector.score.name == score
    np.testing.assert_allclose(detector(images).scores, verdicts.scores, rtol=1e-5, atol=1e-6)


def test_scores_that_are_fitted_to_the_same_rows_are_kept_together(run: Run) -> None:
    evaluate_run(run, scores=["knn(k=3)", "knn(k=4)"])
    kept = [kept_fit(run.folder, score) for score in ("knn(k=3)", "knn(k=4)")]
    assert kept[0] is not None and kept[1] is not None
    assert kept[0].state["rows"].equal(kept[1].state["rows"])
    assert [int(fit.state["k_used"]) for fit in kept if fit] == [3, 4]


def test_the_command_line_takes_what_is_printed(
    run: Run, made: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--network", "tests.runs.small:linear"]
    assert main(["evaluate", str(run.folder), "--score", "knn(k=5)", "--score", "knn", *named]) == 0
    printed = capsys.readouterr()
    assert "knn(k=5)" in printed.out and "\nknn: k = 2\n" in printed.out
    assert f"{run.folder} keeps what the scores have learnt, {size_of_fits(run.folder)}" in printed.err
    table = tmp_path / "scores.csv"
    assert main(["score", str(run.folder), str(made.parent / "data" / "test.npz"), "--to", str(table),
                 "--score", "knn(k=5)", *named]) == 0  # fmt: skip
    assert "accepted: knn(k=5) of at most" in capsys.readouterr().out
    assert main(["evaluate", str(run.folder), "--score", "knn(k=0)", *named]) == 1
    assert "k must be a whole number of at least 1, got 0." in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["evaluate", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in FURTHER_SCORES)


def test_without_a_kept_fit_the_data_are_read_and_must_be_there(run: Run, made: Path, tmp_path: Path) -> None:
    """A folder of an earlier version, whose values of these scores may have been other ones."""
    (run.folder / FITS).unlink()
    arrays = {key: value + (1 if key.endswith("/knn") else 0) for key, value in run.scores.items()}
    np.savez(run.folder / SCORES, **arrays)
    data = made.parent / "data"
    data.rename(tmp_path / "moved")
    try:
        old = open_run(run.folder, network="tests.runs.small:linear")
        with pytest.raises(FileNotFoundError, match=r"keeps nothing of knn, which needs the run's data once: .*--root"):
            score_inputs(old, tmp_path / "moved" / "test.npz", score="knn", to=None)
        assert not (run.folder / FITS).exists()
        verdicts = score_inputs(old, tmp_path / "moved" / "test.npz", score="knn", to=None, root=tmp_path / "moved")
        again = score_inputs(old, tmp_path / "moved" / "test.npz", score="knn", to=None)
    finally:
        (tmp_path / "moved").rename(data)
    assert again.threshold == verdicts.threshold < old.scores["validation/knn"].min()
    np.testing.assert_allclose(verdicts.scores, run.scores["test/knn"], rtol=1e-6)


def test_a_damaged_file_gets_a_sentence(run: Run, made: Path) -> None:
    path, whole = run.folder / FITS, (run.folder / FITS).read_bytes()
    broken = [whole[:-10], whole[:100], b"", b"{}", whole[:-5] + bytes([whole[-5] ^ 1]) + whole[-4:]]
    for content in broken:
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"fits\.safetensors is damaged: delete it, and scores are fitted"):
            for name in (*FITTED, "cac"):
                score_inputs(run, made.parent / "data" / "test.npz", score=name, to=None)
    save_file({"knn/fit/rows": torch.ones(2, 16)}, path)
    with pytest.raises(ValueError, match="is damaged"):
        evaluate_run(run)
    path.unlink()
    keep_fits(run.folder, {"knn": Fit({"rows": torch.ones(2, 16)}, {"validation": np.ones(3)})})
    with pytest.raises(ValueError, match=r"fits\.safetensors holds another fit of knn: delete it"):
        score_inputs(run, made.parent / "data" / "test.npz", score="knn", to=None)


def test_a_score_of_ones_own_is_not_kept(run: Run) -> None:
    class Mine(type(score_named("msp"))):  # type: ignore[misc]
        name = "msp(mine=1)"

    evaluate_run(run, [Mine()])
    assert kept_fit(run.folder, "msp(mine=1)") is None


def test_a_state_is_that_of_the_score(run: Run) -> None:
    net, suite = run.classifier(), small_suite()
    rows = collect(net, suite.train.loader())
    for name in (*FITTED, "cac", "vim", "react", "dice", "she", "kl-matching", "positive-logit-norm", "knn(k=3)"):
        score = score_named(name)
        with pytest.raises(ValueError, match="has seen none"):
            score.state()
        fitted = score_named(name).fit_of(net, *rows)
        loaded = score.load_state(fitted.state())
        found = [score_rows(net, suite.test.loader(), [each]).scores[score.name] for each in (fitted, loaded)]
        np.testing.assert_array_equal(*found)
        with pytest.raises(ValueError, match=r"learns .*, got \w+: fit it again"):
            score_named(name).load_state({"other": torch.ones(1)})


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_a_class_with_one_row_leaves_scores_out_and_says_so(tmp_path: Path) -> None:
    suite = small_suite(rows=3)
    with pytest.warns(UserWarning, match="one row of each class.*mahalanobis is left out"):
        run = train(
            Recipe(epochs=1, batch_size=3),
            suite,
            folder=tmp_path / "run",
            network="tests.runs.small:linear",
            progress=False,
        )
    assert "test/knn" in run.scores and "test/mahalanobis" not in run.scores
    with pytest.raises(ValueError, match="one row of each class"):
        evaluate_run(run, ["mahalanobis"], suite=suite)
