"""SIREN: normalisers of von Mises–Fisher densities, the term, moves of the means, the score."""

import math

import numpy as np
import pytest
import torch
from scipy import special
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from oodles import PALM, SIREN, Classifier, Part, TrainingStep, evaluate
from oodles.methods.siren import VonMisesFisher, log_densities, log_normalizer

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import siren as reference

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 0])
KAPPAS = (3.0, 10.0, 0.5, 25.0)


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Projections, prototypes at unit length, concentrations, and soft targets."""
    generator = torch.Generator().manual_seed(3)
    g, p, y = (torch.randn(n, m, generator=generator, dtype=torch.float64) for n, m in ((7, 6), (4, 6), (7, 4)))
    return g.to(dtype), normalize(p).to(dtype), torch.tensor(KAPPAS, dtype=dtype), y.softmax(1).to(dtype)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 6, 16, 128])
def test_normalisers_are_those_of_scipy(dimensions: int) -> None:
    kappa = np.array([1e-3, 0.1, 1.0, 10.0, 30.0, 100.0, 3000.0])
    kappa = kappa[kappa > 0.01] if dimensions == 128 else kappa  # below, I_63 underflows in SciPy
    order = dimensions / 2 - 1
    expected = order * np.log(kappa) - np.log(special.ive(order, kappa)) - kappa - dimensions / 2 * np.log(2 * np.pi)
    given = torch.from_numpy(kappa).requires_grad_()
    found = log_normalizer(given, dimensions)
    torch.testing.assert_close(found.detach(), torch.from_numpy(expected), rtol=0, atol=2e-8)
    (slope,) = torch.autograd.grad(found.sum(), given)
    mean_cosine = special.ive(order + 1, kappa) / special.ive(order, kappa)
    torch.testing.assert_close(-slope, torch.from_numpy(mean_cosine), rtol=0, atol=2e-8)


@pytest.mark.parametrize("dimensions", [2, 3, 16, 128])
def test_without_concentration_the_density_is_that_of_the_whole_sphere(dimensions: int) -> None:
    area = math.log(2) + dimensions / 2 * math.log(math.pi) - math.lgamma(dimensions / 2)
    none = torch.zeros(1, requires_grad=True)
    found = log_normalizer(none, dimensions)
    assert found.item() == pytest.approx(-area, abs=2e-8)
    found.sum().backward()
    assert none.grad is not None and none.grad.item() == 0.0


def test_the_normaliser_in_three_dimensions() -> None:
    kappa = torch.tensor([0.3, 2.0, 9.0], dtype=torch.float64)
    expected = (kappa / (4 * math.pi * kappa.sinh())).log()
    torch.testing.assert_close(log_normalizer(kappa, 3), expected, rtol=0, atol=2e-8)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype, accuracy", [(torch.float64, 1e-7), (torch.float32, 1e-5)])
def test_the_papers_densities_and_loss(dtype: torch.dtype, accuracy: float, mixed: bool) -> None:
    g, p, kappa, soft = rows(dtype)
    wide = [values.double().tolist() for values in (g, p, kappa)]
    found = log_densities(normalize(g), p, kappa)
    expected = [reference.log_densities(row, wide[1], wide[2]) for row in wide[0]]
    assert found.dtype == dtype
    torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=accuracy, atol=accuracy)
    y = soft if mixed else one_hot(LABELS, 4).to(dtype)
    loss = reference.loss(wide[0], y.double().tolist(), wide[1], wide[2])
    assert SIREN(weight=0.6)(found, y if mixed else LABELS).item() == pytest.approx(0.6 * loss, rel=accuracy)


def test_the_step_trains_what_the_score_sees() -> None:
    net = classifier("vectors")
    step = TrainingStep(net, SIREN(weight=0.6, dimensions=5, concentration=7.0))
    given = batch("vectors")
    x, y = given["id"].rows, given["id"].labels
    head = net.heads["vmf"]
    assert isinstance(head, VonMisesFisher) and head.projection is net.heads["projection"]
    assert head.concentration.tolist() == [7.0] * 4
    torch.testing.assert_close(head.prototypes.norm(dim=1), torch.ones(4))
    g = head.projection(net.features(x)).double().tolist()
    prototypes = head.prototypes.double().tolist()
    expected = reference.loss(g, one_hot(y, 4).tolist(), prototypes, [7.0] * 4)
    assert step(given)["siren"].item() == pytest.approx(0.6 * expected, rel=1e-5)
    step.after_update()
    least = [-max(reference.log_densities(row, head.prototypes.double().tolist(), [7.0] * 4)) for row in g]
    found = evaluate(net, [x], {}, ["vmf"]).scores["id"]["vmf"]
    assert found.tolist() == pytest.approx(least, rel=1e-5)


def test_prototypes_move_after_the_update_by_the_rows_of_the_step() -> None:
    net = classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, SIREN(dimensions=5, prototype_momentum=0.7))
    given = batch("vectors", dtype=torch.float64)
    before = net.heads["vmf"].prototypes.clone()  # type: ignore[operator]
    step(given)
    assert torch.equal(net.heads["vmf"].prototypes, before)  # type: ignore[arg-type]
    g = net.heads["projection"](net.features(given["id"].rows)).tolist()
    y = one_hot(given["id"].labels, 4).tolist()
    step.after_update()
    expected = torch.tensor(reference.moved(g, y, before.tolist(), 0.7), dtype=torch.float64)
    torch.testing.assert_close(net.heads["vmf"].prototypes, expected)
    in_order = reference.moved_in_order(g, given["id"].labels.tolist(), before.tolist(), 0.7)
    assert (expected * torch.tensor(in_order)).sum(1).min() > 0.9, "near the moves one after the other"
    unseen = sorted(set(range(4)) - set(given["id"].labels.tolist()))
    assert unseen and torch.allclose(expected[unseen], before[unseen])


def test_concentration_and_projection_learn_and_prototypes_do_not() -> None:
    net = classifier("vectors")
    step = TrainingStep(net, SIREN(dimensions=5))
    step(batch("vectors"))["siren"].backward()
    head = net.heads["vmf"]
    assert not head.prototypes.requires_grad  # type: ignore[union-attr]
    for parameter in head.parameters():
        assert parameter.grad is not None and parameter.grad.abs().max() > 1e-5


def test_a_class_of_tight_rows_becomes_concentrated() -> None:
    net = Classifier(nn.Identity(), nn.Linear(3, 2))
    step = TrainingStep(net, SIREN(dimensions=3, concentration=1.0))
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(200, 3, generator=generator)
    x = torch.cat([torch.tensor([4.0, 0, 0]) + 0.1 * noise, torch.tensor([0, 4.0, 0]) + 2 * noise])
    y = torch.arange(400) // 200
    optimizer = torch.optim.Adam(step.parameters(), lr=0.05)
    for _ in range(60):
        optimizer.zero_grad()
        total(step((x, y))).backward()
        optimizer.step()
        step.after_update()
    tight, wide = net.heads["vmf"].concentration.tolist()  # type: ignore[operator, union-attr]
    assert tight > wide > 0
    scores = evaluate(net, [x], {"unknown": [-x]}, ["vmf"]).scores
    assert np.median(scores["unknown"]["vmf"]) > np.quantile(scores["id"]["vmf"], 0.9)


def test_densities_that_would_overflow_have_a_finite_softmax() -> None:
    g, p, _, _ = rows(torch.float32)
    kappa = torch.tensor([1e4, 2e4, 1e-6, -1.0], requires_grad=True)
    found = log_densities(normalize(g), p, kappa)
    SIREN()(found, LABELS).backward()
    assert found.isfinite().all() and kappa.grad is not None and kappa.grad.isfinite().all()


def test_two_batches_can_share_one_backward_pass() -> None:
    """The prototypes of the first one have moved in place when the second one is computed."""
    step = TrainingStep(classifier("images"), SIREN(dimensions=5))
    losses = [total(step(batch("images", seed=seed))) for seed in (0, 1)]
    torch.stack(losses).sum().backward()


def test_a_batch_of_one_row_and_of_none() -> None:
    net = classifier("images")
    step = TrainingStep(net, SIREN(dimensions=5))
    for count in (1, 0):
        given = batch("images")
        part = Part(given["id"].rows[:count], given["id"].labels[:count])
        terms = step(given.with_part("id", part))
        assert all(term.isfinite() for term in terms.values())
        total(terms).backward()
        step.after_update()
    assert net.heads["vmf"].prototypes.isfinite().all()  # type: ignore[union-attr, operator]


def test_densities_are_float32_under_autocast() -> None:
    net = classifier("vectors")
    TrainingStep(net, SIREN(dimensions=5))
    h = torch.randn(9, 7)
    head = net.heads["vmf"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, projected = head(h), head.projection(h)  # type: ignore[union-attr, operator]
    exact = log_densities(normalize(projected.float()), head.prototypes, head.concentration)  # type: ignore[arg-type]
    assert found.dtype == torch.float32 and torch.equal(found, exact)


def test_the_projection_is_shared_and_another_size_refused() -> None:
    step = TrainingStep(classifier("images"), SIREN(dimensions=5), PALM(dimensions=5))
    assert {"siren", "palm", "cross_entropy"} <= set(step(batch("images")))
    with pytest.raises(ValueError, match="has a head 'projection' of sizes") as refusal:
        TrainingStep(classifier("images"), SIREN(dimensions=6), PALM(dimensions=5))
    assert is_one_sentence(str(refusal.value))


def test_trained_densities_stay_when_a_second_step_is_built() -> None:
    net = classifier("vectors")
    TrainingStep(net, SIREN(dimensions=5))
    head = net.heads["vmf"]
    TrainingStep(net, SIREN(dimensions=5, concentration=3.0))
    assert net.heads["vmf"] is head and head.concentration.tolist() == [10.0] * 4  # type: ignore[union-attr, operator]


def test_a_thousand_classes_take_little_to_save() -> None:
    net = Classifier(nn.Flatten(), nn.Linear(2048, 1000))
    step = TrainingStep(net, SIREN())
    more = sum(value.nbytes for name, value in step.state_dict().items() if ".heads." in name)
    assert more < 40e6, "of which the projection of 2048 features takes 17 MB, twice by name"
