"""ISH: the loss is plain, the gradient of the last layer's weights is not."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import ISH, Classifier, RegMixup, TrainingStep
from oodles.methods.ish import ShapedLinear, shaped
from oodles.scores import Scale, energy
from oodles.targets import cross_entropy

from ..contract.steps import is_one_sentence, total
from ..references.ish import gradients
from .linear import BIAS, PRECISIONS, TARGETS, WEIGHT, classifier, features, targets

RECORDED = json.loads(Path(__file__).parents[1].joinpath("recorded", "values.json").read_text(encoding="utf-8"))["ish"]


def after(step: TrainingStep, x: Tensor, y: Tensor) -> tuple[float, Tensor, Tensor, Tensor]:
    """The loss, and its gradients in the weights, the bias and the rows."""
    x = x.clone().requires_grad_()
    loss = total(step((x, y)))
    loss.backward()
    head = step.classifier.head
    assert head.weight.grad is not None and head.bias.grad is not None and x.grad is not None
    return loss.item(), head.weight.grad, head.bias.grad, x.grad


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("percentile", "kept"), [(0.85, 1), (0.6, 2), (0.2, 4), (0.0, 5)])
def test_gradients(dtype, accuracy: float, kind: str, percentile: float, kept: int) -> None:  # type: ignore[no-untyped-def]
    step = TrainingStep(classifier(dtype), ISH(percentile=percentile))
    loss, *found = after(step, features(dtype=dtype), targets(kind, dtype))
    expected = gradients(features().tolist(), WEIGHT, BIAS, TARGETS[kind], kept)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(
            ours.double(), torch.tensor(theirs, dtype=torch.float64), rtol=10 * accuracy, atol=accuracy
        )
    plain = TrainingStep(classifier(dtype))((features(dtype=dtype), targets(kind, dtype)))
    assert loss == plain["cross_entropy"].item(), "the loss is that of plain training, bit for bit"


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-6), (torch.float64, 1e-6)])
def test_gradients_that_the_authors_training_code_gave(dtype: torch.dtype, accuracy: float) -> None:
    """A linear layer in OpenOOD's training code: W = sin(0.37 k), x = |sin(0.71 k)|, in row-major order."""
    weight = torch.sin(0.37 * torch.arange(1, 101, dtype=torch.float64)).reshape(5, 20)
    x = torch.sin(0.71 * torch.arange(1, 81, dtype=torch.float64)).reshape(4, 20).abs()
    head = nn.Linear(20, 5, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(weight)
        head.bias.zero_()
    step = TrainingStep(Classifier(nn.Identity(), head).to(dtype), ISH())
    _, of_weight, _, of_rows = after(step, x.to(dtype), torch.tensor([0, 3, 1, 4]))
    assert RECORDED["keep"] == 3
    for ours, theirs in ((of_weight, RECORDED["grad_w"]), (of_rows, RECORDED["grad_x"])):
        np.testing.assert_allclose(ours.double().flatten().numpy(), theirs, rtol=accuracy, atol=accuracy)


def test_shaped_features_are_those_of_scale_where_they_are_kept() -> None:
    x = features(6, signed=True)
    kept = shaped(x, 0.6) != 0
    assert kept.sum(1).tolist() == [2] * 6
    torch.testing.assert_close(shaped(x, 0.6)[kept], Scale(0.6).shaped(x)[kept])
    assert (x.abs().masked_fill(kept, 0).amax(1) <= x.abs().masked_fill(~kept, math.inf).amin(1)).all()
    torch.testing.assert_close(shaped(x, 0.0), math.e * x)


def test_a_row_of_zeros_teaches_the_weights_nothing() -> None:
    step = TrainingStep(classifier(), ISH())
    _, of_weight, of_bias, _ = after(step, torch.zeros(4, 5, dtype=torch.float64), targets("class ids"))
    assert torch.equal(of_weight, torch.zeros_like(of_weight)) and of_bias.abs().max() > 1e-2


def test_mixed_rows_are_shaped_as_well() -> None:
    step, plain = (TrainingStep(classifier(), *more, RegMixup(alpha=2.0)) for more in ((ISH(),), ()))
    y = targets("class ids")
    assert total(step((features(), y))).item() == total(plain((features(), y))).item()
    prepared = step.prepare((features(), y))
    total(step.losses(prepared)).backward()
    head = classifier().head
    loss = 0.0
    for role in ("id", "mixed"):
        x = prepared[role].inputs
        logits = x @ head.weight.detach().T + head.bias.detach() + (s := shaped(x, 0.85)) @ head.weight.T
        logits = logits - (s @ head.weight.T).detach()
        loss = loss + cross_entropy(logits, prepared[role].targets)
    loss.backward()
    torch.testing.assert_close(step.classifier.head.weight.grad, head.weight.grad)


def test_in_testing_the_head_is_any_linear_layer() -> None:
    net = classifier()
    weight = net.head.weight
    TrainingStep(net, ISH())
    assert isinstance(net.head, ShapedLinear) and net.head.weight is weight
    assert list(net.state_dict()) == ["head.weight", "head.bias"]
    assert torch.equal(net.eval()(features()), classifier()(features()))
    net(features()).square().sum().backward()
    other = classifier()
    other(features()).square().sum().backward()
    assert torch.equal(weight.grad, other.head.weight.grad), "in eval mode gradients are plain"
    score = Scale().of(net, features(), features(), net(features()))
    torch.testing.assert_close(score, energy(other.head(Scale().shaped(features()))))


def test_the_last_layer_has_a_weight_decay_of_its_own() -> None:
    step = TrainingStep(Classifier(nn.Linear(5, 5), nn.Linear(5, 3)), ISH(head_weight_decay=3e-5))
    plain, own = step.parameter_groups(0.003)
    assert own["weight_decay"] == 3e-5 and own["lr"] == 0.003 and "weight_decay" not in plain
    assert {id(p) for p in own["params"]} == {id(p) for p in step.classifier.head.parameters()}


def test_layers_without_a_bias_and_other_layers() -> None:
    net = Classifier(nn.Identity(), nn.Linear(5, 3, bias=False, dtype=torch.float64))
    total(TrainingStep(net, ISH())((features(), targets("soft")))).backward()
    assert net.head.weight.grad.abs().max() > 1e-2
    with pytest.raises(ValueError, match=r"ish needs a linear last layer, .*, got Sequential") as refusal:
        TrainingStep(Classifier(nn.Identity(), nn.Sequential(nn.Linear(5, 3)), num_classes=3), ISH())
    assert is_one_sentence(str(refusal.value))


def test_the_standalone_form() -> None:
    head = classifier().head
    logits = ISH(percentile=0.6)(features(), head.weight, head.bias)
    assert torch.equal(logits, head(features()))
    (slope,) = torch.autograd.grad(logits[:, 0].sum(), head.weight)
    torch.testing.assert_close(slope[0], shaped(features(), 0.6).sum(0))
