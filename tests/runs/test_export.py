"""An exported run: one graph with the run's numbers, its threshold, and what it says about itself."""

import json
import runpy
from io import BytesIO
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torch.torch_version import TorchVersion

import oodles
from oodles import Classifier, scores
from oodles.cli import main
from oodles.data import read_images
from oodles.detection import exporting
from oodles.detection.exporting import ABOUT, as_program
from oodles.detection.inputs import DRAFTED
from oodles.methods import score_named
from oodles.runs.deployment import export, score_inputs
from oodles.runs.folder import RESULT, SCORES, WEIGHTS
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train
from tests.runs.small import small_suite, write_suite

Outputs = dict[str, np.ndarray[Any, Any]]


def trained(method: str, folder: Path, data: Any = None, **changes: Any) -> Run:
    recipe = Recipe(methods=((method, {}),), epochs=4, batch_size=20, outlier_batch_size=20, **changes)
    network = "tests.runs.small:with_dropout"
    return train(recipe, data or small_suite(), folder=folder, network=network, progress=False)


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Train a run on data by path, so that its training rows can be read again."""
    folder = tmp_path_factory.mktemp("runs")
    write_suite(folder / "data", small_suite())
    return trained("cross-entropy", folder / "plain", folder / "data")


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return trained("background-class", tmp_path_factory.mktemp("runs") / "background")


def run_file(path: Path, images: np.ndarray[Any, Any]) -> Outputs:
    """Run a file as a program without Oodles would, and return its outputs."""
    if path.suffix == ".pt2":
        outputs = torch.export.load(path).module()(torch.from_numpy(images))
        return {name: value.numpy() for name, value in outputs.items()}
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    (given,) = session.get_inputs()
    assert (given.name, given.type, given.shape) == ("images", "tensor(float)", ["batch", 1, 8, 8])
    assert [output.name for output in session.get_outputs()] == ["logits", "score", "accept"]
    return dict(zip(["logits", "score", "accept"], session.run(None, {"images": images}), strict=True))


def about(path: Path) -> dict[str, Any]:
    """Read a file's description of itself."""
    if path.suffix == ".pt2":
        extra = {ABOUT: ""}
        torch.export.load(path, extra_files=extra)
        return dict(json.loads(extra[ABOUT]))
    session = pytest.importorskip("onnxruntime").InferenceSession(path)
    return dict(json.loads(session.get_modelmeta().custom_metadata_map[ABOUT]))


def needs_onnx(suffix: str) -> None:
    if suffix == ".onnx":
        for package in ("onnx", "onnxscript", "onnxruntime"):
            pytest.importorskip(package, reason="pip install 'oodles[onnx]'")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("name", ["plain", "background"])
def test_a_file_gives_the_numbers_of_the_run(
    name: str, suffix: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    needs_onnx(suffix)
    run: Run = request.getfixturevalue(name)
    exported = export(open_run(run.folder, network=run.network), tmp_path / "files" / f"model{suffix}")
    assert exported.checked and exported.preprocess is not None
    files = sorted(file.name for file in exported.path.parent.iterdir())
    assert files == [f"model{suffix}", "model_preprocess.py"]
    score = {"plain": "msp", "background": "background"}[name]
    test, classifier = small_suite().test.images, run.classifier()
    for rows in (1, 7, 30):
        outputs = run_file(exported.path, test[:rows])
        assert {key: value.shape for key, value in outputs.items()} == {
            "logits": (rows, 3),
            "score": (rows,),
            "accept": (rows,),
        }
        expected = run.scores[f"test/{score}"][:rows]
        np.testing.assert_allclose(outputs["score"], expected, atol=1e-4, rtol=1e-4)
        clear = np.abs(expected - exported.threshold) > 1e-4
        assert clear.any() and (outputs["accept"] == (expected <= exported.threshold))[clear].all()
        with torch.no_grad():
            logits = classifier(torch.from_numpy(test[:rows])).numpy()
        np.testing.assert_allclose(outputs["logits"], logits, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_a_file_says_what_it_is(background: Run, suffix: str, tmp_path: Path) -> None:
    needs_onnx(suffix)
    exported = export(background, tmp_path / f"model{suffix}", score="energy", false_alarms=0.1)
    described = about(exported.path)
    assert described == exported.about
    known, scores = background.scores["validation/energy"], background.scores
    assert described["threshold"] == exported.threshold == np.sort(known)[27], (
        "the 3rd highest, 3 being the whole part of 0.1 · 31"
    )
    assert described["false_alarms_on_test"] == np.mean(scores["test/energy"] > exported.threshold)
    assert described["rejected"] == {
        name: np.mean(scores[f"{name}/energy"] > exported.threshold) for name in ("near:noise", "far:more")
    }
    expected = {"classes": ["a", "b", "c"], "input_shape": [1, 8, 8], "score": "energy", "false_alarms": 0.1}
    expected |= {"run": "background-class", "data": "small", "seed": 0}
    assert {name: described[name] for name in expected} == expected
    assert described["versions"] == {"oodles": oodles.__version__, "torch": torch.__version__}


@pytest.mark.parametrize("false_alarms", [0.05, 0.07, 0.3, 0.5, 0.95])
def test_the_threshold_is_that_of_scoring(background: Run, false_alarms: float, tmp_path: Path) -> None:
    np.savez(tmp_path / "test.npz", images=small_suite().test.images)
    exported = export(background, tmp_path / "model.pt2", false_alarms=false_alarms)
    verdicts = score_inputs(background, tmp_path / "test.npz", accept=1 - false_alarms, to=None)
    assert exported.threshold == verdicts.threshold
    assert exported.about["false_alarms_on_test"] == np.mean(~verdicts.accepted)
    known = background.scores["validation/background"]
    rank = np.sum(known >= exported.threshold)
    assert rank / 31 <= false_alarms < (rank + 1) / 31


def test_a_score_at_the_threshold_is_accepted_everywhere(background: Run, tmp_path: Path) -> None:
    """The threshold is the score of a validation row; here the test rows score as those do."""
    for path in background.folder.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    known = background.scores["validation/msp"]
    np.savez(tmp_path / SCORES, **{**background.scores, "test/msp": known, "near:noise/msp": known})
    copied = open_run(tmp_path, network=background.network)
    exported = export(copied, tmp_path / "model.pt2", score="msp", false_alarms=0.2)
    assert exported.threshold in known
    assert exported.about["false_alarms_on_test"] == exported.about["rejected"]["near:noise"] == 5 / 30
    classifier, images = background.classifier(), torch.from_numpy(small_suite().test.images[:5])
    with torch.no_grad():
        scored = exporting.Deployed(classifier, score_named("msp"), 0.0)(images)["score"]
        middle = float(scored.sort().values[2])
        accepted = exporting.Deployed(classifier, score_named("msp"), middle)(images)["accept"]
    assert accepted.tolist() == (scored <= middle).tolist() and int(accepted.sum()) == 3


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_what_is_not_finite_is_never_accepted(plain: Run, suffix: str, tmp_path: Path) -> None:
    needs_onnx(suffix)
    classifier = plain.classifier()
    with torch.no_grad():
        classifier.head.weight[0] = 1e38  # what overflows in float16 does so in float32
    images = torch.from_numpy(small_suite().test.images[:6])
    images[[1, 4]] *= 1e30
    images[2, 0, 0, 0] = torch.nan
    write, read = exporting._FORMS[suffix]
    for name in ("energy", "msp"):
        deployed = exporting.Deployed(classifier, score_named(name), 1e30)
        with torch.no_grad():
            outputs = deployed(images)
        bad = ~outputs["logits"].isfinite().all(1)
        assert bad[[1, 2, 4]].all() and not (outputs["accept"] & bad).any()
        assert name == "msp" or bool((outputs["score"][bad].nan_to_num() <= 1e30).any()), "it would be accepted"
        with exporting._silence():
            reader = read(write(as_program(classifier, score_named(name), 1e30, images[:2]), "{}"))
        assert reader is not None and torch.equal(reader(images)["accept"], outputs["accept"])


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("score", ["vim", "gen", "react", "dice", "she", "kl-matching", "knn(k=3, normalize=False)"])
def test_scores_that_are_asked_for_by_name_can_be_exported(plain: Run, score: str, suffix: str, tmp_path: Path) -> None:
    needs_onnx(suffix)
    exported = export(plain, tmp_path / f"model{suffix}", score=score)
    test = small_suite().test.images
    expected = evaluate_run(plain, [score]).scores["id"][score]
    for rows in (1, 7, 30):
        np.testing.assert_allclose(run_file(exported.path, test[:rows])["score"], expected[:rows], atol=1e-4, rtol=1e-4)
    assert exported.about["false_alarms_on_test"] == np.mean(expected > exported.threshold)


def test_odin_differentiates(plain: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="odin differentiates its inputs, which no exported graph does: choose msp"):
        export(plain, tmp_path / "model.pt2", score="odin")


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize("score", ["knn", "mahalanobis", "relative-mahalanobis"])
def test_scores_that_compare_with_training_rows_take_them_along(
    plain: Run, score: str, suffix: str, tmp_path: Path
) -> None:
    needs_onnx(suffix)
    exported = export(plain, tmp_path / f"model{suffix}", score=score)
    test = small_suite().test.images
    for rows in (1, 7, 30):
        expected = plain.scores[f"test/{score}"][:rows]
        np.testing.assert_allclose(run_file(exported.path, test[:rows])["score"], expected, atol=1e-4, rtol=1e-4)


def test_training_data_that_has_moved_is_found_with_root(plain: Run, tmp_path: Path) -> None:
    data = plain.folder.parent / "data"
    (tmp_path / "elsewhere").mkdir()
    data.rename(tmp_path / "elsewhere" / "data")
    try:
        with pytest.raises(FileNotFoundError, match=r"keeps nothing of knn\(k=4\), .*--root"):
            export(plain, tmp_path / "model.pt2", score="knn(k=4)")
        there = export(plain, tmp_path / "model.pt2", score="knn(k=4)", root=tmp_path / "elsewhere")
        again = export(plain, tmp_path / "model.pt2", score="knn(k=4)")
        export(plain, tmp_path / "knn.pt2", score="knn")
        export(plain, tmp_path / "msp.pt2")
    finally:
        (tmp_path / "elsewhere" / "data").rename(data)
    assert there.about["score"] == "knn(k=4)" and again.about == there.about


@pytest.mark.parametrize("score", ["background", "msp"])
def test_heads_that_nobody_looks_at_are_gone(background: Run, score: str, tmp_path: Path) -> None:
    exported = export(background, tmp_path / "model.pt2", score=score)
    names = torch.export.load(exported.path).state_dict
    assert any(name.startswith("classifier.head.") for name in names)
    assert any("heads." in name for name in names) == (score == "background")


def test_the_callers_classifier_stays_as_it_is(background: Run) -> None:
    classifier = background.classifier().train()
    as_program(classifier, score_named("msp"), 0.5, torch.rand(2, 1, 8, 8))
    assert all(module.training for module in classifier.modules()) and "background" in classifier.heads
    assert all(parameter.requires_grad for parameter in classifier.parameters())


class Perturbed(scores.Msp):
    """Stands for scores that differentiate."""

    name = "perturbed"
    differentiates: ClassVar[bool] = True


class OtherInGraphs(scores.Msp):
    """A score that no file gives right."""

    name = "other-in-graphs"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return super().__call__(features, logits) + (0.01 if torch.compiler.is_compiling() else 0)


class LooksAtValues(scores.Msp):
    """A score that goes another way depending on values."""

    name = "looks-at-values"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return logits.amax(1) if float(logits.sum()) > 0 else -logits.amax(1)


def with_score(run: Run, score: type[scores.Score], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Copy a run and give it another score, too."""
    monkeypatch.setitem(scores.SCORES, score.name, score)
    for path in run.folder.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    arrays = {f"{key.rpartition('/')[0]}/{score.name}": value for key, value in run.scores.items() if "/msp" in key}
    np.savez(folder / SCORES, **run.scores, **arrays)
    return open_run(folder, network=run.network)


@pytest.mark.parametrize(
    ("name", "hint"), [("plain", "choose msp"), ("background", "choose background or background-")]
)
def test_scores_that_differentiate_are_refused_by_name(
    name: str, hint: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "run").mkdir()
    run = with_score(request.getfixturevalue(name), Perturbed, tmp_path / "run", monkeypatch)
    with pytest.raises(ValueError, match=f"perturbed differentiates its inputs, which no exported graph does: {hint}"):
        export(run, tmp_path / "model.pt2", score="perturbed")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
@pytest.mark.parametrize(
    ("score", "sentence"),
    [
        (OtherInGraphs, r"was not written, since it gives other numbers than .*: score by up to 0\.01\."),
        (
            LooksAtValues,
            r"with the score looks-at-values cannot be exported to model\.(onnx|pt2): \w+: Could not guard .*\.",
        ),
    ],
)
def test_what_does_not_come_out_right_is_not_written(
    plain: Run,
    score: type[scores.Score],
    sentence: str,
    suffix: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    needs_onnx(suffix)
    (tmp_path / "run").mkdir()
    (tmp_path / f"model{suffix}").write_text("what was there before")
    run = with_score(plain, score, tmp_path / "run", monkeypatch)
    with pytest.raises(ValueError, match=sentence) as refused:
        export(run, tmp_path / f"model{suffix}", score=score.name)
    assert "\n" not in str(refused.value)
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"model{suffix}", "run"]
    assert (tmp_path / f"model{suffix}").read_text() == "what was there before"


def test_verdicts_are_compared_too(background: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = exporting._read_pt2

    def read(content: bytes) -> exporting.Reader:
        return lambda images: (outputs := right(content)(images)) and {**outputs, "accept": ~outputs["accept"]}

    monkeypatch.setitem(exporting._FORMS, ".pt2", (exporting._as_pt2, read))
    with pytest.raises(ValueError, match=r"model\.pt2 was not written, .*: other inputs are accepted\."):
        export(background, tmp_path / "model.pt2")
    assert not list(tmp_path.iterdir())


def test_mistakes_get_a_sentence(plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"a file that ends in \.onnx or \.pt2, got 'model\.pb'"):
        export(plain, "model.pb")
    with pytest.raises(ValueError, match=r"false_alarms must be below 1, got 5: 0\.05 refuses at most 5 %"):
        export(plain, tmp_path / "model.pt2", false_alarms=5)
    with pytest.raises(ValueError, match="false_alarms must be a finite number > 0, got -1"):
        export(plain, tmp_path / "model.pt2", false_alarms=-1)
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        export(plain, tmp_path / "model.pt2", score="enrgy")
    with pytest.raises(ValueError, match="background looks at a head 'background' that this classifier lacks"):
        export(plain, tmp_path / "model.pt2", score="background")
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        export(tmp_path, tmp_path / "model.pt2")
    unfinished = tmp_path / "unfinished"
    unfinished.mkdir()
    for path in plain.folder.iterdir():
        if path.name not in (WEIGHTS, SCORES, RESULT):
            (unfinished / path.name).write_bytes(path.read_bytes())
    with pytest.raises(FileNotFoundError, match="has no outlier scores of validation rows: finish it first"):
        export(unfinished, tmp_path / "model.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["unfinished"]


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_onnx_is_an_extra(plain: Run, missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(ImportError, match=r"Writing model\.onnx needs ONNX: pip install 'oodles\[onnx\]'"):
        export(plain, tmp_path / "model.onnx")
    export(plain, tmp_path / "model.pt2")


def test_onnx_takes_torch_from_2_7_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: object())
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.10.0"))
    exporting.check_form(tmp_path / "x.onnx")
    monkeypatch.setattr(torch, "__version__", TorchVersion("2.6.0+cpu"))
    exporting.check_form(tmp_path / "x.pt2")
    with pytest.raises(
        ImportError, match=r"^Writing x\.onnx needs torch 2\.7 or newer, and this is 2\.6\.0\+cpu: update "
    ):
        exporting.check_form(tmp_path / "x.onnx")


def test_without_onnxruntime_it_is_said_that_nothing_was_compared(
    plain: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs_onnx(".onnx")
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == "onnxruntime" else object())
    exported = export(plain, tmp_path / "model.onnx")
    assert not exported.checked and "onnxruntime is not installed" in str(exported)
    monkeypatch.undo()
    checked = export(plain, tmp_path / "model.onnx")
    assert checked.checked and "is not installed" not in str(checked)


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_the_command_prints_the_threshold_and_the_measured_rates(
    background: Run, suffix: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    needs_onnx(suffix)
    to = tmp_path / f"model{suffix}"
    given = ["export", str(background.folder), "--to", str(to), "--score", "energy", "--false-alarms", "0.1"]
    given += ["--network", str(background.network)]
    assert main(given) == 0
    threshold = np.sort(background.scores["validation/energy"])[27]

    def share(name: str) -> str:
        return f"{np.mean(background.scores[f'{name}/energy'] > threshold):.2%}"

    assert capfd.readouterr() == (
        f"energy above {threshold:.6g} is rejected: at most 10 % of known inputs, by 30 held-out rows, "
        f"and {share('test')} of the test rows were\n"
        f"rejected of near-OOD noise {share('near:noise')}, far-OOD more {share('far:more')}\n"
        f"{tmp_path / 'model_preprocess.py'}\n{to}\n",
        "",
    )
    assert main([*given, "--json"]) == 0
    assert json.loads(capfd.readouterr().out) == {"file": str(to), "checked": True, **about(to)}
    assert main(["export", str(tmp_path), "--to", str(to)]) == 1
    assert "is no run folder" in capfd.readouterr().err


def test_several_heads_and_distances_export_for_any_number_of_rows() -> None:
    """``cdist`` alone would tie a graph to at most 25 rows."""

    class Distances(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.centres = torch.nn.Parameter(torch.linspace(-1, 1, 48).reshape(3, 16))

        def forward(self, features: Tensor) -> Tensor:
            with torch.autocast(features.device.type, enabled=False):
                return -torch.cdist(features.float(), self.centres)

    classifier = Classifier(torch.nn.Flatten(), Distances(), num_classes=3).eval()
    program = as_program(classifier, score_named("max-logit"), -2.0, torch.rand(2, 1, 4, 4))
    content = BytesIO()
    torch.export.save(program, content)
    module = torch.export.load(BytesIO(content.getvalue())).module()
    for rows in (1, 7, 40):
        images = torch.rand(rows, 1, 4, 4, generator=torch.Generator().manual_seed(rows))
        torch.testing.assert_close(module(images)["logits"], classifier(images).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("suffix", "drafted"), [(".onnx", False), (".pt2", False), (".pt2", True)])
def test_fed_by_the_file_beside_it_the_graph_gives_the_verdicts_of_scoring(
    plain: Run, suffix: str, drafted: bool, tmp_path: Path
) -> None:
    needs_onnx(suffix)
    if drafted:
        text = 'train = "train.npz"\nvalidation = "validation.npz"\ntest = "test.npz"\ninput_shape = [1, 8, 8]\n'
        (folder := plain.folder.parent / "data" / "drafted.toml").write_text(f"{text}draft = true\n")
        plain = trained("cross-entropy", tmp_path / "run", folder)
    random = np.random.default_rng(0)
    (tmp_path / "photos").mkdir()
    for number in range(12):
        photo = random.integers(0, 256, (20 + number, 31, 3), np.uint8)
        Image.fromarray(photo).save(tmp_path / "photos" / f"{number:02}.{('jpg', 'png')[number % 2]}")
    whole, draft = (read_images(tmp_path / "photos", (1, 8, 8), draft=draft).images[:] for draft in (False, True))
    assert not np.array_equal(whole, draft)
    verdicts = score_inputs(plain, tmp_path / "photos", score="knn", false_alarms=0.3, to=None)
    exported = export(plain, tmp_path / f"model{suffix}", score="knn", false_alarms=0.3)
    assert exported.preprocess == tmp_path / "model_preprocess.py"
    preprocess = runpy.run_path(str(exported.preprocess))["preprocess"]
    for row, file in enumerate(sorted((tmp_path / "photos").iterdir())):
        outputs = run_file(exported.path, preprocess(file))
        np.testing.assert_allclose(outputs["score"], verdicts.scores[row : row + 1], atol=1e-4, rtol=1e-4)
        if abs(verdicts.scores[row] - exported.threshold) > 1e-4:
            assert outputs["accept"].tolist() == verdicts.accepted[row : row + 1].tolist()
        assert plain.classes[outputs["logits"].argmax()] == verdicts.classes[row]
    told = about(exported.path)["preprocessing"]
    assert told == {
        "channels": "grey, Rec. 601 luma",
        "layout": "NCHW",
        "dtype": "float32",
        "range": [0.0, 1.0],
        "normalisation": "inside the classifier",
        "resize": {
            "crop_first_to_aspect_ratio": [8, 8],
            "interpolation": "bilinear, as Pillow's with its antialiasing",
        },
        "jpeg": f"decoded {DRAFTED if drafted else 'whole'}",
        "crop": {"size": [8, 8], "place": "centre"},
        "orientation": "upright by EXIF",
        "transparency": "on white",
    }


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_inputs_outside_the_range_are_never_accepted(plain: Run, suffix: str, tmp_path: Path) -> None:
    needs_onnx(suffix)
    exported = export(plain, tmp_path / f"model{suffix}", false_alarms=0.05)
    images = small_suite().test.images[:8].copy()
    assert run_file(exported.path, images)["accept"].all()
    assert run_file(exported.path, images + np.float32(9e-4))["accept"].any(), "as if rounded"
    for wrong in (images * 255, images - 0.5, images * 2):
        outside = (wrong.min((1, 2, 3)) < -0.001) | (wrong.max((1, 2, 3)) > 1.001)
        assert outside.any() and not run_file(exported.path, wrong)["accept"][outside].any()
    images[3, 0, 0, 0] = np.nan
    assert np.flatnonzero(~run_file(exported.path, images)["accept"]).tolist() == [3]


@pytest.mark.parametrize("suffix", [".onnx", ".pt2"])
def test_classes_with_thresholds_of_their_own_have_them_in_the_graph(plain: Run, suffix: str, tmp_path: Path) -> None:
    needs_onnx(suffix)
    detector = plain.detector("energy", false_alarms=0.3, per_class=True)
    images = small_suite().test.images
    verdicts, exported = detector(images), detector.export(tmp_path / f"model{suffix}")
    assert (
        exported.about["threshold"] == detector.calibration.thresholds.tolist() and len(set(verdicts.thresholds)) == 3
    )
    outputs = run_file(exported.path, images)
    clear = np.abs(verdicts.scores - verdicts.thresholds) > 1e-4
    assert (outputs["accept"] == verdicts.accepted)[clear].all() and 0 < outputs["accept"].mean() < 1
    with pytest.raises(ValueError, match="classes have their own"):
        _ = exported.threshold


def test_a_detector_of_vectors_is_exported_from_a_module(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = torch.nn.Linear(5, 3).double()
    x = torch.randn(60, 5, dtype=torch.float64)
    detector = oodles.Detector.fit(model, [x], score="energy", false_alarms=0.1)
    exported = detector.export(tmp_path / "model.pt2")
    assert exported.preprocess is None and exported.about["range"] is None and "run" not in exported.about
    outputs = torch.export.load(exported.path).module()(x)
    assert outputs["accept"].tolist() == detector(x).accepted.tolist() and 0 < outputs["accept"].double().mean() < 1
    two = oodles.Detector.fit(TwoInputs(), [{"a": x.float(), "b": x.float()}], false_alarms=0.1)
    with pytest.raises(ValueError, match="A graph reads one tensor, and this classifier reads a dictionary"):
        two.export(tmp_path / "two.pt2")


class TwoInputs(torch.nn.Module):
    """Reads a dictionary."""

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return (a + b)[:, :3]


def test_accept_is_the_other_side_of_false_alarms(plain: Run, tmp_path: Path) -> None:
    given = ["export", str(plain.folder), "--to", str(tmp_path / "model.pt2")]
    given += ["--network", plain.arguments["network"]]
    assert main([*given, "--accept", "0.9"]) == 0
    accepted = export(plain, tmp_path / "model.pt2", accept=0.9)
    assert accepted.about["false_alarms"] == 0.1
    assert accepted.threshold == export(plain, tmp_path / "model.pt2", false_alarms=0.1).threshold
    assert accepted.threshold != export(plain, tmp_path / "model.pt2", false_alarms=0.2).threshold
    with pytest.raises(ValueError, match="false_alarms and accept say the same: leave accept out"):
        export(plain, tmp_path / "model.pt2", false_alarms=0.1, accept=0.9)
