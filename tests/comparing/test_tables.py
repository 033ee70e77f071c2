"""Tables: figures against hand-made ones, pairing by seed, what stands beside a method, and what is remarked."""

import csv
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from oodles.comparing.comparison import compare
from oodles.comparing.figures import METRICS, OOD_METRICS, Figure, in_brackets
from oodles.comparing.results import result_of, write_results
from oodles.comparing.tables import Table
from oodles.comparing.words import judgements
from oodles.data import Augment
from oodles.metrics import ood_metrics
from oodles.runs.opened import open_run
from oodles.runs.recipe import Recipe
from tests.comparing.synthetic_runs import SIZES, draw_arrays, knn_is_best_on_validation, runs_of, write_run


def figure_of(table: Table, label: str, ood_set: str | None = "near:digits", metric: str = "auroc") -> Figure:
    (figure,) = [f for f in table.figures() if (f.label, f.ood_set, f.metric) == (label, ood_set, metric)]
    return figure


def test_figures_are_those_of_the_arrays(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "mixup", "cross-entropy")).tables
    assert [group.label for group in table.groups] == ["cross-entropy", "mixup"] and table.remarks == ()
    for label, better in (("cross-entropy", 0.0), ("mixup", 0.5)):
        for seed in range(3):
            arrays = draw_arrays(seed, better, ["msp", "energy", "knn"], SIZES, label)
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


def test_holms_family_is_all_differences_in_one_metric(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup", "cutmix")
    with_cac = {"scores": ("msp", "energy", "knn", "cac")}
    folders += [write_run(tmp_path / f"cac-{seed}", "cac", seed=seed, better=0.2, **with_cac) for seed in range(3)]
    (table,) = compare(folders).tables
    for metric, size in (("accuracy", 3), ("auroc", 2 * (1 + 1 + 4)), ("fpr95_id_positive", 12)):
        # two methods under msp; cac under msp, energy, knn, and its own score, which plain training cannot give
        family = [f for f in table.figures() if f.metric == metric and f.difference]
        family = list({(f.label, f.score if f.ood_set else "", f.ood_set): f for f in family}.values())
        ps = sorted(f.difference.p for f in family if f.difference and f.difference.p is not None)
        assert len(ps) == size
        for figure in family:
            assert figure.difference is not None and figure.difference.p is not None
            steps = [p * (size - place) for place, p in enumerate(ps) if p <= figure.difference.p]
            assert figure.p_holm == pytest.approx(min(1.0, max(steps)), rel=1e-12)
    mixup = next(group for group in table.groups if group.label == "mixup")
    aside = table.figure(mixup, "near:digits", "auroc", "knn", "knn")  # the tables do not compare it by that
    assert aside is not None and aside.difference is not None and aside.p_holm is None
    twice = [figure for figure in table.figures() if len(figure.mark) == 2]
    assert twice and all(figure.p_holm is not None and figure.p_holm < 0.05 for figure in twice)
    shown = {(f.label, f.score if f.ood_set else "", f.ood_set, f.metric) for f in twice}
    assert table.chance.endswith(f"over all differences in the same metric: {len(shown)}.")


def test_wins_and_verdicts_know_which_way_is_better(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "mixup", "cutmix")).tables
    for metric in OOD_METRICS:
        better, worse = (figure_of(table, label, metric=metric) for label in ("mixup", "cutmix"))
        assert (better.wins, worse.wins) == (3, 0)
        assert better.difference is not None
        assert (better.difference.mean > 0) == METRICS[metric].higher_is_better
    assert (figure_of(table, "mixup").verdict, figure_of(table, "cutmix").verdict) == ("better", "worse")


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


def test_outliers_of_a_row_are_no_remark_since_plain_training_has_none(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy")
    given = {"outlier_batch_size": 256, "max_outliers": 100}
    folders += [write_run(tmp_path / f"o{seed}", "outlier-exposure", seed=seed, **given) for seed in range(3)]
    assert compare(folders).tables[0].remarks == ()


def test_runs_of_other_machines_are_remarked(tmp_path: Path) -> None:
    results = [result_of(open_run(folder)) for folder in runs_of(tmp_path, "cross-entropy", "mixup", seeds=2)]
    same = {"threads": 2, "device": "cpu", "mixed_precision": "no", "torch": "2.13.0"}
    assert compare([replace(result, environment=same) for result in results]).tables[0].remarks == ()
    others = [same, {**same, "threads": 16}, {**same, "mixed_precision": "bf16", "torch": "2.14.0"}, {}]
    changed = [replace(result, environment=other) for result, other in zip(results, others, strict=True)]
    assert compare(changed).tables[0].remarks == (
        "Runs differ in threads (2 or 16), precision (no or bf16), on which figures depend a little.",
    )
    changed[3] = replace(changed[3], environment={"device": "A GPU"})
    assert "device (cpu or A GPU), precision" in compare(changed).tables[0].remarks[0]


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


CHANCE = "The accuracy on test rows is at chance, no better than naming the largest class for every row."


def test_accuracies_at_chance_and_warnings_are_said_in_every_form(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy")
    labels = np.arange(SIZES["test"]) % 6
    wrong = {"test/labels": labels, "test/predictions": np.zeros(SIZES["test"], int)}
    warned = {"warnings": ["All predictions of validation rows are one class.", CHANCE], "chance": 0.175}
    broken = [
        write_run(tmp_path / "m0", "mixup", seed=0, arrays=wrong),  # of a version that recorded no warnings
        write_run(tmp_path / "m1", "mixup", seed=1, arrays=wrong, outcome=warned),
        write_run(tmp_path / "m2", "mixup", seed=2),
    ]
    comparison = compare([*folders, *broken])
    (table,) = comparison.tables
    assert table.remarks == (
        f"mixup, seeds 0, 1: {CHANCE}",
        "mixup, seed 1: All predictions of validation rows are one class.",
    )
    for text in (comparison.to_text(width=400), comparison.to_markdown(), comparison.to_html()):
        assert all(remark in text for remark in table.remarks)
    write_results(tmp_path / "results.jsonl", [result_of(open_run(folder)) for folder in (*folders, *broken)])
    assert compare([tmp_path / "results.jsonl"]).tables[0].remarks == table.remarks
    lines = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()]
    for line in lines:
        del line["warnings"], line["augment"]
        if line["label"] == "mixup":
            del line["chance"]
    (tmp_path / "old.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    assert compare([tmp_path / "old.jsonl"]).tables[0].remarks == (f"mixup, seeds 0, 1: {CHANCE}",)


def test_what_scores_chose_is_said_and_in_which_rows_it_differs(tmp_path: Path) -> None:
    plain = [write_run(tmp_path / f"c{seed}", "cross-entropy", seed=seed, outcome={"remarks": {"knn": "k = 2"}})
             for seed in range(2)]  # fmt: skip
    (table,) = compare(plain).tables
    assert table.remarks == ("knn: k = 2.",)
    other = write_run(tmp_path / "m", "mixup", seed=0, outcome={"remarks": {"knn": "k = 3", "msp": "none"}})
    write_results(tmp_path / "results.jsonl", [result_of(open_run(folder)) for folder in (*plain, other)])
    for given in ([*plain, other], [tmp_path / "results.jsonl"]):
        remarks = compare(given).tables[0].remarks
        assert remarks[:2] == ("knn: k = 2 (cross-entropy); k = 3 (mixup).", "msp: none.")
    many = [write_run(tmp_path / f"k{k}", "mixup", seed=k, outcome={"remarks": {"knn": f"k = {k}"}}) for k in range(4)]
    assert "knn: k = 2; other numbers in other runs." in compare([*plain, *many]).tables[0].remarks


def test_scores_that_a_method_trains_away_are_named(tmp_path: Path) -> None:
    (table,) = compare(runs_of(tmp_path, "cross-entropy", "logit-norm")).tables
    assert table.remarks == ("logit-norm: energy sees little, since logit-norm trains away what is measured there.",)
    (table,) = compare(runs_of(tmp_path / "other", "cross-entropy", "logit-norm", scores=("msp", "knn"))).tables
    assert table.remarks == ()


def test_a_score_that_fails_on_the_outliers_that_were_trained_with_is_named(tmp_path: Path) -> None:
    folders = runs_of(tmp_path, "cross-entropy", "mixup")
    rows, knn = SIZES["outliers"], np.linspace(0, 1, SIZES["validation"])
    spoilt = {"validation/knn": knn, "outliers/knn": np.linspace(0.2, 1.2, rows), "outliers/msp": np.full(rows, 2.0)}
    for seed in range(3):
        folders.append(write_run(tmp_path / f"oe{seed}", "outlier-exposure", seed=seed, arrays=spoilt))
        folders.append(write_run(tmp_path / f"mm{seed}", "cutmix", seed=seed, arrays=spoilt))
    (table,) = compare(folders).tables
    (remark,) = [remark for remark in table.remarks if "far worse" in remark]
    auroc = ood_metrics(spoilt["validation/knn"], spoilt["outliers/knn"])["auroc"]
    assert remark.startswith("outlier-exposure: even training outliers are told from validation rows far worse by ")
    assert f"knn ({100 * auroc:.0f} %)" in remark and "than by msp (100 % AUROC)" in remark


def test_how_images_were_augmented_is_said(tmp_path: Path) -> None:
    results = [result_of(open_run(folder)) for folder in runs_of(tmp_path, "cross-entropy", "mixup", seeds=1)]
    assert compare(results).tables[0].augmentation == ""
    none, some = ({"train": {"shift": shift, "flip": shift > 1, "seed": 0}} for shift in (0, 4))
    alike = [replace(result, augment=some) for result in results]
    words = "shifted by up to 4 pixels and mirrored at random"
    assert compare(alike).tables[0].augmentation == f"Training rows: {words}."
    assert f"Training rows: {words}." in compare(alike).to_markdown()
    other = [alike[0], replace(results[1], augment=none)]
    expected = f"Training rows of cross-entropy: {words}; Training rows of mixup: as they are."
    assert compare(other).tables[0].augmentation == expected
    every = {"train": Augment(1, True, (0.7, 1), hue=0.1, brightness=0.4, transforms="a.b:c").as_dict()}
    assert compare([replace(result, augment=every) for result in results]).tables[0].augmentation == (
        "Training rows: cropped to 70% to 100% of their area, shifted by up to 1 pixel, mirrored, "
        "recoloured (brightness 0.4, hue 0.1) and changed by a.b:c at random."
    )
