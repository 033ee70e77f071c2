"""Put results into tables: mean ± std over seeds, and plain cross-entropy under the same score beside every method.

Differences are paired by seed, because a seed often draws the data too. Losers and diverged runs are shown; a
difference is marked only where its 95 % interval excludes zero, and twice where it holds with Holm's correction.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

from oodles.comparing.figures import OOD_METRICS, Figure, Seeds, holm
from oodles.comparing.results import CHOSEN, Result
from oodles.metrics import accuracy_at_chance, at_chance
from oodles.runs.folder import augment_in_words
from oodles.runs.recipe import active_methods, are_plain, needs_outliers, own_score, trained_away
from oodles.spelling import set_name, suggestion

SHARED_SCORES = ("msp", "energy", "knn")
"""Where plain training cannot give a method's own score, both are shown under these."""
FEW = 3
"""As many ways in which a score was fitted are told apart, and as many rows are named in a sentence."""
FAR_WORSE = 0.1
"""In AUROC: a score that tells even the training outliers so much worse than the method's own gets a remark."""
UNREAD = ("suggest", "teacher", "outlier_batch_size", "max_outliers")
"""Settings that change nothing of plain training."""
MACHINE = {"threads": "threads", "device": "device", "precision": "mixed_precision"}
"""Facts of the machine on which figures depend a little: in words, and as keys of a run's environment."""


@dataclass(frozen=True, eq=False)
class Group:
    """The runs of one recipe, one per seed."""

    label: str
    runs: tuple[Result, ...]
    own_score: str
    plain: "Group | None" = None
    """The plain cross-entropy runs to compare with, if any; a plain group has none."""

    @property
    def is_plain(self) -> bool:
        return are_plain(self.runs[0].methods)

    @cached_property
    def finished(self) -> tuple[Result, ...]:
        return tuple(run for run in self.runs if run.status == "finished")

    @property
    def seeds(self) -> str:
        """Say how many seeds stand behind the figures, and how many diverged."""
        finished, diverged = len(self.finished), len(self.runs) - len(self.finished)
        words = [f"{finished}"] if finished else []
        if diverged:
            words.append(f"diverged ({diverged} of {len(self.runs)} seeds)")
        return ", ".join(words)

    @cached_property
    def scores(self) -> tuple[str, ...]:
        """Return the scores that every finished run has."""
        first, *others = [run.scores for run in self.finished] or [()]
        return tuple(score for score in first if all(score in other for other in others))

    @cached_property
    def versus(self) -> tuple[tuple[str, str], ...]:
        """Return the pairs of scores under which it is compared with plain cross-entropy, its own score last.

        Before come those that were chosen for both. A score that plain training cannot give is compared with the
        one that is best for plain training on validation data, and both are also compared under scores that they share.
        """
        if self.plain is None or not self.finished:
            return ((self.own_score, self.own_score),)
        shared = [s for s in (CHOSEN, *SHARED_SCORES) if s in self.scores and s in self.plain.scores]
        if self.own_score in self.plain.scores:
            return tuple(dict.fromkeys((s, s) for s in (*(s for s in shared if s == CHOSEN), self.own_score)))
        return (*((s, s) for s in shared), (self.own_score, self.plain.best_on_validation or self.own_score))

    @cached_property
    def best_on_validation(self) -> str | None:
        """Return the score with the best AUROC of validation rows against outliers; test sets have no say."""
        aurocs = {score: self.on_outliers(score) for score in self.scores if score != CHOSEN}
        means = {score: seeds.mean for score, seeds in aurocs.items() if seeds}
        return max(means, key=lambda score: means[score]) if means else None

    def on_outliers(self, score: str) -> Seeds | None:
        """Return the AUROC of validation rows against outliers per seed."""
        return self._seeds(partial(_on_validation, score=score))

    def measured(self, ood_set: str | None, score: str, metric: str) -> Seeds | None:
        """Return a metric per seed, of the finished runs that have it; accuracy belongs to no set."""
        if ood_set is None:
            return self._seeds(lambda run: run.accuracy)
        return self._seeds(lambda run: run.figures("test", ood_set, score).get(metric))

    def _seeds(self, measure: Callable[[Result], float | None]) -> Seeds | None:
        by_seed = {run.seed: value for run in self.finished if (value := measure(run)) is not None}
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
    return Table(suite, tuple(groups), {n: notes.get(n.partition(":")[2], "") for n in ordered}, _remarks(groups))


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


def _remarks(groups: Sequence[Group]) -> tuple[str, ...]:
    """Say what a reader must know about the rows of a table."""
    remarks = []
    if not any(group.is_plain for group in groups):
        remarks.append("There are no plain cross-entropy runs to compare the methods with: train cross-entropy.")
    unlike: dict[str, list[str]] = {}
    for group in groups:
        finished = {run.seed for run in group.finished}
        if group.plain:
            if words := _unlike(group.runs[0].settings, group.plain.runs[0].settings):
                unlike.setdefault(f"{words}, unlike the {group.plain.label} beside it", []).append(group.label)
            paired = finished & {run.seed for run in group.plain.finished}
            if len(paired) < len(finished):
                remarks.append(
                    f"{group.label}: {len(paired)} of {len(finished)} seeds have plain cross-entropy to compare with."
                )
        elif not group.is_plain and any(other.is_plain for other in groups):
            remarks.append(f"{group.label}: no plain cross-entropy with this network.")
        reasons: dict[str, list[str]] = {}
        for run in group.runs:
            if run.status == "diverged":
                reasons.setdefault(run.reason or "no reason was recorded.", []).append(str(run.seed))
        for reason, seeds in reasons.items():
            which = _seeds_in_words(seeds)
            remarks.append(f"{group.label}, {which}, diverged: {reason}")
        remarks += _warnings(group, groups)
        remarks += _scores_in_doubt(group)
    remarks += _choices(groups)
    remarks += _chosen_scores(groups)
    if words := _differ([run for group in groups for run in group.runs]):
        remarks.append(f"Runs differ in {words}, on which figures depend a little.")
    single = [group.label for group in groups if len(group.finished) == 1]
    if single:
        remarks.append(f"One seed only, so no deviation: {', '.join(single)}.")
    return (*(f"{', '.join(labels)}: {words}." for words, labels in unlike.items()), *remarks)


def _seeds_in_words(seeds: Sequence[str]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def _warnings(group: Group, groups: Sequence[Group]) -> list[str]:
    """Say of what training warned, and which accuracies are at chance: also those of rows that recorded no warnings."""
    shares = [run.chance for other in groups for run in other.runs if run.chance is not None]
    said: dict[str, list[str]] = {}
    for run in group.runs:
        words = list(run.warnings)
        share = run.chance if run.chance is not None else max(shares, default=None)
        if run.accuracy is not None and share is not None and at_chance(run.accuracy, run.sizes["test"], share):
            words.append(accuracy_at_chance("test rows"))
        for sentence in dict.fromkeys(words):
            said.setdefault(sentence, []).append(str(run.seed))
    return [f"{group.label}, {_seeds_in_words(seeds)}: {sentence}" for sentence, seeds in said.items()]


def _choices(groups: Sequence[Group]) -> list[str]:
    """Say what scores chose when they were fitted, and in which rows where there are few ways of it."""
    chosen: dict[str, dict[str, list[str]]] = {}
    for group in groups:
        for run in group.runs:
            for score, choice in run.remarks.items():
                labels = chosen.setdefault(score, {}).setdefault(choice, [])
                labels += [] if group.label in labels else [group.label]
    remarks = []
    for score, by_choice in chosen.items():
        several = len(by_choice) > 1
        words = [f"{choice} ({', '.join(labels)})" if several else choice for choice, labels in by_choice.items()]
        if len(words) > FEW:
            words = [next(iter(by_choice)), "other numbers in other runs"]
        remarks.append(f"{score}: {'; '.join(words)}.")
    return remarks


def _chosen_scores(groups: Sequence[Group]) -> list[str]:
    """Say which scores were chosen for the runs of each group, without training and without test rows."""
    by_scores: dict[str, list[str]] = {}
    for group in groups:
        if scores := sorted({run.chosen for run in group.finished if run.chosen}):
            by_scores.setdefault(" or ".join(scores), []).append(group.label)
    words = "; ".join(f"{scores} ({', '.join(labels)})" for scores, labels in by_scores.items())
    return [f"{CHOSEN}: the score that tells unknowns made of validation rows best: {words}."] if words else []


def _scores_in_doubt(group: Group) -> list[str]:
    """Name scores that a method trains away, and those that fail on the very outliers that it was trained with."""
    methods = active_methods(group.runs[0].methods)
    remarks = [f"{group.label}: {words}" for words in trained_away(methods, group.scores)]
    if not needs_outliers(methods):
        return remarks
    own = group.on_outliers(group.own_score)
    kind = "validation" if any("validation-outliers" in run.sizes for run in group.runs) else "training"
    worse = {}
    for score in group.scores:
        here, plain = group.on_outliers(score), group.plain.on_outliers(score) if group.plain else None
        if own and here and own.mean - here.mean > FAR_WORSE and (plain is None or here.mean < plain.mean):
            worse[score] = here.mean
    if own and worse:
        words = ", ".join(f"{score} ({100 * mean:.0f} %)" for score, mean in worse.items())
        remarks.append(
            f"{group.label}: even {kind} outliers are told from validation rows far worse by {words} than by "
            f"{group.own_score} ({100 * own.mean:.0f} % AUROC), and worse than by the same score without the method."
        )
    return remarks


def _differ(runs: Sequence[Result]) -> str:
    """Say in which facts of the machine the runs of a table differ; what was not recorded does not count."""
    words = []
    for what, key in MACHINE.items():
        values = {str(run.environment[key]) for run in runs if key in run.environment}
        if len(values) > 1:
            words.append(f"{what} ({' or '.join(sorted(values, key=lambda value: (len(value), value)))})")
    return ", ".join(words)


def _unlike(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """Say in which settings of training, methods apart, a row differs from plain cross-entropy."""
    start = settings.get("initial weights")
    words = [] if start == plain.get("initial weights") else [f"starts from {start} weights"]
    words += [f"learns from {settings['teacher']}"] if settings.get("teacher") else []
    return ", ".join(
        words
        + [
            f"{key.replace('_', ' ')} {value} (not {plain[key]})"
            for key, value in settings.items()
            if key in plain and value != plain[key] and key not in ("methods", "initial weights", *UNREAD)
        ]
    )


def _on_validation(run: Result, score: str) -> float | None:
    """Return the AUROC of validation rows against outliers."""
    aurocs = (run.figures("validation", name, score).get("auroc") for name in run.metrics.get("validation", {}))
    return next((auroc for auroc in aurocs if auroc is not None), None)
