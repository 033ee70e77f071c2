"""Main effects and interactions of recorded compositions are what their definition says, seed by seed."""

import json
import re
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import ModuleType

import pytest

from oodles.comparing.comparison import compare
from oodles.comparing.results import CHOSEN, Result, read_results, result_of, write_results
from oodles.runs.opened import open_run
from tests.comparing.synthetic_runs import SIZES, write_run
from tests.docs_programs import docs_programs

NAMES = ("logit-norm", "outlier-exposure", "pixmix")
COLOUR = {"train": 45000, **SIZES, "near:tinyimagenet": 60, "far:textures": 50, "far:street-characters": 50}
MOVED = {"logit-norm": 0.1, "outlier-exposure": 0.3, "pixmix": -0.2}


@pytest.fixture(scope="module")
def compositions() -> Iterator[ModuleType]:
    with docs_programs("compositions") as programs:
        yield programs["compositions"]


@pytest.fixture(scope="module")
def recorded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight compositions of three seeds; two of them together bring more than they do alone."""
    folder = tmp_path_factory.mktemp("compositions")
    results = []
    for bits in product((False, True), repeat=3):
        methods = [name for name, there in zip(NAMES, bits, strict=True) if there]
        better = sum(MOVED[name] for name in methods) + 0.4 * bits[0] * bits[1]
        for seed in range(3):
            run = folder / f"{'-'.join(methods) or 'plain'}-{seed}"
            write_run(run, *methods or ["cross-entropy"], seed=seed, better=better, data="cifar10", sizes=COLOUR)
            result = replace(result_of(open_run(run)), accuracy=0.6 + 0.01 * seed * len(methods) + 0.02 * bits[2])
            results.append(replace(result, chosen="energy" if methods else "msp", seconds=1.0))
    write_results(folder / "three.jsonl", results)
    return folder / "three.jsonl"


def names_of(run: Result) -> frozenset[str]:
    return frozenset(name for name, _ in run.methods) - {"cross-entropy"}


def figure(run: Result, kind: str | None, score: str) -> float:
    if kind is None:
        assert run.accuracy is not None
        return run.accuracy
    under = run.chosen if score == CHOSEN else score
    assert under is not None
    return statistics.fmean(by[under]["auroc"] for name, by in run.metrics["test"].items() if name.startswith(kind))


def change(runs: Sequence[Result], of: Sequence[str], kind: str | None, score: str) -> float:
    """Return the mean change that the first of some methods makes, minus the same without the second, and so on."""
    if not of:
        return statistics.fmean(figure(run, kind, score) for run in runs)
    first, *others = of
    halves = ([run for run in runs if (first in names_of(run)) is there] for there in (True, False))
    return change(next(halves), others, kind, score) - change(next(halves), others, kind, score)


@pytest.mark.parametrize("of", [NAMES[:1], NAMES[2:], NAMES[:2], NAMES[1:], NAMES])
@pytest.mark.parametrize(
    ("kind", "score"), [(None, CHOSEN), ("near", CHOSEN), ("far", CHOSEN), ("near", "msp"), ("far", "msp")]
)
def test_effects_are_changes_of_changes_within_a_seed(
    compositions: ModuleType, recorded: Path, of: Sequence[str], kind: str | None, score: str
) -> None:
    (table,) = compare([recorded]).tables
    found = next(
        one for one in compositions.effects(table) if (one.of, one.kind, one.score) == (frozenset(of), kind, score)
    )
    results = read_results(recorded)
    for seed, value in found.seeds.by_seed.items():
        expected = change([run for run in results if run.seed == seed], of, kind, score)
        assert value == pytest.approx(expected, abs=1e-9)
    assert [*found.seeds.by_seed] == [0, 1, 2]


def test_the_page_says_what_was_put_in(compositions: ModuleType, recorded: Path) -> None:
    (table,) = compare([recorded]).tables
    assert set(compositions.factors(table)) == {*NAMES}
    page = compositions.page([table])
    effects = [line.strip("| ").split(" | ") for line in page.partition("### Which")[0].splitlines()]
    accuracy = {cells[0]: cells[1] for cells in effects if len(cells) > 1}
    assert accuracy["pixmix"] == "+3.0 ± 1.0 ▲"  # 2 points, and one for each number of the seed: 2, 3, 4
    assert accuracy["outlier-exposure × logit-norm"].lstrip("+−").startswith("0.0 ± 0.0")
    together = next(one for one in compositions.effects(table) if one.of == {*NAMES[:2]} and one.kind == "near")
    assert together.seeds.mean > 0.02 and together.mark.startswith("▲")
    best = re.search(r"The best is (.*?) [+−]\d", page)
    assert best and best[1] == "outlier-exposure + logit-norm"
    lines = [line for line in page.splitlines() if line.startswith("| pixmix + outlier-exposure + logit-norm |")]
    added = compositions.additions(table)
    sums = [sum(added[frozenset({name})][kind].mean for name in NAMES) for kind in ("near", "far")]
    assert lines[0].split(" | ")[-1] == " / ".join(f"{100 * value:+.1f}".replace("-", "−") for value in sums) + " |"


def test_nothing_is_said_where_a_composition_is_missing(
    compositions: ModuleType, recorded: Path, tmp_path: Path
) -> None:
    lines = recorded.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if json.loads(line)["label"] != "pixmix"]
    (tmp_path / "seven.jsonl").write_text("".join(kept), encoding="utf-8")
    (table,) = compare([tmp_path / "seven.jsonl"]).tables
    assert len(kept) == 21 and compositions.factors(table) == () and compositions.page([table]) is None
