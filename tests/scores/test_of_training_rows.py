"""Scores that compare with training rows, on rows that are few, wide, unequal, doubled, or all but the same.

References are scikit-learn's, and float64 code written from the definitions, on the same rows.
"""

import subprocess
import sys
import warnings
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist
from sklearn.covariance import EmpiricalCovariance, ShrunkCovariance
from torch import Tensor

from oodles.metrics import auroc
from oodles.scores import Mahalanobis, NearestNeighbours, RelativeMahalanobis, of_training_rows, scatter


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def rotation(size: int, seed: int = 9) -> Tensor:
    return torch.linalg.qr(normal(size, size, seed=seed)).Q


KINDS = ["few rows", "one class", "unequal scales", "far from the origin", "duplicates", "a cone", "several cones"]


def rows_of(kind: str) -> tuple[Tensor, Tensor, Tensor]:
    """Return training rows, their class ids, and rows to be scored, half of them unknown."""
    classes = 1 if kind == "one class" else 3
    count, size = (12, 40) if kind == "few rows" else (90, 6)
    labels = torch.arange(count) % classes
    centers = 4 * normal(classes, size, seed=1)
    rows = centers[labels] + normal(count, size, seed=2)
    queries = torch.cat([centers[torch.arange(10) % classes] + normal(10, size, seed=3), 9 * normal(10, size, seed=4)])
    if kind == "unequal scales":
        scales = torch.logspace(-9, 6, size, dtype=torch.float64)
        rows, queries = rows * scales, queries * scales
    if kind == "far from the origin":
        rows, queries = rows + 1e4, queries + 1e4
    if kind == "duplicates":
        rows = rows[torch.arange(count) % 30]
    if kind == "a cone":
        rows, queries = (1 + 1e-5 * x for x in (rows, queries))
    if kind == "several cones":
        axis = 50 * torch.eye(3, size, dtype=torch.float64)
        rows = axis[labels] + 1e-4 * normal(count, size, seed=2)
        known, unknown = axis[torch.arange(10) % 3] + 1e-4 * normal(10, size, seed=3), axis[:1] + 1e-3 * queries[10:]
        queries = torch.cat([known, unknown])
    return rows, labels, queries


def naive_neighbour(rows: Tensor, queries: Tensor, k: int, normalize: bool) -> np.ndarray:
    a, b = rows.double().numpy(), queries.double().numpy()
    if normalize:
        a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return np.sort(cdist(b, a), axis=1)[:, k - 1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 2, 10])
@pytest.mark.parametrize("kind", KINDS)
def test_neighbours_are_the_nearest(kind: str, k: int, normalize: bool, dtype: torch.dtype) -> None:
    rows, labels, queries = (x.to(dtype) if x.is_floating_point() else x for x in rows_of(kind))
    expected = naive_neighbour(rows, queries, k, normalize)
    scores = NearestNeighbours(k, normalize).fit(rows, rows, labels)(queries, queries)
    assert scores.dtype == dtype
    np.testing.assert_allclose(scores, expected, rtol=1e-5 if dtype == torch.float32 else 1e-6, atol=1e-14)


@pytest.mark.parametrize("kind", KINDS)
def test_all_neighbours_of_a_row_of_its_own_begin_with_itself(kind: str) -> None:
    rows, labels, _ = rows_of(kind)
    assert NearestNeighbours(1).fit(rows, rows, labels)(rows, rows).abs().max() == 0


@pytest.mark.parametrize("kept", [0, 3, 100])
@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("k", [1, 2, 10, 90])
@pytest.mark.parametrize("kind", KINDS)
def test_blocks_of_stored_rows_give_the_same_neighbours(
    kind: str, k: int, normalize: bool, kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, labels, queries = rows_of(kind)
    monkeypatch.setattr(of_training_rows, "AT_ONCE", 7 * rows.shape[1])
    monkeypatch.setattr(of_training_rows, "KEPT_BLOCKS", kept)
    score = NearestNeighbours(k, normalize).fit(rows, rows, labels)
    assert len(score._kept) == min(7 * kept, len(rows))
    expected = naive_neighbour(rows, queries, min(k, len(rows)), normalize)
    np.testing.assert_allclose(score(queries, queries), expected, rtol=1e-6, atol=1e-14)
    if k == 1:
        assert score(rows, rows).abs().max() == 0


MEMORY = """
import resource
import torch
from oodles.scores import NearestNeighbours

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

generator = torch.Generator().manual_seed(0)
rows = torch.empty(100_000, 256)
for block in rows.split(1000):
    block.normal_(generator=generator)
labels = torch.arange(100_000) % 10
before = peak()
score = NearestNeighbours(50).fit(rows, rows[:, :10], labels)
score(rows[:1000], rows[:1000, :10])
print(peak() - before)
"""


def test_stored_rows_stay_in_their_precision_but_for_some_blocks() -> None:
    """All of them in float64 would be 200 MB, and they would be copied thrice."""
    said = subprocess.run([sys.executable, "-c", MEMORY], capture_output=True, text=True, check=True)
    assert float(said.stdout) < 400, "MB"


@pytest.mark.parametrize(
    "sizes, k",
    [
        ([27] * 6, 2),
        ([20] * 3, 1),
        ([21] * 3, 2),
        ([500] * 4, 25),
        ([1200] * 3, 50),
        ([1000, 100, 10], 5),
        ([1000, 100, 3], 3),
        ([900, 800, 1], 1),
        ([400], 20),
        ([30, 50], 2),
        ([1], 1),
    ],
)
def test_k_is_chosen_by_the_sizes_of_the_classes(sizes: list[int], k: int) -> None:
    labels = torch.cat([torch.full((size,), 3 * index) for index, size in enumerate(sizes)])
    rows = normal(len(labels), 4)
    score = NearestNeighbours().fit(rows, rows, labels)
    assert (score.k, score.k_used, score.name, score.remark) == (None, k, "knn", f"k = {k}")
    logits = torch.nn.functional.one_hot(labels).double()
    for unlabelled in (None, logits.softmax(1), labels.view(-1, 1)):
        assert NearestNeighbours().fit(rows, logits, unlabelled).k_used == k
    given = NearestNeighbours(7).fit(rows, rows, labels)
    assert given.k_used == min(7, len(labels)) and given.remark == ""


def test_few_tight_classes_are_told_from_what_lies_between() -> None:
    """With k = 50 the neighbour is one of another class, and known rows are farther from it than unknown ones."""
    centers = rotation(5)
    rows = (centers.unsqueeze(1) + 0.01 * normal(5, 15, 5)).reshape(75, 5)
    known = (centers.unsqueeze(1) + 0.01 * normal(5, 8, 5, seed=1)).reshape(40, 5)
    unknown = centers.mean(0) + 0.01 * normal(40, 5, seed=2)
    labels = torch.arange(75) // 15
    chosen, fifty = (NearestNeighbours(k).fit(rows, rows, labels) for k in (None, 50))
    assert auroc(chosen(known, known), chosen(unknown, unknown)) == 1
    assert auroc(fifty(known, known), fifty(unknown, unknown)) == 0


def centred(rows: Tensor, labels: Tensor) -> tuple[np.ndarray, np.ndarray]:
    x, y = rows.double().numpy(), labels.numpy()
    means = np.stack([x[y == label].mean(0) for label in np.unique(y)])
    return x - means[np.unique(y, return_inverse=True)[1]], means


def by_precision(precision: np.ndarray, means: np.ndarray, queries: Tensor) -> np.ndarray:
    apart = queries.double().numpy()[:, None] - means[None]
    return np.einsum("qcf,fg,qcg->qc", apart, precision, apart).min(1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["few rows", "one class", "far from the origin", "duplicates"])
def test_mahalanobis_is_that_of_scikit_learn(kind: str, dtype: torch.dtype) -> None:
    rows, labels, queries = (x.to(dtype) if x.is_floating_point() else x for x in rows_of(kind))
    within, means = centred(rows, labels)
    expected = by_precision(EmpiricalCovariance(assume_centered=True).fit(within).precision_, means, queries)
    with quiet():
        scores = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["unequal scales", "a cone", "several cones"])
def test_mahalanobis_does_not_depend_on_the_scales(kind: str) -> None:
    """scikit-learn's pseudo-inverse is cut by the largest variance, so it sees standardised features."""
    rows, labels, queries = rows_of(kind)
    within, means = centred(rows, labels)
    unit, shift = within.std(0), means.mean(0)
    precision = EmpiricalCovariance(assume_centered=True).fit(within / unit).precision_
    expected = by_precision(precision, (means - shift) / unit, torch.from_numpy((queries.numpy() - shift) / unit))
    scores = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("small", [1 / 2900, 1e-4, 1e-5, 1e-6])
def test_a_direction_with_a_small_deviation_counts(small: float, turned: bool, dtype: torch.dtype) -> None:
    labels = torch.arange(400) % 4
    scales = torch.tensor([1.0, 1, 1, 1, small], dtype=torch.float64)
    turn = rotation(5) if turned else torch.eye(5, dtype=torch.float64)
    rows, known = (((normal(400, 5, seed=seed) + 0) * scales @ turn).to(dtype) for seed in (1, 2))
    apart = normal(400, 5, seed=3)
    apart[:, 4] = 12 * apart[:, 4].sign()
    unknown = (apart * scales @ turn).to(dtype)
    score = Mahalanobis().fit(rows, rows, labels)
    assert auroc(score(known, known), score(unknown, unknown)) > 0.999


@pytest.mark.parametrize("scale", [1e-30, 1e-12, 1e-7, 1e9])
def test_a_feature_of_any_scale_counts(scale: float) -> None:
    labels = torch.arange(400) % 4
    rows, known, unknown = (normal(400, 5, seed=seed) for seed in (1, 2, 3))
    unknown[:, 4] = 12 * unknown[:, 4].sign()
    scales = torch.tensor([1, 1, 1, 1, scale], dtype=torch.float64)
    rows, known, unknown = ((x * scales).float() for x in (rows, known, unknown))
    score = Mahalanobis().fit(rows, rows, labels)
    assert auroc(score(known, known), score(unknown, unknown)) == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rounding_is_no_direction(dtype: torch.dtype) -> None:
    """Sums of other features vary by rounding beside them: with it, the scores would be those of noise."""
    labels = torch.arange(300) % 3
    rows, queries = normal(300, 4, seed=1), normal(20, 4, seed=2)
    mixing = normal(4, 9, seed=3)
    wide, wide_queries = (x.to(dtype) @ mixing.to(dtype) + 100 for x in (rows, queries))
    with quiet():
        scores = Mahalanobis().fit(wide, rows, labels)(wide_queries, wide_queries)
    expected = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-3 if dtype == torch.float32 else 1e-8)


@pytest.mark.parametrize("kind", ["one class", "far from the origin", "duplicates", "several cones"])
@pytest.mark.parametrize("shrinkage", [0.0, 0.01, 0.3])
def test_relative_mahalanobis_is_that_of_scikit_learn(kind: str, shrinkage: float) -> None:
    rows, labels, queries = rows_of(kind)
    within, means = centred(rows, labels)
    all_rows, center = centred(rows, torch.zeros_like(labels))
    to_classes, to_all = (
        by_precision(ShrunkCovariance(assume_centered=True, shrinkage=shrinkage).fit(x).precision_, to, queries)
        for x, to in ((within, means), (all_rows, center))
    )
    with quiet():
        scores = RelativeMahalanobis(shrinkage).fit(rows, rows, labels)(queries, queries)
    exact = 1e-3 if kind == "several cones" else 1e-6  # there the reference's covariance of all rows is ill-conditioned
    np.testing.assert_allclose(scores, to_classes - to_all, rtol=exact, atol=exact * np.abs(to_all).max())


@pytest.mark.parametrize("shrinkage", [0.01, 0.3])
def test_relative_mahalanobis_of_few_rows_stays_in_their_span(shrinkage: float) -> None:
    rows, labels, queries = rows_of("few rows")
    within, means = centred(rows, labels)
    _, lengths, axes = np.linalg.svd(within, full_matrices=False)
    span = axes[lengths > 1e-9 * lengths[0]].T
    assert span.shape == (40, 9)
    all_rows, center = centred(rows, torch.zeros_like(labels))
    inside = torch.from_numpy(queries.numpy() @ span)
    to_classes, to_all = (
        by_precision(ShrunkCovariance(assume_centered=True, shrinkage=shrinkage).fit(x).precision_, to, inside)
        for x, to in ((within @ span, means @ span), (all_rows @ span, center @ span))
    )
    with pytest.warns(UserWarning, match="12 training rows vary in 9 directions only, and 40 features vary"):
        scores = RelativeMahalanobis(shrinkage).fit(rows, rows, labels)(queries, queries)
    np.testing.assert_allclose(scores, to_classes - to_all, rtol=1e-8)


@pytest.mark.parametrize("cls", [Mahalanobis, RelativeMahalanobis])
def test_normalized_features(cls: type[Mahalanobis] | type[RelativeMahalanobis]) -> None:
    rows, labels, queries = rows_of("far from the origin")
    lengths = torch.rand(90, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(5)) + 0.1
    score = cls(normalize=True).fit(rows * lengths, rows, labels)
    unit = [x / torch.linalg.vector_norm(x, dim=1, keepdim=True) for x in (rows, queries)]
    expected = cls().fit(unit[0], rows, labels)(unit[1], queries)
    np.testing.assert_allclose(score(queries * 3, queries), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("cls", [Mahalanobis, RelativeMahalanobis])
def test_one_row_of_each_class_is_refused(cls: type[Mahalanobis] | type[RelativeMahalanobis]) -> None:
    rows = normal(4, 6)
    for labels in (torch.arange(4), torch.tensor([7, 0, 3, 9])):
        with pytest.raises(ValueError, match="compares rows of one class, and there is one row of each class"):
            cls().fit(rows, rows, labels)
    with quiet():
        assert cls().fit(rows, rows, torch.tensor([0, 0, 1, 2]))(rows, rows).isfinite().all()


@pytest.mark.parametrize("cls", [Mahalanobis, RelativeMahalanobis])
def test_a_remark_where_rows_do_not_span_the_features(cls: type[Mahalanobis] | type[RelativeMahalanobis]) -> None:
    rows, labels = normal(30, 40), torch.arange(30) % 3
    with pytest.warns(UserWarning, match="30 training rows vary in 27 directions only, and 40 features vary") as said:
        score = cls().fit(rows, rows, labels)
    again = cls().load_state(score.state())
    assert again.remark == score.remark and score.remark.startswith("rows vary in 27 directions only, and 40")
    assert cls().remark == ""
    assert len(said) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dead = torch.cat([normal(200, 5), torch.full((200, 2), 0.7, dtype=torch.float64)], 1).float()
        assert cls().fit(dead, dead, torch.arange(200) % 3).remark == ""


def test_one_class_has_nothing_to_be_relative_to() -> None:
    rows = normal(30, 4)
    with pytest.warns(UserWarning, match="of one class both distances are the same"):
        score = RelativeMahalanobis().fit(rows, rows, torch.zeros(30, dtype=torch.int64))
    np.testing.assert_allclose(score(2 * rows, rows), 0, atol=1e-9)


@pytest.mark.parametrize("cls", [Mahalanobis, RelativeMahalanobis])
def test_rows_that_never_vary(cls: type[Mahalanobis] | type[RelativeMahalanobis]) -> None:
    rows, labels = torch.ones(8, 3), torch.arange(8) % 2
    assert cls().fit(rows, rows, labels)(5 * rows, rows).tolist() == [0] * 8


@pytest.mark.parametrize("cls", [Mahalanobis, RelativeMahalanobis])
def test_blocks_of_rows_give_the_same_fit(cls: type[Mahalanobis], monkeypatch: pytest.MonkeyPatch) -> None:
    rows, labels, queries = rows_of("far from the origin")
    whole = cls().fit(rows, rows, labels)(queries, queries)
    split, seen = torch.split, []

    def in_sevens(values: Tensor, size: int) -> tuple[Tensor, ...]:
        parts: tuple[Tensor, ...] = split(values, 7)
        seen.append(len(parts))
        return parts

    monkeypatch.setattr(torch, "split", in_sevens)
    np.testing.assert_allclose(cls().fit(rows, rows, labels)(queries, queries), whole, rtol=1e-6)
    assert set(seen) == {13}


def test_a_bar_is_drawn_on_a_terminal_where_it_takes_long(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 0.5, 1.5])
    drawn = []

    def track(blocks: list[tuple[Tensor, Tensor]], words: str, **_: object) -> Iterator[tuple[Tensor, Tensor]]:
        drawn.append((len(blocks), words))
        yield from blocks

    monkeypatch.setattr(scatter.time, "monotonic", lambda: next(times))
    monkeypatch.setattr("rich.progress.track", track)
    blocks = [(torch.ones(1), torch.full((1,), number)) for number in range(5)]
    assert [int(b) for _, b in scatter._shown(blocks, "knn")] == list(range(5)) and not drawn
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    times = iter([0.0, 0.5, 1.5])
    assert [int(b) for _, b in scatter._shown(blocks, "knn")] == list(range(5)) and drawn == [(3, "fitting knn")]


class quiet(warnings.catch_warnings):
    """Without the remark on few directions."""

    def __init__(self) -> None:
        super().__init__(action="ignore")
