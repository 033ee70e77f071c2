"""Thresholds and p-values against definitions, and against what they promise."""

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from oodles import CalibrationWarning
from oodles.detection.calibration import Calibration, choosing_rows, refused_by_fdr, refused_rank, rows_needed

NAMES = ("a", "b", "c")


def calibration(rows: int, *, ties: bool = False, seed: int = 0, **settings: Any) -> Calibration:
    random = np.random.default_rng(seed)
    scores = random.normal(size=rows).round(1 if ties else 12)
    return Calibration(scores, random.integers(0, 3, rows), NAMES, **settings)


@pytest.mark.parametrize("per_class", [False, True])
@pytest.mark.parametrize("ties", [False, True])
@pytest.mark.parametrize("rate", [0.05, 0.07, 0.1, 0.3, 0.999])
def test_p_values_are_their_definition_and_thresholds_follow(rate: float, ties: bool, per_class: bool) -> None:
    known = calibration(200, ties=ties, false_alarms=rate, per_class=per_class)
    random = np.random.default_rng(1)
    scores = np.concatenate([random.normal(size=300).round(1 if ties else 12), known.scores, [np.inf, -np.inf]])
    ids = random.integers(0, 3, len(scores))
    p_values, thresholds = known.p_values(scores, ids), known.threshold_of(ids)
    for score, number, p_value, threshold in zip(scores, ids, p_values, thresholds, strict=True):
        peers = [
            one for one, its in zip(known.scores, known.predictions, strict=True) if its == number or not per_class
        ]
        exact = Fraction(1 + sum(one >= score for one in peers), len(peers) + 1)
        assert p_value == float(exact)
        assert (score <= threshold) == (exact > Fraction(str(rate))), "accepted is a p-value above the rate"


def test_a_score_that_is_no_number_is_the_least_likely() -> None:
    assert calibration(99).p_values(np.array([np.nan]), np.zeros(1, int)).tolist() == [0.01]


@pytest.mark.parametrize("per_class", [False, True])
def test_new_known_rows_are_refused_as_rarely_as_promised(per_class: bool) -> None:
    """Over calibrations drawn anew, the rate is k / (n + 1); per class it holds in each class, however unlike."""
    random, classes, rate = np.random.default_rng(0), 3, 0.1
    refused: dict[int, list[float]] = {number: [] for number in range(classes)}
    for _ in range(1500):
        ids, new = random.integers(0, classes, 120), random.integers(0, classes, 60)
        known = Calibration(random.normal(size=120) + 3 * ids, ids, NAMES, rate, per_class)
        rows = random.normal(size=60) + 3 * new > known.threshold_of(new)
        for number in range(classes):
            refused[number].append(float(rows[new == number].mean()))
    means = [float(np.mean(values)) for values in refused.values()]
    if per_class:
        assert all(0.07 < mean <= 0.104 for mean in means), means
    else:
        assert means[0] < 0.001 and means[2] > 0.2, "one threshold refuses one class"
        assert 0.09 < np.mean(means) < 0.104


def test_a_rate_needs_rows() -> None:
    assert [rows_needed(rate) for rate in (0.5, 0.1, 0.05, 0.01, 0.03, 1 / 3)] == [1, 9, 19, 99, 33, 2]
    assert calibration(19).thresholds.tolist() == [calibration(19).scores.max()]
    with pytest.raises(
        ValueError, match=r"5 % needs 19 held-out known rows, got 18: hold more back for validation, or allow 5\.3 %"
    ):
        calibration(18)
    few = np.array([0] * 30 + [1] * 30 + [2] * 5)
    with pytest.raises(ValueError, match=r"needs 19 held-out known rows of class 'c', got 5: .*allow 17 %"):
        Calibration(np.zeros(65), few, NAMES, 0.05, True)
    with pytest.raises(ValueError, match=r"of class 'b', got 0 and 1 more classes: .*allow 1e\+02 %"):
        Calibration(np.zeros(65), np.zeros(65, int), NAMES, 0.05, True)


@pytest.mark.filterwarnings("always:The threshold for")
def test_few_rows_are_told_with_what_they_mean(recwarn: pytest.WarningsRecorder) -> None:
    calibration(190)
    assert not recwarn.list
    calibration(189)
    (warning,) = recwarn.list
    assert warning.category is CalibrationWarning
    words = str(warning.message)
    assert words.startswith(
        "The threshold for 5 % false alarms comes from 189 known rows alone: the rate will mostly be"
    )
    # over many calibrations: the rate is that share of new rows above the 9th highest of 189
    draws = 1 - np.sort(np.random.default_rng(0).random((20000, 189)), axis=1)[:, -9]
    assert calibration(1, false_alarms=0.5).likely_rates(1) == pytest.approx((0.05, 0.95))  # any rate is as likely
    low, high = calibration(189).likely_rates(189)
    np.testing.assert_allclose([low, high], np.quantile(draws, [0.05, 0.95]), rtol=0.03)
    assert f"between {100 * low:.1f} % and {100 * high:.1f} %; 190 rows would tell more." in words


def test_the_false_discovery_rate_is_kept_and_found() -> None:
    """A quarter of the inputs is unknown: at most a tenth of what is refused is known, in expectation."""
    random = np.random.default_rng(0)
    shares, found = [], []
    for draw in range(400):
        known = calibration(400, seed=draw)
        scores = np.concatenate([random.normal(size=75), random.normal(size=25) + 4])
        refused = refused_by_fdr(known.p_values(scores, np.zeros(100, int)), 0.1)
        shares.append(refused[:75].sum() / max(refused.sum(), 1))
        found.append(refused[75:].mean())
    assert 0.05 < np.mean(shares) <= 0.1 and np.mean(found) > 0.8


def test_the_rule_is_benjamini_and_hochbergs() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        p_values = np.sort(random.random(12) ** 3).round(2)
        rank = max((i for i in range(1, 13) if p_values[i - 1] <= 0.2 * i / 12 + 1e-15), default=0)
        refused = refused_by_fdr(p_values, 0.2)
        assert refused.tolist() == (p_values <= (p_values[rank - 1] if rank else -1)).tolist()
    assert refused_by_fdr(np.zeros(0), 0.2).tolist() == []


@pytest.mark.parametrize("rows", [0, 1, 2, 7, 1000])
def test_half_of_the_rows_may_choose_and_always_the_same(rows: int) -> None:
    chosen = choosing_rows(rows)
    assert chosen.sum() == rows // 2 and chosen.tolist() == choosing_rows(rows).tolist()
    if rows == 1000:
        assert 200 < chosen[:500].sum() < 300, "they are spread over rows in the order of classes"
    if rows == 7:
        assert np.flatnonzero(chosen).tolist() == [2, 3, 4], "runs and detectors of earlier versions have split so"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"false_alarms": 0.0}, "false_alarms must be a finite number > 0, got 0.0"),
        ({"false_alarms": 1.0}, "false_alarms must be below 1, got 1.0"),
        ({"false_alarms": math.nan}, "false_alarms must be a finite number > 0, got nan"),
        ({"false_alarms": "5"}, "false_alarms must be a number > 0, got '5'"),
        ({"per_class": "yes"}, "per_class must be True or False"),
    ],
)
def test_mistakes_get_a_sentence(settings: dict[str, Any], words: str) -> None:
    with pytest.raises((ValueError, TypeError), match=words):
        calibration(50, **settings)
    with pytest.raises(ValueError, match="scores of calibration rows must be finite"):
        Calibration(np.array([np.nan] * 50), np.zeros(50, int), NAMES)
    with pytest.raises(ValueError, match="predictions must be ids of the 2 classes: give the names of all"):
        Calibration(np.zeros(50), np.arange(50) % 3, NAMES[:2])
    for fdr in (1.0, 1.5):
        with pytest.raises(ValueError, match=rf"fdr must be below 1, got {fdr}"):
            refused_by_fdr(np.ones(3), fdr)


@pytest.mark.parametrize("rate", [0.05, 0.049999999, 1 / 3, 0.07, 5e-324, 1e-12, 0.9999999999999999])
def test_the_rows_needed_are_the_least_with_a_rank(rate: float) -> None:
    needed = rows_needed(rate)
    assert refused_rank(rate, needed) >= 1 and (needed == 1 or refused_rank(rate, needed - 1) == 0)
    assert refused_rank(rate, 500) <= 500


def test_nearly_all_may_be_refused_and_no_more_rows_than_there_are() -> None:
    known = calibration(200, false_alarms=0.9999999999999999)
    assert known.thresholds.tolist() == [known.scores.min()]
    with pytest.raises(ValueError, match=r"needs 20 held-out known rows, got 19"):
        calibration(19, false_alarms=0.049999999)


def test_equal_p_values_at_the_line_are_refused() -> None:
    """Of m equal p-values of just q, all are refused, also where q·i/m is a little less in binary."""
    for rows in range(1, 200):
        for share in (0.05, 0.07, 0.1, 0.29, 0.3, 0.7):
            assert refused_by_fdr(np.full(rows, share), share).all(), (rows, share)
