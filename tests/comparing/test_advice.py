"""What to do next: which row is chosen and by what, and commands that can be typed."""

import json
import shlex
from pathlib import Path

import numpy as np

from oodles.comparing.advice import best_row, more_seeds, next_steps
from oodles.comparing.comparison import compare
from oodles.comparing.results import RESULTS, write_results
from oodles.comparing.tables import Table
from tests.comparing.synthetic_runs import SIZES, runs_of, write_run


def table_of(*runs: Path) -> Table:
    (table,) = compare(runs).tables
    return table


def test_validation_rows_choose_where_nothing_was_trained_on_outliers(tmp_path: Path) -> None:
    well_on_outliers = {"outliers/msp": np.full(SIZES["outliers"], 9.0)}
    plain = [
        write_run(tmp_path / f"plain-{seed}", "cross-entropy", seed=seed, arrays=well_on_outliers) for seed in range(3)
    ]
    table = table_of(*plain, *runs_of(tmp_path, "mixup"))
    best = best_row(table)
    assert best is not None and (best.group.label, best.auroc, best.flattered) == ("cross-entropy", 1.0, False)
    export, score, seeds = next_steps(table)
    assert export.words == (
        "cross-entropy tells validation rows from outliers best (100.0 % AUROC under msp); the test sets had no say. "
        "To use its seed 0:"
    )
    assert export.command == f"oodles export {plain[0]} --to model.onnx"
    assert score.command == f"oodles evaluate {plain[0]} --choose-score"
    assert score.words == "Its score is not chosen yet, which export does, too. To choose it, without any test row:"
    assert (
        seeds.words == "Fewer than 5 seeds find only large differences. Train more of every row." and not seeds.command
    )


def test_the_score_is_the_one_that_export_takes(tmp_path: Path) -> None:
    runs = runs_of(tmp_path, "cross-entropy", seeds=1)
    choice = {"own": "msp", "chosen": "knn", "rows": 50, "remarks": [], "interval": None}
    for chosen, words in (("knn", "knn in place of msp"), ("msp", "msp")):
        aurocs = {"msp": {"jigsaw": 0.5}, "knn": {"jigsaw": 0.9}}
        (runs[0] / "choice.json").write_text(json.dumps({**choice, "chosen": chosen, "aurocs": aurocs}))
        _, score, _ = next_steps(table_of(*runs))
        assert score.words == (f"It is exported with the score {words}, chosen without any test row. To see on what:")


def test_every_form_says_it(tmp_path: Path) -> None:
    comparison = compare([write_run(tmp_path / "my ru`ns" / f"mixup-{seed}", "mixup", seed=seed) for seed in range(2)])
    steps = [*next_steps(comparison.tables[0]), *more_seeds(comparison.tables[0])]
    (suite,) = comparison.as_dict()["suites"]
    assert [(step["words"], step["command"]) for step in suite["next_steps"]] == [tuple(step) for step in steps]
    _, listing = comparison.to_markdown().split("### What to do next\n\n")
    export = next(step.command for step in steps if step.command.startswith("oodles export"))
    items = listing.partition("\n\n")[0].splitlines()
    assert len(items) == len(steps) and items[0].startswith("* mixup tells") and items[0].endswith(f" ``{export}``")


def test_a_row_that_is_chosen_on_its_test_sets_is_said_to_be_flattered(tmp_path: Path) -> None:
    trained_on = [write_run(tmp_path / f"oe-{seed}", "outlier-exposure", seed=seed, better=0.5) for seed in range(3)]
    table = table_of(*runs_of(tmp_path, "cross-entropy"), *trained_on)
    best = best_row(table)
    assert best is not None and best.group.label == "outlier-exposure" and best.flattered
    aurocs = [best.group.measured(name, "msp", "auroc") for name in table.ood_sets]
    assert best.auroc == np.mean([seeds.mean for seeds in aurocs if seeds])
    words = next_steps(table)[0].words
    assert "It was chosen on them, so this figure flatters it." in words and "beyond the noise" not in words


def test_rows_are_compared_by_the_scores_that_export_takes(tmp_path: Path) -> None:
    perfect = {f"{name}/knn": np.full(size, 99.0) for name, size in SIZES.items() if ":" in name}
    plain = [write_run(tmp_path / f"plain-{seed}", "cross-entropy", seed=seed, arrays=perfect) for seed in range(3)]
    trained_on = [write_run(tmp_path / f"oe-{seed}", "outlier-exposure", seed=seed, better=0.5) for seed in range(3)]
    for runs, chosen in ((plain, "knn"), (trained_on, "msp")):
        choice = {"own": "msp", "chosen": chosen, "rows": 50, "remarks": [], "interval": None}
        aurocs = {"msp": {"jigsaw": 0.5}, chosen: {"jigsaw": 0.9}}
        for run in runs:
            (run / "choice.json").write_text(json.dumps({**choice, "aurocs": aurocs}))
    table = table_of(*plain, *trained_on)
    best = best_row(table)
    assert best is not None and (best.group.label, best.auroc) == ("cross-entropy", 1.0)
    export, score, _ = next_steps(table)
    assert export.words == (
        "cross-entropy has the highest mean AUROC of these sets (100.0 % under its chosen score). "
        "It was chosen on them, so this figure flatters it. To use its seed 0:"
    )
    assert export.command == f"oodles export {plain[0]} --to model.onnx"
    assert score.words.startswith("It is exported with the score knn in place of msp")


def test_accuracy_that_is_lost_beyond_the_noise_is_said(tmp_path: Path) -> None:
    trained_on = [
        write_run(
            tmp_path / f"oe-{seed}",
            "outlier-exposure",
            seed=seed,
            better=0.5,
            arrays={"test/predictions": np.zeros(SIZES["test"], np.int64)},
        )
        for seed in range(3)
    ]
    words = next_steps(table_of(*runs_of(tmp_path, "cross-entropy"), *trained_on))[0].words
    assert "Its accuracy is lower than that of cross-entropy beyond the noise. To use its seed 0:" in words


def test_what_is_inside_the_noise_is_not_called_better(tmp_path: Path) -> None:
    trained_on = [
        write_run(tmp_path / f"oe-{seed}", "outlier-exposure", seed=seed, better=better)
        for seed, better in enumerate((0.6, -0.1, 0.1))
    ]
    table = table_of(*runs_of(tmp_path, "cross-entropy"), *trained_on)
    best = best_row(table)
    assert best is not None and best.group.label == "outlier-exposure"
    assert "On no set is it better than cross-entropy beyond the noise." in next_steps(table)[0].words


def test_seeds_are_trained_by_the_command_of_the_row(tmp_path: Path) -> None:
    folder = tmp_path / "my runs"
    runs = [write_run(folder / f"mixup-{seed}", "mixup", seed=seed) for seed in (0, 2)]
    for run in runs:
        record = (run / "run.json").read_text()
        seed = run.name[-1]
        line = f"oodles train mixup --seed {seed} --to {shlex.quote(str(run))}"
        (run / "run.json").write_text(record.replace(f"oodles train mixup --seed {seed}", line))
    (step,) = more_seeds(table_of(*runs))
    assert step.words == "mixup:"
    assert step.command == (f"for seed in 1 3 4; do oodles train mixup --seed $seed --to '{folder}/mixup'-$seed; done")


def test_runs_that_start_from_another_run_need_one_of_each_seed(tmp_path: Path) -> None:
    before = write_run(tmp_path / "before", "cross-entropy")
    run = write_run(tmp_path / "tuned", "mixup", initial="cross-entropy")
    record = (run / "run.json").read_text()
    (run / "run.json").write_text(record.replace("--seed 0", f"--seed 0 --weights {before}"))
    assert more_seeds(table_of(run)) == []


def test_a_benchmark_is_continued_with_more_seeds(tmp_path: Path) -> None:
    runs = [write_run(tmp_path / "runs" / "digits" / f"mixup-{seed}", "mixup", seed=seed) for seed in range(3)]
    table = table_of(*runs)
    write_results(tmp_path / RESULTS, [run for group in table.groups for run in group.runs])
    assert next_steps(table)[-1].command == f"oodles benchmark FILE --seeds 5 --to {tmp_path}"
    assert more_seeds(table) == []


def test_nothing_is_advised_without_figures_and_no_export_without_runs(tmp_path: Path) -> None:
    assert next_steps(table_of(write_run(tmp_path / "broken", "mixup", diverged="inf"))) == []
    runs = runs_of(tmp_path, "mixup", seeds=5)
    write_results(tmp_path / "runs.jsonl", [run for group in table_of(*runs).groups for run in group.runs])
    (step,) = next_steps(table_of(tmp_path / "runs.jsonl"))
    assert step.words.endswith("these are figures without runs.") and not step.command
