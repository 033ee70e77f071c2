"""Property 4: a term reaches the network, and autograd's derivative is the one that finite differences give."""

import pytest
import torch
from torch import Tensor

from oodles import Classifier, TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import total

STEP = 1e-6


def _quantities(step: TrainingStep, plain: TrainingStep, prepared, given, backward) -> dict[str, Tensor]:  # type: ignore[no-untyped-def]
    """Return every term, and the loss minus that of plain training."""
    terms = step.losses(prepared)
    if backward:  # the loss is that of plain training
        return dict(terms)
    return {**terms, "difference from plain training": total(terms) - total(plain.losses(given))}


def check_reaches_network(row: Row, kind: str) -> None:
    """Check autograd against finite differences along a random direction in each backbone tensor; both not zero."""
    given = batch(kind, dtype=torch.float64)
    net = classifier(kind, dtype=torch.float64)
    plain = TrainingStep(Classifier(net.backbone, net.head))  # the head as it was
    step = TrainingStep(net, *row.methods())
    prepared = step.prepare(given)
    parameters = dict(net.backbone.named_parameters())
    slopes = {}
    for name, value in _quantities(step, plain, prepared, given, row.backward).items():
        assert value.requires_grad, f"{name} has no graph"
        gradients = torch.autograd.grad(value, list(parameters.values()), retain_graph=True, allow_unused=True)
        slopes[name] = dict(zip(parameters, gradients, strict=True))
    generator = torch.Generator().manual_seed(0)
    for parameter_name, parameter in parameters.items():
        direction = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        direction /= direction.norm()
        here, sides = parameter.detach().clone(), []
        for sign in (1, -1):
            parameter.data.copy_(here + sign * STEP * direction)
            sides.append({n: v.detach() for n, v in _quantities(step, plain, prepared, given, row.backward).items()})
        parameter.data.copy_(here)
        for name, gradients in slopes.items():
            where = f"{name} along {parameter_name}"
            gradient = gradients[parameter_name]
            slope = 0.0 if gradient is None else float((gradient * direction).sum())
            numeric = float(sides[0][name] - sides[1][name]) / (2 * STEP)
            assert row.backward or slope == pytest.approx(numeric, rel=1e-4, abs=1e-7), where
            if parameter_name in row.still:
                assert abs(slope) <= 1e-6, where
            else:
                assert abs(slope) > 1e-6, where


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_every_term_reaches_every_backbone_tensor(name: str, kind: str) -> None:
    check_reaches_network(ROWS[name], kind)


MIXERS = [(name, kind) for name, kind in KINDS_OF_ROWS if "per_sample" in ROWS[name].defaults]


@pytest.mark.parametrize("name, kind", MIXERS)
@pytest.mark.parametrize("per_sample", [False, True])
def test_mixing_per_batch_and_per_sample(name: str, kind: str, per_sample: bool) -> None:
    check_reaches_network(ROWS[name].with_settings(per_sample=per_sample), kind)


def test_the_hinge_without_square() -> None:
    check_reaches_network(ROWS["energy-bounded"].with_settings(power=1), "vectors")


def test_logit_norm_does_not_feel_the_scale_of_the_logits() -> None:
    net = classifier("vectors", dtype=torch.float64)
    loss = total(TrainingStep(net, ROWS["logit-norm"].make())(batch("vectors", dtype=torch.float64)))
    loss.backward()
    along_scale = sum(float((p.grad * p.detach()).sum()) for p in net.head.parameters() if p.grad is not None)
    assert abs(along_scale) < 1e-5  # the 1e-7 beside the norm leaves this much
    assert max(float(p.grad.abs().max()) for p in net.head.parameters() if p.grad is not None) > 1e-2
