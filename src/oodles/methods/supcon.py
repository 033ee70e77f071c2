"""Supervised contrastive learning: projections of rows of one class attract each other, and all others repel."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_flag, check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import unit_length
from oodles.targets import RowTargets, as_probabilities, mean_over_rows
from oodles.views import PROJECTION, projected_views, with_view


def contrast(
    rows: Float[Tensor, "n d"], targets: Float[Tensor, "n c"], temperature: float, own: slice = slice(None)
) -> Float[Tensor, ""]:
    """Return the mean over anchors i of −Σ_p a_ip·log softmax_p(z_i·z_p / T) / Σ_p a_ip, over all other rows p.

    a_ip = y_i·y_p is the probability that two rows are of one class; a row with which no other one is contributes zero.

    Args:
        rows: z, at unit length.
        targets: y, probabilities.
        temperature: T.
        own: the rows that are anchors.
    """
    numbers = torch.arange(len(rows), device=rows.device)
    itself = numbers[own].unsqueeze(1) == numbers
    near = rows[own] @ rows.T / temperature
    alike = (targets[own] @ targets.T).masked_fill(itself, 0)
    count = alike.sum(1)
    attracted = (alike * near).sum(1) / count.masked_fill(count == 0, 1)
    repelled = near.masked_fill(itself, -torch.inf).logsumexp(1)
    return mean_over_rows(torch.where(count > 0, repelled - attracted, 0))


class SupCon(Method):
    """Adds λ × the cross-entropy of finding a row's class among all rows, by the cosines of their projections.

    When to use: no outliers at hand, and features that are to cluster by class, for scores of neighbours or distances.
    Cost: a second view of every row, so twice the forward pass, and a product of all rows with all rows.
    Caveat: a batch should hold several rows of each class; alone, it wants large batches and many epochs.

    Args:
        weight: λ; 0 switches off.
        alone: train without cross-entropy, as the paper does; the last layer then learns on features that stay as they
            are.
        temperature: T, above 0.
        dimensions: of the projection in which rows are compared.

    Raises:
        ValueError: for a weight that is negative, a temperature that is not above 0, one of them not finite, or no
            dimensions.

    Source: Khosla et al., equation 2. The authors' program multiplies the loss by T / 0.07, as λ can. A row whose class
    no other row has gives zero. Of probabilities, two rows are of one class with y_i·y_p. Sehwag et al. (SSD+, ICLR
    2021) score its features by ``mahalanobis``, Sun et al. (KNN+, ICML 2022) by ``knn``.
    """

    name = "supcon"
    paper = Paper(
        title="Supervised Contrastive Learning",
        authors="Khosla, Teterwak, Wang, Sarna, Tian, Isola, Maschinot, Liu, Krishnan",
        venue="NeurIPS",
        year=2020,
        link="https://arxiv.org/abs/2004.11362",
        code="https://github.com/HobbitLong/SupContrast",
    )
    score = "knn"
    strength = "weight"
    needs = ("vectors",)
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    terms = ("supcon",)
    heads = ("projection",)

    def __init__(self, *, weight: float = 0.5, alone: bool = False, temperature: float = 0.1, dimensions: int = 128):
        super().__init__()
        check_number("weight", weight, low=0)
        check_flag("alone", alone)
        check_number("temperature", temperature, above=0)
        check_whole("dimensions", dimensions, low=1)
        self.weight = weight
        self.alone = alone
        self.temperature = temperature
        self.dimensions = dimensions

    def forward(self, projections: Float[Tensor, "n d"], targets: RowTargets, num_classes: int) -> Float[Tensor, ""]:
        """Term for projections of any length, of all views, and their class ids or probabilities."""
        rows = unit_length(projections)
        y = as_probabilities(targets, num_classes).to(rows.dtype)
        return self.weight * contrast(rows, y, self.temperature)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        rows, targets, own = projected_views(outputs, batch, now.classifier.num_classes)
        return {"supcon": self.weight * contrast(rows, targets, self.temperature, own)}
