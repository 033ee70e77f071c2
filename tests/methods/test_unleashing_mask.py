"""Unleashing Mask: the flooded cross-entropy, at a level that is measured through a random mask."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodles import Classifier, OutlierExposure, TrainingStep, UnleashingMask, collect
from oodles.methods.unleashing_mask import mask_weights

from ..contract.networks import batch, classifier, inputs, labels
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_IN, Y, layer
from ..references import unleashing_mask as reference
from ..references.flooding import flooded
from .losses import CASES, Case, given, logits_alone


@CASES
def test_the_value(case: Case) -> None:
    one = given(case)
    for level in (0.1, 3.0, 50.0):
        one.check(UnleashingMask(level=level)(one.known, one.targets), reference.loss(one.z_in, one.t, level))


@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step(dtype: torch.dtype, kind: str) -> None:
    one = given(("rows", kind, dtype))
    for level in (0.1, 50.0):
        terms = TrainingStep(logits_alone(), UnleashingMask(level=level))((one.known, one.targets))
        assert list(terms) == ["unleashing_mask"]
        one.check(terms["unleashing_mask"], reference.loss(one.z_in, one.t, level))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_values_of_the_authors_program(dtype: torch.dtype) -> None:
    """tmlr-group/Unleashing-Mask: |CE − UM| + UM, here above its level."""
    recorded, net = VALUES["unleashing_mask"], layer(0, 5, dtype)
    (ce,), (expected,) = recorded["ce"], recorded["UM=3.0"]
    step = TrainingStep(Classifier(nn.Identity(), net), UnleashingMask(level=3.0))
    assert total(step((X_IN.to(dtype), Y))).item() == pytest.approx(expected, rel=1e-6)
    assert UnleashingMask(level=5.0)(net(X_IN.to(dtype)), Y).item() == pytest.approx(10 - ce, rel=1e-6)


def test_below_the_level_training_climbs() -> None:
    one = given(("rows", "class ids", torch.float64))
    slopes = []
    for level in (0.0, 50.0):
        z = one.known.clone().requires_grad_()
        UnleashingMask(level=level)(z, one.targets).backward()
        slopes.append(z.grad)
    torch.testing.assert_close(slopes[1], -slopes[0])


def test_the_cross_entropy_alone_is_flooded() -> None:
    whole = batch("images", dtype=torch.float64)
    plain = TrainingStep(classifier("images", dtype=torch.float64), OutlierExposure())(whole)
    net = classifier("images", dtype=torch.float64)
    terms = TrainingStep(net, OutlierExposure(), UnleashingMask(level=1.5))(whole)
    ce = plain["cross_entropy"].item()
    assert ce < 1.5 < total(plain).item(), "so that flooding the sum would do nothing"
    assert set(terms) == {"unleashing_mask", "outlier_exposure"}
    assert terms["unleashing_mask"].item() == pytest.approx(flooded(ce, 1.5), rel=1e-12)
    assert terms["outlier_exposure"].item() == plain["outlier_exposure"].item()


def test_no_rows_have_a_graph() -> None:
    z = torch.zeros(0, 4, requires_grad=True)
    loss = UnleashingMask()(z, torch.zeros(0, dtype=torch.long))
    assert loss.item() == pytest.approx(0.2) and loss.requires_grad


def test_a_share_of_every_layers_weights_is_masked() -> None:
    net = classifier("images", noisy=True)
    before = copy.deepcopy(net.state_dict())
    found = mask_weights(net, 0.25, torch.Generator().manual_seed(1)).state_dict()
    for name, value in before.items():
        assert torch.equal(net.state_dict()[name], value), "the classifier itself stays"
        gone = found[name] != value
        if name in ("backbone.0.weight", "backbone.6.weight", "head.weight"):
            assert gone.sum() == int(0.25 * value.numel()) and not found[name][gone].any(), name
        else:
            assert not gone.any(), name
    other = mask_weights(net, 0.25, torch.Generator().manual_seed(2)).state_dict()
    assert not torch.equal(other["head.weight"], found["head.weight"])


def test_the_suggested_level_is_the_mean_loss_of_ten_masked_copies() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net, x = Classifier(nn.Flatten(), nn.Linear(400, 3)), torch.rand(12, 400)
    y = labels("vectors", 12, classes=3)
    state, weights = torch.get_rng_state(), copy.deepcopy(net.state_dict())
    loader = [(x[:5], y[:5]), (x[5:], y[5:])]
    found = UnleashingMask.suggest(net, iter(loader), [])  # a loader that gives its rows once
    assert found == UnleashingMask.suggest(net, loader, []) and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    copies = [mask_weights(net, 0.035, torch.Generator().manual_seed(seed)) for seed in range(10)]
    assert isinstance(copies[0].head, nn.Linear) and (copies[0].head.weight == 0).sum() == 42
    losses = [cross_entropy(collect(copied, loader).logits, y).item() for copied in copies]
    assert found["level"] == pytest.approx(sum(losses) / 10, rel=1e-6) and len(set(losses)) == 10
    assert abs(found["level"] - cross_entropy(net(x), y).item()) > 1e-4
    assert UnleashingMask(**found).level == found["level"]


def test_a_level_needs_labels() -> None:
    x = inputs("vectors", 4)
    assert isinstance(x, Tensor)
    with pytest.raises(ValueError, match="there are no labels") as refusal:
        UnleashingMask.suggest(classifier("vectors"), [x], [])
    assert is_one_sentence(str(refusal.value))


def test_the_level_does_not_depend_on_the_layout_in_memory() -> None:
    whole = batch("images")
    rows = [(whole["id"].inputs, whole["id"].targets)]
    nets = classifier("images"), classifier("images").to(memory_format=torch.channels_last)
    first, second = (UnleashingMask.suggest(net, rows, None)["level"] for net in nets)
    assert first == pytest.approx(second, rel=1e-5)
