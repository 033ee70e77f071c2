"""DiverseMix: shares that follow the energies, and what is mixed. What it is refused with is tested with DivOE."""

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import DiverseMix, OutlierExposure, Part, TrainingStep
from oodles.methods import diversemix
from oodles.methods.diversemix import share_parameters
from oodles.randomness import draw_permutation, generator_for

from ..contract.networks import batch, classifier
from ..recorded.linear_layer import VALUES, X_OUT
from ..references import diversemix as reference

OTHERS = torch.tensor([2, 0, 1, 3, 5, 4])


def logits(rows: int = 6) -> Tensor:
    return 6 * torch.randn(rows, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("alpha, temperature", [(4.0, 10.0), (1.0, 1.0), (20.0, 0.1)])
def test_parameters_are_those_of_the_reference(alpha: float, temperature: float) -> None:
    found = share_parameters(logits(), OTHERS, alpha=alpha, temperature=temperature)
    expected = reference.parameters(logits().numpy(), OTHERS.tolist(), alpha, temperature)
    np.testing.assert_allclose(found.T.numpy(), np.array(expected), rtol=1e-10)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_parameters_that_were_computed_apart(dtype: torch.dtype) -> None:
    weight, bias = torch.tensor(VALUES["inputs"]["W"]).reshape(5, 6), torch.tensor(VALUES["inputs"]["b"])
    others = torch.tensor(VALUES["diversemix"]["perm"])
    z = (X_OUT @ weight.T + bias).to(dtype)
    a, b = share_parameters(z, others, alpha=4.0, temperature=10.0)
    np.testing.assert_allclose(a.numpy(), VALUES["diversemix"]["beta_a"], rtol=1e-6)
    np.testing.assert_allclose(b.numpy(), VALUES["diversemix"]["beta_b"], rtol=1e-6)


def test_outliers_are_mixed_by_their_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = torch.tensor([0.0, 1.0, 0.3, 0.7, 0.5, 0.9], dtype=torch.float64)
    asked: list[Tensor] = []
    monkeypatch.setattr(diversemix, "draw_betas", lambda parameters, generator: asked.append(parameters) or shares)
    x = torch.rand(6, 2, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, others = DiverseMix()(x, logits(), generator=torch.Generator().manual_seed(4))
    assert torch.equal(others, draw_permutation(6, torch.device("cpu"), torch.Generator().manual_seed(4)))
    np.testing.assert_allclose(found.numpy(), reference.mixed(x.numpy(), others.tolist(), shares.tolist()), atol=1e-12)
    torch.testing.assert_close(asked[0], share_parameters(logits(), others, alpha=4.0, temperature=10.0))


def test_the_larger_share_is_that_of_the_lower_energy() -> None:
    """Of rows 0 and rows 1, those of 1 are the more like known ones."""
    rows = 4000
    x, z = torch.arange(2.0).repeat(rows)[:, None], torch.tensor([[0.0, 0.0], [9.0, 0.0]]).repeat(rows, 1)
    found, others = DiverseMix(alpha=4.0, temperature=3.0)(x, z, generator=torch.Generator().manual_seed(0))
    unequal = x[:, 0] != x[others, 0]
    a, b = share_parameters(z[:2], torch.tensor([1, 0]), alpha=4.0, temperature=3.0)[:, 1].tolist()
    assert float(found[unequal].mean()) == pytest.approx(a / (a + b), abs=0.01) and a > 5 * b
    assert float(found[unequal].var()) == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), rel=0.1)
    assert torch.equal(found[~unequal], x[~unequal])


@pytest.mark.parametrize("scale", [0.0, 1e4, 1e30])
def test_shares_stay_shares_for_energies_of_any_size(scale: float) -> None:
    x = torch.rand(200, 3, generator=torch.Generator().manual_seed(0))
    for alpha in (1e-9, 4.0, 1e9):
        found, _ = DiverseMix(alpha=alpha)(x, scale * torch.randn(200, 2, generator=torch.Generator().manual_seed(1)))
        assert found.isfinite().all() and found.min() >= x.min() and found.max() <= x.max()


@pytest.mark.parametrize("rows", [0, 1])
def test_an_outlier_that_has_no_other_stays(rows: int) -> None:
    x = torch.rand(rows, 3)
    found, _ = DiverseMix()(x, torch.zeros(rows, 2))
    assert torch.equal(found, x)


def test_a_mixture_counts_where_both_of_its_outliers_do() -> None:
    valid = torch.tensor([True, False] * 5)
    given = batch("images")
    step = TrainingStep(classifier("images"), DiverseMix(), OutlierExposure(), seed=3)
    made = step.prepare(given.with_part("outliers", Part(given["outliers"].inputs, valid=valid)))["outliers"]
    plain = TrainingStep(classifier("images"), DiverseMix(), OutlierExposure(), seed=3).prepare(given)["outliers"]
    others = draw_permutation(10, torch.device("cpu"), generator_for(3, 0, 0, "diversemix"))
    assert made.valid is not None and torch.equal(made.valid, valid & valid[others]) and made.valid.any()
    assert torch.equal(made.rows[made.valid], plain.rows[made.valid]) and plain.valid is None


def test_energies_are_means_over_pixels_that_count() -> None:
    z = torch.randn(3, 4, 2, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    valid, others = torch.ones(3, 2, 2, dtype=torch.bool), torch.tensor([1, 2, 0])
    valid[1, 0] = False
    found = share_parameters(z, others, alpha=4.0, temperature=1.0, valid=valid)
    again = share_parameters(z.masked_fill(~valid[:, None], 50.0), others, alpha=4.0, temperature=1.0, valid=valid)
    assert torch.equal(found, again)
    e = torch.stack([z[i].logsumexp(0)[valid[i]].mean() for i in range(3)])
    torch.testing.assert_close(found[0], 4 * torch.sigmoid(e - e[others]) + 0.01)
