"""Which outlier score is chosen on unknowns made of validation rows; see also tests/runs/test_choice.py."""

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles.contract import Part
from oodles.detection.calibration import choosing_rows
from oodles.detection.choosing import (
    Choice,
    Sample,
    above,
    choose,
    choose_on_half,
    made_unknowns,
    most_rows,
    weights_of,
)
from oodles.metrics import auroc


def known_images(count: int = 40, size: int = 8) -> Part:
    """Images of two classes: the first class has an even value everywhere, the second one an odd value."""
    labels = torch.arange(count) % 2
    values = (2 * torch.arange(count) + labels).float()
    return Part(values[:, None, None, None].expand(-1, 3, size, size).contiguous(), labels)


def test_unknowns_are_made_of_the_rows_and_always_the_same() -> None:
    known = Part(torch.rand(40, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(40) % 4)
    made = dict(made_unknowns(known))
    assert list(made) == ["blends", "jigsaw", "shuffled"] and all(rows.shape == (40, 3, 8, 8) for rows in made.values())
    for name, again in made_unknowns(known):
        assert torch.equal(made[name], again)
    rows = known.rows
    pixels, pieces = rows.flatten(2), rows.unfold(2, 4, 4).unfold(3, 4, 4)  # (40, 3, 2, 2, 4, 4)
    for image in made["shuffled"]:
        same = [torch.equal(image.flatten(1).sort().values, row.sort().values) for row in pixels]
        assert sum(same) == 1, "the values of each channel are those of one image"
        source = pixels[same.index(True)]
        order = [int((image.flatten(1)[0] == value).nonzero()) for value in source[0]]
        assert torch.equal(image.flatten(1)[:, order], source), "a pixel keeps its channels"
        assert order != list(range(64))
    for image in made["jigsaw"]:
        cut = image.unfold(1, 4, 4).unfold(2, 4, 4).transpose(0, 1).flatten(1, 2)
        assert not any(torch.equal(image, row) for row in rows)
        sources = [
            {place for place in range(40) if any(torch.equal(tile, other) for other in tiles_of(pieces[place]))}
            for tile in tiles_of(image.unfold(1, 4, 4).unfold(2, 4, 4))
        ]
        assert all(one == sources[0] and len(one) == 1 for one in sources), cut.shape


def tiles_of(pieces: Tensor) -> list[Tensor]:
    """Return the tiles (C, h, w) of an image that is cut into (C, rows, columns, h, w)."""
    return [pieces[:, row, column] for row in range(pieces.shape[1]) for column in range(pieces.shape[2])]


def test_blends_are_of_two_classes() -> None:
    known = known_images()
    blends = dict(made_unknowns(known))["blends"]
    sums = 2 * blends[:, 0, 0, 0]
    assert (sums % 2 == 1).all(), "an even value and an odd one"
    assert len(sums.unique()) > 10


def test_of_other_rows_than_images_none_are_made() -> None:
    lines = Part(torch.ones(3, 2, 1, 40))  # which cannot be cut into pieces
    whole = Part(torch.ones(3, 1, 4, 4).long())
    for other in (Part({"tokens": torch.ones(3, 4)}), Part(torch.ones(3, 4)), whole, lines):
        assert not list(made_unknowns(other))


@pytest.mark.parametrize("ties", [False, True])
def test_the_mean_share_above_is_the_auroc(ties: bool) -> None:
    random = np.random.default_rng(0)
    known, unknown = random.normal(size=50), random.normal(0.5, size=70)
    if ties:
        known, unknown = known.round(), unknown.round()
    share = above(known, unknown)
    pairs = unknown[None] - known[:, None]
    np.testing.assert_allclose(share, (pairs > 0).mean(1) + (pairs == 0).mean(1) / 2, rtol=1e-12)
    assert share.mean() == pytest.approx(auroc(known, unknown), abs=1e-12)


def shifted(by: float, rows: int = 400, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(by, size=rows)


def test_the_own_score_stays_unless_another_is_two_points_better() -> None:
    known = {"own": shifted(0), "other": shifted(0)}
    for ahead, chosen in ((0.015, "own"), (0.025, "other")):
        better = shifted(1, seed=1)
        own = auroc(known["own"], better)
        low, high = 1.0, 1.5  # a shift that is so many points better
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if auroc(known["other"], better + middle - 1) < own + ahead else (low, middle)
        found = choose(known, {"made": {"own": better, "other": better + high - 1}}, "own")
        assert found.chosen == chosen
        assert found.together["other"] - found.together["own"] == pytest.approx(ahead, abs=1e-3)
        assert found.interval is not None and found.interval[0] < ahead < found.interval[1]


def test_outliers_count_as_much_as_all_that_was_made() -> None:
    assert weights_of(["a", "b", "c"]) == {kind: pytest.approx(1 / 3) for kind in "abc"}
    assert weights_of(["a", "b", "outliers"]) == {"a": 0.25, "b": 0.25, "outliers": 0.5}
    assert weights_of(["outliers"]) == {"outliers": 1.0}
    aurocs = {"own": {"a": 0.8, "b": 0.6, "outliers": 0.5}, "other": {"a": 0.5, "b": 0.5, "outliers": 0.9}}
    assert Choice("own", "other", 9, aurocs).together == {"other": pytest.approx(0.7), "own": pytest.approx(0.6)}


def test_scores_that_are_not_finite_or_that_a_kind_lacks_are_not_compared() -> None:
    known = {name: shifted(0) for name in ("own", "broken", "lacking", "above")}
    known["broken"] = np.append(known["broken"][:-1], np.nan)
    made = {name: shifted(1, seed=1) for name in known}
    outliers = {"own": shifted(1), "broken": shifted(9), "above": np.append(shifted(9), np.inf)}
    found = choose(known, {"made": made, "outliers": outliers}, "own")
    assert list(found.aurocs) == ["own"] and found.chosen == "own" and found.interval is None
    assert choose(known, {}, "own").reason == "own stays: nothing could be compared"
    assert choose({"own": known["broken"]}, {"made": made}, "own").remarks == ("No score is finite on all rows.",)


def test_a_score_that_could_set_no_threshold_is_not_chosen() -> None:
    may = choosing_rows(200)
    known = {"own": shifted(0), "best": shifted(0)}
    known["best"][np.flatnonzero(~may)[0]] = np.inf
    found = choose_on_half(known, "own", lambda _: {"made": {"own": shifted(0, seed=1), "best": shifted(9)}})
    assert found.chosen == "own" and list(found.aurocs) == ["own"]


def test_it_is_said_in_words() -> None:
    aurocs = {
        "msp": {"blends": 0.806, "jigsaw": 0.567, "outliers": 0.654},
        "mahalanobis": {"blends": 0.734, "jigsaw": 0.983, "outliers": 0.99},
        "knn": {"blends": 0.846, "jigsaw": 0.95, "outliers": 0.943},
        "feature-norm": {"blends": 0.95, "jigsaw": 0.1, "outliers": 0.1},
    }
    found = Choice("msp", "mahalanobis", 300, aurocs, (0.2, 0.26), ("A remark.",))
    assert str(found).splitlines() == [
        "score           blends    jigsaw  outliers  together",
        "mahalanobis       73.4      98.3      99.0      92.4  chosen",
        "knn               84.6      95.0      94.3      92.0",
        "msp (own)         80.6      56.7      65.4      67.0",
        "feature-norm      95.0      10.0      10.0      31.2",
        "Score: mahalanobis, 25 points above msp on unknowns made of validation rows and on outliers.",
        "Over resamples of 300 validation rows, mahalanobis over msp is +20.0 to +26.0 points (95 %).",
        "Equal, within 1 point: knn.",
        "They disagree on blends (knn 84.6, mahalanobis 73.4): the more your unknowns look like these, the more so.",
        "A remark.",
        "Not tested: new classes of the same kind; this order may not hold for them.",
    ]
    assert Choice.from_dict(found.as_dict()) == found
    kept = Choice("msp", "msp", 300, {"msp": {"blends": 0.8}, "entropy": {"blends": 0.809}}, (-0.01, 0.02))
    assert (
        kept.reason
        == "msp stays: no score is 2 points better and nowhere as much worse on unknowns made of validation rows"
    )
    assert "Over resamples of 300 validation rows, the best other over msp is −1.0 to +2.0 points (95 %)." in str(kept)
    assert "Equal, within 1 point: entropy." in str(kept)


def test_rows_are_kept_evenly_of_a_loader_in_one_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodles.detection.choosing.MADE", 50)
    rows = torch.arange(2000.0)[:, None, None, None].expand(-1, 1, 2, 2)
    sample = Sample(iter(list(rows.split(64))))
    assert torch.equal(torch.cat(list(sample)), rows), "all are passed on"
    kept = np.array(sorted(sample.kept))
    assert len(kept) == 100 and all(row.tolist() == [2 * [2 * [number]]] for number, row in sample.kept.items())
    assert 700 < kept.mean() < 1300 and kept.max() > 1500, "not the first ones alone"
    part = sample.part(np.arange(2000) % 2 == 0, np.arange(2000) % 3)
    assert part is not None and part.rows[:, 0, 0, 0].tolist() == [number for number in kept if number % 2 == 0]
    assert part.labels.tolist() == [number % 3 for number in kept if number % 2 == 0]
    assert most_rows((3, 8, 8)) == 50 and most_rows((3, 2000, 2000)) == 5 and most_rows((3, 9000, 9000)) == 1


def test_a_score_that_is_worse_on_a_kind_does_not_take_the_place() -> None:
    """One other score tells the first kind at once and is worse on the second, one is a little better on both."""
    known = {name: shifted(0) for name in ("own", "narrow", "even")}
    easy = {"own": shifted(0, seed=1), "narrow": shifted(9, seed=1), "even": shifted(0.3, seed=1)}
    hard = {"own": shifted(1, seed=2), "narrow": shifted(0.5, seed=2), "even": shifted(1.1, seed=2)}
    found = choose(known, {"easy": easy, "hard": hard}, "own")
    assert next(iter(found.together)) == "narrow" and found.chosen == "even"
    assert "They disagree on easy (narrow 100.0" in str(found)
    without = choose(known, {"easy": {**easy, "even": easy["own"]}, "hard": {**hard, "even": hard["own"]}}, "own")
    assert without.chosen == "own" and without.interval == (0.0, 0.0)
