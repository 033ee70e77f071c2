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

A file is written under another name, forced to disk and then renamed, so a reader finds the old one or the new one and
never half of one. Nothing in the folder is unpickled.
"""

import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from oodles.recipe import Recipe

if TYPE_CHECKING:
    from oodles.classifier import Classifier

RUN, RECIPE, LOG, STATE = "run.json", "recipe.toml", "log.jsonl", "state.safetensors"
WEIGHTS, SCORES, RESULT = "weights.safetensors", "scores.npz", "result.json"
_NOT_THE_RECIPE = ("seed", "data", "root", "weights", "device")


@dataclass(frozen=True, eq=False)
class Run:
    """What a run folder holds; see :func:`open_run`."""

    folder: Path
    record: Mapping[str, Any]
    """``run.json``."""
    log: tuple[Mapping[str, Any], ...]
    """One entry per epoch."""
    result: Mapping[str, Any]
    """``result.json``, or nothing while the run has not ended."""

    @property
    def status(self) -> str:
        """``finished``, ``diverged``, or ``unfinished``."""
        return str(self.result.get("status", "unfinished"))

    @property
    def reason(self) -> str:
        """Why the run diverged; empty otherwise."""
        return str(self.result.get("reason", ""))

    @cached_property
    def recipe(self) -> Recipe:
        """What was trained, as it was asked for; measured settings are in :attr:`suggested`."""
        return Recipe.from_dict(self.record["recipe"])

    @property
    def label(self) -> str:
        """The methods' names."""
        return self.recipe.label

    @property
    def methods(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Names and settings of the methods."""
        return self.recipe.methods

    @property
    def suggested(self) -> Mapping[str, Mapping[str, Any]]:
        """Settings that were measured on the initial weights, by method."""
        suggested: Mapping[str, Mapping[str, Any]] = self.record["suggested"]
        return suggested

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def data(self) -> str:
        """The suite: its name, or the path of its folder."""
        return str(self.arguments["data"])

    @property
    def arguments(self) -> Mapping[str, Any]:
        """What was chosen besides the recipe: data and where it lies, network, accumulation, device, …"""
        arguments: Mapping[str, Any] = self.record["arguments"]
        return arguments

    @property
    def initial_weights(self) -> str:
        """What training started from: ``random``, the label of another run, or a file name."""
        return str(self.record["initial"]["label"])

    @property
    def settings(self) -> dict[str, Any]:
        """All that was chosen but data, seed, device and paths; runs that agree in it are one row of a comparison."""
        chosen = {**self.recipe.as_dict(), **self.arguments, "initial weights": self.initial_weights}
        return {key: value for key, value in chosen.items() if key not in _NOT_THE_RECIPE}

    def other_settings(self, wanted: Mapping[str, Any], besides: Collection[str] = ()) -> str:
        """Why this is not the run with these settings, in a sentence; empty where it is.

        Args:
            wanted: settings and arguments.
            besides: those that may differ; where images lie may anyway, since they are known by their content.
        """
        there = {**self.recipe.as_dict(), **self.arguments}
        compared = [key for key in wanted if key != "root" and key not in besides]
        different = [key for key in compared if wanted[key] != there.get(key)]
        words = ", ".join(f"{key} is {there.get(key)!r} there and {wanted[key]!r} here" for key in different)
        return words and f"{self.folder} holds a run with other settings: {words}. Choose another folder."

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the known classes."""
        return tuple(self.record["suite"]["classes"])

    @property
    def ood_sets(self) -> tuple[str, ...]:
        """The out-of-distribution sets it was tested on: ``near:NAME`` and ``far:NAME``."""
        return tuple(name for name in self.record["suite"]["sizes"] if ":" in name)

    @property
    def notes(self) -> Mapping[str, str]:
        """Remarks on sets, by name without ``near:`` or ``far:``."""
        notes: Mapping[str, str] = self.record["suite"]["notes"]
        return notes

    @cached_property
    def scores(self) -> dict[str, NDArray[Any]]:
        """Arrays by ``SET/SCORE``, ``SET/predictions`` and, where rows have them, ``SET/labels``.

        A set is ``validation``, ``test``, ``outliers`` or one of :attr:`ood_sets`. Empty before the run has finished.
        """
        if not (self.folder / SCORES).is_file():
            return {}
        with np.load(self.folder / SCORES, allow_pickle=False) as arrays:
            return dict(arrays)

    def classifier(self, device: Literal["auto", "cpu", "cuda"] = "cpu") -> "Classifier":
        """The trained classifier, in eval mode; ``auto`` takes a GPU where there is one.

        Raises:
            FileNotFoundError: where training has not come to its end.
        """
        import torch

        from oodles.methods import change, made
        from oodles.networks import build_network
        from oodles.saved_state import load_weights

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
            change(classifier, made(self.methods, self.suggested))
        load_weights(classifier, self.folder / WEIGHTS)
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        return classifier.to(device).eval()


def open_run(folder: str | Path) -> Run:
    """Reads a run folder, finished or not.

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
    """The entries of ``log.jsonl``, or none."""
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines() if (folder / LOG).is_file() else []
    return tuple(json.loads(line) for line in lines)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keeps a second process out of a folder; the system opens it again however the first one ends.

    Raises:
        ValueError: where another process is in it.
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
            if [each.name for each in folder.iterdir()] == [".lock"]:  # refused before anything was written
                (folder / ".lock").unlink()
                folder.rmdir()
            raise


def write_json(path: Path, document: Mapping[str, Any]) -> None:
    """Writes a JSON file in one piece."""
    write_text(path, json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def write_lines(path: Path, entries: Sequence[Mapping[str, Any]]) -> None:
    """Writes a file of JSON lines in one piece."""
    write_text(path, "".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries))


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one piece."""
    with in_one_piece(path) as file:
        file.write(text.encode("utf-8"))


def write_arrays(path: Path, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Writes an ``.npz`` file in one piece."""
    with in_one_piece(path) as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def check_output(path: Path) -> None:
    """Refuses, before any work, a file that could not be written, or whose place belongs to a run.

    Raises:
        ValueError: for a folder, a path below a file, or a file of a run.
    """
    if path.is_dir():
        raise ValueError(f"{path} must be a file to write, and it is a folder: give a name in it.")
    if blocked := next((each for each in path.parents if each.is_file()), None):
        raise ValueError(f"{path} must be a file to write, and {blocked} is a file: choose another place.")
    if (path.parent / RUN).is_file() and path.name in (RUN, RECIPE, LOG, STATE, WEIGHTS, SCORES, RESULT):
        raise ValueError(f"{path} belongs to a run: choose another name.")


@contextmanager
def in_one_piece(path: Path) -> Iterator[BinaryIO]:
    """A file to write to that takes the place of ``path`` when all of it is on the disk, and not before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY)  # the new name itself
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
