"""Reciprocal points: the head's logits, the bound on distances, and their orientation."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, one_hot

from oodles import ARPL, Classifier, TrainingStep, evaluate
from oodles.methods.arpl import ReciprocalPoints, excess, squared_distances

from ..contract.networks import batch, classifier
from ..references import arpl as reference

ACCURACY = {torch.float64: 1e-12, torch.float32: 5e-6}
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Features, points and soft targets."""
    generator = torch.Generator().manual_seed(5)
    h = torch.randn(6, 8, generator=generator, dtype=torch.float64)
    p = torch.randn(4, 8, generator=generator, dtype=torch.float64)
    return h.to(dtype), p.to(dtype), torch.rand(6, 4, generator=generator, dtype=torch.float64).softmax(1)


def head_with(points: Tensor, temperature: float = 1.0) -> ReciprocalPoints:
    head = ReciprocalPoints(points.shape[1], len(points), temperature).to(points.dtype)
    with torch.no_grad():
        head.points.copy_(points)
    return head


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_papers_equations(dtype: torch.dtype, mixed: bool) -> None:
    h, p, y = rows(dtype)
    wide = h.double().tolist(), p.double().tolist()
    shares = (y if mixed else one_hot(LABELS, 4)).tolist()
    expected = reference.logits(*wide)
    for temperature in (1.0, 2.5):
        found = head_with(p, temperature)(h) * temperature
        torch.testing.assert_close(found.double(), torch.tensor(expected).double(), rtol=1e-5, atol=ACCURACY[dtype])
    method = ARPL(weight=0.3, margin=0.4).to(dtype)
    with torch.no_grad():
        method.radius.fill_(1.9)
    bound = reference.excess(*wide, shares, 1.9, 0.4)
    assert 0 < bound < reference.excess(*wide, shares, 0.0, 0.4) - 1, "some hinges are active"
    assert method(h, p, y if mixed else LABELS).item() == pytest.approx(0.3 * bound, rel=ACCURACY[dtype])


def test_the_bound_is_torchs_ranking_loss_in_the_authors_orientation() -> None:
    h, p, _ = rows()
    own = (h - p[LABELS]).square().mean(1)
    for radius in (0.0, 2.0, 3.5):
        r = torch.tensor([radius], dtype=torch.float64)
        theirs = nn.MarginRankingLoss(margin=1.0)(r, own, torch.ones(6, dtype=torch.float64))
        torch.testing.assert_close(excess(squared_distances(h, p), LABELS, r[0]), theirs)


def test_the_class_whose_reciprocal_point_is_farthest_has_the_highest_logit() -> None:
    points = torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]])
    features = torch.tensor([[-5.0, 1.0], [1.0, -5.0], [4.0, 4.0], [0.0, 0.0]])
    logits = head_with(points)(features)
    assert logits[:3].argmax(1).tolist() == [0, 1, 2]
    assert logits[:3].amax(1).min() > logits[3].max(), "and features near zero belong to nobody"
    found = evaluate(Classifier(nn.Identity(), head_with(points)), [features], {}, ["max-logit"]).scores["id"]
    assert found["max-logit"].argmax() == 3


def test_a_step_trains_points_and_radius() -> None:
    net, method = classifier("vectors", dtype=torch.float64), ARPL(temperature=0.5)
    step = TrainingStep(net, method)
    head, given = net.head, batch("vectors", dtype=torch.float64)
    assert isinstance(head, ReciprocalPoints) and head.points.dtype == method.radius.dtype == torch.float64
    terms = step(given)
    x, targets = given["id"].inputs, given["id"].targets
    assert isinstance(x, Tensor) and targets is not None
    h = net.features(x)
    torch.testing.assert_close(terms["cross_entropy"], cross_entropy(net(x), targets))
    wide = h.tolist(), head.points.tolist()
    torch.testing.assert_close(2 * torch.tensor(reference.logits(*wide)).double(), net(x))
    expected = 0.1 * reference.excess(*wide, one_hot(targets, 4).tolist(), 0.0, 1.0)
    assert terms["reciprocal_margin"].item() == pytest.approx(expected, rel=1e-12)
    sum(terms.values()).backward()
    assert method.radius.grad is not None and method.radius.grad.item() == pytest.approx(-0.1), "all rows are outside"
    assert head.points.grad is not None and head.points.grad.abs().min() > 0
    assert any(parameter is method.radius for parameter in step.parameters())


def test_inside_of_the_sphere_nothing_pulls() -> None:
    h, p, _ = rows()
    radius = torch.tensor(50.0, dtype=torch.float64, requires_grad=True)
    loss = excess(squared_distances(h.requires_grad_(), p), LABELS, radius)
    loss.backward()
    assert loss.item() == 0 and h.grad is not None and not h.grad.any()


def test_points_start_near_zero_and_are_kept_by_a_second_step() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert ReciprocalPoints(400, 100).points.std().item() == pytest.approx(0.1, rel=0.02)
    net = classifier("images")
    TrainingStep(net, ARPL())
    head = net.head
    TrainingStep(net, ARPL(temperature=3.0))
    assert net.head is head and head.temperature == 3.0


def test_the_head_computes_in_float32_under_autocast() -> None:
    h, p, _ = rows(torch.float32)
    head = head_with(p)
    expected = head(h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(h), expected)
        half = head(h.bfloat16())
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, head(h.bfloat16().float()), rtol=0, atol=0)


def test_no_rows_and_a_row_on_its_point() -> None:
    h, p, _ = rows(torch.float32)
    empty = h[:0].requires_grad_()
    loss = ARPL()(empty, p, LABELS[:0])
    loss.backward()
    assert loss.item() == 0 and empty.grad is not None
    assert squared_distances(p, p).diagonal().tolist() == pytest.approx([0] * 4, abs=1e-6)
    assert ARPL()(p, p, torch.arange(4)).item() == pytest.approx(0.1, rel=1e-5), "a margin of 1 beyond R = 0"
