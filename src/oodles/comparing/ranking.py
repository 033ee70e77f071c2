"""Ranks of methods over suites and out-of-distribution sets, by mean AUROC."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from oodles.comparing.tables import Table

Entry = tuple[str, str]
"""A method's label and a score."""

Ranks = TypeVar("Ranks")

WORTH = (
    "Rank 1 is the highest mean AUROC, equal ones share a rank, and the average is over sets. A rank hides how large a "
    "difference is: a thousandth counts as much as a tenth, and nothing is tested. The sets of one suite are scored by "
    "the same networks, so they are not independent evidence."
)


@dataclass(frozen=True)
class Ranked:
    """One method: its ranks by AUROC, set by set, and by accuracy, suite by suite."""

    label: str
    score: str
    ranks: tuple[float, ...]
    accuracy_ranks: tuple[float, ...]

    @property
    def average(self) -> float:
        return sum(self.ranks) / len(self.ranks)

    @property
    def average_by_accuracy(self) -> float:
        return sum(self.accuracy_ranks) / len(self.accuracy_ranks)


@dataclass(frozen=True)
class Ranking:
    """The methods that have a figure on every set, the best average first."""

    sets: tuple[tuple[str, str], ...]
    """Suite and out-of-distribution set."""
    methods: tuple[Ranked, ...]
    left_out: tuple[str, ...]
    """Methods that lack a figure somewhere."""


def ranking(tables: Sequence[Table]) -> Ranking | None:
    """Rank the methods of one comparison; return nothing for fewer than two methods or two sets.

    Plain cross-entropy enters under every score that a method has for its own, so that a score's merit is not a
    method's.
    """
    groups = [group for table in tables for group in table.groups]
    own = dict.fromkeys(group.own_score for group in groups)
    entries = dict.fromkeys(
        (group.label, score) for group in groups for score in (own if group.is_plain else (group.own_score,))
    )
    by_set = {(table.suite, name): _aurocs(table, name, entries) for table in tables for name in table.ood_sets}
    by_suite = [_accuracies(table) for table in tables if table.ood_sets]
    everywhere = [entry for entry in entries if all(entry in means for means in by_set.values())]
    everywhere = [entry for entry in everywhere if all(entry[0] in means for means in by_suite)]
    labels = list(dict.fromkeys(label for label, _ in everywhere))
    if len(by_set) < 2 or len(labels) < 2:
        return None
    ranks = [_ranks({entry: means[entry] for entry in everywhere}) for means in by_set.values()]
    accuracy_ranks = [_ranks({label: means[label] for label in labels}) for means in by_suite]
    methods = [
        Ranked(*entry, tuple(r[entry] for r in ranks), tuple(r[entry[0]] for r in accuracy_ranks))
        for entry in everywhere
    ]
    left_out = tuple(dict.fromkeys(label for label, _ in entries if label not in labels))
    return Ranking(tuple(by_set), tuple(sorted(methods, key=lambda method: method.average)), left_out)


def _aurocs(table: Table, ood_set: str, entries: Iterable[Entry]) -> dict[Entry, float]:
    groups = {group.label: group for group in table.groups}
    aurocs = {entry: groups[entry[0]].measured(ood_set, entry[1], "auroc") for entry in entries if entry[0] in groups}
    return {entry: seeds.mean for entry, seeds in aurocs.items() if seeds}


def _accuracies(table: Table) -> dict[str, float]:
    accuracies = {group.label: group.measured(None, group.own_score, "accuracy") for group in table.groups}
    return {label: seeds.mean for label, seeds in accuracies.items() if seeds}


def _ranks(means: Mapping[Ranks, float]) -> dict[Ranks, float]:
    """Rank means, 1 for the largest; equal ones share the average of their places."""
    values = means.values()
    return {
        entry: sum(other > mean for other in values) + (1 + sum(other == mean for other in values)) / 2
        for entry, mean in means.items()
    }
