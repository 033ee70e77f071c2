"""ISH: the last layer's weights learn from the largest features alone, made larger."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from oodles.checks import check_number, check_share
from oodles.classifier import Classifier
from oodles.contract import Method, Paper
from oodles.heads import linear_head, share_weights
from oodles.precision import at_least_float32, in_one_precision
from oodles.scores import largest


def shaped(features: Float[Tensor, "n f"], percentile: float) -> Float[Tensor, "n f"]:
    """Return h̃ = e^r · (the largest features, others 0), r = Σ|h| / Σ|h̃ / e^r| as in :func:`oodles.scores.largest`."""
    kept, ratio = largest(features, percentile)
    return features * kept * ratio.exp()


def shaped_linear(
    features: Float[Tensor, "n f"],
    weight: Float[Tensor, "c f"],
    bias: Float[Tensor, " c"] | None = None,
    percentile: float = 0.85,
) -> Float[Tensor, "n c"]:
    """Return the logits W·h + b, whose gradient in W is that of W·h̃ + b; in h and b it is their own."""
    learned = linear(shaped(features, percentile).detach(), weight)
    return linear(features, weight.detach(), bias) + (learned - learned.detach())  # plus an exact zero


class ShapedLinear(nn.Linear):
    """A last layer whose weights learn from shaped features; in eval mode it is a plain one."""

    def __init__(self, head: nn.Linear, percentile: float):
        super().__init__(head.in_features, head.out_features, bias=head.bias is not None, device="meta")
        share_weights(head, self)
        self.percentile = percentile

    def forward(self, features: Tensor) -> Tensor:
        if not self.training:
            return super().forward(features)
        features = at_least_float32(features)
        with torch.autocast(features.device.type, enabled=False):
            weight = self.weight.to(features.dtype)
            bias = None if self.bias is None else self.bias.to(features.dtype)
            return shaped_linear(features, weight, bias, self.percentile)


class ISH(Method):
    """Leaves loss and logits as they are, and computes the gradient of the last layer's weights with shaped features.

    When to use: to fine-tune a trained network, whose features are not negative, that is scored with SCALE.
    Cost: finding the largest features of each row.
    Caveat: gradients of the last layer's weights are e^r > 2.7 times larger, so keep the learning rate low. Most of the
    published gain is the score's.

    Args:
        percentile: the share of features, the smallest of each row, that the weights do not learn from, in [0, 1).
        head_weight_decay: the last layer's own weight decay.

    Raises:
        ValueError: for a percentile outside [0, 1), a negative weight decay, or a last layer that is not linear.

    Source: Xu et al., on intermediate tensor shaping, and the authors' training code in OpenOOD, where features lose
    their sign: here they keep it, which for features of at least 0 is the same. That code rounds the number of features
    that it keeps down, this to the nearest: 76 and 77 of 512. The paper fine-tunes for 10 epochs.
    """

    name = "ish"
    paper = Paper(
        title="Scaling for Training Time and Post-hoc Out-of-distribution Detection Enhancement",
        authors="Xu, Chen, Franchi, Yao",
        venue="ICLR",
        year=2024,
        link="https://arxiv.org/abs/2310.00227",
        code="https://github.com/kai422/SCALE",
    )
    score = "scale"
    needs = ("vectors",)
    replaces = ("head",)

    def __init__(self, *, percentile: float = 0.85, head_weight_decay: float = 5e-5):
        super().__init__()
        check_share("percentile", percentile)
        check_number("head_weight_decay", head_weight_decay, low=0)
        self.percentile = percentile
        self.head_weight_decay = head_weight_decay

    def forward(
        self, features: Float[Tensor, "n f"], weight: Float[Tensor, "c f"], bias: Float[Tensor, " c"] | None = None
    ) -> Float[Tensor, "n c"]:
        """Logits W·h + b, whose gradient in W is that of shaped features."""
        features, weight, *biases = in_one_precision(features, weight, *(() if bias is None else (bias,)))
        return shaped_linear(features, weight, biases[0] if biases else None, self.percentile)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.head = ShapedLinear(linear_head(classifier, self.name), self.percentile)

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        return ({"params": list(classifier.head.parameters()), "weight_decay": self.head_weight_decay},)
