"""Results of runs, without images and weights: a line of JSON for each, which is all that a comparison reads."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from oodles.files import write_lines
from oodles.metrics import accuracy
from oodles.runs.folder import Metrics, Run, metrics_of

STATUSES = ("finished", "diverged", "unfinished")
LATER = ("chance", "warnings", "augment")
"""The fields that lines of earlier versions lack."""
RESULTS = "results.jsonl"
"""The file of results in the folder of a benchmark."""


@dataclass(frozen=True)
class Result:
    """The result of one run; see :func:`result_of` and :func:`read_results`."""

    data: str
    """The suite's name."""
    label: str
    """The methods' names."""
    seed: int
    status: str
    """One of :data:`STATUSES`."""
    reason: str
    """Why the run diverged; empty otherwise."""
    settings: Mapping[str, Any]
    """All choices but data, seed and device; runs with the same ones are one row of a comparison."""
    suggested: Mapping[str, Mapping[str, Any]]
    """Settings that were measured on the initial weights, by method."""
    initial_weights: str
    environment: Mapping[str, Any]
    """Versions and device."""
    sizes: Mapping[str, int]
    """Rows by set."""
    sha256: Mapping[str, str]
    """Fingerprints by set; runs of one suite and seed must have the same ones to be compared."""
    notes: Mapping[str, str]
    """Remarks on sets, by name without ``near:`` or ``far:``."""
    accuracy: float | None
    """On the test rows."""
    seconds: float | None
    """Of training."""
    metrics: Metrics
    """``test`` against every ``near:NAME`` and ``far:NAME``, ``validation`` against outliers."""
    chance: float | None = field(default=None, compare=False)
    """The share of the largest class among the test rows, where it is known."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """What training warned of."""
    augment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    """How training rows and outliers were augmented, where it is known."""
    folder: Path | None = field(default=None, compare=False)
    """Where the run is, if it is there; not kept in files."""

    @property
    def methods(self) -> tuple[tuple[str, Mapping[str, Any]], ...]:
        """Return names and settings of the methods."""
        return tuple(
            (given["name"], {key: value for key, value in given.items() if key != "name"})
            for given in self.settings["methods"]
        )

    @property
    def ood_sets(self) -> tuple[str, ...]:
        """Return the out-of-distribution sets that it was tested on: ``near:NAME`` and ``far:NAME``."""
        return tuple(name for name in self.sizes if ":" in name)

    @property
    def scores(self) -> tuple[str, ...]:
        """Return the names of the scores it was measured under."""
        names = (score for by_set in self.metrics.values() for by_score in by_set.values() for score in by_score)
        return tuple(dict.fromkeys(names))

    def __str__(self) -> str:
        """Say in a few words which run it is."""
        return str(self.folder) if self.folder else f"{self.label} on {self.data}, seed {self.seed}"

    @property
    def in_words(self) -> str:
        """Say inside a sentence which run it is: its folder, or what a file recorded."""
        return str(self) if self.folder else f"a recorded {self}"


def result_of(run: Run) -> Result:
    """Return the result of a run; metrics that ``result.json`` lacks are computed from its rows' scores."""
    suite = run.record["suite"]
    test_accuracy: float | None = None
    metrics: Metrics = {}
    if run.status == "finished":
        metrics = run.result["metrics"] if "metrics" in run.result else metrics_of(run.scores)
        test_accuracy = run.result.get("test_accuracy")
        if test_accuracy is None:
            test_accuracy = accuracy(run.scores["test/predictions"], run.scores["test/labels"])
    return Result(
        data=suite.get("name", run.data),
        label=run.label,
        seed=run.seed,
        status=run.status,
        reason=run.reason,
        settings=run.settings,
        suggested=run.suggested,
        initial_weights=run.initial_weights,
        environment={key: value for key, value in run.record.get("environment", {}).items() if key != "started"},
        sizes=suite["sizes"],
        sha256=suite.get("sha256", {}),
        notes=run.notes,
        accuracy=test_accuracy,
        seconds=run.result.get("seconds"),
        metrics=metrics,
        chance=run.result.get("chance", 1 / len(run.classes)),
        warnings=tuple(run.result.get("warnings", ())),
        augment=suite.get("augment", {}),
        folder=run.folder,
    )


def folder_of_run(folder: Path, data: str, label: str, seed: int) -> Path:
    """Return the folder in which a benchmark in ``folder`` keeps one of its runs."""
    return folder / "runs" / data / f"{label.replace(' ', '')}-{seed}"


def write_results(path: str | Path, results: Iterable[Result]) -> None:
    """Write results to a file of JSON lines, in one piece."""
    write_lines(Path(path), [{k: v for k, v in asdict(result).items() if k != "folder"} for result in results])


def read_results(path: str | Path) -> tuple[Result, ...]:
    """Read the results in a file of JSON lines, as :func:`write_results` wrote them.

    Raises:
        FileNotFoundError: for a file that is not there.
        ValueError: for a line that is no result.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file of results at {path}: oodles benchmark writes one.")
    lines = path.read_bytes().rstrip().split(b"\n")  # splitlines knows other ends of lines
    if lines == [b""]:
        raise ValueError(f"{path} holds no results, it is empty: record the runs again.")
    return tuple(_read_line(line, f"{path}, line {number},") for number, line in enumerate(lines, 1))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_share(value: Any) -> bool:
    """Say whether a value can be an accuracy or a metric; rounding may put it slightly outside [0, 1]."""
    return _is_number(value) and -1e-9 <= value <= 1 + 1e-9


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_dictionary(value: Any) -> bool:
    return isinstance(value, dict)


_CHECKS: Mapping[str, Callable[[Any], bool]] = {
    "data": _is_text,
    "label": _is_text,
    "seed": lambda value: type(value) is int and value >= 0,
    "status": lambda value: value in STATUSES,
    "reason": _is_text,
    "initial_weights": _is_text,
    "accuracy": lambda value: value is None or _is_share(value),
    "seconds": lambda value: value is None or (_is_number(value) and value >= 0),
    "chance": lambda value: value is None or _is_share(value),
    "warnings": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}
"""Checks of the fields of a line; all others must be dictionaries."""


def _read_line(line: bytes, where: str) -> Result:
    """Read one line of a file.

    Raises:
        ValueError: where it is something else.
    """
    try:
        given = json.loads(line.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not UTF-8 text: was it written by another program?") from error
    except ValueError as error:
        raise ValueError(f"{where} is not JSON ({error}): was it cut short or changed by hand?") from error
    names = [known.name for known in fields(Result) if known.name != "folder"]
    needed = [name for name in names if name not in LATER]
    if not isinstance(given, dict) or not set(needed) <= set(given) <= set(names):
        keys = set(given) if isinstance(given, dict) else set()
        words = [f"without {name}" for name in needed if name not in keys]
        words += [f"with the unknown {name}" for name in sorted(keys - set(names))]
        raise ValueError(f"{where} is no result of a run but one {', '.join(words[:3])}: record the runs again.")
    for name, value in given.items():
        missing = name == "accuracy" and value is None and given["status"] == "finished"
        if missing or not _CHECKS.get(name, _is_dictionary)(value):
            raise ValueError(f"{where} has a field {name} that makes no sense, {value!r}: record the runs again.")
    try:
        result = Result(**{**given, "warnings": tuple(given.get("warnings", ()))})
        _check_insides(result)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{where} holds settings or metrics that make no sense: record the runs again.") from error
    return result


def _check_insides(result: Result) -> None:
    """Refuse settings and metrics of another form, by whichever error reading them raises."""
    if not result.methods:
        raise TypeError("no methods")
    for by_set in result.metrics.values():
        for by_score in by_set.values():
            for by_metric in by_score.values():
                if not all(map(_is_share, by_metric.values())):
                    raise TypeError("a metric must be a number from 0 to 1")
