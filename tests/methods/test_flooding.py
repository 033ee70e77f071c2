"""Flooding, and Unleashing Mask, which floods the cross-entropy alone at a level that it measures."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodles import Classifier, Flooding, OutlierExposure, TrainingStep, UnleashingMask, collect
from oodles.methods.flooding import flood
from oodles.methods.unleashing_mask import masked

from ..contract.networks import batch, classifier, inputs, labels
from ..contract.steps import is_one_sentence, total
from ..references.flooding import flooded

VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "recorded" / "values.json").read_text("utf-8"))
DTYPES = {torch.float64: 1e-12, torch.float32: 1e-6}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("level", [0.05, 1.0, 3.0])
@pytest.mark.parametrize("value", [0.0, 0.04, 0.9, 1.0, 1.1, 40.0])
def test_the_papers_equation(value: float, level: float, dtype: torch.dtype) -> None:
    loss = torch.tensor(value, dtype=dtype, requires_grad=True)
    found = Flooding(level=level)(loss)
    assert found.dtype == dtype and found.item() == pytest.approx(flooded(value, level), rel=DTYPES[dtype])
    found.backward()
    assert loss.grad is not None
    assert loss.grad.item() == (1 if value >= level else -1), "uphill below the level"


@pytest.mark.parametrize("level", [1.0, 1.4, 4.0])
def test_the_sum_of_all_terms_is_flooded(level: float) -> None:
    given = batch("images", dtype=torch.float64)
    plain = TrainingStep(classifier("images", dtype=torch.float64), OutlierExposure())
    step = TrainingStep(classifier("images", dtype=torch.float64), Flooding(level=level), OutlierExposure())
    expected, terms = plain(given), step(given)
    assert terms["cross_entropy"].item() == expected["cross_entropy"].item(), "the terms stay as they are"
    whole = total(expected).item()
    assert total(terms).item() == pytest.approx(flooded(whole, level), rel=1e-12)
    total(terms).backward()
    total(expected).backward()
    sign = 1 if whole > level else -1
    for a, b in zip(step.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a.grad, None if b.grad is None else sign * b.grad)


def test_above_the_level_it_is_plain_training_bit_for_bit() -> None:
    given = batch("vectors")
    step, plain = TrainingStep(classifier("vectors"), Flooding(level=0.05)), TrainingStep(classifier("vectors"))
    terms, expected = step(given), plain(given)
    assert terms["flooding"].item() == 0 and torch.equal(total(terms), total(expected))


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_values_of_the_authors_program(dtype: torch.dtype) -> None:
    """tmlr-group/Unleashing-Mask: |CE − UM| + UM, here above its level."""
    given, recorded = VALUES["inputs"], VALUES["unleashing_mask"]
    x, w, b = (torch.tensor(given[name]).to(dtype) for name in ("Xin", "W", "b"))
    layer = nn.Linear(6, 5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(w.reshape(5, 6)), layer.bias.copy_(b)
    rows = x.reshape(4, 6), torch.tensor(given["Y"])
    (ce,), (expected,) = recorded["ce"], recorded["UM=3.0"]
    for method in (UnleashingMask(level=3.0), Flooding(level=3.0)):
        step = TrainingStep(Classifier(nn.Identity(), copy.deepcopy(layer)), method)
        assert total(step(rows)).item() == pytest.approx(expected, rel=1e-6)
    assert UnleashingMask(level=5.0)(layer(rows[0]), rows[1]).item() == pytest.approx(10 - ce, rel=1e-6)


def test_unleashing_mask_floods_the_cross_entropy_alone() -> None:
    given = batch("images", dtype=torch.float64)
    plain = TrainingStep(classifier("images", dtype=torch.float64), OutlierExposure())(given)
    net = classifier("images", dtype=torch.float64)
    terms = TrainingStep(net, OutlierExposure(), UnleashingMask(level=1.5))(given)
    ce = plain["cross_entropy"].item()
    assert ce < 1.5 < total(plain).item(), "so that flooding the sum would do nothing"
    assert set(terms) == {"unleashing_mask", "outlier_exposure"}
    assert terms["unleashing_mask"].item() == pytest.approx(flooded(ce, 1.5), rel=1e-12)
    assert terms["outlier_exposure"].item() == plain["outlier_exposure"].item()


def test_no_rows_have_a_graph() -> None:
    z = torch.zeros(0, 4, requires_grad=True)
    for loss in (UnleashingMask()(z, torch.zeros(0, dtype=torch.long)), flood(z.sum(), 0.1)):
        assert loss.isfinite() and loss.requires_grad


def test_a_share_of_every_layers_weights_is_masked() -> None:
    net = classifier("images", noisy=True)
    before = copy.deepcopy(net.state_dict())
    found = masked(net, 0.25, torch.Generator().manual_seed(1)).state_dict()
    for name, value in before.items():
        assert torch.equal(net.state_dict()[name], value), "the classifier itself stays"
        gone = found[name] != value
        if name in ("backbone.0.weight", "backbone.6.weight", "head.weight"):
            assert gone.sum() == int(0.25 * value.numel()) and not found[name][gone].any(), name
        else:
            assert not gone.any(), name
    other = masked(net, 0.25, torch.Generator().manual_seed(2)).state_dict()
    assert not torch.equal(other["head.weight"], found["head.weight"])


def test_the_suggested_level_is_the_loss_of_a_masked_copy() -> None:
    net = Classifier(nn.Flatten(), nn.Linear(400, 3))
    x, y = torch.rand(12, 400), labels("vectors", 12, classes=3)
    state, weights = torch.get_rng_state(), copy.deepcopy(net.state_dict())
    loader = [(x[:5], y[:5]), (x[5:], y[5:])]
    found = UnleashingMask.suggest(net, loader, [])
    assert found == UnleashingMask.suggest(net, loader, []) and torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, weights[name]) for name, value in net.state_dict().items())
    copied = masked(net, 0.035, torch.Generator().manual_seed(0))
    assert isinstance(copied.head, nn.Linear) and (copied.head.weight == 0).sum() == 42
    rows = collect(copied, loader)
    assert found["level"] == pytest.approx(cross_entropy(rows.logits, y).item(), rel=1e-6)
    assert abs(found["level"] - cross_entropy(net(x), y).item()) > 1e-3
    assert UnleashingMask(**found).level == found["level"]


def test_a_level_needs_labels() -> None:
    x = inputs("vectors", 4)
    assert isinstance(x, Tensor)
    with pytest.raises(ValueError, match="the rows came without labels") as refusal:
        UnleashingMask.suggest(classifier("vectors"), [x], [])
    assert is_one_sentence(str(refusal.value))


def test_the_level_does_not_depend_on_the_layout_in_memory() -> None:
    from ..contract.networks import batch, classifier

    given = batch("images")
    rows = [(given["id"].inputs, given["id"].targets)]
    nets = classifier("images"), classifier("images").to(memory_format=torch.channels_last)
    first, second = (UnleashingMask.suggest(net, rows, None)["level"] for net in nets)
    assert first == pytest.approx(second, rel=1e-5)
