"""SIREN: projections of a class follow a von Mises–Fisher distribution, with a mean that moves and a learned spread."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.cider import moved
from oodles.precision import at_least_float32, take_over, unit_length
from oodles.scores import HeadScore
from oodles.targets import RowTargets, as_probabilities, cross_entropy
from oodles.views import PROJECTION

VMF = "vmf"
LARGE = 16
"""The order from which four terms of the expansion are exact to 1e-8."""


def log_normalizer(concentration: Float[Tensor, " c"], dimensions: int) -> Float[Tensor, " c"]:
    """Return log C_d(κ) = log κ^ν / ((2π)^(d/2) I_ν(κ)), ν = d/2 − 1, in float64; finite for all κ ≥ 0.

    I_ν of a large order comes from its expansion in 1/ν, and of a small one by downward recurrence from there.
    """
    kappa, order = concentration.double(), dimensions / 2 - 1
    steps = max(0, math.ceil(LARGE - order))
    value = _log_power_over_bessel(order + steps, kappa)
    ratio = (value - _log_power_over_bessel(order + steps + 1, kappa)).exp()  # I_{ν+1} / (κ·I_ν)
    for step in range(steps - 1, -1, -1):
        ratio = 1 / (2 * (order + step + 1) + kappa.square() * ratio)
        value = value + ratio.log()
    return value - dimensions / 2 * math.log(2 * math.pi)


def _log_power_over_bessel(order: float, kappa: Float[Tensor, " c"]) -> Float[Tensor, " c"]:
    """Return log κ^ν / I_ν(κ) of a large order, by the expansion that holds for all κ (Debye's)."""
    s = (1 + (kappa / order).square()).sqrt()
    p, q = 1 / s, 1 / s.square()
    corrections = (
        p * (3 - 5 * q) / (24 * order)
        + q * (1 - 6 * q + 5 * q**2) / (16 * order**2)
        + p * q * (375 - 4779 * q + 9945 * q**2 - 5525 * q**3) / (5760 * order**3)
        + q**2 * (13 - 284 * q + 1062 * q**2 - 1356 * q**3 + 565 * q**4) / (128 * order**4)
    )
    return order * (math.log(order) + (1 + s).log() - s) + (2 * math.pi * order * s).log() / 2 - corrections


def log_densities(
    rows: Float[Tensor, "n d"], prototypes: Float[Tensor, "c d"], concentration: Float[Tensor, " c"]
) -> Float[Tensor, "n c"]:
    """Return log C_d(κ_c) + κ_c·P_c·z, the log density of each class at rows z of unit length."""
    kappa = concentration.relu()
    with torch.autocast(rows.device.type, enabled=False):
        return log_normalizer(kappa, rows.shape[1]).to(rows.dtype) + kappa.to(rows.dtype) * (rows @ prototypes.T)


class VonMisesFisher(nn.Module):
    """The further head log p(z | c) of each class, at the projection z of the features."""

    prototypes: Tensor

    def __init__(self, projection: nn.Module, classes: int, dimensions: int, concentration: float):
        super().__init__()
        self.projection = projection
        self.concentration = nn.Parameter(torch.full((classes,), float(concentration)))
        self.register_buffer("prototypes", unit_length(torch.randn(classes, dimensions)))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        rows = unit_length(self.projection(features))
        # a copy, since they move in place
        return log_densities(rows, self.prototypes.to(rows.dtype, copy=True), at_least_float32(self.concentration))


class SIREN(Method):
    """Adds β × the cross-entropy of log densities: for each class, projections are von Mises–Fisher distributed.

    When to use: no outliers at hand, and a score that is a density of each class.
    Cost: a small further head.
    Caveat: the score sees the projection alone, so few dimensions keep less of what tells unknown rows.

    Args:
        weight: β; 0 switches off.
        prototype_momentum: α, the share of a prototype that stays when a row moves it, in [0, 1).
        concentration: κ of all classes at the start, above 0; it is learned.
        dimensions: d, of the projection; 16 in the authors' scripts for PASCAL VOC.

    Raises:
        ValueError: for a weight or momentum outside its range, a concentration that is not above 0, or no dimensions.

    Source: Du et al., who train detectors; weight and concentration are their program's. As there, prototypes have no
    gradient and κ is cut off at 0. Unlike there, prototypes begin at random and move after the step, the n rows of a
    class at once and not in their order; the softmax is of logarithms, so that no density overflows.
    """

    name = "siren"
    paper = Paper(
        title="SIREN: Shaping Representations for Detecting Out-of-Distribution Objects",
        authors="Du, Gozum, Ming, Li",
        venue="NeurIPS",
        year=2022,
        link="https://openreview.net/forum?id=8E8tgnYlmN",
        code="https://github.com/deeplearning-wisc/siren",
    )
    score = "vmf"
    strength = "weight"
    needs = ("vectors",)
    terms = ("siren",)
    heads = ("projection", "vmf")

    def __init__(
        self,
        *,
        weight: float = 1.5,
        prototype_momentum: float = 0.95,
        concentration: float = 10.0,
        dimensions: int = 128,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("prototype_momentum", prototype_momentum)
        check_number("concentration", concentration, above=0)
        check_whole("dimensions", dimensions, low=1)
        self.weight = weight
        self.prototype_momentum = prototype_momentum
        self.concentration = concentration
        self.dimensions = dimensions

    def forward(self, densities: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
        """Term for log densities and class ids or probabilities, see :func:`log_densities`."""
        return self.weight * cross_entropy(densities, targets)

    def change_classifier(self, classifier: Classifier) -> None:
        projection = classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)
        if VMF not in classifier.heads:
            head = VonMisesFisher(projection, classifier.num_classes, self.dimensions, self.concentration)
            classifier.heads[VMF] = classifier.placed(head)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"siren": self.weight * now.cross_entropy(outputs.heads[VMF]["id"], batch["id"].labels)}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        prototypes: Tensor = now.classifier.heads[VMF].prototypes  # type: ignore[assignment]  # of change_classifier
        rows = unit_length(outputs.heads[PROJECTION]["id"])
        y = as_probabilities(batch["id"].labels, len(prototypes)).to(rows.dtype)
        take_over((prototypes, moved(prototypes.to(rows.dtype), rows, y, self.prototype_momentum)))


class LeastDensity(HeadScore):
    """−max_c log p(z | c): how unlikely the projection is in every class."""

    name = "vmf"
    needs_heads = (VMF,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n c"]) -> Tensor:
        (densities,) = heads
        return -densities.amax(1)
