"""CIDER: projections gather around a prototype of their class, and the prototypes spread over the sphere."""

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_flag, check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32, take_over, unit_length
from oodles.processes import sum_over_processes
from oodles.targets import RowTargets, as_probabilities, mean_over_rows
from oodles.views import PROJECTION, own_projected_views, with_view


def moved(
    prototypes: Float[Tensor, "c d"], rows: Float[Tensor, "n d"], targets: Float[Tensor, "n c"], momentum: float
) -> Float[Tensor, "c d"]:
    """Return unit(mⁿ·P + (1 − mⁿ)·the mean of the n rows of a class), for each class; over all processes.

    One row after the other, P would depend on their order: near the prototypes, by more than it differs from this.
    """
    sums = sum_over_processes(torch.cat([targets.T @ rows, targets.sum(0).unsqueeze(1)], 1))
    count = sums[:, -1:]
    means = sums[:, :-1] / count.masked_fill(count == 0, 1)
    kept = momentum**count
    return unit_length(kept * prototypes + (1 - kept) * means)


def compactness(
    rows: Float[Tensor, "n d"], prototypes: Float[Tensor, "c d"], targets: Float[Tensor, "n c"], temperature: float
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of z·P / T to the targets, among classes that have a prototype."""
    near = rows @ prototypes.T / temperature
    all_near = near.masked_fill(~_there(prototypes), -torch.inf).logsumexp(1)
    return mean_over_rows(all_near - (targets * near).sum(1))


def dispersion(prototypes: Float[Tensor, "c d"], temperature: float) -> Float[Tensor, ""]:
    """Return the mean over classes i of log mean_j exp(P_i·P_j / T), over the others that have a prototype.

    Fewer than two prototypes have a dispersion of zero.
    """
    there = _there(prototypes)
    pairs = (there & there.unsqueeze(1)).fill_diagonal_(False)
    count = pairs.sum(1)
    near = (prototypes @ prototypes.T / temperature).masked_fill(~pairs, -torch.inf).logsumexp(1)
    spread = torch.where(count > 0, near - count.clamp(min=1).to(near.dtype).log(), 0)
    return spread.sum() / (count > 0).sum().clamp(min=1)


def _there(prototypes: Float[Tensor, "c d"]) -> Tensor:
    """Say of which classes a row has been seen: prototypes begin as zeros."""
    return (prototypes != 0).any(1)


class CIDER(Method):
    """Adds λ × (λ_c × the cross-entropy of rows to their class's prototype + the likeness of prototypes).

    When to use: no outliers at hand, and features that are to cluster by class, for scores of neighbours or distances.
    Cost: a second view of every row, so twice the forward pass; the terms cost less than SupCon's.
    Caveat: prototypes begin near each other; alone, it wants many epochs.

    Args:
        weight: λ, of both terms; 0 switches off.
        alone: train without cross-entropy, as the paper does; the last layer then learns on features that stay as they
            are.
        compactness: λ_c.
        temperature: T, above 0.
        prototype_momentum: m, the share of a prototype that stays when a row moves it, in [0, 1); 0.95 in the authors'
            program for CIFAR-10 and 0.5 for CIFAR-100.
        dimensions: of the projection in which rows are compared.

    Raises:
        ValueError: for a weight, λ_c or momentum outside its range, a temperature that is not above 0, or no
            dimensions.

    Source: Ming et al., the losses of compactness and dispersion. The authors' program multiplies the compactness by
    T / 0.07 beside its w, so that λ_c is w·T / 0.07 there. As there, dispersion has a gradient through the move of the
    prototypes, and compactness has none in prototypes. Unlike there, the n rows of a class move its prototype at once
    and not in their order, prototypes begin with the first batch and not with a pass over the data, and a class that no
    row has been of is left out of both terms.
    """

    name = "cider"
    paper = Paper(
        title="How to Exploit Hyperspherical Embeddings for Out-of-Distribution Detection?",
        authors="Ming, Sun, Dia, Li",
        venue="ICLR",
        year=2023,
        link="https://arxiv.org/abs/2203.04450",
        code="https://github.com/deeplearning-wisc/cider",
    )
    score = "knn"
    strength = "weight"
    needs = ("vectors",)
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    terms = ("compactness", "dispersion")
    heads = ("projection",)
    prototypes: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.1,
        alone: bool = False,
        compactness: float = 2.0,
        temperature: float = 0.1,
        prototype_momentum: float = 0.95,
        dimensions: int = 128,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_flag("alone", alone)
        check_number("compactness", compactness, low=0)
        check_number("temperature", temperature, above=0)
        check_share("prototype_momentum", prototype_momentum)
        check_whole("dimensions", dimensions, low=1)
        self.weight = weight
        self.alone = alone
        self.compactness = compactness
        self.temperature = temperature
        self.prototype_momentum = prototype_momentum
        self.dimensions = dimensions

    def forward(
        self, projections: Float[Tensor, "n d"], targets: RowTargets, prototypes: Float[Tensor, "c d"]
    ) -> Float[Tensor, ""]:
        """Both terms for projections of any length, class ids or probabilities, and prototypes that they move."""
        rows = unit_length(projections)
        y = as_probabilities(targets, len(prototypes)).to(rows.dtype)
        return torch.stack(self._terms(rows, y, prototypes.to(rows.dtype))).sum()

    def _terms(self, rows: Tensor, targets: Tensor, prototypes: Tensor) -> list[Tensor]:
        """Return compactness and dispersion, with their weights."""
        after = moved(prototypes, rows, targets, self.prototype_momentum)
        near = self.compactness * compactness(rows, after.detach(), targets, self.temperature)
        return [self.weight * near, self.weight * dispersion(after, self.temperature)]

    def change_classifier(self, classifier: Classifier) -> None:
        head = classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)
        if "prototypes" not in self._buffers:
            like = at_least_float32(next(head.parameters()))
            self.register_buffer("prototypes", like.new_zeros(classifier.num_classes, self.dimensions))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        rows, targets = own_projected_views(outputs, batch, now.classifier.num_classes)
        prototypes = self.prototypes.to(rows.dtype, copy=True)  # a copy, since they move in place
        return dict(zip(self.terms, self._terms(rows, targets, prototypes), strict=True))

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        rows, targets = own_projected_views(outputs, batch, now.classifier.num_classes)
        prototypes = moved(self.prototypes.to(rows.dtype), rows, targets, self.prototype_momentum)
        take_over((self.prototypes, prototypes))
