"""A recipe: methods and the schedule that they are trained with, in TOML or as a value.

What the methods of a recipe need, bring and score, and whether they act, is answered here and nowhere else.
"""

import json
import math
import tomllib
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, fields
from importlib import resources
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

from oodles.cards import card
from oodles.facts import CHOICE, INPUTS, ROLES
from oodles.spelling import shown, suggestion

Methods = tuple[tuple[str, Mapping[str, Any]], ...]
PLAIN = "cross-entropy"
BALANCED = "balanced"
ALONE = ("all", "head", "last-block")
"""Words for what trains that stand for themselves."""
LATER = (
    *(
        "train_layers",
        "batch_norm",
        "backbone_learning_rate",
        "head_learning_rate",
        "warm_up",
        "decay_exempt",
        "clip_gradients",
    ),
    *("ema", "keep", "patience", "class_weights", "balanced_sampling", "teacher", "max_outliers", "wild_batch_size"),
)
"""Settings that earlier versions did not have."""
_FROM_ZERO = (
    *("seed", "epochs", "momentum", "weight_decay", "warm_up", "clip_gradients", "ema", "patience", "max_outliers"),
)
"""The settings that may be 0."""
OF_NETWORK = "network"
"""In place of a file of weights: those that the network brings."""


@dataclass(frozen=True)
class Recipe:
    """The methods and the schedule of a training run: everything that the settings of a paper fix.

    Args:
        methods: names of methods with their settings, in any order; none is plain cross-entropy.
        optimizer: ``sgd`` or ``adamw``.
        learning_rate: that the schedule starts from, or rises to.
        momentum: of SGD.
        nesterov: use Nesterov's momentum.
        weight_decay: of every parameter for which no method sets another.
        schedule: ``cosine`` falls from the learning rate to zero over the whole training; ``one-cycle`` rises to it in
            a straight line over the first quarter and then falls to zero; ``steps`` divides it by ten after each
            of the ``milestones``; ``constant`` stays.
        milestones: epochs, for ``steps``.
        epochs: passes over the in-distribution training rows; 0 trains nothing, and tests the weights that are given.
        batch_size: in-distribution rows per batch, over all processes together.
        outlier_batch_size: outliers per batch, over all processes together.
        max_outliers: so many of the data's outliers, drawn by the seed, are trained on, and 0 for none of them; all
            unless given.
        wild_batch_size: wild rows per batch, over all processes together.
        mixed_precision: of the forward pass, ``no``, ``bf16`` or ``fp16``; losses are computed in float32 throughout.
            ``auto`` is bf16 where the hardware computes in it, and ``no`` elsewhere.
        seed: of every random number, and of the split of an embedded suite.
        weights: what training starts from: a file of weights, the folder of another run, ``network`` for the weights
            that the network brings, or the name of a recipe, which is then trained first; random weights unless given.
        suggest: which of the methods' data-dependent settings, such as energy margins, are measured before training,
            on the initial weights, or where these are random or a network brings them, on those of a short plain
            training. Unless said, those that ``methods`` do not give; then it becomes ``False`` for none, ``True`` for
            all, or else the list of their names, as ``energy-bounded.margin_in``; it stays ``None`` where there is
            nothing to measure. ``False`` asks for the papers' numbers, ``True`` measures also what is given.
        train_layers: what trains: ``all``, the ``head``, the ``last-block`` with all behind it, or the names of layers,
            which train beside the head; see :meth:`oodles.Classifier.train_only`. The rest stays as it is: weights,
            statistics of batch norms, and no dropout.
        batch_norm: of the layers that train: in ``training`` they normalise by each batch and move their means and
            variances; ``frozen`` they keep those that the initial weights have, and normalise by these.
        backbone_learning_rate: that of the backbone's parameters, as a multiple of the learning rate.
        head_learning_rate: that of all other parameters, likewise.
        warm_up: epochs, also parts of one, over which the learning rate rises in a straight line before it follows the
            schedule; with ``one-cycle`` in place of the first quarter.
        decay_exempt: leave biases and the parameters of norms, which are vectors, out of weight decay.
        clip_gradients: the norm to which larger gradients are scaled, all together; 0 leaves them as they are.
        ema: the decay d of a moving average of the weights, w ← d·w + (1 − d)·weights after each step of the optimizer,
            which is tested and kept in place of the last weights; of the first steps d is at most (1 + n) / (10 + n).
            0 for none.
        keep: the weights of the ``last`` epoch, or of the ``best`` one: the first with the highest accuracy on the half
            of the validation rows that may choose something.
        patience: so many epochs in a row without a higher accuracy there end training; 0 for no end but the last epoch.
        class_weights: ``balanced``, in inverse proportion to the classes' training rows, or a positive number for each
            class; see :class:`oodles.TrainingStep`.
        balanced_sampling: draw as many rows of each class in every epoch, which has as many rows as without; those of
            small classes are repeated, those of large ones are others in each epoch.
        teacher: what methods such as ``distillation`` learn from: the folder of a run, a file of weights of the network
            that trains, or a network that brings its weights, see :func:`oodles.train`.

    Raises:
        ValueError: for unknown methods or settings, and for values that make no sense.
        TypeError: for values of another type.
    """

    methods: Methods = ()
    optimizer: Literal["sgd", "adamw"] = "sgd"
    learning_rate: float = 0.02
    momentum: float = 0.9
    nesterov: bool = True
    weight_decay: float = 5e-4
    schedule: Literal["cosine", "one-cycle", "steps", "constant"] = "cosine"
    milestones: tuple[int, ...] = ()
    epochs: int = 60
    batch_size: int = 64
    outlier_batch_size: int = 64
    max_outliers: int | None = None
    mixed_precision: Literal["no", "bf16", "fp16", "auto"] = "no"
    seed: int = 0
    weights: str | None = None
    suggest: bool | tuple[str, ...] | None = None
    train_layers: str | tuple[str, ...] = "all"
    batch_norm: Literal["training", "frozen"] = "training"
    backbone_learning_rate: float = 1.0
    head_learning_rate: float = 1.0
    warm_up: float = 0.0
    decay_exempt: bool = False
    clip_gradients: float = 0.0
    ema: float = 0.0
    keep: Literal["last", "best"] = "last"
    patience: int = 0
    class_weights: str | tuple[float, ...] | None = None
    balanced_sampling: bool = False
    teacher: str | None = None
    wild_batch_size: int = 64

    def __post_init__(self) -> None:
        _check_methods(self.methods)
        given_methods = self.methods
        methods = tuple((name, _with_defaults(name, given)) for name, given in given_methods)
        object.__setattr__(self, "methods", methods or ((PLAIN, _with_defaults(PLAIN, {})),))
        for setting in fields(self):
            if setting.name not in ("methods", "milestones", "suggest", "train_layers", "class_weights"):
                value = _check_value(setting.name, setting.type, getattr(self, setting.name))
                object.__setattr__(self, setting.name, value)
        if self.epochs == 0 and not (self.is_plain and self.weights):
            raise ValueError(
                f"epochs must be at least 1 to train {self.label}, got 0: with 0, weights of a plain classifier are "
                "tested as they are, so give weights and no methods."
            )
        object.__setattr__(self, "milestones", _check_milestones(self.milestones, self.schedule, self.epochs))
        object.__setattr__(self, "suggest", self._check_suggest(given_methods))
        object.__setattr__(self, "train_layers", _check_layers(self.train_layers))
        object.__setattr__(self, "class_weights", _check_class_weights(self.class_weights))
        if self.warm_up and self.warm_up >= self.epochs:
            raise ValueError(f"warm_up must be below the {self.epochs} epochs, got {self.warm_up:g}: lower it.")
        if self.ema >= 1:
            raise ValueError(f"ema must be below 1, got {self.ema:g}: 0.999 averages over the last thousand steps.")

    def _check_suggest(self, given_methods: Methods) -> bool | tuple[str, ...] | None:
        """Return what is measured, see the class: unless said, what the methods were not given; none for no such thing.

        Other methods in place of those that have nothing to measure are then measured, as in a new recipe.
        """
        measurable = _measurable(self.methods)
        chosen = self.suggest
        if not measurable and not chosen:
            return None
        if chosen is None:
            given = {f"{name}.{key}" for name, settings in given_methods for key in settings}
            chosen = tuple(name for name in _measurable(active_methods(self.methods)) if name not in given)
        if isinstance(chosen, bool):
            if chosen and not measurable:
                raise ValueError(f"suggest has nothing to measure for {self.label}: leave it out.")
            return chosen
        if not isinstance(chosen, list | tuple) or not all(isinstance(name, str) for name in chosen):
            raise TypeError(f"suggest must be true, false or a list of settings, got {chosen!r}.")
        for name in chosen:
            if name not in measurable:
                raise ValueError(f"{self.label} cannot measure {name!r}{suggestion(name, measurable)}")
        return tuple(chosen) if 0 < len(set(chosen)) < len(measurable) else bool(chosen)

    def is_measured(self, method: str, setting: str) -> bool:
        """Say whether a method's setting is measured before training."""
        return f"{method}.{setting}" in self.suggest if isinstance(self.suggest, tuple) else bool(self.suggest)

    @property
    def label(self) -> str:
        """Return the methods' names, as tables show them."""
        return " + ".join(name for name, _ in self.methods)

    @property
    def chooses_epoch(self) -> bool:
        """Say whether validation rows choose the epoch whose weights are kept, or in which training ends."""
        return self.keep == "best" or self.patience > 0

    @property
    def is_plain(self) -> bool:
        """Say whether this is cross-entropy training and nothing else."""
        return are_plain(self.methods)

    def as_dict(self) -> dict[str, Any]:
        """Return all settings as plain values, as in TOML and JSON; the inverse of :meth:`from_dict`."""
        values = {setting.name: getattr(self, setting.name) for setting in fields(self) if setting.name != "methods"}
        values["suggest"] = self.suggest if isinstance(self.suggest, tuple) else bool(self.suggest)
        values = _plain(values)
        return {**values, "methods": [{"name": name, **_plain(settings)} for name, settings in self.methods]}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Recipe":
        """Build a recipe from plain values; what is left out keeps its default.

        Raises:
            ValueError: for a key that no recipe has.
        """
        if not isinstance(values, Mapping):
            raise TypeError(f"A recipe must be a dictionary of settings, got {shown(values)}.")
        known = [setting.name for setting in fields(cls)]
        for key in values:
            if key not in known:
                raise ValueError(f"A recipe has no {key!r}{suggestion(key, known)}")
        entries = values.get("methods", [])
        if not isinstance(entries, list) or not all(isinstance(entry, dict) and "name" in entry for entry in entries):
            raise ValueError("The methods of a recipe must be [[methods]] tables, each with a name.")
        methods = tuple((entry["name"], {key: entry[key] for key in entry if key != "name"}) for entry in entries)
        return cls(**{**values, "methods": methods})

    @classmethod
    def load(cls, name_or_path: str | Path) -> "Recipe":
        """Read a recipe that comes with the package, by name, or one of your own, by the path of its TOML file.

        Raises:
            ValueError: for an unknown name, or a file that is no recipe.
            FileNotFoundError: for a path where there is no file.
        """
        name = str(name_or_path)
        if name.endswith(".toml"):
            if not Path(name).is_file():
                raise FileNotFoundError(f"There is no recipe at {name}: give the path of a TOML file.")
            text = Path(name).read_text(encoding="utf-8", errors="replace")  # a mistake in TOML, mostly
        elif name in (bundled := _bundled()):
            text = bundled[name]
        else:
            raise ValueError(f"There is no recipe {name!r}{suggestion(name, bundled)}")
        try:
            return cls.from_dict(tomllib.loads(text))
        except (ValueError, TypeError, RecursionError) as error:  # a mistake in TOML itself is a ValueError too
            raise ValueError(f"{name} is no recipe: {error}") from error

    def to_toml(self) -> str:
        """Write the recipe as TOML, complete."""
        values = self.as_dict()
        tables = [["", "[[methods]]", *_lines(method)] for method in values.pop("methods")]
        return "\n".join([*_lines(values), *(line for table in tables for line in table), ""])


def active_methods(methods: Methods) -> Methods:
    """Return the methods that change training: one at strength zero does not, needs nothing and brings nothing."""
    return tuple((name, settings) for name, settings in methods if card(name).acts({**_defaults(name), **settings}))


def are_plain(methods: Methods) -> bool:
    """Say whether methods come to cross-entropy training and nothing else."""
    return all(name == PLAIN for name, _ in methods) and not active_methods(methods)


def own_score(methods: Methods) -> str:
    """Return the score that the methods' papers use; of several, the last one that is not ``msp``."""
    scores = [card(name).score for name, _ in active_methods(methods)]
    return next((score for score in reversed(scores) if score != "msp"), "msp")


def changes_inputs(methods: Methods) -> str | None:
    """Return the first method that changes inputs, makes others, or looks into the backbone; none where none does.

    With the others alone, a network gets the same inputs in every epoch.
    """
    for name, _ in active_methods(methods):
        facts = card(name)
        if facts.adds or facts.differentiates or "images" in facts.needs or "change_hidden" in facts.moments:
            return name
        if {INPUTS, "outliers", "weights"} & set(facts.replaces):
            return name
    return None


def scores_brought(methods: Methods) -> list[str]:
    """Return the scores that the methods bring, in their order."""
    return list(dict.fromkeys(score for name, _ in active_methods(methods) for score in card(name).brings))


def trained_away(methods: Methods, scores: Iterable[str]) -> list[str]:
    """Say which of some scores see little of what methods have trained away, a sentence for each method."""
    sentences = []
    for name, _ in active_methods(methods):
        if blind := [score for score in scores if score in card(name).trains_away]:
            see = "sees" if len(blind) == 1 else "see"
            sentences.append(f"{', '.join(blind)} {see} little, since {name} trains away what is measured there.")
    return sentences


def needs_outliers(methods: Methods) -> bool:
    """Say whether any of the methods needs outliers from the data."""
    return "outliers" in roles_needed(methods)


def roles_needed(methods: Methods) -> dict[str, str]:
    """Return the roles that the data must have rows of besides the known ones, each with the first method to need it.

    What another method makes the data need not have.
    """
    active = [card(name) for name, _ in active_methods(methods)]
    made = {role for method in active for role in method.adds if role not in method.needs}
    wanted = [(role, method.name) for role in ROLES if role not in made for method in active if role in method.needs]
    return dict(reversed(wanted))


def roles_used(recipe: Recipe) -> list[str]:
    """Return the roles besides the known one on whose rows a run trains, where the data have some."""
    active = [card(name) for name, _ in active_methods(recipe.methods)]
    used = [role for role in ROLES if any(role in method.needs for method in active)]
    return [role for role in used if role != "outliers" or recipe.max_outliers != 0]


def check_needs(recipe: Recipe, data: str, *, roles: Container[str], vectors: bool = False) -> None:
    """Refuse methods whose needs are not met: initial weights, a teacher, outliers or wild rows of the data, images.

    Args:
        recipe: what is to be trained.
        data: its name.
        roles: ``outliers`` and ``wild``, where it has them.
        vectors: whether its rows are feature vectors, and no images.
    """
    check_weights(recipe)
    check_teacher(recipe)
    for method, _ in active_methods(recipe.methods):
        if vectors and "features" not in card(method).takes:
            raise ValueError(
                f"{method} needs images, and the rows of {data!r} are feature vectors: oodles methods --for features "
                "lists those that take them."
            )
    for role, name in roles_needed(recipe.methods).items():
        if role == "outliers" and role in roles and recipe.max_outliers == 0:
            raise ValueError(
                f"{name} needs outliers, and max_outliers = 0 leaves none: add generated-outliers, or leave it out."
            )
        if role not in roles:
            made = ", or generated-outliers to the methods" if role == "outliers" else ""
            raise ValueError(
                f"{name} needs {role}, and the data {data!r} has none: add a set called {role} to it{made}."
            )
    check_candidates(recipe)


def check_candidates(recipe: Recipe) -> None:
    """Refuse methods that keep more of a batch's outliers than come with it, where no method makes others."""
    active = active_methods(recipe.methods)
    if any("outliers" in card(name).adds for name, _ in active):
        return
    for name, settings in active:
        kept = {**_defaults(name), **settings}.get("kept", 0) if CHOICE in card(name).replaces else 0
        if kept > recipe.outlier_batch_size:
            raise ValueError(
                f"{name} keeps {kept} outliers of a batch that has {recipe.outlier_batch_size}: raise "
                "outlier_batch_size, or lower kept."
            )


def check_weights(recipe: Recipe) -> None:
    """Refuse methods that fine-tune, and norms that stay, where training would begin with random weights."""
    if recipe.batch_norm == "frozen" and recipe.weights is None:
        raise ValueError(
            "batch_norm = frozen keeps the means and variances of the weights that training starts from, and these are "
            "random: say which weights to start from, or leave it out."
        )
    for name, _ in active_methods(recipe.methods):
        if "weights" in card(name).needs and recipe.weights is None:
            raise ValueError(
                f"{name} fine-tunes a trained classifier, and training would start from random weights: "
                f"say which weights to start from, or take the recipe {name!r}."
            )


def needs_teacher(methods: Methods) -> bool:
    """Say whether any of the methods learns from a teacher."""
    return any("teacher" in card(name).needs for name, _ in active_methods(methods))


def check_teacher(recipe: Recipe) -> None:
    """Refuse methods that learn from a teacher where there is none, and a teacher from which nothing learns."""
    pupils = [name for name, _ in recipe.methods if "teacher" in card(name).needs]
    if recipe.teacher is None and needs_teacher(recipe.methods):
        raise ValueError(
            f"{pupils[0]} needs a teacher, got none: name the folder of a run, a file of weights, or a network."
        )
    if recipe.teacher is not None and not pupils:
        raise ValueError(
            f"{recipe.label} learns from no teacher, got {recipe.teacher!r}: leave it out, or add distillation."
        )


def merge_settings(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Merge settings of a recipe, later ones winning; a schedule other than ``steps`` drops earlier milestones."""
    settings: dict[str, Any] = {}
    for layer in layers:
        if layer.get("schedule", "steps") != "steps":
            settings.pop("milestones", None)
        settings |= layer
    return settings


def _measurable(methods: Methods) -> tuple[str, ...]:
    """Return the names of the settings that methods can measure, as ``energy-bounded.margin_in``."""
    return tuple(f"{name}.{setting}" for name, _ in methods for setting in card(name).suggests)


def recipes() -> tuple[str, ...]:
    """Return the names of the recipes that come with the package."""
    return tuple(_bundled())


def _bundled() -> dict[str, str]:
    files = sorted(resources.files("oodles").joinpath("recipes").iterdir(), key=lambda file: file.name)
    return {f.name.removesuffix(".toml"): f.read_text(encoding="utf-8") for f in files if f.name.endswith(".toml")}


def _lines(values: Mapping[str, Any]) -> list[str]:
    """Write values as TOML, which spells strings, numbers and booleans as JSON does."""
    return [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in values.items() if value is not None]


def _check_methods(methods: Any) -> None:
    """Refuse what is no pairs of a method's name and its settings."""
    for entry in methods if isinstance(methods, list | tuple) else (methods,):
        name, settings = entry if isinstance(entry, list | tuple) and len(entry) == 2 else (entry, None)
        words = (name, *settings) if isinstance(settings, Mapping) else (None,)
        if not all(isinstance(word, str) for word in words):
            raise TypeError(
                f"methods must be pairs of a name and a dictionary of settings, got {shown(entry)}: "
                'write (("mixup", {"alpha": 0.2}),).'
            )


def _defaults(name: str) -> dict[str, Any]:
    return {parameter.name: parameter.default for parameter in card(name).parameters}


def _with_defaults(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return all hyper-parameters of a method: those given, the others at their defaults."""
    defaults = _defaults(name)
    for key in given:
        if key not in defaults:
            raise ValueError(f"{name} has no {key!r}{suggestion(key, defaults)}")
    return {key: _as(type(default), given.get(key, default)) for key, default in defaults.items()}


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Turn tuples into lists, which is what JSON and TOML give back."""
    return {key: list(value) if isinstance(value, tuple) else value for key, value in settings.items()}


def _as(kind: type, value: Any) -> Any:
    """Turn 1 into 1.0 where a float is meant, so that the two are one setting, and lists into tuples."""
    if kind is tuple and isinstance(value, list):
        return tuple(value)
    if kind is not float or not isinstance(value, int) or isinstance(value, bool):
        return value
    return float(value) if abs(value) < 2**1000 else math.inf  # which no setting may be


def _check_milestones(given: Any, schedule: str, epochs: int) -> tuple[int, ...]:
    if not isinstance(given, list | tuple) or not all(type(epoch) is int for epoch in given):
        raise TypeError(f"milestones must be a list of epochs, got {shown(given)}.")
    if schedule == "steps" and not given:
        raise ValueError("The schedule 'steps' needs milestones, the epochs after which it divides by ten, got none.")
    if schedule != "steps" and given:
        raise ValueError(f"milestones go with the schedule 'steps', got {list(given)} with {schedule!r}.")
    if list(given) != sorted(set(given)) or (given and not 0 < given[0] <= given[-1] < epochs):
        raise ValueError(
            f"milestones must rise and lie between 0 and the {epochs} epochs, got {list(given)}: "
            "give others, or another schedule."
        )
    return tuple(given)


def _check_layers(given: Any) -> str | tuple[str, ...]:
    """Return what trains: a word, or the names of layers."""
    names = (given,) if isinstance(given, str) else tuple(given) if isinstance(given, list | tuple) else (None,)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise TypeError(f"train_layers must be all, head, last-block or a list of layers' names, got {shown(given)}.")
    if len(names) > 1 and (words := [name for name in names if name in ALONE]):
        raise ValueError(f"train_layers takes {words[0]!r} alone, got {', '.join(names)}: leave one of them out.")
    return names[0] if names[0] in ALONE else names


def _check_class_weights(given: Any) -> str | tuple[float, ...] | None:
    """Return the weights of classes as numbers, or the word that stands for them."""
    if given is None or given in (BALANCED, [BALANCED], (BALANCED,)):
        return given if given is None else BALANCED
    numbers = given if isinstance(given, list | tuple) else ()
    if not numbers or not all(isinstance(number, int | float) and 0 < number < math.inf for number in numbers):
        raise ValueError(f"class_weights must be {BALANCED} or a positive number for each class, got {shown(given)}.")
    return tuple(float(number) for number in numbers)


def _check_value(name: str, kind: Any, value: Any) -> Any:
    """Return the value of a setting as its type; refuse one that makes no sense."""
    if get_origin(kind) is Literal:
        if not isinstance(value, str) or value not in get_args(kind):
            raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}, got {shown(value)}.")
        return value
    value = _as(kind, value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        expected = {int: "a whole number", int | None: "a whole number", float: "a number", bool: "true or false"}.get(
            kind, "text"
        )
        raise TypeError(f"{name} must be {expected}, got {shown(value)}.")
    low = 0 if name in _FROM_ZERO else 1 if kind is int else math.ulp(0.0)
    if isinstance(value, int | float) and not isinstance(value, bool) and not low <= value < math.inf:
        bound = "above 0" if low == math.ulp(0.0) else f"at least {low}"
        raise ValueError(f"{name} must be finite and {bound}, got {shown(value)}.")
    return value
