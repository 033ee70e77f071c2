"""Shared discriminator: one more logit says whether a row is in-distribution, beside those of the classes."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32
from oodles.scores import HeadScore, msp
from oodles.targets import mean_over_rows

DISCRIMINATOR = "discriminator"


def mean_log_loss(logits: Float[Tensor, "n 1 *space"], *, known: bool) -> Float[Tensor, ""]:
    """Return mean −log σ(d) for known rows, mean −log σ(−d) for outliers; d is a single logit."""
    return mean_over_rows(softplus(-at_least_float32(logits) if known else at_least_float32(logits)))


class SharedDiscriminator(Method):
    """Trains a logit d beside the classes to tell outliers: −mean log σ(d(x)) − λ × mean log σ(−d(o)).

    When to use: you have outliers, and want a probability of being in-distribution that leaves the classes alone.
    Cost: the outliers' rows in the forward pass.
    Caveat: no term looks at the classes' shares on outliers, so the maximum softmax probability is a poor score here.

    Args:
        weight: λ, of the outliers' term; 0 switches off.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Bitterwolf et al., "SharedCD": cross-entropy over the classes and logistic regression on one network. Its
    authors train from scratch; of their scores, 1 − s₁, 1 − s₂ and 1 − s₃ are ``discriminator``, ``discriminator-s2``
    and ``discriminator-s3``, the last of which behaves as the confidence after Outlier Exposure does.
    """

    name = "shared-discriminator"
    paper = Paper(
        title="Breaking Down Out-of-Distribution Detection: Many Methods Based on OOD Training Data Estimate a "
        "Combination of the Same Core Quantities",
        authors="Bitterwolf, Meinke, Augustin, Hein",
        venue="ICML",
        year=2022,
        link="https://arxiv.org/abs/2206.09880",
        code="https://github.com/j-cb/Breaking_Down_OOD_Detection",
    )
    score = "discriminator-s3"
    strength = "weight"
    needs = ("outliers",)
    terms = ("discriminator", "shared_discriminator")
    heads = ("discriminator",)

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(self, discriminator_out: Float[Tensor, "m 1 *space"]) -> Float[Tensor, ""]:
        """Term for the outliers' d."""
        return self.weight * mean_log_loss(discriminator_out, known=False)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(DISCRIMINATOR, 1)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        d = outputs.heads[DISCRIMINATOR]
        return {DISCRIMINATOR: mean_log_loss(d["id"], known=True), "shared_discriminator": self(d["outliers"])}


def no_s1(d: Float[Tensor, "n *space"]) -> Float[Tensor, "n *space"]:
    """Return 1 − s₁ = σ(−d), the probability of being an outlier, from the logit d of being none."""
    return torch.sigmoid(-at_least_float32(d))


def no_s2(logits: Float[Tensor, "n c *space"], d: Float[Tensor, "n *space"]) -> Float[Tensor, "n *space"]:
    """Return 1 − s₂, s₂ = s₁ · max p, as a sum of small numbers, since 1 − s₂ would round confident rows to zero."""
    unsure, out = msp(logits), no_s1(d)
    return unsure + (1 - unsure) * out


def no_s3(logits: Float[Tensor, "n c *space"], d: Float[Tensor, "n *space"]) -> Float[Tensor, "n *space"]:
    """Return 1 − s₃, with s₃ = s₂ + (1 − s₁) / K: the highest class probability where p is uniform on outliers."""
    unsure, out = msp(logits), no_s1(d)
    return unsure * (1 - out) + out * (1 - 1 / logits.shape[1])


class Discriminator(HeadScore):
    """The discriminator's probability that a row is an outlier.

    See :func:`no_s1`.
    """

    name = "discriminator"
    needs_heads = (DISCRIMINATOR,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (d,) = heads
        return no_s1(d.squeeze(1))


class DiscriminatorS2(HeadScore):
    """1 − s₂, with s₂ the largest softmax probability times that of being no outlier.

    See :func:`no_s2`.
    """

    name = "discriminator-s2"
    needs_heads = (DISCRIMINATOR,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (d,) = heads
        return no_s2(logits, d.squeeze(1))


class DiscriminatorS3(HeadScore):
    """1 − s₃, with s₃ the highest class probability where that of being an outlier is spread over the classes.

    See :func:`no_s3`.
    """

    name = "discriminator-s3"
    needs_heads = (DISCRIMINATOR,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (d,) = heads
        return no_s3(logits, d.squeeze(1))
