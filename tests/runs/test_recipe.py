"""Recipes: what they accept, and that TOML and dictionaries say the same."""

import tomllib
from dataclasses import replace
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from oodles.cards import cards
from oodles.classifier import Classifier
from oodles.methods import build_methods
from oodles.runs.preparation import settle_recipe, warm_up
from oodles.runs.recipe import Recipe, own_score, recipes
from oodles.step import TrainingStep


def test_a_recipe_survives_toml(tmp_path: Path) -> None:
    recipe = Recipe(
        methods=(("energy-bounded", {"weight": 1, "power": 1}), ("mixup", {"per_sample": True})),
        optimizer="adamw",
        learning_rate=1e-5,
        nesterov=False,
        schedule="steps",
        milestones=(3, 20),
        mixed_precision="bf16",
        seed=7,
        weights='a "quoted" näme.safetensors',
        suggest=True,
        train_layers=("layer4", "layer3.1"),
        batch_norm="frozen",
        class_weights=(1, 2.5),
        warm_up=1,
        keep="best",
    )
    path = tmp_path / "recipe.toml"
    path.write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.load(path) == recipe
    assert Recipe.from_dict(recipe.as_dict()) == recipe
    assert recipe.label == "energy-bounded + mixup"
    energy = {"weight": 1.0, "margin_in": -25.0, "margin_out": -7.0, "power": 1}
    assert recipe.methods == (("energy-bounded", energy), ("mixup", {"alpha": 1.0, "per_sample": True}))


def test_no_method_is_plain_cross_entropy() -> None:
    assert Recipe() == Recipe(methods=(("cross-entropy", {"label_smoothing": 0.0}),))


@pytest.mark.parametrize("name", recipes())
def test_recipes_of_the_package_load_and_are_complete_in_toml(name: str, tmp_path: Path) -> None:
    recipe = Recipe.load(name)
    assert recipe.weights in (None, "network", *recipes())
    (tmp_path / "again.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.load(tmp_path / "again.toml") == recipe


PUBLISHED = {  # methods with what they do not leave at the default, learning rate, weight decay, Nesterov, schedule, …
    "openood": ("cross-entropy", {}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "outlier-exposure": ("outlier-exposure", {"weight": 0.5}, 1e-3, 5e-4, True, ("cosine", ()), 10, 128, 256),
    "energy-bounded": ("energy-bounded", {"weight": 0.1}, 1e-3, 5e-4, True, ("cosine", ()), 10, 128, 256),
    "regmixup": ("regmixup", {"alpha": 20.0, "weight": 1.0}, 0.1, 5e-4, True, ("steps", (150, 250)), 350, 128, None),
    "logit-norm": ("logit-norm", {"temperature": 0.04}, 0.1, 5e-4, False, ("steps", (80, 140)), 200, 128, None),
    "mixup": ("mixup", {"alpha": 1.0}, 0.1, 1e-4, False, ("steps", (100, 150)), 200, 128, None),
    "cutmix": ("cutmix", {"alpha": 1.0}, 0.25, 1e-4, True, ("steps", (150, 225)), 300, 64, None),
    "rotation-prediction": ("rotation-prediction", {"weight": 1.0}, 0.1, 5e-4, True, ("cosine", ()), 200, 128, None),
    "mixoe": ("mixoe", {"form": "mixup", "alpha": 1.0, "weight": 5.0}, 1e-3, 1e-5, True, ("cosine", ()), 10, 32, 32),
    "openmix": ("openmix", {"alpha": 10.0, "weight": 1.0}, 0.1, 5e-4, False, ("steps", (100, 150)), 200, 128, 128),
    "manifold-mixup": ("manifold-mixup", {"alpha": 2.0}, 0.1, 1e-4, True, ("steps", (400, 800)), 1200, 128, None),
    "pixmix": ("pixmix", {"rounds": 4, "beta": 3.0, "severity": 3.0}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "augmix": ("augmix", {"weight": 12.0, "severity": 3.0}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "jigsaw": ("jigsaw", {"weight": 1.0, "patches": 3}, 3e-3, 5e-4, False, ("steps", (10,)), 15, 128, None),
    "ceda": ("ceda", {"weight": 1.0}, 0.1, 5e-4, False, ("steps", (50, 75, 90)), 100, 128, None),
    "acet": ("acet", {"epsilon": 0.3, "steps": 40}, 0.1, 5e-4, False, ("steps", (50, 75, 90)), 100, 128, None),
    "background-class": ("background-class", {"weight": 1.0}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, 256),
    "shared-discriminator": ("shared-discriminator", {"weight": 1.0}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, 256),
    "entropic-open-set": ("entropic-open-set", {"weight": 1.0}, 0.01, 0, True, ("constant", ()), 70, 64, 64),
    "objectosphere": ("objectosphere", {"magnitude_weight": 1e-4}, 0.01, 0, True, ("constant", ()), 70, 64, 64),
    "oecc": ("oecc", {"training_accuracy": 0.9486}, 1e-3, 5e-4, True, ("cosine", ()), 15, 128, 256),
    "balanced-energy": (
        "balanced-energy",
        {"alpha": 10.0, "gamma": 0.05},
        1e-3,
        5e-4,
        True,
        ("cosine", ()),
        20,
        128,
        256,
    ),
    "mcd": ("mcd", {"margin": 1.2}, 0.1, 5e-4, False, ("constant", ()), 10, 64, 64),
    "odnl": ("odnl", {"weight": 3.0}, 0.1, 5e-4, False, ("steps", (80, 140)), 200, 128, 128),
    "ntom": (
        "ntom + background-class",
        {"kept": 128, "quantile": 0.125},
        0.1,
        1e-4,
        True,
        ("steps", (50, 75, 90)),
        100,
        64,
        512,
    ),
    "dos": ("dos + background-class", {"kept": 64}, 0.1, 1e-4, True, ("steps", (50, 75, 90)), 100, 64, 384),
    "poem": ("poem + energy-bounded", {"kept": 64}, 0.1, 1e-4, True, ("steps", (50, 75, 90)), 100, 64, 512),
    "confidence-branch": ("confidence-branch", {"budget": 0.3}, 0.1, 1e-4, True, ("steps", (150, 225)), 300, 64, None),
    "cac": ("cac", {"alpha": 10.0, "weight": 0.1}, 0.01, 5e-6, False, ("steps", (150,)), 200, 128, None),
    "arpl": ("arpl", {"weight": 0.1, "margin": 1.0}, 0.1, 1e-4, False, ("steps", (30, 60, 90)), 100, 64, None),
    "unleashing-mask": ("unleashing-mask", {}, 0.1, 1e-4, False, ("cosine", ()), 100, 256, None),
    "edl": ("edl", {"form": "mse"}, 1e-3, 5e-3, True, ("steps", (7, 14, 21, 28, 35, 42, 49)), 50, 1000, None),
    "t2fnorm": ("t2fnorm", {"temperature": 0.1}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "g-odin": ("g-odin", {"form": "cosine"}, 0.1, 1e-4, False, ("steps", (150, 225)), 300, 64, None),
    "isomax": ("isomax", {"entropic_scale": 10.0}, 0.1, 1e-4, True, ("steps", (150, 200, 250)), 300, 64, None),
    "isomax-plus": ("isomax-plus", {}, 0.1, 1e-4, True, ("steps", (150, 200, 250)), 300, 64, None),
    "ish": ("ish", {"percentile": 0.85}, 3e-3, 5e-4, True, ("cosine", ()), 10, 512, None),
    "ascood": ("ascood", {"form": "shuffle", "share": 0.2}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "reweight-ood": ("reweight-ood", {"alone": True}, 0.1, 1e-4, True, ("cosine", ()), 100, 512, None),
    "palm": ("palm", {"alone": True, "prototype_momentum": 0.999}, 0.5, 1e-6, True, ("cosine", ()), 500, 512, None),
    "supcon": ("supcon", {"alone": True}, 0.5, 1e-4, False, ("cosine", ()), 1000, 1024, None),
    "cider": ("cider", {"alone": True, "prototype_momentum": 0.95}, 0.5, 1e-4, True, ("cosine", ()), 500, 512, None),
    "cocl": ("cocl", {"weight": 0.05}, 1e-3, 5e-4, True, ("cosine", ()), 100, 128, 256),
    "pascl": ("outlier-exposure + pascl", {"weight": 0.5}, 1e-3, 5e-4, True, ("cosine", ()), 200, 256, 256),
    "elogit-norm": ("elogit-norm", {}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "siren": ("siren", {"weight": 1.5, "dimensions": 16}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "hopfield-boosting": (
        "hopfield-boosting",
        {"weight": 0.5, "kept": 128, "beta": 4.0, "hidden": 256, "dimensions": 128},
        0.1,
        5e-4,
        True,
        ("cosine", ()),
        100,
        128,
        1024,
    ),
    "mos": ("mixup + mos", {"alpha": 0.1}, 3e-3, 0, False, ("steps", (2, 5, 7)), 8, 512, None),
    "pfs": ("outlier-exposure + pfs", {"weight": 0.5}, 0.07, 5e-4, True, ("cosine", ()), 50, 128, 256),
    "sngp": ("sngp", {"bound": 6.0, "number": 1024}, 0.08, 3e-4, True, ("steps", (60, 120, 160)), 250, 128, None),
    "duq": ("duq", {"penalty": 0.75, "length_scale": 0.1}, 0.05, 5e-4, False, ("steps", (25, 50, 75)), 100, 128, None),
    "npos": (
        "cider + npos",
        {"alone": True, "prototype_momentum": 0.5},
        0.1,
        1e-4,
        True,
        ("cosine", ()),
        500,
        256,
        None,
    ),
    "greg": (
        "energy-bounded + greg",
        {"weight": 0.1, "margin_in": -25.0, "margin_out": -7.0},
        0.01,
        0,
        True,
        ("steps", (50, 75, 90)),
        100,
        64,
        64,
    ),
    "dal": ("dal", {"radius": 10.0, "steps": 10}, 0.07, 5e-4, True, ("cosine", ()), 50, 128, 256),
    "doe": ("doe", {"weight": 1.0, "start": 0.5}, 0.01, 5e-4, True, ("cosine", ()), 10, 128, 256),
    "sam": ("sam", {"radius": 0.05}, 0.1, 1e-3, True, ("cosine", ()), 200, 128, None),
    "atom": (
        "ntom + divoe + background-class",
        {"kept": 128, "quantile": 0.125},
        0.1,
        1e-4,
        True,
        ("steps", (50, 75, 90)),
        100,
        64,
        512,
    ),
    "divoe": ("divoe + outlier-exposure", {"epsilon": 0.05}, 1e-3, 5e-4, True, ("cosine", ()), 10, 128, 128),
    "aoe": ("aoe + outlier-exposure", {"epsilon": 0.07}, 1e-3, 5e-4, True, ("cosine", ()), 1, 256, 256),
    "diversemix": (
        "diversemix + energy-bounded",
        {"alpha": 4.0, "temperature": 10.0},
        0.2,
        1e-4,
        True,
        ("steps", (50, 75, 90)),
        100,
        128,
        128,
    ),
    "vos": ("vos", {"start": 0.4, "candidates": 10000}, 0.1, 5e-4, True, ("cosine", ()), 100, 128, None),
    "woods": ("woods", {"weight": 1.0, "false_alarms": 0.05}, 1e-3, 5e-4, True, ("cosine", ()), 100, 128, None),
    "sal": ("sal", {"weight": 10.0, "quantile": 0.95}, 1e-3, 5e-4, True, ("cosine", ()), 100, 128, None),
    "scone": ("scone", {"weight": 1.0, "margin": -10.0}, 1e-4, 5e-4, True, ("cosine", ()), 100, 128, None),
}
WITH_ADAM = ("greg", "edl", "entropic-open-set", "objectosphere", "pascl", "cocl")
MEASURED = ("unleashing-mask", "energy-bounded", "balanced-energy", "mos")
COUNTED = ("pascl", "cocl")
WITH_WILD = ("woods", "scone", "sal")
FINE_TUNED = (
    *MEASURED,
    "ish",
    "outlier-exposure",
    "mixoe",
    "jigsaw",
    "oecc",
    "mcd",
    "pfs",
    "dal",
    "doe",
    "divoe",
    "aoe",
    *WITH_WILD,
)


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_recipes_say_what_their_sources_say(name: str) -> None:
    method, settings, rate, decay, nesterov, schedule, epochs, rows, outliers = PUBLISHED[name]
    recipe = Recipe.load(name)
    assert recipe.label == method and dict(recipe.methods[0][1]).items() >= settings.items()
    optimizer = "adamw" if name in WITH_ADAM else "sgd"
    assert (recipe.optimizer, recipe.learning_rate, recipe.momentum) == (optimizer, rate, 0.9)
    assert (recipe.weight_decay, recipe.nesterov) == (decay, nesterov)
    assert (recipe.schedule, recipe.milestones, recipe.epochs, recipe.batch_size) == (*schedule, epochs, rows)
    assert recipe.outlier_batch_size == outliers or outliers is None
    assert recipe.wild_batch_size == (128 if name in WITH_WILD else 64)
    assert recipe.weights == ("openood" if name in FINE_TUNED else None)
    assert bool(recipe.suggest) == (name in (*MEASURED, *COUNTED))


@pytest.mark.parametrize("name", recipes())
def test_every_recipe_says_where_it_comes_from_and_fits_the_classes_it_names(name: str) -> None:
    text = resources.files("oodles").joinpath("recipes", f"{name}.toml").read_text(encoding="utf-8")
    assert text.startswith("# ") and (name in PUBLISHED) != ("chosen" in text)
    assert any(kind in text.split("\n\n")[0] for kind in (".py", ".yml", ".sh")) or name not in PUBLISHED
    written = tomllib.loads(text)
    recipe = Recipe.load(name)
    methods = build_methods(recipe.methods, teacher=nn.Sequential(nn.Flatten(), nn.Linear(4, 3)))
    for entry, method in zip(written.get("methods", []), methods, strict=False):
        assert {key: getattr(method, key) for key in entry} == entry, "a class takes what the file gives it"
    TrainingStep(Classifier(nn.Flatten(), nn.Linear(4, 3)), *methods)


def test_no_hyper_parameter_is_called_name() -> None:
    assert not [card.name for card in cards() if any(parameter.name == "name" for parameter in card.parameters)]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("epoch = 3", "A recipe has no 'epoch': did you mean 'epochs'?"),
        ("epochs = 0", "epochs must be at least 1 to train cross-entropy, got 0"),
        ("epochs = 2.5", "epochs must be a whole number, got 2.5."),
        ("learning_rate = 0", "learning_rate must be finite and above 0, got 0.0."),
        ("learning_rate = nan", "learning_rate must be finite and above 0, got nan."),
        ("weight_decay = -1", "weight_decay must be finite and at least 0, got -1.0."),
        ("nesterov = 1", "nesterov must be true or false, got 1."),
        ("batch_size = true", "batch_size must be a whole number, got True."),
        ('optimizer = "adam"', "optimizer must be one of sgd, adamw, got 'adam'."),
        ("suggest = true", "suggest has nothing to measure for cross-entropy: leave it out."),
        ("suggest = 1", "suggest must be true, false or a list of settings, got 1."),
        ('suggest = ["oecc.a"]\n[[methods]]\nname = "oecc"', "oecc cannot measure 'oecc.a': expected one of oecc.t"),
        ("train_layers = 3", "train_layers must be all, head, last-block or a list of layers' names, got 3."),
        ("train_layers = []", "train_layers must be all, head, last-block or a list of layers' names, got list."),
        ('train_layers = ["head", "fc"]', "train_layers takes 'head' alone, got head, fc: leave one of them out."),
        ('class_weights = "equal"', "class_weights must be balanced or a positive number for each class, got 'equal'."),
        ("class_weights = [1, 0]", "class_weights must be balanced or a positive number for each class, got list."),
        ("warm_up = 60", "warm_up must be below the 60 epochs, got 60: lower it."),
        ("ema = 1", "ema must be below 1, got 1: 0.999 averages over the last thousand steps."),
        ("backbone_learning_rate = 0", "backbone_learning_rate must be finite and above 0, got 0.0."),
        ("patience = -1", "patience must be finite and at least 0, got -1."),
        ('keep = "first"', "keep must be one of last, best, got 'first'."),
        ("milestones = 3", "milestones must be a list of epochs, got 3."),
        (
            'schedule = "steps"',
            "The schedule 'steps' needs milestones, the epochs after which it divides",
        ),
        ("milestones = [1]", "milestones go with the schedule 'steps', got [1] with 'cosine'."),
        ('schedule = "steps"\nmilestones = [9, 60]', "lie between 0 and the 60 epochs, got [9, 60]: give others"),
        ('schedule = "steps"\nmilestones = [9, 9]', "lie between 0 and the 60 epochs, got [9, 9]: give others"),
        ('mixed_precision = "half"', "mixed_precision must be one of no, bf16, fp16, auto, got 'half'."),
        ("methods = 3", "must be [[methods]] tables, each with a name."),
        ("[[methods]]\nalpha = 1", "must be [[methods]] tables, each with a name."),
        ('[[methods]]\nname = "mixupp"', "There is no method 'mixupp': did you mean 'mixup'?"),
        ('[[methods]]\nname = "mixup"\nalfa = 1', "mixup has no 'alfa': did you mean 'alpha'?"),
        ("epochs = ", "is no recipe: Invalid value"),
    ],
)
def test_mistakes_get_a_sentence(text: str, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError) as caught:
        Recipe.load(path)
    assert str(path) in str(caught.value)
    assert sentence in str(caught.value)


def test_unknown_recipes_get_a_suggestion(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="There is no recipe 'mixip': did you mean 'mixup'"):
        Recipe.load("mixip")
    with pytest.raises(FileNotFoundError, match=r"There is no recipe at .*none\.toml"):
        Recipe.load(tmp_path / "none.toml")


def test_changing_one_field_keeps_the_others() -> None:
    assert replace(Recipe.load("mixup"), seed=3).methods == Recipe.load("mixup").methods


def test_suggest_without_anything_to_measure_is_refused() -> None:
    with pytest.raises(ValueError, match="suggest has nothing to measure for mixup"):
        Recipe(methods=(("mixup", {}),), weights="cross-entropy", suggest=True)


MARGINS = ("energy-bounded.margin_in", "energy-bounded.margin_out")


@pytest.mark.parametrize(
    ("methods", "said", "measured"),
    [
        ((("mixup", {}),), None, None),
        ((("mixup", {}),), False, None),
        ((("energy-bounded", {}),), None, True),
        ((("energy-bounded", {"weight": 0.2}),), None, True),
        ((("energy-bounded", {"margin_in": -25.0}),), None, MARGINS[1:]),
        ((("energy-bounded", {"margin_in": -9.0, "margin_out": -3.0}),), None, False),
        ((("energy-bounded", {}),), False, False),
        ((("energy-bounded", {"margin_in": -9.0}),), True, True),
        ((("energy-bounded", {}),), MARGINS, True),
        ((("energy-bounded", {}),), [], False),
        ((("energy-bounded", {"weight": 0.0}),), None, False),
        ((("energy-bounded", {}), ("oecc", {"training_accuracy": 0.9})), None, MARGINS),
    ],
)
def test_what_is_not_given_is_measured(methods: Any, said: Any, measured: Any) -> None:
    recipe = Recipe(methods=methods, suggest=said)
    assert recipe.suggest == measured and type(recipe.suggest) is type(measured)
    assert Recipe.from_dict(tomllib.loads(recipe.to_toml())) == recipe == replace(recipe)
    assert recipe.as_dict()["suggest"] == (list(measured) if isinstance(measured, tuple) else bool(measured))


def test_other_methods_in_a_recipe_are_measured_as_in_a_new_one() -> None:
    assert replace(Recipe(epochs=3), methods=(("energy-bounded", {}),)).suggest is True


@pytest.mark.parametrize(
    ("methods", "score"),
    [
        ({"cross-entropy": {}}, "msp"),
        ({"energy-bounded": {}}, "energy"),
        ({"mixup": {}, "energy-gap": {}}, "energy"),
        ({"energy-gap": {"weight": 0.1}, "mixup": {}}, "energy"),
        ({"background-class": {"weight": 0.0}}, "msp"),
    ],
)
def test_own_score(methods: dict[str, dict[str, float]], score: str) -> None:
    assert own_score(tuple(methods.items())) == score


@pytest.mark.parametrize(
    ("network", "start"),
    [
        ("efficientnet-lite0", "network"),
        ("model.onnx", "network"),
        ("small-cnn", "openood"),
        ("mine:function", "openood"),
    ],
)
def test_no_recipe_trains_over_weights_that_a_network_brings(network: str, start: str) -> None:
    assert settle_recipe("outlier-exposure", None, None, network).weights == start
    assert settle_recipe("outlier-exposure", None, "fast", network).weights == "fast", "as asked for"
    assert settle_recipe("openood", None, None, network).weights == (None if start == "openood" else start)


def test_settings_of_a_network_that_brings_weights_are_measured_after_a_warm_up() -> None:
    """Its last layer may be new."""
    recipe = Recipe(methods=(("energy-bounded", {}),), weights="network", epochs=8, train_layers="head")
    short = warm_up(recipe)
    assert short is not None and short.weights == "network" and short.is_plain
    assert (short.epochs, short.train_layers) == (2, "head")
    assert warm_up(replace(recipe, weights="runs/one")) is None
