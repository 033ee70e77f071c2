"""Ranks over suites and sets: by hand, with ties, and only of methods that are everywhere."""

from pathlib import Path

import pytest

from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.ranking import Ranked, ranking
from oodles.comparing.results import Result

ACCURACY = {"cross-entropy": 0.9, "mixup": 0.95, "energy-bounded": 0.8, "cutmix": 0.9}


def result(suite: str, method: str, aurocs: dict[str, float], seed: int = 0) -> Result:
    """A run with these AUROCs under its own score, and much better ones under another."""
    own = "energy" if method == "energy-bounded" else "msp"
    other = {"msp": "energy", "energy": "msp"}[own]
    metrics = {name: {own: {"auroc": value}, other: {"auroc": 0.999}} for name, value in aurocs.items()}
    return Result(
        data=suite,
        label=method,
        seed=seed,
        status="finished",
        reason="",
        settings={"methods": [{"name": method}], "network": "small-cnn"},
        suggested={},
        initial_weights="random",
        environment={},
        sizes={"test": 10, **dict.fromkeys(aurocs, 10)},
        sha256={},
        notes={},
        accuracy=ACCURACY[method],
        seconds=1.0,
        metrics={"test": metrics, "validation": {}},
    )


@pytest.fixture
def comparison() -> Comparison:
    return compare(
        [
            result("a", "cross-entropy", {"near:x": 0.70, "far:y": 0.80}),
            result("a", "mixup", {"near:x": 0.71, "far:y": 0.80}),
            result("a", "energy-bounded", {"near:x": 0.72, "far:y": 0.50}),
            result("a", "cutmix", {"near:x": 0.99, "far:y": 0.99}),
            result("b", "cross-entropy", {"far:z": 0.60}),
            result("b", "mixup", {"far:z": 0.50}, seed=0),
            result("b", "mixup", {"far:z": 0.90}, seed=1),
            result("b", "energy-bounded", {"far:z": 0.65}),
        ]
    )


def test_ranks_by_hand(comparison: Comparison) -> None:
    ranks = ranking(comparison.tables)
    assert ranks is not None
    assert ranks.sets == (("a", "near:x"), ("a", "far:y"), ("b", "far:z"))
    assert ranks.left_out == ("cutmix",)  # only in one of the suites, so it counts for no rank either
    assert ranks.methods == (
        Ranked("cross-entropy", "energy", (1.0, 1.0, 1.0), (2.0, 2.0)),  # plain training under a method's score
        Ranked("mixup", "msp", (3.0, 2.5, 2.0), (1.0, 1.0)),
        Ranked("energy-bounded", "energy", (2.0, 4.0, 3.0), (3.0, 3.0)),
        Ranked("cross-entropy", "msp", (4.0, 2.5, 4.0), (2.0, 2.0)),
    )
    assert [method.average for method in ranks.methods] == [1.0, 2.5, 3.0, 3.5]
    assert [method.average_by_accuracy for method in ranks.methods] == [2.0, 1.0, 3.0, 2.0]


def test_ranks_are_written(comparison: Comparison) -> None:
    markdown, html = comparison.to_markdown(), comparison.to_html()
    assert "| mixup | msp | 1.00 | 2.50 |" in markdown and "average rank by AUROC, 3 sets" in markdown
    assert "| energy-bounded | energy | 3.00 | 3.00 |" in markdown
    for written in (markdown, html):
        assert "Not ranked, since not measured everywhere: cutmix." in written and "A rank hides how large" in written
    assert "Ranks of the methods by AUROC on 3 sets" in html


def test_one_set_or_one_method_is_not_ranked() -> None:
    one_set = [result("a", name, {"near:x": 0.7}) for name in ("cross-entropy", "mixup")]
    assert ranking(compare(one_set).tables) is None and "## Ranks" not in compare(one_set).to_markdown()
    one_method = [result("a", "mixup", {"near:x": 0.7, "far:y": 0.8})]
    assert ranking(compare(one_method).tables) is None and "Ranks over" not in compare(one_method).to_html()


def test_results_without_a_folder_are_compared(comparison: Comparison, tmp_path: Path) -> None:
    for ending in ("html", "md", "csv", "json"):
        assert comparison.write(tmp_path / f"report.{ending}").is_file()
    assert "mixup" in comparison.to_text()
