"""Evidential deep learning: the three forms, the divergence and its weight, the head and the score."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import EDL, Classifier, TrainingStep, evaluate
from oodles.methods import score_named
from oodles.methods.edl import Concentration, dirichlet_risk, log_concentration, misleading_evidence

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import edl as reference

ACCURACY = {torch.float64: 1e-11, torch.float32: 2e-5}
EVIDENCE, FORMS = ("relu", "softplus", "exp"), ("mse", "log", "digamma")
LABELS = torch.tensor([0, 1, 2, 3, 3, 1])
VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "recorded" / "values.json").read_text("utf-8"))


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """A network's outputs and soft targets."""
    generator = torch.Generator().manual_seed(6)
    z = 5 * torch.randn(6, 4, generator=generator, dtype=torch.float64)
    return z.to(dtype), torch.rand(6, 4, generator=generator, dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("evidence", EVIDENCE)
def test_the_papers_equations(evidence: str, form: str, mixed: bool, dtype: torch.dtype) -> None:
    z, y = rows(dtype)
    targets = y if mixed else LABELS
    shares = (y if mixed else one_hot(LABELS, 4)).tolist()
    risk, divergence = reference.edl(z.double().tolist(), shares, evidence, form)
    logits = log_concentration(z, evidence)
    assert logits.dtype == dtype
    assert dirichlet_risk(logits, targets, form).item() == pytest.approx(risk, rel=ACCURACY[dtype])
    assert misleading_evidence(logits, targets).item() == pytest.approx(divergence, rel=ACCURACY[dtype])
    whole = EDL(evidence=evidence, form=form)(z, targets, annealing=0.3)
    assert whole.item() == pytest.approx(risk + 0.3 * divergence, rel=ACCURACY[dtype])


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("form", FORMS)
def test_the_values_of_a_third_partys_program(form: str, dtype: torch.dtype) -> None:
    """dougbrion/pytorch-classification-uncertainty in epoch 5 of 10, counted from 0: the divergence counts half."""
    given, (expected,) = VALUES["inputs"], VALUES["edl"][f"edl_{form}_loss"]
    x, w, b = (torch.tensor(given[name]).to(dtype) for name in ("Xin", "W", "b"))
    layer = nn.Linear(6, 5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(w.reshape(5, 6)), layer.bias.copy_(b)
    rows, targets = x.reshape(4, 6), torch.tensor(given["Y"])
    assert EDL(form=form)(layer(rows), targets, annealing=0.5).item() == pytest.approx(expected, rel=1e-6)
    step = TrainingStep(Classifier(nn.Identity(), layer), EDL(form=form))
    step.epoch = 5
    terms = step((rows, targets))
    assert sum(terms.values()).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("epochs", "weights"), [(10, [0, 0.1, 0.5, 1, 1]), (4, [0, 0.25, 1, 1, 1]), (0, [1] * 5)])
def test_the_divergence_is_annealed(epochs: int, weights: list[float]) -> None:
    net = classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, EDL(annealing_epochs=epochs, evidence="softplus"))
    given = batch("vectors", dtype=torch.float64)
    with torch.no_grad():
        assert given["id"].targets is not None
        full = misleading_evidence(net(given["id"].inputs), given["id"].targets).item()
    for epoch, weight in zip((0, 1, 5, 10, 99), weights, strict=True):
        step.epoch = epoch
        terms = step(given)
        assert terms["misleading_evidence"].item() == pytest.approx(weight * full, rel=1e-6)
        assert terms["misleading_evidence"].requires_grad


def test_the_weight_of_the_divergence_is_compiled_once() -> None:
    torch._dynamo.reset()
    eager, step = (TrainingStep(classifier("vectors"), EDL(evidence="softplus")) for _ in range(2))
    step.compile(backend="aot_eager")
    for epoch in range(4):
        eager.epoch = step.epoch = epoch
        with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
            terms = step(batch("vectors"))
        for name, value in eager(batch("vectors")).items():
            torch.testing.assert_close(terms[name], value, rtol=1e-5, atol=1e-6)


def test_only_evidence_for_wrong_classes_diverges() -> None:
    right = 40 * torch.eye(4)
    logits = log_concentration(right).requires_grad_()
    assert misleading_evidence(logits, torch.arange(4)).item() == pytest.approx(0, abs=1e-12)
    wrong = misleading_evidence(logits, (torch.arange(4) + 1) % 4)
    assert wrong.item() == pytest.approx(reference.divergence_of_label([41.0, 1, 1, 1], 1), rel=1e-5)
    (slope,) = torch.autograd.grad(misleading_evidence(logits, torch.arange(4)), logits)
    assert not slope.diagonal().any(), "evidence for the own class has no price"
    none = log_concentration(torch.full((3, 4), -5.0))
    assert misleading_evidence(none, LABELS[:3]).item() == pytest.approx(0, abs=1e-6)


def test_no_evidence_is_the_uniform_distribution() -> None:
    none = log_concentration(torch.full((3, 4), -5.0, dtype=torch.float64))
    assert dirichlet_risk(none, LABELS[:3], "log").item() == pytest.approx(math.log(4))
    assert dirichlet_risk(none, LABELS[:3], "digamma").item() == pytest.approx(1 + 1 / 2 + 1 / 3)
    assert dirichlet_risk(none, LABELS[:3]).item() == pytest.approx(9 / 16 + 3 / 16 + 4 * 3 / 16 / 5)


def test_sums_of_squares_are_those_of_samples() -> None:
    """E ‖y − p‖² and E −log p_y over p ~ Dir(α)."""
    z, _ = rows()
    alpha = log_concentration(z[:1]).exp()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        p = torch._sample_dirichlet(alpha.expand(200_000, 4).contiguous())
    y = one_hot(LABELS[:1], 4)
    sampled = (y - p).square().sum(1).mean().item()
    assert dirichlet_risk(log_concentration(z[:1]), LABELS[:1]).item() == pytest.approx(sampled, rel=0.01)
    sampled = -p[:, 0].log().mean().item()
    assert dirichlet_risk(log_concentration(z[:1]), LABELS[:1], "digamma").item() == pytest.approx(sampled, rel=0.01)


@pytest.mark.parametrize("form", FORMS)
def test_no_rows_and_one_class(form: str) -> None:
    empty = torch.zeros(0, 4, requires_grad=True)
    loss = EDL(form=form)(empty, LABELS[:0])
    loss.backward()
    assert loss.item() == 0 and empty.grad is not None
    assert EDL(form=form)(torch.tensor([[3.0], [-2.0]]), torch.zeros(2, dtype=torch.long)).item() == pytest.approx(0)


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_the_heads_softmax_is_the_expected_probability(evidence: str) -> None:
    net = classifier("vectors", dtype=torch.float64)
    plain, given = net.head, batch("vectors", dtype=torch.float64)["id"].inputs
    outputs = net(given)
    TrainingStep(net, EDL(evidence=evidence))
    assert isinstance(net.head, Concentration) and net.head.layer is plain
    alpha = torch.tensor([reference.concentration(row, evidence) for row in outputs.tolist()], dtype=torch.float64)
    net.train()
    torch.testing.assert_close(net(given).softmax(1), alpha / alpha.sum(1, keepdim=True))
    found = evaluate(net, [given], {}, ["vacuity", "msp"]).scores["id"]
    expected = [reference.vacuity(row, evidence) for row in outputs.tolist()]
    accuracy = 1e-6 if evidence == "relu" else 1e-12  # where ties are decided
    assert found["vacuity"].tolist() == pytest.approx(expected, rel=accuracy)
    assert found["msp"].tolist() == pytest.approx((1 - alpha.amax(1) / alpha.sum(1)).tolist(), rel=accuracy)


def test_a_row_without_evidence_is_put_where_its_outputs_are_largest() -> None:
    head = Concentration(torch.nn.Identity(), "relu")
    rows = torch.tensor([[-9.0, -0.5, -3.0], [-1e-3, -2.0, -7.0], [0.4, -1.0, 0.3], [-30.0, -31.0, -29.0]])
    assert head.train()(rows).tolist()[0] == [0.0, 0.0, 0.0]
    logits = head.eval()(rows)
    assert logits.argmax(1).tolist()[:3] == rows.argmax(1).tolist()[:3]
    torch.testing.assert_close(logits, head.train()(rows), atol=1.1e-6, rtol=0)
    assert score_named("vacuity")(rows, logits).tolist() == pytest.approx([1, 1, 3 / 3.7, 1], rel=2e-6)


def test_a_second_step_wraps_once_and_decides_what_evidence_is() -> None:
    net = classifier("vectors")
    plain = net.head
    TrainingStep(net, EDL())
    TrainingStep(net, EDL(evidence="exp"))
    assert isinstance(net.head, Concentration) and net.head.layer is plain and net.head.evidence == "exp"


def test_the_score_is_within_bounds_for_any_outputs() -> None:
    net = Classifier(nn.Identity(), Concentration(nn.Identity(), "relu"), num_classes=3)
    extremes = torch.tensor([[-1e30, -1e30, -1e30], [0.0, 0.0, 0.0], [1e3, 0.0, 0.0], [1e30, 1e30, -1e30]])
    found = evaluate(net, [extremes], {}, ["vacuity"]).scores["id"]["vacuity"].tolist()
    assert found[:3] == pytest.approx([1, 1, 3 / 1003], rel=1e-5) and 0 <= found[3] < 1e-29


def test_pixels_are_rows() -> None:
    z, _ = rows()
    by_pixel = z.reshape(1, 2, 3, 4).movedim(3, 1)
    for form in FORMS:
        loss = EDL(form=form)(by_pixel, LABELS.reshape(1, 2, 3))
        torch.testing.assert_close(loss, EDL(form=form)(z, LABELS))
    vacuity = score_named("vacuity")
    torch.testing.assert_close(vacuity(by_pixel, by_pixel).flatten(), vacuity(z, z))


def test_the_score_refuses_a_plain_classifier() -> None:
    for model in (classifier("vectors"), nn.Linear(6, 4)):
        with pytest.raises(ValueError, match="vacuity needs a head that gives evidence: train") as refusal:
            evaluate(model, [batch("vectors")["id"].inputs], {}, ["vacuity"])
        assert is_one_sentence(str(refusal.value))
