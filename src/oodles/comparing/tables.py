"""Put results into tables: mean ± std over seeds, and plain cross-entropy under the same score beside every method.

Differences are paired by seed, because a seed often draws the data too. Losers and diverged runs are shown; a
difference is marked only where its 95 % interval excludes zero, and twice where it holds with Holm's correction.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from oodles.comparing.figures import OOD_METRICS, Figure, holm
from oodles.comparing.groups import Group
from oodles.comparing.remarks import remarks_on
from oodles.comparing.results import Result
from oodles.runs.folder import augment_in_words
from oodles.runs.recipe import are_plain, own_score
from oodles.spelling import set_name, suggestion


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
        """Return each score, cross-entropy's score beside it, and the groups compared under the two."""
        pairs = dict.fromkeys(pair for group in self.groups for pair in group.versus)
        blocks = []
        for score, plain_score in pairs:
            compared = [group for group in self.groups if (score, plain_score) in group.versus]
            beside = {group.plain for group in compared}
            blocks.append((score, plain_score, tuple(g for g in self.groups if g in compared or g in beside)))
        return tuple(blocks)

    def figure(self, group: Group, ood_set: str | None, metric: str, score: str, plain_score: str) -> Figure | None:
        """Return one figure of a group; none where no run of it has the score on the set."""
        figure = self._figure(group, ood_set, metric, score, plain_score)
        return figure and replace(figure, p_holm=self.holm.get(_place(figure)))

    @cached_property
    def holm(self) -> Mapping[tuple[str | None, ...], float]:
        """Return the p of differences with Holm's correction.

        A family is the differences in one metric that the tables show: of every method to plain cross-entropy, on
        every out-of-distribution set, and under each pair of scores of :attr:`Group.versus`; those of fewer than three
        shared seeds are not tested. Accuracy, which belongs to no set and no score, is tested once a method.
        """
        families: dict[str, dict[tuple[str | None, ...], float]] = {}
        for cell in self._cells():
            figure = self._figure(*cell)
            if figure and figure.difference and (p := figure.difference.p) is not None:
                families.setdefault(figure.metric, {})[_place(figure)] = p
        return {
            place: adjusted
            for family in families.values()
            for place, adjusted in zip(family, holm(list(family.values())), strict=True)
        }

    def _figure(self, group: Group, ood_set: str | None, metric: str, score: str, plain_score: str) -> Figure | None:
        used = plain_score if group.is_plain else score
        value = group.measured(ood_set, used, metric)
        if value is None:
            return None
        plain = group.plain.measured(ood_set, plain_score, metric) if group.plain else None
        difference = None if plain is None else value.minus(plain)
        best_score = group.plain.best_on_validation if group.plain else None
        to_best = difference
        if group.plain and best_score != plain_score:
            best = group.plain.measured(ood_set, best_score, metric) if best_score else None
            to_best = None if best is None else value.minus(best)
        return Figure(group.label, used, ood_set, metric, value, plain, plain_score, difference, best_score, to_best)

    def figures(self) -> list[Figure]:
        """Return every figure that the tables show, each method under its own score."""
        return [figure for cell in self._cells() if (figure := self.figure(*cell))]

    def _cells(self) -> Iterator[tuple[Group, str | None, str, str, str]]:
        """Give what :meth:`figure` takes for every figure that the tables show."""
        columns = [(None, "accuracy"), *((name, metric) for name in self.ood_sets for metric in OOD_METRICS)]
        for score, plain_score, groups in self.blocks:
            for group in groups:
                for ood_set, metric in columns:
                    yield group, ood_set, metric, score, plain_score

    @property
    def sizes(self) -> str:
        """Say how many rows the figures of one seed rest on; AUPR depends on these numbers."""
        run = next((run for group in self.groups for run in group.finished), None)
        if run is None:
            return "No run has finished."
        sizes = ", ".join(f"{set_name(name)} {run.sizes[name]}" for name in ("test", *run.ood_sets))
        return f"Rows (seed {run.seed}): {sizes}."

    @property
    def augmentation(self) -> str:
        """Say how training images were changed at random; nothing where no row tells."""
        by_words: dict[str, list[str]] = {}
        for group in self.groups:
            for words in dict.fromkeys(augment_in_words(run.augment) for run in group.runs if run.augment):
                by_words.setdefault(words, []).append(group.label)
        if len(by_words) <= 1:
            return "".join(f"Training rows: {words}." for words in by_words)
        return "; ".join(f"Training rows of {', '.join(labels)}: {w}" for w, labels in by_words.items()) + "."

    @property
    def chance(self) -> str:
        """Say how many differences are marked, and how many would be by chance alone."""
        shown = {_place(figure): figure for figure in self.figures()}
        tested = [f for f in shown.values() if f.difference is not None and f.difference.half_interval is not None]
        if not tested:
            return "No difference is marked: that takes three or more seeds shared with plain cross-entropy."
        marked = sum(bool(f.verdict) for f in tested)
        return (
            f"{marked} of {len(tested)} differences are marked ▲ (better) or ▼ (worse): their 95 % interval "
            f"(Student's t, paired by seed) excludes 0. "
            f"If no method differed, chance would mark about {round(len(tested) / 20)}. "
            "Marked twice, ▲▲ or ▼▼, since they hold at 5 % with Holm's correction over all differences in the same "
            f"metric: {sum(len(figure.mark) > 1 for figure in tested)}."
        )


def _place(figure: Figure) -> tuple[str | None, ...]:
    """Return what tells a figure from others; accuracy is the same under all scores."""
    scores = (figure.score, figure.plain_score) if figure.ood_set else ()
    return figure.label, figure.metric, figure.ood_set, *scores


def _recipe(result: Result) -> str:
    """Return, as text, the label and settings that all runs of a row share."""
    return json.dumps([result.label, result.settings], sort_keys=True, default=str)


def build_table(suite: str, runs: Sequence[Result], score: str | None) -> Table:
    """Build the table of the runs on one suite.

    Args:
        suite: its name.
        runs: all have ended.
        score: one for all; each method's own unless given.

    Raises:
        ValueError: for runs of one seed with other rows, and a score that the runs do not have.
    """
    recipes: dict[str, list[Result]] = {}
    for run in sorted(runs, key=lambda run: not are_plain(run.methods)):
        recipes.setdefault(_recipe(run), []).append(run)
    _check_same_rows(runs)
    families = [sorted(family, key=lambda run: run.seed) for family in recipes.values()]
    groups: list[Group] = []
    for label, family in zip(_labels([family[0] for family in families]), families, strict=True):
        plain = None if are_plain(family[0].methods) else _beside(family, [group for group in groups if group.is_plain])
        group = Group(label, tuple(family), score or own_score(family[0].methods), plain)
        if score and group.finished and score not in group.scores:
            raise ValueError(f"There is no score {score!r} in the runs of {label!r}{suggestion(score, group.scores)}")
        groups.append(group)
    names = dict.fromkeys(name for run in runs for name in run.ood_sets)
    notes = {name: note for run in reversed(runs) for name, note in run.notes.items()}
    ordered = sorted(names, key=lambda name: not name.startswith("near:"))
    return Table(suite, tuple(groups), {n: notes.get(n.partition(":")[2], "") for n in ordered}, remarks_on(groups))


def _check_same_rows(runs: Sequence[Result]) -> None:
    """Refuse runs of one seed that were tested on other rows: pairing them by seed means nothing."""
    first: dict[int, Result] = {}
    for run in (run for run in runs if run.status == "finished"):
        other = first.setdefault(run.seed, run)
        facts: list[tuple[Mapping[str, object], Mapping[str, object]]]
        facts = [(run.sizes, other.sizes), (run.sha256, other.sha256)]
        for name in ("validation", "test", *run.ood_sets):
            # results without fingerprints, from earlier versions, are compared by size alone
            pairs = [(mine.get(name), theirs.get(name)) for mine, theirs in facts]
            if any(mine != theirs for mine, theirs in pairs if mine is not None and theirs is not None):
                raise ValueError(
                    f"{run.in_words} and {other.in_words} have the same data and seed but were tested on other rows: "
                    "the data has changed, so train one of them again."
                )


def _beside(family: Sequence[Result], plains: Sequence[Group]) -> Group | None:
    """Return the plain runs of the same network with the fewest other settings, then with the most shared seeds."""
    settings, seeds = family[0].settings, {run.seed for run in family}
    alike = [plain for plain in plains if plain.runs[0].settings.get("network") == settings.get("network")]
    if not alike:
        return None

    def distance(plain: Group) -> tuple[int, int]:
        other = plain.runs[0].settings
        shared = seeds & {run.seed for run in plain.runs}
        return sum(value != other.get(key) for key, value in settings.items()), -len(shared)

    return min(alike, key=distance)


def _labels(runs: Sequence[Result]) -> list[str]:
    """Return the recipes' labels, with the settings that tell equal ones apart."""
    labels = []
    for run in runs:
        own, twins = _flat(run), [_flat(other) for other in runs if other.label == run.label]
        telling = [key for key in own if any(twin.get(key) != own[key] for twin in twins)]
        words = [f"{key} {own[key]}" for key in telling]
        labels.append(f"{run.label} ({', '.join(words)})" if words else run.label)
    return labels


def _flat(run: Result) -> dict[str, Any]:
    """Return settings by name, those of methods too."""
    several = len(run.methods) > 1
    methods = {
        f"{name} {key}" if several else key: value for name, given in run.methods for key, value in given.items()
    }
    return {**methods, **{key: value for key, value in run.settings.items() if key != "methods"}}
