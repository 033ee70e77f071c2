"""Models that were trained elsewhere: adopted as runs without training, and started from as they are."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from oodles import Classifier, Detector, Normalize, Recipe, Run, TrainingWarning, adopt, compare, open_run, train
from oodles.runs.deployment import export
from oodles.runs.testing import evaluate_run
from tests.onnx_files import write_onnx
from tests.runs.small import linear, small_suite

LINEAR = "tests.runs.small:linear"
PLAIN = Recipe(epochs=6, batch_size=16, learning_rate=0.1)
EXPOSED = replace(PLAIN, methods=(("outlier-exposure", {}),), epochs=1, weights="fast")
pytestmark = pytest.mark.filterwarnings("ignore:Nothing says how inputs were normalised:oodles.TrainingWarning")
CHANCE = "ignore:.*(at chance|are one class|another order):oodles.TrainingWarning"


def _adopt(network: Any, folder: Path, **options: Any) -> Run:
    return adopt(network, data=small_suite(), folder=folder, device="cpu", **options)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("trained") / "run"
    return train(PLAIN, small_suite(), network=LINEAR, folder=folder, device="cpu", progress=False)


def _state(run: Run) -> Mapping[str, torch.Tensor]:
    return run.classifier().join().get_submodule("network").state_dict()


def _module(run: Run) -> nn.Module:
    module = linear(3, (1, 8, 8))
    module.load_state_dict(_state(run))
    return module


@pytest.fixture(scope="module")
def adopted(trained: Run, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("adopted")
    torch.save({"model": {f"module.{name}": value for name, value in _state(trained).items()}}, folder / "mine.pt")
    return _adopt(LINEAR, folder / "run", weights=folder / "mine.pt")


def test_an_adopted_run_is_what_training_would_have_left(trained: Run, adopted: Run) -> None:
    assert adopted.result["test_accuracy"] == trained.result["test_accuracy"] > 0.6
    assert adopted.status == "finished" and adopted.log == () and adopted.label == "cross-entropy"
    assert adopted.record["initial"]["label"] == "mine.pt" and len(adopted.record["initial"]["sha256"]) == 64
    assert set(adopted.scores) == set(trained.scores)
    for name, values in trained.scores.items():
        np.testing.assert_allclose(adopted.scores[name], values, rtol=1e-5, atol=1e-6, err_msg=name)
    assert adopted.result["metrics"].keys() == trained.result["metrics"].keys()


def test_what_works_for_a_run_works_for_an_adopted_one(trained: Run, adopted: Run, tmp_path: Path) -> None:
    again = open_run(adopted.folder, network=LINEAR)
    assert evaluate_run(again, ["msp"], suite=small_suite()).accuracy == adopted.result["test_accuracy"]
    words = compare([adopted.folder, trained.folder]).to_text()
    assert "initial weights mine.pt" in words and "cross-entropy" in words
    detector = again.detector(false_alarms=0.2)
    assert detector(small_suite().test.images[:].astype(np.float32)).accepted.mean() > 0.5
    options: dict[str, Any] = {"network": LINEAR, "device": "cpu", "progress": False}
    tuned = train(EXPOSED, small_suite(), weights=adopted.folder, folder=tmp_path / "tuned", **options)
    assert tuned.initial_weights == "cross-entropy" and tuned.status == "finished"
    assert [path.name for path in tmp_path.iterdir()] == ["tuned"]


def test_the_same_call_returns_the_run_and_another_one_is_refused(adopted: Run) -> None:
    weights = adopted.record["initial"]["file"]
    before = (adopted.folder / "result.json").read_bytes()
    assert _adopt(LINEAR, adopted.folder, weights=weights).result == adopted.result
    with pytest.raises(ValueError, match="holds a run with other settings: mean is None there"):
        _adopt(LINEAR, adopted.folder, weights=weights, mean=[0.5], std=[0.5])
    assert (adopted.folder / "result.json").read_bytes() == before


def test_a_module_is_copied_counts_as_trained_and_is_needed_again(trained: Run, tmp_path: Path) -> None:
    module = _module(trained)
    mean, std = trained.record["suite"]["mean"], trained.record["suite"]["std"]
    options: dict[str, Any] = {"mean": mean, "std": std, "device": "cpu", "progress": False}
    run = train(EXPOSED, small_suite(), network=module, folder=tmp_path / "run", **options)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]  # no recipe was trained first
    assert run.recipe.weights == run.initial_weights == "network" and run.arguments["network"] == "module Sequential"
    for name, value in _state(trained).items():
        assert torch.equal(module.state_dict()[name], value), name
    assert not torch.equal(_state(run)["1.weight"], module.state_dict()["1.weight"])
    with pytest.raises(ValueError, match=r"given from Python, 'module Sequential': give one like it again, open_run"):
        open_run(run.folder).classifier()
    with pytest.raises(ValueError, match="was trained with the network 'module Sequential', got 'module Linear'"):
        open_run(run.folder, network=nn.Linear(2, 2))
    again = open_run(run.folder, network=linear(3, (1, 8, 8))).classifier()
    assert torch.equal(again.head.weight, run.classifier().head.weight)
    again = open_run(run.folder, network=module).detector(false_alarms=0.2).classifier
    assert again is not None


@pytest.mark.filterwarnings(CHANCE)
def test_another_module_of_the_same_class_does_not_resume(trained: Run, tmp_path: Path) -> None:
    run = _adopt(_module(trained), tmp_path / "run")
    (run.folder / "result.json").unlink()
    assert _adopt(_module(trained), run.folder).result["test_accuracy"] == run.result["test_accuracy"]
    (run.folder / "result.json").unlink()
    with pytest.raises(ValueError, match="was begun with other weights of the same name: choose another folder"):
        _adopt(linear(3, (1, 8, 8)), run.folder)


def test_a_function_that_brings_weights_is_believed(
    trained: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mine(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return _module(trained)

    run = train(EXPOSED, small_suite(), weights="network", network=mine, folder=tmp_path / "run", device="cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
    assert "<locals>.mine" in run.arguments["network"] and run.classifier().num_classes == 3
    short = replace(PLAIN, epochs=1)
    monkeypatch.setattr(Recipe, "load", lambda name: short)
    with pytest.warns(TrainingWarning, match="The recipe fast is trained first, .* say weights='network' to start"):
        train(EXPOSED, small_suite(), network=mine, folder=tmp_path / "unasked", device="cpu", progress=False)


def test_weights_in_another_order_of_classes_show(trained: Run, tmp_path: Path) -> None:
    module = _module(trained)
    order = [1, 2, 0]
    with torch.no_grad():
        for name in ("weight", "bias"):
            value = module.get_submodule("3").get_parameter(name)
            value.copy_(value[order].clone())
    mean, std = trained.record["suite"]["mean"], trained.record["suite"]["std"]
    with pytest.warns(TrainingWarning) as caught:
        run = _adopt(module, tmp_path / "run", mean=mean, std=std)
    said = "The classes of the weights may be in another order than those of the data, a, b, c."
    assert said in [str(one.message) for one in caught] and said in run.result["warnings"]
    assert run.result["test_accuracy"] < 0.3


@pytest.mark.filterwarnings(CHANCE)
def test_a_normalisation_is_stated_once(trained: Run, tmp_path: Path) -> None:
    run = _adopt(_module(trained), tmp_path / "run", mean=[0.25], std=[2.0])
    normalize = run.classifier().backbone.get_submodule("normalize")
    assert isinstance(normalize, Normalize) and (normalize.mean.item(), normalize.std.item()) == (0.25, 2.0)
    assert (run.arguments["mean"], run.arguments["std"]) == ([0.25], [2.0])
    with pytest.raises(ValueError, match=r"holds a run with other settings: mean is \[0.25\] there"):
        _adopt(_module(trained), tmp_path / "run")
    assert "Nothing says" not in " ".join(run.result["warnings"])
    guessed = _adopt(_module(trained), tmp_path / "guessed")
    assert "so the data's own mean and std are taken" in guessed.result["warnings"][0]
    again = _adopt(LINEAR, tmp_path / "again", weights=trained.folder / "weights.safetensors")
    assert again.result["warnings"] == [] and again.result["test_accuracy"] == trained.result["test_accuracy"]
    ready = Classifier(nn.Flatten(), nn.Linear(64, 3))
    file = trained.folder / "weights.safetensors"
    both: dict[str, Any] = {"mean": [0.5], "std": [0.5]}
    for network, given, sentence in (
        (LINEAR, {"weights": file, **both}, "safetensors holds the normalisation .*: leave out mean and std"),
        (
            ready,
            both,
            "module Classifier gives a Classifier, .* another normalisation is",
        ),
        (LINEAR, {"mean": [0.5]}, r"mean and std must be given together, got \(0.5,\) and \(\)"),
    ):
        with pytest.raises(ValueError, match=sentence):
            _adopt(network, tmp_path / "twice", **given)
    assert not (tmp_path / "twice").exists()


def test_what_cannot_be_adopted_leaves_nothing_behind(trained: Run, tmp_path: Path) -> None:
    state = dict(_state(trained))
    torch.save({name: value for name, value in state.items() if name.startswith("1")}, tmp_path / "half.pt")
    torch.save({**state, "3.weight": torch.zeros(9, 5), "3.bias": torch.zeros(9)}, tmp_path / "nine.pt")
    head = tuple(state["3.weight"].shape)

    def new_head(num_classes: int, input_shape: tuple[int, int, int]) -> nn.Module:
        return nn.Sequential(*list(_module(trained).children())[:3], nn.Linear(16, num_classes))

    for network, weights, error, sentence in (
        (LINEAR, tmp_path / "half.pt", ValueError, "does not fit this network: it lacks '3.bias', '3.weight'"),
        (LINEAR, tmp_path / "nine.pt", ValueError, r"'3.weight' has shape \(9, 5\) there and .* one of other classes"),
        (LINEAR, tmp_path / "none.pt", FileNotFoundError, "There are no weights at .*none.pt: give a file"),
        (LINEAR, "fast", ValueError, "weights must be a file where nothing is trained, got fast"),
        (LINEAR, trained.folder, ValueError, "weights must be a file where nothing is trained, got .*run"),
        ("small-cnn", None, ValueError, "needs a network that brings trained weights, and small-cnn is built with"),
        (
            new_head,
            None,
            ValueError,
            "must bring all of its weights to be adopted, and some are new for these 3",
        ),
        (LINEAR, None, ValueError, "needs a network that brings trained weights, and tests.runs.small:linear is built"),
    ):
        with pytest.raises(error, match=sentence):
            _adopt(network, tmp_path / "run", weights=weights)
        assert not (tmp_path / "run").exists() and head[0] == 3


def test_nothing_is_trained_for_no_epochs_but_with_weights_alone() -> None:
    with pytest.raises(ValueError, match="epochs must be at least 1 to train cross-entropy, got 0"):
        Recipe(epochs=0)
    with pytest.raises(ValueError, match="epochs must be at least 1 to train outlier-exposure, got 0"):
        Recipe(epochs=0, weights="network", methods=(("outlier-exposure", {}),))


def test_an_onnx_file_is_adopted_as_it_is_and_not_trained(trained: Run, tmp_path: Path) -> None:
    path = tmp_path / "mine.onnx"
    write_onnx(_module(trained), path)
    mean, std = trained.record["suite"]["mean"], trained.record["suite"]["std"]
    run = _adopt(path.as_posix(), tmp_path / "run", mean=mean, std=std)
    assert run.arguments["network"] == str(path) and len(run.record["initial"]["sha256"]) == 64
    for name, values in trained.scores.items():
        np.testing.assert_allclose(run.scores[name], values, rtol=1e-4, atol=1e-5, err_msg=name)
    detector = open_run(run.folder).detector("knn", false_alarms=0.2)
    with pytest.raises(ValueError, match="cannot be exported: a network from an ONNX file runs in ONNX Runtime alone"):
        export(run, tmp_path / "model.pt2", score="knn(k=7)")  # which would have to be fitted first
    assert not list(tmp_path.glob("model*"))
    detector.save(tmp_path / "detector")
    images = small_suite().test.images[:4].astype(np.float32)
    np.testing.assert_array_equal(Detector.load(tmp_path / "detector")(images).scores, detector(images).scores)
    with pytest.raises(ValueError, match=r"mine.onnx has no parameters to train: oodles adopt makes a run of it"):
        train(PLAIN, small_suite(), network=str(path), folder=tmp_path / "no", device="cpu", progress=False)
    assert not (tmp_path / "no" / "run.json").exists()
    write_onnx(linear(3, (1, 8, 8)), path)
    with pytest.raises(
        ValueError, match=r"weights.safetensors does not fit this network: it is of another ONNX file, so name"
    ):
        open_run(run.folder).classifier()
