"""Training runs: what they leave behind, what they equal, and what they refuse."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from accelerate.state import PartialState
from safetensors.torch import save_file

from oodles.data import ImageSet, Suite
from oodles.data.image_set import Resident
from oodles.methods.energy_bounded import EnergyBounded
from oodles.networks import build_network
from oodles.randomness import INITIAL_WEIGHTS, random_seed
from oodles.runs import training
from oodles.runs.batches import Batches
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe
from oodles.runs.saved_state import load_state, save_state
from oodles.runs.testing import evaluate_run
from oodles.runs.training import learning_rate, train
from oodles.scores import SCORES
from tests.runs.small import linear, measured_on, small_suite

PLAIN = Recipe(learning_rate=0.1, epochs=3, batch_size=20, outlier_batch_size=10)
EXPOSED = replace(PLAIN, methods=(("mixup", {}), ("outlier-exposure", {})))


def _train(recipe: Recipe | str, folder: Path, suite: Suite | None = None, **options: Any) -> Run:
    options = {"network": "tests.runs.small:linear", "progress": False, **options}
    return train(recipe, suite or small_suite(), folder=folder, **options)


def _weights(run: Run) -> dict[str, torch.Tensor]:
    return run.classifier().state_dict()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return _train(EXPOSED, tmp_path_factory.mktemp("runs") / "run", network="tests.runs.small:with_dropout")


def test_a_run_folder_is_complete(run: Run) -> None:
    names = {file.name for file in run.folder.iterdir()} - {".lock"}
    assert names == {
        *("run.json", "recipe.toml", "log.jsonl", "state.safetensors", "weights.safetensors", "scores.npz"),
        "choice.json",
        "fits.safetensors",
        "result.json",
    }
    assert run.status == "finished" and run.reason == "" and run.label == "mixup + outlier-exposure"
    assert Recipe.load(run.folder / "recipe.toml") == EXPOSED == run.recipe
    assert run.data == "small" and run.classes == ("a", "b", "c") and run.ood_sets == ("near:noise", "far:more")
    assert run.initial_weights == "random" and run.suggested == {}
    environment = run.record["environment"]
    assert environment["device"] == "cpu" and environment["torch"] == torch.__version__
    words = run.record["command"]
    assert words.startswith("oodles train mixup --alpha 1.0 + outlier-exposure --weight 0.5 --optimizer sgd")
    assert "--data small --network tests.runs.small:with_dropout" in words and "--epochs 3" in words
    assert "--seed 0 --train-layers all" in words and "--keep last" in words
    assert "seed" not in run.settings and run.settings["initial weights"] == "random"


def test_the_log_has_every_term_of_every_epoch(run: Run) -> None:
    assert [entry["epoch"] for entry in run.log] == [0, 1, 2]
    assert [entry["step"] for entry in run.log] == [6, 12, 18]
    for entry in run.log:
        assert list(entry["terms"]) == ["cross_entropy", "outlier_exposure"]
        assert 0 < entry["terms"]["cross_entropy"] < 3
    assert run.log[-1]["learning_rate"] == learning_rate(PLAIN, 17, 18)
    assert run.result["validation_accuracy"] == run.log[-1]["validation_accuracy"] > 0.8


def test_scores_are_those_of_the_saved_weights(run: Run) -> None:
    sets = ("validation", "test", "outliers", "near:noise", "far:more")
    expected = {f"{name}/{score}" for name in sets for score in (*SCORES, "predictions")}
    assert set(run.scores) == expected | {"validation/labels", "test/labels"}
    suite = small_suite()
    with torch.no_grad():
        logits = run.classifier()(torch.from_numpy(suite.test.images))
    np.testing.assert_array_equal(run.scores["test/predictions"], logits.argmax(1).numpy())
    np.testing.assert_allclose(run.scores["test/energy"], -logits.logsumexp(1).numpy(), rtol=1e-5)
    assert run.result["test_accuracy"] == np.mean(logits.argmax(1).numpy() == suite.test.labels)
    assert [len(run.scores[f"{name}/msp"]) for name in sets] == [30, 30, 50, 20, 20]


def test_a_finished_run_is_given_at_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "build_network", None)
    before = {file.name: file.stat().st_mtime_ns for file in run.folder.iterdir()}
    again = _train(EXPOSED, run.folder, network="tests.runs.small:with_dropout", workers=2, save_every=0)
    assert again.result == run.result
    assert {name: when for name, when in before.items() if name != ".lock"} == {
        file.name: file.stat().st_mtime_ns for file in run.folder.iterdir() if file.name != ".lock"
    }


def test_a_folder_with_another_configuration_is_refused(run: Run) -> None:
    with pytest.raises(ValueError, match=r"other settings: epochs is 3 there and 4 here, network is .*with_dropout'"):
        _train(replace(EXPOSED, epochs=4), run.folder)


def test_a_run_begun_with_other_data_is_refused(tmp_path: Path) -> None:
    begun = _train(PLAIN, tmp_path / "run")
    for name in ("result.json", "weights.safetensors"):
        (begun.folder / name).unlink()
    with pytest.raises(ValueError, match="begun with other data of the same name"):
        _train(PLAIN, tmp_path / "run", small_suite(rows=150))


def test_the_caller_s_state_stays_as_it_was(tmp_path: Path) -> None:
    torch.manual_seed(3)
    expected, numpy_before = torch.rand(3), np.random.get_state()[1].copy()  # type: ignore[index,union-attr]
    torch.manual_seed(3)
    caller = PartialState(cpu=True)
    _train(replace(EXPOSED, mixed_precision="bf16"), tmp_path / "run", accumulate=2)
    torch.testing.assert_close(torch.rand(3), expected, rtol=0, atol=0)
    np.testing.assert_array_equal(np.random.get_state()[1], numpy_before)  # type: ignore[index]
    assert caller.num_processes == 1 and PartialState().device == caller.device
    PartialState._shared_state.clear()


def test_plain_training_equals_a_loop_by_hand(tmp_path: Path) -> None:
    suite = small_suite()
    trained = _weights(_train(PLAIN, tmp_path / "run"))

    torch.manual_seed(random_seed(PLAIN.seed, INITIAL_WEIGHTS))
    model = build_network(
        "tests.runs.small:linear", num_classes=3, input_shape=(1, 8, 8), mean=suite.mean, std=suite.std
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=5e-4)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=18)
    batches = Batches(suite, PLAIN, roles=(), accumulate=1, process=0, processes=1)
    for (images, labels), _ in (batches[position] for position in range(18)):
        optimizer.zero_grad()
        F.cross_entropy(model(images), labels).backward()
        optimizer.step()
        scheduler.step()
    for name, value in model.state_dict().items():
        torch.testing.assert_close(trained[name], value, rtol=1e-5, atol=1e-6)


def test_accumulated_batches_equal_one_large_batch(tmp_path: Path) -> None:
    large = _train(PLAIN, tmp_path / "large")
    small = _train(replace(PLAIN, batch_size=10), tmp_path / "small", accumulate=2)
    assert [entry["step"] for entry in small.log] == [6, 12, 18]
    for name, value in _weights(large).items():
        torch.testing.assert_close(_weights(small)[name], value, rtol=1e-4, atol=1e-6)


def test_strength_zero_is_plain_training_bit_for_bit(tmp_path: Path) -> None:
    off = replace(PLAIN, methods=(("mixup", {"alpha": 0}), ("outlier-exposure", {"weight": 0})))
    for name, value in _weights(_train(PLAIN, tmp_path / "plain")).items():
        assert torch.equal(_weights(_train(off, tmp_path / "off"))[name], value), name


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_seeds_differ_and_repeat(optimizer: Any, tmp_path: Path) -> None:
    recipe = replace(EXPOSED, optimizer=optimizer, learning_rate=0.01)
    runs = [_train(recipe, tmp_path / str(index), seed=seed) for index, seed in enumerate((4, 4, 5))]
    first, again, other = (run.folder.joinpath("weights.safetensors").read_bytes() for run in runs)
    assert first == again != other
    assert [run.seed for run in runs] == [4, 4, 5]


def test_learning_rates_begin_at_the_recipe_s_and_stay_above_zero() -> None:
    rates = [learning_rate(PLAIN, update, 100) for update in range(100)]
    assert rates[0] == 0.1 and rates[50] == pytest.approx(0.05) and rates == sorted(rates, reverse=True)
    assert rates[-1] > 0
    assert learning_rate(replace(PLAIN, schedule="constant"), 99, 100) == 0.1


def test_one_cycle_rises_over_a_quarter_and_falls_to_zero() -> None:
    recipe = replace(PLAIN, schedule="one-cycle")
    rates = [learning_rate(recipe, update, 100) for update in range(100)]
    assert rates[0] == pytest.approx(0.1 / 25) and rates[24] == rates[25] == pytest.approx(0.1)
    assert rates[:25] == sorted(rates[:25]) and rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[62] == pytest.approx(0.1 * 38 / 75) and rates[99] == pytest.approx(0.1 / 75)
    assert 0 < learning_rate(recipe, 0, 1) <= 0.1


def test_steps_divide_by_ten_after_each_milestone() -> None:
    recipe = replace(PLAIN, schedule="steps", epochs=10, milestones=(5, 8))
    rates = [learning_rate(recipe, update, 40) for update in range(40)]
    assert rates == pytest.approx([0.1] * 20 + [0.01] * 12 + [0.001] * 8)


def test_streamed_and_resident_images_give_the_same_training(tmp_path: Path) -> None:
    options: dict[str, Any] = {"network": "tests.runs.small:with_dropout"}
    resident = _train(EXPOSED, tmp_path / "resident", **options)
    for workers in (0, 2):
        streamed = _train(EXPOSED, tmp_path / f"streamed-{workers}", workers=workers, **options)
        assert [entry["terms"] for entry in streamed.log] == [entry["terms"] for entry in resident.log]
        for name, value in _weights(resident).items():
            assert torch.equal(_weights(streamed)[name], value), name


def test_images_stay_on_the_device_only_where_they_are_in_memory() -> None:
    suite = small_suite()
    elsewhere = replace(suite, train=replace(suite.train, images=_OnDisk(suite.train.images)))  # type: ignore[arg-type]
    cpu = torch.device("cpu")
    for data, kind in ((suite, Resident), (elsewhere, ImageSet)):
        batches = Batches(data, PLAIN, roles=("outliers",), accumulate=1, process=0, processes=1)
        assert training._fit_on(cpu, data) == (kind is Resident)
        if kind is Resident:
            batches = batches.resident(cpu)
        assert type(batches.train) is kind
        (images, labels), others = batches[5]
        expected = Batches(suite, PLAIN, roles=("outliers",), accumulate=1, process=0, processes=1)[5]
        assert torch.equal(images, expected[0][0]) and torch.equal(labels, expected[0][1])
        assert torch.equal(others["outliers"][0], expected[1]["outliers"][0])


class _OnDisk:
    """Images that are handed over by row and are no array."""

    def __init__(self, images: np.ndarray):
        self.hidden, self.shape, self.ndim, self.dtype = images, images.shape, images.ndim, images.dtype

    def __len__(self) -> int:
        return len(self.hidden)

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        return self.hidden[rows]


def test_channels_last_is_a_layout_and_nothing_else(tmp_path: Path) -> None:
    recipe = replace(PLAIN, epochs=1, methods=(("mixup", {}),))
    single, other = (
        _train(recipe, tmp_path / str(last), network="small-cnn", channels_last=last) for last in (False, True)
    )
    assert other.settings["channels_last"] and "channels_last" in str(other.record["command"]).replace("-", "_")
    weights = _weights(other)
    for name, value in _weights(single).items():
        torch.testing.assert_close(weights[name], value, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("hardware", [True, False])
def test_automatic_precision_is_bf16_where_the_hardware_has_it(
    hardware: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": hardware}, raising=False)
    run = _train(replace(PLAIN, epochs=1, mixed_precision="auto"), tmp_path / "run")
    assert run.recipe.mixed_precision == "auto"
    assert run.record["environment"]["mixed_precision"] == ("bf16" if hardware else "no")
    same = _train(replace(PLAIN, epochs=1, mixed_precision="bf16" if hardware else "no"), tmp_path / "same")
    assert [entry["terms"] for entry in run.log] == [entry["terms"] for entry in same.log]


def test_a_run_begun_in_another_precision_is_not_gone_on_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(PLAIN, epochs=1, mixed_precision="auto")
    for hardware in (True, False):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: {"amx_bf16": hardware}, raising=False)  # noqa: B023
        if hardware:
            begun = _train(recipe, tmp_path / "run")
            for name in ("result.json", "weights.safetensors"):
                (begun.folder / name).unlink()
    with pytest.raises(ValueError, match="was begun in precision 'bf16', and 'auto' means 'no' here: resume it where"):
        _train(recipe, tmp_path / "run")


def test_images_may_move_between_two_calls(tmp_path: Path) -> None:
    first = _train(PLAIN, tmp_path / "run", root=tmp_path / "here")
    assert first.record["arguments"]["root"] == [str(tmp_path / "here")]
    assert _train(PLAIN, tmp_path / "run", root=[tmp_path / "there", "elsewhere"]).result == first.result


def test_outliers_that_nobody_reads_need_not_fit() -> None:
    suite = small_suite()
    assert suite.outliers is not None
    elsewhere = replace(suite, outliers=replace(suite.outliers, images=_OnDisk(suite.outliers.images)))  # type: ignore[arg-type]
    for wanted, kind in (((), "generator"), (("outliers",), "DataLoader")):
        batches = Batches(elsewhere, PLAIN, roles=wanted, accumulate=1, process=0, processes=1)
        loader = training._loader(batches, range(1), torch.device("cpu"), None)
        assert type(loader).__name__ == kind


def test_the_recorded_command_has_every_setting(tmp_path: Path) -> None:
    recipe = replace(PLAIN, momentum=0.8, nesterov=False, schedule="steps", milestones=(1, 2))
    command = _train(recipe, tmp_path / "run").record["command"]
    for words in ("--momentum 0.8", "--nesterov False", "--schedule steps --milestones 1 --milestones 2", "--epochs 3"):
        assert words in command, command
    assert "recipe" not in command


def test_momentum_comes_back_in_the_layout_of_its_weights(tmp_path: Path) -> None:
    layer = torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    layer(torch.rand(2, 3, 8, 8)).sum().backward()
    optimizer.step()
    before = optimizer.state[layer.weight]["momentum_buffer"]
    save_state(tmp_path / "state", layer, optimizer, {"position": 3})
    again = torch.optim.SGD(layer.parameters(), lr=0.1, momentum=0.9)
    assert load_state(tmp_path / "state", layer, again) == {"position": 3}
    after = again.state[layer.weight]["momentum_buffer"]
    assert torch.equal(after, before) and after.stride() == layer.weight.stride() == before.stride()


def test_a_loss_that_is_not_finite_ends_the_run(tmp_path: Path) -> None:
    recipe = replace(PLAIN, learning_rate=1e30)
    run = _train(recipe, tmp_path / "run")
    assert run.status == "diverged"
    assert run.reason.startswith("the loss term 'cross_entropy' was not finite in epoch 1")
    assert run.scores == {} and not (run.folder / "weights.safetensors").exists()
    assert _train(recipe, tmp_path / "run").reason == run.reason
    with pytest.raises(FileNotFoundError, match="has no trained weights: the loss term"):
        run.classifier()
    with pytest.raises(ValueError, match="cannot be started from, it diverged"):
        _train(PLAIN, tmp_path / "next", weights=run.folder)


def test_weights_that_explode_in_the_last_step_are_noticed(tmp_path: Path) -> None:
    run = _train(replace(PLAIN, learning_rate=1e36, epochs=1, batch_size=120), tmp_path / "run")
    assert run.status == "diverged"
    assert run.reason.startswith("logits of validation rows were beyond 1e+30 after epoch 1")


def test_fine_tuning_starts_from_another_run(tmp_path: Path) -> None:
    first = _train(PLAIN, tmp_path / "first")
    tuned = _train(replace(EXPOSED, learning_rate=1e-12), tmp_path / "tuned", weights=first.folder)
    assert tuned.initial_weights == "cross-entropy" and tuned.settings["initial weights"] == "cross-entropy"
    for name, value in _weights(first).items():
        torch.testing.assert_close(_weights(tuned)[name], value, rtol=0, atol=1e-8)
    from_file = _train(PLAIN, tmp_path / "file", weights=first.folder / "weights.safetensors")
    assert from_file.initial_weights == "weights.safetensors"
    assert _train(PLAIN, tmp_path / "other-seed", weights=first.folder, seed=1).status == "finished"
    with pytest.raises(ValueError, match="was trained on other rows of 'small', which may be test rows here: use the"):
        _train(PLAIN, tmp_path / "leak", small_suite(rows=150), weights=first.folder)


def test_a_recipe_named_as_weights_is_trained_first(tmp_path: Path) -> None:
    tuned = _train(replace(EXPOSED, weights="openood", seed=2), tmp_path / "tuned", small_suite(rows=130))
    first = open_run(tmp_path / "cross-entropy-small-2")
    assert first.status == tuned.status == "finished"
    assert first.recipe == replace(Recipe.load("openood"), seed=2)
    assert tuned.initial_weights == "cross-entropy"


def test_margins_are_measured_on_the_initial_weights(tmp_path: Path) -> None:
    suite = small_suite()
    first = _train(replace(PLAIN, epochs=10), tmp_path / "first")
    recipe = replace(PLAIN, methods=(("energy-bounded", {}),), suggest=True, weights=str(first.folder))
    tuned = _train(recipe, tmp_path / "tuned")
    known = measured_on(suite)
    assert suite.outliers is not None
    expected = EnergyBounded.suggest(first.classifier(), known, suite.outliers.loader())
    assert tuned.suggested == {"energy-bounded": pytest.approx(expected)}
    assert tuned.methods[0][1]["margin_in"] == -25.0, "what was asked for stays, so that seeds are one recipe"


def test_from_scratch_margins_are_measured_after_a_plain_warm_up(tmp_path: Path) -> None:
    recipe = replace(PLAIN, methods=(("energy-bounded", {}),), epochs=8)
    run = _train(recipe, tmp_path / "run")
    warm = open_run(run.folder / "warm-up", network="tests.runs.small:linear")
    suite = small_suite()
    assert warm.recipe == replace(PLAIN, epochs=2) and warm.status == "finished"
    assert suite.outliers is not None
    known = measured_on(suite)
    expected = EnergyBounded.suggest(warm.classifier(), known, suite.outliers.loader())
    assert run.suggested == {"energy-bounded": pytest.approx(expected)}
    assert run.initial_weights == "random" and run.record["warm_up"]["label"] == "cross-entropy"
    margins = (("energy-bounded", run.suggested["energy-bounded"]),)
    given = _train(replace(PLAIN, methods=margins, epochs=8), tmp_path / "given")
    assert given.suggested == {} and not (given.folder / "warm-up").exists()
    for name, value in _weights(run).items():
        torch.testing.assert_close(value, _weights(given)[name], rtol=0, atol=0)


def test_a_warm_up_that_is_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(PLAIN, methods=(("energy-bounded", {}),), epochs=8)
    whole = _train(recipe, tmp_path / "whole")
    give, left = Batches.__getitem__, 0

    def get(self: Batches, index: int) -> Any:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt
        return give(self, index)

    monkeypatch.setattr(Batches, "__getitem__", get)
    for steps in (7, 12, 30):  # in the warm-up's twelve steps, in the training itself
        left = steps
        with pytest.raises(KeyboardInterrupt):
            _train(recipe, tmp_path / "stopped", save_every=0)
    left = 10**6
    resumed = _train(recipe, tmp_path / "stopped")
    assert resumed.suggested == whole.suggested
    for name, value in _weights(whole).items():
        torch.testing.assert_close(value, _weights(resumed)[name], rtol=0, atol=0)


def test_outliers_are_scored_also_by_a_run_that_has_not_seen_them(tmp_path: Path) -> None:
    run = _train(replace(PLAIN, epochs=1), tmp_path / "plain")
    assert len(run.scores["outliers/msp"]) == 50
    assert set(run.result["metrics"]["validation"]) == {"outliers"}, "which says the best score without a test set"


def test_resuming_in_the_middle_needs_no_replay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _train(EXPOSED, tmp_path / "whole", network="tests.runs.small:with_dropout", accumulate=2)
    asked: list[int] = []
    give = Batches.__getitem__

    def stop_at(position: int) -> Callable[[Batches, int], Any]:
        def get(self: Batches, index: int) -> Any:
            asked.append(index)
            if index == position:
                raise KeyboardInterrupt
            return give(self, index)

        return get

    def part() -> Run:
        return _train(EXPOSED, tmp_path / "parts", network="tests.runs.small:with_dropout", accumulate=2, save_every=0)

    for position in (3, 9, 13):
        monkeypatch.setattr(Batches, "__getitem__", stop_at(position))
        with pytest.raises(KeyboardInterrupt):
            part()
        assert open_run(tmp_path / "parts").status == "unfinished"
    monkeypatch.setattr(Batches, "__getitem__", stop_at(-1))
    resumed = part()
    assert asked == [0, 1, 2, 3, 2, 3, 4, 5, 6, 7, 8, 9, 8, 9, 10, 11, 12, 13, *range(12, 18)]
    assert [entry["terms"] for entry in resumed.log] == [entry["terms"] for entry in whole.log]
    for name, value in _weights(whole).items():
        assert torch.equal(_weights(resumed)[name], value), name


def test_mistakes_get_a_sentence_and_leave_no_run(tmp_path: Path) -> None:
    without, half = replace(small_suite(), outliers=None), replace(PLAIN, mixed_precision="fp16")
    mistakes: list[tuple[type[Exception], str, Callable[[], Run]]] = [
        (ValueError, "outlier-exposure needs outliers", lambda: _train(EXPOSED, tmp_path / "a", without)),
        (ValueError, "accumulate must be at least 1", lambda: _train(PLAIN, tmp_path / "a", accumulate=0)),
        (ValueError, "network must be one of", lambda: _train(PLAIN, tmp_path / "a", network="smal-cnn")),
        (ValueError, "needs a GPU", lambda: _train(half, tmp_path / "a", device="cpu")),
        (
            ValueError,
            "tracker must be one of tensorboard",
            lambda: _train(PLAIN, tmp_path / "a", tracker="nonesuch"),
        ),
        (ValueError, "A step takes 200 training rows", lambda: _train(PLAIN, tmp_path / "a", accumulate=10)),
        (
            ValueError,
            "mixup is given twice",
            lambda: _train(replace(PLAIN, methods=(("mixup", {}),) * 2), tmp_path / "a"),
        ),
        (FileNotFoundError, "There are no weights at none", lambda: _train(PLAIN, tmp_path / "a", weights="none")),
        (ValueError, "There is no recipe 'mixip'", lambda: _train("mixip", tmp_path / "a")),
    ]
    for kind, sentence, make in mistakes:
        with pytest.raises(kind, match=sentence):
            make()
        assert not (tmp_path / "a" / "run.json").exists(), sentence


def test_evaluating_a_run_gives_its_own_numbers_and_those_of_further_sets(run: Run, tmp_path: Path) -> None:
    np.savez(tmp_path / "black.npz", images=np.zeros((5, 12, 12), dtype=np.uint8))
    opened = open_run(run.folder, network=run.network)
    evaluation = evaluate_run(opened, ["msp", "knn"], {"black": tmp_path / "black.npz"}, suite=small_suite())
    assert evaluation.accuracy == run.result["test_accuracy"]
    assert list(evaluation.metrics) == ["near:noise", "far:more", "black"]
    np.testing.assert_array_equal(evaluation.scores["near:noise"]["knn"], run.scores["near:noise/knn"])
    assert len(set(evaluation.scores["black"]["msp"])) == 1
    assert list(evaluate_run(run, suite=small_suite()).metrics["far:more"]) == list(SCORES)
    with pytest.raises(ValueError, match="There is a set 'far:more' already"):
        evaluate_run(run, ood={"far:more": tmp_path / "black.npz"}, suite=small_suite())


def test_nothing_in_a_run_is_beyond_json(run: Run) -> None:
    for line in (run.folder / "log.jsonl").read_text(encoding="utf-8").splitlines():
        values = json.loads(line, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))
        assert math.isfinite(values["seconds"])


def test_a_refused_run_leaves_no_folder(tmp_path: Path) -> None:
    clash = replace(PLAIN, methods=(("mixup", {}), ("cutmix", {})))
    with pytest.raises(ValueError, match="mixup and cutmix both replace"):
        _train(clash, tmp_path / "clash")
    assert not (tmp_path / "clash").exists()


def test_a_finished_run_is_refused_when_its_data_has_changed(run: Run) -> None:
    suite = small_suite()
    changed = replace(suite, test=replace(suite.test, labels=suite.test.labels[::-1].copy()))
    with pytest.raises(ValueError, match="was begun with other data"):
        _train(EXPOSED, run.folder, changed, network="tests.runs.small:with_dropout")


def test_wrong_settings_are_refused_before_the_first_stage(tmp_path: Path) -> None:
    wrong = replace(PLAIN, weights="openood", methods=(("outlier-exposure", {"weight": -1.0}),))
    with pytest.raises(ValueError, match="weight must be a finite number >= 0"):
        _train(wrong, tmp_path / "wrong")
    assert not list(tmp_path.iterdir())


def test_weights_that_are_not_finite_are_refused_before_training(tmp_path: Path) -> None:
    state = linear(3, (1, 8, 8)).state_dict()
    for name, value in (("1.weight", math.nan), ("3.bias", math.inf)):
        path = tmp_path / "start.safetensors"
        save_file({**state, name: torch.full_like(state[name], value)}, path)
        here = {"1.weight": "backbone.network.1.weight", "3.bias": "head.bias"}[name]
        with pytest.raises(ValueError, match=rf"weights .*start\.safetensors must hold finite numbers, .* in '{here}'"):
            _train(replace(PLAIN, weights=str(path)), tmp_path / "run")
        assert not (tmp_path / "run" / "run.json").exists()


@pytest.mark.filterwarnings("ignore:(Nothing says how inputs|.*at chance|All predictions):oodles.TrainingWarning")
def test_training_starts_from_a_networks_own_weights(tmp_path: Path) -> None:
    state = linear(3, (1, 8, 8)).state_dict()
    save_file(state, tmp_path / "start.safetensors")
    start = replace(PLAIN, epochs=1, learning_rate=1e-12, weights=str(tmp_path / "start.safetensors"))
    for methods in ((), (("ish", {}),)):
        run = _train(replace(start, methods=methods), tmp_path / str(len(methods)))
        own = run.classifier().join().get_submodule("network").state_dict()
        for name, value in state.items():
            torch.testing.assert_close(own[name], value, rtol=0, atol=1e-6)


def test_parameters_that_no_output_depends_on() -> None:
    net = build_network("tests.runs.small:with_pooler", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.5])
    net.add_head("further", 2)
    images, state = torch.rand(2, 1, 8, 8), torch.get_rng_state()
    names = ["backbone.network.pooler.weight", "backbone.network.pooler.bias"]
    assert training.unused_parameters(net, images) == names
    net.backbone.get_submodule("network.pooler").weight.requires_grad_(False)
    assert training.unused_parameters(net, images) == names[1:]
    assert torch.equal(torch.get_rng_state(), state) and all(p.grad is None for p in net.parameters())
    plain = build_network("small-cnn", num_classes=3, input_shape=(1, 8, 8), mean=[0.5], std=[0.5])
    before = {name: value.clone() for name, value in plain.state_dict().items()}
    assert training.unused_parameters(plain, images) == []
    assert all(torch.equal(value, before[name]) for name, value in plain.state_dict().items())
