"""Results of runs, without images and weights: a line of JSON for each, which is all that a comparison reads."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from oodles.files import write_lines
from oodles.files.forms import check_form, parse_json
from oodles.metrics import accuracy
from oodles.runs.fits import kept_fit
from oodles.runs.folder import Metrics, metrics_of
from oodles.runs.forms import LINE_FORM
from oodles.runs.opened import Run
from oodles.runs.recipe import LATER, Recipe, own_score

AGAIN = "record the runs again"
NOT_KEPT = ("folder", "suite")
"""Fields of a result that are of this machine."""
_LATER = {key: value for key, value in Recipe().as_dict().items() if key in LATER}
"""Settings that earlier versions did not record, and what training did."""
CHOSEN = "chosen"
"""In the place of a score's name: the one that was chosen for each run."""
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
    """One of :data:`oodles.runs.forms.STATUSES`."""
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
    remarks: Mapping[str, str] = field(default_factory=dict, compare=False)
    """By score: what it chose when it was fitted, where it is known."""
    augment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    """How training rows and outliers were augmented, where it is known."""
    chosen: str = field(default="", compare=False)
    """The score that was chosen without training, see :func:`oodles.choose_score`, where it is known."""
    folder: Path | None = field(default=None, compare=False)
    """Where the run is, if it is there; not kept in files."""
    suite: str | None = field(default=None, compare=False)
    """Where the caller has said that its data is, see :class:`oodles.runs.opened.Run`; not kept in files."""

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
        measured = tuple(dict.fromkeys(names))
        return (*measured, CHOSEN) if self.chosen in measured else measured

    def figures(self, known: str, ood_set: str, score: str) -> Mapping[str, float]:
        """Return every metric of known rows against a set, under a score or the ``chosen`` one; nothing without one."""
        by_score = self.metrics.get(known, {}).get(ood_set, {})
        return by_score.get(self.chosen if score == CHOSEN else score, {})

    def __str__(self) -> str:
        """Say in a few words which run it is."""
        return str(self.folder) if self.folder else f"{self.label} on {self.data}, seed {self.seed}"

    @property
    def in_words(self) -> str:
        """Say inside a sentence which run it is: its folder, or what a file recorded."""
        return str(self) if self.folder else f"a recorded {self}"


def with_kept_score(result: Result, score: str) -> Result:
    """Return a result with the figures of a score that its run was evaluated with later, as far as its folder keeps it.

    Raises:
        ValueError: for a damaged file.
    """
    fit = None if result.folder is None or score in result.scores else kept_fit(result.folder, score)
    if fit is None:
        return result
    later = metrics_of({f"{name}/{score}": values for name, values in fit.values.items()})
    metrics = {
        known: {name: {**by_score, **later[known].get(name, {})} for name, by_score in by_set.items()}
        for known, by_set in result.metrics.items()
    }
    return replace(result, metrics=metrics)


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
        remarks=run.result.get("remarks", {}),
        augment=suite.get("augment", {}),
        chosen=run.choice.get("chosen", ""),
        folder=run.folder,
        suite=run.suite,
    )


def folder_of_run(folder: Path, data: str, label: str, seed: int) -> Path:
    """Return the folder in which a benchmark in ``folder`` keeps one of its runs."""
    return folder / "runs" / data / f"{label.replace(' ', '')}-{seed}"


def write_results(path: str | Path, results: Iterable[Result]) -> None:
    """Write results to a file of JSON lines, in one piece."""
    write_lines(Path(path), [{k: v for k, v in asdict(result).items() if k not in NOT_KEPT} for result in results])


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
    return tuple(_read_line(line, f"{path}, line {number}") for number, line in enumerate(lines, 1))


def _read_line(line: bytes, where: str) -> Result:
    """Read one line of a file.

    Raises:
        ValueError: where it is something else.
    """
    given = parse_json(line, where, AGAIN)
    check_form(given, LINE_FORM, where, AGAIN)
    if given["accuracy"] is None and given["status"] == "finished":
        raise ValueError(f"{where}: accuracy must be a number from 0 to 1 where a run has finished; {AGAIN}.")
    names = [known.name for known in fields(Result) if known.name not in NOT_KEPT]
    known_fields = {name: given[name] for name in names if name in given}
    settings = {**given["settings"], **{key: value for key, value in _LATER.items() if key not in given["settings"]}}
    result = Result(**{**known_fields, "settings": settings, "warnings": tuple(given.get("warnings", ()))})
    try:
        own_score(result.methods)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    return result
