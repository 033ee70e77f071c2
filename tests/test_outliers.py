"""Pairs of loaders and of rows: an epoch is the in-distribution loader, and the outliers never run out."""

import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from oodles import Classifier, OutlierExposure, TrainingStep, pair
from oodles.outliers.pairs import in_pairs

from .contract.steps import is_one_sentence, total


@given(known=st.integers(0, 7), unknown=st.integers(1, 5), epochs=st.integers(1, 4))
def test_every_epoch_is_the_in_distribution_loader(known: int, unknown: int, epochs: int) -> None:
    pairs = pair(list(range(known)), list("abcde"[:unknown]))
    assert len(pairs) == known
    outliers = itertools.cycle("abcde"[:unknown])
    for _ in range(epochs):
        assert list(pairs) == [(index, next(outliers)) for index in range(known)]


def test_longer_and_shorter_outlier_loaders() -> None:
    assert list(pair([1, 2, 3], ["a", "b"])) == [(1, "a"), (2, "b"), (3, "a")]
    pairs = pair([1, 2], ["a", "b", "c"])
    assert [list(pairs), list(pairs)] == [[(1, "a"), (2, "b")], [(1, "c"), (2, "a")]]


class Shuffled:
    """A loader that gives another order each time."""

    def __init__(self, size: int):
        self.size, self.started = size, 0

    def __iter__(self) -> Iterator[int]:
        self.started += 1
        order = torch.randperm(self.size, generator=torch.Generator().manual_seed(self.started))
        return iter(order.tolist())


def test_a_shuffling_outlier_loader_reshuffles_when_it_starts_again() -> None:
    loader = Shuffled(20)
    drawn = [outlier for _, outlier in pair(range(60), loader)]
    passes = [drawn[start : start + 20] for start in range(0, 60, 20)]
    assert loader.started == 3
    assert all(sorted(order) == list(range(20)) for order in passes)
    assert passes[0] != passes[1] != passes[2]


def test_the_in_distribution_loader_starts_again_every_epoch() -> None:
    loader = Shuffled(10)
    pairs = pair(loader, ["o"])
    first, second = ([known for known, _ in pairs] for _ in range(2))
    assert loader.started == 2 and first != second and sorted(first) == sorted(second)


def test_an_epoch_that_is_broken_off_loses_no_outliers() -> None:
    pairs = pair([1, 2, 3], list("abcdef"))
    for _, outlier in pairs:
        assert outlier == "a"
        break
    assert [outlier for _, outlier in pairs] == ["b", "c", "d"]


def test_outliers_are_asked_for_only_when_they_are_needed() -> None:
    class Counted:
        given = 0

        def __iter__(self) -> Iterator[int]:
            for index in range(100):
                Counted.given += 1
                yield index

    list(pair(range(5), Counted()))
    assert Counted.given == 5


def test_falsy_and_empty_batches_are_batches() -> None:
    assert list(pair([0, None], [None, 0])) == [(0, None), (None, 0)]


def test_an_empty_outlier_loader_is_refused() -> None:
    with pytest.raises(ValueError, match="outlier_loader must give at least one batch, got none") as refusal:
        list(pair([1], []))
    assert is_one_sentence(str(refusal.value))
    assert list(pair([], [])) == [], "nothing was asked of it"


def test_an_outlier_loader_that_can_be_read_once_is_told_from_an_empty_one() -> None:
    seen: list[tuple[int, str]] = []
    with pytest.raises(
        ValueError, match="can be read again, got generator, which ended after 2 batches: give"
    ) as refusal:
        seen.extend(pair([1, 2, 3], (letter for letter in "ab")))
    assert is_one_sentence(str(refusal.value))
    pairs = pair([1, 2], (letter for letter in "abc"))
    assert list(pairs) == [(1, "a"), (2, "b")]
    with pytest.raises(ValueError, match="ended after 3 batches"):
        list(pairs)
    assert len(list(pair(range(9), itertools.cycle("ab")))) == 9


def test_wild_rows_come_with_outliers_by_role() -> None:
    pairs = pair([1, 2, 3], ["a", "b"], wild=["x"])
    assert list(pairs)[1:] == [(2, {"outliers": "b", "wild": "x"}), (3, {"outliers": "a", "wild": "x"})]
    assert next(iter(pairs)) == (1, {"outliers": "b", "wild": "x"}), "each goes on where it stopped"
    assert list(pair([1, 2], wild=["x", "y"])) == [(1, {"wild": "x"}), (2, {"wild": "y"})]
    assert len(pair([1, 2, 3], wild=["x"])) == 3
    step = TrainingStep(Classifier(nn.Identity(), nn.Linear(4, 3)), OutlierExposure())
    rows = (torch.rand(2, 4), torch.tensor([0, 1]))
    for batch, others in pair([rows], [torch.rand(3, 4)], wild=[torch.rand(3, 4)]):
        assert set(step(batch, **others)) == {"cross_entropy", "outlier_exposure"}


@pytest.mark.parametrize(
    "given, wild, sentence",
    [
        (None, None, "pair needs a second loader, got one: give outlier_loader or wild=…."),
        (None, 3, "wild must give batches, got int."),
        (3, ["x"], "outlier_loader must give batches, got int."),
    ],
)
def test_pairs_of_nothing_are_refused(given: Any, wild: Any, sentence: str) -> None:
    with pytest.raises(TypeError) as refusal:
        pair([1], given, wild=wild)
    assert str(refusal.value) == sentence


def test_an_empty_loader_of_wild_rows_is_refused() -> None:
    with pytest.raises(ValueError, match="wild must give at least one batch, got none: is its data set empty"):
        list(pair([1], ["a"], wild=[]))


def test_the_length_is_that_of_the_in_distribution_loader() -> None:
    assert len(pair([1, 2, 3], ["a"])) == 3
    with pytest.raises(TypeError, match="has no len"):
        len(pair((index for index in range(3)), ["a"]))  # type: ignore[arg-type]


def test_data_loaders_train_together() -> None:
    generator = torch.Generator().manual_seed(0)
    known = TensorDataset(torch.rand(10, 4), torch.arange(10) % 3)
    unknown = TensorDataset(torch.rand(7, 4), torch.zeros(7))
    loader = DataLoader(known, batch_size=4, shuffle=True, generator=generator)
    outlier_loader = DataLoader(unknown, batch_size=3, shuffle=True, generator=generator)
    step = TrainingStep(Classifier(nn.Identity(), nn.Linear(4, 3)), OutlierExposure())
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    sizes: list[tuple[int, int]] = []
    drawn: list[Tensor] = []
    for _ in range(2):
        for batch, outliers in pair(loader, outlier_loader):
            terms = step(batch, outliers)
            assert set(terms) == {"cross_entropy", "outlier_exposure"}
            optimizer.zero_grad()
            total(terms).backward()
            optimizer.step()
            sizes.append((len(batch[0]), len(outliers[0])))
            drawn.append(batch[0])
    assert [size for size, _ in sizes] == [4, 4, 2] * 2, "never truncated"
    assert len(torch.cat(drawn).unique(dim=0)) == 10


@given(rows=st.integers(0, 9), others=st.integers(0, 9))
def test_rows_in_pairs_use_every_row_and_every_outlier(rows: int, others: int) -> None:
    first, second = (places.tolist() for places in in_pairs(rows, others, torch.device("cpu")))
    if not rows or not others:
        assert first == second == []
        return
    assert first == [index % rows for index in range(max(rows, others))]
    assert second == [index % others for index in range(max(rows, others))]


def test_the_fewer_go_again_and_again_in_order() -> None:
    cpu = torch.device("cpu")
    assert [places.tolist() for places in in_pairs(5, 2, cpu)] == [[0, 1, 2, 3, 4], [0, 1, 0, 1, 0]]
    assert [places.tolist() for places in in_pairs(1, 3, cpu)] == [[0, 0, 0], [0, 1, 2]]
    assert all(places.dtype == torch.int64 for places in in_pairs(2, 2, cpu))
