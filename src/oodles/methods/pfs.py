"""Pursuing Feature Separation: features of outliers away from the space of the weights, known ones along their own."""

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number, check_share
from oodles.classifier import device_of
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.heads import affine_map
from oodles.precision import at_least_float32, unit_length
from oodles.scores.score import ScoreOfLastLayer
from oodles.targets import RowTargets, as_probabilities, mean_over_rows


def cosines(features: Float[Tensor, "n f"], weight: Float[Tensor, "c f"]) -> Float[Tensor, "n c"]:
    """Return cos(h, w_c) of features with the weights of each class; 0 for a vector of zeros."""
    h, w = unit_length(features), unit_length(weight)
    with torch.autocast(h.device.type, enabled=False):
        return h @ w.to(h.dtype).T


def separation(features: Float[Tensor, "m f"], weight: Float[Tensor, "c f"]) -> Float[Tensor, ""]:
    """Return mean Σ_c abs cos(o, w_c), which is 0 where outliers are orthogonal to the weights of all classes."""
    return mean_over_rows(cosines(features, weight).abs().sum(1))


def clustering(features: Float[Tensor, "n f"], weight: Float[Tensor, "c f"], targets: RowTargets) -> Float[Tensor, ""]:
    """Return −mean cos(h, w_y), which is −1 where every row lies along the weights of its class."""
    y = as_probabilities(targets, len(weight))
    return -mean_over_rows((y * cosines(features, weight)).sum(1))


class PFS(Method):
    """Adds λ × (mean Σ_c abs cos(o, w_c) − mean cos(h, w_y)) in the second half of training.

    When to use: beside outlier-exposure, towards the end of a fine-tuning.
    Cost: the outliers' rows in the forward pass.
    Caveat: it needs more features than classes, as nothing is orthogonal to weights that fill the space, and weights
    that stay as they are: it trains features alone.

    Args:
        weight: λ; 0 switches off.
        start: the share of the epochs after which it begins, in [0, 1).

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, and a start outside [0, 1).

    Source: Wu et al.; their objective also has cross-entropy and Outlier Exposure, here a method of its own. As in
    their program the weights w get no gradient from the two terms, which begin at half of the epochs.
    """

    name = "pfs"
    paper = Paper(
        title="Pursuing Feature Separation based on Neural Collapse for Out-of-Distribution Detection",
        authors="Wu, Yu, Cheng, He, Huang",
        venue="ICLR",
        year=2025,
        link="https://arxiv.org/abs/2405.17816",
        code="https://github.com/Wuyingwen/Pursuing-Feature-Separation-for-OOD-Detection",
    )
    score = "feature-separation"
    strength = "weight"
    needs = ("outliers", "vectors", "linear-head")
    terms = ("pfs",)

    def __init__(self, *, weight: float = 1.0, start: float = 0.5):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("start", start)
        self.weight = weight
        self.start = start

    def forward(
        self,
        features_in: Float[Tensor, "n f"],
        targets_in: RowTargets,
        features_out: Float[Tensor, "m f"],
        head_weight: Float[Tensor, "c f"],
    ) -> Float[Tensor, ""]:
        """Term for features of in-distribution rows, their targets, features of outliers, and the last layer's W."""
        fixed = at_least_float32(head_weight.detach())
        return self.weight * (separation(features_out, fixed) + clustering(features_in, fixed, targets_in))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        # a tensor, as is the term at all times, since what begins later would be compiled anew
        begun = now.over(self.start)
        return batch.with_draws(pfs_begun=torch.full((), begun, device=device_of(now.classifier)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        h, o = outputs.features["id"], outputs.features["outliers"]
        term = self(h, batch["id"].labels, o, now.classifier.head.weight)
        return {"pfs": torch.where(batch.draws["pfs_begun"], term, 0.0)}


class FeatureSeparation(ScoreOfLastLayer):
    """−Σ_c abs cos(h, w_c) − max_c p_c: how little a row is like the weights of any class."""

    name = "feature-separation"
    needs_affine_head = True
    learns = ("weight",)

    weight: Tensor

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        self.weight, _ = affine_map(classifier, self.name)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        along = cosines(features.to(self.weight.device).double(), self.weight).abs().sum(1)
        return -along - logits.to(along.device, along.dtype).softmax(1).amax(1)
