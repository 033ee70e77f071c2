"""Generalized ODIN: quotients, the batch norm of the gate, its moving averages, and two scores."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import GODIN, Batch, Classifier, Now, Outputs, Part, TrainingStep, evaluate
from oodles.methods import score_named
from oodles.methods.g_odin import Perturbed, QuotientHead, Unperturbed

from ..contract.networks import classifier as network
from ..contract.networks import inputs as network_inputs
from ..contract.steps import is_one_sentence
from ..references import g_odin as reference
from ..references.equations import cross_entropy
from .linear import BIAS, PRECISIONS, TARGETS, WEIGHT, classifier, features, targets

FORMS = ["cosine", "euclidean", "inner"]
GATE, SCALE, SHIFT = [0.3, -0.7, 0.2, 0.9, -0.4], 0.8, 0.25


def step_of(form: str, dtype: torch.dtype = torch.float64) -> TrainingStep:
    """A step whose head has numbers that are known."""
    step = TrainingStep(classifier(dtype), GODIN(form=form))
    head = head_of(step.classifier)
    with torch.no_grad():
        head.h.weight.copy_(torch.tensor(WEIGHT, dtype=torch.float64))
        if form == "inner":
            head.h.bias.copy_(torch.tensor(BIAS, dtype=torch.float64))
        head.g.weight.copy_(torch.tensor([GATE], dtype=torch.float64))
        head.scale.fill_(SCALE)
        head.shift.fill_(SHIFT)
    return step


def head_of(net: Classifier) -> QuotientHead:
    assert isinstance(net.head, QuotientHead)
    return net.head


def similarities(form: str, rows: Tensor) -> list[list[float]]:
    return [[reference.similarity(form, row, w, b) for w, b in zip(WEIGHT, BIAS, strict=True)] for row in rows.tolist()]


def quotients(form: str, rows: Tensor, statistics_of: Tensor) -> list[list[float]]:
    gates = reference.gates(rows.tolist(), GATE, SCALE, SHIFT, statistics_of.tolist())
    return [[h / g for h in row] for row, g in zip(similarities(form, rows), gates, strict=True)]


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("kind", TARGETS)
def test_the_loss(form: str, kind: str, dtype: torch.dtype, accuracy: float) -> None:
    x = features(signed=True)
    expected = cross_entropy(np.array(quotients(form, x, x)), np.array(TARGETS[kind]))
    found = step_of(form, dtype)((x.to(dtype), targets(kind, dtype)))["cross_entropy"]
    assert found.item() == pytest.approx(expected, rel=5 * accuracy)


@pytest.mark.parametrize("form", FORMS)
def test_every_part_is_divided_by_gates_with_the_statistics_of_known_rows(form: str) -> None:
    step, x, outliers = step_of(form), features(signed=True), features(6, seed=1, signed=True)
    method = step.methods[0]
    assert isinstance(method, GODIN)
    rows = {"id": x, "outliers": outliers}
    given = Batch({role: Part(features) for role, features in rows.items()})
    outputs = Outputs(rows, {role: step.classifier(features) for role, features in rows.items()})
    found = method.change_outputs(outputs, given, Now(step.classifier)).logits
    for role, features_of_role in rows.items():
        expected = torch.tensor(quotients(form, features_of_role, x), dtype=torch.float64)
        torch.testing.assert_close(found[role], expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(method(x, head_of(step.classifier)), found["id"])


@pytest.mark.parametrize("form", FORMS)
def test_the_trained_classifier_uses_moving_averages(form: str) -> None:
    step, x = step_of(form), features(8, signed=True)
    head = head_of(step.classifier)
    assert (head.mean.item(), head.variance.item()) == (0.0, 1.0)
    mean, variance = reference.unbiased([reference.dot(GATE, row) for row in x.tolist()])
    for count in (1, 2):
        step((x, torch.arange(8) % 3))
        step.after_update()
        step.after_update()
        kept = 0.9**count
        assert head.mean.item() == pytest.approx((1 - kept) * mean)
        assert head.variance.item() == pytest.approx(kept + (1 - kept) * variance)
    normed = [
        (reference.dot(GATE, row) - head.mean.item()) / math.sqrt(head.variance.item() + 1e-5) for row in x.tolist()
    ]
    gates = [1 / (1 + math.exp(-(SCALE * v + SHIFT))) for v in normed]
    expected = [[h / g for h in row] for row, g in zip(similarities(form, x), gates, strict=True)]
    for mode in (True, False):
        torch.testing.assert_close(step.classifier.train(mode)(x), torch.tensor(expected, dtype=torch.float64))


def test_the_moving_averages_are_those_of_batch_norm() -> None:
    norm, step = nn.BatchNorm1d(1, dtype=torch.float64), step_of("inner")
    head = head_of(step.classifier)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    for seed in range(5):
        x = features(7, seed=seed, signed=True)
        norm(x @ head.g.weight.detach().T)
        optimizer.zero_grad()
        step((x, torch.arange(7) % 3))["cross_entropy"].backward()
        optimizer.step()  # the averages are of what the batch norm saw, before this
        step.after_update()
    torch.testing.assert_close(head.mean, norm.running_mean)
    torch.testing.assert_close(head.variance, norm.running_var)


@pytest.mark.parametrize("rows", [0, 1])
def test_batches_too_small_for_batch_norm(rows: int) -> None:
    step = step_of("cosine")
    loss = step((features(rows), torch.zeros(rows, dtype=torch.long)))["cross_entropy"]
    loss.backward()
    step.after_update()
    assert loss.isfinite() and all(value.isfinite().all() for value in step.state_dict().values())


def test_a_row_that_is_not_known_at_all_stays_finite() -> None:
    net = step_of("euclidean", torch.float32).classifier
    for far in (1e6, -1e6):
        logits = net(far * torch.ones(1, 5))
        assert logits.isfinite().all()
    slope = torch.tensor([[-1e4, 0, 0, 0, 0]], requires_grad=True)
    net(slope).sum().backward()
    assert slope.grad is not None and slope.grad.isfinite().all()


def test_weights_of_the_similarity_do_not_decay() -> None:
    step = step_of("inner")
    plain, own = step.parameter_groups(0.1)
    head = head_of(step.classifier)
    assert own["weight_decay"] == 0.0 and own["lr"] == 0.1
    assert [id(p) for p in own["params"]] == [id(head.h.weight), id(head.h.bias)]
    assert {id(p) for p in plain["params"]} == {id(head.g.weight), id(head.scale), id(head.shift)}


def test_a_trained_head_stays_in_a_second_step_of_the_same_form() -> None:
    net = step_of("cosine").classifier
    head = net.head
    TrainingStep(net, GODIN(form="cosine"))
    assert net.head is head
    TrainingStep(net, GODIN(form="inner"))
    assert net.head is not head and head_of(net).h.bias.abs().sum() == 0


# scores


@pytest.mark.parametrize("form", FORMS)
def test_the_score_without_perturbation(form: str) -> None:
    net, x = step_of(form).classifier, features(6, signed=True)
    expected = [-max(row) for row in similarities(form, x)]
    found = evaluate(net.requires_grad_(False), [x], {}, ["g-odin-unperturbed"]).scores["id"]["g-odin-unperturbed"]
    assert found.tolist() == pytest.approx(expected, rel=1e-12)
    assert Perturbed(epsilon=0).of(net, x, x, x).tolist() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("epsilon", [0.0025, 0.08])
def test_the_score_with_perturbation(form: str, epsilon: float) -> None:
    net, x = step_of(form).classifier, features(6, signed=True)
    moved = [reference.perturbed(form, row, WEIGHT, BIAS, epsilon) for row in x.tolist()]
    expected = [-max(row) for row in similarities(form, torch.tensor(moved, dtype=torch.float64))]
    score = Perturbed(epsilon)
    found = evaluate(net, [x[:4], x[4:]], {}, [score]).scores["id"][score.name]
    assert found.tolist() == pytest.approx(expected, rel=1e-10)
    assert all(p.grad is None for p in net.parameters()) and not x.requires_grad
    assert (torch.tensor(found) < Unperturbed().of(net, x, x, x)).all(), "a step brings every row nearer"


def test_names() -> None:
    assert score_named("g-odin").name == "g-odin" and score_named("g-odin").differentiates
    assert Perturbed(0.01).name == "g-odin(epsilon=0.01)" and not Unperturbed().differentiates
    with pytest.raises(ValueError, match=r"epsilon must be a finite number >= 0, got -0\.1"):
        Perturbed(-0.1)


@pytest.mark.parametrize("name", ["g-odin", "g-odin-unperturbed"])
def test_other_classifiers_are_refused(name: str) -> None:
    x = features()
    with pytest.raises(ValueError, match=f"{name} needs the last layer that the method g-odin makes") as refusal:
        evaluate(classifier(), [x], {}, [name])
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match=f"{name} needs features and Linear gives logits alone"):
        evaluate(nn.Linear(5, 3).double(), [x], {}, [name])
    with pytest.raises(ValueError, match="reads the classifier's head: call of") as refusal:
        score_named(name)(x, x)
    assert is_one_sentence(str(refusal.value))


def test_tokens_stay_as_they_are() -> None:
    net = network("tokens")
    TrainingStep(net, GODIN())
    tokens = network_inputs("tokens", 5)
    scores = evaluate(net, [tokens], {}, ["g-odin", "g-odin-unperturbed"]).scores["id"]
    assert scores["g-odin"].tolist() == scores["g-odin-unperturbed"].tolist()
