"""The watch: no alarm without a cause, an alarm where there is one, and the evidence against plain numbers."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.special import ndtri

from oodles.detection.calibration import Calibration, refused_rank
from oodles.detection.verdicts import Verdicts
from oodles.detection.watching import SHRINK, Evidence, Watch

RATE = 0.05


def verdicts(scores: Any, calibration: Calibration, ids: Any = None) -> Verdicts:
    """Say of scores what a detector says."""
    scores = np.asarray(scores, float)
    ids = np.zeros(len(scores), int) if ids is None else ids
    thresholds = calibration.threshold_of(ids)
    names = tuple(map(str, range(len(scores))))
    return Verdicts(names, names, ids, scores, scores, thresholds, scores <= thresholds, "msp", "")


def watch_of(calibration: Calibration, **settings: Any) -> Watch:
    sizes = [len(known) for _, known in calibration.groups(np.zeros(0, int))]
    evidence = [Evidence(refused_rank(calibration.false_alarms, rows), rows) for rows in sizes]
    return Watch(lambda inputs: verdicts(inputs, calibration), evidence, calibration.false_alarms, **settings)


def known(rows: int, random: np.random.Generator, ties: bool = False) -> Calibration:
    scores = random.normal(size=rows)
    return Calibration(scores.round(1) if ties else scores, np.zeros(rows, int), ("a",), RATE)


@pytest.mark.parametrize(("rows", "ties"), [(200, False), (60, False), (200, True)])
def test_known_streams_give_no_alarm(rows: int, ties: bool) -> None:
    """A thousand streams of known rows, with calibration rows drawn anew for each: at most 1 % alarm."""
    alarms = 0
    for stream in range(1000):
        random = np.random.default_rng((rows, ties, stream))
        calibration = known(rows, random, ties)
        watch = watch_of(calibration, window=100)
        scores = random.normal(size=1000)
        alarms += watch.count(verdicts(scores.round(1) if ties else scores, calibration))
    assert alarms <= 10


def test_a_change_is_noticed_at_once_or_after_a_while() -> None:
    """Three times as many refusals, from the beginning or after 40 windows that were as promised."""
    for begin in (0, 4000):
        noticed = []
        for stream in range(20):
            random = np.random.default_rng(stream)
            calibration = known(1000, random)
            watch = watch_of(calibration, window=100)
            watch.count(verdicts(random.normal(size=begin), calibration))
            early = watch.alarm
            limit = np.quantile(random.normal(size=100_000), 0.85) - np.quantile(random.normal(size=100_000), 0.95)
            rows = 0
            while not watch.alarm and rows < 3000:
                watch.count(verdicts(random.normal(size=50) - limit, calibration))
                rows += 50
            noticed.append(rows if not early else 0)
        assert np.median(noticed) <= (400 if begin == 0 else 700), (begin, noticed)


def test_evidence_is_the_mean_of_likelihood_ratios() -> None:
    """Row by row, by products of predictive probabilities instead of functions of counts."""
    random = np.random.default_rng(0)
    evidence, rank, rows = Evidence(5, 99), 5.0, 99.0
    counts = [rank, rows + 1 - rank]
    starts: list[list[Any]] = []
    highest = 0.0
    for window in range(1, 6):
        starts.append([1 / (window * (window + 1)), [(counts[0], counts[1] * s, 1.0) for s in SHRINK], *counts, 1.0])
        if window > 1:
            evidence.begin()
        refused = random.random(30) < 0.12
        highest = evidence.add(refused)
        best = -math.inf
        for row, one in enumerate(refused):
            for start in starts:
                _, alternatives, a, b, promised = start
                start[1] = [
                    (x + one, y + (not one), ratio * (x if one else y) / (x + y)) for x, y, ratio in alternatives
                ]
                start[4] = promised * (a if one else b) / (a + b)
                start[2:4] = [a + one, b + (not one)]
            counts = [counts[0] + one, counts[1] + (not one)]
            ratios = [weight * np.mean([r for _, _, r in alts]) / p for weight, alts, _, _, p in starts]
            if one or row == len(refused) - 1:
                best = max(best, math.log(sum(ratios) + 1 / (window + 1)))
        assert evidence.log == pytest.approx(math.log(sum(ratios) + 1 / (window + 1)), rel=1e-9)
        assert highest == pytest.approx(best, rel=1e-9)


def test_windows_are_lines_of_json_however_the_rows_come(tmp_path: Path) -> None:
    random = np.random.default_rng(3)
    calibration = known(500, random)
    scores = np.concatenate([random.normal(size=250), np.full(60, 9.0)])
    pieces = watch_of(calibration, window=100, to=tmp_path / "logs" / "watch.jsonl")
    for begin in range(0, 310, 7):
        pieces(scores[begin : begin + 7])
    whole = watch_of(calibration, window=100)
    assert whole.count(verdicts(scores, calibration)) and pieces.alarm
    assert [vars(one) for one in pieces.windows] == [vars(one) for one in whole.windows]
    lines = [json.loads(line) for line in (tmp_path / "logs" / "watch.jsonl").read_text().splitlines()]
    assert [line["window"] for line in lines] == [1, 2, 3] and lines[0]["promised"] == RATE
    refused = scores > calibration.thresholds[0]
    assert [line["refused"] for line in lines] == refused[:300].reshape(3, 100).sum(1).tolist()
    assert [line["rate"] for line in lines] == [line["refused"] / 100 for line in lines]
    assert [line["alarm"] for line in lines] == [False, False, True]
    assert (pieces.rows, pieces.refused) == (310, refused.sum())


def test_classes_with_promises_of_their_own_are_watched_by_themselves() -> None:
    """One class of ten is refused five times as often: the rate over all hardly tells, that of the class does."""
    random = np.random.default_rng(0)
    ids = np.arange(2000) % 10
    calibration = Calibration(random.normal(size=2000), ids, tuple("abcdefghij"), RATE, True)
    watch = watch_of(calibration, window=200)
    new = random.integers(0, 10, 4000)
    assert not watch.count(verdicts(random.normal(size=4000), calibration, new))
    scores = random.normal(size=4000) + np.where(new == 3, 0.9, 0)
    assert watch.count(verdicts(scores, calibration, new))


def test_mistakes_get_a_sentence(tmp_path: Path) -> None:
    calibration = known(50, np.random.default_rng(0))
    for settings, words in (
        ({"window": 0}, "window must be a whole number of at least 1, got 0"),
        ({"level": 1.0}, r"level must be below 1, got 1\.0"),
        ({"level": 0}, "level must be a finite number > 0, got 0"),
    ):
        with pytest.raises(ValueError, match=words):
            watch_of(calibration, **settings)
    with pytest.raises(ValueError, match="must be a file to write, and it is a folder"):
        watch_of(calibration, to=tmp_path)
    watch = watch_of(calibration)
    assert not watch.count(verdicts([], calibration)) and watch.rows == 0


@pytest.mark.parametrize(("times", "windows"), [(2, 8), (3, 3), (5, 1)])
def test_more_refusals_are_noticed_the_sooner_the_more_they_are(times: int, windows: int) -> None:
    """The median of windows of 100 rows until the alarm, after a calibration of 1,000 rows."""
    shift = ndtri(1 - RATE) - ndtri(1 - times * RATE)
    took = []
    for stream in range(15):
        random = np.random.default_rng((times, stream))
        calibration = known(1000, random)
        watch = watch_of(calibration, window=100)
        while not watch.alarm and len(watch.windows) < 50:
            watch.count(verdicts(random.normal(size=100) + shift, calibration))
        took.append(len(watch.windows))
    assert np.median(took) <= windows, took


def test_an_alarm_stays_and_comes_at_the_level() -> None:
    calibration = known(1000, np.random.default_rng(0))
    watch = watch_of(calibration, window=100, level=0.01)
    rows = 0
    while not watch.alarm:
        before = watch.evidence
        watch.count(verdicts([9.0], calibration))
        rows += 1
    assert before < 100 <= watch.evidence and rows < 20
    watch.count(verdicts(np.full(3000, -9.0), calibration))
    assert watch.alarm and watch.evidence < 100 and len(watch.windows) == 30
    watch.count(verdicts(np.full(30_000, 9.0), calibration))
    assert math.isfinite(watch.evidence), "evidence beyond what a number can hold"


def test_a_row_at_the_threshold_is_no_refusal() -> None:
    calibration = known(200, np.random.default_rng(0))
    watch = watch_of(calibration)
    watch.count(verdicts([calibration.thresholds[0], np.nextafter(calibration.thresholds[0], 9)], calibration))
    assert watch.refused == 1
