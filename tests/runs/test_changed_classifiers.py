"""Runs of methods that change the classifier: their weights, scores and settings, and how they are resumed."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodles import Benchmark
from oodles.methods.energy_bounded import EnergyBounded
from oodles.runs.batches import Batches
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train
from tests.runs.small import measured_on, small_suite

BACKGROUND = Recipe(
    methods=(("background-class", {}),), learning_rate=0.1, epochs=2, batch_size=20, outlier_batch_size=10
)


def _train(recipe: Recipe, folder: Path, **options: Any) -> Run:
    return train(recipe, small_suite(), folder=folder, network="tests.runs.small:linear", progress=False, **options)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(BACKGROUND, tmp_path_factory.mktemp("runs") / "run")


def test_the_scores_that_a_method_brings_are_in_the_run(run: Run) -> None:
    classifier = run.classifier()
    test = small_suite().test
    images = torch.as_tensor(np.asarray(test.images))
    with torch.no_grad():
        features = classifier.features(images)
        logits, background = classifier.head(features), classifier.heads["background"](features)
    expected = torch.sigmoid(background[:, 0] - logits.logsumexp(1))
    np.testing.assert_allclose(run.scores["test/background"], expected.numpy(), rtol=1e-4)
    assert set(run.result["metrics"]["test"]["near:noise"]) >= {"msp", "background", "background-s2", "background-s3"}
    again = evaluate_run(run, suite=small_suite())
    np.testing.assert_array_equal(again.scores["id"]["background"], run.scores["test/background"])


def test_no_scores_at_all_are_none_and_not_every_one(run: Run) -> None:
    assert evaluate_run(run, [], suite=small_suite()).scores["id"] == {}


def test_a_method_that_is_switched_off_brings_nothing(tmp_path: Path) -> None:
    off = _train(replace(BACKGROUND, methods=(("background-class", {"weight": 0.0}),)), tmp_path / "off")
    plain = _train(replace(BACKGROUND, methods=()), tmp_path / "plain")
    assert off.status == "finished" and "test/background" not in off.scores
    for name, value in plain.classifier().state_dict().items():
        assert torch.equal(off.classifier().state_dict()[name], value)


def test_weights_of_a_changed_classifier_start_the_same_method(run: Run, tmp_path: Path) -> None:
    """What is measured on initial weights is measured on these and not on random ones."""
    both = (("background-class", {}), ("energy-bounded", {}))
    tuned = _train(
        replace(BACKGROUND, methods=both, weights=str(run.folder), suggest=True, epochs=1, learning_rate=1e-9),
        tmp_path / "tuned",
    )
    suite = small_suite()
    known = measured_on(suite)
    assert suite.outliers is not None
    expected = EnergyBounded.suggest(run.classifier(), known, suite.outliers.loader())
    assert tuned.suggested["energy-bounded"] == pytest.approx(expected, rel=1e-5)
    for name, value in run.classifier().state_dict().items():
        torch.testing.assert_close(tuned.classifier().state_dict()[name], value, rtol=1e-5, atol=1e-6)


def test_plain_weights_start_a_method_that_adds_a_head(tmp_path: Path) -> None:
    plain = _train(replace(BACKGROUND, methods=(), epochs=1), tmp_path / "plain")
    tuned = _train(replace(BACKGROUND, weights=str(plain.folder), epochs=1, learning_rate=1e-9), tmp_path / "tuned")
    trained = tuned.classifier().state_dict()
    assert set(trained) - set(plain.classifier().state_dict()) == {"heads.background.weight", "heads.background.bias"}
    for name, value in plain.classifier().state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)


def test_weights_with_a_head_that_the_recipe_lacks_are_refused(run: Run, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"weights.safetensors does not fit this network"):
        _train(replace(BACKGROUND, methods=(), weights=str(run.folder)), tmp_path / "plain")


def test_a_refusal_does_not_block_the_folder(tmp_path: Path) -> None:
    puzzles = replace(BACKGROUND, methods=(("jigsaw", {"patches": 9}),), epochs=1)
    with pytest.raises(ValueError, match="patches must be at most 8 for images of 8 × 8 pixels, got 9"):
        _train(puzzles, tmp_path / "run")
    corrected = replace(puzzles, methods=(("jigsaw", {"patches": 2}),))
    assert _train(corrected, tmp_path / "run").status == "finished"
    with pytest.raises(ValueError, match="holds a run with other settings"):
        _train(puzzles, tmp_path / "run")


@pytest.mark.parametrize("name", ["mixoe", "unleashing-mask"])
def test_a_method_that_fine_tunes_is_refused_without_weights(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f"{name} fine-tunes a trained classifier, and training would start from"):
        _train(replace(BACKGROUND, methods=((name, {}),)), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(ValueError, match=f"recipe 1: '{name}' cannot be trained: {name} fine-tunes|{name} fine-tunes"):
        Benchmark.from_dict({"suites": ["digits"], "recipes": [{"methods": [name]}]}, name="mine")


@pytest.mark.parametrize("name", ["confidence-branch", "g-odin"])
def test_a_run_that_was_stopped_keeps_what_follows_an_update(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(BACKGROUND, methods=((name, {}),), learning_rate=0.02)
    whole = _train(recipe, tmp_path / "whole")
    give = Batches.__getitem__

    def stop(self: Batches, index: int) -> Any:
        if index == 5:
            raise KeyboardInterrupt
        return give(self, index)

    with monkeypatch.context() as patch:
        patch.setattr(Batches, "__getitem__", stop)
        with pytest.raises(KeyboardInterrupt):
            _train(recipe, tmp_path / "parts", save_every=0)
    resumed = _train(recipe, tmp_path / "parts")
    assert [entry["terms"] for entry in resumed.log] == [entry["terms"] for entry in whole.log]
    for key, value in whole.classifier().state_dict().items():
        assert torch.equal(resumed.classifier().state_dict()[key], value), key
