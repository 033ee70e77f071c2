"""Comparisons of runs: figures against hand-made ones, pairing by seed, what is marked, and every written form."""

import csv
import io
import json
import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from oodles.comparing.comparison import Comparison, compare
from oodles.comparing.figures import CAUTION, METRICS, OOD_METRICS, Figure, Seeds, in_brackets, in_points
from oodles.comparing.markdown import scores_table, worse
from oodles.comparing.results import result_of
from oodles.comparing.tables import Table
from oodles.comparing.words import judgements
from oodles.metrics import ood_metrics
from oodles.runs.folder import open_run
from oodles.runs.recipe import Recipe, own_score
from tests.comparing.synthetic_runs import SIZES, drawn, write_run


def runs_of(folder: Path, *methods: str, seeds: int = 3, **settings: object) -> list[Path]:
    """One run per method and seed; ``mixup`` is better than plain training and ``cutmix`` worse."""
    better = {"mixup": 0.5, "cutmix": -0.5}
    return [
        write_run(folder / f"{name}-{seed}", name, seed=seed, better=better.get(name, 0.0), **settings)
        for name in methods
        for seed in range(seeds)
    ]


def figure_of(table: Table, label: str, ood_set: str | None = "near:digits", metric: str = "auroc") -> Figure:
    (figure,) = [f for f in table.figures() if (f.label, f.ood_set, f.metric) == (label, ood_set, metric)]
    return figure


def test_seeds_mean_and_sample_deviation() -> None:
    seeds = Seeds({0: 0.5, 1: 0.6, 4: 0.85})
    assert (seeds.n, seeds.mean, seeds.std) == (3, pytest.approx(0.65), pytest.approx(0.18027756377319948))
    assert str(seeds) == "65.0 ± 18.0"
    assert Seeds({0: 0.5}).std is None and str(Seeds({0: 0.5})) == "50.0"
    difference = seeds.minus(Seeds({1: 0.5, 2: 0.9, 4: 0.8}))
    assert difference is not None
    assert difference.by_seed == pytest.approx({1: 0.1, 4: 0.05})
    assert seeds.minus(Seeds({7: 0.1})) is None


@pytest.mark.parametrize("n", [3, 5, 12, 31, 32, 80])
def test_the_interval_is_students(n: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    values = np.random.default_rng(n).normal(size=n)
    half = Seeds(dict(enumerate(values.tolist()))).half_interval
    exact = stats.t.ppf(0.975, n - 1) * values.std(ddof=1) / math.sqrt(n)
    assert half == pytest.approx(exact, rel=1e-4 if n <= 31 else 0.03)
    assert half is not None and half >= exact * (1 - 1e-4)


def test_figures_are_those_of_the_arrays(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "mixup", "cross-entropy")).tables
    assert [group.label for group in table.groups] == ["cross-entropy", "mixup"] and table.remarks == ()
    for label, better in (("cross-entropy", 0.0), ("mixup", 0.5)):
        for seed in range(3):
            arrays = drawn(seed, better, ["msp", "energy", "knn"], SIZES, label)
            expected = ood_metrics(arrays["test/msp"], arrays["near:digits/msp"])
            for metric in OOD_METRICS:
                assert figure_of(table, label, metric=metric).value.by_seed[seed] == expected[metric]
            right = np.mean(arrays["test/predictions"] == arrays["test/labels"])
            assert figure_of(table, label, None, "accuracy").value.by_seed[seed] == pytest.approx(right)


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup", seeds=4)
    (table,) = compare([f for f in folders if f.name not in ("cross-entropy-1", "mixup-3")]).tables
    figure = figure_of(table, "mixup")
    assert figure.plain is not None and figure.difference is not None
    assert set(figure.value.by_seed) == {0, 1, 2} and set(figure.plain.by_seed) == {0, 2, 3}
    assert figure.difference.by_seed == {s: figure.value.by_seed[s] - figure.plain.by_seed[s] for s in (0, 2)}
    assert any("2 of 3 seeds have plain cross-entropy" in remark for remark in table.remarks)


def test_wins_and_verdicts_know_which_way_is_better(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "mixup", "cutmix")).tables
    for metric in OOD_METRICS:
        better, worse = (figure_of(table, label, metric=metric) for label in ("mixup", "cutmix"))
        assert (better.wins, worse.wins) == (3, 0)
        assert better.difference is not None
        assert (better.difference.mean > 0) == METRICS[metric].higher_is_better
    assert (figure_of(table, "mixup").verdict, figure_of(table, "cutmix").verdict) == ("better", "worse")


@pytest.mark.parametrize(
    ("differences", "verdict"),
    [
        ([0.02, 0.03, 0.025, 0.028, 0.022], "better"),
        ([-0.02, -0.03, -0.025, -0.028, -0.022], "worse"),
        ([0.02, 0.03, -0.02, 0.04, 0.01], ""),  # better on four of five, and still inside the noise
        ([0.02, 0.021], ""),  # two seeds say too little
        ([0.02], ""),
        ([0.0, 0.0, 0.0], ""),
    ],
)
def test_only_what_leaves_out_zero_is_marked(differences: list[float], verdict: str) -> None:
    difference = Seeds(dict(enumerate(differences)))
    figure = Figure("mixup", "msp", "near:x", "auroc", difference, difference, "msp", difference)
    assert figure.verdict == verdict
    assert ("▲" in figure.against_plain, "▼" in figure.against_plain) == (verdict == "better", verdict == "worse")
    inverse = Figure("mixup", "msp", "near:x", "fpr95_id_positive", difference, difference, "msp", difference)
    assert inverse.verdict == {"better": "worse", "worse": "better", "": ""}[verdict]


def test_each_method_stands_beside_cross_entropy_under_its_own_score(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "mixup", "energy-bounded")).tables
    assert [(s, p, [g.label for g in groups]) for s, p, groups in table.blocks] == [
        ("msp", "msp", ["cross-entropy", "mixup"]),
        ("energy", "energy", ["cross-entropy", "energy-bounded"]),
    ]
    figure, plain = figure_of(table, "energy-bounded"), table.groups[0]
    assert figure.score == figure.plain_score == "energy"
    assert figure.plain == plain.measured("near:digits", "energy", "auroc")
    assert figure.plain != plain.measured("near:digits", "msp", "auroc")


def test_one_score_for_all(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup", "energy-bounded")
    (table,) = compare(folders, score="knn").tables
    assert [(score, plain_score) for score, plain_score, _ in table.blocks] == [("knn", "knn")]
    with pytest.raises(ValueError, match="did you mean 'energy'"):
        compare(folders, score="enrgy")


@pytest.mark.parametrize(
    ("methods", "score"),
    [
        ({"cross-entropy": {}}, "msp"),
        ({"energy-bounded": {}}, "energy"),
        ({"mixup": {}, "energy-gap": {}}, "energy"),
        ({"energy-gap": {"weight": 0.1}, "mixup": {}}, "energy"),
        ({"background-class": {"weight": 0.0}}, "msp"),
    ],
)
def test_own_score(methods: dict[str, dict[str, float]], score: str) -> None:
    assert own_score(tuple(methods.items())) == score


def test_a_score_that_plain_training_cannot_give(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "oodles.comparing.tables.own_score", lambda methods: "msp" if "mixup" not in dict(methods) else "confidence"
    )
    names = ("msp", "energy", "knn", "confidence")
    folders = []
    for seed in range(3):
        best = {"outliers/energy": np.full(50, 99.0)}  # on validation data the energy is perfect
        folders.append(write_run(tmp_path / f"p{seed}", "cross-entropy", seed=seed, arrays=best))
        folders.append(write_run(tmp_path / f"m{seed}", "mixup", seed=seed, scores=names))
    (table,) = compare(folders).tables
    assert [(score, plain_score) for score, plain_score, _ in table.blocks] == [
        ("msp", "msp"),
        ("energy", "energy"),
        ("knn", "knn"),
        ("confidence", "energy"),
    ]
    figures = {
        f.score: f for f in table.figures() if (f.label, f.ood_set, f.metric) == ("mixup", "near:digits", "auroc")
    }
    assert figures["confidence"].plain == table.groups[0].measured("near:digits", "energy", "auroc")
    assert figures["confidence"].difference is not None
    (line, *_) = [r for r in csv.DictReader(io.StringIO(compare(folders).to_csv())) if r["score"] == "confidence"]
    assert (line["compared"], line["cross_entropy_score"]) == ("yes", "energy")


def knn_is_best_on_validation(folder: Path, known: str = "outliers") -> list[Path]:
    """Three seeds of two methods; by validation data kNN is perfect for plain training, and on test sets nothing is."""
    best = {f"{known}/knn": np.full(SIZES["outliers"], 99.0), f"{known}/msp": np.zeros(SIZES["outliers"])}
    plain = [write_run(folder / f"p{seed}", "cross-entropy", seed=seed, arrays=best) for seed in range(3)]
    return [*plain, *(write_run(folder / f"m{seed}", "mixup", seed=seed, better=0.5) for seed in range(3))]


@pytest.mark.parametrize("known", ["outliers", "validation-outliers"])
def test_differences_to_the_score_that_is_best_on_validation(tmp_path: Path, known: str) -> None:
    (table,) = compare(knn_is_best_on_validation(tmp_path, known)).tables
    plain, mixup = table.groups
    assert plain.best_on_validation == "knn"
    figure, beside = figure_of(table, "mixup"), plain.measured("near:digits", "knn", "auroc")
    assert figure.best_score == "knn" and figure.difference_to_best is not None and beside is not None
    assert figure.difference_to_best.by_seed == {s: figure.value.by_seed[s] - beside.by_seed[s] for s in range(3)}
    assert figure.difference is not None and figure.difference.by_seed != figure.difference_to_best.by_seed
    own, best = judgements(table, "near:digits")
    assert (own.beside, best.beside) == ("msp", "knn")
    assert (own.difference, best.difference) == (figure.difference, figure.difference_to_best)
    right = figure_of(table, "mixup", None, "accuracy").against_plain
    intervals = [in_brackets(interval) for interval in (best.difference.interval, best.difference.bootstrap)]
    assert best.cells == ("mixup", "msp", "knn", right, figure.in_words(best.difference), *intervals, "0.25")
    assert mixup.plain is plain and figure_of(table, "cross-entropy").difference_to_best is None


def test_every_markdown_table_with_auroc_shows_accuracy(tmp_path: Path) -> None:
    comparison = compare(knn_is_best_on_validation(tmp_path))
    (table,), markdown = comparison.tables, comparison.to_markdown()
    heads = [before for before, line in pairwise(markdown.splitlines()) if line.startswith("| ---")]
    assert len(heads) == 1 + 2 * 3 + 1  # the overview; all metrics, tests and scores of two sets; ranks
    assert all("accuracy" in head for head in heads)
    assert sum("bootstrap" in head for head in heads) == 2 and CAUTION in markdown
    for each in judgements(table, "far:letters"):
        words, (difference, *others) = each.cells[:4], each.cells[4:]
        bold = f"**{difference}**" if each.verdict else difference
        assert f"| {' | '.join([*words, bold, *others])} |" in markdown


def test_what_got_worse_is_listed(tmp_path: Path) -> None:
    comparison = compare(runs_of(tmp_path, "cross-entropy", "mixup", "cutmix"))
    (table,) = comparison.tables
    lines = worse(table)
    assert lines[0].startswith("* **cutmix**, beyond the noise.")
    for figure in table.figures():
        if figure.label == "cutmix" and figure.verdict and figure.difference:
            assert f"{METRICS[figure.metric].heading} {in_points(figure.difference.mean)}" in lines[0]
    assert not any("mixup" in line and "AUROC" in line for line in lines)  # its AUROC is better
    lower = [figure for figure in table.figures() if not figure.ood_set and figure.difference and figure.wins < 2]
    assert [line for line in lines if "in-distribution accuracy" in line] and lower
    assert worse(compare(runs_of(tmp_path / "one", "cross-entropy")).tables[0]) == ["Nothing."]


def test_every_score_has_a_column(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "cutmix")).tables
    head, _, _, line = scores_table(table, "near:digits")
    assert head == "| method | accuracy ↑ | msp | energy | knn |"
    found = [table.groups[1].measured("near:digits", score, "auroc") for score in ("msp", "energy", "knn")]
    assert line.endswith("".join(f" | {seeds} ▼" for seeds in found) + " |")


def test_diverged_runs_are_counted_and_explained(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup")
    write_run(tmp_path / "mixup-1", "mixup", seed=1, diverged="the loss was nan at step 7.")
    (tmp_path / "mixup-1" / "scores.npz").unlink()
    folders += [write_run(tmp_path / f"c{s}", "cutmix", seed=s, diverged="the loss was inf.") for s in range(2)]
    comparison = compare(folders)
    (table,) = comparison.tables
    assert [group.seeds for group in table.groups] == ["3", "2, diverged (1 of 3 seeds)", "diverged (2 of 2 seeds)"]
    assert figure_of(table, "mixup").value.n == 2
    assert "mixup, seed 1, diverged: the loss was nan at step 7." in table.remarks
    assert "cutmix, seeds 0, 1, diverged: the loss was inf." in table.remarks
    assert "diverged (2 of 2 seeds)" in " ".join(comparison.to_text().split())
    assert "diverged (2 of 2 seeds)" in comparison.to_markdown() and "diverged (2 of 2 seeds)" in comparison.to_html()
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert [line["seed"] for line in lines if line["status"] == "diverged"] == ["1", "0", "1"]


def test_without_cross_entropy_it_says_so(tmp_path: Path) -> None:
    comparison = compare(runs_of(tmp_path, "mixup"))
    (table,) = comparison.tables
    assert "no plain cross-entropy runs" in table.remarks[0]
    assert figure_of(table, "mixup").difference is None and figure_of(table, "mixup").value.n == 3
    for written in (comparison.to_text(), comparison.to_markdown(), comparison.to_html()):
        assert "no plain cross-entropy runs" in " ".join(written.split())
    assert "No difference is marked" in table.chance


def test_smoothed_labels_are_not_plain(tmp_path: Path) -> None:
    smooth = ("cross-entropy", {"label_smoothing": 0.1})
    folders = runs_of(tmp_path, "cross-entropy")
    folders += [write_run(tmp_path / f"s{seed}", smooth, seed=seed) for seed in range(3)]
    (table,) = compare(folders).tables
    labels = ["cross-entropy (label_smoothing 0.0)", "cross-entropy (label_smoothing 0.1)"]
    assert [(group.label, group.is_plain) for group in table.groups] == list(zip(labels, [True, False], strict=True))
    assert table.groups[1].plain is table.groups[0]


def test_equal_labels_are_told_apart_by_their_settings(tmp_path: Path) -> None:
    folders = [
        write_run(tmp_path / f"{alpha}-{epochs}-{seed}", ("mixup", {"alpha": alpha}), seed=seed, epochs=epochs)
        for alpha, epochs in ((0.2, 30), (1.0, 30), (1.0, 60))
        for seed in range(2)
    ]
    (table,) = compare(folders).tables
    assert [group.label for group in table.groups] == [
        "mixup (alpha 0.2, epochs 30)",
        "mixup (alpha 1.0, epochs 30)",
        "mixup (alpha 1.0, epochs 60)",
    ]
    assert [len(group.runs) for group in table.groups] == [2, 2, 2]


def test_the_plain_runs_beside_a_row_are_those_trained_most_alike(tmp_path: Path) -> None:
    folders = [
        *(write_run(tmp_path / f"a{seed}", "cross-entropy", seed=seed, epochs=30) for seed in range(3)),
        *(write_run(tmp_path / f"b{seed}", "cross-entropy", seed=seed, epochs=60) for seed in range(3)),
        *(write_run(tmp_path / f"m{seed}", "mixup", seed=seed, epochs=60) for seed in range(3)),
        *(write_run(tmp_path / f"n{seed}", "cutmix", seed=seed, network="other") for seed in range(3)),
    ]
    (table,) = compare(folders).tables
    by_label = {group.label: group for group in table.groups}
    assert by_label["mixup"].plain is by_label["cross-entropy (epochs 60)"]
    assert by_label["cutmix"].plain is None
    assert "cutmix: no plain cross-entropy with this network." in table.remarks
    (score, _, groups) = table.blocks[0]
    assert score == "msp" and {group.label for group in groups} == set(by_label)


def test_fine_tuning_is_remarked(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy")
    tuned = {"initial": "cross-entropy", "epochs": 5, "learning_rate": 0.01}
    folders += [write_run(tmp_path / f"o{seed}", "outlier-exposure", seed=seed, **tuned) for seed in range(3)]
    (table,) = compare(folders).tables
    (remark,) = table.remarks
    assert remark.startswith("outlier-exposure: starts from cross-entropy weights")
    plain = Recipe()
    assert f"learning rate 0.01 (not {plain.learning_rate}), epochs 5 (not {plain.epochs}), unlike" in remark


def test_runs_of_other_machines_are_remarked(tmp_path: Path) -> None:
    results = [result_of(open_run(folder)) for folder in runs_of(tmp_path, "cross-entropy", "mixup", seeds=2)]
    same = {"threads": 2, "device": "cpu", "mixed_precision": "no", "torch": "2.13.0"}
    assert compare([replace(one, environment=same) for one in results]).tables[0].remarks == ()
    others = [same, {**same, "threads": 16}, {**same, "mixed_precision": "bf16", "torch": "2.14.0"}, {}]
    found = [replace(one, environment=other) for one, other in zip(results, others, strict=True)]
    assert compare(found).tables[0].remarks == (
        "Runs differ in threads (2 or 16), precision (no or bf16), on which figures depend a little.",
    )
    found[3] = replace(found[3], environment={"device": "A GPU"})
    assert "device (cpu or A GPU), precision" in compare(found).tables[0].remarks[0]


def test_each_suite_has_its_table(tmp_path: Path) -> None:
    folders = runs_of(tmp_path / "a", "cross-entropy", "mixup") + runs_of(tmp_path / "b", "mixup", data="other")
    tables = compare(folders).tables
    assert [(table.suite, [group.label for group in table.groups]) for table in tables] == [
        ("digits", ["cross-entropy", "mixup"]),
        ("other", ["mixup"]),
    ]
    assert figure_of(tables[1], "mixup").plain is None


def test_scores_that_are_no_numbers_leave_a_gap(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup")
    broken = {"near:digits/msp": np.full(SIZES["near:digits"], np.nan)}
    write_run(tmp_path / "mixup-2", "mixup", seed=2, better=0.5, arrays=broken)
    (table,) = compare(folders).tables
    assert set(figure_of(table, "mixup").value.by_seed) == {0, 1}
    assert set(figure_of(table, "mixup", "far:letters").value.by_seed) == {0, 1, 2}


def test_what_cannot_be_compared(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one run"):
        compare([])
    with pytest.raises(FileNotFoundError, match="no run folder"):
        compare([tmp_path])
    with pytest.raises(ValueError, match="has not ended"):
        compare([write_run(tmp_path / "u", "mixup", ended=False)])
    one, two = write_run(tmp_path / "1", "mixup"), write_run(tmp_path / "2", "mixup")
    with pytest.raises(ValueError, match="same recipe and seed"):
        compare([one, two])
    assert compare([one, one]).tables[0].groups[0].seeds == "1"
    other = write_run(tmp_path / "3", "cutmix", sizes={**SIZES, "near:digits": 71})
    with pytest.raises(ValueError, match="tested on other rows"):
        compare([one, other])


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    folders = runs_of(folder, "cross-entropy", "mixup", "cutmix", "energy-bounded", notes={"letters": "a remark"})
    return compare(folders)


def test_text_fits_a_terminal(comparison: Comparison) -> None:
    text = str(comparison)
    assert max(len(line) for line in text.splitlines()) <= 100
    assert "\x1b" not in text and "\x1b[1;32m" in comparison.to_text(color=True)
    figure = figure_of(comparison.tables[0], "mixup")
    assert str(figure.value) in text and figure.against_plain in text
    for word in ("ID-positive", "OOD-positive", "AUPR in", "AUPR out", "msp, n = 3", "* far-OOD letters: a remark."):
        assert word in text, word


def test_many_sets_take_several_tables(tmp_path: Path) -> None:
    sizes = {**{name: 30 for name in ("validation", "test")}, **{f"far:set{number}": 30 for number in range(7)}}
    text = compare(runs_of(tmp_path, "cross-entropy", "mixup", sizes=sizes)).to_text()
    assert max(len(line) for line in text.splitlines()) <= 100
    assert text.count("accuracy and AUROC") == 3
    assert all(f"far-OOD set{number}" in text for number in range(7))


def test_csv_holds_every_seed_and_score(comparison: Comparison) -> None:
    lines = list(csv.DictReader(io.StringIO(comparison.to_csv())))
    assert len(lines) == 4 * 3 * (1 + 3 * 2 * 5)
    figure = figure_of(comparison.tables[0], "energy-bounded")
    kept = [
        line
        for line in lines
        if (line["method"], line["ood_set"], line["metric"]) == ("energy-bounded", "near:digits", "auroc")
    ]
    assert [(line["score"], line["compared"]) for line in kept[::3]] == [
        ("energy", "yes"),
        ("msp", "no"),
        ("knn", "no"),
    ]
    for line in kept[:3]:
        seed = int(line["seed"])
        assert figure.plain is not None and figure.difference is not None
        assert float(line["value"]) == figure.value.by_seed[seed]
        assert float(line["cross_entropy"]) == figure.plain.by_seed[seed]
        assert float(line["difference"]) == figure.difference.by_seed[seed]
        assert (float(line["bootstrap_low"]), float(line["bootstrap_high"])) == figure.difference.bootstrap
        assert (float(line["student_low"]), float(line["student_high"])) == figure.difference.interval
        assert float(line["sign_test_p"]) == figure.difference.sign_test
        assert figure.difference_to_best is not None
        assert line["best_score"] == figure.best_score
        assert float(line["difference_to_best"]) == figure.difference_to_best.by_seed[seed]
        assert (float(line["best_bootstrap_low"]), float(line["best_bootstrap_high"])) == (
            figure.difference_to_best.bootstrap
        )
        assert line["caution"] == figure.difference.caution and "too narrow" in line["caution"]


def test_json_holds_every_seed_and_score(comparison: Comparison) -> None:
    (suite,) = json.loads(comparison.to_json())["suites"]
    mixup = next(method for method in suite["methods"] if method["label"] == "mixup")
    figure = figure_of(comparison.tables[0], "mixup")
    assert figure.difference is not None
    (found,) = [
        f for f in mixup["figures"] if (f["score"], f["ood_set"], f["metric"]) == ("msp", "near:digits", "auroc")
    ]
    assert found["mean"] == figure.value.mean and found["std"] == figure.value.std and found["n"] == 3
    assert found["difference"]["mean"] == figure.difference.mean and found["difference"]["wins"] == 3
    assert found["by_seed"] == {str(seed): value for seed, value in figure.value.by_seed.items()}
    assert (found["difference"]["verdict"], found["compared"]) == ("better", True)
    assert {f["score"] for f in mixup["figures"] if f["ood_set"]} == {"msp", "energy", "knn"}
    assert [run["seed"] for run in mixup["runs"]] == [0, 1, 2]
    for stated, seeds in (
        (found["difference"], figure.difference),
        (found["difference_to_best"], figure.difference_to_best),
    ):
        assert seeds is not None and seeds.interval is not None and seeds.bootstrap is not None
        assert (stated["student_low"], stated["student_high"]) == seeds.interval
        assert (stated["bootstrap_low"], stated["bootstrap_high"]) == seeds.bootstrap
        assert stated["sign_test_p"] == stated["smallest_p"] == 0.25 and stated["mean"] == seeds.mean
    assert found["difference_to_best"]["score"] == figure.best_score
    assert json.loads(comparison.to_json())["statistics"] == CAUTION


def test_markdown_is_bold_only_beyond_the_noise(comparison: Comparison) -> None:
    markdown = comparison.to_markdown()
    for figure in comparison.tables[0].figures():
        if figure.difference is not None:
            assert (f"**{figure.against_plain}**" in markdown) == bool(figure.verdict)
    header = next(line for line in markdown.splitlines() if line.startswith("| method"))
    row = next(line for line in markdown.splitlines() if line.startswith("| mixup"))
    assert header.count("|") == row.count("|")


@pytest.mark.parametrize("ending", ["html", "md", "csv", "json"])
def test_write(comparison: Comparison, tmp_path: Path, ending: str) -> None:
    path = comparison.write(tmp_path / "new" / f"report.{ending}")
    assert len(path.read_text(encoding="utf-8")) > 1000


def test_write_refuses_other_endings(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.html, \.md, \.csv or \.json"):
        comparison.write(tmp_path / "report.pdf")
