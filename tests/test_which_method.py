"""The pages that advise say what the recorded rows say, and refuse to say more."""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from oodles.cards import LOGIT_SCORES, SITUATIONS, card, cards
from oodles.comparing.figures import Seeds
from oodles.methods import METHODS
from tests.docs_programs import DOCS, RESULTS, docs_programs

PAGE = (DOCS / "which-method.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def which() -> Iterator[ModuleType]:
    with docs_programs("which_method") as programs:
        yield programs["which_method"]


@pytest.mark.parametrize("program", ["which_method", "costs"])
def test_the_pages_are_current(program: str) -> None:
    done = subprocess.run([sys.executable, DOCS / f"{program}.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def rows_of(label: str) -> list[dict[str, Any]]:
    lines = (RESULTS / "cifar10-10k.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted((row for line in lines if (row := json.loads(line))["label"] == label), key=lambda row: row["seed"])


def over_kind(run: dict[str, Any], kind: str, score: str) -> float:
    return statistics.mean(by[score]["auroc"] for name, by in run["metrics"]["test"].items() if name.startswith(kind))


def test_gains_are_those_of_the_rows_each_under_its_chosen_score(which: ModuleType) -> None:
    found = which.gain("cifar10-10k", "energy-bounded")
    for kind in ("near", "far"):
        mine, plain = (
            [over_kind(run, kind, run["chosen"]) for run in rows_of(label)]
            for label in ("energy-bounded", "cross-entropy-fine-tuned")
        )
        assert found.kinds[kind].mean == pytest.approx(statistics.mean(mine) - statistics.mean(plain))
    assert f"| cifar10-10k {which.with_outliers(tuned=True)};" in PAGE


def test_gains_in_hindsight_are_those_under_the_best_score(which: ModuleType) -> None:
    found = which.in_hindsight(which.gain("cifar10-10k", "regmixup"))
    scores = rows_of("cross-entropy")[0]["metrics"]["test"]["near:tinyimagenet"]
    for kind in ("near", "far"):
        mine, plain = (
            max(statistics.mean(over_kind(run, kind, score) for run in rows_of(label)) for score in scores)
            for label in ("regmixup", "cross-entropy")
        )
        assert found.kinds[kind].mean == pytest.approx(mine - plain)
    assert f"[`regmixup`](methods/regmixup.md) {found}." in PAGE


def test_what_the_command_line_advises_is_what_the_rules_find(which: ModuleType) -> None:
    free, logits = which.without_outliers(), which.logits_alone()
    anew, tuned = which.with_outliers(tuned=False), which.with_outliers(tuned=True)
    expected = {
        "no outliers": [free[0][1][0]],
        "outliers": [anew],
        "pretrained": [tuned],
        "only logits": [rows[0] for rows in logits],
    }
    for situation, found in expected.items():
        named = re.findall(r"[a-z-]+", SITUATIONS[situation])
        advised = [word for word in named if word in METHODS and word != "cross-entropy"]
        assert advised == [name for one in found for name, _ in one.group.runs[0].methods], situation
        anew_said = any(one.group.label.endswith("-from-scratch") for one in found)
        assert ("from scratch" in SITUATIONS[situation]) is anew_said


def test_the_commands_train_what_is_advised(which: ModuleType) -> None:
    (shown,) = re.findall(r"```sh\n(.*?)```", PAGE, flags=re.DOTALL)
    trained = re.findall(r"^oodles train (.*?) --", shown, flags=re.MULTILINE)
    rows = (which.without_outliers()[0][1][0], *(which.with_outliers(tuned=tuned) for tuned in (False, True)))
    advised = [" + ".join(name for name, _ in row.group.runs[0].methods) for row in rows]
    assert trained == ["cross-entropy", *advised]


def test_outliers_that_training_makes_are_advised_where_they_brought_something(which: ModuleType) -> None:
    made = which.on_suites(which.MADE)
    assert all(one.group.runs[0].settings["max_outliers"] == 0 for one in made)
    assert [one.suite for one in made if one.mean >= 0.01] == ["cifar10-10k"]
    assert "helped on cifar10-10k alone" in PAGE and f"made ones alone: {which.said(made)} |" in PAGE


def test_who_is_advised_without_outliers_loses_no_accuracy_and_gains_most(which: ModuleType) -> None:
    found = which.without_outliers()
    means = [statistics.mean(row.mean for row in rows) for _, rows in found]
    assert means == sorted(means, reverse=True) and len(found) > 2
    for label, rows in found:
        assert [row.suite for row in rows] == [*which.SUITES]
        assert all(row.accuracy.interval is None or row.accuracy.interval[1] >= 0 for row in rows), label
        assert not {"outliers", "wild"} & {
            need for name, _ in rows[0].group.runs[0].methods for need in card(name).needs
        }


def test_scores_of_logits_alone_are_read_there(which: ModuleType) -> None:
    for rows in which.logits_alone():
        for row in rows:
            assert which.best(row.group, "far", LOGIT_SCORES)[0] in LOGIT_SCORES
            assert row.kinds == which.gain(row.suite, row.group.label, LOGIT_SCORES).kinds


def test_nothing_is_written_where_rows_turn(which: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    assert which.page() == PAGE
    worse = replace(which.with_outliers(tuned=False), kinds={"near": Seeds({0: -0.1, 1: -0.1, 2: -0.1})})
    monkeypatch.setattr(which, "with_outliers", lambda tuned: worse)
    with pytest.raises(SystemExit, match="related outliers bring something"):
        which.page()


def test_every_method_has_its_cost() -> None:
    page = (DOCS / "costs.md").read_text(encoding="utf-8")
    for method in cards():
        time = f"{method.step_time:.1f}" if method.step_time else "–"
        assert f"| [`{method.name}`](methods/{method.name}.md) | {time} |" in page
