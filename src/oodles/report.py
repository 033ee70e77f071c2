"""A comparison to look at: text for a terminal, Markdown, and one HTML file with pictures."""

from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

from oodles.cards import card
from oodles.comparison import Comparison, Group, Table, set_name
from oodles.figures import METRICS, OOD_METRICS, Figure

HOW_TO_READ = (
    "Per cent, mean ± standard deviation over n seeds. Below it the difference to plain cross-entropy under the same "
    "score, paired by seed, and on how many of the seeds the method is better."
)
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


def overview(table: Table) -> list[tuple[str | None, str]]:
    """The columns that come first: accuracy, and AUROC on every out-of-distribution set."""
    return [(None, "accuracy"), *((name, "auroc") for name in table.ood_sets)]


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
        for sentence in _sentences(table):
            console.print(Text(sentence))
        console.print()
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


def markdown(comparison: Comparison) -> str:
    """The same tables in Markdown; see :meth:`oodles.comparison.Comparison.to_markdown`."""
    lines = ["# Comparison", ""]
    for table in comparison.tables:
        lines += [f"## {_escaped(table.suite)}", "", *_markdown_table(table, overview(table)), ""]
        for name in table.ood_sets:
            lines += [f"### {_escaped(set_name(name))}", ""]
            lines += [*_markdown_table(table, [(name, metric) for metric in OOD_METRICS]), ""]
        lines += [f"* {_escaped(sentence)}" for sentence in _sentences(table)]
        lines.append("")
    return "\n".join(lines)


def _markdown_table(table: Table, columns: Columns) -> list[str]:
    several = len({name for name, _ in columns}) > 1
    heads = [f"{set_name(name)} {heading(m)}" if name and several else heading(m) for name, m in columns]
    lines = [["method", "score, seeds", *map(_escaped, heads)], ["---", "---", *["---:"] * len(columns)]]
    for row in rows(table, columns):
        cells = [_markdown_cell(figure) for figure in row.figures]
        lines.append([_escaped(row.group.label), _escaped(row.under), *cells])
    return [f"| {' | '.join(line)} |" for line in lines]


def _markdown_cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    difference = f"**{figure.against_plain}**" if figure.verdict else figure.against_plain
    return "<br>".join(part for part in (str(figure.value), difference) if part)


def _escaped(words: str) -> str:
    for sign in ("\\", "|", "*", "_", "<", "`", "["):
        words = words.replace(sign, f"\\{sign}")
    return " ".join(words.split())


def _sentences(table: Table) -> list[str]:
    """What stands below the tables: how to read them, what is remarkable, what chance would do."""
    meanings = "; ".join(f"{METRICS[m].heading}: {METRICS[m].meaning}" for m in OOD_METRICS)
    notes = [f"* {set_name(name)}: {remark}." for name, remark in table.ood_sets.items() if remark]
    return [HOW_TO_READ, table.chance, f"{meanings}.", table.sizes, *notes, *table.remarks]


def html(comparison: Comparison) -> str:
    """One page that needs no network; see :meth:`oodles.comparison.Comparison.to_html`."""
    from jinja2 import Environment, StrictUndefined

    from oodles import __version__

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"set_name": set_name, "heading": lambda metric: heading(metric).replace(" ", "\xa0")}
    template = environment.from_string(Path(__file__).with_name("report.html.jinja").read_text(encoding="utf-8"))
    suites = [_suite(table) for table in comparison.tables]
    return template.render(suites=suites, metrics=METRICS, how_to_read=HOW_TO_READ, version=__version__)


def _suite(table: Table) -> dict[str, Any]:
    """What the page says and shows about one suite."""
    from oodles import pictures

    details = [(name, [(name, metric) for metric in OOD_METRICS]) for name in table.ood_sets]
    return {
        "table": table,
        "verdicts": [(name, _verdict(table, name)) for name in table.ood_sets],
        "overview": overview(table),
        "overview_rows": rows(table, overview(table)),
        "details": [(name, columns, rows(table, columns)) for name, columns in details],
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

    about = {"group": group, "cards": [card(name) for name, _ in group.runs[0].methods]}
    about["curves"] = pictures.curves(group)
    shown = group.finished[:1]
    for run in shown:
        score, plain_score = group.versus[-1]
        plain = next((r for r in group.plain.finished if r.seed == run.seed), None) if group.plain else None
        about |= {
            "seed": run.seed,
            "histogram": pictures.histogram(run, group.own_score, list(table.ood_sets)),
            "roc": pictures.roc(run, score, plain, plain_score, list(table.ood_sets)),
            "misjudged": pictures.misjudged(run, group.own_score, list(table.ood_sets)),
        }
    return about
