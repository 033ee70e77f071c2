"""The demonstration in small: one seed of two recipes, stopped and started again."""

from pathlib import Path

import pytest

from oodles import demo as demonstration
from oodles.recipe import Recipe, recipes
from oodles.run_folder import open_run


def test_the_demo_trains_compares_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(demonstration, "RECIPES", ("energy-bounded",))
    comparison = demonstration.demo(tmp_path, seeds=1, jobs=1)
    output = capsys.readouterr()
    assert "energy-bounded" in output.out and str(comparison) in output.out
    assert "[2/2] energy-bounded, seed 0: test accuracy" in output.err
    assert "</html>" in (tmp_path / "report.html").read_text(encoding="utf-8")
    tuned = open_run(tmp_path / "runs" / "energy-bounded-0")
    assert tuned.initial_weights == "cross-entropy"
    assert len(list((tmp_path / "runs").iterdir())) == 2, "fine-tuning starts from the run that is there already"

    before = (tmp_path / "runs" / "cross-entropy-digits-0" / "result.json").stat().st_mtime_ns
    demonstration.demo(tmp_path, seeds=1, jobs=1)
    assert (tmp_path / "runs" / "cross-entropy-digits-0" / "result.json").stat().st_mtime_ns == before


def test_the_demo_shows_plain_training_and_five_methods_at_least() -> None:
    assert demonstration.PLAIN in recipes()
    methods = {name for recipe in demonstration.RECIPES for name, _ in Recipe.load(recipe).methods}
    assert len(methods) >= 5 and demonstration.PLAIN not in methods


def test_mistakes_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="seeds and jobs must be at least 1, got 0 and None"):
        demonstration.demo(tmp_path, seeds=0)
