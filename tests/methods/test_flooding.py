"""Flooding: the equation, on the sum of all terms."""

import pytest
import torch
from torch import nn

from oodles import Classifier, Flooding, OutlierExposure, TrainingStep
from oodles.methods.flooding import flood

from ..contract.networks import batch, classifier
from ..contract.steps import total
from ..recorded.linear_layer import VALUES, X_IN, Y, layer
from ..references.flooding import flooded

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
def test_the_value_of_the_authors_program(dtype: torch.dtype) -> None:
    """tmlr-group/Unleashing-Mask: |CE − UM| + UM, which without further terms is the flooded sum."""
    step = TrainingStep(Classifier(nn.Identity(), layer(0, 5, dtype)), Flooding(level=3.0))
    (expected,) = VALUES["unleashing_mask"]["UM=3.0"]
    assert total(step((X_IN.to(dtype), Y))).item() == pytest.approx(expected, rel=1e-6)


def test_a_loss_at_the_level_gets_nothing_and_one_without_rows_has_a_graph() -> None:
    loss = torch.tensor(0.5, requires_grad=True)
    assert flood(loss, 0.5).item() == 0
    empty = flood(torch.zeros(0, 4, requires_grad=True).sum(), 0.1)
    assert empty.item() == pytest.approx(0.2) and empty.requires_grad
