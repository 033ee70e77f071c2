"""Objectosphere: the entropic open-set loss, and long features for knowns, short ones for unknowns."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.entropic_open_set import class_balanced_entropic
from oodles.precision import at_least_float32
from oodles.scores import Score, msp
from oodles.targets import mean_over_rows


def magnitude(features: Float[Tensor, "n f *space"]) -> Float[Tensor, "n *space"]:
    """Return ‖h‖₂ of each row (or pixel)."""
    norm: Tensor = torch.linalg.vector_norm(at_least_float32(features), dim=1)
    return norm


def magnitude_penalty(
    features_in: Float[Tensor, "n f *space"], features_out: Float[Tensor, "m f *space_out"], minimum: float
) -> Float[Tensor, ""]:
    """Return mean relu(ξ − ‖h(x)‖)² + mean ‖h(o)‖²."""
    too_short = (minimum - magnitude(features_in)).relu()
    squared_lengths = at_least_float32(features_out).square().sum(1)
    return mean_over_rows(too_short**2) + mean_over_rows(squared_lengths)


class Objectosphere(Method):
    """Adds the entropic open-set term and λ × (mean relu(ξ − ‖h(x)‖)² + mean ‖h(o)‖²), h the features.

    When to use: negatives of kinds near to the known classes, and a network whose features may have any length.
    Cost: the outliers' rows in the forward pass.
    Caveat: ξ belongs to the scale of one network's features; where these are longer already, only unknowns feel it.

    Args:
        weight: of both terms; 0 switches off. At 1, the unknowns' predictions count as one class.
        magnitude_weight: λ; 0 leaves the entropic open-set loss alone.
        minimum_magnitude: ξ, the length above which known rows are left alone.

    Raises:
        ValueError: for weights or a length that are negative, NaN or infinite.

    Source: Dhamija et al., the Objectosphere loss J_R, in which J_E is the loss of ``entropic-open-set``. The authors'
    code averages the magnitudes over knowns and unknowns at once and does not balance them by class, which for as many
    of both is about half of what is here. Their score multiplies the highest probability by the length of the features;
    ports that take the length of the logits score something else.
    """

    name = "objectosphere"
    paper = Paper(
        title="Reducing Network Agnostophobia",
        authors="Dhamija, Günther, Boult",
        venue="NeurIPS",
        year=2018,
        link="https://arxiv.org/abs/1811.04110",
        code="https://github.com/Vastlab/Reducing-Network-Agnostophobia",
    )
    score = "objectosphere"
    strength = "weight"
    needs = ("outliers",)
    terms = ("entropic_open_set", "objectosphere")

    def __init__(self, *, weight: float = 1.0, magnitude_weight: float = 1e-4, minimum_magnitude: float = 50.0):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("magnitude_weight", magnitude_weight, low=0)
        check_number("minimum_magnitude", minimum_magnitude, low=0)
        self.weight = weight
        self.magnitude_weight = magnitude_weight
        self.minimum_magnitude = minimum_magnitude

    def forward(
        self, features_in: Float[Tensor, "n f *space"], features_out: Float[Tensor, "m f *space_out"]
    ) -> Float[Tensor, ""]:
        """Term for the features of knowns and unknowns, without the entropic open-set term."""
        penalty = magnitude_penalty(features_in, features_out, self.minimum_magnitude)
        return self.weight * self.magnitude_weight * penalty

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        terms = {"entropic_open_set": self.weight * class_balanced_entropic(outputs.logits["outliers"])}
        if self.magnitude_weight:
            terms["objectosphere"] = self(outputs.features["id"], outputs.features["outliers"])
        return terms


class ObjectosphereScore(Score):
    """−max p · ‖h‖ of the features h."""

    name = "objectosphere"
    needs_features = True

    def __call__(self, features: Float[Tensor, "n f *space"], logits: Float[Tensor, "n c *space"]) -> Tensor:
        return (msp(logits) - 1) * magnitude(features)
