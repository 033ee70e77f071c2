"""Prepare a training run: names, initial weights, measured settings, and whether its folder can be used."""

import platform
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from oodles import __version__
from oodles.cards import card
from oodles.classifier import Classifier, device_of
from oodles.contract import Batch, Now, Part
from oodles.data import SUITES, ImageSet, Suite, holds_vectors
from oodles.data.decoded import sample
from oodles.data.image_set import Rows
from oodles.data.names import some
from oodles.data.suite import ENOUGH
from oodles.detection.calibration import choosing_rows
from oodles.files import sha256_of
from oodles.methods import build_methods, method_class
from oodles.networks import FOR_IMAGES, FOR_VECTORS, Network, brings_weights
from oodles.remarks import warn
from oodles.runs.batches import chosen_outliers
from oodles.runs.folder import LOG, RESULT, RUN, STATE, WEIGHTS
from oodles.runs.opened import Run, open_run
from oodles.runs.recipe import OF_NETWORK, Recipe, active_methods, recipes

Measured = Mapping[str, Mapping[str, Any]]
CHECKPOINT = "checkpoint"
"""Among what validation rows chose: the epoch."""
DRAWS = 2
"""The scheme by which random numbers are drawn; raised when the same recipe and seed come to draw others, since a run
that was begun under one scheme and resumed under another would be neither of the two."""
LATER = ("augment",)
"""What earlier versions did not record of a suite."""
MEASURED = 2000
"""Training rows of which outliers are made for measuring."""
WARM_UP = 4
"""The epochs of a training for each one of its warm-up."""


def settle_recipe(
    recipe: Recipe | str | Path, seed: int | None, weights: str | Path | None, network: Network
) -> Recipe:
    """Return the recipe with the seed and the initial weights that training begins with; paths become absolute.

    A network that brings weights starts from them, where the recipe names no file and no run: no other is trained over
    it.
    """
    recipe = recipe if isinstance(recipe, Recipe) else Recipe.load(recipe)
    start = recipe.weights if weights is None else str(weights)
    if weights is None and brings_weights(network) and (start is None or start in recipes()):
        start = OF_NETWORK
    if start is not None and start not in (OF_NETWORK, *recipes()):
        if not Path(start).exists():
            raise FileNotFoundError(
                f"There are no weights at {start}: give a file (.safetensors, .pt), a run folder, a recipe, or the "
                f"word {OF_NETWORK} for those that the network brings."
            )
        start = str(Path(start).resolve())
    if recipe.epochs == 0 and start != OF_NETWORK and not Path(str(start)).is_file():
        raise ValueError(
            f"weights must be a file where nothing is trained, got {start}: evaluate a run as it is, and train a "
            "recipe with its own epochs."
        )
    return replace(recipe, weights=start, seed=recipe.seed if seed is None else seed)


def default_network(data: str | Path | Suite, root: str | Path | Sequence[str | Path] = ()) -> str:
    """Return the network that trains on a suite where none is named."""
    return FOR_VECTORS if holds_vectors(data, root) else FOR_IMAGES


def data_name(data: str | Path | Suite) -> str:
    """Return the name under which a run remembers its data: that of a suite, or an absolute path."""
    if isinstance(data, Suite):
        return data.name
    return str(data) if str(data) in SUITES or not Path(data).exists() else str(Path(data).resolve())


def folder_name(recipe: Recipe, data: str) -> str:
    """Return the name of a run's folder, where none is given."""
    return f"{recipe.label.replace(' ', '')}-{Path(data).name.removesuffix('.toml')}-{recipe.seed}"


def earlier_run(folder: Path, recipe: Recipe, arguments: Mapping[str, Any]) -> Run | None:
    """Open the run that was begun in a folder; return none if nothing was trained there.

    Raises:
        ValueError: where it was begun with other settings, or is unfinished and its version draws other random numbers.
    """
    if not (folder / RUN).is_file() or not any((folder / name).is_file() for name in (STATE, LOG, WEIGHTS, RESULT)):
        return None
    run = open_run(folder)
    if other := run.other_settings({**recipe.as_dict(), "mean": None, "std": None, **arguments}):
        raise ValueError(other)
    draws = run.record.get("draws", 1)
    if not run.result and draws != DRAWS:
        raise ValueError(
            f"{folder} was begun by {'an earlier' if draws < DRAWS else 'a later'} version, which drew other random "
            "numbers, so it cannot be resumed: choose another folder, or delete this one to train again."
        )
    return run


def initial_weights(recipe: Recipe, data: str, contents: Mapping[str, Any], first: Run | None) -> dict[str, str]:
    """Return the start of training: a label and, unless the weights are random, their file with its fingerprint.

    Raises:
        FileNotFoundError: where there are no weights.
        ValueError: for a run that diverged, or whose training rows may be test rows here.
    """
    if recipe.weights is None:
        return {"label": "random", "file": "", "sha256": ""}
    if recipe.weights == OF_NETWORK:  # built later, and then it has a fingerprint
        return {"label": OF_NETWORK, "file": "", "sha256": ""}
    path = Path(recipe.weights)
    run = first or (open_run(path) if path.is_dir() else None)
    if run is not None:
        if run.status == "diverged":
            raise ValueError(f"{run.folder} cannot be started from, it diverged: {run.reason}")
        if run.data == data and run.record["suite"]["sha256"]["train"] != contents["sha256"]["train"]:
            raise ValueError(
                f"{run.folder} was trained on other rows of {data!r}, which may be test rows here: "
                "use the same seed and files for both."
            )
        path = run.folder / WEIGHTS
    if not path.is_file():
        raise FileNotFoundError(f"There are no weights at {path}: has the run finished?")
    return about_weights(path, run.label if run else path.name)


def about_weights(path: Path, label: str) -> dict[str, str]:
    """Describe a file of weights: what it is called, where it is, and its fingerprint."""
    return {"label": label, "file": str(path), "sha256": sha256_of(path)}


def measure_settings(recipe: Recipe, classifier: Classifier, suite: Suite) -> dict[str, dict[str, Any]]:
    """Measure the settings that a recipe wants measured, with outliers and in-distribution rows but no test rows.

    Of the validation rows only the half is used that may choose something, and of outliers that are not in memory so
    many as mean and deviation are measured on. Where methods make outliers, the unknown rows are those that they make
    of training rows too.

    Args:
        recipe: says which.
        classifier: with the initial weights, or those of :func:`warm_up`.
        suite: the data.
    """
    device = device_of(classifier)

    def unknown() -> Iterator[Any]:
        outliers = suite.outliers
        if outliers is not None and recipe.max_outliers != 0:
            chosen = chosen_outliers(outliers, recipe)
            if not isinstance(outliers.images, np.ndarray):  # there may be a million
                every = np.arange(len(outliers)) if chosen is None else chosen
                chosen = every[sample(len(every), ENOUGH)]
            yield from (outliers if chosen is None else outliers.rows(chosen)).in_order(device)
        yield from _made_outliers(recipe, classifier, suite.train, device)

    def rows(part: str) -> Iterator[Rows]:
        images: ImageSet = getattr(suite, part)
        return _choosing(images, device) if part == "validation" else images.in_order(device)

    def measure(name: str) -> dict[str, Any]:
        known = chain.from_iterable(rows(part) for part in card(name).measured_on)
        measured = method_class(name).suggest(classifier, known, unknown())
        return {key: value for key, value in measured.items() if recipe.is_measured(name, key)}

    return {name: measure(name) for name in methods_to_measure(recipe)}


def _made_outliers(recipe: Recipe, classifier: Classifier, train: ImageSet, device: torch.device) -> Iterator[Any]:
    """Give batches of outliers as methods make them of training rows."""
    makers = [(name, given) for name, given in active_methods(recipe.methods) if "outliers" in card(name).adds]
    for method in build_methods(makers):
        for step, (images, labels) in enumerate(train.evenly(MEASURED).in_order(device)):
            now = Now(classifier, step=step, epoch=0, epochs=1, seed=(recipe.seed,), name=method.name)
            yield method.change_batch(Batch({"id": Part(images, labels)}), now)["outliers"].inputs


def _choosing(validation: ImageSet, device: torch.device) -> Iterator[Rows]:
    """Give batches of the validation rows that may choose something."""
    left = torch.from_numpy(choosing_rows(len(validation)))
    for images, labels in validation.in_order(device):
        chosen, left = left[: len(labels)].to(labels.device), left[len(labels) :]
        if bool(chosen.any()):
            yield images[chosen], labels[chosen]


def chosen_on_validation(recipe: Recipe) -> list[str]:
    """Return what validation rows choose, for which half of them are used; the other half is kept for thresholds."""
    measured = [name for name in methods_to_measure(recipe) if "validation" in card(name).measured_on]
    settings = [f"{name}.{key}" for name in measured for key in card(name).suggests if recipe.is_measured(name, key)]
    return [*settings, *([CHECKPOINT] if recipe.chooses_epoch else [])]


def kept_entry(log: Sequence[Mapping[str, Any]], recipe: Recipe) -> Mapping[str, Any] | None:
    """Return the entry of a log that tells of the epoch whose weights are kept; none of an empty log."""
    if recipe.keep == "best":
        return max(log, key=lambda entry: entry.get("choosing_accuracy", 0.0), default=None)
    return log[-1] if log else None


def check_choice(recipe: Recipe, suite: Suite) -> None:
    """Refuse to choose an epoch where a half of the validation rows is none."""
    if recipe.chooses_epoch and len(suite.validation) < 2:
        what = "keep='best'" if recipe.keep == "best" else "patience"
        raise ValueError(f"{what} needs validation rows to choose by, and {suite.name!r} has too few: leave it out.")


def class_weights(recipe: Recipe, suite: Suite) -> tuple[float, ...] | None:
    """Return a weight for each class, where a recipe has some: balanced ones are n / (C · n_c) of n training rows."""
    if recipe.class_weights is None or not isinstance(recipe.class_weights, str):
        return recipe.class_weights
    counts = np.bincount(suite.train.labels, minlength=len(suite.classes)).clip(min=1)  # a class may have no rows
    return tuple((len(suite.train) / (len(counts) * counts)).tolist())


def methods_to_measure(recipe: Recipe) -> list[str]:
    """Return the methods some of whose settings are measured before training."""
    names = [name for name, _ in active_methods(recipe.methods)]
    return [name for name in names if any(recipe.is_measured(name, setting) for setting in card(name).suggests)]


def warm_up(recipe: Recipe) -> Recipe | None:
    """Return the short plain training on whose weights settings are measured where initial weights are random.

    So may be the last layer of a network that brings weights. It takes a quarter of the epochs. Training itself begins
    with the initial weights all the same, so that it is as long as plain training.
    """
    if recipe.weights not in (None, OF_NETWORK) or not methods_to_measure(recipe):
        return None
    epochs = max(1, recipe.epochs // WARM_UP)
    rise = recipe.warm_up * epochs / recipe.epochs
    plain = replace(recipe, methods=(), suggest=None, keep="last", patience=0, teacher=None)
    return replace(plain, schedule="cosine", milestones=(), epochs=epochs, warm_up=rise)


def record(
    folder: Path,
    recipe: Recipe,
    arguments: Mapping[str, Any],
    contents: Mapping[str, Any],
    initial: Mapping[str, str],
    teacher: Mapping[str, str] | None,
    suggested: Measured,
    warm: Mapping[str, str] | None,
    accelerator: Accelerator,
    precision: str,
) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    device = accelerator.device
    return {
        "draws": DRAWS,
        "label": recipe.label,
        "command": _command(folder, recipe, arguments),
        "recipe": recipe.as_dict(),
        "arguments": dict(arguments),
        "initial": dict(initial),
        **({} if teacher is None else {"teacher": dict(teacher)}),
        "suggested": {name: dict(values) for name, values in suggested.items()},
        "validation_chose": chosen_on_validation(recipe),
        **({} if warm is None else {"warm_up": dict(warm)}),
        "suite": dict(contents),
        "environment": {
            "started": datetime.now(UTC).isoformat(timespec="seconds"),
            "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
            "mixed_precision": precision,
            "processes": accelerator.num_processes,
            "threads": torch.get_num_threads(),
            "platform": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "oodles": __version__,
            "torch": str(torch.__version__),  # with the build, cpu or CUDA's
            **{name: version(name) for name in ("numpy", "accelerate", "safetensors", "scikit-learn")},
        },
    }


def check_same_data(earlier: Run, contents: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose data has changed, as far as they are known; see :func:`about_suite`."""
    before = earlier.record["suite"]
    if _rounded(before) != _rounded({k: value for k, value in contents.items() if k in before or k not in LATER}):
        known, here = before.get("sha256", {}), contents["sha256"]
        changed = [name for name in here if name in known and known[name] != here[name]]
        sets = f" ({some(changed)} changed)" if changed else ""
        raise ValueError(f"{earlier.folder} was begun with other data of the same name{sets}: choose another folder.")


def _rounded(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is known of data without the last digits of what was measured, which depend on the order of sums."""
    return {
        **about,
        **{key: [float(f"{value:.9g}") for value in about[key]] for key in ("mean", "std") if key in about},
    }


def check_unchanged(earlier: Run, now: Mapping[str, Any]) -> None:
    """Refuse to resume a run whose initial weights or teacher have changed, or on hardware of another precision."""
    if earlier.record["initial"].get("sha256") != now["initial"]["sha256"]:
        raise ValueError(f"{earlier.folder} was begun with other weights of the same name: choose another folder.")
    if earlier.record.get("teacher", {}).get("sha256") != now.get("teacher", {}).get("sha256"):
        raise ValueError(f"{earlier.folder} was begun with another teacher of the same name: choose another folder.")
    before, here = (about["environment"]["mixed_precision"] for about in (earlier.record, now))
    if before != here:
        raise ValueError(
            f"{earlier.folder} was begun in precision {before!r}, and 'auto' means {here!r} here: "
            "resume it where it was begun, or choose another folder."
        )


def resumed(earlier: Run, now: Mapping[str, Any]) -> dict[str, Any]:
    """Return the record of a run that goes on, with what differs from the machine that it was begun on."""
    before, here = (about["environment"] for about in (earlier.record, now))
    differing = {key: value for key, value in here.items() if key != "started" and before.get(key, value) != value}
    if not differing:
        return dict(earlier.record)
    words = ", ".join(f"{key.replace('_', ' ')} {value} instead of {before[key]}" for key, value in differing.items())
    warn(f"The run was resumed with {words}: its weights may differ a little from those of an undisturbed run.")
    again = [*earlier.record.get("resumed", ()), {"started": here["started"], **differing}]
    return {**earlier.record, "resumed": again}


def about_suite(suite: Suite) -> dict[str, Any]:
    """Describe a run's data: names, sizes, statistics, augmentation, and a fingerprint of every set."""
    sets = suite.sets()
    return {
        "name": suite.name,
        "classes": list(suite.classes),
        "input_shape": list(suite.input_shape),
        **({} if suite.resize is None else {"resize": suite.resize}),
        **({"draft": True} if suite.draft else {}),
        **({} if suite.imbalance is None else {"imbalance": suite.imbalance}),
        **({} if suite.features is None else {"features": suite.features.as_dict()}),
        **({"outlier_shares": list(map(list, suite.outlier_shares))} if suite.outlier_shares else {}),
        "mean": list(suite.mean),
        "std": list(suite.std),
        "sizes": {name: len(images) for name, images in sets.items()},
        "sha256": {name: images.fingerprint() for name, images in sets.items()},
        "augment": {
            name: {**images.augment.as_dict(), "seed": images.seed}
            for name, images in sets.items()
            if name in ("train", "outliers", "wild")
        },
        "notes": dict(suite.notes),
    }


def _command(folder: Path, recipe: Recipe, arguments: Mapping[str, Any]) -> str:
    """Write the command line that repeats a run; it needs nothing from the run's folder, which it fills anew."""
    words = ["oodles", "train"]
    for name, given in recipe.methods:
        if isinstance(recipe.suggest, tuple):  # what is measured is what the line does not give
            given = {key: value for key, value in given.items() if not recipe.is_measured(name, key)}
        words += [name, *(word for key, value in given.items() for word in _flag(key, value)), "+"]
    settings = {key: value for key, value in recipe.as_dict().items() if key != "methods"}
    settings |= {"suggest": recipe.suggest is True, "no_suggest": recipe.suggest is False}
    for name in ("nesterov", "decay_exempt", "balanced_sampling"):  # words, no switches: recipes may have either
        settings[name] = str(settings[name])
    flags = {**settings, **arguments, "to": str(folder)}
    return shlex.join([*words[:-1], *(word for key, value in flags.items() for word in _flag(key, value))])


def _flag(name: str, value: Any) -> list[str]:
    """Write a setting as words of the command line."""
    flag = f"--{name.replace('_', '-')}"
    if value is None or value is False:
        return []
    if isinstance(value, tuple):  # a method's setting of several numbers, which one flag takes together
        return [flag, *map(str, value)]
    if isinstance(value, list):
        return [word for item in value for word in (flag, str(item))]
    return [flag] if value is True else [flag, str(value)]
