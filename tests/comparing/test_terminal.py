"""Comparisons in a terminal: they fit."""

from pathlib import Path

from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.figures import Figure
from oodles.comparing.tables import Table
from tests.comparing.synthetic_runs import runs_of


def figure_of(table: Table, label: str, ood_set: str | None = "near:digits", metric: str = "auroc") -> Figure:
    (figure,) = [f for f in table.figures() if (f.label, f.ood_set, f.metric) == (label, ood_set, metric)]
    return figure


def test_text_fits_a_terminal(comparison: Comparison) -> None:
    text = str(comparison)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text and "\x1b[1;32m" in comparison.to_text(color=True)
    figure = figure_of(comparison.tables[0], "mixup")
    assert str(figure.value) in text and figure.against_plain in text
    for word in ("ID-positive", "OOD-positive", "AUPR in", "AUPR out", "msp, n = 3", "* far-OOD letters: a remark."):
        assert word in text, word


def test_many_sets_take_several_tables(tmp_path: Path) -> None:
    sizes = {**{name: 30 for name in ("validation", "test")}, **{f"far:set{number}": 30 for number in range(7)}}
    text = compare(runs_of(tmp_path, "cross-entropy", "mixup", sizes=sizes)).to_text()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("accuracy and AUROC") == 3
    assert all(f"far-OOD set{number}" in text for number in range(7))
