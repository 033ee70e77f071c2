"""CIDER: the moves of prototypes, compactness, dispersion, what has a gradient, and classes that were never seen."""

from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, one_hot

from oodles import CIDER, Classifier, LogitNorm, Part, TrainingStep
from oodles.methods.cider import compactness, dispersion, moved

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import cider as reference

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 0])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Projections and prototypes at unit length, class ids and soft targets as probabilities; class 3 has no row."""
    generator = torch.Generator().manual_seed(3)
    z, p = (normalize(torch.randn(n, 5, generator=generator, dtype=torch.float64)) for n in (7, 4))
    soft = (3 * torch.rand(7, 4, generator=generator, dtype=torch.float64)).softmax(1)
    return z.to(dtype), p.to(dtype), one_hot(LABELS, 4).to(dtype), soft.to(dtype)


@pytest.mark.parametrize("begun", ["one", "zero"])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_equations(dtype: torch.dtype, mixed: bool, begun: str) -> None:
    z, p, hard, soft = rows(dtype)
    y, p = soft if mixed else hard, torch.zeros_like(p) if begun == "zero" else p
    accuracy = 1e-10 if dtype == torch.float64 else 1e-4
    wide = z.double().tolist(), y.double().tolist()
    after = reference.moved(p.double().tolist(), *wide, 0.7)
    found = moved(p, z, y, 0.7)
    torch.testing.assert_close(
        found.double(), torch.tensor(after, dtype=torch.float64), rtol=accuracy, atol=accuracy / 10
    )
    near, apart = reference.compactness(wide[0], after, wide[1], 0.3), reference.dispersion(after, 0.3)
    assert compactness(z, found, y, 0.3).item() == pytest.approx(near, rel=accuracy)
    assert dispersion(found, 0.3).item() == pytest.approx(apart, rel=accuracy)
    method = CIDER(weight=0.8, compactness=3.0, temperature=0.3, prototype_momentum=0.7)
    assert method(2 * z, y, p).item() == pytest.approx(0.8 * (3 * near + apart), rel=accuracy)
    if not mixed:
        assert torch.equal(method(z, LABELS, p), method(z, y, p))


def test_one_row_of_each_class_moves_prototypes_as_in_order() -> None:
    z, p, _, _ = rows()
    labels = torch.tensor([2, 0, 3])
    expected = reference.moved_in_order(p.tolist(), z[:3].tolist(), labels.tolist(), 0.9)
    found = moved(p, z[:3], one_hot(labels, 4).double(), 0.9)
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64))


def test_no_order_matters_and_orders_differ_by_more_than_this() -> None:
    generator = torch.Generator().manual_seed(0)
    p, labels = normalize(torch.randn(3, 8, generator=generator, dtype=torch.float64)), torch.arange(60) % 3
    z = normalize(p[labels] + 0.1 * torch.randn(60, 8, generator=generator, dtype=torch.float64))
    found = moved(p, z, one_hot(labels).double(), 0.9)
    torch.testing.assert_close(moved(p, z.flip(0), one_hot(labels.flip(0)).double(), 0.9), found)
    in_orders = []
    for _ in range(10):
        order = torch.randperm(60, generator=generator)
        after = reference.moved_in_order(p.tolist(), z[order].tolist(), labels[order].tolist(), 0.9)
        in_orders.append(torch.tensor(after, dtype=torch.float64))
    ours = torch.stack([(found * other).sum(1) for other in in_orders]).mean()
    theirs = torch.stack([(a * b).sum(1) for a, b in pairwise(in_orders)]).mean()
    assert 0.999 < theirs < ours < 1


def test_dispersion_has_a_gradient_through_the_move_and_compactness_has_none() -> None:
    z, p, y, _ = rows()
    slopes = []
    for weights in ((1.0, 0.0), (0.0, 1.0)):
        own = z.clone().requires_grad_()
        near, apart = CIDER(weight=1.0, compactness=1.0, prototype_momentum=0.7)._terms(own, y, p)
        (slope,) = torch.autograd.grad(weights[0] * near + weights[1] * apart, own)
        slopes.append(slope)
    again = z.clone().requires_grad_()
    after = torch.tensor(reference.moved(p.tolist(), z.tolist(), y.tolist(), 0.7), dtype=torch.float64)
    nn.functional.cross_entropy(again @ after.T / 0.1, LABELS).backward()
    torch.testing.assert_close(slopes[0], again.grad)
    assert slopes[1].abs().amax(1).min() > 0


def test_classes_that_were_never_seen_are_left_out() -> None:
    z, _, y, _ = rows()
    zeros = torch.zeros(4, 5, dtype=torch.float64)
    after = moved(zeros, z, y, 0.95)
    assert not after[3].any()
    torch.testing.assert_close(compactness(z, after, y, 0.1), compactness(z, after[:3], y[:, :3], 0.1))
    torch.testing.assert_close(dispersion(after, 0.1), dispersion(after[:3], 0.1))
    torch.testing.assert_close(moved(after, z[:2], y[:2], 0.95)[2:], after[2:])
    for seen in (0, 1):
        own = torch.zeros(4, 5, dtype=torch.float64)
        own[:seen] = z[:seen]
        own.requires_grad_()
        none = dispersion(own, 0.1)
        none.backward()
        assert none.item() == 0 and own.grad is not None and not own.grad.any() and own.grad.isfinite().all()


def test_prototypes_move_after_the_update_by_the_rows_of_the_step() -> None:
    net = classifier("images", dtype=torch.float64)
    method = CIDER(dimensions=5, prototype_momentum=0.7)
    step = TrainingStep(net, method, seed=2)
    for seed in (0, 1):
        before = method.prototypes.clone()
        prepared = step.prepare(batch("images", dtype=torch.float64, seed=seed))
        terms = step.losses(prepared)
        assert torch.equal(method.prototypes, before) and before.any() == bool(seed)
        step.after_update()
        z = normalize(
            torch.cat([net.heads["projection"](net.features(prepared[role].rows)) for role in ("id", "view")])
        )
        y = one_hot(prepared["id"].labels.repeat(2), 4).double().tolist()
        expected = reference.moved(before.tolist(), z.tolist(), y, 0.7)
        torch.testing.assert_close(method.prototypes, torch.tensor(expected, dtype=torch.float64))
        near = reference.compactness(z.tolist(), expected, y, 0.1)
        assert terms["compactness"].item() == pytest.approx(0.1 * 2 * near, rel=1e-9)
        assert terms["dispersion"].item() == pytest.approx(0.1 * reference.dispersion(expected, 0.1), rel=1e-9)


def test_two_batches_can_share_one_backward_pass() -> None:
    """The prototypes of the first one have moved in place when the second one is computed."""
    step = TrainingStep(classifier("images"), CIDER(dimensions=5))
    torch.stack([total(step(batch("images", seed=seed))) for seed in (0, 1)]).sum().backward()


def test_a_batch_of_one_row_and_of_none() -> None:
    step = TrainingStep(classifier("images"), CIDER(dimensions=5))
    for count in (0, 1, 0):
        given = batch("images")
        terms = step(given.with_part("id", Part(given["id"].rows[:count], given["id"].labels[:count])))
        assert all(term.isfinite() for term in terms.values())
        total(terms).backward()
        step.after_update()
    assert (step.methods[0].prototypes != 0).any(1).sum() == 1  # type: ignore[union-attr,operator]  # a buffer
    assert all(p.grad is None or p.grad.isfinite().all() for p in step.parameters())


def test_alone_it_is_refused_beside_methods_that_change_logits() -> None:
    with pytest.raises(ValueError, match="cider alone and logit-norm both replace 'logits'") as no:
        TrainingStep(classifier("images"), CIDER(alone=True), LogitNorm())
    assert is_one_sentence(str(no.value))


def test_a_thousand_classes_take_little_to_save() -> None:
    method = CIDER()
    TrainingStep(Classifier(nn.Flatten(), nn.Linear(2048, 1000)), method)
    assert sum(value.nbytes for value in method.state_dict().values()) == 4 * 1000 * 128
