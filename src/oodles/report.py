"""A comparison to look at: text for a terminal, Markdown, and one HTML file with pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from oodles.cards import card
from oodles.comparison import Comparison, Group, Table, set_name
from oodles.figures import CAUTION, METRICS, OOD_METRICS, Figure, Seeds, in_brackets
from oodles.ranking import WORTH, ranking
from oodles.results import Result
from oodles.run_folder import RUN, Run, open_run

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
        """The score, and over how many seeds."""
        return f"{self.score}, n = {self.group.seeds}" if self.group.finished else self.group.seeds


def rows(table: Table, columns: Columns) -> list[Row]:
    """The rows of a table, block by block: a score, plain cross-entropy under it, the methods under it."""
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
class Judged:
    """One method's difference in AUROC on one set to plain cross-entropy under one score, and what tests say of it."""

    figure: Figure
    beside: str
    """Plain cross-entropy's score."""
    accuracy: str
    """The difference in accuracy, in words."""
    difference: Seeds

    @property
    def verdict(self) -> str:
        return self.figure.judged(self.difference)

    @property
    def cells(self) -> tuple[str, ...]:
        """What the columns :data:`JUDGED_HEADS` say."""
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


JUDGED_HEADS = (
    "method",
    "score",
    "cross-entropy under",
    "accuracy",
    "AUROC",
    "Student 95 %",
    "bootstrap 95 %",
    "sign test p",
)


def judged(table: Table, ood_set: str) -> list[Judged]:
    """The differences to plain cross-entropy under the same score, and under the one best on validation data."""
    found = []
    for row in rows(table, [(None, "accuracy"), (ood_set, "auroc")]):
        right, figure = row.figures
        if right is None or figure is None:
            continue
        if figure.difference:
            found.append(Judged(figure, figure.plain_score, right.against_plain, figure.difference))
        if figure.difference_to_best and figure.best_score and figure.best_score != figure.plain_score:
            found.append(Judged(figure, figure.best_score, right.against_plain, figure.difference_to_best))
    return found


def overview(table: Table) -> list[tuple[str | None, str]]:
    """The columns that come first: accuracy, and AUROC on every out-of-distribution set."""
    return [(None, "accuracy"), *((name, "auroc") for name in table.ood_sets)]


def details(ood_set: str) -> list[tuple[str | None, str]]:
    """The columns of one set: every metric, beside accuracy."""
    return [(None, "accuracy"), *((ood_set, metric) for metric in OOD_METRICS)]


def heading(metric: str) -> str:
    """A metric's name, and which way is better."""
    name, arrow = METRICS[metric].heading, "↑" if METRICS[metric].higher_is_better else "↓"
    return f"{name} {arrow}"


def text(comparison: Comparison, *, width: int = 100, color: bool = False) -> str:
    """Aligned tables; see :meth:`oodles.comparison.Comparison.to_text`."""
    from rich.console import Console
    from rich.text import Text

    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="standard" if color else None)
    for table in comparison.tables:
        first, *others = overview(table)
        for start in range(0, max(len(others), 1), 3):  # more do not fit in 100 columns
            columns = [first, *others[start : start + 3]]
            heads = [_narrow("accuracy"), *(f"{_marked(table, name)}\n{_narrow('auroc')}" for name, _ in columns[1:])]
            console.print(_grid(table, f"{table.suite}: accuracy and AUROC", columns, heads))
        for name in table.ood_sets:
            columns = [(name, metric) for metric in OOD_METRICS if metric != "auroc"]
            console.print(
                _grid(table, f"{table.suite}: {_marked(table, name)}", columns, [_narrow(m) for _, m in columns])
            )
        for sentence in sentences(table):
            console.print(Text(sentence))
        console.print()
    for sentence in (HOW_TO_READ, MEANINGS):
        console.print(Text(sentence))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _narrow(metric: str) -> str:
    """The heading on two lines where it is long."""
    return heading(metric).replace(" ID", "\nID").replace(" OOD", "\nOOD")


def _marked(table: Table, ood_set: str | None) -> str:
    """The set's name, with a star where there is a remark on it below."""
    return set_name(str(ood_set)) + ("*" if table.ood_sets[str(ood_set)] else "")


def _grid(table: Table, title: str, columns: Columns, heads: Sequence[str]) -> Any:
    """A table for the terminal; only differences beyond the noise are set in bold."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table as Grid
    from rich.text import Text

    grid = Grid(title=Text(title), title_justify="left", title_style="italic", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column(Text("method\nscore, seeds"), min_width=18)
    for head in heads:
        grid.add_column(Text(head), justify="right")
    styles = {"better": "bold green", "worse": "bold red", "": "dim"}
    shown = rows(table, columns)
    for row, following in zip(shown, [*shown[1:], None], strict=True):
        cells = [Text.assemble(row.group.label, (f"\n{row.under}", "dim"))]
        for figure in row.figures:
            difference = figure.against_plain if figure else ""
            cells.append(
                Text.assemble(str(figure.value), ("\n" + difference, styles[figure.verdict])) if figure else Text("–")
            )
        grid.add_row(*cells, end_section=following is None or following.opens_block)
    return grid


def sentences(table: Table) -> list[str]:
    """What stands below the tables of a suite: what chance would do, how many rows there are, what is remarkable."""
    notes = [f"* {set_name(name)}: {remark}." for name, remark in table.ood_sets.items() if remark]
    return [table.chance, table.sizes, *notes, *table.remarks]


def html(comparison: Comparison) -> str:
    """One page that needs no network; see :meth:`oodles.comparison.Comparison.to_html`."""
    from jinja2 import Environment, StrictUndefined

    from oodles import __version__, pictures

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"set_name": set_name, "heading": _unbroken}
    template = environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))
    ranks = ranking(comparison.tables)
    return template.render(
        suites=[_suite(table) for table in comparison.tables],
        ranks=ranks,
        ranks_picture=pictures.ranks(ranks) if ranks else "",
        worth=WORTH,
        judged_heads=JUDGED_HEADS,
        caution=CAUTION,
        metrics=METRICS,
        how_to_read=HOW_TO_READ,
        version=__version__,
    )


def _unbroken(metric: str) -> str:
    """A heading that breaks only where a reader would: not before its arrow, and not at a hyphen."""
    name, _, arrow = heading(metric).rpartition(" ")
    return f"{name}\xa0{arrow}".replace("-", "\u2011")


def _suite(table: Table) -> dict[str, Any]:
    """What the page says and shows about one suite."""
    from oodles import pictures

    return {
        "table": table,
        "verdicts": [(name, _verdict(table, name)) for name in table.ood_sets],
        "overview": overview(table),
        "overview_rows": rows(table, overview(table)),
        "details": [(name, details(name), rows(table, details(name)), judged(table, name)) for name in table.ood_sets],
        "differences": [(name, pictures.differences(table, name)) for name in table.ood_sets],
        "methods": [_method(table, group) for group in table.groups],
    }


def _verdict(table: Table, ood_set: str) -> list[tuple[str, str]]:
    """Who is better and who worse than plain cross-entropy in AUROC beyond the noise, and who is inside it."""
    figures = [figure for row in rows(table, [(ood_set, "auroc")]) for figure in row.figures if figure]
    named: dict[str, list[str]] = {"better": [], "worse": []}
    for figure in figures:
        if figure.difference:
            shared = sum(other.label == figure.label for other in figures) > 1
            named.setdefault(figure.verdict_in_words, []).append(
                f"{figure.label} ({figure.score})" if shared else figure.label
            )
    return [(words, ", ".join(labels)) for words, labels in named.items() if labels]


def _method(table: Table, group: Group) -> dict[str, Any]:
    """A method's pictures, and how to train it again."""
    from oodles import pictures

    opened = {run.seed: _opened(run) for run in group.runs}
    at_hand = [run for run in opened.values() if run]
    about = {"group": group, "cards": [card(name) for name, _ in group.runs[0].methods]}
    about["curves"] = pictures.curves(at_hand)
    about["commands"] = {run.seed: run.record.get("command", run.folder) for run in at_hand}
    shown = next((run for run in at_hand if run.status == "finished"), None)
    if shown:
        score, plain_score = group.versus[-1]
        beside = next((r for r in group.plain.finished if r.seed == shown.seed), None) if group.plain else None
        plain = _opened(beside) if beside else None
        sets = list(table.ood_sets)
        about |= {
            "seed": shown.seed,
            "histogram": pictures.histogram(shown, group.own_score, sets),
            "roc": pictures.roc(shown, score, plain, plain_score, sets),
            "misjudged": pictures.misjudged(shown, group.own_score, sets),
        }
    return about


def _opened(result: Result) -> Run | None:
    """The run itself, where it is at hand: its rows make pictures."""
    return open_run(result.folder) if result.folder and (result.folder / RUN).is_file() else None
