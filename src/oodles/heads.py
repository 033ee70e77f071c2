"""Last layers, and functions of them that several methods share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from oodles.classifier import Classifier
from oodles.precision import at_least_float32


class ScaledLinear(nn.Linear):
    """A last layer that multiplies features by a number first, with the weight and bias of the given one.

    The number is saved among its weights, which otherwise could be loaded into another head unnoticed.
    """

    factor: Tensor

    def __init__(self, head: nn.Linear, factor: float):
        super().__init__(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        self.weight, self.bias = head.weight, head.bias
        self.register_buffer("factor", torch.tensor(factor, dtype=head.weight.dtype, device=head.weight.device))

    def forward(self, features: Tensor) -> Tensor:
        return linear(features * self.factor, self.weight, self.bias)


def linear_head(classifier: Classifier, method: str) -> nn.Linear:
    """Return the classifier's last layer, where it is linear; refuse others, for the method of that name.

    Raises:
        ValueError: for a last layer of another kind.
    """
    if not isinstance(classifier.head, nn.Linear):
        raise ValueError(
            f"{method} needs a linear last layer, torch.nn.Linear, got {type(classifier.head).__name__}: "
            "split the model there, or leave the method out."
        )
    return classifier.head


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
