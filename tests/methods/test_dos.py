"""DOS: clusters against k-means written out, the hardest of each, rows that do not count, empty clusters."""

from dataclasses import replace

import pytest
import torch
from sklearn.cluster import KMeans
from torch import Tensor

from oodles import DOS, BackgroundClass, Batch, EnergyBounded, OutlierExposure, Part, TrainingStep
from oodles.methods.dos import ROUNDS, cluster, first_centers, hardest_of_each
from oodles.precision import unit_length
from oodles.scores import energy

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import dos as reference


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(rows: int, seed: int = 0, groups: int = 5) -> Tensor:
    """Unit vectors in groups."""
    random = generator(seed)
    middles = torch.randn(groups, 6, dtype=torch.float64, generator=random)
    noise = 0.4 * torch.randn(rows, 6, dtype=torch.float64, generator=random)
    return unit_length(middles[torch.arange(rows) % groups] + noise)


def numbers(count: int, seed: int = 3) -> Tensor:
    return torch.rand(count, dtype=torch.float64, generator=generator(seed))


def inertia(x: Tensor, labels: Tensor) -> float:
    """The squared distances from the means of clusters, summed."""
    groups = [x[labels == label] for label in labels.unique()]
    return float(sum((group - group.mean(0)).square().sum() for group in groups))


@pytest.mark.parametrize("seed", range(4))
def test_clusters_are_those_of_k_means_written_out(seed: int) -> None:
    x, u = points(40, seed), numbers(7, seed)
    everything = torch.ones(40, dtype=torch.bool)
    expected = reference.first_centers(x.tolist(), u.tolist())
    torch.testing.assert_close(first_centers(x, everything.double(), u), torch.tensor(expected, dtype=torch.float64))
    assert cluster(x, everything, u).tolist() == reference.clusters(x.tolist(), u.tolist(), ROUNDS)


def test_clusters_are_about_as_tight_as_those_of_a_library() -> None:
    x = points(384, groups=30)
    ours = inertia(x, cluster(x, torch.ones(384, dtype=torch.bool), numbers(64)))
    theirs = KMeans(64, n_init=5, random_state=0).fit(x.numpy()).inertia_
    drawn = inertia(x, torch.randint(64, (384,), generator=generator()))
    assert ours < 1.1 * theirs and theirs < 0.5 * drawn


@pytest.mark.parametrize("keep", [4, 9, 16])
def test_the_hardest_of_each_cluster_then_the_next(keep: int) -> None:
    unknown = torch.randn(24, dtype=torch.float64, generator=generator())
    unknown[5] = unknown[17]
    labels = torch.randint(6, (24,), generator=generator(1)) + 2
    found = hardest_of_each(unknown, labels, keep)
    assert found.tolist() == reference.chosen(unknown.tolist(), labels.tolist(), keep)


def test_empty_clusters_are_filled_and_every_row_is_kept_once() -> None:
    x = torch.eye(3, dtype=torch.float64).repeat_interleave(4, 0)  # three distinct points for eight clusters
    places = DOS(kept=8)(x, torch.arange(12.0), generator())
    assert sorted(places.tolist()) == [0, 1, 2, 4, 5, 6, 8, 9]
    assert places[:3].tolist() == [0, 4, 8]
    same = DOS(kept=3)(torch.ones(5, 2), torch.tensor([4.0, 2.0, 5.0, 1.0, 3.0]), generator())
    assert same.tolist() == [3, 1, 4]


def test_lengths_of_features_do_not_matter() -> None:
    x, unknown = points(30), torch.arange(30.0)
    lengths = 1 + 9 * torch.rand(30, 1, dtype=torch.float64, generator=generator())
    assert torch.equal(DOS(kept=6)(x, unknown, generator()), DOS(kept=6)(lengths * x, unknown, generator()))


def test_rows_that_do_not_count_move_no_cluster_and_come_last() -> None:
    x, unknown = points(20), torch.randn(20, dtype=torch.float64, generator=generator())
    counts = torch.arange(20) % 4 != 1
    left = counts.nonzero()[:, 0]
    void = x.masked_fill(~counts[:, None], torch.nan), unknown.masked_fill(~counts, torch.inf)
    whole = DOS(kept=6)(*void, generator())
    assert torch.equal(whole, left[DOS(kept=6)(x[left], unknown[left], generator())])
    most = DOS(kept=17)(x, unknown.masked_fill(~counts, torch.inf), generator())
    assert set(left.tolist()) < set(most.tolist()) and len(set(most.tolist())) == 17
    assert len(DOS(kept=4)(x, torch.full((20,), torch.inf), generator()).unique()) == 4


@pytest.mark.parametrize("by", ["", "max-logit"])
def test_a_step_keeps_the_hardest_of_each_cluster(by: str) -> None:
    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)
    rows = given["outliers"].rows
    step = TrainingStep(net, DOS(kept=4, by=by), EnergyBounded(), seed=5)
    with torch.no_grad():
        features, z = net.features(rows), net(rows)
    unknown = -z.amax(1) if by else energy(z)
    drawn = {}

    class Asks(DOS):
        def forward(self, features, unknown, generator=None):  # type: ignore[no-untyped-def]
            drawn["u"] = torch.rand(4, dtype=torch.float64, generator=generator)
            return torch.arange(4)

    TrainingStep(net, Asks(kept=4, by=by), EnergyBounded(), seed=5).prepare(given)
    labels = reference.clusters(reference.unit(features.numpy()), drawn["u"].tolist(), ROUNDS)
    places = sorted(reference.chosen(unknown.tolist(), labels, 4))
    assert torch.equal(step.prepare(given)["outliers"].rows, rows[places])


def test_diverse_rows_are_kept_where_the_hardest_are_all_alike() -> None:
    x = torch.tensor([*([1.0, 0.01 * n] for n in range(8)), [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]])
    places = DOS(kept=4)(x, torch.arange(11.0), generator())
    assert {8, 9, 10} < set(places.tolist())


def test_with_a_background_class_and_no_more_candidates_than_are_kept() -> None:
    given = batch("images")
    assert len(TrainingStep(classifier("images"), BackgroundClass(), DOS(kept=3)).prepare(given)["outliers"]) == 3
    step = TrainingStep(classifier("images"), OutlierExposure(), DOS(kept=10))
    assert step.prepare(given)["outliers"] is given["outliers"]
    assert DOS(kept=10)(torch.rand(7, 3), torch.rand(7)).tolist() == list(range(7))
    assert DOS(kept=10)(torch.rand(0, 3), torch.rand(0)).tolist() == []


def test_candidates_that_are_no_numbers_are_not_chosen() -> None:
    given = batch("vectors")
    rows = given["outliers"].rows.clone()
    rows[2], rows[7] = torch.nan, torch.inf
    step = TrainingStep(classifier("vectors"), OutlierExposure(), DOS(kept=8))
    assert step.prepare(given.with_part("outliers", Part(rows)))["outliers"].rows.isfinite().all()


def test_autocast_changes_no_choice_of_the_same_features() -> None:
    x, unknown = points(60).float(), torch.arange(60.0)
    plain = DOS(kept=12)(x, unknown, generator())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(DOS(kept=12)(x, unknown, generator()), plain)


def test_void_rows_are_kept_last() -> None:
    given = batch("vectors")
    valid = torch.arange(10) % 3 > 0
    whole = Batch({**given.parts, "outliers": replace(given["outliers"], valid=valid)})
    prepared = TrainingStep(classifier("vectors"), OutlierExposure(), DOS(kept=6)).prepare(whole)
    kept = prepared["outliers"]
    assert kept.valid is not None and kept.valid.all() and len(kept) == 6


def test_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"dos needs features of shape \(N, F\)") as no:
        TrainingStep(classifier("dense"), OutlierExposure(), DOS())
    assert is_one_sentence(str(no.value))
