"""Comparisons of runs: what cannot be compared, and every ending of a file."""

from pathlib import Path

import pytest

from oodles.comparing.comparison import Comparison, compare
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


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_write(comparison: Comparison, tmp_path: Path, ending: str) -> None:
    path = comparison.write(tmp_path / "new" / f"report.{ending}")
    assert len(path.read_text(encoding="utf-8")) > 1000


def test_write_refuses_other_endings(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.html, \.md, \.csv or \.json"):
        comparison.write(tmp_path / "report.pdf")
