"""Metrics against their definitions, written naively, and against scikit-learn."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

from oodles import metrics
from oodles.metrics import (
    METRICS,
    MOST,
    Histogram,
    accuracy,
    auroc,
    best_threshold,
    counts,
    decided,
    metric_bounds,
    ood_metrics,
)

tied = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=30)
free = st.lists(st.floats(-300, 300), min_size=1, max_size=30)
sides = st.one_of(st.tuples(tied, tied), st.tuples(free, free))


def naive(known: list[float], unknown: list[float]) -> dict[str, float]:
    """Every threshold tried in turn; shares are compared as whole numbers."""
    pairs = [(u > k) + 0.5 * (u == k) for k in known for u in unknown]
    thresholds = sorted({*known, *unknown})
    accepted = [(sum(k <= t for k in known), sum(u <= t for u in unknown)) for t in thresholds]
    rejected = [(sum(k >= t for k in known), sum(u >= t for u in unknown)) for t in reversed(thresholds)]
    return {
        "auroc": sum(pairs) / len(pairs),
        "aupr_in": sum((k - last) * k / (k + u) for (k, u), (last, _) in steps(accepted)) / len(known),
        "aupr_out": sum((u - last) * u / (k + u) for (k, u), (_, last) in steps(rejected)) / len(unknown),
        "fpr95_id_positive": min(u for k, u in accepted if 100 * k >= 95 * len(known)) / len(unknown),
        "fpr95_ood_positive": min(k for k, u in rejected if 100 * u >= 95 * len(unknown)) / len(known),
    }


def steps(points: list[tuple[int, int]]) -> list[tuple[tuple[int, int], tuple[int, int]]]:
    return list(zip(points, [(0, 0), *points], strict=False))


def by_scikit_learn(known: np.ndarray, unknown: np.ndarray) -> dict[str, float]:
    scores = np.concatenate([known, unknown])
    is_unknown = np.arange(len(scores)) >= len(known)
    result = {
        "auroc": roc_auc_score(is_unknown, scores),
        "aupr_in": average_precision_score(~is_unknown, -scores),
        "aupr_out": average_precision_score(is_unknown, scores),
    }
    for name, positive, sign in (("fpr95_id_positive", ~is_unknown, -1), ("fpr95_ood_positive", is_unknown, 1)):
        false, true, _ = roc_curve(positive, sign * scores, drop_intermediate=False)
        result[name] = false[true >= 0.95].min()
    return result


@given(sides)
def test_the_definitions(both: tuple[list[float], list[float]]) -> None:
    assert ood_metrics(*map(np.array, both)) == pytest.approx(naive(*both), rel=1e-13, abs=1e-15)


@pytest.mark.parametrize("scale", [1.0, 300.0, 1e-30])
@pytest.mark.parametrize("decimals", [0, 1, 9])
@pytest.mark.parametrize(("rows", "others"), [(200, 300), (1, 4000), (4000, 1), (20, 40), (19, 21)])
def test_agreement_with_scikit_learn(rows: int, others: int, decimals: int, scale: float) -> None:
    random = np.random.default_rng(rows + others)
    known = random.normal(size=rows).round(decimals) * scale
    unknown = (random.normal(size=others) + 1).round(decimals) * scale
    assert ood_metrics(known, unknown) == pytest.approx(by_scikit_learn(known, unknown), rel=1e-11)


def test_large_scores_do_not_saturate() -> None:
    known, unknown = np.arange(-300.0, 0.0), np.arange(-100.0, 200.0)
    assert ood_metrics(known, unknown) == pytest.approx(by_scikit_learn(known, unknown), rel=1e-12)
    assert auroc(known, unknown) == auroc(known / 1000, unknown / 1000)


def test_counts_of_pairs_beyond_32_bits_are_exact() -> None:
    known, unknown = np.arange(0.0, 200_000.0, 2), np.arange(1.0, 200_000.0, 2)
    assert auroc(known, unknown) == (100_000 + 1) / 200_000


def test_a_worked_example() -> None:
    known = np.arange(1.0, 21.0)  # 95 % of the 20 are the lower 19
    unknown = np.array([0.0, 19.0, 20.0, 21.0])
    assert ood_metrics(known, unknown) == pytest.approx(
        {
            "auroc": (0 + 18.5 + 19.5 + 20) / 80,
            "aupr_in": (sum(i / (i + 1) for i in range(1, 19)) + 19 / 21 + 20 / 23) / 20,
            "aupr_out": (1 / 1 + 2 / 3 + 3 / 5 + 4 / 24) / 4,
            "fpr95_id_positive": 2 / 4,
            "fpr95_ood_positive": 20 / 20,
        }
    )


@pytest.mark.parametrize(
    ("known", "unknown", "expected"),
    [
        ([5.0] * 7, [5.0] * 3, [0.5, 0.7, 0.3, 1.0, 1.0]),  # all equal: nothing can be told apart
        ([1.0, 2.0], [3.0, 4.0], [1.0, 1.0, 1.0, 0.0, 0.0]),
        ([3.0, 4.0], [1.0, 2.0], [0.0, (1 / 3 + 2 / 4) / 2, (1 / 3 + 2 / 4) / 2, 1.0, 1.0]),
        ([-np.inf, 0.0], [0.0, np.inf], [0.875, (1 + 2 / 3) / 2, (1 + 2 / 3) / 2, 0.5, 0.5]),
        ([-0.0], [0.0], [0.5, 0.5, 0.5, 1.0, 1.0]),
    ],
)
def test_edges(known: list[float], unknown: list[float], expected: list[float]) -> None:
    result = ood_metrics(np.array(known), np.array(unknown))
    assert [result[name] for name in METRICS] == pytest.approx(expected)


@given(sides)
def test_sides_and_signs_mirror(both: tuple[list[float], list[float]]) -> None:
    known, unknown = map(np.array, both)
    there, back = ood_metrics(known, unknown), ood_metrics(-unknown, -known)
    swapped = ("auroc", "aupr_out", "aupr_in", "fpr95_ood_positive", "fpr95_id_positive")
    assert [there[name] for name in METRICS] == pytest.approx([back[name] for name in swapped], rel=1e-14)


@given(sides)
def test_only_the_order_matters(both: tuple[list[float], list[float]]) -> None:
    known, unknown = map(np.array, both)
    ranks = np.unique(np.concatenate([known, unknown]), return_inverse=True)[1]
    assert ood_metrics(ranks[: len(known)] ** 3, ranks[len(known) :] ** 3) == ood_metrics(known, unknown)


@pytest.mark.parametrize("name", METRICS)
def test_each_metric_alone_is_that_of_all(name: str) -> None:
    random = np.random.default_rng(0)
    known, unknown = random.normal(size=50).round(1), random.normal(size=40).round(1) + 0.5
    assert getattr(metrics, name)(known, unknown) == ood_metrics(known, unknown)[name]


def test_counts_give_the_roc_curve() -> None:
    random = np.random.default_rng(0)
    known, unknown = random.normal(size=50).round(1), random.normal(size=40).round(1) + 0.5
    cumulative = counts(known, unknown)
    scores, is_unknown = np.concatenate([known, unknown]), np.arange(90) >= 50
    false, true, _ = roc_curve(is_unknown, scores, drop_intermediate=False)
    np.testing.assert_allclose(1 - cumulative.id[::-1] / 50, false, atol=1e-15)
    np.testing.assert_allclose(1 - cumulative.ood[::-1] / 40, true, atol=1e-15)


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: torch.tensor(x, requires_grad=True),
        lambda x: torch.tensor(x).bfloat16().reshape(2, -1),
        lambda x: np.array(x, dtype=np.float16),
        lambda x: np.array(x, dtype=np.int8),
        lambda x: np.array(x) > 1,
    ],
)
def test_tensors_and_arrays_of_any_kind(convert) -> None:
    known, unknown = [0.0, 1.0, 3.0, 1.0], [1.0, 4.0, 2.0, 0.0]
    expected = naive(*(np.asarray(torch.as_tensor(convert(x)).detach().double()).ravel() for x in (known, unknown)))
    assert ood_metrics(convert(known), convert(unknown)) == pytest.approx(expected)


def test_different_precisions_compare_exactly() -> None:
    known, unknown = np.array([0.1], dtype=np.float32), np.array([0.1])  # float32's 0.1 is the greater number
    assert auroc(known, unknown) == 0


def test_the_callers_scores_stay_as_they_are() -> None:
    known, unknown = np.array([3.0, 1.0, 2.0]), np.array([2.0, 0.0])
    ood_metrics(known, unknown)
    assert (known.tolist(), unknown.tolist()) == ([3.0, 1.0, 2.0], [2.0, 0.0])


@pytest.mark.parametrize("name", [*METRICS, "ood_metrics"])
def test_nan_and_empty_sides_are_refused(name: str) -> None:
    metric, some = getattr(metrics, name), np.array([1.0, 2.0])
    with pytest.raises(ValueError, match="ood_scores must not hold NaN, got 1 of 2"):
        metric(some, np.array([1.0, np.nan]))
    with pytest.raises(ValueError, match="id_scores must not hold NaN, got 2 of 2"):
        metric(some * np.nan, some)
    with pytest.raises(ValueError, match="id_scores must hold at least one score"):
        metric(some[:0], some)
    with pytest.raises(ValueError, match="ood_scores must hold at least one score"):
        metric(some, torch.zeros(0))
    with pytest.raises(TypeError, match="id_scores must be numbers"):
        metric(np.array(["a"]), some)


def test_accuracy() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0], [0.0, 1.0, 2.0], [0.0, 3.0, 1.0], [9.0, 0.0, 1.0]])
    labels = torch.tensor([0, 2, 2, 1])
    assert accuracy(logits, labels) == accuracy(logits.bfloat16(), labels) == 0.5
    assert accuracy(np.array([0, 2, 1, 0]), labels.numpy()) == 0.5
    dense = logits.T.reshape(1, 3, 2, 2)
    assert accuracy(dense, labels.reshape(1, 2, 2)) == 0.5
    assert accuracy(dense.argmax(1), torch.tensor([[[0, 2], [2, 0]]])) == 0.75


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_row_without_a_finite_largest_logit_is_wrong(value: float) -> None:
    logits, labels = np.eye(4, 3), np.array([0, 1, 2, 0])
    assert accuracy(logits, labels) == 1
    logits[1, 1] = value
    assert accuracy(logits, labels) == accuracy(torch.from_numpy(logits), torch.from_numpy(labels)) == 0.75
    assert accuracy(np.full((4, 3), value), labels) == accuracy(np.full((4, 3), -np.inf), labels) == 0
    assert accuracy(logits.T.reshape(1, 3, 2, 2), labels.reshape(1, 2, 2)) == 0.75
    logits[1] = [-np.inf, 1, 0]  # a class that cannot be
    assert accuracy(logits, labels) == 1


def test_accuracy_refuses_what_does_not_fit() -> None:
    with pytest.raises(ValueError, match=r"same shape.*got \(3,\) and \(2,\)"):
        accuracy(np.zeros((3, 4)), np.zeros(2, dtype=int))
    with pytest.raises(ValueError, match="at least one row"):
        accuracy(np.zeros((0, 4)), np.zeros(0, dtype=int))
    with pytest.raises(TypeError, match="labels must be class ids, got float64"):
        accuracy(np.zeros((3, 4)), np.zeros(3))


def test_metrics_alone_need_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import sys, oodles.metrics; assert 'torch' not in sys.modules"], check=True)


def counted(scores: np.ndarray, most: int = MOST, chunk: int = 1000) -> Histogram:
    histogram = Histogram(most)
    for start in range(0, max(len(scores), 1), chunk):
        histogram.add(scores[start : start + chunk])
    return histogram


@given(sides)
def test_a_histogram_of_few_scores_is_exact(both: tuple[list[float], list[float]]) -> None:
    known, unknown = map(np.array, both)
    exact = ood_metrics(known, unknown)
    assert ood_metrics(counted(known, chunk=3), counted(unknown, chunk=2)) == exact
    assert ood_metrics(known, counted(unknown)) == exact
    assert metric_bounds(counted(known), unknown) == {name: (value, value) for name, value in exact.items()}


@given(st.lists(st.integers(-9, 9).map(float), min_size=1, max_size=60), tied)
def test_many_scores_of_few_numbers_are_exact(known: list[float], unknown: list[float]) -> None:
    exact = ood_metrics(np.array(known), np.array(unknown))
    sides = counted(np.array(known, np.float32), most=20, chunk=7), counted(np.array(unknown, np.float32), most=20)
    assert ood_metrics(*sides) == exact
    for name, (low, high) in metric_bounds(*sides).items():
        assert low == pytest.approx(exact[name], abs=1e-15) and high == pytest.approx(exact[name], abs=1e-15)
    assert ood_metrics(np.array(known), sides[1]) == exact


def draws(name: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw scores of kinds that are hard on bins: wide, narrow, tied, with a gap, sorted, and with infinities."""
    rng = np.random.default_rng(0)
    normal, few = rng.normal(size=rows), rng.normal(size=rows // 20)
    kinds = {
        "energies": (3 * normal - 12, 3 * few - 8),
        "probabilities": (1 / (1 + np.exp(6 + 3 * normal)), 1 / (1 + np.exp(1 + 2 * few))),
        "ties": (np.rint(4 * normal), np.rint(4 * few) + 3),
        "gap": (np.where(rng.random(rows) < 0.95, normal, 1000 + normal), 500 + 1e-3 * few),
        "narrow and wide": (np.where(rng.random(rows) < 0.5, 1 + 1e-5 * normal, np.exp(8 * normal)), 1 + 1e-5 * few),
        "sorted": (np.sort(normal), np.sort(few + 1)[::-1]),
        "infinite": (
            np.where(rng.random(rows) < 0.1, -np.inf, normal),
            np.where(rng.random(len(few)) < 0.1, np.inf, few),
        ),
    }
    known, unknown = kinds[name]
    return known.astype(np.float32), unknown.astype(np.float32)


HARD = ["energies", "probabilities", "ties", "gap", "narrow and wide", "sorted", "infinite"]


@pytest.mark.parametrize("name", HARD)
def test_a_histogram_is_near_the_exact_metrics_and_between_its_bounds(name: str) -> None:
    known, unknown = draws(name, 400_000)
    exact = ood_metrics(known, unknown)
    sides = counted(known, 2**17, 30_000), counted(unknown, 2**17, 30_000)
    found, bounds = ood_metrics(*sides), metric_bounds(*sides)
    for metric in METRICS:
        low, high = bounds[metric]
        assert abs(found[metric] - exact[metric]) <= 1e-4, metric
        assert low - 1e-12 <= exact[metric] <= high + 1e-12 and low - 1e-12 <= found[metric] <= high + 1e-12
    assert len(sides[0].bins().key) <= 2**17 and len(sides[0]) == len(known)
    assert sides[0].bins().scores.sum() == len(known)


def test_a_small_histogram_knows_how_far_off_it_may_be() -> None:
    known, unknown = draws("narrow and wide", 60_000)
    exact = ood_metrics(known, unknown)
    sides = counted(known, 2**9), counted(unknown, 2**9)
    found, bounds = ood_metrics(*sides), metric_bounds(*sides)
    assert max(high - low for low, high in bounds.values()) > 1e-3
    for metric, (low, high) in bounds.items():
        assert low - 1e-12 <= exact[metric] <= high + 1e-12 and low - 1e-12 <= found[metric] <= high + 1e-12
    assert len(sides[0].bins().key) <= 2**9


def test_scores_of_more_digits_are_bounded_too() -> None:
    rng = np.random.default_rng(1)
    known, unknown = 1 + 1e-9 * rng.normal(size=5000), 1 + 1e-9 * (rng.normal(size=5000) + 1)
    bounds = metric_bounds(counted(known, 2**10), counted(unknown, 2**10))
    for metric, value in ood_metrics(known, unknown).items():
        assert bounds[metric][0] <= value <= bounds[metric][1]


def test_the_order_of_float32_numbers() -> None:
    numbers = np.array([-np.inf, -3.0, -1e-40, -0.0, 0.0, 1e-40, 2.0, np.inf], np.float32)
    histogram = counted(np.repeat(numbers, 3), most=4, chunk=24)
    assert histogram.bins().scores.sum() == 24
    wide = counted(np.repeat(numbers, 3), most=10, chunk=5).bins()
    assert wide.scores.tolist() == [3, 3, 3, 6, 3, 3, 3] and not wide.level.any()


def test_a_histogram_refuses_what_is_no_score() -> None:
    histogram = Histogram()
    with pytest.raises(ValueError, match="scores must not hold NaN, got 1 of 2"):
        histogram.add(np.array([0.0, np.nan]))
    with pytest.raises(TypeError, match="scores must be numbers"):
        histogram.add(np.array(["a"]))
    with pytest.raises(ValueError, match="id_scores must hold at least one score, got none"):
        auroc(histogram, np.ones(2))
    with pytest.raises(ValueError, match="ood_scores must hold at least one score, got none"):
        ood_metrics(counted(np.arange(50.0), most=8), histogram)
    scores = torch.tensor([1.0, 2.0])
    histogram.add(scores)
    scores.zero_()
    assert auroc(histogram, np.array([1.5])) == 0.5


@given(sides, st.data())
def test_the_best_threshold_decides_most_rows_rightly_and_is_the_lowest_such(
    both: tuple[list[float], list[float]], data: st.DataObject
) -> None:
    known, unknown = both
    right = data.draw(st.lists(st.booleans(), min_size=len(known), max_size=len(known)))
    thresholds = [-np.inf, *sorted({*known, *unknown})]
    counted = [
        sum(k <= t and r for k, r in zip(known, right, strict=True)) + sum(u > t for u in unknown) for t in thresholds
    ]
    best = best_threshold(np.array(known), np.array(right), np.array(unknown))
    assert best == thresholds[counted.index(max(counted))]
    shares = decided(best, torch.tensor(known, dtype=torch.float64), torch.tensor(right), np.array(unknown))
    assert shares.accuracy == sum(k <= best and r for k, r in zip(known, right, strict=True)) / len(known)
    assert shares.recall == sum(u > best for u in unknown) / len(unknown)


def test_a_threshold_accepts_scores_that_are_equal_to_it() -> None:
    assert decided(1.0, np.array([1.0, 2.0]), np.array([True, True]), np.array([1.0, 1.5, 3.0])) == (0.5, 2 / 3)


@pytest.mark.parametrize(
    ("right", "unknown", "sentence"),
    [
        ([True], [1.0], "right must be a truth value for each of 2 id_scores, got bool of length 1"),
        ([1, 0], [1.0], "right must be a truth value for each of 2 id_scores, got int64 of length 2"),
        ([True, False], [], "ood_scores must hold at least one score, got none"),
        ([True, False], [np.nan], "ood_scores must not hold NaN, got 1 of 1"),
    ],
)
def test_thresholds_of_rows_that_are_not_there_are_refused(
    right: list[object], unknown: list[float], sentence: str
) -> None:
    for call in (best_threshold, lambda *rows: decided(0.0, *rows)):
        with pytest.raises(ValueError, match=sentence):
            call(np.array([0.0, 1.0]), np.array(right), np.array(unknown))
    with pytest.raises(ValueError, match="id_scores must hold at least one score"):
        best_threshold(np.array([]), np.array([], dtype=bool), np.array([1.0]))
