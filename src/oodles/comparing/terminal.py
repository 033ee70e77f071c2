"""A comparison as text for a terminal."""

from collections.abc import Sequence
from io import StringIO

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from oodles.comparing.advice import next_steps
from oodles.comparing.figures import OOD_METRICS
from oodles.comparing.tables import Table
from oodles.comparing.words import HOW_TO_READ, MEANINGS, Columns, heading, overview, rows, sentences
from oodles.spelling import set_name, visible


def render(tables: Sequence[Table], *, width: int, color: bool) -> str:
    """Write aligned tables of at most ``width`` columns, with escape codes if ``color``."""
    out = StringIO()
    console = Console(file=out, width=width, force_terminal=color, color_system="standard" if color else None)
    for table in tables:
        suite, (first, *others) = visible(table.suite), overview(table)
        for start in range(0, max(len(others), 1), 3):  # more do not fit in 100 columns
            columns = [first, *others[start : start + 3]]
            heads = [
                _narrow("accuracy"),
                *(f"{_with_star(table, name)}\n{_narrow('auroc')}" for name, _ in columns[1:]),
            ]
            console.print(_grid(table, f"{suite}: accuracy and AUROC", columns, heads))
        for name in table.ood_sets:
            columns = [(name, metric) for metric in OOD_METRICS if metric != "auroc"]
            console.print(
                _grid(
                    table,
                    f"{visible(table.suite)}: {_with_star(table, name)}",
                    columns,
                    [_narrow(m) for _, m in columns],
                )
            )
        for sentence in sentences(table):
            console.print(Text(visible(sentence)))
        console.print()
        for words, command in next_steps(table):
            console.print(Text(visible(words)))
            if command:  # in one piece, to be copied
                console.print(Text(f"  {visible(command)}", style="bold"), soft_wrap=True)
        console.print()
    for sentence in (HOW_TO_READ, MEANINGS):
        console.print(Text(sentence))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def _narrow(metric: str) -> str:
    """Return the heading on two lines where it is long."""
    return heading(metric).replace(" ID", "\nID").replace(" OOD", "\nOOD")


def _with_star(table: Table, ood_set: str | None) -> str:
    """Return the set's name, with a star where there is a remark on it below."""
    return visible(set_name(str(ood_set))) + ("*" if table.ood_sets[str(ood_set)] else "")


def _grid(table: Table, title: str, columns: Columns, heads: Sequence[str]) -> Grid:
    """Lay out a table; only differences beyond the noise are set in bold."""
    grid = Grid(title=Text(title), title_justify="left", title_style="italic", box=SIMPLE_HEAD, padding=(0, 1, 0, 0))
    grid.add_column(Text("method\nscore, seeds"), min_width=18)
    for head in heads:
        grid.add_column(Text(head), justify="right")
    styles = {"better": "bold green", "worse": "bold red", "": "dim"}
    shown = rows(table, columns)
    for row, following in zip(shown, [*shown[1:], None], strict=True):
        cells = [Text.assemble(visible(row.group.label), (f"\n{visible(row.under)}", "dim"))]
        for figure in row.figures:
            difference = figure.against_plain if figure else ""
            cells.append(
                Text.assemble(str(figure.value), ("\n" + difference, styles[figure.verdict])) if figure else Text("–")
            )
        grid.add_row(*cells, end_section=following is None or following.opens_block)
    return grid
