"""The settings of fine-tuning: what trains, how fast, and which weights are kept."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier
from oodles.cards import card
from oodles.data import Suite
from oodles.data.image_set import PLAIN as UNCHANGED
from oodles.detection.calibration import choosing_rows
from oodles.networks import build_network
from oodles.randomness import INITIAL_WEIGHTS, random_seed
from oodles.runs import frozen_part as module
from oodles.runs import training
from oodles.runs.batches import Batches, balanced_order
from oodles.runs.frozen_part import Cut, exact_cut
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import Recipe, changes_inputs
from oodles.runs.training import learning_rate, train
from oodles.step import TrainingStep
from tests.runs.small import small_suite

PLAIN = Recipe(learning_rate=0.1, epochs=3, batch_size=20, outlier_batch_size=10, schedule="constant")
EXPOSED = replace(PLAIN, methods=(("outlier-exposure", {}),))
BLOCK = replace(EXPOSED, train_layers="last-block")
DEEP = "tests.runs.test_fine_tuning:deep"
LINEAR = "tests.runs.small:linear"


def _suite(**changes: Any) -> Suite:
    """Return the small suite with images that nothing changes, so that frozen layers run once."""
    suite = small_suite()
    assert suite.outliers is not None
    train, outliers = (replace(images, augment=UNCHANGED) for images in (suite.train, suite.outliers))
    return replace(suite, train=train, outliers=outliers, **changes)


def _train(recipe: Recipe, folder: Path, suite: Suite | None = None, **options: Any) -> Run:
    options = {"network": "small-cnn", "progress": False, **options}
    return train(recipe, suite or _suite(), folder=folder, **options)


def _weights(run: Run) -> dict[str, Tensor]:
    return run.classifier().state_dict()


def _same(one: Run, other: Run) -> bool:
    theirs = _weights(other)
    return all(torch.equal(value, theirs[name]) for name, value in _weights(one).items())


def _initial(network: str = "small-cnn") -> dict[str, Tensor]:
    torch.manual_seed(random_seed(0, INITIAL_WEIGHTS))
    suite = _suite()
    shape = suite.input_shape
    return build_network(network, num_classes=3, input_shape=shape, mean=suite.mean, std=suite.std).state_dict()


@pytest.mark.parametrize("wanted", ["head", "last-block", ("layers.7",)])
def test_what_does_not_train_stays_as_it_was(wanted: Any, tmp_path: Path) -> None:
    run = _train(replace(PLAIN, train_layers=wanted), tmp_path / "run")
    moved = {name for name, value in _weights(run).items() if not torch.equal(value, _initial()[name])}
    block = {f"backbone.network.layers.7.{name}" for name in ("weight",)}
    norm = {
        f"backbone.network.layers.8.{name}"
        for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
    }
    head = {"head.weight", "head.bias"}
    assert moved == {"head": head, "last-block": head | block | norm}.get(wanted, head | block)


def test_frozen_batch_norms_normalise_by_what_the_weights_brought(tmp_path: Path) -> None:
    plain = _train(PLAIN, tmp_path / "plain")
    recipe = replace(PLAIN, weights=str(tmp_path / "plain"), batch_norm="frozen", epochs=1)
    tuned = _train(recipe, tmp_path / "tuned")
    before, after = _weights(plain), _weights(tuned)
    moved = {name.rpartition(".")[2] for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved == {"weight", "bias"}
    # and so, in training mode, a row gives the same logits whatever rows are beside it
    images, _ = _suite().train.__getitems__(range(8))
    for word, alike in (("frozen", True), ("training", False)):
        classifier = plain.classifier().train_only("all", batch_norm=word).train()
        assert torch.allclose(classifier(images)[:2], classifier(images[:2]), atol=1e-5) is alike


def test_batch_norms_of_random_weights_are_not_frozen(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"batch_norm = frozen keeps .* and these are random: say which weights"):
        _train(replace(PLAIN, batch_norm="frozen"), tmp_path / "run")
    with pytest.raises(ValueError, match="batch_norm must be 'training' or 'frozen', got 'no'"):
        Classifier(nn.Linear(2, 2), nn.Linear(2, 2)).train_only("all", batch_norm="no")  # type: ignore[arg-type]
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("wanted", ["head", "last-block"])
@pytest.mark.parametrize("network", ["small-cnn", DEEP])
def test_layers_that_run_once_give_the_weights_of_those_that_run_in_every_step(
    wanted: str, network: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = replace(EXPOSED, train_layers=wanted, optimizer="adamw", learning_rate=1e-2)
    calls: list[int] = []
    monkeypatch.setattr(Cut, "maps", _counting(Cut.maps, calls))
    once = _train(recipe, tmp_path / "once", network=network)
    trained = {"head": [], "last-block": ["layers.7", "layers.8"] if network == "small-cnn" else ["5", "6"]}
    assert once.record["frozen"] == {"layers": [*trained[wanted], "head"], "runs": "once"}
    # 2 to try it, and of 120 rows, 30 of validation and 50 outliers 20 at once
    assert len(calls) == 2 + 6 + 2 + 3
    monkeypatch.setattr(module, "exact_cut", lambda *_: None)
    each = _train(recipe, tmp_path / "each", network=network)
    assert each.record["frozen"]["runs"] == "in every step" and len(calls) == 13
    assert _same(once, each) and [e["terms"] for e in once.log] == [e["terms"] for e in each.log]


def _counting(function: Callable[..., Any], calls: list[int]) -> Callable[..., Any]:
    def counted(self: Cut, inputs: Tensor) -> Any:
        calls.append(len(inputs))
        return function(self, inputs)

    return counted


@pytest.mark.parametrize(
    ("recipe", "suite", "because"),
    [
        (replace(BLOCK, methods=(("mixup", {}),)), _suite(), "mixup changes or makes inputs"),
        (replace(BLOCK, methods=(("regmixup", {}),)), _suite(), "regmixup changes or makes inputs"),
        (replace(BLOCK, methods=(("manifold-mixup", {}),)), _suite(), "manifold-mixup changes or makes inputs"),
        (BLOCK, small_suite(), "training rows are changed at random"),
        (BLOCK, replace(_suite(), outliers=small_suite().outliers), "outliers are changed at random"),
    ],
    ids=["mixup", "regmixup", "manifold-mixup", "images", "outliers"],
)
def test_what_changes_inputs_lets_frozen_layers_run_in_every_step(
    recipe: Recipe, suite: Suite, because: str, tmp_path: Path
) -> None:
    run = _train(replace(recipe, epochs=1), tmp_path / "run", suite)
    assert run.record["frozen"]["because"] == because
    assert open_run(run.folder).record["frozen"]["runs"] == "in every step"


def test_methods_that_change_what_layers_give_do_so_in_every_step(monkeypatch: pytest.MonkeyPatch) -> None:
    methods = Recipe(methods=(("logit-norm", {}),)).methods
    assert changes_inputs(methods) is None
    changing = replace(card("logit-norm"), moments=("layers", "change_hidden"))
    monkeypatch.setattr("oodles.runs.recipe.card", lambda name: changing)
    assert changes_inputs(methods) == "logit-norm"


def test_outliers_that_no_method_reads_do_not_matter(tmp_path: Path) -> None:
    suite = replace(_suite(), outliers=small_suite().outliers)
    run = _train(replace(PLAIN, train_layers="head", epochs=1), tmp_path / "run", suite, keep_frozen=True)
    assert run.record["frozen"]["runs"] == "once"
    assert {file.name for file in (run.folder / "frozen").iterdir()} == {"about.json", "train.npy", "validation.npy"}


class Skipping(nn.Module):
    """A network whose last but one layer needs what an earlier one gave."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fc = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        flat = images.flatten(1)
        result: Tensor = self.fc(self.two(self.one(flat)) + flat[:, :8])
        return result


class OfTheBatch(nn.Module):
    """A network whose first layer subtracts the mean of the batch, also in eval mode."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.BatchNorm1d(64, track_running_stats=False)
        self.two, self.fc = nn.Linear(64, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.fc(self.two(self.one(images.flatten(1))))
        return result


class Activated(nn.Module):
    """A network with functions between its layers, one of which would not stand being applied again."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two, self.fc = nn.Linear(64, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, images: Tensor) -> Tensor:
        result: Tensor = self.fc(torch.sin(self.two(torch.sin(self.one(images.flatten(1)) + 1))))
        return result


def deep(num_classes: int, input_shape: Any) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(64, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.3)]
    return nn.Sequential(*layers, nn.Linear(16, 16), nn.BatchNorm1d(16), nn.Dropout(0.3), nn.Linear(16, num_classes))


def skipping(num_classes: int, input_shape: Any) -> nn.Module:
    return Skipping()


def of_the_batch(num_classes: int, input_shape: Any) -> nn.Module:
    return OfTheBatch()


def activated(num_classes: int, input_shape: Any) -> nn.Module:
    return Activated()


@pytest.mark.parametrize(("name", "divides"), [("skipping", False), ("of_the_batch", False), ("activated", True)])
def test_only_networks_that_can_be_divided_exactly_are(name: str, divides: bool) -> None:
    suite = _suite()
    classifier = build_network(
        f"tests.runs.test_fine_tuning:{name}",
        num_classes=3,
        input_shape=suite.input_shape,
        mean=suite.mean,
        std=suite.std,
    ).train_only(["two"])
    images, _ = suite.train.__getitems__(range(6))
    cut = exact_cut(classifier, images)
    assert (cut is not None) == divides
    if cut is not None:
        before = classifier.features(images)
        maps = cut.maps(images)
        with cut.behind():
            assert torch.equal(classifier.features(maps), before)
        assert torch.equal(classifier.features(images), before)


def test_what_is_kept_belongs_to_the_frozen_layers_and_the_rows_alone() -> None:
    classifier = Classifier(Activated(), nn.Linear(3, 3)).train_only(["two"])
    cut, sets = Cut(classifier), {"train": _suite().train}
    key = module._key(cut, sets)
    for name, changes in (("two", False), ("fc", False), ("one", True)):
        with torch.no_grad():
            classifier.backbone.get_parameter(f"{name}.weight").add_(1)
        assert (module._key(cut, sets) != key) == changes, name
    assert module._key(cut, {"train": _suite().test}) != module._key(cut, sets)


def test_a_network_that_cannot_be_divided_is_said_to_be_so() -> None:
    suite = _suite()
    about = {"num_classes": 3, "input_shape": suite.input_shape, "mean": suite.mean, "std": suite.std}
    classifier = build_network("tests.runs.test_fine_tuning:skipping", **about)
    part = module.frozen_part(classifier, replace(PLAIN, train_layers=("two",)), suite, compiled=False)
    assert part is not None and part.as_dict() == {
        "layers": ["two", "head"],
        "runs": "in every step",
        "because": "the network cannot be divided exactly before two",
    }


def test_rows_that_no_step_sees_are_kept_in_full_precision(tmp_path: Path) -> None:
    entered: list[str] = []

    @contextmanager
    def autocast() -> Iterator[None]:
        entered.append("autocast")
        yield

    suite = _suite()
    classifier = Classifier(Activated(), nn.Linear(3, 3)).train_only(["two"])
    module.keep(Cut(classifier), {"train": suite.train, "validation": suite.validation}, tmp_path, 50, autocast)
    assert entered == ["autocast"]


def test_where_the_first_layer_trains_nothing_is_kept(tmp_path: Path) -> None:
    run = _train(replace(PLAIN, train_layers=("layers.0", "layers.4"), epochs=1), tmp_path / "run")
    assert run.record["frozen"] == {
        "layers": ["layers.0", "layers.4", "head"],
        "runs": "in every step",
        "because": "none of it lies before the first layer that trains",
    }


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "efficientnet_b0"])
@pytest.mark.parametrize("library", ["torchvision.models", "timm"])
@pytest.mark.parametrize("wanted", ["head", "last-block"])
def test_networks_of_other_libraries_are_divided(name: str, library: str, wanted: str) -> None:
    models = pytest.importorskip(library)
    from oodles.classifier import Classifier

    model = getattr(models, name)() if library != "timm" else models.create_model(name)
    images = torch.rand(3, 3, 64, 64)
    head = [key for key, layer in model.named_modules() if isinstance(layer, nn.Linear)][-1]
    classifier = Classifier.split(model, head, example=images).train_only(wanted)
    assert exact_cut(classifier, images) is not None


def _stopping(monkeypatch: pytest.MonkeyPatch, position: int) -> None:
    """Interrupt training where it asks for the batch of a position."""
    give = Batches.__getitem__

    def get(self: Batches, index: int) -> Any:
        if index == position:
            raise KeyboardInterrupt
        return give(self, index)

    monkeypatch.setattr(Batches, "__getitem__", get)


TUNED = replace(
    BLOCK,
    optimizer="adamw",
    learning_rate=1e-2,
    backbone_learning_rate=0.5,
    head_learning_rate=2.0,
    warm_up=0.5,
    decay_exempt=True,
    clip_gradients=0.5,
    ema=0.9,
    keep="best",
    patience=3,
    class_weights="balanced",
    balanced_sampling=True,
)


@pytest.mark.parametrize("layers", ["all", "last-block"])
def test_every_setting_resumes_bit_for_bit(layers: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = replace(TUNED, train_layers=layers)
    whole = _train(recipe, tmp_path / "whole", network=DEEP)
    for position in (4, 9, 13):
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            _stopping(patch, position)
            _train(recipe, tmp_path / "parts", network=DEEP, save_every=0)
        assert (tmp_path / "parts" / "frozen").exists() == (layers != "all")
    parts = _train(recipe, tmp_path / "parts", network=DEEP, save_every=0)
    assert _same(whole, parts)
    assert [entry["choosing_accuracy"] for entry in whole.log] == [entry["choosing_accuracy"] for entry in parts.log]
    assert whole.result["epoch"] == parts.result["epoch"] and not (parts.folder / "frozen").exists()


def test_what_was_kept_is_used_again_unless_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr(Cut, "maps", _counting(Cut.maps, calls))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stopping(patch, 7)
        _train(BLOCK, tmp_path / "run", save_every=0)
    assert len(calls) == 13
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        _stopping(patch, 9)
        _train(BLOCK, tmp_path / "run", save_every=0)
    assert len(calls) == 13 + 2  # which try whether the network can be divided
    kept = tmp_path / "run" / "frozen" / "train.npy"
    content = bytearray(kept.read_bytes())
    content[-1] ^= 1
    kept.write_bytes(content)
    run = _train(BLOCK, tmp_path / "run")
    assert len(calls) == 15 + 13 and _same(run, _train(BLOCK, tmp_path / "other"))


def test_what_lies_beside_what_was_kept_stays(tmp_path: Path) -> None:
    (tmp_path / "run" / "frozen").mkdir(parents=True)
    (tmp_path / "run" / "frozen" / "mine.txt").write_text("mine", encoding="utf-8")
    _train(BLOCK, tmp_path / "run")
    assert [file.name for file in (tmp_path / "run" / "frozen").iterdir()] == ["mine.txt"]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "frozen").symlink_to(tmp_path / "run" / "frozen")
    with pytest.raises(ValueError, match="frozen must be a folder of the run's own, and it leads elsewhere: move it"):
        _train(BLOCK, tmp_path / "other")


@pytest.mark.parametrize(
    ("wanted", "sentence"),
    [
        (
            "layers.9",
            "train_layers leaves nothing to train, since 'layers.9' has no parameters that learn: name others",
        ),
        (("layer.7",), "names of layers, got 'layer.7': did you mean 'layers.7'?"),
        (("classifier",), "there are layers.0, layers.1, layers.3, layers.4, layers.7, layers.8."),
    ],
)
def test_a_wish_that_trains_nothing_is_refused_and_nothing_is_written(
    wanted: Any, sentence: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError) as refused:
        _train(replace(PLAIN, train_layers=wanted), tmp_path / "run")
    assert sentence in str(refused.value) and not (tmp_path / "run").exists()


def test_the_average_is_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Tensor]] = []
    follow = training.KeptWeights.follow

    def noting(self: Any, classifier: Any, updates: int) -> None:
        seen.append({name: value.clone() for name, value in classifier.state_dict().items()})
        follow(self, classifier, updates)

    monkeypatch.setattr(training.KeptWeights, "follow", noting)
    recipe = replace(PLAIN, ema=0.2, epochs=1, schedule="constant")
    run = _train(recipe, tmp_path / "run")
    expected = {name: value.double() for name, value in _initial().items()}
    for updates, weights in enumerate(seen):
        decay = min(0.2, (1 + updates) / (10 + updates))
        expected = {name: decay * value + (1 - decay) * weights[name].double() for name, value in expected.items()}
    assert len(seen) == 6
    for name, value in _weights(run).items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(_weights(run)["head.weight"], seen[-1]["head.weight"])


def _noisy(suite: Suite) -> Suite:
    """Return a suite with validation rows that are hard to tell apart, so that accuracies go up and down."""
    noise = np.random.default_rng(3).random(suite.validation.images.shape, dtype=np.float32)
    images = 0.25 * suite.validation.images[:] + 0.75 * noise
    return replace(suite, validation=replace(suite.validation, images=images))


def test_the_best_epoch_is_chosen_on_half_of_the_validation_rows(tmp_path: Path) -> None:
    suite = _noisy(_suite())
    recipe = replace(PLAIN, epochs=8, learning_rate=3e-3, keep="best")
    run = _train(recipe, tmp_path / "best", suite, network=LINEAR)
    chosen = [entry["choosing_accuracy"] for entry in run.log]
    best = chosen.index(max(chosen))
    assert 0 < best < 7, "an accuracy that only rises shows nothing"
    assert run.result["epoch"] == best and run.record["validation_chose"] == ["checkpoint"]
    assert run.result["validation_accuracy"] == run.log[best]["validation_accuracy"]
    until = _train(replace(PLAIN, epochs=best + 1, learning_rate=3e-3), tmp_path / "until", suite, network=LINEAR)
    assert _same(run, until) and until.record["validation_chose"] == []
    choose = choosing_rows(len(suite.validation))
    right = until.scores["validation/predictions"] == suite.validation.labels
    assert max(chosen) == pytest.approx(right[choose].mean())
    ended = _train(replace(recipe, patience=2), tmp_path / "ended", suite, network=LINEAR)
    expected = next(e for e in range(2, 9) if e - 1 - int(np.argmax(chosen[:e])) >= 2)
    assert len(ended.log) == expected < 8 and ended.result["epoch"] == int(np.argmax(chosen[:expected]))
    last = _train(replace(recipe, patience=2, keep="last"), tmp_path / "last", suite, network=LINEAR)
    assert last.log == tuple(
        {**entry, "seconds": mine["seconds"]} for entry, mine in zip(ended.log, last.log, strict=True)
    )
    assert last.result["epoch"] == expected - 1 and last.record["validation_chose"] == ["checkpoint"]


def test_an_epoch_is_not_chosen_without_rows(tmp_path: Path) -> None:
    suite = _suite()
    few = replace(
        suite, validation=replace(suite.validation, images=suite.validation.images[:1], labels=np.zeros(1, int))
    )
    with pytest.raises(ValueError, match="keep='best' needs validation rows to choose by, and 'small' has too few"):
        _train(replace(PLAIN, keep="best"), tmp_path / "run", few)


def test_a_warm_up_rises_in_a_straight_line_under_every_schedule() -> None:
    for schedule in ("constant", "cosine", "one-cycle"):
        with_rise = Recipe(schedule=schedule, learning_rate=2.0, epochs=10, warm_up=2.0)  # type: ignore[arg-type]
        rates = [learning_rate(with_rise, update, 100) for update in range(100)]
        plain = replace(with_rise, warm_up=0.0, schedule="constant" if schedule == "one-cycle" else with_rise.schedule)
        for update in range(20):
            expected = learning_rate(plain, update, 100) * (update + 1) / 20
            assert rates[update] == pytest.approx(expected), (schedule, update)
    steps = Recipe(schedule="steps", milestones=(1, 5), learning_rate=2.0, epochs=10, warm_up=2.0)
    assert learning_rate(steps, 14, 100) == pytest.approx(0.2 * 15 / 20)
    assert learning_rate(steps, 60, 100) == pytest.approx(0.02)
    one_cycle = replace(steps, schedule="one-cycle", milestones=())
    assert learning_rate(one_cycle, 60, 100) == pytest.approx(2.0 * 0.4 / 0.8)


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")  # one short step teaches nothing
def test_gradients_are_clipped_all_together(tmp_path: Path) -> None:
    recipe = replace(PLAIN, momentum=0.0, weight_decay=0.0, epochs=1, batch_size=120, clip_gradients=0.01)
    run = _train(recipe, tmp_path / "one", network=LINEAR)
    learnt = dict(run.classifier().named_parameters())
    way = torch.cat([(value - _initial(LINEAR)[name]).flatten() for name, value in learnt.items()])
    assert float(way.detach().norm()) == pytest.approx(0.1 * 0.01, rel=1e-3)
    two = _train(replace(recipe, batch_size=60), tmp_path / "two", network=LINEAR, accumulate=2)
    torch.testing.assert_close(_weights(two), _weights(run), rtol=0, atol=1e-7)


def test_groups_have_multiples_and_exemptions() -> None:
    suite = _suite()
    classifier = build_network(
        "small-cnn", num_classes=3, input_shape=suite.input_shape, mean=suite.mean, std=suite.std
    )
    step = TrainingStep(classifier)
    (plain,) = step.parameter_groups(0.1)
    assert plain["params"] == list(step.parameters()) and set(plain) == {"params", "lr"}
    groups = step.parameter_groups(0.1, backbone=0.1, head=5.0, decay_exempt=True)
    names = {id(value): name for name, value in step.named_parameters()}
    told = {names[id(p)]: (group["lr"], group.get("weight_decay")) for group in groups for p in group["params"]}
    assert len(told) == len(names)
    for name, (rate, decay) in told.items():
        assert rate == pytest.approx(0.5 if "head" in name else 0.01)
        assert decay == (
            0.0 if name.endswith("bias") or "layers.1." in name or "layers.4." in name or "layers.8." in name else None
        ), name


def test_classes_are_drawn_alike() -> None:
    labels = np.array([0] * 50 + [1] * 9 + [2] * 3)
    orders = [balanced_order(labels, 0, epoch) for epoch in range(4)]
    for order in orders:
        assert len(order) == 62 and sorted(np.bincount(labels[order])) == [20, 21, 21]
        counts = np.bincount(order, minlength=62)
        assert counts[:50].max() == 1 and counts[50:59].min() >= 2 and counts[59:].min() >= 6
    assert len({tuple(order) for order in orders}) == 4
    assert len(set(np.concatenate(orders)[np.concatenate(orders) < 50])) > 40, "other rows of a large class each time"
    assert np.array_equal(balanced_order(labels, 0, 1), orders[1])


def test_runs_draw_classes_alike(tmp_path: Path) -> None:
    suite = _suite()
    rows = np.r_[0:90:3, 1:30:3, 2:9:3]  # 30, 10 and 3 of a class
    labels = suite.train.labels[rows]
    uneven = replace(suite, train=replace(suite.train, images=suite.train.images[rows], labels=labels))
    recipe = replace(PLAIN, batch_size=43, balanced_sampling=True)
    batches = Batches(uneven, recipe, roles=(), accumulate=1, process=0, processes=1)
    for position in range(3):
        assert sorted(np.bincount(batches[position][0][1])) == [14, 14, 15]
    weights = training.class_weights(replace(PLAIN, class_weights="balanced"), uneven)
    assert weights == pytest.approx([43 / (3 * count) for count in np.bincount(labels)])
    assert training.class_weights(replace(PLAIN, class_weights=(1, 2, 3)), uneven) == (1.0, 2.0, 3.0)
    one, two = (
        _train(replace(PLAIN, class_weights=given), tmp_path / str(given), network=LINEAR)
        for given in ((1.0, 1.0, 1.0), (1.0, 4.0, 1.0))
    )
    torch.testing.assert_close(_weights(one), _weights(_train(PLAIN, tmp_path / "none", network=LINEAR)))
    assert not _same(one, two)
    with pytest.raises(ValueError, match="class_weights must be a number for each of the 3 classes, got 2"):
        _train(replace(PLAIN, class_weights=(1.0, 2.0)), tmp_path / "refused")
    assert not (tmp_path / "refused").exists()


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    assert not list(tmp_path.rglob("*.unfinished"))
