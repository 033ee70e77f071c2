"""SCONE: the margin, and WOODS where there is none."""

import math

import pytest
import torch

from oodles import SCONE, WOODS, Data, TrainingStep

from ..contract.networks import batch, classifier
from ..references import scone as reference


@pytest.mark.parametrize("margin", [-10.0, -1.5, 0.0, 2.0])
def test_the_papers_equation(margin: float) -> None:
    w = 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    method = SCONE(weight=0.6, margin=margin).double()
    with torch.no_grad():
        method.energies.slope.fill_(math.log(math.expm1(0.7)))
        method.energies.bias.fill_(0.3)
    expected = 0.6 * reference.scone(w.numpy(), 0.7, method.energies.bias.item(), margin)
    assert method(w).item() == pytest.approx(expected, rel=1e-7)


def test_a_margin_is_in_units_of_energy() -> None:
    method = SCONE(margin=-2.0)
    step = TrainingStep(classifier("vectors"), method)
    given = batch("vectors")
    step.start_epoch(0, 1, Data(train=[(given["id"].rows, given["id"].labels)]))
    logits = step.classifier(given["wild"].rows)
    shifted = method.energies.log_odds(logits, -2.0)
    assert method.energies.deviation != 1
    torch.testing.assert_close(shifted, method.energies.log_odds(logits) - 2 / method.energies.deviation.float())


def test_without_a_margin_it_is_woods() -> None:
    given = batch("images")
    terms = []
    for method in (SCONE(margin=0.0), WOODS()):
        step = TrainingStep(classifier("images"), method)
        step.start_epoch(0, 1, Data(train=[(given["id"].rows, given["id"].labels)]))
        terms.append({name.replace("scone", "woods"): value for name, value in step(given).items()})
    assert terms[0].keys() == terms[1].keys()
    assert all(torch.equal(value, terms[1][name]) for name, value in terms[0].items())


def test_the_lower_the_margin_the_more_is_asked_of_wild_rows() -> None:
    logits = torch.randn(9, 4, generator=torch.Generator().manual_seed(2))
    found = [SCONE(margin=margin)(logits).item() for margin in (-10.0, -5.0, 0.0, 5.0)]
    assert found == sorted(found, reverse=True) and found[0] > 0.99
