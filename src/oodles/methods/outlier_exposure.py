"""Outlier Exposure: make the prediction on auxiliary outliers uniform."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number, shapes_checked
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32
from oodles.targets import Targets, cross_entropy, mean_over_rows


def cross_entropy_to_uniform(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, ""]:
    """Return H(U, p) = log Σ_c exp z_c − mean_c z_c, averaged over rows (and pixels); zero where there are no rows.

    Args:
        logits: z of shape (N, C) or (N, C, H, W).

    Raises:
        TypeError: for logits that are not floating point.
    """
    logits = at_least_float32(logits)
    return mean_over_rows(torch.logsumexp(logits, 1) - logits.mean(1))


class OutlierExposureLoss(nn.Module):
    """Cross-entropy on in-distribution rows plus λ × mean cross-entropy of the outliers to the uniform distribution.

    Args:
        lambda_oe: λ, the weight of the outliers' term, at least 0.

    Example:
        >>> import torch
        >>> criterion = OutlierExposureLoss(lambda_oe=0.5)
        >>> loss = criterion(torch.zeros(4, 10), torch.arange(4), torch.zeros(8, 10))
        >>> round(float(loss), 4)  # 1.5 log 10
        3.4539
    """

    def __init__(self, lambda_oe: float = 0.5):
        super().__init__()
        check_number("lambda_oe", lambda_oe, low=0)
        self.lambda_oe = lambda_oe

    @shapes_checked
    def forward(
        self,
        logits_in: Float[Tensor, "n c *space"],
        targets_in: Targets,
        logits_out: Float[Tensor, "m c *space_out"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of both batches; without outliers it is plain cross-entropy.

        Raises:
            TypeError: for logits that are not floating point.
            ValueError: for labels outside the classes, or a number of classes that differs between the two.
        """
        loss = cross_entropy(logits_in, targets_in)
        if logits_out is None:
            return loss
        return loss + self.lambda_oe * cross_entropy_to_uniform(logits_out) if self.lambda_oe else loss


class OutlierExposure(Method):
    """Adds λ × the cross-entropy of the predictions on auxiliary outliers to the uniform distribution.

    When to use: you have images of the kind that the classifier will not know, disjoint from what it will be tested on.
    Cost: the outliers' rows in the forward pass.
    Caveat: it learns what those outliers look like; far away from them it can be worse than plain training.

    Args:
        weight: λ; 0 switches off. The paper uses 0.5 for images and 1.0 for text.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Hendrycks et al., section 3 and 4.3. The paper fine-tunes a trained classifier for 10 epochs at a learning
    rate of 0.001, or trains from scratch; batches hold twice as many outliers.
    """

    name = "outlier-exposure"
    paper = Paper(
        title="Deep Anomaly Detection with Outlier Exposure",
        authors="Hendrycks, Mazeika, Dietterich",
        venue="ICLR",
        year=2019,
        link="https://arxiv.org/abs/1812.04606",
        code="https://github.com/hendrycks/outlier-exposure",
    )
    strength = "weight"
    needs = ("outliers",)
    terms = ("outlier_exposure",)

    def __init__(self, *, weight: float = 0.5):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(self, logits_out: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the outliers' logits."""
        return self.weight * cross_entropy_to_uniform(logits_out)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"outlier_exposure": self(outputs.logits["outliers"])}
