"""Comparisons in a terminal: they fit."""

from pathlib import Path

from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.figures import Figure
from oodles.comparing.tables import Table
from tests.comparing.synthetic_runs import runs_of


def figure_of(table: Table, label: str, ood_set: str | None = "near:digits", metric: str = "auroc") -> Figure:
    (figure,) = [f for f in table.figures() if (f.label, f.ood_set, f.metric) == (label, ood_set, metric)]
    return figure


def widest(text: str) -> int:
    """Return the columns that a text takes, but for commands, which are to be copied in one piece."""
    return max(len(line) for line in text.splitlines() if not line.startswith("  oodles "))


def test_text_fits_a_terminal(comparison: Comparison) -> None:
    text = str(comparison)
    assert widest(text) <= 100
    assert "\x1b" not in text and "\x1b[1;32m" in comparison.to_text(color=True)
    figure = figure_of(comparison.tables[0], "mixup")
    assert str(figure.value) in text and figure.against_plain in text
    assert "  oodles export " in text
    for word in ("ID-positive", "OOD-positive", "AUPR in", "AUPR out", "msp, n = 3", "* far-OOD letters: a remark."):
        assert word in text, word


def test_names_do_not_control_the_terminal(tmp_path: Path) -> None:
    sizes = {"validation": 30, "test": 30, "far:\x1b]0;title\x07": 30, "near:a\u202eb\x9b2J\r": 30}
    notes = {"\x1b]0;title\x07": "\x1b[8mhidden"}
    runs = runs_of(tmp_path, "cross-entropy", "mixup", sizes=sizes, notes=notes, data="\x1b[2J")
    text = compare(runs).to_text()
    assert not set(text) & set("\x1b\x07\x9b\r\u202e") and text.replace("\n", "").isprintable()
    for words in (r"\u001b]0;title\u0007", r"a\u202eb\u009b2J\u000d", r"\u001b[8mhidden", r"\u001b[2J: accuracy"):
        assert words in text.replace("\n", ""), words
    colored = compare(runs).to_text(color=True)
    assert "\x1b[1;32m" in colored and not {"\x1b]", "\x1b[8m", "\x1b[2J"} & {
        colored[i : i + 4] for i in range(len(colored))
    }


def test_many_sets_take_several_tables(tmp_path: Path) -> None:
    sizes = {**{name: 30 for name in ("validation", "test")}, **{f"far:set{number}": 30 for number in range(7)}}
    text = compare(runs_of(tmp_path, "cross-entropy", "mixup", sizes=sizes)).to_text()
    assert widest(text) <= 100
    assert text.count("accuracy and AUROC") == 3
    assert all(f"far-OOD set{number}" in text for number in range(7))
