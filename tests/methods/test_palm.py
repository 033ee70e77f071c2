"""PALM: the assignment, the moves of prototypes, their likelihood and contrast, and what has no gradient."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from oodles import PALM, Part, TrainingStep
from oodles.methods.palm import assignment, nearest_of_class

from ..contract.networks import batch, classifier
from ..references import palm as reference

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 0])
SETTINGS = {"nearest": 2, "prototype_momentum": 0.7, "temperature": 0.3, "spread": 0.6}


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Projections and prototypes at unit length, class ids and soft targets as probabilities; three prototypes each."""
    generator = torch.Generator().manual_seed(3)
    g, p = (normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64)) for n in (7, 12))
    soft = (3 * torch.rand(7, 4, generator=generator, dtype=torch.float64)).softmax(1)
    return g.to(dtype), p.to(dtype), one_hot(LABELS, 4).to(dtype), soft.to(dtype)


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_equations(dtype: torch.dtype, mixed: bool) -> None:
    g, p, hard, soft = rows(dtype)
    y = soft if mixed else hard
    accuracy = 1e-10 if dtype == torch.float64 else 1e-4
    wide = g.double().tolist(), y.double().tolist(), p.double().tolist()
    method = PALM(weight=0.8, prototypes=3, **SETTINGS)
    torch.testing.assert_close(
        method.moved(g, y, p).double(),
        torch.tensor(reference.moved(*wide, 2, 0.7), dtype=torch.float64),
        rtol=accuracy,
        atol=accuracy,
    )
    expected = reference.loss(*wide, nearest=2, momentum=0.7, temperature=0.3, spread=0.6)
    assert method(3 * g, y, p).item() == pytest.approx(0.8 * expected, rel=accuracy)


def test_all_prototypes_get_as_much_of_the_rows() -> None:
    g, p, _, _ = rows()
    shares = assignment(g, p)
    torch.testing.assert_close(shares.sum(1), torch.ones(7, dtype=torch.float64))
    torch.testing.assert_close(shares, torch.tensor(reference.assignment(g.tolist(), p.tolist())).double())
    for _ in range(200):
        shares = normalize(normalize(shares, p=1, dim=0), p=1, dim=1)
    torch.testing.assert_close(shares.sum(0), torch.full((12,), 7 / 12, dtype=torch.float64))


def test_a_prototype_is_of_the_class_that_its_number_is_modulo_the_classes() -> None:
    kept = nearest_of_class(torch.rand(7, 12) + 0.1, one_hot(LABELS, 4).float(), 2)
    for row, label in zip(kept, LABELS.tolist(), strict=True):
        places = row.nonzero().flatten()
        assert len(places) == 2 and set((places % 4).tolist()) == {label}


def test_a_class_without_rows_keeps_its_prototypes() -> None:
    g, p, hard, _ = rows()
    moved = PALM(**SETTINGS).moved(g, hard, p)
    torch.testing.assert_close(moved[3::4], p[3::4])
    assert not torch.isclose(moved[0::4], p[0::4]).all()


def test_the_likelihood_pulls_rows_alone_and_the_contrast_has_a_gradient_through_the_moves() -> None:
    g, p, hard, _ = rows()
    slopes = {}
    for spread in (0.0, 1.0):
        own = g.clone().requires_grad_()
        method = PALM(weight=1.0, nearest=2, prototype_momentum=0.7, temperature=0.3, spread=spread)
        method._loss(own, hard, p, slice(0, 7)).backward()
        slopes[spread] = own.grad
    again = g.clone().requires_grad_()
    after = torch.tensor(reference.moved(g.tolist(), hard.tolist(), p.tolist(), 2, 0.7), dtype=torch.float64)
    shares = reference.of_class(reference.assignment(g.tolist(), after.tolist()), hard.tolist(), 2)
    weights = normalize(torch.tensor(shares, dtype=torch.float64), p=1, dim=1)
    near = again @ after.T / 0.3
    (near.logsumexp(1) - (weights * near).sum(1)).mean().backward()
    torch.testing.assert_close(slopes[0.0], again.grad)
    assert not torch.allclose(slopes[0.0], slopes[1.0]), "the contrast moves rows"


def test_prototypes_move_after_the_update_by_the_rows_of_the_step() -> None:
    net = classifier("images", dtype=torch.float64)
    method = PALM(dimensions=5, prototypes=3, nearest=2, prototype_momentum=0.7)
    step = TrainingStep(net, method, seed=2)
    before = method.centers.clone()
    torch.testing.assert_close(before.norm(dim=1), torch.ones(12, dtype=torch.float64))
    prepared = step.prepare(batch("images", dtype=torch.float64))
    step.losses(prepared)
    assert torch.equal(method.centers, before)
    step.after_update()
    views = [net.heads["projection"](net.features(prepared[role].rows)) for role in ("id", "view")]
    g = normalize(torch.cat(views))
    y = one_hot(prepared["id"].labels, 4).double().tolist()
    expected = reference.moved(g.tolist(), [*y, *y], before.tolist(), 2, 0.7)
    torch.testing.assert_close(method.centers, torch.tensor(expected, dtype=torch.float64))


def test_two_batches_can_share_one_backward_pass() -> None:
    """The prototypes of the first one have moved in place when the second one is computed."""
    step = TrainingStep(classifier("images"), PALM(dimensions=5))
    losses = [sum(step(batch("images", seed=seed)).values()) for seed in (0, 1)]
    torch.stack(losses).sum().backward()  # type: ignore[arg-type]  # tensors


def test_a_batch_of_one_row_and_of_none() -> None:
    step = TrainingStep(classifier("images"), PALM(dimensions=5))
    for count in (1, 0):
        given = batch("images")
        part = Part(given["id"].rows[:count], given["id"].labels[:count])
        terms = step(given.with_part("id", part))
        assert all(term.isfinite() for term in terms.values())
        torch.stack(list(terms.values())).sum().backward()
        step.after_update()
    assert step.methods[0].centers.isfinite().all()  # type: ignore[union-attr]  # a buffer


def test_a_thousand_classes_take_little_to_save() -> None:
    size = sum(value.nbytes for value in _thousand().state_dict().values())
    assert size < 4e6


def _thousand() -> PALM:
    from oodles import Classifier

    method = PALM()
    TrainingStep(Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 1000)), method)
    return method
