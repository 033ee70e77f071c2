"""SAM: the loss at the worst weights nearby, so that training ends in a flat minimum."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.utils import get_total_norm

from oodles.checks import check_number
from oodles.contract import Batch, Gradient, Method, Now, Paper
from oodles.precision import at_least_float32


def step_up(gradient: Sequence[Float[Tensor, "..."]], radius: float) -> list[Float[Tensor, "..."]]:
    """Return ρ·g / ‖g‖₂ of a gradient g in several weights, of one length for all together; zeros where g is zero."""
    slopes = [at_least_float32(slope) for slope in gradient]
    length = get_total_norm(slopes)
    factor = radius / torch.where(length > 0, length, torch.inf)
    return [(factor * slope).to(given.dtype) for slope, given in zip(slopes, gradient, strict=True)]


class SAM(Method):
    """Takes the gradient of the loss at w + ρ·g / ‖g‖₂, where g is its gradient at the weights w.

    When to use: a classifier that overfits, or known rows some of whose labels are wrong; beside any other method.
    Cost: a second forward and backward pass.
    Caveat: too large a radius keeps the network from fitting the training rows.

    Args:
        radius: ρ; 0 switches off. The authors use 0.05 on CIFAR-10.

    Raises:
        ValueError: for a radius that is negative, NaN or infinite.

    Source: Foret et al., equations 2 and 3, for the sum of all terms. The step up belongs to the classifier's weights
    and is the same in all processes; parameters of other methods are not moved, and weight decay, which is in the
    authors' loss, has no part in it. Terms, statistics of batch norm and what methods see after the update are those of
    the moved weights.
    """

    name = "sam"
    paper = Paper(
        title="Sharpness-Aware Minimization for Efficiently Improving Generalization",
        authors="Foret, Kleiner, Mobahi, Neyshabur",
        venue="ICLR",
        year=2021,
        link="https://arxiv.org/abs/2010.01412",
        code="https://github.com/google-research/sam",
    )
    strength = "radius"

    def __init__(self, *, radius: float = 0.05):
        super().__init__()
        check_number("radius", radius, low=0)
        self.radius = radius

    def forward(self, *gradient: Float[Tensor, "..."]) -> list[Tensor]:
        """Changes of weights, to which a loss's gradient in each of them leads."""
        return step_up(gradient, self.radius)

    def change_weights(self, batch: Batch, gradient: Gradient, now: Now) -> Batch:
        slopes = gradient(batch)
        return batch.with_weights(batch.parts, dict(zip(slopes, self(*slopes.values()), strict=True)))
