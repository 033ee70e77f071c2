"""PALM: several prototypes a class, to which its rows are assigned, and which follow the rows assigned to them."""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from oodles.checks import check_flag, check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32, in_one_precision, take_over, unit_length
from oodles.targets import mean_over_rows
from oodles.views import PROJECTION, projected_views, with_view

EPSILON, ROUNDS = 0.05, 3
"""The entropy and the rounds of the assignment, as the authors set them."""
APART = 0.5
"""The temperature at which prototypes are compared with each other, likewise."""


def assignment(rows: Float[Tensor, "n d"], prototypes: Float[Tensor, "p d"]) -> Float[Tensor, "n p"]:
    """Return by how much each row belongs to each prototype, so that all prototypes get as much (Sinkhorn's rounds).

    Rows sum to one; no gradient.
    """
    shares = ((rows @ prototypes.T).detach() / EPSILON).exp()
    for _ in range(ROUNDS):
        shares = normalize(normalize(shares, p=1, dim=0), p=1, dim=1)
    return shares


def nearest_of_class(shares: Float[Tensor, "n p"], targets: Float[Tensor, "n c"], nearest: int) -> Float[Tensor, "n p"]:
    """Return the assignment to the ``nearest`` prototypes of each row's own class, and zero to all others."""
    own = shares * targets.repeat(1, shares.shape[1] // targets.shape[1])
    kept = own.topk(min(nearest, own.shape[1]), dim=1).indices
    return own * torch.zeros_like(own).scatter(1, kept, 1.0)


class PALM(Method):
    """Adds λ × (− the log-likelihood of rows under their class's prototypes + a contrast of the prototypes).

    When to use: no outliers at hand, and classes that are of several kinds each.
    Cost: a second view of every row, so twice the forward pass.
    Caveat: prototypes move slowly; short trainings want a lower momentum.

    Args:
        weight: λ; 0 switches off.
        alone: train without cross-entropy, as the paper does; the last layer then learns on features that stay as they
            are.
        prototypes: K, of each class.
        nearest: k, to so many prototypes of its class a row is assigned.
        prototype_momentum: α, the share of a prototype that stays at each step, in [0, 1).
        temperature: τ, above 0.
        spread: the weight of the contrast of prototypes beside the likelihood.
        dimensions: of the projection in which rows are compared.

    Raises:
        ValueError: for a weight, spread or momentum outside its range, a temperature that is not above 0, or no
            prototypes, neighbours or dimensions.

    Source: Lu et al., equations 3 to 9. As in the authors' program, prototype p is of class p mod C, the rows are
    assigned once more when prototypes have moved, and the likelihood has no gradient in the prototypes, while their
    contrast has one, through (1 − α) × the rows that moved them. A class without rows keeps its prototypes.
    """

    name = "palm"
    paper = Paper(
        title="Learning with Mixture of Prototypes for Out-of-Distribution Detection",
        authors="Lu, Gong, Wang, Xue, Yao, Moore",
        venue="ICLR",
        year=2024,
        link="https://arxiv.org/abs/2402.02653",
        code="https://github.com/jeff024/PALM",
    )
    score = "mahalanobis"
    strength = "weight"
    needs = ("vectors",)
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    terms = ("palm",)
    heads = ("projection",)
    centers: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.5,
        alone: bool = False,
        prototypes: int = 6,
        nearest: int = 5,
        prototype_momentum: float = 0.999,
        temperature: float = 0.1,
        spread: float = 1.0,
        dimensions: int = 128,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_flag("alone", alone)
        check_whole("prototypes", prototypes, low=1)
        check_whole("nearest", nearest, low=1)
        check_share("prototype_momentum", prototype_momentum)
        check_number("temperature", temperature, above=0)
        check_number("spread", spread, low=0)
        check_whole("dimensions", dimensions, low=1)
        self.weight = weight
        self.alone = alone
        self.prototypes = prototypes
        self.nearest = nearest
        self.prototype_momentum = prototype_momentum
        self.temperature = temperature
        self.spread = spread
        self.dimensions = dimensions

    def forward(
        self, projections: Float[Tensor, "n d"], targets: Float[Tensor, "n c"], centers: Float[Tensor, "p d"]
    ) -> Float[Tensor, ""]:
        """Term for projections of any length, probabilities, and prototypes at unit length, by class in turn."""
        if not len(centers) or len(centers) % targets.shape[1]:
            raise ValueError(
                f"centers must be as many for each of the {targets.shape[1]} classes, got {len(centers)} together."
            )
        rows, y, prototypes = in_one_precision(unit_length(projections), targets, centers)
        return self.weight * self._loss(rows, y, prototypes, slice(0, len(rows)))

    def moved(
        self, rows: Float[Tensor, "n d"], targets: Float[Tensor, "n c"], centers: Float[Tensor, "p d"]
    ) -> Float[Tensor, "p d"]:
        """Return the prototypes after these rows, at unit length, have moved them; with a gradient in the rows."""
        own = nearest_of_class(assignment(rows, centers), targets, self.nearest)
        pulls = normalize(normalize(own, p=1, dim=1), p=1, dim=0).T @ rows
        return unit_length(self.prototype_momentum * centers + (1 - self.prototype_momentum) * pulls)

    def _loss(self, rows: Tensor, targets: Tensor, centers: Tensor, own: slice) -> Float[Tensor, ""]:
        """Return likelihood of the rows ``own`` and contrast of prototypes, when all rows have moved these."""
        moved = self.moved(rows, targets, centers)
        shares = nearest_of_class(assignment(rows, moved.detach()), targets, self.nearest)[own]
        near = rows[own] @ moved.detach().T / self.temperature
        likelihood = (normalize(shares, p=1, dim=1) * near).sum(1) - near.logsumexp(1)
        return self.spread * self._contrast(moved, targets.shape[1]) - mean_over_rows(likelihood)

    def _contrast(self, centers: Float[Tensor, "p d"], classes: int) -> Float[Tensor, ""]:
        """Return how much each prototype is like those of other classes rather than the others of its own."""
        kind = torch.arange(len(centers), device=centers.device) % classes
        others = ~torch.eye(len(centers), dtype=torch.bool, device=centers.device)
        alike = (others & (kind[:, None] == kind)).to(centers.dtype)
        near = centers @ centers.T / APART
        away = near.masked_fill(~others, -torch.inf).logsumexp(1)
        return (away - (normalize(alike, p=1, dim=1) * near).sum(1)).mean()

    def change_classifier(self, classifier: Classifier) -> None:
        head = classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)
        if "centers" not in self._buffers:
            like = at_least_float32(next(head.parameters()))
            drawn = torch.rand(self.prototypes * classifier.num_classes, self.dimensions)
            self.register_buffer("centers", unit_length(drawn).to(like.device, like.dtype))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        rows, targets, own = projected_views(outputs, batch, now.classifier.num_classes)
        centers = self.centers.to(rows.dtype, copy=True)  # a copy, since they move in place
        return {"palm": self.weight * self._loss(rows, targets, centers, own)}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        rows, targets, _ = projected_views(outputs, batch, now.classifier.num_classes)
        take_over((self.centers, self.moved(rows, targets, self.centers.to(rows.dtype))))
