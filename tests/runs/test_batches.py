"""The order of data: every row once per epoch, every outlier once per pass, any position by itself."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from oodles.data import Augment, ImageSet, Suite
from oodles.data.suite import Shares
from oodles.runs.batches import Batches
from oodles.runs.recipe import Recipe
from tests.runs.small import small_suite


def _numbered(rows: int) -> ImageSet:
    """Make images that show their row's number."""
    images = np.tile(np.arange(rows, dtype=np.float32)[:, None, None, None] / 1000, (1, 1, 8, 8))
    return ImageSet(images, np.zeros(rows, dtype=np.int64))


def _batches(process: int = 0, processes: int = 1, accumulate: int = 1, **settings: int) -> Batches:
    numbered = _numbered(23)
    suite = Suite("numbered", numbered, numbered, numbered, ("only",), outliers=_numbered(7), wild=_numbered(9))
    sizes = {"batch_size": 4, "outlier_batch_size": 6, "wild_batch_size": 8}
    recipe = Recipe(**{"epochs": 4, **sizes, **settings})  # type: ignore[arg-type]
    return Batches(
        suite, recipe, roles=("outliers", "wild"), accumulate=accumulate, process=process, processes=processes
    )


def _rows(images: torch.Tensor) -> list[int]:
    return [round(float(image[0, 0, 0]) * 1000) for image in images]


def _of(batches: Batches, position: int, role: str) -> list[int]:
    known, others = batches[position]
    return _rows((known if role == "id" else others[role])[0])


def test_an_epoch_has_every_row_once_but_for_those_that_fill_no_batch() -> None:
    batches = _batches()
    assert len(batches) == 4 * 5
    epochs = [[row for place in range(5) for row in _rows(batches[5 * epoch + place][0][0])] for epoch in range(4)]
    for epoch in epochs:
        assert len(set(epoch)) == 20
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert len({frozenset(epoch) for epoch in epochs}) > 1, "the rows left out must not be the same ones"


def test_outliers_go_on_over_epochs_and_every_pass_has_each_once() -> None:
    batches = _batches()
    stream = [row for position in range(20) for row in _rows(batches[position][1]["outliers"][0])]
    passes = [stream[start : start + 7] for start in range(0, 119, 7)]
    assert all(sorted(order) == list(range(7)) for order in passes)
    assert len({tuple(order) for order in passes}) > 10
    assert max(Counter(stream).values()) - min(Counter(stream).values()) <= 1


def test_wild_rows_go_on_over_epochs_in_an_order_of_their_own() -> None:
    batches = _batches()
    stream = [row for position in range(20) for row in _of(batches, position, "wild")]
    passes = [stream[start : start + 9] for start in range(0, 153, 9)]
    assert all(sorted(order) == list(range(9)) for order in passes) and len({tuple(order) for order in passes}) > 10
    assert set(batches[0][1]) == {"outliers", "wild"}
    suite = replace(batches.suite, wild=batches.suite.outliers)
    both = Batches(suite, batches.recipe, roles=("outliers", "wild"), accumulate=1, process=0, processes=1)
    assert _of(both, 0, "wild")[:6] != _of(both, 0, "outliers")
    resident = batches.resident(torch.device("cpu"))
    assert all(torch.equal(resident[7][1][role][0], batches[7][1][role][0]) for role in ("outliers", "wild"))


def _shared(shares: Shares, rows: int, size: int = 6, **settings: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Return the outliers of 400 batches."""
    known = _numbered(23)
    suite = Suite("numbered", known, known, known, ("only",), outliers=_numbered(rows), outlier_shares=shares)
    recipe = Recipe(epochs=80, batch_size=4, outlier_batch_size=size, **settings)  # type: ignore[arg-type]
    batches = Batches(suite, recipe, roles=("outliers",), accumulate=1, process=0, processes=1)
    return [batches[position][1]["outliers"] for position in range(400)]


def test_fewer_outliers_are_a_choice_of_the_seed() -> None:
    chosen = {}
    for seed in (0, 1):
        batches = _batches(max_outliers=3, seed=seed)
        stream = [row for position in range(20) for row in _of(batches, position, "outliers")]
        chosen[seed] = set(stream)
        assert all(len(set(stream[start : start + 3])) == 3 for start in range(0, 120, 3)), "each once a pass"
        assert _rows(batches[7][0][0]) == _rows(_batches(seed=seed)[7][0][0]), "the known rows are as they were"
    assert len(chosen[0]) == len(chosen[1]) == 3 and chosen[0] != chosen[1]
    for many in (7, 1000):
        assert _of(_batches(max_outliers=many), 3, "outliers") == _of(_batches(), 3, "outliers")


def test_fewer_outliers_keep_the_proportions_of_their_sources() -> None:
    drawn = _shared(((20, 0.75), (20, 0.25)), 40, max_outliers=10)
    rows = Counter(row for images, _ in drawn for row in _rows(images))
    assert len(rows) == 10
    first = sum(count for row, count in rows.items() if row < 20)
    assert first / sum(rows.values()) == pytest.approx(0.75, abs=0.01)
    alone = _shared(((39, 0.5), (1, 0.5)), 40, max_outliers=4)  # the second source has no row left, or its only one
    assert len(alone) == 400


def test_sources_of_outliers_get_their_shares_and_their_rows_come_equally_often() -> None:
    stream = [row for images, _ in _shared(((30, 0.4), (2, 0.5), (5, 0.1)), 37) for row in _rows(images)]
    counts = np.bincount(stream, minlength=37)
    parts = [counts[:30], counts[30:32], counts[32:]]
    np.testing.assert_allclose([part.sum() / 2400 for part in parts], [0.4, 0.5, 0.1], atol=0.01)
    assert all(np.ptp(part) <= 2 for part in parts[::2]) and np.ptp(parts[1]) <= 10
    in_batches = np.array([sum(row in (30, 31) for row in stream[at : at + 6]) for at in range(0, 2400, 6)])
    assert abs(in_batches.mean() - 3) < 0.05 and in_batches.std() > 0.8, "a half of every batch, in expectation"
    first = _shared(((30, 0.4), (2, 0.5), (5, 0.1)), 37, seed=1)[0]
    assert _rows(first[0]) != stream[:6]


def test_the_least_share_is_kept() -> None:
    stream = [row for images, _ in _shared(((1, 0.999), (2, 0.001)), 3) for row in _rows(images)]
    assert 1 <= sum(row > 0 for row in stream) <= 3


def test_outliers_that_come_again_are_augmented_anew() -> None:
    augment = Augment(shift=3)
    images = np.random.default_rng(0).random((3, 1, 8, 8), dtype=np.float32)
    outliers = ImageSet(images, np.full(3, -1), augment)
    known = _numbered(23)
    suite = Suite("few", known, known, known, ("only",), outliers=outliers, outlier_shares=((2, 0.1), (1, 0.9)))
    recipe = Recipe(epochs=1, batch_size=4, outlier_batch_size=20)
    batches = Batches(suite, recipe, roles=("outliers",), accumulate=1, process=0, processes=1)
    rows = batches[0][1]["outliers"][0].flatten(1)
    assert len(rows.unique(dim=0)) > 10


def test_one_share_for_all_is_none() -> None:
    alone, without = (_shared(shares, 7) for shares in (((7, 1.0),), ()))
    assert all(torch.equal(one, other) for (one, _), (other, _) in zip(alone, without, strict=True))
    assert _rows(without[0][0]) == [2, 6, 4, 3, 5, 1], "those of earlier versions"


@pytest.mark.parametrize("shares", [((7, 0.9),), ((6, 1.0),), ((7, 0.5), (0, 0.5)), ((3, 1.0), (4, 0.0))])
def test_shares_that_do_not_add_up_are_refused(shares: Shares) -> None:
    with pytest.raises(ValueError, match=r"outlier_shares must be \(rows, share\) pairs of all 7 outliers, .*, got"):
        _shared(shares, 7)


def test_processes_share_every_batch() -> None:
    whole, halves = _batches(), [_batches(process, 2) for process in (0, 1)]
    for position in (0, 7, 19):
        for role in ("id", "outliers", "wild"):
            shares, together = [_of(half, position, role) for half in halves], _of(whole, position, role)
            assert not set(shares[0]) & set(shares[1]) or role != "id"
            assert sorted(shares[0] + shares[1]) == sorted(together)


def test_two_processes_see_each_image_once_an_epoch() -> None:
    halves = [_batches(process, 2) for process in (0, 1)]
    for epoch in range(4):
        rows = [row for half in halves for place in range(5) for row in _rows(half[5 * epoch + place][0][0])]
        assert len(rows) == len(set(rows)) == 20


def test_an_epoch_ends_with_a_whole_step_of_the_optimizer() -> None:
    assert _batches(accumulate=2).per_epoch == 4
    assert _batches(accumulate=5).per_epoch == 5


def test_a_position_is_the_same_alone_and_in_order_and_differs_by_seed() -> None:
    def batches(seed: int) -> Batches:
        recipe = Recipe(seed=seed, batch_size=10)
        return Batches(small_suite(), recipe, roles=("outliers",), accumulate=1, process=0, processes=1)

    in_order = [batches(0)[position] for position in range(15)]
    alone = batches(0)[14]
    for one, other in ((in_order[14][0], alone[0]), (in_order[14][1]["outliers"], alone[1]["outliers"])):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert not torch.equal(batches(1)[14][0][0], alone[0][0])


def test_outliers_are_left_out_where_nobody_wants_them() -> None:
    batches = Batches(small_suite(), Recipe(batch_size=10), roles=(), accumulate=1, process=0, processes=1)
    assert batches[0][1] == {}


def test_too_few_rows_and_uneven_shares_get_a_sentence() -> None:
    with pytest.raises(ValueError, match="A step takes 24 training rows, and there are 23: lower the batch size"):
        _batches(batch_size=24)
    with pytest.raises(ValueError, match="outlier_batch_size must be a multiple of the 4 processes, got 6"):
        _batches(processes=4)
