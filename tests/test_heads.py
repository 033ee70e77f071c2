"""Last layers: one that scales features, the ones that are refused, logits of their weights, and distances."""

import copy
import math
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, prune

from oodles import Classifier
from oodles.heads import ScaledLinear, distances, linear_head, logits_of, scale_features, scaled_head

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


class Tagged(nn.Linear):
    """A linear layer that knows more than its weights."""

    tag = "last"


class Cosine(nn.Linear):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 10 * nn.functional.linear(nn.functional.normalize(features), nn.functional.normalize(self.weight))


class Doubled(nn.Linear):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return 2 * super().forward(features)


class Noisy(nn.Linear):
    def forward(self, features: torch.Tensor) -> torch.Tensor:
        logits = super().forward(features)
        return logits + torch.randn_like(logits) if self.training else logits


class LowRank(nn.Linear):
    """A linear layer with a low-rank change that begins at zero."""

    def __init__(self, features: int, classes: int):
        super().__init__(features, classes)
        self.down, self.up = nn.Linear(features, 2, bias=False), nn.Linear(2, classes, bias=False)
        nn.init.zeros_(self.up.weight)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return super().forward(features) + self.up(self.down(features))


def trained(head: nn.Module) -> nn.Module:
    """Move every parameter, so that none is as it was made."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.3 * torch.randn(parameter.shape, generator=generator))
    return head


def zeroed(head: nn.Module) -> nn.Module:
    for parameter in head.parameters():
        nn.init.zeros_(parameter)
    return head


LINEAR = {
    "plain": lambda: layer(),
    "no bias": lambda: layer(bias=False),
    "half": lambda: layer(dtype=torch.float16),
    "bfloat16": lambda: layer(dtype=torch.bfloat16),
    "subclass": lambda: Tagged(5, 3),
    "weight norm": lambda: trained(parametrizations.weight_norm(nn.Linear(5, 3))),
    "spectral norm": lambda: trained(parametrizations.spectral_norm(nn.Linear(5, 3))),
    "orthogonal": lambda: trained(parametrizations.orthogonal(nn.Linear(5, 3))),
    "bias under weight norm": lambda: trained(parametrizations.weight_norm(nn.Linear(5, 3), "bias")),
}
OTHERS = {
    "cosine": (lambda: Cosine(5, 3), "got Cosine"),
    "cosine of zeros": (lambda: zeroed(Cosine(5, 3)), "got Cosine"),
    "doubled": (lambda: Doubled(5, 3), "got Doubled"),
    "noisy in training": (lambda: Noisy(5, 3), "got Noisy"),
    "low rank": (lambda: LowRank(5, 3), "got LowRank with 'down' besides"),
    "old weight norm": (lambda: nn.utils.weight_norm(nn.Linear(5, 3)), "got Linear with 'weight_g' besides"),
    "old spectral norm": (lambda: nn.utils.spectral_norm(nn.Linear(5, 3)), "got Linear with 'weight_orig' besides"),
    "pruned": (
        lambda: prune.random_unstructured(nn.Linear(5, 3), "weight", 2),
        "got Linear with 'weight_mask' besides",
    ),
    "sequential": (lambda: nn.Sequential(nn.Linear(5, 3)), "got Sequential"),
    "scaled": (lambda: ScaledLinear(nn.Linear(5, 3), 2.0), "got ScaledLinear with 'factor' besides"),
}


@pytest.mark.parametrize("make", LINEAR.values(), ids=LINEAR)
def test_layers_that_are_linear_are_scaled_whatever_they_are_called(make: Callable[[], nn.Linear]) -> None:
    head = make().eval()
    net = Classifier(nn.Identity(), head)
    before = {name: value.clone() for name, value in head.state_dict().items()}
    torch.manual_seed(0)
    state = torch.get_rng_state()
    assert linear_head(net, "some-method") is head
    assert torch.equal(torch.get_rng_state(), state) and not head.training
    assert all(torch.equal(value, before[name]) for name, value in head.state_dict().items()), "looking changes nothing"
    x = rows(dtype=head.weight.dtype)
    scale_features(net, 2.0, "some-method")
    scaled = net.eval().head
    assert isinstance(scaled, ScaledLinear) and not {id(p) for p in scaled.parameters()} ^ {
        id(p) for p in head.parameters()
    }
    accuracy = 4 * torch.finfo(x.dtype).eps
    torch.testing.assert_close(scaled(x), head(2 * x), rtol=accuracy, atol=accuracy)
    torch.testing.assert_close(logits_of(scaled, x), head(x), rtol=accuracy, atol=accuracy)
    other = copy.deepcopy(scaled)
    other.load_state_dict(scaled.state_dict())
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.mul_(0.5)
    torch.testing.assert_close(scaled(x), head(2 * x), rtol=accuracy, atol=accuracy)
    assert not torch.allclose(other(x), scaled(x), rtol=1e-2), "a copy is on its own"
    scale_features(net, 3.0, "some-method")
    torch.testing.assert_close(net.eval()(x), head(3 * x), rtol=accuracy, atol=accuracy)


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("make, got", OTHERS.values(), ids=OTHERS)
def test_layers_that_compute_something_else_are_refused(make: Callable[[], nn.Module], got: str) -> None:
    net = Classifier(nn.Identity(), make(), num_classes=3)
    with pytest.raises(ValueError, match=f"some-method needs a linear last layer, .*, {got}: split") as refusal:
        linear_head(net, "some-method")
    assert is_one_sentence(str(refusal.value))


def test_frozen_weights_stay_frozen() -> None:
    head = layer()
    head.weight.requires_grad_(False)
    scaled = ScaledLinear(head, 2.0)
    assert not scaled.weight.requires_grad and scaled.bias.requires_grad


def test_only_a_scaled_head_is_handed_out_as_one() -> None:
    net = Classifier(nn.Identity(), layer())
    with pytest.raises(ValueError, match="some-method needs the last layer that it makes, got Linear") as refusal:
        scaled_head(net, "some-method")
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
