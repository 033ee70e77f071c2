"""Last layers, and functions of them that several methods share."""

from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import linear
from torch.nn.utils import parametrize

from oodles.checks import readable
from oodles.classifier import Classifier, in_mode, same_logits
from oodles.precision import at_least_float32

Layer = TypeVar("Layer", bound=nn.Linear)


class ScaledLinear(nn.Linear):
    """A last layer that multiplies features by a number first, with the weight and bias of the given one.

    The number is saved among its weights, which otherwise could be loaded into another head unnoticed.
    """

    factor: Tensor

    def __init__(self, head: nn.Linear, factor: float):
        super().__init__(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        share_weights(head, self)
        self.register_buffer("factor", torch.tensor(factor, dtype=head.weight.dtype, device=head.weight.device))

    def forward(self, features: Tensor) -> Tensor:
        return linear(features * self.factor, self.weight, self.bias)


def share_weights(head: nn.Linear, layer: Layer) -> Layer:
    """Give a new layer the parameters of another, and the parametrizations that compute its weight or bias from them.

    ``layer`` has none of its own: it is made on the device ``meta``.
    """
    for name, parameter in head.named_parameters(recurse=False):
        setattr(layer, name, parameter)
    if parametrize.is_parametrized(head):
        layer.parametrizations = head.parametrizations
        for name in head.parametrizations:  # type: ignore[union-attr]  # a dictionary of modules
            delattr(layer, name)
        # as torch's own class of a parametrized layer has them
        computed = {name: getattr(type(head), name) for name in head.parametrizations}  # type: ignore[union-attr]
        layer.__class__ = type(type(layer).__name__, (type(layer),), computed)
    return layer


def scale_features(classifier: Classifier, factor: float, method: str) -> None:
    """Put a last layer that multiplies features by a number first in the place of a linear one, for a method.

    Raises:
        ValueError: for a last layer of another kind.
    """
    head = classifier.head
    classifier.head = ScaledLinear(head if isinstance(head, ScaledLinear) else linear_head(classifier, method), factor)


def scaled_head(classifier: Classifier, method: str) -> ScaledLinear:
    """Return the last layer that :func:`scale_features` has made."""
    if not isinstance(classifier.head, ScaledLinear):
        raise ValueError(f"{method} needs the last layer that it makes, got {type(classifier.head).__name__}.")
    return classifier.head


def linear_head(classifier: Classifier, method: str) -> nn.Linear:
    """Return the classifier's last layer, where it computes W·h + b; refuse others, for the method of that name.

    What a layer is called is not what it computes: it is compared with W·h + b, in training as in testing. A weight or
    bias that parametrizations of torch compute is one like others.

    Raises:
        ValueError: for a last layer of another kind.
    """
    head = classifier.head
    kind = type(head).__name__
    if isinstance(head, nn.Linear):
        own = {name.partition(".")[0] for name in (*dict(head.named_parameters()), *dict(head.named_buffers()))}
        if more := sorted(own - {"weight", "bias", "parametrizations"}):
            kind = f"{kind} with {more[0]!r} besides"
        elif _is_linear(head):
            return head
    raise ValueError(
        f"{method} needs a linear last layer, which gives W·h + b of its weight and bias alone as torch.nn.Linear does "
        f"(also under torch.nn.utils.parametrizations), got {kind}: split the model there, or leave the method out."
    )


def _is_linear(head: nn.Linear) -> bool:
    """Compare a layer with W·h + b, for random weights: those that it has may be zero."""
    if not readable(next(head.parameters()), read_gpu=True):
        return True
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).to(head.weight.device, head.weight.dtype)

    beside = _Beside(head)
    values = {name: draw(*parameter.shape) for name, parameter in beside.named_parameters()}
    values |= {name: buffer.clone() for name, buffer in beside.named_buffers()}
    features = draw(16, head.in_features)
    devices = [head.weight.device] if head.weight.device.type == "cuda" else []
    with torch.no_grad(), torch.random.fork_rng(devices=devices), parametrize.cached():
        for training in (True, False):
            with in_mode(head, training=training):
                try:
                    given, expected = functional_call(beside, values, (features,))
                except Exception:
                    return False
                if not same_logits(given, expected):
                    return False
    return True


class _Beside(nn.Module):
    """What a layer gives, and W·h + b of its weight and bias."""

    def __init__(self, head: nn.Linear):
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.head(features), linear(features, self.head.weight, self.head.bias)


def logits_of(head: nn.Linear, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
    """Return W·h + b of a layer's weights, in the precision of the features."""
    bias = None if head.bias is None else head.bias.to(features.dtype)
    return linear(features, head.weight.to(features.dtype), bias)


def distances(features: Float[Tensor, "n f"], prototypes: Float[Tensor, "c f"]) -> Float[Tensor, "n c"]:
    """Return ‖h − p_c‖₂ in float32 at least; a matrix product would be faster and round small distances away."""
    features = at_least_float32(features)
    with torch.autocast(features.device.type, enabled=False):
        prototypes = prototypes.to(features.dtype)
        return torch.cdist(features, prototypes, compute_mode="donot_use_mm_for_euclid_dist")
