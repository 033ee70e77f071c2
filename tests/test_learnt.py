"""What we learnt is what the recorded rows say."""

import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from oodles.comparing.results import read_results
from oodles.runs.recipe import own_score
from tests.docs_programs import DOCS, RESULTS, docs_programs

PAGE = (DOCS / "what-we-learnt.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def learnt() -> Iterator[ModuleType]:
    with docs_programs("learnt") as programs:
        yield programs["learnt"]


def test_the_page_is_current_and_short(learnt: ModuleType) -> None:
    done = subprocess.run([sys.executable, DOCS / "learnt.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    numbers = re.findall(r"^(\d+)\. \*\*.*\d.*\.", PAGE, flags=re.MULTILINE)
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)] and 5 < len(numbers) <= 10


def test_how_often_a_choice_costs_a_point_is_counted_from_the_rows() -> None:
    lost = every = 0
    for path in RESULTS.glob("*.jsonl"):
        for run in read_results(path):
            for kind in ("near", "far"):
                sets = [by for ood, by in run.metrics.get("test", {}).items() if ood.startswith(kind)]
                if sets:
                    chosen, own = (
                        statistics.mean(by[score]["auroc"] for by in sets)
                        for score in (run.chosen, own_score(run.methods))
                    )
                    lost += chosen - own < -0.01
                    every += 1
    assert f"in {lost} of {every:,} cases" in PAGE


def test_nothing_is_written_where_rows_turn(learnt: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert learnt.page() == PAGE
    monkeypatch.setattr(learnt, "verdict", lambda difference: "better")
    with pytest.raises(SystemExit, match="would say what recorded rows do not: methods that shape features"):
        learnt.page()
    monkeypatch.undo()
    monkeypatch.setattr(learnt, "mean_of_score", lambda suite: -0.3)
    with pytest.raises(SystemExit, match="the score brings more than any method"):
        learnt.page()
