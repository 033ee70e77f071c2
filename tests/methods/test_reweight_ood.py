"""ReweightOOD: the two sums over pairs, what has no gradient, and batches without pairs."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import one_hot

from oodles import ReweightOOD, TrainingStep
from oodles.methods.reweight_ood import reweighted_pairs

from ..contract.networks import batch, classifier
from ..references import reweight_ood as reference

LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 1])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Projections and soft targets."""
    generator = torch.Generator().manual_seed(3)
    g = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    return g.to(dtype), (3 * torch.rand(7, 4, generator=generator, dtype=torch.float64)).softmax(1)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_sums(dtype: torch.dtype, mixed: bool, temperature: float) -> None:
    g, y = rows(dtype)
    shares = y if mixed else one_hot(LABELS, 4).double()
    expected = reference.loss(g.double().tolist(), shares.tolist(), temperature)
    accuracy = 1e-12 if dtype == torch.float64 else 1e-5
    found = ReweightOOD(weight=0.7, temperature=temperature)(g, y if mixed else LABELS, 4)
    assert found.item() == pytest.approx(0.7 * expected, rel=accuracy)


def test_below_zero_the_loss_is_curved() -> None:
    """Two rows of one class that agree and a third of another that is opposite: both logarithms are negative."""
    g = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.1]], dtype=torch.float64)
    y = torch.tensor([0, 0, 1])
    expected = reference.loss(g.tolist(), one_hot(y, 2).tolist(), 0.1)
    assert -1 < expected < 0
    assert ReweightOOD(weight=1.0)(g, y, 2).item() == pytest.approx(expected, rel=1e-12)


def test_the_weights_have_no_gradient() -> None:
    """With w held fixed, the gradient is that of the sums alone."""
    g, _ = rows()
    g = (g / g.norm(dim=1, keepdim=True)).requires_grad_()
    reweighted_pairs(g, LABELS, 4).backward()
    found = g.grad
    assert found is not None
    again = g.detach().clone().requires_grad_()
    i, j = torch.triu_indices(7, 7, 1)
    s, alike = (again[i] * again[j]).sum(1), LABELS[i] == LABELS[j]
    fixed = s.detach()
    pull = (-torch.sigmoid(-(2 * fixed - 1)) * s / 0.1)[alike].logsumexp(0)
    push = (torch.sigmoid(5 * fixed - 4) * s / 0.1)[~alike].logsumexp(0)
    torch.nn.functional.elu(pull + push).backward()
    torch.testing.assert_close(found, again.grad)


@pytest.mark.parametrize(
    ("count", "labels"), [(0, []), (1, [2]), (3, [1, 1, 1]), (3, [0, 1, 2])], ids=["none", "one", "alike", "apart"]
)
def test_without_pairs_of_both_kinds_the_term_is_zero(count: int, labels: list[int]) -> None:
    g = rows(torch.float32)[0][:count].clone().requires_grad_()
    loss = ReweightOOD()(g, torch.tensor(labels, dtype=torch.int64), 4)
    loss.backward()
    assert loss.item() == 0 and g.grad is not None and not g.grad.any()


def test_rows_that_agree_wholly_stay_finite_in_half_precision() -> None:
    g = torch.ones(6, 4, dtype=torch.float16)
    loss = ReweightOOD(temperature=0.01)(g, torch.tensor([0, 0, 1, 1, 2, 2]), 3)
    assert loss.dtype == torch.float32 and loss.isfinite()


def test_the_step_compares_both_views_of_every_row() -> None:
    net = classifier("images", dtype=torch.float64)
    step = TrainingStep(net, ReweightOOD(weight=1.0, dimensions=3), seed=2)
    prepared = step.prepare(batch("images", dtype=torch.float64))
    term = step.losses(prepared)["reweight_ood"]
    views = [net.heads["projection"](net.features(prepared[role].rows)) for role in ("id", "view")]
    y = one_hot(prepared["id"].labels, 4).double().tolist()
    expected = reference.loss(torch.cat(views).tolist(), [*y, *y], 0.1)
    assert term.item() == pytest.approx(expected, rel=1e-12)
