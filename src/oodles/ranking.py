"""Ranks of methods over suites and out-of-distribution sets, by mean AUROC under each one's own score."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from oodles.comparison import Table

WORTH = (
    "Rank 1 is the highest mean AUROC, equal ones share a rank, and the average is over sets. A rank hides sizes: a "
    "thousandth counts as much as a tenth, and nothing is tested. The sets of one suite are judged by the same "
    "networks, so they are no independent evidence."
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
    """Ranks the methods of one comparison; nothing for fewer than two methods or two sets."""
    by_set = {(table.suite, name): _means(table, name, "auroc") for table in tables for name in table.ood_sets}
    by_suite = [_means(table, None, "accuracy") for table in tables if table.ood_sets]
    scores = {group.label: group.own_score for table in tables for group in table.groups}
    everywhere = [label for label in scores if all(label in means for means in (*by_set.values(), *by_suite))]
    if len(by_set) < 2 or len(everywhere) < 2:
        return None
    ranks = [_ranks({label: means[label] for label in everywhere}) for means in by_set.values()]
    accuracy_ranks = [_ranks({label: means[label] for label in everywhere}) for means in by_suite]
    methods = [
        Ranked(label, scores[label], tuple(r[label] for r in ranks), tuple(r[label] for r in accuracy_ranks))
        for label in everywhere
    ]
    left_out = tuple(label for label in scores if label not in everywhere)
    return Ranking(tuple(by_set), tuple(sorted(methods, key=lambda method: method.average)), left_out)


def _means(table: Table, ood_set: str | None, metric: str) -> dict[str, float]:
    found = {group.label: group.measured(ood_set, group.own_score, metric) for group in table.groups}
    return {label: seeds.mean for label, seeds in found.items() if seeds}


def _ranks(means: Mapping[str, float]) -> dict[str, float]:
    """1 for the largest; equal ones share the average of their places."""
    values = means.values()
    return {
        label: sum(other > mean for other in values) + (1 + sum(other == mean for other in values)) / 2
        for label, mean in means.items()
    }
