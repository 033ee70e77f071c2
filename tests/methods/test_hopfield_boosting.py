"""Hopfield Boosting: energies, the border, which outliers are drawn, what is stored of them, the score."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import Batch, Classifier, HopfieldBoosting, OutlierExposure, Part, Recipe, TrainingStep, evaluate
from oodles.methods.hopfield_boosting import (
    UNIT,
    EnergyDifference,
    Memory,
    border_energy,
    draw_without_replacement,
    hopfield_energy,
    memory_of,
)
from oodles.precision import unit_length
from oodles.runs.recipe import check_candidates

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT
from ..references import hopfield_boosting as reference

DTYPES = [(torch.float64, 1e-9), (torch.float32, 2e-5)]


def rows(count: int, seed: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def small(**settings: Any) -> HopfieldBoosting:
    return HopfieldBoosting(**{"kept": 4, "hidden": 6, "dimensions": 5, "memory": 12, **settings})


def near(found: Tensor, recorded: list[float], accuracy: float = 2e-6) -> None:
    torch.testing.assert_close(
        found.detach().double().flatten(), torch.tensor(recorded).double(), rtol=1e-5, atol=accuracy
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_authors_energies_and_loss(dtype: torch.dtype) -> None:
    recorded = VALUES["hopfield_boosting"]
    known, outliers = (values.to(dtype, copy=True).requires_grad_() for values in (X_IN, X_OUT[:4]))
    z, p, o = (unit_length(values.to(dtype)) for values in (torch.cat([X_IN, X_OUT]), X_IN, X_OUT))
    energies = [hopfield_energy(z, memory, recorded["beta"]) for memory in (p, o)]
    near(energies[0], recorded["energy_in"])
    near(energies[1], recorded["energy_out"])
    near(border_energy(*energies, recorded["beta"]), recorded["border"])
    loss = HopfieldBoosting(weight=1.0)(known, outliers)
    near(loss, recorded["loss_of_4_and_4"])
    loss.backward()
    assert known.grad is not None and outliers.grad is not None
    near(known.grad, recorded["grad_in"])
    near(outliers.grad, recorded["grad_out"])


def test_the_authors_score() -> None:
    score = EnergyDifference()
    score.outliers, score.beta = unit_length(X_OUT), 4.0
    score.fit(X_IN, X_IN, None)
    w = torch.tensor(VALUES["inputs"]["W"]).reshape(5, 6)
    near(score(w, w), VALUES["hopfield_boosting"]["one_sided_of_W"])


@pytest.mark.parametrize("beta", [0.5, 4.0, 30.0])
@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_papers_loss(dtype: torch.dtype, accuracy: float, beta: float) -> None:
    known, outliers = rows(7, 1, dtype), rows(4, 2, dtype)
    expected = reference.loss(known.tolist(), outliers.tolist(), 0.7, beta)
    assert expected < -1e-3
    found = HopfieldBoosting(weight=0.7, beta=beta)(known, outliers)
    assert found.dtype == dtype and found.item() == pytest.approx(expected, rel=accuracy)


def test_the_border_energy_is_zero_on_the_border_and_rises_with_beta_far_from_it() -> None:
    values = torch.tensor([-0.9, -0.2, 0.3], dtype=torch.float64)
    assert border_energy(values, values, 4.0).abs().max() < 1e-15
    apart = border_energy(values, -values, 4.0)
    torch.testing.assert_close(apart, 2 * (4 * values).cosh().log() / 4)
    far = border_energy(torch.tensor([-1.0]), torch.tensor([1.0]), 1000.0)
    assert far.item() == pytest.approx(2 - 2 * np.log(2) / 1000, rel=1e-5)


@pytest.mark.parametrize("beta", [1e-3, 4.0, 1e4])
def test_terms_and_slopes_are_finite_for_any_beta_and_for_rows_of_zeros(beta: float) -> None:
    known, outliers = rows(3, 1, torch.float32), rows(3, 2, torch.float32)
    known[0] = outliers[0] = 0.0
    for scale in (0.0, 1e-20, 1.0, 1e18):
        given = [(values * scale).requires_grad_() for values in (known, outliers)]
        loss = HopfieldBoosting(beta=beta)(*given)
        loss.backward()
        assert loss.isfinite() and all(value.grad is not None and value.grad.isfinite().all() for value in given)


@pytest.mark.parametrize("counts", [(0, 3), (3, 0), (0, 0)])
def test_no_rows_of_either_kind_give_a_zero_with_a_graph(counts: tuple[int, int]) -> None:
    known, outliers = (rows(count, 1).requires_grad_() for count in counts)
    loss = HopfieldBoosting()(known, outliers)
    loss.backward()
    assert loss.item() == 0.0 and known.grad is not None and not known.grad.any()


def test_outliers_are_as_heavy_as_known_rows_however_many_there_are() -> None:
    known, outliers = rows(4, 1), rows(3, 2)
    method = HopfieldBoosting()
    assert method(known, outliers).item() == pytest.approx(method(known, outliers.repeat(5, 1)).item(), rel=1e-12)


def test_patterns_that_do_not_count_are_as_if_they_were_not_there() -> None:
    z, p = unit_length(rows(3, 1)), unit_length(rows(6, 2))
    valid = torch.tensor([True, False, True, True, False, False])
    torch.testing.assert_close(hopfield_energy(z, p, 4.0, valid), hopfield_energy(z, p[valid], 4.0))
    assert torch.equal(hopfield_energy(z, p, 4.0, ~valid & valid), torch.full((3,), torch.inf, dtype=torch.float64))


def test_draws_are_one_after_the_other_by_what_is_left() -> None:
    weights = [0.05, 0.4, 0.15, 0.3, 0.1]
    generator, times = torch.Generator().manual_seed(0), 20_000
    logs = torch.tensor(weights).log()
    counts = torch.zeros(5)
    for _ in range(times):
        counts[draw_without_replacement(logs, 2, generator)] += 1
    expected = torch.tensor(reference.chances(weights, 2))
    torch.testing.assert_close(counts / times, expected, rtol=0, atol=0.015)


def test_a_weight_of_zero_is_drawn_last() -> None:
    logs = torch.tensor([-torch.inf, 0.0, -torch.inf, -50.0])
    for seed in range(20):
        assert draw_without_replacement(logs, 2, torch.Generator().manual_seed(seed)).sort().values.tolist() == [1, 3]
    assert sorted(draw_without_replacement(logs, 9).tolist()) == [0, 1, 2, 3]


class Planted(nn.Module):
    """Hands on inputs as features."""

    def forward(self, features: Tensor) -> Tensor:
        return features


def planted(keep: int, beta: float = 60.0, **settings: Any) -> tuple[TrainingStep, Batch]:
    """Known rows along one axis, 20 far outliers along another, and 4 between them in places 3, 9, 15, 21."""
    net = Classifier(Planted(), nn.Linear(3, 2))
    step = TrainingStep(net, small(kept=keep, beta=beta, dimensions=3, hidden=3, **settings))
    memory_of(net).projection = nn.Identity()
    known = torch.tensor([[1.0, 0, 0]]).repeat(8, 1)
    outliers = torch.tensor([[0.0, 1, 0]]).repeat(24, 1)
    outliers[3::6] = torch.tensor([1.0, 1.0, 0.02])
    return step, Batch({"id": Part(known, torch.arange(8) % 2), "outliers": Part(outliers, torch.arange(24) % 2)})


def test_outliers_near_the_border_are_drawn() -> None:
    step, given = planted(4)
    for _ in range(5):
        chosen = step.prepare(given)["outliers"]
        assert torch.equal(chosen.rows, given["outliers"].rows[3::6])
        assert torch.equal(chosen.labels, given["outliers"].labels[3::6]), "labels go with their rows"


def test_draws_differ_by_step_and_are_those_of_the_seed() -> None:
    step, given = planted(4, beta=1.0)
    again, _ = planted(4, beta=1.0)
    drawn = [step.prepare(given)["outliers"].rows for _ in range(6)]
    assert len({rows.sum().item() for rows in drawn}) > 1
    assert all(torch.equal(rows, again.prepare(given)["outliers"].rows) for rows in drawn)


@pytest.mark.parametrize("keep", [24, 100])
def test_all_stay_where_no_more_are_there_than_are_kept(keep: int) -> None:
    step, given = planted(keep)
    assert step.prepare(given)["outliers"] is given["outliers"]


def test_the_order_of_the_outliers_stays() -> None:
    step, given = planted(12, beta=1.0)
    numbers = torch.arange(24.0)
    rows = torch.stack([torch.zeros(24), numbers + 1, torch.zeros(24)], 1)
    drawn = step.prepare(given.with_part("outliers", Part(rows)))["outliers"].rows[:, 1].tolist()
    assert drawn == sorted(drawn) and len(set(drawn)) == 12


def test_a_recipe_that_draws_more_than_come_is_refused() -> None:
    recipe = replace(Recipe.load("hopfield-boosting"), outlier_batch_size=127)
    with pytest.raises(ValueError, match="hopfield-boosting keeps 128 outliers of a batch that has 127") as refusal:
        check_candidates(recipe)
    assert is_one_sentence(str(refusal.value))


def test_void_outliers_are_drawn_last_and_void_known_rows_draw_nobody() -> None:
    step, given = planted(4)
    far = torch.ones(24, dtype=torch.bool)
    far[3::6] = False
    known, outliers = given["id"], given["outliers"]
    void = Part(outliers.rows, outliers.labels, valid=far)
    chosen = step.prepare(given.with_part("outliers", void))["outliers"]
    assert chosen.valid is not None and chosen.valid.all()
    turned = known.rows.clone()
    turned[::2] = torch.tensor([0.0, 1.0, 0.0])
    half = Part(turned, known.labels, valid=torch.arange(8) % 2 == 1)
    chosen = step.prepare(Batch({"id": half, "outliers": Part(outliers.rows)}))["outliers"]
    assert torch.equal(chosen.rows, outliers.rows[3::6])


def test_rows_that_are_all_void_are_no_reason_to_stop() -> None:
    step, given = planted(4)
    nobody = torch.zeros(24, dtype=torch.bool)
    part = Part(given["outliers"].rows, given["outliers"].labels, valid=nobody)
    terms = step(given.with_part("outliers", part))
    assert terms["hopfield_boosting"].item() == 0.0 and terms["cross_entropy"].isfinite()
    total(terms).backward()


def test_candidates_are_seen_in_eval_mode_and_leave_no_trace() -> None:
    net = classifier("images", noisy=True).train()
    step = TrainingStep(net, small())
    before = {name: value.clone() for name, value in net.state_dict().items()}
    step.prepare(batch("images"))
    assert net.training and all(torch.equal(before[name], value) for name, value in net.state_dict().items())


def test_features_are_no_candidates() -> None:
    step, given = planted(4)
    with pytest.raises(TypeError, match="hopfield-boosting cannot act on this batch") as refusal:
        step.prepare(given.with_part("outliers", Part(features=given["outliers"].rows)))
    assert is_one_sentence(str(refusal.value))


def test_the_step_gives_the_papers_loss_of_projections() -> None:
    net = classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, small(weight=0.6, beta=3.0))
    given = batch("vectors", dtype=torch.float64)
    prepared = step.prepare(given)
    assert len(prepared["outliers"]) == 4
    known, outliers = (net.heads["hopfield"](net.features(prepared[role].rows)).tolist() for role in ("id", "outliers"))
    expected = reference.loss(known, outliers, 0.6, 3.0)
    assert step.losses(prepared)["hopfield_boosting"].item() == pytest.approx(expected, rel=1e-12)


def test_the_projection_has_the_sizes_asked_for_and_stays_as_drawn() -> None:
    net = classifier("vectors")
    step = TrainingStep(net, HopfieldBoosting())
    projection = memory_of(net).projection
    assert [tuple(layer.weight.shape) for layer in projection if isinstance(layer, nn.Linear)] == [(256, 7), (128, 256)]  # type: ignore[union-attr]
    drawn = [parameter.clone() for parameter in projection.parameters()]
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1, weight_decay=0.5)
    step(batch("vectors"))["hopfield_boosting"].backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in net.backbone.parameters())
    optimizer.step()
    assert all(map(torch.equal, drawn, projection.parameters()))


def test_the_projection_learns_where_asked_for_also_one_that_had_stayed_as_drawn() -> None:
    net = classifier_with_memory()
    step = TrainingStep(net, small(learn_projection=True))
    step(batch("vectors"))["hopfield_boosting"].backward()
    for parameter in memory_of(net).projection.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-6


def test_training_moves_rows_away_from_the_border() -> None:
    step, given = planted(8, beta=4.0, weight=1.0)
    memory_of(step.classifier).projection = nn.Linear(3, 3)
    optimizer = torch.optim.Adam(step.parameters(), lr=0.05)
    first = last = 0.0
    for number in range(60):
        optimizer.zero_grad()
        terms = step(given)
        total(terms).backward()
        optimizer.step()
        last = terms["hopfield_boosting"].item()
        first = first if number else last
    step.after_update()
    assert last < first - 0.2
    known, outliers = given["id"].rows, given["outliers"].rows
    found = evaluate(
        step.classifier, [known], {"unknown": [outliers]}, ["hopfield"], train_loader=[(known, given["id"].labels)]
    )
    assert found.metrics["unknown"]["hopfield"]["auroc"] == 1.0


def test_the_last_outliers_are_stored_at_unit_length() -> None:
    memory = Memory(nn.Identity(), 5, 5)
    assert memory.read().shape == (0, 5)
    first, second, many = (unit_length(rows(count, seed)) for count, seed in ((2, 1), (4, 2), (13, 3)))
    memory.store(first)
    torch.testing.assert_close(memory.read(), first.float())
    memory.store(second)
    torch.testing.assert_close(memory.read(), torch.cat([second[3:], first[1:], second[:3]]).float())
    memory.store(many)
    assert sorted(memory.read()[:, 0].tolist()) == pytest.approx(sorted(many[-5:, 0].tolist()), abs=2 / UNIT)
    assert int(memory.stored) == 11


def test_rows_that_are_no_numbers_are_stored_as_zeros() -> None:
    memory = Memory(nn.Identity(), 3, 5)
    given = rows(2, 1)
    given[0, 0] = torch.nan
    memory.store(unit_length(given))
    assert not memory.read()[0].any()
    torch.testing.assert_close(memory.read()[1], unit_length(given[1:])[0].float())


def test_outliers_are_stored_after_the_update_as_they_were_projected() -> None:
    net = classifier("vectors")
    step = TrainingStep(net, small())
    prepared = step.prepare(batch("vectors"))
    expected = unit_length(net.heads["hopfield"](net.features(prepared["outliers"].rows))).detach()
    step.losses(prepared)
    assert not int(memory_of(net).stored)
    step.after_update()
    torch.testing.assert_close(memory_of(net).read(), expected, rtol=0, atol=2 / UNIT)


def test_a_moving_average_of_weights_copies_what_is_stored() -> None:
    """As means, stored rows would be rows that never were."""
    buffers = dict(classifier_with_memory().named_buffers())
    assert not buffers["heads.hopfield.outliers"].is_floating_point()


def classifier_with_memory() -> Classifier:
    net = classifier("vectors")
    TrainingStep(net, small())
    return net


def test_the_score_is_the_papers() -> None:
    net = classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, small(beta=2.5, memory=6))
    train = batch("vectors", dtype=torch.float64, rows=12)["id"]
    for seed in range(3):
        step(batch("vectors", dtype=torch.float64, seed=seed))
    step.after_update()
    queries = batch("vectors", dtype=torch.float64, seed=9)["id"].rows
    found = evaluate(net, [queries], {}, ["hopfield"], train_loader=[(train.rows, train.labels)]).scores["id"][
        "hopfield"
    ]
    known, asked = (net.heads["hopfield"](net.features(x)).tolist() for x in (train.rows, queries))
    outliers = memory_of(net).read().tolist()
    assert len(outliers) == 6
    assert found.tolist() == pytest.approx([reference.score(z, known, outliers, 2.5) for z in asked], rel=1e-5)


def test_a_score_of_many_stored_rows_is_that_of_all_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    score = EnergyDifference()
    score.outliers, score.beta = unit_length(rows(9, 4)), 4.0
    score.fit(rows(11, 3), rows(11, 3), None)
    queries = rows(5, 5)
    whole = score(queries, queries)
    monkeypatch.setattr("oodles.methods.hopfield_boosting.AT_ONCE", 4)
    torch.testing.assert_close(score(queries, queries), whole)


def test_a_fitted_score_is_taken_over_from_what_it_has_learnt() -> None:
    score = EnergyDifference()
    score.outliers, score.beta = unit_length(rows(9, 4)), 3.0
    score.fit(rows(11, 3), rows(11, 3), None)
    again = EnergyDifference().load_state(score.state())
    queries = rows(5, 5)
    assert again.beta == 3.0 and torch.equal(again(queries, queries), score(queries, queries))


def without_outliers() -> None:
    net, train = classifier_with_memory(), batch("vectors")["id"]
    evaluate(net, [train.rows], {}, ["hopfield"], train_loader=[(train.rows, train.labels)])


def without_a_classifier() -> None:
    EnergyDifference().fit(rows(3, 1), rows(3, 1), None)


def without_the_head() -> None:
    train = batch("vectors")["id"]
    evaluate(classifier("vectors"), [train.rows], {}, ["hopfield"], train_loader=[(train.rows, train.labels)])


def with_another_memory() -> None:
    TrainingStep(classifier_with_memory(), small(memory=13))


def without_anything_to_read() -> None:
    TrainingStep(classifier("vectors"), small())((torch.rand(4, 6), torch.arange(4)))


@pytest.mark.parametrize(
    "wrong, sentence",
    [
        (without_outliers, "hopfield compares with outliers of training and there were none: train with some."),
        (
            without_a_classifier,
            "hopfield reads the classifier's head: call fit_of(classifier, features",
        ),
        (without_the_head, "hopfield looks at a head 'hopfield' that this classifier lacks"),
        (with_another_memory, "The classifier keeps outliers of shape (12, 5) for its score, and (13, 5) are wanted"),
        (without_anything_to_read, "hopfield-boosting needs"),
    ],
)
def test_what_cannot_be_is_refused(wrong: Callable[[], None], sentence: str) -> None:
    with pytest.raises(ValueError, match=re.escape(sentence)) as refusal:
        wrong()
    assert is_one_sentence(str(refusal.value))


def test_a_second_step_goes_on_with_what_is_stored_and_its_own_beta() -> None:
    net = classifier_with_memory()
    memory = memory_of(net)
    TrainingStep(net, small(beta=2.0))
    assert memory_of(net) is memory and memory.beta.item() == 2.0


def test_another_outlier_loss_reads_the_drawn_outliers() -> None:
    step = TrainingStep(classifier("images"), small(), OutlierExposure())
    terms = step(batch("images"))
    assert {"hopfield_boosting", "outlier_exposure"} <= set(terms)


def test_energies_are_float32_under_autocast() -> None:
    z, p = unit_length(rows(4, 1, torch.float32)), unit_length(rows(6, 2, torch.float32))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = hopfield_energy(z, p, 4.0)
    assert torch.equal(found, hopfield_energy(z, p, 4.0))
