"""Runs of the version before random draws were changed: finished ones can be used, unfinished ones are refused.

``old_run`` was trained by that version: ``oodles train mixup --network tests.runs.small:linear --epochs 20
--learning-rate 0.3``. Of its scores msp, energy and knn were kept.
"""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from oodles import compare, export
from oodles.benchmarking.running import benchmark
from oodles.data import load_suite
from oodles.files import write_json
from oodles.runs.deployment import score_inputs
from oodles.runs.folder import LOG, RESULT, RUN, SCORES, WEIGHTS
from oodles.runs.opened import Run, open_run
from oodles.runs.preparation import DRAWS
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train

ACCURACY, NEAR_ENERGY = 0.8985239852398524, 0.9372
"""As that version measured them."""


@pytest.fixture
def old(tmp_path: Path) -> Run:
    """Copy the old run, so that nothing can write into it."""
    folder = shutil.copytree(Path(__file__).with_name("old_run"), tmp_path / "old_run")
    return open_run(folder, network="tests.runs.small:linear")


def test_the_weights_give_the_same_figures(old: Run) -> None:
    assert "draws" not in old.record and old.result["test_accuracy"] == ACCURACY
    evaluation = evaluate_run(old, ["energy", "msp"])
    assert evaluation.accuracy == pytest.approx(ACCURACY, abs=1e-12)
    assert evaluation.metrics["near:digits"]["energy"]["auroc"] == pytest.approx(NEAR_ENERGY, abs=5e-5)
    assert np.allclose(evaluation.scores["far:letters"]["energy"], old.scores["far:letters/energy"], atol=1e-5)


def test_it_can_be_compared(old: Run) -> None:
    comparison = compare([old])
    (group,) = comparison.tables[0].groups
    figure = comparison.tables[0].figure(group, "near:digits", "auroc", "energy", "energy")
    assert group.label == "mixup" and group.finished[0].accuracy == ACCURACY
    assert figure is not None and figure.value.mean == pytest.approx(NEAR_ENERGY, abs=5e-5)


def test_it_scores_new_inputs_and_can_be_exported(old: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "rows.npz", images=load_suite("digits", 0).test.images[:20])
    assert score_inputs(old, tmp_path / "rows.npz", to=None).choice, "its score is chosen"
    verdicts = score_inputs(old, tmp_path / "rows.npz", score="own", to=None)
    assert verdicts.threshold == pytest.approx(0.522105, abs=1e-6) and verdicts.classes[:6] == tuple("465345")
    assert verdicts.scores[:3] == pytest.approx([0.32063106, 0.22998393, 0.12488311], abs=1e-6)
    exported = export(old, tmp_path / "model.pt2", score="own")
    assert exported.checked and exported.threshold == pytest.approx(verdicts.threshold)


def test_the_call_that_trained_it_gives_its_result(old: Run) -> None:
    again = train(old.recipe, network="tests.runs.small:linear", device="cpu", folder=old.folder, progress=False)
    assert again.result == old.result and again.record == old.record


def test_training_starts_from_it(old: Run, tmp_path: Path) -> None:
    recipe = replace(old.recipe, weights=str(old.folder), epochs=1, learning_rate=1e-9)
    options = {"network": "tests.runs.small:linear", "device": "cpu", "progress": False}
    tuned = train(recipe, folder=tmp_path / "tuned", **options)
    assert tuned.record["draws"] == DRAWS and tuned.result["test_accuracy"] == ACCURACY
    for name, value in tuned.classifier().state_dict().items():
        assert torch.allclose(value, old.classifier().state_dict()[name], atol=1e-6)


@pytest.mark.filterwarnings("ignore:The run was resumed with oodles")
def test_an_unfinished_one_is_refused(old: Run, tmp_path: Path) -> None:
    options = {"network": "tests.runs.small:linear", "device": "cpu", "progress": False}
    for files in ((RESULT,), (SCORES, WEIGHTS)):  # all but tested, then in the middle of training
        for file in files:
            (old.folder / file).unlink()
        with pytest.raises(ValueError, match=r"old_run was begun by an earlier version, .* delete this one"):
            train(old.recipe, folder=old.folder, **options)
        assert (old.folder / LOG).is_file()
    write_json(old.folder / RUN, {**old.record, "draws": DRAWS + 1})
    with pytest.raises(ValueError, match="begun by a later version"):
        train(old.recipe, folder=old.folder, **options)
    write_json(old.folder / RUN, {**old.record, "draws": DRAWS})
    assert train(old.recipe, folder=old.folder, **options).result["test_accuracy"] == ACCURACY


def test_an_unfinished_one_is_refused_in_a_benchmark(old: Run, tmp_path: Path) -> None:
    (tmp_path / "old.toml").write_text(
        """
        suites = ["digits"]
        network = "tests.runs.small:linear"
        device = "cpu"
        [[recipes]]
        methods = ["mixup"]
        epochs = 20
        learning_rate = 0.3
        """,
        encoding="utf-8",
    )
    place = tmp_path / "out" / "runs" / "digits" / "mixup-0"
    place.parent.mkdir(parents=True)
    shutil.copytree(old.folder, place)
    done = benchmark(tmp_path / "old.toml", tmp_path / "out", jobs=1, progress=False)
    assert not done.failed and done.comparison is not None
    assert done.comparison.tables[0].groups[0].finished[0].accuracy == ACCURACY
    (place / RESULT).unlink()
    done = benchmark(tmp_path / "old.toml", tmp_path / "out", jobs=1, progress=False)
    assert list(done.failed) == ["mixup, digits, seed 0"] and "was begun by an earlier version" in done.failures
