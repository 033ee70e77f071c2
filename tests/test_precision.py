"""Precision, and division by lengths that may be zero."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from oodles import ASCOOD, Classifier, LogitNorm, T2FNorm, TrainingStep
from oodles.methods.ascood import standardized
from oodles.methods.g_odin import QuotientHead
from oodles.methods.isomax_plus import UnitDistanceHead
from oodles.methods.logit_norm import normalized
from oodles.precision import in_one_precision, unit_length

DIVISIONS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "unit_length": (unit_length, 1.0),
    "LogitNorm": (lambda z: normalized(z, 0.04), 25.0),
    "ASCOOD": (standardized, math.sqrt(4)),
    "T2FNorm": (T2FNorm(temperature=0.1), 10.0),
    "IsoMax+": (UnitDistanceHead(5, 3), 3.0),
    "G-ODIN": (QuotientHead(5, 3, "cosine").numerators, 3.0),
}
"""What divides rows by their lengths, and the largest gradient of the sum of its results in a row of zeros."""


@pytest.mark.parametrize("name", DIVISIONS)
def test_a_row_of_zeros_has_a_bounded_gradient(name: str) -> None:
    function, bound = DIVISIONS[name]
    for size in (0.0, 1e-30, 1e-12, 1e-8):
        row = torch.full((2, 5), size).mul_(torch.tensor([1.0, -1, 1, 0, 1])).requires_grad_()
        result = function(row)
        (gradient,) = torch.autograd.grad(result.sum(), row)
        assert result.isfinite().all() and gradient.isfinite().all()
        assert gradient.abs().max() <= bound * 1.001, size


@pytest.mark.parametrize("size", [1e-5, 1e-3, 1.0, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_any_other_row_becomes_one_of_length_1(size: float, dtype: torch.dtype) -> None:
    rows = (size * torch.randn(6, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)).to(dtype)
    wide = rows.double()
    expected = wide / wide.square().sum(1, keepdim=True).sqrt()
    torch.testing.assert_close(unit_length(rows).double(), expected, rtol=1e-6, atol=1e-7)
    assert unit_length(rows).dtype == torch.promote_types(dtype, torch.float32)


@pytest.mark.parametrize("method", [LogitNorm(), T2FNorm(), ASCOOD(alpha=1.0)], ids=lambda method: method.name)
def test_a_last_layer_of_zeros_trains(method: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    y = torch.arange(30) % 3
    x = (torch.eye(3).repeat(10, 2) + 0.1 * torch.rand(30, 6, generator=generator)) / 1.2
    torch.manual_seed(0)
    classifier = Classifier(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 3))
    nn.init.zeros_(classifier.head.weight)
    nn.init.zeros_(classifier.head.bias)
    step = TrainingStep(classifier, method)  # type: ignore[arg-type]
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    for _ in range(100):
        optimizer.zero_grad()
        torch.stack(list(step((x, y)).values())).sum().backward()
        optimizer.step()
        assert all(p.isfinite().all() and p.abs().max() < 1e3 for p in classifier.parameters())
    assert (classifier.eval()(x).argmax(1) == y).float().mean() > 0.9


def test_tensors_meet_in_the_widest_precision() -> None:
    half, single, double = torch.ones(1).half(), torch.ones(1), torch.ones(1).double()
    assert [value.dtype for value in in_one_precision(half, half)] == [torch.float32] * 2
    assert [value.dtype for value in in_one_precision(half, single, double)] == [torch.float64] * 3
