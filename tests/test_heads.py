"""Last layers: one that scales features, the ones that are refused, logits of their weights, and distances."""

import math

import pytest
import torch
from torch import nn

from oodles import Classifier
from oodles.heads import ScaledLinear, distances, linear_head, logits_of

from .contract.steps import is_one_sentence


def layer(*, bias: bool = True, dtype: torch.dtype = torch.float64) -> nn.Linear:
    return nn.Linear(5, 3, bias=bias, dtype=dtype)


def rows(count: int = 4, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 5, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_features_are_scaled_and_weights_are_shared(bias: bool, dtype: torch.dtype) -> None:
    head = layer(bias=bias, dtype=dtype)
    scaled = ScaledLinear(head, 2.5)
    assert scaled.weight is head.weight and scaled.bias is head.bias
    assert (scaled.in_features, scaled.out_features, scaled.factor.dtype) == (5, 3, dtype)
    expected = 2.5 * rows() @ head.weight.double().T + (head.bias.double() if bias else 0)
    accuracy = 1e-12 if dtype == torch.float64 else 1e-5
    torch.testing.assert_close(scaled(rows(dtype=dtype)).double(), expected, rtol=accuracy, atol=accuracy)


def test_the_factor_is_among_the_weights() -> None:
    plain, scaled = layer(), ScaledLinear(layer(), 10.0)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*factor"):
        plain.load_state_dict(scaled.state_dict())
    with pytest.raises(RuntimeError, match=r"Missing key.*factor"):
        scaled.load_state_dict(plain.state_dict())
    other = ScaledLinear(layer(), 2.0)
    other.load_state_dict(scaled.state_dict())
    assert other.factor.item() == 10 and torch.equal(other(rows()), scaled(rows()))


def test_weights_that_come_later_are_scaled_as_well() -> None:
    head = layer()
    scaled = ScaledLinear(head, 10.0)
    head.load_state_dict({name: value + 1 for name, value in head.state_dict().items()})
    torch.testing.assert_close(scaled(rows()), head(10 * rows()))


def test_a_linear_last_layer_is_handed_out_and_another_is_refused() -> None:
    for head in (layer(), ScaledLinear(layer(), 2.0)):
        assert linear_head(Classifier(nn.Identity(), head), "some-method") is head
    net = Classifier(nn.Identity(), nn.Sequential(layer()), num_classes=3)
    with pytest.raises(
        ValueError, match=r"some-method needs a linear last layer, torch\.nn\.Linear, got Sequential: split"
    ) as refusal:
        linear_head(net, "some-method")
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("bias", [False, True])
def test_logits_are_as_precise_as_the_features(bias: bool) -> None:
    head = layer(bias=bias, dtype=torch.bfloat16)
    exact = rows() @ head.weight.double().T + (head.bias.double() if bias else 0)
    for dtype, accuracy in ((torch.float32, 1e-5), (torch.float64, 1e-12)):
        actual = logits_of(head, rows(dtype=dtype))
        assert actual.dtype == dtype
        torch.testing.assert_close(actual.double(), exact, rtol=accuracy, atol=accuracy)
    scaled = ScaledLinear(layer(), 10.0)
    assert torch.equal(logits_of(scaled, rows()), nn.functional.linear(rows(), scaled.weight, scaled.bias)), "no factor"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_distances_are_euclidean(dtype: torch.dtype) -> None:
    actual = distances(rows(dtype=dtype), rows(3, seed=1, dtype=dtype))
    expected = [[math.dist(a, b) for b in rows(3, seed=1).tolist()] for a in rows().tolist()]
    accuracy = 1e-12 if dtype == torch.float64 else 1e-5
    assert actual.dtype == dtype
    torch.testing.assert_close(actual.double(), torch.tensor(expected, dtype=torch.float64), rtol=accuracy, atol=0)


def test_close_rows_far_from_the_origin_keep_their_distances() -> None:
    far = torch.full((30, 64), 100.0)
    far[:, 0] += torch.arange(30) / 1000
    actual = distances(far, far[:1])[:, 0]
    torch.testing.assert_close(actual, far[:, 0] - 100.0, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_distances_are_in_float32_whatever_the_features(dtype: torch.dtype) -> None:
    features, prototypes = rows(dtype=dtype), rows(3, seed=1, dtype=torch.float32)
    expected = torch.cdist(features.double(), prototypes.double())
    with torch.autocast("cpu", dtype=dtype):
        actual = distances(features, prototypes)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_row_at_a_prototype_has_a_finite_gradient() -> None:
    x = rows().requires_grad_()
    actual = distances(x, rows())
    actual.sum().backward()
    assert not actual.diagonal().any() and x.grad is not None and x.grad.isfinite().all()
