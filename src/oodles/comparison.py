"""Comparing runs: mean ± std over seeds, and plain cross-entropy under the same score beside every method.

Differences are paired by seed, because a seed often draws the data too. Losers and diverged runs are shown; a
difference is marked only where its 95 % interval leaves out zero.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from oodles.cards import card
from oodles.figures import METRICS, OOD_METRICS, Figure, Seeds
from oodles.metrics import accuracy, ood_metrics
from oodles.run_folder import Run, open_run, write_text
from oodles.spelling import suggestion

PLAIN = "cross-entropy"
SHARED_SCORES = ("msp", "energy", "knn")
"""Where plain training cannot give a method's own score, both are shown under these."""


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one recipe, one per seed."""

    label: str
    runs: tuple[Run, ...]
    own_score: str
    plain: "Group | None" = None
    """The plain cross-entropy runs beside it; none for these themselves, and where there are none."""
    _measured: dict[tuple[str, str | None, str], dict[int, dict[str, float]]] = field(default_factory=dict, repr=False)

    @property
    def is_plain(self) -> bool:
        return _is_plain(self.runs[0])

    @cached_property
    def finished(self) -> tuple[Run, ...]:
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def seeds(self) -> str:
        """How many seeds stand behind the figures, and how many diverged."""
        finished, diverged = len(self.finished), len(self.runs) - len(self.finished)
        words = [f"{finished}"] if finished else []
        if diverged:
            words.append(f"diverged ({diverged} of {len(self.runs)} seeds)")
        return ", ".join(words)

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """The scores that every finished run has."""
        first, *others = [_scores(run) for run in self.finished] or [()]
        return tuple(score for score in first if all(score in other for other in others))

    @cached_property
    def versus(self) -> tuple[tuple[str, str], ...]:
        """Under which scores it is compared: its own, and plain cross-entropy's beside it.

        A score that plain training cannot give stands beside the one that is best for plain training on validation
        data, and both are also compared under the scores that they share.
        """
        if self.plain is None or not self.finished or self.own_score in self.plain.scores:
            return ((self.own_score, self.own_score),)
        shared = [(s, s) for s in SHARED_SCORES if s in self.scores and s in self.plain.scores]
        return (*shared, (self.own_score, self.plain.best_on_validation or self.own_score))

    @property
    def best_on_validation(self) -> str | None:
        """The score that best tells validation rows from the auxiliary outliers; test sets have no say."""
        found = {score: self.measured("outliers", score, "auroc", known="validation") for score in self.scores}
        means = {score: seeds.mean for score, seeds in found.items() if seeds}
        return max(means, key=lambda score: means[score]) if means else None

    def measured(self, ood_set: str | None, score: str, metric: str, known: str = "test") -> Seeds | None:
        """A metric per seed, of the finished runs that have it; measured once, then remembered."""
        key = (known, ood_set, score)
        if key not in self._measured:
            found = {run.seed: _measure(run, known, ood_set, score) for run in self.finished}
            self._measured[key] = {seed: metrics for seed, metrics in found.items() if metrics}
        by_seed = {seed: metrics[metric] for seed, metrics in self._measured[key].items()}
        return Seeds(by_seed) if by_seed else None


@dataclass(frozen=True, eq=False)
class Table:
    """The groups that were trained and tested on one suite; cross-entropy first."""

    suite: str
    groups: tuple[Group, ...]
    ood_sets: Mapping[str, str]
    """Each out-of-distribution set, and a remark on it or nothing."""
    remarks: tuple[str, ...]

    @cached_property
    def blocks(self) -> tuple[tuple[str, str, tuple[Group, ...]], ...]:
        """Score, cross-entropy's score beside it, and the groups compared under the two."""
        pairs = dict.fromkeys(pair for group in self.groups for pair in group.versus)
        found = []
        for score, plain_score in pairs:
            compared = [group for group in self.groups if (score, plain_score) in group.versus]
            beside = {group.plain for group in compared}
            found.append((score, plain_score, tuple(g for g in self.groups if g in compared or g in beside)))
        return tuple(found)

    def figure(self, group: Group, ood_set: str | None, metric: str, score: str, plain_score: str) -> Figure | None:
        """One figure of a group; none where no run of it has the score on the set."""
        used = plain_score if group.is_plain else score
        value = group.measured(ood_set, used, metric)
        if value is None:
            return None
        plain = group.plain.measured(ood_set, plain_score, metric) if group.plain else None
        difference = None if plain is None else value.minus(plain)
        return Figure(group.label, used, ood_set, metric, value, plain, plain_score, difference)

    def figures(self) -> list[Figure]:
        """Every figure that the tables show, each method under its own score."""
        cells = [(None, "accuracy"), *((s, metric) for s in self.ood_sets for metric in OOD_METRICS)]
        return [
            figure
            for score, plain_score, groups in self.blocks
            for group in groups
            for ood_set, metric in cells
            if (figure := self.figure(group, ood_set, metric, score, plain_score))
        ]

    @property
    def sizes(self) -> str:
        """How many rows the figures of one seed rest on; AUPR depends on it."""
        run = next((run for group in self.groups for run in group.finished), None)
        if run is None:
            return "No run has finished."
        found = {name: len(run.scores[f"{name}/predictions"]) for name in ("test", *run.ood_sets)}
        return f"Rows (seed {run.seed}): {', '.join(f'{set_name(name)} {size}' for name, size in found.items())}."

    @property
    def chance(self) -> str:
        """How many differences are marked, and how many would be by chance alone."""
        shown = {(f.label, f.score if f.ood_set else "", f.ood_set, f.metric): f for f in self.figures()}
        tested = [f for f in shown.values() if f.difference is not None and f.difference.half_interval is not None]
        if not tested:
            return "No difference is marked: that takes three or more seeds shared with plain cross-entropy."
        marked = sum(bool(f.verdict) for f in tested)
        return (
            f"{marked} of {len(tested)} differences are marked ▲ (better) or ▼ (worse): their 95 % interval "
            f"(Student's t, paired by seed) leaves out 0. "
            f"If no method differed, chance would mark about {round(len(tested) / 20)}."
        )


@dataclass(frozen=True, eq=False)
class Comparison:
    """Runs side by side, one table per suite; ``print`` shows it, ``write`` keeps it."""

    tables: tuple[Table, ...]

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, *, width: int = 100, color: bool = False) -> str:
        """Aligned tables for a terminal of ``width`` columns, with escape codes if ``color``."""
        from oodles.report import text

        return text(self, width=width, color=color)

    def to_markdown(self) -> str:
        """The same tables in Markdown."""
        from oodles.report import markdown

        return markdown(self)

    def to_csv(self) -> str:
        """One line per suite, method, score, set, metric and seed; every score that the runs hold."""
        out = io.StringIO()
        columns = "suite method seed status score compared ood_set metric value cross_entropy_score cross_entropy"
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow([*columns.split(), "difference"])
        for table in self.tables:
            for group in table.groups:
                for run in group.runs:
                    if run.status != "finished":
                        writer.writerow([table.suite, group.label, run.seed, run.status, *[""] * 8])
                for figure, compared in _every_figure(table, group):
                    plain = figure.plain.by_seed if figure.plain else {}
                    difference = figure.difference.by_seed if figure.difference else {}
                    what = [figure.score, "yes" if compared else "no", figure.ood_set or "test", figure.metric]
                    for seed, value in figure.value.by_seed.items():
                        beside = [figure.plain_score if seed in plain else "", plain.get(seed, "")]
                        writer.writerow(
                            [
                                table.suite,
                                group.label,
                                seed,
                                "finished",
                                *what,
                                value,
                                *beside,
                                difference.get(seed, ""),
                            ]
                        )
        return out.getvalue()

    def to_json(self) -> str:
        """Everything, per seed and in summary, for every score that the runs hold."""
        return json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)

    def as_dict(self) -> dict[str, Any]:
        """What :meth:`to_json` writes."""
        metrics = {name: metric._asdict() for name, metric in METRICS.items()}
        return {"metrics": metrics, "suites": [_table_dict(table) for table in self.tables]}

    def to_html(self) -> str:
        """A report with pictures, in one file that needs no network."""
        from oodles.report import html

        return html(self)

    def write(self, path: str | Path) -> Path:
        """Writes .html, .md, .csv or .json, whichever ``path`` ends in.

        Raises:
            ValueError: for another ending.
        """
        path = Path(path)
        forms = {".html": self.to_html, ".md": self.to_markdown, ".csv": self.to_csv, ".json": self.to_json}
        if path.suffix not in forms:
            raise ValueError(f"A comparison is written to .html, .md, .csv or .json, got {str(path)!r}.")
        content = forms[path.suffix]()
        write_text(path, content)
        return path


def compare(runs: Iterable[Run | str | Path], score: str | None = None) -> Comparison:
    """Compares finished or diverged runs, by recipe and paired by seed; others are named and left out.

    Args:
        runs: run folders, opened or not; runs of one recipe that differ in their seed become one row.
        score: one score for all; by default every method is shown under the score that its paper uses.

    Raises:
        FileNotFoundError: for a folder that is no run.
        ValueError: for no runs that have ended, two runs of one recipe and seed, or a score that the
            runs do not have.
    """
    folders = [run.folder if isinstance(run, Run) else Path(run) for run in runs]
    opened = [open_run(folder) for folder in dict.fromkeys(folder.resolve() for folder in folders)]
    if not opened:
        raise ValueError("compare needs at least one run folder, got none.")
    ended = [run for run in opened if run.status in ("finished", "diverged")]
    if not ended:
        raise ValueError(f"{opened[0].folder} has not ended: give the same command again, and it goes on where it was.")
    by_suite: dict[str, list[Run]] = {}
    for run in ended:
        by_suite.setdefault(run.data, []).append(run)
    first, *others = (_table(suite, members, score) for suite, members in by_suite.items())
    if left_out := [run.folder.name for run in opened if run not in ended]:
        remark = f"Left out, since they have not ended: {', '.join(left_out)}."
        first = replace(first, remarks=(*first.remarks, remark))
    return Comparison((first, *others))


def _table(suite: str, runs: Sequence[Run], score: str | None) -> Table:
    recipes: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: not _is_plain(run)):
        recipes.setdefault(json.dumps([run.label, run.settings], sort_keys=True, default=str), []).append(run)
    _check_same_rows(runs)
    families = [sorted(family, key=lambda run: run.seed) for family in recipes.values()]
    groups: list[Group] = []
    for label, family in zip(_labels([family[0] for family in families]), families, strict=True):
        for one, other in pairwise(family):
            if one.seed == other.seed:
                raise ValueError(f"{one.folder} and {other.folder} are the same recipe and seed: give one of them.")
        plain = None if _is_plain(family[0]) else _beside(family, [group for group in groups if group.is_plain])
        group = Group(label, tuple(family), score or own_score([name for name, _ in family[0].methods]), plain)
        if score and group.finished and score not in group.scores:
            raise ValueError(f"There is no score {score!r} in the runs of {label!r}{suggestion(score, group.scores)}")
        groups.append(group)
    names = dict.fromkeys(name for run in runs for name in run.ood_sets)
    notes = {name: note for run in reversed(runs) for name, note in run.notes.items()}
    ordered = sorted(names, key=lambda name: not name.startswith("near:"))
    return Table(suite, tuple(groups), {n: notes.get(n.partition(":")[2], "") for n in ordered}, _remarks(groups))


def _check_same_rows(runs: Sequence[Run]) -> None:
    """Pairing by seed means nothing unless the runs of a seed were tested on the same rows."""
    first: dict[int, Run] = {}
    for run in (run for run in runs if run.status == "finished"):
        other = first.setdefault(run.seed, run)
        sets = [key for key in run.scores.keys() & other.scores.keys() if key.endswith("/predictions")]
        same_sizes = all(len(run.scores[key]) == len(other.scores[key]) for key in sets)
        if not same_sizes or not np.array_equal(run.scores["test/labels"], other.scores["test/labels"]):
            raise ValueError(
                f"{run.folder} and {other.folder} have the same data and seed but were tested on other rows: "
                "the data has changed, so train one of them again."
            )


def own_score(methods: Sequence[str]) -> str:
    """The score that the methods' papers use; of several, the last that asks for another than softmax decides."""
    named = [card(name).score for name in methods]
    return next((score for score in reversed(named) if score != "msp"), "msp")


def _beside(family: Sequence[Run], plains: Sequence[Group]) -> Group | None:
    """The plain runs of the same network whose training is most alike, then those with most seeds in common."""
    settings, seeds = family[0].settings, {run.seed for run in family}
    alike = [plain for plain in plains if plain.runs[0].settings.get("network") == settings.get("network")]
    if not alike:
        return None

    def distance(plain: Group) -> tuple[int, int]:
        other = plain.runs[0].settings
        shared = seeds & {run.seed for run in plain.runs}
        return sum(value != other.get(key) for key, value in settings.items()), -len(shared)

    return min(alike, key=distance)


def _labels(runs: Sequence[Run]) -> list[str]:
    """The recipes' labels, with the settings that tell equal ones apart."""
    labels = []
    for run in runs:
        own, twins = _flat(run), [_flat(other) for other in runs if other.label == run.label]
        telling = [key for key in own if any(twin.get(key) != own[key] for twin in twins)]
        words = [f"{key} {own[key]}" for key in telling]
        labels.append(f"{run.label} ({', '.join(words)})" if words else run.label)
    return labels


def _flat(run: Run) -> dict[str, Any]:
    """Settings by name, those of methods too."""
    several = len(run.methods) > 1
    methods = {
        f"{name} {key}" if several else key: value for name, given in run.methods for key, value in given.items()
    }
    return {**methods, **{key: value for key, value in run.settings.items() if key != "methods"}}


def _remarks(groups: Sequence[Group]) -> tuple[str, ...]:
    """What a reader must know about the rows of a table."""
    remarks = []
    if not any(group.is_plain for group in groups):
        remarks.append(
            "There are no plain cross-entropy runs, so nothing stands beside the methods: train cross-entropy."
        )
    unlike: dict[str, list[str]] = {}
    for group in groups:
        finished = {run.seed for run in group.finished}
        if group.plain:
            if words := _unlike(group.runs[0].settings, group.plain.runs[0].settings):
                unlike.setdefault(f"{words}, unlike the {group.plain.label} beside it", []).append(group.label)
            paired = finished & {run.seed for run in group.plain.finished}
            if len(paired) < len(finished):
                remarks.append(
                    f"{group.label}: {len(paired)} of {len(finished)} seeds have plain cross-entropy beside them."
                )
        elif not group.is_plain and any(other.is_plain for other in groups):
            remarks.append(f"{group.label}: no plain cross-entropy with this network.")
        reasons: dict[str, list[str]] = {}
        for run in group.runs:
            if run.status == "diverged":
                reasons.setdefault(run.reason or "no reason was recorded.", []).append(str(run.seed))
        for reason, seeds in reasons.items():
            which = f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"
            remarks.append(f"{group.label}, {which}, diverged: {reason}")
    single = [group.label for group in groups if len(group.finished) == 1]
    if single:
        remarks.append(f"One seed only, so no deviation: {', '.join(single)}.")
    return (*(f"{', '.join(labels)}: {words}." for words, labels in unlike.items()), *remarks)


def _unlike(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """In which settings of training, methods apart, a row differs from plain cross-entropy."""
    start = settings.get("initial weights")
    words = [] if start == plain.get("initial weights") else [f"starts from {start} weights"]
    return ", ".join(
        words
        + [
            f"{key.replace('_', ' ')} {value} (not {plain[key]})"
            for key, value in settings.items()
            if key in plain and value != plain[key] and key not in ("methods", "suggest", "initial weights")
        ]
    )


def _measure(run: Run, known: str, ood_set: str | None, score: str) -> dict[str, float]:
    """The metrics of one run, or nothing where it lacks the scores or they are no numbers."""
    arrays = run.scores
    if ood_set is None:
        return {"accuracy": accuracy(arrays[f"{known}/predictions"], arrays[f"{known}/labels"])}
    knowns, unknowns = arrays.get(f"{known}/{score}"), arrays.get(f"{ood_set}/{score}")
    if knowns is None or unknowns is None or not knowns.size or not unknowns.size:
        return {}
    return {} if np.isnan(knowns).any() or np.isnan(unknowns).any() else ood_metrics(knowns, unknowns)


def _every_figure(table: Table, group: Group) -> list[tuple[Figure, bool]]:
    """The figures of a group under every score that it has, and whether the tables show them."""
    pairs = dict.fromkeys([*group.versus, *((score, score) for score in group.scores)])
    found = [(table.figure(group, None, "accuracy", *group.versus[-1]), True)]
    found += [
        (table.figure(group, ood_set, metric, *pair), pair in group.versus)
        for pair in pairs
        for ood_set in table.ood_sets
        for metric in OOD_METRICS
    ]
    return [(figure, shown) for figure, shown in found if figure]


def set_name(ood_set: str) -> str:
    """``near:letters`` as people read it: ``near-OOD letters``."""
    kind, _, name = ood_set.partition(":")
    return f"{kind}-OOD {name}" if name else ood_set


def _table_dict(table: Table) -> dict[str, Any]:
    methods = []
    for group in table.groups:
        figures = [{**_figure_dict(figure), "compared": shown} for figure, shown in _every_figure(table, group)]
        runs = [
            {"seed": run.seed, "folder": str(run.folder), "status": run.status, "reason": run.reason}
            for run in group.runs
        ]
        beside = group.plain.label if group.plain else None
        about = {"label": group.label, "own_score": group.own_score, "plain": beside, **group.runs[0].settings}
        methods.append({**about, "runs": runs, "figures": figures})
    sets = [{"name": name, "remark": remark} for name, remark in table.ood_sets.items()]
    return {"suite": table.suite, "ood_sets": sets, "remarks": [*table.remarks, table.chance], "methods": methods}


def _figure_dict(figure: Figure) -> dict[str, Any]:
    plain = figure.plain and {"score": figure.plain_score, **_seeds_dict(figure.plain)}
    difference = figure.difference and {
        **_seeds_dict(figure.difference),
        "half_interval": figure.difference.half_interval,
        "wins": figure.wins,
        "verdict": figure.verdict_in_words,
    }
    where = {"score": figure.score, "ood_set": figure.ood_set, "metric": figure.metric}
    return {**where, **_seeds_dict(figure.value), "plain": plain, "difference": difference}


def _seeds_dict(seeds: Seeds) -> dict[str, Any]:
    by_seed = {str(seed): value for seed, value in seeds.by_seed.items()}
    return {"mean": seeds.mean, "std": seeds.std, "n": seeds.n, "by_seed": by_seed}


def _scores(run: Run) -> tuple[str, ...]:
    names = (key.partition("/")[2] for key in run.scores if key.startswith("test/"))
    return tuple(name for name in names if name not in ("labels", "predictions"))


def _is_plain(run: Run) -> bool:
    """Whether the run is cross-entropy training and nothing else."""
    return all(name == PLAIN and not settings.get("label_smoothing") for name, settings in run.methods)
