"""A run folder: everything about one training run, readable with other tools, and whole after any crash.

=====================  ==================================================================================
``run.json``           settings, suite, versions, seed, device, and the command that repeats the run
``recipe.toml``        the recipe by itself, ready to be used again
``log.jsonl``          one line per epoch: the mean of every named term, validation accuracy, seconds
``state.safetensors``  what resuming needs: tensors, and counters as JSON in the file's metadata
``weights.safetensors``  the trained classifier
``scores.npz``         outlier scores and predictions of every row, by set
``fits.safetensors``   what scores have learnt of the training rows, and values of those that were asked for later
``new-classes.json``   how well classes that were held out of further trainings were told
``choice.json``        the score that it is deployed with, and what that was chosen on
``result.json``        how it ended; written last
``frozen/``            what layers that do not train have given for every image; deleted in the end
``held-out/``          a further training, without some of the classes; deleted in the end
=====================  ==================================================================================

Every file is whole or not there (see :mod:`oodles.files`), and nothing in the folder is unpickled. Reading a folder
imports no code that it names. What the files must hold is said in :mod:`oodles.runs.forms`.
"""

import os
import zipfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from oodles.files import UNFINISHED, check_writable
from oodles.files.forms import check_form, parse_json, read_json
from oodles.methods import build_methods, change_classifier_by
from oodles.metrics import ood_metrics
from oodles.runs.forms import BUILT_FORM, CHOICE_FORM, LOG_FORM, RESULT_FORM, RUN_FORM
from oodles.runs.recipe import Recipe, own_score

if TYPE_CHECKING:
    from oodles.classifier import Classifier
    from oodles.networks import Network

RUN, RECIPE, LOG, STATE = "run.json", "recipe.toml", "log.jsonl", "state.safetensors"
WEIGHTS, SCORES, RESULT = "weights.safetensors", "scores.npz", "result.json"
FITS, CHOICE, NEW_CLASSES = "fits.safetensors", "choice.json", "new-classes.json"
FROZEN = "frozen"
"""The folder of what the frozen part of a network has given, while it trains."""
FILES = (RUN, RECIPE, LOG, STATE, WEIGHTS, SCORES, FITS, CHOICE, NEW_CLASSES, RESULT)
ADVICE = {
    RUN: "take it from a copy, or choose another folder",
    RECIPE: f"delete it, {RUN} holds the same recipe",
    LOG: "delete it, only its curves are lost",
    STATE: "delete it, and the command that began the run trains it from the beginning",
    WEIGHTS: f"delete it and {RESULT}, and the command that trained the run makes both anew from {STATE}",
    SCORES: f"delete it and {RESULT}, and the command that trained the run makes both anew",
    CHOICE: "delete it, and the score is chosen anew from the validation data",
    FITS: "delete it, and what scores have learnt is learnt anew from the training data",
    NEW_CLASSES: "delete it, and it is estimated anew",
    RESULT: "delete it, and the command that trained the run makes it anew",
}
"""What to do where a file is damaged, the end of a sentence."""
MOST_BYTES = 2**30
"""So much may the arrays of scores take; an archive of a few bytes can claim any size."""
Metrics = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""By known rows (``test``, ``validation``), out-of-distribution set, score and metric."""
_NOT_THE_RECIPE = ("seed", "data", "root", "weights", "device")


@dataclass(frozen=True, eq=False)
class RunFolder:
    """The content of a run folder; see :func:`read_run`."""

    folder: Path
    record: Mapping[str, Any]
    """``run.json``."""
    log: tuple[Mapping[str, Any], ...]
    """One entry per epoch."""
    result: Mapping[str, Any]
    """``result.json``, or nothing while the run has not ended."""
    network: "Network | None" = None
    """The function of one's own that the caller has named as its network, so that it may be imported, or a module."""
    suite: str | None = None
    """Where the caller has said that its data is; functions that are named there may be imported."""

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
        try:
            return Recipe.from_dict(self.record["recipe"])
        except (ValueError, TypeError) as error:
            raise ValueError(f"{self.folder / RUN}: {_clause(error)}; {ADVICE[RUN]}.") from error

    def why_not(self, file: str) -> str:
        """Say why a file that training writes in the end is not there, the end of a sentence."""
        if self.status == "finished":
            return f"{file} was deleted; delete {RESULT} too, and the command that trained the run makes both anew."
        return self.reason or "finish it first."

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
    def teacher(self) -> str | None:
        """Say what its methods learnt from, if there is a teacher: a run's methods and network, or a name."""
        return None if "teacher" not in self.record else str(self.record["teacher"]["label"])

    @property
    def settings(self) -> dict[str, Any]:
        """Return all choices but data, seed, device and paths; runs with the same ones are one row of a comparison."""
        chosen = {**self.recipe.as_dict(), **self.arguments, "initial weights": self.initial_weights}
        chosen["teacher"] = self.teacher
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
        return _read_scores(self.folder / SCORES, len(self.classes))

    @property
    def network_to_build(self) -> "Network":
        """Return the network, by its name unless the caller has given one.

        Raises:
            ValueError: for a network of one's own that the caller has not named.
        """
        from oodles.networks import is_own_code

        name: str = self.arguments["network"]
        if self.network is not None or not is_own_code(name):
            return name if self.network is None else self.network
        if ":" not in name or "<" in name:
            raise ValueError(
                f"{self.folder} has a network that was given from Python, {name!r}: give one like it again, "
                "open_run(…, network=…)."
            )
        raise ValueError(
            f"{self.folder} names a network of one's own, {name!r}, and no code is imported because a folder names it: "
            f"if you trust it, add --network {name}, or open_run(…, network={name!r})."
        )

    @property
    def choice(self) -> Mapping[str, Any]:
        """Return ``choice.json``, the score that it is deployed with, or nothing where none has been chosen yet.

        Raises:
            ValueError: for a damaged file, and one of another run.
        """
        path = self.folder / CHOICE
        if not path.is_file():
            return {}
        choice: Mapping[str, Any] = read_json(path, CHOICE_FORM, ADVICE[CHOICE])
        scores = {*choice["aurocs"], choice["own"]}
        if choice["chosen"] not in scores or (self.scores and f"validation/{choice['chosen']}" not in self.scores):
            raise ValueError(f"{path} names the score {choice['chosen']!r}, which the run has not; {ADVICE[CHOICE]}.")
        if len({frozenset(kinds) for kinds in choice["aurocs"].values()}) > 1:
            raise ValueError(f"{path} must have the same kinds of unknowns for every score; {ADVICE[CHOICE]}.")
        return choice

    @property
    def deployed_score(self) -> str:
        """Return the score that it is deployed with: the chosen one, or its methods' where none has been chosen yet."""
        return str(self.choice.get("chosen", own_score(self.methods)))

    def classifier(self, device: Literal["auto", "cpu", "cuda"] = "cpu") -> "Classifier":
        """Load the trained classifier, in eval mode; ``auto`` takes a GPU where there is one.

        Raises:
            FileNotFoundError: where training has not come to its end.
            ValueError: for damaged weights, a network of one's own that the caller has not named, and a device that is
                not there.
        """
        import torch

        from oodles.classifier import device_named
        from oodles.networks import build_network
        from oodles.runs.saved_state import load_weights

        there = device_named(device)
        if not (self.folder / WEIGHTS).is_file():
            raise FileNotFoundError(f"{self.folder} has no trained weights: {self.why_not(WEIGHTS)}")
        network = self.network_to_build
        check_form(self.record, BUILT_FORM, str(self.folder / RUN), ADVICE[RUN])
        suite = self.record["suite"]
        with torch.random.fork_rng(devices=[]):  # the new weights are replaced at once
            try:
                classifier = build_network(
                    network,
                    num_classes=len(self.classes),
                    input_shape=tuple(suite["input_shape"]),
                    mean=suite["mean"],
                    std=suite["std"],
                    head=self.arguments["head"],
                )
                change_classifier_by(build_methods(self.methods, self.suggested), classifier)
            except (ValueError, TypeError, RuntimeError) as error:
                raise ValueError(
                    f"{self.folder / RUN} describes a network that cannot be built: {_clause(error)}."
                ) from error
        methods = [(name, {**given, **self.suggested.get(name, {})}) for name, given in self.methods]
        if classifier.origin is not None:
            classifier.origin = {**classifier.origin, "methods": methods}
        load_weights(classifier, self.folder / WEIGHTS, self.result.get("sha256", {}).get(WEIGHTS), ADVICE[WEIGHTS])
        return classifier.to(there).eval()


def read_run(folder: str | Path, *, network: "Network | None" = None, data: str | Path | None = None) -> RunFolder:
    """Read a run folder, see :func:`oodles.open_run`."""
    folder = Path(folder)
    if not (folder / RUN).exists():
        raise FileNotFoundError(f"{folder} is no run folder, it has no {RUN}: oodles train makes one.")
    for name in FILES:
        if (folder / name).exists() and not (folder / name).is_file():
            raise ValueError(f"{folder / name} must be a file, and it is something else: move it away.")
    record = read_json(folder / RUN, RUN_FORM, ADVICE[RUN])
    result = read_json(folder / RESULT, RESULT_FORM, ADVICE[RESULT]) if (folder / RESULT).exists() else {}
    run = RunFolder(folder, record, read_log(folder), result, network, None if data is None else str(data))
    _check_recipe(run)
    said_network = None
    if network is not None:
        from oodles.networks import network_name

        said_network = network_name(network)
    for what, said, recorded in (
        ("network", said_network, run.arguments["network"]),
        ("data", data and Path(data).name, Path(run.data).name),
    ):
        if said and said != recorded:
            raise ValueError(f"{folder} was trained with the {what} {recorded!r}, got {said!r}: leave --{what} out.")
    return run


def read_log(folder: Path) -> tuple[Mapping[str, Any], ...]:
    """Read the entries of ``log.jsonl``, or none; a last line that was cut short does not count.

    Raises:
        ValueError: for a line that is no entry.
    """
    path = folder / LOG
    if not path.is_file():
        return ()
    *lines, last = path.read_bytes().split(b"\n")
    if last and (not last.startswith(b"{") or last.endswith(b"}")):  # it was not cut
        lines.append(last)
    entries = []
    for number, line in enumerate(lines, 1):
        place = f"{path}, line {number}"
        entries.append(parse_json(line, place, ADVICE[LOG]))
        check_form(entries[-1], LOG_FORM, place, ADVICE[LOG])
    return tuple(entries)


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
    shift, crop = changes.get("shift", 0), changes.get("crop")
    words = [f"cropped to {crop[0]:.0%} to {crop[1]:.0%} of their area"] if crop else []
    words += [f"shifted by up to {shift} pixel{'s' if shift > 1 else ''}"] if shift else []
    words += ["mirrored"] if changes.get("flip") else []
    colours = [
        f"{name} {changes[name]:g}" for name in ("brightness", "contrast", "saturation", "hue") if changes.get(name)
    ]
    words += [f"recoloured ({', '.join(colours)})"] if colours else []
    words += [f"changed by {changes['transforms']}"] if changes.get("transforms") else []
    *first, last = words or ["as they are"]
    return f"{', '.join(first)}{' and ' if first else ''}{last}{' at random' if words else ''}"


def frozen_in_words(frozen: Mapping[str, Any]) -> str:
    """Say what trains and how often the rest runs, from a run's record."""
    since = f", since {frozen['because']}" if "because" in frozen else ""
    return f"{', '.join(frozen['layers'])}; the rest runs {frozen['runs']}{since}"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Lock a folder against other trainings, also of this process; the system releases it however the process ends.

    Raises:
        ValueError: where the folder is locked, and where one of its files is a link that leads elsewhere.
    """
    try:
        import fcntl
    except ImportError:  # a system without such locks
        yield
        return
    folder.mkdir(parents=True, exist_ok=True)
    for path in (folder / name for name in (".lock", *FILES)):
        if path.is_symlink() or (path.exists() and not path.is_file()):
            raise ValueError(
                f"{path} must be a file of its own, and training would write into something else: move it."
            )
    if (folder / FROZEN).is_symlink() or ((folder / FROZEN).exists() and not (folder / FROZEN).is_dir()):
        raise ValueError(f"{folder / FROZEN} must be a folder of the run's own, and it leads elsewhere: move it.")
    with (folder / ".lock").open("a") as file, _closed_in_children(file.fileno()):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise ValueError(
                f"{folder} is in use by another process or training: wait for it, or choose another folder."
            ) from None
        for unfinished in folder.glob(f".*{UNFINISHED}"):  # of a writer that was killed
            unfinished.unlink()
        try:
            yield
            fcntl.flock(file, fcntl.LOCK_UN)  # a child that was just forked may not have closed it yet
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
    check_writable(path)
    if (path.parent / RUN).is_file() and path.name in FILES:
        raise ValueError(f"{path} belongs to a run: choose another name.")


def _check_recipe(run: RunFolder) -> None:
    """Read both copies of the recipe, so that a mistake in one is found at once."""
    _ = run.recipe
    if (path := run.folder / RECIPE).exists():
        try:
            Recipe.load(path)
        except (ValueError, TypeError) as error:
            raise ValueError(f"{_clause(error)}; {ADVICE[RECIPE]}.") from error


def _read_scores(path: Path, classes: int) -> dict[str, NDArray[Any]]:
    """Read the arrays of a run and check that they belong together.

    Raises:
        ValueError: for a file that was damaged.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > MOST_BYTES:
                raise ValueError(f"its arrays take more than {MOST_BYTES >> 30} GiB")
            if damaged := archive.testzip():
                raise ValueError(f"{damaged} is not what was written")
        with np.load(path, allow_pickle=False) as content:
            arrays = dict(content)
        sizes: dict[str, int] = {}
        for key, values in arrays.items():
            name, slash, what = key.partition("/")
            whole = what in ("labels", "predictions")
            if not slash or values.ndim != 1 or values.dtype.kind not in ("iu" if whole else "iuf"):
                raise ValueError(f"{key} is no row of numbers")
            if whole and len(values) != sizes.setdefault(name, len(values)):
                raise ValueError(f"{key} has another length than its set")
            if what == "predictions" and values.size and not 0 <= values.min() <= values.max() < classes:
                raise ValueError(f"{key} holds what is no class")
    except OSError:
        raise
    except Exception as error:  # archives and arrays fail in many ways
        words = _clause(error) if isinstance(error, ValueError | zipfile.BadZipFile) else type(error).__name__
        raise ValueError(f"{path} is damaged ({words}); {ADVICE[SCORES]}.") from error
    return arrays


def _clause(error: BaseException) -> str:
    """Return what an error says, to go on in the same sentence."""
    return " ".join(str(error).split()).rstrip(".")


_LOCKS: set[int] = set()
"""Descriptors of the locks that are held."""


@contextmanager
def _closed_in_children(descriptor: int) -> Iterator[None]:
    """Let forked processes close a lock's file: a worker that outlives its parent would keep the folder locked."""
    _LOCKS.add(descriptor)
    try:
        yield
    finally:
        _LOCKS.discard(descriptor)


def _close_locks() -> None:
    while _LOCKS:
        with suppress(OSError):
            os.close(_LOCKS.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_close_locks)
