"""The words and rows that all forms of a comparison share: columns, cells, judgements, and how to read them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from oodles.comparing.figures import METRICS, OOD_METRICS, Figure, Seeds, in_brackets
from oodles.comparing.groups import Group
from oodles.comparing.remarks import FEW
from oodles.comparing.results import Result
from oodles.comparing.tables import Table
from oodles.methods import score_named
from oodles.spelling import set_name

HOW_TO_READ = (
    "Per cent, mean ± standard deviation over n seeds. Below it the difference to plain cross-entropy under the same "
    "score, paired by seed, and on how many of the seeds the method is better."
)
MEANINGS = "; ".join(f"{METRICS[metric].heading}: {METRICS[metric].meaning}" for metric in OOD_METRICS) + "."
Columns = Sequence[tuple[str | None, str]]
"""The (set, metric) of each column; accuracy belongs to no set."""


@dataclass(frozen=True)
class Row:
    """One group under one score, with a figure or nothing for each column."""

    group: Group
    score: str
    figures: tuple[Figure | None, ...]
    opens_block: bool

    @property
    def under(self) -> str:
        """Return the score, and over how many seeds."""
        return f"{self.score}, n = {self.group.seeds}" if self.group.finished else self.group.seeds


def rows(table: Table, columns: Columns) -> list[Row]:
    """Return the rows of a table, block by block: a score, plain cross-entropy under it, the methods under it."""
    return [
        Row(
            group,
            plain_score if group.is_plain else score,
            tuple(table.figure(group, *column, score, plain_score) for column in columns),
            position == 0,
        )
        for score, plain_score, groups in table.blocks
        for position, group in enumerate(groups)
    ]


@dataclass(frozen=True)
class Judgement:
    """The difference in AUROC of one method to plain cross-entropy, on one set under one score, and its tests."""

    figure: Figure
    beside: str
    """Plain cross-entropy's score."""
    accuracy: str
    """The difference in accuracy, in words."""
    difference: Seeds

    @property
    def verdict(self) -> str:
        return self.figure.judge(self.difference)

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the cells under :data:`JUDGEMENT_HEADS`."""
        figure, difference = self.figure, self.difference
        intervals = (in_brackets(difference.interval), in_brackets(difference.bootstrap))
        return (
            figure.label,
            figure.score,
            self.beside,
            self.accuracy,
            figure.in_words(difference),
            *intervals,
            f"{difference.sign_test:.2g}",
        )


JUDGEMENT_HEADS = (
    "method",
    "score",
    "cross-entropy under",
    "accuracy",
    "AUROC",
    "Student 95 %",
    "bootstrap 95 %",
    "sign test p",
)


def judgements(table: Table, ood_set: str) -> list[Judgement]:
    """Return the differences to plain cross-entropy under the same score, and under the one best on validation data."""
    judged = []
    for row in rows(table, [(None, "accuracy"), (ood_set, "auroc")]):
        accuracy, figure = row.figures
        if accuracy is None or figure is None:
            continue
        if figure.difference:
            judged.append(Judgement(figure, figure.plain_score, accuracy.against_plain, figure.difference))
        if figure.difference_to_best and figure.best_score and figure.best_score != figure.plain_score:
            judged.append(Judgement(figure, figure.best_score, accuracy.against_plain, figure.difference_to_best))
    return judged


def overview(table: Table) -> list[tuple[str | None, str]]:
    """Return the columns that come first: accuracy, and AUROC on every out-of-distribution set."""
    return [(None, "accuracy"), *((name, "auroc") for name in table.ood_sets)]


def details(ood_set: str) -> list[tuple[str | None, str]]:
    """Return the columns of one set: every metric, beside accuracy."""
    return [(None, "accuracy"), *((ood_set, metric) for metric in OOD_METRICS)]


def heading(metric: str) -> str:
    """Return a metric's name, and which way is better."""
    name, arrow = METRICS[metric].heading, "↑" if METRICS[metric].higher_is_better else "↓"
    return f"{name} {arrow}"


def sentences(table: Table) -> list[str]:
    """Return the sentences below the tables of a suite: marks expected by chance, rows, augmentation, remarks."""
    notes = [f"* {set_name(name)}: {remark}." for name, remark in table.ood_sets.items() if remark]
    return [*filter(None, (table.chance, table.sizes, table.augmentation)), *notes, *table.remarks]


def setting(table: Table) -> list[tuple[str, str]]:
    """Return what the runs of a suite have in common, and which rows differ: network, epochs, seeds, machine."""
    facts: dict[str, Callable[[Result], str]] = {
        "network": lambda run: str(run.settings.get("network", "")),
        "epochs": lambda run: str(run.settings.get("epochs", "")),
        "batch size": lambda run: str(run.settings.get("batch_size", "")),
        "seeds": lambda run: str(run.seed),
        "training rows": lambda run: str(run.sizes.get("train", "")),
        "machine": lambda run: ", ".join(
            str(run.environment[key]) for key in ("device", "platform") if key in run.environment
        ),
        "versions": lambda run: ", ".join(
            f"{key} {run.environment[key]}" for key in ("oodles", "torch", "python") if key in run.environment
        ),
    }
    told = [(name, _in_which_rows(table, fact)) for name, fact in facts.items()]
    return [(name, words) for name, words in told if words]


def _in_which_rows(table: Table, fact: Callable[[Result], str]) -> str:
    """Say a fact once where all rows agree, and else the rows that it is true of."""
    by_words: dict[str, list[str]] = {}
    for group in table.groups:
        words = ", ".join(dict.fromkeys(filter(None, map(fact, group.runs))))
        by_words.setdefault(words, []).append(group.label)
    if len(by_words) == 1:
        return next(iter(by_words))
    return "; ".join(f"{words} ({named(labels)})" for words, labels in by_words.items() if words)


def named(labels: Sequence[str]) -> str:
    """Name a few rows, and count many."""
    return ", ".join(labels) if len(labels) <= FEW else f"{len(labels)} rows"


def scores_in_words(table: Table) -> list[tuple[str, str]]:
    """Return what each score of a table is, in a sentence; a score of one's own has none."""
    names = dict.fromkeys(score for pair in table.blocks for score in pair[:2])
    return [(name, summary) for name in names if (summary := _summary(name))]


def _summary(score: str) -> str:
    try:
        return score_named(score).summary
    except ValueError:
        return ""
