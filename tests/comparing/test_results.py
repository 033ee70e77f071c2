"""Results of runs: a round trip bit for bit, damaged files refused in a sentence, comparisons as of the folders."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from oodles.cli import main
from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.results import Result, folder_of_run, read_results, result_of, write_results
from oodles.metrics import accuracy, ood_metrics
from oodles.runs.folder import metrics_of
from oodles.runs.opened import open_run
from tests.comparing.synthetic_runs import NAMES, SIZES, draw_arrays, write_run

METHODS = {"cross-entropy": 0.0, "mixup": 0.5, "energy-bounded": 0.2}


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    folders = [
        write_run(folder / f"{method}-{seed}", method, seed=seed, better=better)
        for method, better in METHODS.items()
        for seed in range(3)
    ]
    return [*folders, write_run(folder / "mixup-3", "mixup", seed=3, diverged="the loss was nan.")]


@pytest.fixture(scope="module")
def results(folders: list[Path]) -> list[Result]:
    return [result_of(open_run(folder)) for folder in folders]


def test_a_result_is_what_the_run_came_to(folders: list[Path], results: list[Result]) -> None:
    result, arrays = results[4], draw_arrays(1, 0.5, NAMES, SIZES, "mixup")
    assert (result.label, result.data, result.seed) == ("mixup", "digits", 1)
    assert (result.status, result.folder) == ("finished", folders[4])
    assert result.methods == open_run(folders[4]).methods and result.settings["epochs"] == 60
    assert result.scores == NAMES and result.ood_sets == ("near:digits", "far:letters") and result.sizes == SIZES
    assert result.accuracy == accuracy(arrays["test/predictions"], arrays["test/labels"])
    assert set(result.metrics["test"]) == {"near:digits", "far:letters"} and set(result.metrics["validation"]) == {
        "outliers"
    }
    for score in NAMES:
        expected = ood_metrics(arrays[f"test/{score}"], arrays[f"far:letters/{score}"])
        assert result.metrics["test"]["far:letters"][score] == expected
        expected = ood_metrics(arrays[f"validation/{score}"], arrays[f"outliers/{score}"])
        assert result.metrics["validation"]["outliers"][score] == expected
    diverged = results[-1]
    assert (diverged.status, diverged.reason) == ("diverged", "the loss was nan.")
    assert (diverged.accuracy, diverged.metrics, diverged.scores) == (None, {}, ())


def test_metrics_in_the_folder_are_taken_as_they_are(tmp_path: Path) -> None:
    metrics = {"test": {"near:digits": {"msp": {"auroc": 0.123}}}, "validation": {}}
    outcome = {"metrics": metrics, "test_accuracy": 0.5, "seconds": 3.5}
    folder = write_run(tmp_path / "run", "mixup", outcome=outcome)
    (folder / "scores.npz").write_bytes(b"never read")
    result = result_of(open_run(folder))
    assert (result.metrics, result.accuracy, result.seconds) == (metrics, 0.5, 3.5)
    (group,) = compare([folder]).tables[0].groups
    seeds = group.measured("near:digits", "msp", "auroc")
    assert seeds is not None and seeds.by_seed == {0: 0.123}


def test_paths_and_moments_stay_out(tmp_path: Path) -> None:
    folder = write_run(tmp_path / "run", "mixup")
    record = json.loads((folder / "run.json").read_text())
    record["arguments"] |= {"root": ["/home/somebody/data"], "data": "/home/somebody/suite.toml"}
    record["environment"] = {"started": "2026-01-01T00:00:00", "torch": "2.13.0"}
    record["suite"]["name"] = "suite"
    (folder / "run.json").write_text(json.dumps(record))
    result = result_of(open_run(folder))
    assert result.data == "suite" and result.environment == {"torch": "2.13.0"} and "root" not in result.settings
    write_results(tmp_path / "runs.jsonl", [result])
    assert (
        "/home" not in (tmp_path / "runs.jsonl").read_text()
        and str(tmp_path) not in (tmp_path / "runs.jsonl").read_text()
    )


def test_validation_outliers_come_before_those_that_were_trained_with() -> None:
    rng = np.random.default_rng(0)
    arrays = {f"{name}/msp": rng.normal(size=20) for name in ("test", "validation", "outliers", "near:x")}
    assert list(metrics_of(arrays)["validation"]) == ["outliers"]
    arrays["validation-outliers/msp"] = rng.normal(size=20)
    metrics = metrics_of(arrays)
    expected = ood_metrics(arrays["validation/msp"], arrays["validation-outliers/msp"])
    assert metrics["validation"] == {"validation-outliers": {"msp": expected}}
    assert list(metrics["test"]) == ["near:x"]
    arrays["near:x/msp"][3] = np.nan
    assert metrics_of(arrays)["test"] == {"near:x": {}}


def test_a_round_trip_changes_no_bit(results: list[Result], tmp_path: Path) -> None:
    odd = {"test": {"near:x": {"msp": {"auroc": 0.1 + 0.2, "aupr_in": 1 / 3, "aupr_out": 5e-324}}}, "validation": {}}
    given = [*results, replace(results[0], seed=9, metrics=odd, reason="ünlike “others”\n\u2028", folder=None)]
    write_results(tmp_path / "runs.jsonl", given)
    read = read_results(tmp_path / "runs.jsonl")
    assert list(read) == given and all(result.folder is None for result in read)
    write_results(tmp_path / "again.jsonl", read)
    assert (tmp_path / "again.jsonl").read_bytes() == (tmp_path / "runs.jsonl").read_bytes()


Damage = Callable[[dict[str, Any]], str | bytes]


def _changed(**fields: Any) -> Damage:
    return lambda line: json.dumps({**line, **fields})


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda line: json.dumps(line)[:-40], "is not JSON"),
        (lambda line: "", "is not JSON"),
        (lambda line: b"\xff\xfe", "is not UTF-8 text"),
        (lambda line: "[" * 100_000, "is not JSON that can be read"),
        (lambda line: "1" * 5000, "is not JSON that can be read: numbers or lists in it are too long"),
        (lambda line: "[1, 2]", r"its content must be a table of keys and values, got \[1, 2\]"),
        (lambda line: json.dumps({k: v for k, v in line.items() if k != "sizes"}), "sizes is missing"),
        (_changed(sizes={"train": 3}), "sizes.test is missing"),
        (_changed(seed="one"), "seed must be a whole number of at least 0, got 'one'"),
        (_changed(seed=True), "seed must be a whole number of at least 0, got True"),
        (_changed(seed=10**300), "seed must be a whole number of at least 0, got 1000"),
        (_changed(status="done"), "status must be one of finished, diverged, unfinished, got 'done'"),
        (_changed(accuracy=None), "accuracy must be a number from 0 to 1 where a run has finished"),
        (_changed(accuracy=float("nan")), "accuracy must be a number from 0 to 1 or null, got nan"),
        (_changed(accuracy=93.5), "accuracy must be a number from 0 to 1 or null, got 93.5"),
        (_changed(seconds=-1.0), "seconds must be a number of seconds or null, got -1.0"),
        (_changed(seconds=float("inf")), "seconds must be a number of seconds or null, got inf"),
        (_changed(metrics=[]), r"metrics must be a table of keys and values, got \[\]"),
        (_changed(metrics={"test": {"near:x": {"msp": {"auroc": "high"}}}}), r"metrics.test.near:x.msp.auroc must be"),
        (
            _changed(metrics={"test": {"near:x": {"msp": {"auroc": 7.0}}}}),
            "auroc must be a number .*, got 7.0",
        ),
        (_changed(metrics={"test": {"near:x": {"msp": {"auroc": float("nan")}}}}), "auroc must be .*, got nan"),
        (_changed(metrics={"test": {"near:x": {"msp": {"auroc": True}}}}), "auroc must be .*, got True"),
        (_changed(metrics={"test": {"near:x": {"msp": {"fpr95": 0.5}}}}), "msp.auroc is missing"),
        (
            _changed(metrics={"test": {"near:x": 0.5}}),
            "metrics.test.near:x must be a table .*, got 0.5",
        ),
        (_changed(settings={"epochs": 3}), "settings.methods is missing"),
        (_changed(settings={"methods": []}), "settings.methods must be a list of methods, each with a name"),
        (_changed(settings={"methods": ["mixup"]}), "settings.methods must be a list of methods"),
        (_changed(settings={"methods": [{"name": "mixpu"}]}), "There is no method 'mixpu': did you mean 'mixup'"),
    ],
)
def test_damaged_files_are_refused(results: list[Result], tmp_path: Path, damage: Damage, sentence: str) -> None:
    path = tmp_path / "runs.jsonl"
    write_results(path, results)
    lines = path.read_bytes().splitlines()
    damaged = damage(json.loads(lines[2]))
    lines[2] = damaged if isinstance(damaged, bytes) else damaged.encode()
    path.write_bytes(b"\n".join(lines) + b"\n")
    with pytest.raises(ValueError, match=sentence) as refusal:
        read_results(path)
    assert str(refusal.value).startswith(f"{path}, line 3") and str(refusal.value).count(". ") == 0


def test_what_later_versions_write_besides_is_no_damage(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    write_results(path, results[:1])
    path.write_text(json.dumps({**json.loads(path.read_text(encoding="utf-8")), "further": 1}), encoding="utf-8")
    assert list(read_results(path)) == results[:1]


def test_whole_numbers_and_blank_lines_at_the_end_do_no_harm(results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    perfect = {"test": {"near:x": {"msp": {"auroc": 1, "aupr_in": 0, "aupr_out": 1.0000000000000002}}}}
    given = [replace(results[0], metrics=perfect, accuracy=1), *results[1:]]
    write_results(path, given)
    assert '"auroc": 1,' in path.read_text(encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8") + "\n \n\n", encoding="utf-8")
    assert list(read_results(path)) == given
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"runs\.jsonl holds no results, it is empty"):
        read_results(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no file of results at .*nowhere\.jsonl"):
        read_results(tmp_path / "nowhere.jsonl")
    with pytest.raises(FileNotFoundError, match="no file of results"):
        compare([tmp_path / "nowhere.jsonl"])


def test_a_file_gives_the_tables_of_the_folders(folders: list[Path], results: list[Result], tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    write_results(path, results)
    of_folders = compare(folders)

    def tables(comparison: Comparison) -> str:
        """Leave out the advice of what to do next alone, which depends on what is at hand."""
        before, _, after = comparison.to_markdown().partition("### What to do next\n")
        advice, heading, rest = after.partition("\n## ")
        assert advice
        return before + heading + rest

    assert tables(compare([path])) == tables(of_folders) and compare([path]).to_csv() == of_folders.to_csv()
    mixed = [folders[0], open_run(folders[1]), results[2], path]
    assert tables(compare(mixed)) == tables(of_folders)
    assert compare([path, path, *folders]).to_text() == of_folders.to_text()
    (table,) = compare([path, *folders[:2]]).tables
    assert [run.folder for run in table.groups[0].runs] == [folders[0], folders[1], None]


def test_a_renamed_row_counts_once_under_the_name_in_the_file(
    folders: list[Path], results: list[Result], tmp_path: Path
) -> None:
    path = tmp_path / "runs.jsonl"
    renamed = [replace(result, label="soft") if result.label == "mixup" else result for result in results]
    write_results(path, [replace(result, environment={"threads": 2}) for result in renamed])
    expected = [("cross-entropy", folders[:3]), ("soft", [*folders[3:6], folders[9]]), ("energy-bounded", folders[6:9])]
    for given in ([*folders, path], [path, *folders], [path, *map(open_run, folders), path]):
        (table,) = compare(given).tables
        assert [(group.label, [run.folder for run in group.runs]) for group in table.groups] == expected


def test_rows_of_one_recipe_under_two_names_stay_apart(folders: list[Path], results: list[Result]) -> None:
    """Such as two that start from different runs: the settings hold only what these are called."""
    other = [replace(result, label="other start", accuracy=0.25, folder=None) for result in results[3:6]]
    (table,) = compare([*results[:6], *other]).tables
    assert [(group.label, len(group.runs)) for group in table.groups] == [
        ("cross-entropy", 3),
        ("mixup", 3),
        ("other start", 3),
    ]


def test_the_folder_of_a_benchmark_is_its_results_with_the_runs_that_are_there(tmp_path: Path) -> None:
    runs = [
        write_run(folder_of_run(tmp_path / "bench", "digits", label, seed), method, seed=seed)
        for label, method in (("cross-entropy", "cross-entropy"), ("soft mix", "mixup"))
        for seed in range(2)
    ]
    assert runs[-1] == tmp_path / "bench" / "runs" / "digits" / "softmix-1"
    named = [replace(result_of(open_run(run)), folder=None) for run in runs]
    named[2:] = [replace(result, label="soft mix") for result in named[2:]]
    write_results(tmp_path / "bench" / "results.jsonl", named)
    for path in runs[3].iterdir():
        path.unlink()
    for given in ([tmp_path / "bench"], [str(tmp_path / "bench"), *runs[:3]]):
        (table,) = compare(given).tables
        assert [(group.label, [run.folder for run in group.runs]) for group in table.groups] == [
            ("cross-entropy", runs[:2]),
            ("soft mix", [runs[2], None]),
        ]
    (tmp_path / "bench" / "results.jsonl").unlink()
    with pytest.raises(FileNotFoundError, match="is no run folder"):
        compare([tmp_path / "bench"])


def test_the_same_run_with_another_outcome_is_refused(
    folders: list[Path], results: list[Result], tmp_path: Path
) -> None:
    path = tmp_path / "runs.jsonl"
    write_results(path, [replace(results[0], accuracy=0.1)])
    with pytest.raises(ValueError, match=r"a recorded cross-entropy on digits, seed 0 and .* the same recipe and seed"):
        compare([path, folders[0]])
    with pytest.raises(ValueError, match="same recipe and seed"):
        compare([folders[0], write_run(tmp_path / "twin", "cross-entropy", seed=0)])


@pytest.mark.parametrize("name", ["test", "validation", "near:digits", "far:letters"])
def test_fingerprints_say_whether_rows_are_the_same(tmp_path: Path, name: str) -> None:
    same = dict.fromkeys(SIZES, "abc")
    folders = [write_run(tmp_path / method, method, sha256=same) for method in ("cross-entropy", "mixup")]
    folders.append(write_run(tmp_path / "unknown", "energy-gap"))  # without fingerprints sizes must do
    assert len(compare(folders).tables[0].groups) == 3
    other = write_run(tmp_path / "other", "cutmix", sha256={**same, name: "abd"})
    with pytest.raises(ValueError, match="tested on other rows"):
        compare([*folders, other])
    shorter = write_run(tmp_path / "shorter", "cutmix", sizes={**SIZES, name: 9})
    with pytest.raises(ValueError, match="tested on other rows"):
        compare([*folders, shorter])
    later = write_run(tmp_path / "later", "cutmix", seed=1, sha256={**same, name: "abd"})
    assert len(compare([*folders, later]).tables[0].groups) == 4  # another seed may draw other rows


def test_no_row_is_read_for_a_comparison_of_results(results: list[Result], monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*arguments: object, **named: object) -> None:
        raise AssertionError("a file was opened")

    monkeypatch.setattr("numpy.load", never)
    monkeypatch.setattr("pathlib.Path.read_text", never)
    assert "mixup" in compare(results).to_text()


def test_the_command_takes_files(results: list[Result], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_results(tmp_path / "runs.jsonl", results)
    assert main(["compare", str(tmp_path / "runs.jsonl"), "--to", str(tmp_path / "report.md")]) == 0
    assert "digits: accuracy and AUROC" in capsys.readouterr().out
    assert (tmp_path / "report.md").read_text(encoding="utf-8").startswith("# Comparison")
    (tmp_path / "runs.jsonl").write_text("{", encoding="utf-8")
    assert main(["compare", str(tmp_path / "runs.jsonl")]) == 1
    assert "runs.jsonl, line 1 is not JSON" in capsys.readouterr().err
