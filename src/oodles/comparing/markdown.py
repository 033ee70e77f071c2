"""A comparison in Markdown: overview, every set in detail, every score, what got worse, and ranks."""

import re
from collections.abc import Sequence

from oodles.comparing.advice import Step, more_seeds, next_steps
from oodles.comparing.figures import CAUTION, METRICS, Figure, in_points
from oodles.comparing.ranking import WORTH, Ranking, ranking
from oodles.comparing.tables import Table
from oodles.comparing.words import (
    HOW_TO_READ,
    JUDGEMENT_HEADS,
    MEANINGS,
    Columns,
    details,
    heading,
    judgements,
    overview,
    rows,
    sentences,
)
from oodles.spelling import set_name

READING = (
    HOW_TO_READ,
    "▲ and ▼ mark differences whose 95 % interval (Student's t, paired by seed) excludes 0, with no correction for "
    "multiple comparisons: below each first table stands how many marks chance alone would give. ▲▲ and ▼▼ are those "
    "that hold at 5 % with Holm's correction, for all differences in one metric of a suite: of every method, on every "
    "set, under each score that the first table compares it by. Tables of further scores have single marks alone.",
    CAUTION,
    MEANINGS,
)


def render(tables: Sequence[Table]) -> str:
    """Write all tables, the ranks, and how to read them."""
    lines = ["# Comparison", ""]
    for table in tables:
        lines += [f"## {escape(table.suite)}", "", *suite(table, "###")]
        if steps := next_steps(table):
            lines += ["### What to do next", "", *map(_item, [*steps, *more_seeds(table)]), ""]
    if ranks := ranking(tables):
        lines += ["## Ranks", "", *ranks_table(ranks)]
    return "\n".join([*lines, "## How to read this", "", *(f"* {words}" for words in READING), ""])


def _item(step: Step) -> str:
    """Write a step as an item, with its command as code; of the fence, more ticks than the command has in a row."""
    ticks = "`" * (1 + max(map(len, re.findall("`+", step.command)), default=0))
    return f"* {escape(step.words)}" + (f" {ticks}{step.command}{ticks}" if step.command else "")


def suite(table: Table, level: str) -> list[str]:
    """Write everything about one suite, with headings that begin with ``level``."""
    lines = [*figures_table(table, overview(table)), ""]
    lines += [*(f"* {escape(sentence)}" for sentence in sentences(table)), ""]
    lines += [f"{level} What got worse", "", *worse(table), ""]
    for name in table.ood_sets:
        title = escape(set_name(name))
        lines += [f"{level} {title}", "", *figures_table(table, details(name)), ""]
        if judged := judgements(table, name):
            lines += [
                "Differences to cross-entropy under the same score, and under the one best on validation data (not",
                "counted above):",
                "",
            ]
            lines += [
                *grid(
                    JUDGEMENT_HEADS, [_with_bold(judgement.cells, judgement.verdict) for judgement in judged], words=3
                ),
                "",
            ]
        lines += ["AUROC under every score, marked against cross-entropy under the same (not counted above):", ""]
        lines += [*scores_table(table, name), ""]
    return lines


def figures_table(table: Table, columns: Columns) -> list[str]:
    """Write the table with these columns, block by block."""
    several = len({name for name, _ in columns if name}) > 1
    heads = [f"{set_name(name)} {heading(m)}" if name and several else heading(m) for name, m in columns]
    lines = [[row.group.label, row.under, *map(_cell, row.figures)] for row in rows(table, columns)]
    return grid(["method", "score, seeds", *heads], lines, words=2)


def scores_table(table: Table, ood_set: str) -> list[str]:
    """Write the AUROC on one set of every method under every score, beside its accuracy."""
    scores = list(dict.fromkeys(score for group in table.groups for score in group.scores))
    lines = []
    for group in table.groups:
        right = table.figure(group, None, "accuracy", group.own_score, group.own_score)
        aurocs = [table.figure(group, ood_set, "auroc", score, score) for score in scores]
        lines.append([group.label, *(_with_mark(figure) for figure in (right, *aurocs))])
    return grid(["method", "accuracy ↑", *scores], lines, words=1)


def worse(table: Table) -> list[str]:
    """List what is marked as worse, method by method; and accuracy and AUROC that are lower without a mark."""
    marked: dict[str, dict[str, dict[str, None]]] = {}
    lower: dict[str, dict[str, None]] = {}
    for figure in table.figures():
        if figure.difference is None:
            continue
        where = set_name(figure.ood_set) if figure.ood_set else "in-distribution"
        words = f"{METRICS[figure.metric].heading} {in_points(figure.difference.mean)}"
        if figure.verdict == "worse":
            marked.setdefault(figure.label, {}).setdefault(where, {})[words] = None
        elif figure.sign * figure.difference.mean < 0 and figure.metric in ("accuracy", "auroc"):
            lower.setdefault(figure.label, {})[f"{where} {words}"] = None
    lines = []
    for label, places in marked.items():
        listing = "; ".join(f"{where}: {', '.join(words)}" for where, words in places.items())
        lines.append(f"* **{escape(label)}**, beyond the noise. {escape(listing)}.")
    lines += [f"* {escape(label)}, not marked. {escape('; '.join(words))}." for label, words in lower.items()]
    return lines or ["Nothing."]


def ranks_table(ranks: Ranking) -> list[str]:
    """Write the average ranks, and what they are worth."""
    lines = [[m.label, m.score, f"{m.average_by_accuracy:.2f}", f"{m.average:.2f}"] for m in ranks.methods]
    heads = ("method", "score", "average rank by accuracy", f"average rank by AUROC, {len(ranks.sets)} sets")
    left_out = [f"Not ranked, since not measured everywhere: {', '.join(ranks.left_out)}."] if ranks.left_out else []
    return [*grid(heads, lines, words=2), "", " ".join([WORTH, *map(escape, left_out)]), ""]


def escape(words: str) -> str:
    """Escape what Markdown would read as markup."""
    for sign in ("\\", "|", "*", "_", "<", "`", "["):
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> list[str]:
    """Write a table; the cells of the first ``words`` columns are escaped, the others stay as they are."""
    cells = [list(map(escape, heads)), ["---"] * words + ["---:"] * (len(heads) - words)]
    cells += [[*map(escape, line[:words]), *line[words:]] for line in lines]
    return [f"| {' | '.join(line)} |" for line in cells]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    difference = f"**{figure.against_plain}**" if figure.verdict else figure.against_plain
    return "<br>".join(part for part in (str(figure.value), difference) if part)


def _with_mark(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.value} {figure.mark}".rstrip()


def _with_bold(cells: Sequence[str], verdict: str) -> list[str]:
    """Set the difference in bold where it is beyond the noise."""
    return [f"**{cell}**" if verdict and place == 4 else cell for place, cell in enumerate(cells)]
