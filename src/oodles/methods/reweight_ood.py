"""ReweightOOD: pairs of a class pull and all others push, each the more, the less it is where it should be."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import elu

from oodles.checks import check_flag, check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import unit_length
from oodles.targets import RowTargets, as_probabilities
from oodles.views import PROJECTION, projected_views, with_view

WITHIN, BETWEEN = (2.0, 1.0), (5.0, 4.0)
"""The authors' (m_w, c_w) and (m_b, c_b): slope and offset of the weights of pairs of one class, and of two."""
FAR = -1e4
"""In place of −∞, where the gradient would not be finite: what pairs give that do not count."""


def reweighted_pairs(
    rows: Float[Tensor, "n d"], targets: RowTargets, num_classes: int, temperature: float = 0.1
) -> Float[Tensor, ""]:
    """Return ELU(log Σ exp(−w⁺·s⁺/T) + log Σ exp(w⁻·s⁻/T)) over the pairs of rows; zero where either kind is missing.

    Args:
        rows: at unit length; s is the cosine of a pair, s⁺ of one class and s⁻ of two.
        targets: class ids or probabilities; a pair is of one class with probability y_i · y_j.
        num_classes: C.
        temperature: T.

    The weights w⁺ = σ(−(2·s⁺ − 1)) and w⁻ = σ(5·s⁻ − 4) have no gradient.
    """
    y = as_probabilities(targets, num_classes).to(rows.dtype)
    cosine, alike = rows @ rows.T, (y @ y.T).clamp(0, 1)
    pair = torch.ones_like(alike).triu(1)
    pulled, pushed = alike * pair, (1 - alike) * pair
    pull = -torch.sigmoid(WITHIN[1] - WITHIN[0] * cosine).detach() * cosine / temperature
    push = torch.sigmoid(BETWEEN[0] * cosine - BETWEEN[1]).detach() * cosine / temperature
    loss = elu(_log_sum_exp(pull, pulled) + _log_sum_exp(push, pushed))
    return torch.where(pulled.any() & pushed.any(), loss, torch.zeros_like(loss))


def _log_sum_exp(values: Float[Tensor, "n n"], shares: Float[Tensor, "n n"]) -> Float[Tensor, ""]:
    """Return log Σ share·exp(value)."""
    counted = shares > 0
    weighted = values + shares.where(counted, torch.ones_like(shares)).log()
    flat = torch.cat([weighted.masked_fill(~counted, FAR).flatten(), values.new_full((1,), FAR)])
    return flat.logsumexp(0)


class ReweightOOD(Method):
    """Adds λ × a contrastive loss of two scalars: over all pairs of one class, and over all pairs of two.

    When to use: no outliers at hand, and what will come is far from what is known.
    Cost: a second view of every row, so twice the forward pass.
    Caveat: in the authors' own figures what is near the known classes is told apart less well than by plain training.

    Args:
        weight: λ; 0 switches off.
        alone: train without cross-entropy, as the paper does; the last layer then learns on features that stay as they
            are.
        temperature: T, above 0.
        dimensions: of the projection in which rows are compared.

    Raises:
        ValueError: for a weight that is negative or not finite, a temperature that is not above 0, or no dimensions.

    Source: Regmi et al., section 3, with the numbers of the authors' program for CIFAR. Sums run over a batch's pairs,
    so the term depends on how many rows there are. Of probabilities a pair counts with the probability that both rows
    are of one class.
    """

    name = "reweight-ood"
    paper = Paper(
        title="ReweightOOD: Loss Reweighting for Distance-based OOD Detection",
        authors="Regmi, Panthi, Ming, Gyawali, Stoyanov, Bhattarai",
        venue="CVPR workshop",
        year=2024,
        link="https://openaccess.thecvf.com/content/CVPR2024W/TCV2024/html/Regmi_ReweightOOD_Loss_Reweighting_for_Distance-based_OOD_Detection_CVPRW_2024_paper.html",
        code="https://github.com/sudarshanregmi/ReweightOOD",
    )
    score = "mahalanobis"
    strength = "weight"
    needs = ("vectors",)
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    terms = ("reweight_ood",)
    heads = ("projection",)

    def __init__(
        self,
        *,
        weight: float = 0.1,
        alone: bool = False,
        temperature: float = 0.1,
        dimensions: int = 128,
    ):
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
        """Term for projections of any length, and class ids or probabilities: λ × the loss of their pairs."""
        return self.weight * reweighted_pairs(unit_length(projections), targets, num_classes, self.temperature)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        classes = now.classifier.num_classes
        rows, targets, _ = projected_views(outputs, batch, classes)
        return {"reweight_ood": self(rows, targets, classes)}
