"""Comparisons of runs: what cannot be compared, and every ending of a file."""

from pathlib import Path

import numpy as np
import pytest

from oodles.comparing.comparison import Comparison, compare
from oodles.metrics import ood_metrics
from oodles.runs.fits import Fit, keep_fits
from tests.comparing.synthetic_runs import SIZES, write_run


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        compare([])
    with pytest.raises(FileNotFoundError, match="no run folder"):
        compare([tmp_path])
    with pytest.raises(ValueError, match="has not ended"):
        compare([write_run(tmp_path / "u", "mixup", ended=False)])
    first, second = write_run(tmp_path / "1", "mixup"), write_run(tmp_path / "2", "mixup")
    with pytest.raises(ValueError, match="same recipe and seed"):
        compare([first, second])
    assert compare([first, first]).tables[0].groups[0].seeds == "1"
    other = write_run(tmp_path / "3", "cutmix", sizes={**SIZES, "near:digits": 71})
    with pytest.raises(ValueError, match="tested on other rows"):
        compare([first, other])


def test_a_score_that_runs_were_evaluated_with_later(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / name, name) for name in ("cross-entropy", "mixup")]
    sets = ("validation", "test", "near:digits", "far:letters")
    for place, run in enumerate(runs):
        with pytest.raises(ValueError, match=r"There is no score 'knn\(k=5\)' in the runs of"):
            compare(runs, "knn(k=5)")
        random = np.random.default_rng(place)
        values = {name: random.normal(size=SIZES[name]) + (":" in name) for name in sets}
        keep_fits(run, {"knn(k=5)": Fit({}, values)})
    (table,) = compare(runs, "knn(k=5)").tables
    expected = ood_metrics(values["test"], values["near:digits"])
    group = table.groups[1]
    assert group.own_score == "knn(k=5)"
    for metric, value in expected.items():
        assert (seeds := group.measured("near:digits", "knn(k=5)", metric)) and seeds.mean == pytest.approx(value)
    assert compare(runs).tables[0].groups[1].scores == ("msp", "energy", "knn"), "others stay"
    assert compare(runs, "knn(k=5)").to_text().count("knn(k=5)")


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_write(comparison: Comparison, tmp_path: Path, ending: str) -> None:
    path = comparison.write(tmp_path / "new" / f"report.{ending}")
    assert len(path.read_text(encoding="utf-8")) > 1000


def test_write_refuses_other_endings(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.html, \.md, \.csv or \.json"):
        comparison.write(tmp_path / "report.pdf")
