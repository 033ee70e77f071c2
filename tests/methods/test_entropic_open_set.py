"""The Entropic Open-Set loss; recorded: Vastlab/vast, the loss of each row, knowns first."""

import math

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, EntropicOpenSet, OutlierExposure, TrainingStep

from ..contract.steps import total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import entropic_open_set as reference
from ..references.equations import pixels_as_rows

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 3 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_rows(dtype: torch.dtype) -> None:
    rows = VALUES["entropic_objectosphere"]["entropic(per-sample)"]
    terms = TrainingStep(Classifier(nn.Identity(), layer(0, 5, dtype)), EntropicOpenSet())(
        (X_IN.to(dtype), Y), outliers=X_OUT.to(dtype)
    )
    assert terms["cross_entropy"].item() == pytest.approx(sum(rows[:4]) / 4, rel=1e-6)
    assert terms["entropic_open_set"].item() == pytest.approx(sum(rows[4:]) / 8 / 5, rel=1e-6)
    for z, expected in zip(layer(0, 5, dtype)(X_OUT.to(dtype)), rows[4:], strict=True):
        assert 5 * EntropicOpenSet()(z[None]).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("outliers", [1, 8, 30])
def test_all_unknowns_weigh_as_much_as_each_class(outliers: int, dtype: torch.dtype) -> None:
    x, o, y = normal(10, 6), normal(outliers, 6, seed=1), torch.arange(10) % 5
    exact = layer(0, 5, torch.float64)
    expected = reference.balanced(exact(x).detach().numpy(), y.tolist(), exact(o).detach().numpy())
    step = TrainingStep(Classifier(nn.Identity(), layer(0, 5, dtype)), EntropicOpenSet())
    assert total(step((x.to(dtype), y), outliers=o.to(dtype))).item() == pytest.approx(expected, rel=ACCURACY[dtype])


@pytest.mark.parametrize("classes", [1, 2, 7])
def test_it_is_outlier_exposure_at_one_over_the_classes(classes: int) -> None:
    z = normal(6, classes)
    expected = OutlierExposure(weight=0.6 / classes)(z).item()
    assert EntropicOpenSet(weight=0.6)(z).item() == pytest.approx(expected, rel=1e-12, abs=1e-15)


def test_equal_logits_cost_the_logarithm_of_the_classes() -> None:
    z = torch.full((3, 4), 7.0, requires_grad=True)
    loss = EntropicOpenSet(weight=2)(z)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(4) / 4)
    assert z.grad is not None and z.grad.abs().max() < 1e-7


def test_pixels_are_rows() -> None:
    z = normal(2, 4, 3, 2)
    rows = pixels_as_rows(z.numpy())
    assert EntropicOpenSet()(z).item() == pytest.approx(sum(map(reference.entropic, rows)) / 12 / 4, rel=1e-12)


def test_no_unknowns_are_an_exact_zero() -> None:
    loss = EntropicOpenSet()(torch.zeros(0, 4, requires_grad=True))
    assert loss.item() == 0 and loss.requires_grad
