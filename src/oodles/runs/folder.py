"""A run folder: everything about one training run, readable with other tools, and whole after any crash.

=====================  ==================================================================================
``run.json``           settings, suite, versions, seed, device, and the command that repeats the run
``recipe.toml``        the recipe by itself, ready to be used again
``log.jsonl``          one line per epoch: the mean of every named term, validation accuracy, seconds
``state.safetensors``  what resuming needs: tensors, and counters as JSON in the file's metadata
``weights.safetensors``  the trained classifier
``scores.npz``         outlier scores and predictions of every row, by set
``result.json``        how it ended; written last
=====================  ==================================================================================

Every file is whole or not there (see :mod:`oodles.files`), and nothing in the folder is unpickled.
"""

import json
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oodles.methods import build_methods, change_classifier_by
from oodles.metrics import ood_metrics
from oodles.runs.recipe import Recipe

if TYPE_CHECKING:
    from oodles.classifier import Classifier

RUN, RECIPE, LOG, STATE = "run.json", "recipe.toml", "log.jsonl", "state.safetensors"
WEIGHTS, SCORES, RESULT = "weights.safetensors", "scores.npz", "result.json"
Metrics = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""By known rows (``test``, ``validation``), out-of-distribution set, score and metric."""
_NOT_THE_RECIPE = ("seed", "data", "root", "weights", "device")


@dataclass(frozen=True, eq=False)
class Run:
    """The content of a run folder; see :func:`open_run`."""

    folder: Path
    record: Mapping[str, Any]
    """``run.json``."""
    log: tuple[Mapping[str, Any], ...]
    """One entry per epoch."""
    result: Mapping[str, Any]
    """``result.json``, or nothing while the run has not ended."""

    @property
    def status(self) -> str:
        """Return ``finished``, ``diverged``, or ``unfinished``."""
        return str(self.result.get("status", "unfinished"))

    @property
    def reason(self) -> str:
        """Say why the run diverged; empty otherwise."""
        return str(self.result.get("reason", ""))

    @cached_property
    def recipe(self) -> Recipe:
        """Return the recipe as given; measured settings are in :attr:`suggested`."""
        return Recipe.from_dict(self.record["recipe"])

    @property
    def label(self) -> str:
        """Return the methods' names."""
        return self.recipe.label

    @property
    def methods(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return names and settings of the methods."""
        return self.recipe.methods

    @property
    def suggested(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the settings that were measured on the initial weights, by method."""
        suggested: Mapping[str, Mapping[str, Any]] = self.record["suggested"]
        return suggested

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def data(self) -> str:
        """Return the suite: its name, or the path of its folder."""
        return str(self.arguments["data"])

    @property
    def arguments(self) -> Mapping[str, Any]:
        """Return the arguments besides the recipe: data and its root, network, accumulation, device, …"""
        arguments: Mapping[str, Any] = self.record["arguments"]
        return arguments

    @property
    def initial_weights(self) -> str:
        """Say what training started from: ``random``, the label of another run, or a file name."""
        return str(self.record["initial"]["label"])

    @property
    def settings(self) -> dict[str, Any]:
        """Return all choices but data, seed, device and paths; runs with the same ones are one row of a comparison."""
        chosen = {**self.recipe.as_dict(), **self.arguments, "initial weights": self.initial_weights}
        return {key: value for key, value in chosen.items() if key not in _NOT_THE_RECIPE}

    def other_settings(self, wanted: Mapping[str, Any], besides: Collection[str] = ()) -> str:
        """Say in a sentence how this run's settings differ from those wanted; return nothing where they agree.

        Args:
            wanted: settings and arguments.
            besides: names that may differ; ``root`` always may, since data are compared by content.
        """
        there = {**self.recipe.as_dict(), **self.arguments}
        compared = [key for key in wanted if key != "root" and key not in besides]
        different = [key for key in compared if wanted[key] != there.get(key)]
        words = ", ".join(f"{key} is {there.get(key)!r} there and {wanted[key]!r} here" for key in different)
        return words and f"{self.folder} holds a run with other settings: {words}. Choose another folder."

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the known classes."""
        return tuple(self.record["suite"]["classes"])

    @property
    def ood_sets(self) -> tuple[str, ...]:
        """Return the out-of-distribution sets that it was tested on: ``near:NAME`` and ``far:NAME``."""
        return tuple(name for name in self.record["suite"]["sizes"] if ":" in name)

    @property
    def notes(self) -> Mapping[str, str]:
        """Return remarks on sets, by name without ``near:`` or ``far:``."""
        notes: Mapping[str, str] = self.record["suite"]["notes"]
        return notes

    @cached_property
    def scores(self) -> dict[str, NDArray[Any]]:
        """Read the arrays by ``SET/SCORE``, ``SET/predictions`` and, where rows have them, ``SET/labels``.

        A set is ``validation``, ``test``, ``outliers`` or one of :attr:`ood_sets`. Empty before the run has finished.
        """
        if not (self.folder / SCORES).is_file():
            return {}
        with np.load(self.folder / SCORES, allow_pickle=False) as arrays:
            return dict(arrays)

    def classifier(self, device: Literal["auto", "cpu", "cuda"] = "cpu") -> "Classifier":
        """Load the trained classifier, in eval mode; ``auto`` takes a GPU where there is one.

        Raises:
            FileNotFoundError: where training has not come to its end.
        """
        import torch

        from oodles.networks import build_network
        from oodles.runs.saved_state import load_weights

        if not (self.folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"{self.folder} has no trained weights: {self.reason or 'finish the run first.'}")
        suite = self.record["suite"]
        channels, height, width = suite["input_shape"]
        with torch.random.fork_rng(devices=[]):  # the new weights are replaced at once
            classifier = build_network(
                self.arguments["network"],
                num_classes=len(self.classes),
                input_shape=(channels, height, width),
                mean=suite["mean"],
                std=suite["std"],
                head=self.arguments["head"],
            )
            change_classifier_by(build_methods(self.methods, self.suggested), classifier)
        load_weights(classifier, self.folder / WEIGHTS)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return classifier.to(device).eval()


def open_run(folder: str | Path) -> Run:
    """Read a run folder, finished or not.

    Raises:
        FileNotFoundError: for a folder that is no run.
        ValueError: for one whose ``run.json`` cannot be understood.
    """
    folder = Path(folder)
    if not (folder / RUN).is_file():
        raise FileNotFoundError(f"{folder} is no run folder, it has no {RUN}: oodles train makes one.")
    record = _read_json(folder / RUN)
    if not isinstance(record, dict) or "recipe" not in record:
        raise ValueError(f"{folder / RUN} does not describe a run: was it changed by hand?")
    result = _read_json(folder / RESULT) if (folder / RESULT).is_file() else {}
    return Run(folder, record, read_log(folder), result)


def read_log(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Read the entries of ``log.jsonl``, or none."""
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines() if (folder / LOG).is_file() else []
    return tuple(json.loads(line) for line in lines)


def metrics_of(arrays: Mapping[str, NDArray[Any]]) -> Metrics:
    """Compute every metric of a run's ``scores.npz``, by known rows, out-of-distribution set and score.

    Test rows are compared with every ``near:NAME`` and ``far:NAME``, validation rows with the validation outliers, or
    with the auxiliary outliers where there are no others. A score that is NaN on any row is left out.
    """
    sets = dict.fromkeys(key.partition("/")[0] for key in arrays)
    outliers = next((name for name in ("validation-outliers", "outliers") if name in sets), None)
    against: dict[str, list[str]] = {
        "test": [name for name in sets if ":" in name],
        "validation": [outliers] if outliers else [],
    }
    metrics: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for known, unknown_sets in against.items():
        names = [key.partition("/")[2] for key in arrays if key.startswith(f"{known}/")]
        scores = [name for name in names if name not in ("labels", "predictions")]
        metrics[known] = {name: {} for name in unknown_sets}
        for name in unknown_sets:
            for score in scores:
                knowns, unknowns = arrays[f"{known}/{score}"], arrays.get(f"{name}/{score}")
                if unknowns is None or not (knowns.size and unknowns.size):
                    continue
                if not (np.isnan(knowns).any() or np.isnan(unknowns).any()):
                    metrics[known][name][score] = ood_metrics(knowns, unknowns)
    return metrics


def augment_in_words(augment: Mapping[str, Mapping[str, Any]]) -> str:
    """Say how training rows and outliers are changed at random, from a run's record; old records do not tell."""
    words = {name: _changes_in_words(changes) for name, changes in augment.items()}
    if len(set(words.values())) <= 1:
        return next(iter(words.values()), "changes at random were not recorded")
    return ", ".join(f"{name} {change}" for name, change in words.items())


def _changes_in_words(changes: Mapping[str, Any]) -> str:
    shift = changes.get("shift", 0)
    words = [f"shifted by up to {shift} pixel{'s' if shift > 1 else ''}"] if shift else []
    words += ["mirrored"] if changes.get("flip") else []
    return f"{' and '.join(words)} at random" if words else "as they are"


def set_name(ood_set: str) -> str:
    """Write ``near:letters`` as people read it: ``near-OOD letters``."""
    kind, _, name = ood_set.partition(":")
    return f"{kind}-OOD {name}" if name else ood_set


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other processes; the system releases the lock however this process ends.

    Raises:
        ValueError: where another process holds the lock.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("w") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(f"{folder} is in use by another process: wait for it, or choose another folder.") from None
        try:
            yield
        except Exception:
            if [path.name for path in folder.iterdir()] == [".lock"]:  # refused before anything was written
                (folder / ".lock").unlink()
                folder.rmdir()
            raise


def check_output(path: Path) -> None:
    """Refuse, before any work, a path that cannot be written or that belongs to a run.

    Raises:
        ValueError: for a folder, a path below a file, or a file of a run.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a file to write, and it is a folder: give a name in it.")
    if blocked := next((parent for parent in path.parents if parent.is_file()), None):
        raise ValueError(f"{path} must be a file to write, and {blocked} is a file: choose another place.")
    if (path.parent / RUN).is_file() and path.name in (RUN, RECIPE, LOG, STATE, WEIGHTS, SCORES, RESULT):
        raise ValueError(f"{path} belongs to a run: choose another name.")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
