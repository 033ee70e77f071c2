"""The pages of recorded results say what the rows say, and are current."""

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest

from oodles.comparing.comparison import compare
from oodles.comparing.groups import Group
from oodles.comparing.results import Result, read_results, result_of, write_results
from oodles.comparing.words import overview
from oodles.runs.opened import open_run
from oodles.runs.recipe import PLAIN
from tests.comparing.synthetic_runs import SIZES, write_run
from tests.docs_programs import DOCS, docs_programs


@pytest.fixture(scope="module")
def results() -> Iterator[ModuleType]:
    with docs_programs("results") as programs:
        yield programs["results"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two protocols: one of them has published counterparts."""
    folder = tmp_path_factory.mktemp("recorded")
    plan = {
        "digits": (("cross-entropy", 0.0), ("mixup", 0.5), ("cutmix", -0.5)),
        "cifar10": (
            ("cross-entropy", 0.0),
            ("mixup", 0.1),
            ("outlier-exposure", 0.6),
            ("outlier-exposure-from-scratch", 0.7),
        ),
    }
    colour = {"train": 45000, **SIZES, "near:tinyimagenet": 60, "far:textures": 50, "far:street-characters": 50}
    for data, methods in plan.items():
        sizes = colour if data == "cifar10" else {"train": 162, **SIZES}
        results = []
        for method, better in methods:
            own = method.removesuffix("-from-scratch")
            tuned = {"initial": "cross-entropy", "epochs": 10, "learning_rate": 0.001}
            about = tuned if method == "outlier-exposure" else {"epochs": 30}
            for seed in range(3):
                broken = "the loss was nan." if (method, seed) == ("cutmix", 1) else ""
                write_run(
                    folder / f"{data}-{method}-{seed}",
                    own,
                    seed=seed,
                    better=better,
                    data=data,
                    sizes=sizes,
                    diverged=broken,
                    **about,
                )
                result = result_of(open_run(folder / f"{data}-{method}-{seed}"))
                results.append(
                    replace(result, label=method, seconds=2.0, environment={"torch": "2.13.0+cpu", "device": "cpu"})
                )
        write_results(folder / f"{data}.jsonl", results)
    return [folder / "cifar10.jsonl", folder / "digits.jsonl"]


@pytest.fixture(scope="module")
def pages(results: ModuleType, files: list[Path]) -> dict[str, str]:
    return dict(results.pages(files))


def test_docs_results_is_current() -> None:
    done = subprocess.run([sys.executable, DOCS / "results.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_check_fails_where_the_page_is_out_of_date(
    results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    results.keep(page, "now")
    assert page.read_text(encoding="utf-8") == "now"
    monkeypatch.setattr(sys, "argv", ["results.py", "--check"])
    results.keep(page, "now")
    with pytest.raises(SystemExit, match=r"page\.md is out of date: run python docs/results\.py"):
        results.keep(page, "later")
    assert page.read_text(encoding="utf-8") == "now"


def test_pages_that_are_no_longer_made_go(results: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    results.write({"one.md": "1", "two.md": "2"}, tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py", "--check"])
    with pytest.raises(SystemExit, match=r"two\.md is no longer made"):
        results.write({"one.md": "1"}, tmp_path)
    monkeypatch.setattr(sys, "argv", ["results.py"])
    results.write({"one.md": "1"}, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["one.md"]


def test_every_protocol_has_a_page_that_says_how_it_was_run(pages: dict[str, str]) -> None:
    assert [*pages] == ["digits.md", "cifar10.md", "ranks.md", "published.md", "reading.md", "index.md"]
    first, second = pages["cifar10.md"], pages["digits.md"]
    assert "* training rows: 45,000\n" in first and "* training rows: 162\n" in second
    scratch = "cross-entropy, mixup, outlier-exposure-from-scratch"
    assert f"* epochs: 30 ({scratch}); 10 (outlier-exposure)\n" in first and "* epochs: 30\n" in second
    assert "* optimizer: sgd with Nesterov momentum 0.9, 0.02, weight decay 0.0005 (cross-entropy, mi" in first
    assert f"* initial weights: random ({scratch}); cross-entropy (outlier-exposure)\n" in first
    assert "* near-OOD: digits, tinyimagenet\n* far-OOD: letters, textures, street-characters\n" in first
    assert "* seeds: 0, 1, 2\n" in second and "* device: cpu\n" in second and "* versions: torch 2.13.0+cpu\n" in second
    assert "* runs: 9, of which 1 diverged; 2 s of training each on average\n" in second
    ranks = pages["ranks.md"]
    assert (
        "\n| mixup | msp |" in ranks
        and "not measured everywhere: cutmix, outlier-exposure, outlier-exposure-from-scratch." in ranks
    )
    assert "cutmix, seed 1, diverged: the loss was nan." in second and "chance would mark about" in second
    assert "FPR95 ID-positive ↓" in second and "FPR95 OOD-positive ↓" in second


def test_what_is_long_is_folded_and_every_fold_closed(pages: dict[str, str]) -> None:
    for name in ("digits.md", "cifar10.md"):
        shown = re.sub(r"<details>.*?</details>", "", pages[name], flags=re.DOTALL)
        assert pages[name].count("<details>") == pages[name].count("</details>") == 4
        assert "FPR95" not in shown and "* training rows" not in shown and "| cross-entropy | msp, n = 3 |" in shown
        assert "\n\n\n" not in pages[name] and "## What got worse" in shown


def test_the_figures_are_those_of_the_rows(results: ModuleType, pages: dict[str, str], files: list[Path]) -> None:
    for file in files:
        (table,) = compare([file]).tables
        page = pages[f"{table.suite}.md"]
        for group in table.groups:
            for column in [*overview(table), *((name, metric) for name in table.ood_sets for metric in results.FPR)]:
                figure = table.figure(group, *column, group.own_score, group.own_score)
                assert figure and str(figure.value) in page and figure.against_plain in page


def test_the_overview_has_a_line_for_each_suite(results: ModuleType, pages: dict[str, str], files: list[Path]) -> None:
    lines = {line.split("](")[0][3:]: line for line in pages["index.md"].splitlines() if line.startswith("| [")}
    assert [*lines] == ["digits", "cifar10"]
    (table,) = compare([files[0]]).tables
    _, _, tuned, scratch = table.groups
    gains = {group.label: results.differences(group, "msp") for group in (tuned, scratch)}
    label = "outlier-exposure-from-scratch"
    assert f"{label} {results.points(gains[label]['near'])}" in lines["cifar10"]
    near = [name for name in table.ood_sets if name.startswith("near")]
    means = [[rows.measured(name, "msp", "auroc").mean for name in near] for rows in (scratch, table.groups[0])]
    assert gains[label]["near"].mean == pytest.approx(statistics.mean(means[0]) - statistics.mean(means[1]))
    cells = lines["digits"].split(" | ")
    assert cells[2] == "3, n = 3" and cells[5] == cells[4], "no score was chosen"
    assert "cutmix" not in cells[6] and cells[7].startswith(("0 of 2", "1 of 2", "2 of 2"))


def test_what_depends_on_the_seed_alone_is_no_difference_between_rows(results: ModuleType, tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{method}-{seed}", method, seed=seed, sizes={**SIZES, "train": 160 + seed})
        for method, seeds in (("cross-entropy", 3), ("mixup", 2))
        for seed in range(seeds)
    ]
    facts = results.protocol(compare(folders).tables[0])
    assert facts["training rows"] == "160 or 161 or 162"
    assert facts["seeds"] == "0, 1, 2 (cross-entropy); 0, 1 (mixup)"


def test_published_figures_stand_beside_ours(pages: dict[str, str], files: list[Path]) -> None:
    published = pages["published.md"]
    (table,) = compare([files[0]]).tables
    plain, _, exposed, scratch = table.groups

    def far(seed: int, group: Group) -> float:
        metrics = group.finished[seed].metrics["test"]
        sets = [name for name in metrics if name.startswith("far:")]
        assert len(sets) == 3
        return 100 * sum(metrics[name]["msp"]["auroc"] for name in sets) / 3

    ours = sum(far(seed, exposed) for seed in range(3)) / 3
    gain = ours - sum(far(seed, plain) for seed in range(3)) / 3
    lines = [line for line in published.splitlines() if line.startswith("| outlier-exposure") and "| msp |" in line]
    assert [line.split(" | ")[0] for line in lines] == ["| outlier-exposure-from-scratch", "| outlier-exposure"]
    assert [line.split(" | ")[-1] for line in lines] == ["random |", "cross-entropy |"], "as published, then the other"
    assert str(scratch.measured(None, "msp", "accuracy")) in lines[0]
    line = lines[1]
    cells = line.strip("| ").split(" | ")
    assert cells[2:5] == ["94.63 (−0.43)", "94.82 (+6.79)", "96.00 (+5.27)"]
    assert cells[7].startswith(f"{ours:.1f} ± ") and cells[7].endswith(f" ({gain:+.1f})")
    accuracy = exposed.measured(None, "msp", "accuracy")
    assert accuracy is not None and cells[5].startswith(str(accuracy))
    for start in (
        "| cross-entropy | knn | 95.06 | 90.64 | 92.96 |",
        "| training rows | 50,000 | 45,000 |",
        "| network | ResNet-18 for 32 × 32 | small-cnn |",
    ):
        assert f"\n{start}" in published
    assert "went through JPEG" in published and "Without a published counterpart: digits." in published


def test_decisions_stand_beside_published_ones(
    results: ModuleType, files: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def row(label: str, score: str, seed: int, accuracy: float, *, own: bool = False) -> dict[str, object]:
        about = {"label": label, "score": score, "seed": seed, "own": own}
        return {**about, "accuracy": accuracy, "recall": accuracy - 0.5}

    rows = [
        row("mixup", "energy", 0, 0.9, own=True),
        row("mixup", "energy", 1, 0.8, own=True),
        row("mixup", "entropy", 0, 0.1),
        row("cross-entropy", "knn", 0, 0.7),
        row("of no table", "msp", 0, 0.3, own=True),
    ]
    (tmp_path / "decided.json").write_text(json.dumps(rows))
    published = sys.modules["published"]
    monkeypatch.setattr(published, "RESULTS", tmp_path)
    given = {"title": "Intents", "source": "a paper", "suite": "digits", "figures": "decided.json"}
    given["rows"] = [{"method": "MLP", "trained": True, "accuracy": 93.5, "recall": 47.4}]
    (table,) = compare([files[1]]).tables
    lines = [line for line in published.refusals(given, table) if line.startswith("|")]
    assert lines[2:] == [
        "| published | MLP |  | some out of scope | 93.5 | 47.4 |",
        "| ours | cross-entropy | knn | in-scope queries | 70.0 | 20.0 |",
        "| ours | mixup | energy | in-scope queries | 85.0 ± 7.1 | 35.0 ± 7.1 |",
    ]
    page = "\n".join(results.beside_published([table], {"protocols": [], "refusals": [given]}))
    assert "## Intents, beside ours on digits" in page and "Without a published" not in page


def test_recorded_decisions_are_of_the_recorded_runs(results: ModuleType) -> None:
    recorded = compare([results.RESULTS / "clinc150.jsonl"]).tables[0]
    measured = json.loads((results.RESULTS / "clinc150-larson.json").read_text(encoding="utf-8"))
    seeds = {(group.label, run.seed): run.accuracy for group in recorded.groups for run in group.finished}
    assert {(row["label"], row["seed"]) for row in measured} == set(seeds)
    for row in measured:  # refusing makes no wrong answer right
        assert 0.9 < row["accuracy"] <= seeds[row["label"], row["seed"]]
    own = {(row["label"], row["score"]) for row in measured if row["own"]}
    assert own == {(group.label, group.own_score) for group in recorded.groups}


def test_what_methods_on_features_bring_under_one_score_is_that_of_the_rows(results: ModuleType) -> None:
    rows = [json.loads(line) for line in (results.RESULTS / "digits.jsonl").read_text(encoding="utf-8").splitlines()]

    def aurocs(label: str) -> dict[int, float]:
        return {
            row["seed"]: row["metrics"]["test"]["near:digits"]["energy"]["auroc"]
            for row in rows
            if row["label"] == label
        }

    plain, words = aurocs("cross-entropy"), (DOCS / "results" / "families.md").read_text(encoding="utf-8")
    line = next(line for line in words.splitlines() if line.startswith("| digits | near | energy |"))
    better, worse = line.split(" | ")[3:5]
    for label, where in (("vos", better), ("sngp", worse)):
        own = aurocs(label)
        differences = [100 * (own[seed] - plain[seed]) for seed in plain]
        mean, std = statistics.mean(differences), statistics.stdev(differences)
        assert f"{label} {mean:+.1f}".replace("-", "−") in where
        assert abs(mean) > 2.262 * std / len(differences) ** 0.5, "Student's interval of ten seeds excludes 0"
    assert "supcon" not in line, "it is not told apart"


def mean_auroc(run: Result, kind: str, score: str) -> float:
    return statistics.fmean(by[score]["auroc"] for name, by in run.metrics["test"].items() if name.startswith(kind))


def in_words(points: float) -> str:
    return f"{points:+.1f}".replace("-", "−")


def test_what_choosing_a_score_brought_is_computed_from_the_rows(
    results: ModuleType, files: list[Path], tmp_path: Path
) -> None:
    recorded = [replace(run, chosen="knn" if run.seed else "msp") for run in read_results(files[0])]
    write_results(tmp_path / "cifar10.jsonl", recorded)
    (table,) = compare([tmp_path / "cifar10.jsonl"]).tables
    found = {kind: [] for kind in ("near", "far")}
    for run in recorded:
        for kind, gains in found.items():
            means = {score: mean_auroc(run, kind, score) for score in ("msp", "energy", "knn")}
            gains.append((means[run.chosen] - means["msp"], means[run.chosen] - max(means.values())))
    page = results.choices.page([table])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(results.choices, "LOSS", 0.002)
        page_of_small_losses = results.choices.page([table])
    small = 0
    for kind, changes in found.items():
        gains, regrets = zip(*changes, strict=True)
        lost = sum(gain < -0.01 for gain in gains)
        figures = [100 * statistics.fmean(gains), 100 * statistics.fmean(regrets), 100 * min(gains)]
        gain, regret, worst = map(in_words, figures)
        row = f"| cifar10 | {kind} | 12, of which 8 with another score | {gain} | {regret} | {lost} of 12 | {worst} |"
        assert row in page
        by_label: dict[str, list[float]] = {}
        for run, change in zip(recorded, gains, strict=True):
            by_label.setdefault(run.label, []).append(100 * change)
        means = {label: statistics.fmean(found) for label, found in by_label.items()}
        for trained, said in ((False, "no"), (True, "yes")):
            rows = {label: mean for label, mean in means.items() if label.startswith("outlier-exposure") == trained}
            worst = min(rows, key=lambda label: rows[label])
            for limit, text in ((1.0, page), (0.2, page_of_small_losses)):
                mean, lost = statistics.fmean(rows.values()), sum(mean < -limit for mean in rows.values())
                words = (f"{len(rows)}", in_words(mean), f"{lost}", f"{in_words(rows[worst])} ({worst})")
                assert f"| {said} | {kind} | {' | '.join(words)} |" in text
            small += lost
    assert small, "some row loses a little"
    write_results(tmp_path / "wider.jsonl", recorded)
    shown = results.pages([tmp_path / "cifar10.jsonl"], networks=[tmp_path / "wider.jsonl"])
    elsewhere = shown["choosing.md"].partition("## Other networks")[2]
    assert row.replace("| cifar10 |", "| wider |") in elsewhere and "wider.md" not in shown
    shown = results.pages([tmp_path / "cifar10.jsonl"])
    assert shown["choosing.md"] == page and "## With the score chosen" in shown["cifar10.md"]
    assert "| mixup | chosen, n = 3 |" in shown["cifar10.md"]
    plain = [100 * mean_auroc(run, kind, run.chosen) for kind in found for run in recorded if run.label == PLAIN]
    cells = next(line for line in shown["index.md"].splitlines() if line.startswith("| [cifar10]")).split(" | ")
    assert cells[5] == f"{statistics.fmean(plain[:3]):.1f} / {statistics.fmean(plain[3:]):.1f}" != cells[4]
    assert (
        "choosing.md" not in results.pages(files) and "With the score chosen" not in results.pages(files)["cifar10.md"]
    )
