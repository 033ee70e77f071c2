"""Comparisons for other programs: every seed and score."""

import csv
import io
import json

from oodles.comparing.comparison import Comparison
from oodles.comparing.figures import CAUTION, Figure
from oodles.comparing.tables import Table


def figure_of(table: Table, label: str, ood_set: str | None = "near:digits", metric: str = "auroc") -> Figure:
    (figure,) = [f for f in table.figures() if (f.label, f.ood_set, f.metric) == (label, ood_set, metric)]
    return figure


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
        assert (float(line["p"]), float(line["p_holm"])) == (figure.difference.p, figure.p_holm)
        assert figure.difference_to_best is not None and float(line["best_p"]) == figure.difference_to_best.p
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
    (entry,) = [
        f for f in mixup["figures"] if (f["score"], f["ood_set"], f["metric"]) == ("msp", "near:digits", "auroc")
    ]
    assert entry["mean"] == figure.value.mean and entry["std"] == figure.value.std and entry["n"] == 3
    assert entry["difference"]["mean"] == figure.difference.mean and entry["difference"]["wins"] == 3
    assert entry["by_seed"] == {str(seed): value for seed, value in figure.value.by_seed.items()}
    assert (entry["difference"]["verdict"], entry["compared"]) == ("better", True)
    assert (entry["difference"]["p"], entry["difference"]["p_holm"]) == (figure.difference.p, figure.p_holm)
    assert {f["score"] for f in mixup["figures"] if f["ood_set"]} == {"msp", "energy", "knn"}
    assert [run["seed"] for run in mixup["runs"]] == [0, 1, 2]
    for stated, seeds in (
        (entry["difference"], figure.difference),
        (entry["difference_to_best"], figure.difference_to_best),
    ):
        assert seeds is not None and seeds.interval is not None and seeds.bootstrap is not None
        assert (stated["student_low"], stated["student_high"]) == seeds.interval
        assert (stated["bootstrap_low"], stated["bootstrap_high"]) == seeds.bootstrap
        assert stated["sign_test_p"] == stated["smallest_p"] == 0.25 and stated["mean"] == seeds.mean
    assert entry["difference_to_best"]["score"] == figure.best_score
    assert json.loads(comparison.to_json())["statistics"] == CAUTION
