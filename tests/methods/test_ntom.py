"""NTOM: which rows are kept, by which score, and what of them counts; recorded: the formula, computed apart."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from oodles import NTOM, BackgroundClass, Batch, Classifier, EnergyBounded, OutlierExposure, Part, Recipe, TrainingStep
from oodles.methods import METHODS, method_class
from oodles.methods.ntom import hard_slice
from oodles.runs.recipe import check_needs
from oodles.scores import energy

from ..contract.networks import batch, classifier
from ..contract.rows import ROWS
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, closed_form
from ..references import ntom as reference

LOSSES = [name for name in METHODS if "outliers" in method_class(name).needs and method_class(name).terms]


def unknown(rows: int, seed: int = 0) -> Tensor:
    return torch.randn(rows, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def kept(step: TrainingStep, given: Batch) -> Tensor:
    """The rows of vectors that are left of the outliers."""
    return step.prepare(given)["outliers"].rows


def test_the_recorded_choice() -> None:
    recorded = VALUES["ntom"]
    scores = closed_form(0.61, 1, range(80))
    assert hard_slice(scores, len(recorded["selected"]), recorded["quantile"]).tolist() == recorded["selected"]


@pytest.mark.parametrize("quantile", [0.0, 0.125, 0.29, 0.5, 0.6])
@pytest.mark.parametrize("rows, keep", [(10, 4), (100, 40), (33, 1)])
def test_the_algorithm_of_the_paper(rows: int, keep: int, quantile: float) -> None:
    scores = unknown(rows)
    found = NTOM(kept=keep, quantile=quantile)(scores)
    assert found.tolist() == reference.chosen(scores.tolist(), keep, quantile)


def test_equal_scores_leave_rows_in_their_order() -> None:
    scores = torch.tensor([1.0, 0.0, 1.0, 0.0, 1.0, 0.0])
    assert hard_slice(scores, 3, 0.2).tolist() == [3, 5, 0] == reference.chosen(scores.tolist(), 3, 0.2)


def test_as_many_rows_are_kept_where_fewer_are_left_behind_the_share() -> None:
    assert hard_slice(torch.arange(8.0), 3, 0.9).tolist() == [5, 6, 7]
    assert hard_slice(torch.arange(3.0), 8, 0.9).tolist() == [0, 1, 2]


def test_rows_that_do_not_count_come_last_and_are_not_shared_out() -> None:
    scores = torch.tensor([4.0, torch.inf, 1.0, 3.0, torch.inf, 2.0])
    assert hard_slice(scores, 2, 0.25).tolist() == [5, 3], "a quarter of four"
    assert hard_slice(scores, 5, 0.5).tolist() == [2, 5, 3, 0, 1]
    assert hard_slice(torch.full((4,), torch.inf), 2, 0.5).tolist() == [0, 1]


@pytest.mark.parametrize("by", ["", "energy", "max-logit"])
def test_rows_are_kept_by_a_score_in_the_order_in_which_they_came(by: str) -> None:
    net, given = classifier("vectors", noisy=True).train(), batch("vectors")
    rows = kept(TrainingStep(net, NTOM(kept=4, quantile=0.3, by=by), EnergyBounded()), given)
    with torch.no_grad():
        z = net.eval()(given["outliers"].rows)
    scores = -z.amax(1) if by == "max-logit" else energy(z)
    places = sorted(reference.chosen(scores.tolist(), 4, 0.3))
    assert torch.equal(rows, given["outliers"].rows[places])


def test_the_probability_of_the_background_is_that_of_the_paper() -> None:
    net, given = classifier("vectors"), batch("vectors")
    step = TrainingStep(net, BackgroundClass(), NTOM(kept=4, quantile=0.3))
    with torch.no_grad():
        features = net.features(given["outliers"].rows)
        p = torch.cat([net.head(features), net.heads["background"](features)], 1).softmax(1)[:, -1]
    assert torch.equal(kept(step, given), given["outliers"].rows[sorted(reference.chosen(p.tolist(), 4, 0.3))])


@pytest.mark.parametrize("keep", [10, 11, 1000])
def test_where_no_more_candidates_are_there_all_stay_bit_for_bit(keep: int) -> None:
    given = batch("images")
    outcomes = []
    for methods in ((), (NTOM(kept=keep),)):
        net = classifier("images", noisy=True).train()
        step = TrainingStep(net, OutlierExposure(), *methods)
        prepared = step.prepare(given)
        assert prepared["outliers"] is given["outliers"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            total(step.losses(prepared)).backward()
        outcomes.append([*(p.grad for p in net.parameters() if p.grad is not None), *net.buffers()])
    assert all(torch.equal(a, b) for a, b in zip(*outcomes, strict=True))


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_on_outliers_names_a_score_or_gets_a_sentence(loss: str) -> None:
    given, row = batch("images"), ROWS[loss]
    if set(row.cls.replaces) & set(NTOM.replaces):
        pytest.skip("it chooses by itself")
    others = [other for other in row.methods() if type(other) is not NTOM]
    step = TrainingStep(classifier("images"), *others, NTOM(kept=4))
    try:
        assert total(step(given)).isfinite()
        assert len(step.prepare(given)["outliers"]) == 4
    except ValueError as error:
        assert "by must be a score of what the classifier gives for a row, got" in str(error)
        assert is_one_sentence(str(error))


def test_what_the_classifier_lacks_or_no_can_show_gets_a_sentence() -> None:
    given = batch("vectors")
    with pytest.raises(ValueError, match="background looks at a head 'background' that this classifier lacks") as no:
        TrainingStep(classifier("vectors"), NTOM(kept=4, by="background"), OutlierExposure()).prepare(given)
    assert is_one_sentence(str(no.value))
    made = given.with_part("outliers", Part(features=torch.rand(10, 7)))
    with pytest.raises(TypeError, match="ntom cannot act on this batch: outliers must be inputs to be chosen") as no:
        TrainingStep(classifier("vectors"), NTOM(kept=4), OutlierExposure()).prepare(made)
    assert is_one_sentence(str(no.value))


def test_pictures_are_chosen_by_the_mean_over_the_pixels_that_count() -> None:
    net, given = classifier("dense"), batch("dense")
    outliers = given["outliers"]
    valid = torch.rand(10, 8, 8, generator=torch.Generator().manual_seed(1)) < 0.4
    valid[3] = False
    step = TrainingStep(net, EnergyBounded(), NTOM(kept=4, quantile=0.0))
    prepared = step.prepare(given.with_part("outliers", replace(outliers, valid=valid)))["outliers"]
    with torch.no_grad():
        values = energy(net(outliers.rows))
    pairs = zip(values, valid, strict=True)
    means = [float(one[counts].mean()) if counts.any() else torch.inf for one, counts in pairs]
    places = sorted(reference.chosen(means, 4, 0.0))
    assert torch.equal(prepared.rows, outliers.rows[places]) and 3 not in places
    assert prepared.valid is not None and torch.equal(prepared.valid, valid[places])
    everything = step.prepare(given)["outliers"]
    assert torch.equal(everything.rows, outliers.rows[sorted(reference.chosen(values.mean((1, 2)).tolist(), 4, 0.0))])


def test_rows_that_are_no_numbers_are_not_chosen() -> None:
    rows = torch.rand(6, 4)
    rows[1], rows[4] = torch.nan, torch.inf
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(4, 3)), OutlierExposure(), NTOM(kept=4, quantile=0.0))
    assert kept(step, Batch({"id": Part(rows[:1], torch.tensor([0])), "outliers": Part(rows)})).isfinite().all()


def test_a_run_that_could_not_choose_is_refused_before_training() -> None:
    methods = (("ntom", {"kept": 65}), ("outlier-exposure", {}))
    with pytest.raises(
        ValueError, match="ntom keeps 65 outliers of a batch that has 64: raise outlier_batch_size"
    ) as no:
        check_needs(Recipe(methods=methods), "data", roles=("outliers",))
    assert is_one_sentence(str(no.value))
    check_needs(Recipe(methods=methods, outlier_batch_size=65), "data", roles=("outliers",))
    check_needs(Recipe.load("ntom"), "data", roles=("outliers",))
