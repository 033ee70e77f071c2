"""POEM: its posterior against the authors' program, the draw of each epoch, sums that decay, and what is kept."""

import copy
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import POEM, Batch, Now, OutlierExposure, Outputs, Part, TrainingStep
from oodles.methods.poem import posterior
from oodles.randomness import NEW_EPOCH, generator_for

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT
from ..references import poem as reference

KEEP = {"kept": 4}


def made(seed: int = 3, **settings: float) -> tuple[TrainingStep, POEM]:
    method = POEM(**{**KEEP, **settings})  # type: ignore[arg-type]  # some are whole
    net = classifier("vectors", dtype=torch.float64)
    return TrainingStep(net, method, OutlierExposure(), seed=seed), method


def trained(step: TrainingStep, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Take a step; return the features that it had."""
    prepared = step.prepare(batch("vectors", seed=seed, dtype=torch.float64))
    total(step.losses(prepared)).backward()
    with torch.no_grad():
        known, outliers = (step.classifier.features(prepared[role].inputs).numpy() for role in ("id", "outliers"))
    step.after_update()
    return known, outliers


def drawn(gram: np.ndarray, products: np.ndarray, step: TrainingStep, method: POEM, steps: int) -> np.ndarray:
    """Draw the weights as an epoch does that starts after so many steps."""
    mean, covariance = reference.posterior(gram, products, method.variance, method.noise)
    shared = generator_for(step.seed, NEW_EPOCH, steps, "poem", "shared")
    z = torch.randn(len(mean), dtype=torch.float64, generator=shared)
    return np.asarray(mean + np.sqrt(method.exploration) * reference.root(covariance) @ z.numpy())


def test_the_recorded_posterior() -> None:
    recorded = VALUES["poem"]
    known, outliers = X_IN.double(), X_OUT.double()
    gram = known.T @ known + outliers.T @ outliers
    products = recorded["confidence"] * (outliers.sum(0) - known.sum(0))
    mean, root = posterior(gram, products, recorded["variance"], recorded["noise"])
    assert mean.tolist() == pytest.approx(recorded["mean"], rel=1e-6)
    covariance = POEM().exploration * root @ root
    assert covariance.diagonal().tolist() == pytest.approx(recorded["diagonal_of_covariance"], rel=1e-6)


def test_the_posterior_is_that_of_the_rows() -> None:
    known, outliers = X_IN.double().numpy(), X_OUT.double().numpy()
    gram, products = reference.sums(known, outliers, 2.0)
    mean, covariance = reference.posterior(gram, products, 3.0, 0.7)
    found, root = posterior(torch.from_numpy(gram), torch.from_numpy(products), 3.0, 0.7)
    np.testing.assert_allclose(found.numpy(), mean, rtol=1e-9)
    np.testing.assert_allclose((root @ root).numpy(), covariance, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(root, root.T)


def test_before_anything_is_known_every_direction_is_as_likely() -> None:
    mean, root = posterior(torch.zeros(3, 3), torch.zeros(3), 20.0, 0.5)
    assert not mean.any()
    torch.testing.assert_close(root, 20**0.5 * torch.eye(3))


def test_sums_that_rounding_has_bent_still_have_a_root() -> None:
    h = 1e3 * torch.randn(50, 1, generator=torch.Generator().manual_seed(0)) @ torch.randn(1, 6)
    mean, root = posterior(h.T @ h, 3 * h.sum(0), 20.0, 0.5)
    assert mean.isfinite().all() and root.isfinite().all()


def test_each_epoch_draws_from_the_sums_of_its_steps_which_decay() -> None:
    step, method = made(memory=3)
    step.start_epoch(0, 3)
    np.testing.assert_allclose(
        method.direction.numpy(), drawn(np.zeros((7, 7)), np.zeros(7), step, method, 0), rtol=1e-9
    )
    gram, products = np.zeros((7, 7)), np.zeros(7)
    for epoch in (1, 2):
        for seed in (2 * epoch, 2 * epoch + 1):
            more = reference.sums(*trained(step, seed), method.confidence)
            gram, products = gram + more[0], products + more[1]
        np.testing.assert_allclose(method.gram.numpy(), gram, rtol=1e-9)
        np.testing.assert_allclose(method.products.numpy(), products, rtol=1e-9, atol=1e-12)
        step.start_epoch(epoch, 3)
        np.testing.assert_allclose(method.direction.numpy(), drawn(gram, products, step, method, 2 * epoch), rtol=1e-7)
        gram, products = 2 / 3 * gram, 2 / 3 * products


def test_only_rows_that_were_kept_and_count_are_learnt_from() -> None:
    step, method = made()
    given = batch("vectors", dtype=torch.float64)
    valid = {"id": torch.arange(6) % 3 > 0, "outliers": torch.arange(10) % 4 > 0}
    whole = Batch({role: replace(given[role], valid=counts) for role, counts in valid.items()})
    prepared = step.prepare(whole)
    total(step.losses(prepared)).backward()
    step.after_update()
    kept = prepared["outliers"]
    assert kept.valid is not None and kept.valid.all() and len(kept) == 4
    with torch.no_grad():
        known, outliers = (step.classifier.features(x) for x in (given["id"].rows[valid["id"]], kept.rows))
    gram, products = reference.sums(known.numpy(), outliers.numpy(), 3.0)
    np.testing.assert_allclose(method.gram.numpy(), gram, rtol=1e-9)
    np.testing.assert_allclose(method.products.numpy(), products, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e200])
def test_a_batch_of_numbers_that_are_not_finite_is_not_learnt_from(bad: float) -> None:
    step, method = made()
    step.start_epoch(0, 2)
    trained(step, 1)
    before = method.gram.clone(), method.products.clone()
    rows = {role: torch.full((3, 7), value, dtype=torch.float64) for role, value in (("id", bad), ("outliers", 1.0))}
    method.after_update(Outputs(rows, {}), batch("vectors"), Now(step.classifier))
    assert torch.equal(method.gram, before[0]) and torch.equal(method.products, before[1])
    step.start_epoch(1, 2)
    assert method.direction.isfinite().all()


def test_the_rows_nearest_to_the_boundary_are_kept_in_their_order() -> None:
    step, method = made()
    step.start_epoch(0, 1)
    rows = batch("vectors", dtype=torch.float64)["outliers"].rows
    with torch.no_grad():
        features = step.classifier.features(rows)
    places = reference.chosen(features.numpy(), method.direction.tolist(), 4)
    assert method(features, method.direction).tolist() == places != [0, 1, 2, 3]
    found = step.prepare(batch("vectors", dtype=torch.float64))["outliers"].rows
    assert torch.equal(found, rows[sorted(places)])


def test_until_an_epoch_starts_the_first_rows_are_kept() -> None:
    step, _ = made()
    given = batch("vectors", dtype=torch.float64)
    assert torch.equal(step.prepare(given)["outliers"].rows, given["outliers"].rows[:4])


def test_what_is_learnt_tells_known_rows_from_outliers() -> None:
    """Known rows at 1 on an axis and outliers below −1: of candidates in between, those about 0 are kept."""
    random = torch.Generator().manual_seed(0)
    method = POEM(kept=5, exploration=1.0)
    step = TrainingStep(classifier("vectors", dtype=torch.float64), method, OutlierExposure())
    known = torch.cat([torch.ones(200, 1), 0.1 * torch.randn(200, 6, generator=random)], 1).double()
    line = torch.cat([torch.linspace(1, -3, 400)[:, None], 0.1 * torch.randn(400, 6, generator=random)], 1).double()
    gram, products = reference.sums(known.numpy(), line[200:].numpy(), 3.0)
    method.gram.copy_(torch.from_numpy(gram)), method.products.copy_(torch.from_numpy(products))
    step.start_epoch(1, 2)
    places = method(line, method.direction)
    near = line[places][:, 0]
    assert bool((near.abs() < 0.5).all()), "where wᵀh changes its sign: here at 0, without an intercept"


def test_an_epoch_that_is_resumed_keeps_its_boundary() -> None:
    step, method = made()
    step.start_epoch(0, 3)
    trained(step, 1)
    step.start_epoch(1, 3)
    trained(step, 2)
    state = copy.deepcopy(step.state_dict())
    resumed, again = made()
    resumed.load_state_dict(state)
    resumed.start_epoch(1, 3)
    for name, value in method.named_buffers():
        assert torch.equal(again.get_buffer(name), value), name
    for one in (step, resumed):
        trained(one, 3)
        one.start_epoch(2, 3)
    assert torch.equal(again.direction, method.direction)


def test_other_seeds_and_epochs_draw_other_boundaries() -> None:
    drawn_ones: list[Tensor] = []
    for seed in (0, 1):
        step, method = made(seed)
        for epoch in range(2):
            step.start_epoch(epoch, 2)
            drawn_ones.append(method.direction.clone())
            trained(step, epoch)
    assert len({tuple(one.tolist()) for one in drawn_ones}) == 4


def test_where_no_more_candidates_are_there_all_stay() -> None:
    given = batch("images")
    step = TrainingStep(classifier("images"), OutlierExposure(), POEM(kept=10))
    assert step.prepare(given)["outliers"] is given["outliers"]


def test_candidates_that_are_no_numbers_are_not_chosen() -> None:
    given = batch("vectors")
    rows = given["outliers"].rows.clone()
    rows[0], rows[1] = torch.nan, torch.inf
    step = TrainingStep(classifier("vectors"), OutlierExposure(), POEM(kept=8))
    for epoch in range(2):
        assert step.prepare(given.with_part("outliers", Part(rows)))["outliers"].rows.isfinite().all() or epoch == 0
        step.start_epoch(epoch, 2)


def test_pixels_are_refused() -> None:
    with pytest.raises(ValueError, match=r"poem needs features of shape \(N, F\)") as no:
        TrainingStep(classifier("dense"), OutlierExposure(), POEM())
    assert is_one_sentence(str(no.value))
