"""The confidence branch: hints, the price of them, how the price is steered, and both scores."""

import copy
import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, log_softmax

from oodles import Classifier, ConfidenceBranch, TrainingStep, evaluate
from oodles.methods import score_named
from oodles.methods.confidence_branch import (
    Confidence,
    ConfidencePerturbed,
    confidence_penalty,
    draw_hints,
    hinted_cross_entropy,
)

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import confidence_branch as reference

ACCURACY = {torch.float64: 1e-12, torch.float32: 2e-6}
HINTS = torch.tensor([True, False, True, True, False, True, False])
LABELS = torch.tensor([0, 1, 2, 3, 3, 1, 0])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, what the confidence head says, and soft targets, one of them with a class that has no share."""
    generator = torch.Generator().manual_seed(4)
    z = 3 * torch.randn(7, 4, generator=generator, dtype=torch.float64)
    a = 2 * torch.randn(7, 1, generator=generator, dtype=torch.float64)
    y = torch.rand(7, 4, generator=generator, dtype=torch.float64).softmax(1)
    y[2] = torch.tensor([0.25, 0.75, 0, 0])
    return z.to(dtype), a.to(dtype), y.to(dtype)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("soft", [False, True])
def test_the_papers_equations(dtype: torch.dtype, soft: bool) -> None:
    z, a, y = rows(dtype)
    targets = y if soft else LABELS
    shares = y.double() if soft else nn.functional.one_hot(LABELS, 4).double()
    wide = z.double().tolist(), a.double().flatten().tolist()
    expected = reference.hinted_cross_entropy(*wide, shares.tolist(), HINTS.tolist())
    found = hinted_cross_entropy(z, a, targets, HINTS)
    assert found.dtype == dtype and found.item() == pytest.approx(expected, rel=ACCURACY[dtype])
    penalty = confidence_penalty(a)
    assert penalty.item() == pytest.approx(reference.confidence_penalty(wide[1]), rel=ACCURACY[dtype])
    whole = ConfidenceBranch(weight=0.7)(z, a, targets, generator=torch.Generator().manual_seed(1))
    drawn = draw_hints(7, torch.Generator().manual_seed(1))
    assert 0 < drawn.sum() < 7
    expected = reference.hinted_cross_entropy(*wide, shares.tolist(), drawn.tolist())
    expected += 0.7 * reference.confidence_penalty(wide[1])
    assert whole.item() == pytest.approx(expected, rel=ACCURACY[dtype])


@pytest.mark.parametrize("soft", [False, True])
def test_limits(soft: bool) -> None:
    z, _, y = rows()
    targets = y if soft else LABELS
    sure, unsure = torch.full((7, 1), 60.0).double(), torch.full((7, 1), -60.0).double()
    plain = cross_entropy(z, targets)
    everybody, nobody = torch.ones(7, dtype=torch.bool), torch.zeros(7, dtype=torch.bool)
    torch.testing.assert_close(hinted_cross_entropy(z, sure, targets, everybody), plain)
    torch.testing.assert_close(hinted_cross_entropy(z, unsure, targets, nobody), plain)
    told = hinted_cross_entropy(z, unsure, targets, everybody).item()
    assert told == pytest.approx(-y.xlogy(y).sum(1).mean().item() if soft else 0, abs=1e-12), "the entropy of y"
    assert hinted_cross_entropy(z[:0], sure[:0], targets[:0], everybody[:0]).item() == 0


def test_logarithms_change_no_value_of_the_clamped_formula() -> None:
    """The authors' program: probabilities clamped to [1e-12, 1 − 1e-12], then mixed, then logarithms."""
    z, a, _ = rows()
    p, c = (value.clamp(1e-12, 1 - 1e-12) for value in (z.softmax(1), a.sigmoid()))
    b, y = HINTS.double()[:, None], nn.functional.one_hot(LABELS, 4)
    c_new = c * b + (1 - b)
    theirs = nn.functional.nll_loss((p * c_new + y * (1 - c_new)).log(), LABELS)
    torch.testing.assert_close(hinted_cross_entropy(z, a, LABELS, HINTS), theirs, rtol=1e-9, atol=0)


@pytest.mark.parametrize("hint", [True, False])
def test_rows_that_are_sure_and_wrong_still_learn(hint: bool) -> None:
    z = torch.tensor([[90.0, -90.0]], requires_grad=True)
    a = torch.tensor([[80.0]], requires_grad=True)
    loss = hinted_cross_entropy(z, a, torch.tensor([1]), torch.tensor([hint]))
    loss.backward()
    assert loss.item() == pytest.approx(80 if hint else 180, rel=1e-6)
    assert z.grad is not None and a.grad is not None
    # a hint of 1 − c = e^-80 beats p = e^-180, so it is the confidence that has to fall
    assert z.grad[0].tolist() == pytest.approx([0, 0] if hint else [1, -1], abs=1e-6)
    assert a.grad.item() == pytest.approx(1 if hint else 0, abs=1e-6)


@pytest.mark.parametrize(("said", "factor"), [(3.0, 1 / 1.01), (-3.0, 1 / 0.99)])
def test_the_price_falls_below_the_budget_and_rises_above(said: float, factor: float) -> None:
    method = ConfidenceBranch()
    assert (math.log1p(math.exp(-said)) < method.budget) == (factor < 1)
    method.steer(torch.full((5, 1), said))
    assert method.multiplier.item() == pytest.approx(0.1 * factor, rel=1e-14)
    method.steer(torch.zeros(0, 1))
    assert method.multiplier.item() == pytest.approx(0.1 * factor, rel=1e-14), "no rows say nothing"


def test_a_penalty_of_exactly_the_budget_raises_the_price() -> None:
    method = ConfidenceBranch(budget=math.log(2))
    method.steer(torch.zeros(2, 1, dtype=torch.float64))
    assert method.multiplier.item() == pytest.approx(0.1 / 0.99, rel=1e-14)


def test_a_step_uses_the_price_before_it_is_steered() -> None:
    net, method = classifier("vectors", dtype=torch.float64), ConfidenceBranch()
    step = TrainingStep(net, method, seed=3)
    head = net.heads["confidence"]
    assert isinstance(head, nn.Linear)
    penalties: list[float] = []
    for seed, bias in enumerate((-3, -2, 4, -3)):
        with torch.no_grad():
            head.bias.fill_(bias)
        prepared = step.prepare(batch("vectors", dtype=torch.float64, seed=seed))
        price = method.multiplier.item()
        assert price == pytest.approx(reference.steered(0.1, penalties, 0.3), rel=1e-12)
        terms = step.losses(prepared)
        assert set(terms) == {"hinted_cross_entropy", "confidence_penalty"}
        x, targets = prepared["id"].inputs, prepared["id"].targets
        assert isinstance(x, Tensor) and targets is not None
        said = head(net.features(x))
        hints = prepared.draws["confidence_hints"]
        expected = hinted_cross_entropy(net(x), said, targets, hints)
        torch.testing.assert_close(terms["hinted_cross_entropy"], expected, rtol=1e-12, atol=0)
        penalty = confidence_penalty(said).item()
        assert terms["confidence_penalty"].item() == pytest.approx(price * penalty, rel=1e-12)
        step.after_update()
        penalties.append(penalty)
    assert [value < 0.3 for value in penalties] == [False, False, True, False]


def test_a_price_that_moves_between_two_losses_and_their_backward_pass() -> None:
    step = TrainingStep(classifier("vectors", dtype=torch.float64), ConfidenceBranch())
    first = total(step(batch("vectors", dtype=torch.float64)))
    second = total(step(batch("vectors", dtype=torch.float64, seed=1)))
    (first + second).backward()


def test_half_of_the_rows_get_hints() -> None:
    hints = draw_hints(20_000, torch.Generator().manual_seed(0))
    assert hints.double().mean().item() == pytest.approx(0.5, abs=0.02)
    step = TrainingStep(classifier("images"), ConfidenceBranch())
    drawn = torch.stack([step.prepare(batch("images")).draws["confidence_hints"] for _ in range(30)])
    assert drawn.shape == (30, 6) and (drawn.any(0) & ~drawn.all(0)).all(), "each row, in some steps"


def test_rows_whose_labels_cannot_be_known_get_the_lower_confidence() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        x = torch.cat([torch.randn(200, 2) + 4, torch.randn(200, 2) - 4])
        y = torch.cat([(x[:200, 0] > 4).long(), torch.randint(2, (200,))])
        net = Classifier(nn.Sequential(nn.Linear(2, 16), nn.Tanh()), nn.Linear(16, 2))
        step = TrainingStep(net, ConfidenceBranch())
        optimizer = torch.optim.Adam(step.parameters(), lr=0.02)
        for _ in range(250):
            optimizer.zero_grad()
            total(step((x, y))).backward()
            optimizer.step()
            step.after_update()
    found = torch.from_numpy(evaluate(net, [x], {}, ["confidence"]).scores["id"]["confidence"])
    assert found[200:].quantile(0.1) > found[:200].median()
    mean = -(1 - found).log().mean().item()
    assert mean == pytest.approx(0.3, rel=0.3), "and the mean of −log c stays near the budget"


def linear() -> Classifier:
    """c = σ(a) with a = w·x + 0.3."""
    net = Classifier(nn.Flatten(), nn.Linear(3, 2))
    head = net.add_head("confidence", 1)
    assert isinstance(head, nn.Linear)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[2.0, -1.0, 0.5]])), head.bias.fill_(0.3)
    return net


def test_scores() -> None:
    net = linear()
    x = torch.tensor([[0.1, 0.9, 0.4], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    a = [0.3 + 2 * u - v + 0.5 * w for u, v, w in x.tolist()]
    found = evaluate(net, [x], {}, ["confidence", "confidence-perturbed", ConfidencePerturbedMore()]).scores["id"]
    assert found["confidence"].tolist() == pytest.approx([1 - reference.sigmoid(v) for v in a], rel=1e-6)
    for name, epsilon in (("confidence-perturbed", 0.00025), ("more", 0.1)):  # every pixel moves by ε towards c
        expected = [1 - reference.sigmoid(v + epsilon * 3.5) for v in a]
        assert found[name].tolist() == pytest.approx(expected, rel=1e-6)


class ConfidencePerturbedMore(ConfidencePerturbed):
    name = "more"

    def __init__(self) -> None:
        super().__init__(epsilon=0.1)


def test_the_perturbed_score_leaves_everything_as_it_was() -> None:
    net = linear().train()
    x = torch.rand(4, 3)
    before, weights = x.clone(), copy.deepcopy(net.state_dict())
    evaluate(net, [x], {}, ["confidence-perturbed"])
    assert torch.equal(x, before) and not x.requires_grad
    assert all(parameter.grad is None for parameter in net.parameters()) and net.training
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())


def test_confident_rows_keep_their_order_in_float32() -> None:
    said = torch.arange(-10, 85.0)[:, None]
    scores = Confidence()(said, said, said)
    assert (scores.diff() < 0).all() and scores.min() > 0 and scores.max() < 1


def test_dense_confidence_is_one_number_per_pixel() -> None:
    given = batch("dense")
    net = classifier("dense")
    TrainingStep(net, ConfidenceBranch())
    x = given["id"].inputs
    assert isinstance(x, Tensor)
    features = net.features(x)
    score = score_named("confidence").of(net, x, features, net.head(features))
    by_pixel = net.heads["confidence"](features)[:, 0]
    torch.testing.assert_close(score, 1 - by_pixel.sigmoid())


def test_inputs_without_a_gradient_are_refused_by_the_perturbed_score() -> None:
    net = classifier("tokens")
    TrainingStep(net, ConfidenceBranch())
    with pytest.raises(TypeError, match="needs one floating-point tensor of inputs, got a dict") as refusal:
        evaluate(net, [batch("tokens")["id"].inputs], {}, ["confidence-perturbed"])
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("epsilon", [-0.1, math.nan, math.inf])
def test_wrong_steps_are_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be a finite number >= 0, got"):
        ConfidencePerturbed(epsilon=epsilon)


def test_rows_of_different_lengths_are_refused() -> None:
    z, a, _ = rows()
    with pytest.raises(
        ValueError, match=r"confidence must have shape \(n, 1\) with n = 7, as logits has, got \(6, 1\)"
    ):
        ConfidenceBranch()(z, a[1:], LABELS)


def test_targets_may_be_mixed_in_the_paper_s_formula() -> None:
    """y is a distribution in equation 3: where p is right already, a hint is worth nothing."""
    _, a, y = rows()
    torch.testing.assert_close(
        hinted_cross_entropy(y.clamp(min=1e-30).log(), a, y, HINTS), -y.xlogy(y).sum(1).mean(), rtol=1e-12, atol=1e-12
    )
    assert log_softmax(y.log(), 1).isinf().any(), "with a class that has no share"
