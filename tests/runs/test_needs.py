"""What the methods of a recipe need, bring and score, and whether they act: one answer, wherever it is asked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from oodles import cards
from oodles.benchmarking.description import Benchmark, check_data
from oodles.methods import build_methods, scores_of
from oodles.runs import recipe as answers
from oodles.runs.opened import Run
from oodles.runs.recipe import (
    Methods,
    Recipe,
    active_methods,
    are_plain,
    needs_outliers,
    own_score,
    roles_needed,
    scores_brought,
)
from oodles.runs.training import train
from tests.runs.small import small_suite

OFF, ON = ("outlier-exposure", {"weight": 0.0}), ("outlier-exposure", {"weight": 0.5})
SETTINGS: dict[str, Any] = {"epochs": 2, "batch_size": 20, "learning_rate": 0.1}
OPTIONS: dict[str, Any] = {"network": "tests.runs.small:linear", "device": "cpu", "progress": False}


def without_outliers(folder: Path) -> Path:
    random = np.random.default_rng(0)
    for name, count in {"train": 60, "validation": 30, "test": 30, "near/noise": 20}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        np.savez(folder / f"{name}.npz", images=random.random((count, 8, 8)), labels=np.arange(count) % 3)
    return folder


def trained(methods: Methods, data: Path) -> Run:
    return train(Recipe(methods=methods, **SETTINGS), data, folder=data.parent / "run", **OPTIONS)


def checked(methods: Methods, data: Path) -> None:
    """Check a recipe as a benchmark does before it trains anything."""
    rows = [{"methods": [{"name": name, **given} for name, given in methods], **SETTINGS}]
    check_data(Benchmark.from_dict({"suites": [str(data)], "recipes": rows}, name="one").tasks(data.parent))


@pytest.mark.filterwarnings("ignore:.*at chance:oodles.TrainingWarning")  # labels that noise cannot tell
@pytest.mark.parametrize("others", [(), (("mixup", {}),)])
def test_a_method_at_strength_zero_needs_no_outliers(others: Methods, tmp_path: Path) -> None:
    data = without_outliers(tmp_path / "data")
    checked((*others, OFF), data)
    assert trained((*others, OFF), data).status == "finished"


def test_one_that_acts_is_refused_by_training_and_by_benchmarks(tmp_path: Path) -> None:
    data = without_outliers(tmp_path / "data")
    for refusing in (trained, checked):
        with pytest.raises(ValueError, match=r"outlier-exposure needs outliers, and the data 'data' has none"):
            refusing((ON,), data)


@pytest.mark.filterwarnings("ignore:.*at chance:oodles.TrainingWarning")
def test_wild_rows_have_to_be_there(tmp_path: Path) -> None:
    data = without_outliers(tmp_path / "data")
    weights = trained((), data).folder
    recipe = Recipe(methods=(("woods", {}),), weights=str(weights), **SETTINGS)
    with pytest.raises(
        ValueError, match=r"woods needs wild, and the data 'data' has none: add a set called wild to it"
    ):
        train(recipe, data, folder=tmp_path / "woods", **OPTIONS)
    rows = [
        {"methods": ["cross-entropy"], **SETTINGS},
        {"methods": ["woods"], "weights": "cross-entropy", **SETTINGS},
    ]
    tasks = Benchmark.from_dict({"suites": [str(data)], "recipes": rows}, name="two").tasks(tmp_path)
    with pytest.raises(ValueError, match=r"The row 'woods' cannot be trained on 'data': woods needs wild, and"):
        check_data(tasks)
    assert roles_needed((("woods", {}), ON)) == {"wild": "woods", "outliers": "outlier-exposure"}
    assert roles_needed((("woods", {"weight": 0.0}),)) == {}


def test_outliers_are_not_loaded_for_a_method_at_strength_zero(tmp_path: Path) -> None:
    suite, weights = small_suite(), {}
    for name, methods, data in (("off", (OFF,), suite), ("none", (), replace(suite, outliers=None))):
        run = train(Recipe(methods=methods, **SETTINGS), data, folder=tmp_path / name, **OPTIONS)
        weights[name] = run.classifier().state_dict()
    assert weights["off"].keys() == weights["none"].keys()
    assert all(torch.equal(value, weights["none"][name]) for name, value in weights["off"].items())


def test_outliers_that_another_method_makes_count(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    data = without_outliers(tmp_path / "data")
    maker = replace(cards.card("mixup"), adds=("outliers",))
    monkeypatch.setattr(answers, "card", lambda name: maker if name == "mixup" else cards.card(name))
    for methods, made in (
        ((("mixup", {}), ON), True),
        ((ON, ("mixup", {})), True),
        ((("mixup", {"alpha": 0.0}), ON), False),
    ):
        recipe = Recipe(methods=methods)
        assert needs_outliers(recipe.methods) != made
        if made:
            answers.check_needs(recipe, "data", roles=())
            checked(methods, data)
            continue
        with pytest.raises(ValueError, match="outlier-exposure needs outliers"):
            answers.check_needs(recipe, "data", roles=())
        with pytest.raises(ValueError, match="outlier-exposure needs outliers"):
            checked(methods, data)
    both = replace(cards.card("energy-bounded"), adds=("outliers",))  # it changes outliers, and makes none of nothing
    monkeypatch.setattr(answers, "card", lambda name: both if name == "energy-bounded" else cards.card(name))
    assert needs_outliers((("energy-bounded", {"weight": 0.1}),))


GENERATED = ("generated-outliers", {})


@pytest.mark.filterwarnings("ignore:.*at chance:oodles.TrainingWarning")  # labels that noise cannot tell
def test_generated_outliers_take_the_place_of_a_file(tmp_path: Path) -> None:
    data = without_outliers(tmp_path / "data")
    checked((GENERATED, ON), data)
    run = trained((GENERATED, ON), data)
    assert run.status == "finished" and run.log[-1]["terms"]["outlier_exposure"] > 0


def test_real_outliers_are_trained_on_beside_generated_ones_unless_there_shall_be_none(tmp_path: Path) -> None:
    weights = {}
    for name, suite, settings in (
        ("both", small_suite(), {}),
        ("few", small_suite(), {"max_outliers": 5}),
        ("none", small_suite(), {"max_outliers": 0}),
        ("no data", replace(small_suite(), outliers=None), {}),
    ):
        recipe = Recipe(methods=(GENERATED, ON), **{**SETTINGS, **settings})
        weights[name] = train(recipe, suite, folder=tmp_path / name, **OPTIONS).classifier("cpu").state_dict()

    def same(a: str, b: str) -> bool:
        return all(torch.equal(value, weights[b][key]) for key, value in weights[a].items())

    assert same("none", "no data") and not same("both", "none") and not same("few", "both") and not same("few", "none")


def test_without_any_outliers_left_a_method_that_needs_them_is_refused(tmp_path: Path) -> None:
    recipe = Recipe(methods=(ON,), max_outliers=0, **SETTINGS)
    with pytest.raises(ValueError, match="outlier-exposure needs outliers, and max_outliers = 0 leaves none: add gen"):
        train(recipe, small_suite(), folder=tmp_path / "run", **OPTIONS)


def test_margins_are_measured_on_the_outliers_that_are_trained_on(tmp_path: Path) -> None:
    margins = {}
    suite = small_suite()
    assert suite.outliers is not None
    for name, data, methods, settings in (
        ("real", suite, (), {}),
        ("one", suite, (), {"max_outliers": 1}),
        ("made", suite, (GENERATED,), {"max_outliers": 0}),
        ("made alone", replace(suite, outliers=None), (GENERATED,), {}),
        ("both", suite, (GENERATED,), {}),
    ):
        recipe = Recipe(methods=(*methods, ("energy-bounded", {})), **{**SETTINGS, **settings})
        run = train(recipe, data, folder=tmp_path / name, **OPTIONS)
        margins[name] = run.suggested["energy-bounded"]["margin_out"]
    assert margins["made"] == margins["made alone"]
    assert len(set(margins.values())) == 4, margins


def test_measuring_leaves_out_what_is_at_strength_zero(tmp_path: Path) -> None:
    first = train(Recipe(**SETTINGS), small_suite(), folder=tmp_path / "first", **OPTIONS)
    methods = (("energy-bounded", {"weight": 0.0}), ("mixup", {}))
    recipe = Recipe(methods=methods, suggest=True, weights=str(first.folder), **SETTINGS)
    run = train(recipe, replace(small_suite(), outliers=None), folder=tmp_path / "run", **OPTIONS)
    assert run.suggested == {} and run.status == "finished"


@pytest.mark.parametrize("name", [card.name for card in cards.cards()])
def test_cards_say_what_the_classes_do(name: str) -> None:
    card = cards.card(name)
    for strength in (None, 0.0) if card.strength else (None,):
        given = {} if strength is None or card.strength is None else {card.strength: strength}
        (method,) = build_methods([(name, given)])
        methods = ((name, given),)
        assert bool(active_methods(methods)) == method.active
        assert scores_brought(methods) == (list(scores_of(method.name)) if method.active else [])
        assert needs_outliers(methods) == (method.active and "outliers" in method.needs)
        assert own_score(methods) == (method.score if method.active else "msp")


def test_plain_training_is_cross_entropy_under_its_own_name() -> None:
    assert are_plain(()) and are_plain((("cross-entropy", {}),))
    assert are_plain((("cross-entropy", {"label_smoothing": 0.0}),))
    assert not are_plain((("cross-entropy", {"label_smoothing": 0.1}),))
    assert not are_plain((("mixup", {"alpha": 0.0}),))
