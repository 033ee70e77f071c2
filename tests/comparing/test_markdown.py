"""Comparisons in Markdown: accuracy beside every AUROC, what got worse, every score, and bold beyond the noise."""

from itertools import pairwise
from pathlib import Path

from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.figures import CAUTION, METRICS, in_points
from oodles.comparing.markdown import scores_table, worse
from oodles.comparing.words import judgements
from tests.comparing.synthetic_runs import knn_is_best_on_validation, runs_of


def test_every_markdown_table_with_auroc_shows_accuracy(tmp_path: Path) -> None:
    comparison = compare(knn_is_best_on_validation(tmp_path))
    (table,), markdown = comparison.tables, comparison.to_markdown()
    heads = [before for before, line in pairwise(markdown.splitlines()) if line.startswith("| ---")]
    assert len(heads) == 1 + 2 * 3 + 1  # the overview; all metrics, tests and scores of two sets; ranks
    assert all("accuracy" in head for head in heads)
    assert sum("bootstrap" in head for head in heads) == 2 and CAUTION in markdown
    for judgement in judgements(table, "far:letters"):
        words, (difference, *others) = judgement.cells[:4], judgement.cells[4:]
        bold = f"**{difference}**" if judgement.verdict else difference
        assert f"| {' | '.join([*words, bold, *others])} |" in markdown


def test_what_got_worse_is_listed(tmp_path: Path) -> None:
    comparison = compare(runs_of(tmp_path, "cross-entropy", "mixup", "cutmix"))
    (table,) = comparison.tables
    lines = worse(table)
    assert lines[0].startswith("* **cutmix**, beyond the noise.")
    for figure in table.figures():
        if figure.label == "cutmix" and figure.verdict and figure.difference:
            assert f"{METRICS[figure.metric].heading} {in_points(figure.difference.mean)}" in lines[0]
    assert not any("mixup" in line and "AUROC" in line for line in lines)  # its AUROC is better
    lower = [figure for figure in table.figures() if not figure.ood_set and figure.difference and figure.wins < 2]
    assert [line for line in lines if "in-distribution accuracy" in line] and lower
    assert worse(compare(runs_of(tmp_path / "one", "cross-entropy")).tables[0]) == ["Nothing."]


def test_every_score_has_a_column(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "cutmix")).tables
    head, _, _, line = scores_table(table, "near:digits")
    assert head == "| method | accuracy ↑ | msp | energy | knn |"
    aurocs = [table.groups[1].measured("near:digits", score, "auroc") for score in ("msp", "energy", "knn")]
    marks = ("▼▼", "▼", "▼")  # the correction is over differences under its own score
    assert line.endswith("".join(f" | {seeds} {mark}" for seeds, mark in zip(aurocs, marks, strict=True)) + " |")


def test_markdown_is_bold_only_beyond_the_noise(comparison: Comparison) -> None:
    markdown = comparison.to_markdown()
    for figure in comparison.tables[0].figures():
        if figure.difference is not None:
            assert (f"**{figure.against_plain}**" in markdown) == bool(figure.verdict)
    header = next(line for line in markdown.splitlines() if line.startswith("| method"))
    row = next(line for line in markdown.splitlines() if line.startswith("| mixup"))
    assert header.count("|") == row.count("|")
