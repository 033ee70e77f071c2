"""A comparison in Markdown: overview, every set in detail, every score, what got worse, and ranks."""

from collections.abc import Sequence

from oodles.comparison import Comparison, Table, set_name
from oodles.figures import CAUTION, METRICS, Figure, in_points
from oodles.ranking import WORTH, Ranking, ranking
from oodles.report import (
    HOW_TO_READ,
    JUDGED_HEADS,
    MEANINGS,
    Columns,
    details,
    heading,
    judged,
    overview,
    rows,
    sentences,
)

READING = (
    HOW_TO_READ,
    "▲ and ▼ mark differences whose 95 % interval (Student's t, paired by seed) leaves out 0, with no correction for "
    "looking at many: below each first table stands how many marks chance alone would give.",
    CAUTION,
    MEANINGS,
)


def markdown(comparison: Comparison) -> str:
    """See :meth:`oodles.comparison.Comparison.to_markdown`."""
    lines = ["# Comparison", ""]
    for table in comparison.tables:
        lines += [f"## {escaped(table.suite)}", "", *suite(table, "###")]
    if ranks := ranking(comparison.tables):
        lines += ["## Ranks", "", *ranks_table(ranks)]
    return "\n".join([*lines, "## How to read this", "", *(f"* {words}" for words in READING), ""])


def suite(table: Table, level: str) -> list[str]:
    """Everything about one suite, with headings that begin with ``level``."""
    lines = [*figures_table(table, overview(table)), ""]
    lines += [*(f"* {escaped(sentence)}" for sentence in sentences(table)), ""]
    lines += [f"{level} What got worse", "", *worse(table), ""]
    for name in table.ood_sets:
        title = escaped(set_name(name))
        lines += [f"{level} {title}", "", *figures_table(table, details(name)), ""]
        if found := judged(table, name):
            lines += [
                "Differences to cross-entropy under the same score, and under the one best on validation data (not",
                "counted above):",
                "",
            ]
            lines += [*grid(JUDGED_HEADS, [_with_bold(each.cells, each.verdict) for each in found], words=3), ""]
        lines += ["AUROC under every score, marked against cross-entropy under the same (not counted above):", ""]
        lines += [*scores_table(table, name), ""]
    return lines


def figures_table(table: Table, columns: Columns) -> list[str]:
    """The table with these columns, block by block."""
    several = len({name for name, _ in columns if name}) > 1
    heads = [f"{set_name(name)} {heading(m)}" if name and several else heading(m) for name, m in columns]
    lines = [[row.group.label, row.under, *map(_cell, row.figures)] for row in rows(table, columns)]
    return grid(["method", "score, seeds", *heads], lines, words=2)


def scores_table(table: Table, ood_set: str) -> list[str]:
    """AUROC on one set of every method under every score, beside its accuracy."""
    scores = list(dict.fromkeys(score for group in table.groups for score in group.scores))
    lines = []
    for group in table.groups:
        right = table.figure(group, None, "accuracy", group.own_score, group.own_score)
        found = [table.figure(group, ood_set, "auroc", score, score) for score in scores]
        lines.append([group.label, *(_marked(figure) for figure in (right, *found))])
    return grid(["method", "accuracy ↑", *scores], lines, words=1)


def worse(table: Table) -> list[str]:
    """What is marked as worse, method by method; and accuracy and AUROC that are lower without a mark."""
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
        said = "; ".join(f"{where}: {', '.join(words)}" for where, words in places.items())
        lines.append(f"* **{escaped(label)}**, beyond the noise. {escaped(said)}.")
    lines += [f"* {escaped(label)}, not marked. {escaped('; '.join(words))}." for label, words in lower.items()]
    return lines or ["Nothing."]


def ranks_table(ranks: Ranking) -> list[str]:
    """The average ranks, and what they are worth."""
    lines = [
        [each.label, each.score, f"{each.average_by_accuracy:.2f}", f"{each.average:.2f}"] for each in ranks.methods
    ]
    heads = ("method", "score", "average rank by accuracy", f"average rank by AUROC, {len(ranks.sets)} sets")
    left_out = [f"Not ranked, since not measured everywhere: {', '.join(ranks.left_out)}."] if ranks.left_out else []
    return [*grid(heads, lines, words=2), "", " ".join([WORTH, *map(escaped, left_out)]), ""]


def escaped(words: str) -> str:
    """Words without a meaning for Markdown."""
    for sign in ("\\", "|", "*", "_", "<", "`", "["):
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())


def grid(heads: Sequence[str], lines: Sequence[Sequence[str]], words: int) -> list[str]:
    """A table whose first columns are words, to be escaped, and the others numbers, written already."""
    written = [list(map(escaped, heads)), ["---"] * words + ["---:"] * (len(heads) - words)]
    written += [[*map(escaped, line[:words]), *line[words:]] for line in lines]
    return [f"| {' | '.join(line)} |" for line in written]


def _cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    difference = f"**{figure.against_plain}**" if figure.verdict else figure.against_plain
    return "<br>".join(part for part in (str(figure.value), difference) if part)


def _marked(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    return f"{figure.value}{ {'better': ' ▲', 'worse': ' ▼', '': ''}[figure.verdict] }"


def _with_bold(cells: Sequence[str], verdict: str) -> list[str]:
    """The differences in bold where they are beyond the noise."""
    return [f"**{cell}**" if verdict and place == 4 else cell for place, cell in enumerate(cells)]
