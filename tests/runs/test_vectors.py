"""Suites of feature vectors, from files to verdicts: the same commands as for images."""

import csv
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodles import Detector, Recipe, train
from oodles.cards import card
from oodles.cli import main
from oodles.data import load_suite
from oodles.facts import CHOICE
from oodles.methods import METHODS
from oodles.runs.deployment import export, score_inputs
from oodles.runs.opened import Run, open_run
from oodles.runs.testing import evaluate_run

from ..contract.rows import ROWS

RECIPE = Recipe(learning_rate=0.05, epochs=3, batch_size=20, outlier_batch_size=10)
CENTRES = np.array([[4, 0, 0, 0, 100], [0, 4, 0, 0, 100], [0, 0, 4, 0, 100]], np.float32)


def vectors(rows: int, seed: int, *, unknown: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """Three classes around centres, with a last feature on another scale; unknown rows are far out in the fourth."""
    random = np.random.default_rng(seed)
    labels = np.arange(rows) % 3
    x = CENTRES[labels] + random.standard_normal((rows, 5)).astype(np.float32) * [1, 1, 1, 0.1, 20]
    x[:, 3] += 6 * unknown
    return x.astype(np.float32), labels


def write_suite(folder: Path) -> Path:
    """A folder that is a suite, of archives with features."""
    sets = {"train": (200, 0), "validation": (100, 1), "test": (60, 2), "outliers": (80, 3), "far/out": (60, 4)}
    for name, (rows, seed) in sets.items():
        unknown = name in ("outliers", "far/out")
        x, y = vectors(rows, seed, unknown=unknown)
        path = folder / f"{name}.npz"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, features=x, **({} if unknown else {"labels": y, "classes": np.array(["a", "b", "c"])}))
    return folder


def trained(folder: Path, *methods: str, to: str = "run") -> Run:
    recipe = Recipe.from_dict({**RECIPE.as_dict(), "methods": [{"name": name} for name in methods]})
    return train(recipe, folder / "data", folder=folder / to, progress=False, device="cpu")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("vectors")
    write_suite(folder / "data")
    return trained(folder, "outlier-exposure")


def test_vectors_are_standardised_by_the_first_layer(run: Run) -> None:
    assert run.arguments["network"] == "mlp" and run.record["suite"]["input_shape"] == [5]
    train_rows = load_suite(run.data).train.images[:]
    classifier = run.classifier()
    assert run.record["suite"]["mean"] == pytest.approx(train_rows.mean(0, dtype=np.float64).tolist(), rel=1e-6)
    normalised = classifier.backbone[0](torch.from_numpy(train_rows))
    torch.testing.assert_close(normalised.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(normalised.std(0, correction=0), torch.ones(5), atol=1e-4, rtol=0)
    assert run.result["test_accuracy"] > 0.8 and run.result["metrics"]["test"]["far:out"]["msp"]["auroc"] > 0.9


def test_verdicts_of_files_arrays_tensors_and_graphs_are_the_same(run: Run, tmp_path: Path) -> None:
    x, _ = vectors(40, 9)
    np.save(tmp_path / "new.npy", x.astype(np.float64))
    np.savez(tmp_path / "new.npz", features=x)
    verdicts = score_inputs(run, tmp_path / "new.npy", to=tmp_path / "scores.csv", score="knn")
    detector = run.detector("knn")
    for given in (tmp_path / "new.npz", str(tmp_path / "new.npz"), x, torch.from_numpy(x), [torch.from_numpy(x)]):
        again = detector(given)
        assert again.scores.tolist() == verdicts.scores.tolist() and again.classes == verdicts.classes
    with (tmp_path / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == list(verdicts.classes)
    detector.save(tmp_path / "detector")
    assert Detector.load(tmp_path / "detector")(tmp_path / "new.npy").scores.tolist() == verdicts.scores.tolist()
    exported = export(run, tmp_path / "model.pt2", score="knn")
    assert exported.preprocess is None and exported.about["input_shape"] == [5] and exported.about["range"] is None
    graph = torch.export.load(exported.path).module()
    np.testing.assert_allclose(graph(torch.from_numpy(x))["score"].numpy(), verdicts.scores, atol=1e-4)
    far = detector(vectors(40, 9, unknown=True)[0])
    assert far.accepted.mean() < 0.2 < 0.8 < verdicts.accepted.mean()


def test_other_rows_are_refused_in_a_sentence(run: Run, tmp_path: Path) -> None:
    detector = run.detector()
    np.save(tmp_path / "wide.npy", np.zeros((4, 6)))
    np.save(tmp_path / "images.npy", np.zeros((4, 6, 6)))
    for name, sentence in (
        ("wide.npy", r"inputs must have shape \(N, 5\), got \(4, 6\)"),
        ("images.npy", r"images\.npy must hold feature vectors, and holds images"),
    ):
        with pytest.raises(ValueError, match=sentence):
            detector(tmp_path / name)
    with pytest.raises(ValueError, match="texts need an encoder, and these features have none"):
        detector(["a text"])


def test_commands_take_vectors(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    further = tmp_path / "more.npy"
    np.save(further, vectors(30, 7, unknown=True)[0])
    evaluation = evaluate_run(run, scores=["energy"], ood={"more": further})
    assert evaluation.metrics["more"]["energy"]["auroc"] > 0.9
    assert main(["compare", str(run.folder), "--to", str(tmp_path / "report.html")]) == 0
    assert "far-OOD out" in (tmp_path / "report.html").read_text()
    assert main(["suite", "check", run.data]) == 0
    told = capsys.readouterr().out
    assert "data: 5 features" in told and "No row is in two sets." in told
    assert main(["suite", "check", run.data, "--to", str(tmp_path / "sheet.png")]) == 1
    assert "A sheet shows images, and the rows of this suite are feature vectors" in capsys.readouterr().err


def test_methods_that_need_pixels_refuse_vectors_before_training(tmp_path: Path) -> None:
    write_suite(tmp_path / "data")
    takes = {name: card(name).takes for name in METHODS if "weights" not in card(name).needs}
    pixels = [name for name, kinds in takes.items() if kinds == ("images",)]
    assert {"cutmix", "pixmix", "rotation-prediction", "ascood"} <= set(pixels)
    for name in pixels:
        with pytest.raises(ValueError, match=f"{name} needs images, and the rows of .* are feature vectors"):
            trained(tmp_path, name, *ROWS[name].beside, to=name)
        assert not (tmp_path / name / "run.json").exists()
    with pytest.raises(ValueError, match=r"small-cnn takes images, got feature vectors of 5 numbers: try mlp\."):
        train(RECIPE, tmp_path / "data", folder=tmp_path / "run", network="small-cnn", progress=False)


@pytest.mark.filterwarnings("ignore::oodles.remarks.TrainingWarning")
@pytest.mark.parametrize("name", [name for name in METHODS if "features" in card(name).takes])
def test_every_other_method_trains_on_vectors(name: str, run: Run, tmp_path: Path) -> None:
    write_suite(tmp_path / "data")
    start: dict[str, Any] = {"weights": str(run.folder)} if "weights" in card(name).needs else {}
    start |= {"teacher": str(run.folder)} if "teacher" in card(name).needs else {}
    settings = {**RECIPE.as_dict(), "epochs": 1, "learning_rate": 0.005, **start}
    beside = [{"name": other, **ROWS[other].settings} for other in ROWS[name].beside]
    few = {"kept": 4} if CHOICE in card(name).replaces else {}  # of the few outliers in a batch
    recipe = Recipe.from_dict({**settings, "methods": [{"name": name, **few}, *beside]})
    if "wild" in card(name).needs:
        shutil.copy(tmp_path / "data" / "outliers.npz", tmp_path / "data" / "wild.npz")
    ended = train(recipe, tmp_path / "data", folder=tmp_path / "run", progress=False, device="cpu")
    assert ended.status == "finished" and ended.result["test_accuracy"] > 0.3


def test_a_resumed_run_is_the_same(run: Run, tmp_path: Path) -> None:
    write_suite(tmp_path / "data")
    again = trained(tmp_path, "outlier-exposure")
    assert all(
        torch.equal(a, b)
        for a, b in zip(run.classifier().state_dict().values(), again.classifier().state_dict().values(), strict=True)
    )
    assert json.loads((again.folder / "run.json").read_text())["suite"]["features"] == {"label": "label"}
    assert open_run(again.folder).result["status"] == "finished"


def test_pictures_of_six_channels_and_16_bits_train_and_are_scored(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    images = random.integers(0, 2**15, (60, 6, 8, 8), np.uint16)
    images[labels == 1, 2] += 2**15
    (tmp_path / "data").mkdir()
    for name, rows in (("train", slice(0, 40)), ("test", slice(40, 60))):
        np.savez(tmp_path / "data" / f"{name}.npz", images=images[rows], labels=labels[rows])
    text = 'train = "train.npz"\ntest = "test.npz"\nvalidation = 0.5\n'
    (tmp_path / "data" / "deep.toml").write_text(text)
    run = train(RECIPE, tmp_path / "data" / "deep.toml", folder=tmp_path / "run", progress=False, device="cpu")
    assert run.record["suite"]["input_shape"] == [6, 8, 8] and run.result["test_accuracy"] > 0.8
    np.save(tmp_path / "new.npy", images[:5])
    verdicts = score_inputs(run, tmp_path / "new.npy", false_alarms=0.2, to=None)
    inputs = torch.from_numpy(images[:5].astype(np.float32) / 65535)
    assert verdicts.predictions.tolist() == run.classifier()(inputs).argmax(1).tolist()
    np.save(tmp_path / "other.npy", images[:5, :3])
    with pytest.raises(ValueError, match=r"inputs must have shape \(N, 6, 8, 8\), got \(5, 3, 8, 8\)"):
        score_inputs(run, tmp_path / "other.npy", false_alarms=0.2, to=None)


def test_an_encoder_of_ones_own_is_imported_only_where_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "counting.py").write_text(
        "import pathlib\npathlib.Path(__file__).with_name('imported').touch()\n"
        "def encode(texts):\n    return [[float(len(text)), float(text.count('a'))] for text in texts]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name, rows in (("train", 60), ("test", 20)):
        lines = [{"text": f"{name} {'b' * row} {'a' * 9 * (row % 2)}", "label": "xy"[row % 2]} for row in range(rows)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    suite = tmp_path / "talk.toml"
    suite.write_text('encoder = "counting:encode"\ntrain = "train.jsonl"\ntest = "test.jsonl"\nvalidation = 0.4\n')
    fresh = train(RECIPE, suite, folder=tmp_path / "run", progress=False, device="cpu")
    expected = fresh.detector()(["a text", "banana"]).scores.tolist()
    fresh.detector().save(tmp_path / "detector")
    (tmp_path / "imported").unlink()
    monkeypatch.delitem(sys.modules, "counting")
    refused = "encoded by a function of one's own, 'counting:encode', and no code is imported because a folder names it"
    for detector in (open_run(tmp_path / "run").detector(), Detector.load(tmp_path / "detector")):
        with pytest.raises(ValueError, match=refused):
            detector(["a text"])
        with pytest.raises(
            ValueError, match="encoder must be the one that was trained with, 'counting:encode', got 'o:ther'"
        ):
            detector.naming("o:ther")
    (tmp_path / "new.txt").write_text("a text\nbanana\n")
    for place in ("run", "detector"):
        assert main(["score", str(tmp_path / place), str(tmp_path / "new.txt")]) == 1
        assert refused in capsys.readouterr().err
    assert not (tmp_path / "imported").exists()
    named = {"encoder": "counting:encode"}
    for detector in (
        open_run(tmp_path / "run").detector(**named),  # type: ignore[arg-type]
        open_run(tmp_path / "run", data=suite).detector(),
        Detector.load(tmp_path / "detector", **named),  # type: ignore[arg-type]
    ):
        assert detector(["a text", "banana"]).scores.tolist() == expected
    to = ["--encoder", "counting:encode", "--to", str(tmp_path / "scores.csv")]
    assert main(["score", str(tmp_path / "detector"), str(tmp_path / "new.txt"), *to]) == 0
    with (tmp_path / "scores.csv").open() as file:
        assert [row["input"] for row in csv.DictReader(file)] == ["a text", "banana"]


def test_new_tables_are_read_by_the_names_of_columns(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("train", "test"):
        rows = [f"{x:.7f},{10 - x:.7f},{'ab'[int(x > 0)]}" for x in rng.normal(size=300)]
        (tmp_path / f"{name}.csv").write_text("\n".join(["x,y,label", *rows]))
    (tmp_path / "data.toml").write_text('train = "train.csv"\ntest = "test.csv"\n')
    run = train(RECIPE, tmp_path / "data.toml", folder=tmp_path / "run", progress=False, device="cpu")
    (tmp_path / "new.csv").write_text("y,more,x\n8,text,2\n12,text,-2\n9,text,1\n")
    verdicts = run.detector(false_alarms=0.1)(tmp_path / "new.csv")
    assert verdicts.classes == ("b", "a", "b")
    in_order = run.detector(false_alarms=0.1)(np.array([[2, 8], [-2, 12], [1, 9]], np.float32))
    assert verdicts.scores.tolist() == in_order.scores.tolist()
