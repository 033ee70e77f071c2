"""ELogitNorm: cross-entropy on logits divided by the mean distance of the features to the decision boundaries."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.precision import SHORT, at_least_float32
from oodles.targets import RowTargets, cross_entropy


def weight_distances(weight: Float[Tensor, "c f"]) -> Float[Tensor, "c c"]:
    """Return ‖w_i − w_j‖₂ of all pairs of classes, and 1 where it is below 1e-6.

    Computed from products of weights about their mean, so that nothing has C × C × F numbers.
    """
    about = at_least_float32(weight)
    about = about - about.mean(0)
    with torch.autocast(about.device.type, enabled=False):
        products = about @ about.T
    squares = products.diagonal()
    apart = squares + squares.unsqueeze(1) - 2 * products
    return apart.masked_fill(apart < SHORT**2, 1.0).sqrt()


def boundary_distance(logits: Float[Tensor, "n c"], apart: Float[Tensor, "c c"]) -> Float[Tensor, "n 1"]:
    """Return D = Σ_c |z_k − z_c| / ‖w_k − w_c‖ / (C − 1) of each row, with k its predicted class.

    It is the mean distance of the row's features to the boundaries between that class and the others, and 1 where it is
    below 1e-6, as where the weights are zero.

    Args:
        logits: z, linear in the features.
        apart: the distances of the weights, see :func:`weight_distances`.
    """
    z = at_least_float32(logits)
    predicted = z.argmax(1)
    ahead = z.gather(1, predicted.unsqueeze(1)) - z
    distance = (ahead / apart[predicted].to(z.dtype)).sum(1, keepdim=True) / max(z.shape[1] - 1, 1)
    return distance.masked_fill(distance < SHORT, 1.0)


def normalized(logits: Float[Tensor, "n c"], apart: Float[Tensor, "c c"]) -> Float[Tensor, "n c"]:
    """Return z / D, see :func:`boundary_distance`."""
    return at_least_float32(logits) / boundary_distance(logits, apart)


class ELogitNorm(Method):
    """Divides the logits of every part by the mean distance of the features to the boundaries of the predicted class.

    When to use: no outliers at hand, a linear last layer; any score may follow, also those that read features.
    Cost: none to speak of.
    Caveat: the scale of features does not count in the loss, and that of the last layer's weights is its temperature,
    so weight decay on them is part of the method.

    Raises:
        ValueError: for a last layer that is not linear.

    Source: Ding et al.: the loss is the cross-entropy of z / D, D the mean distance to C − 1 boundaries; the gradient
    passes through D and the weights. The authors' code divides the sum by C in place of C − 1. A distance of zero,
    which a last layer of zeros gives and where their code gives NaN, divides by nothing. Scores see logits as they are.
    """

    name = "elogit-norm"
    paper = Paper(
        title="Enhancing Out-of-Distribution Detection with Extended Logit Normalization",
        authors="Ding, Liu, Unger, Eilertsen",
        venue="CVPR",
        year=2026,
        link="https://arxiv.org/abs/2504.11434",
        code="https://github.com/limchaos/ELogitNormOOD",
    )
    needs = ("vectors", "linear-head")

    def __init__(self) -> None:
        super().__init__()

    def forward(
        self, logits: Float[Tensor, "n c"], targets: RowTargets, weight: Float[Tensor, "c f"]
    ) -> Float[Tensor, ""]:
        """Loss of logits, class ids or probabilities, and the last layer's weights."""
        return cross_entropy(normalized(logits, weight_distances(weight)), targets)

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        weight: Tensor = now.classifier.head.weight  # type: ignore[assignment]  # a linear layer's
        apart = weight_distances(weight)
        return replace(outputs, logits={role: normalized(z, apart) for role, z in outputs.logits.items()})
