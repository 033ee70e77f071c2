"""Class anchor clustering: logits cluster around fixed points, one per class."""

from typing import Self

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number, check_targets
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32
from oodles.scores import Score, msp
from oodles.targets import Targets, as_probabilities, as_rows, cross_entropy, mean_over_rows


def anchor_distances(logits: Float[Tensor, "n c *space"], alpha: float) -> Float[Tensor, "n c *space"]:
    """Return d_k = ‖z − α·e_k‖, the distances of logits to the anchors of all classes.

    As ‖z − α·e_k‖² = ‖z‖² − 2α·z_k + α², in float64, since close to an anchor that nearly cancels.
    """
    z = at_least_float32(logits)
    wide, alpha = z.double(), float(alpha)
    squares = wide.square().sum(1, keepdim=True) - 2 * alpha * wide + alpha * alpha
    return squares.clamp(min=1e-20).sqrt().to(z.dtype)  # a root has no derivative at 0


def tuplet_loss(distances: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
    """Return mean log(1 + Σ_{j≠y} exp(d_y − d_j)), which is the cross-entropy of −d."""
    return cross_entropy(-distances, targets)


def anchor_loss(distances: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
    """Return mean d_y."""
    y = as_probabilities(targets, distances.shape[1]).to(distances.dtype)
    return mean_over_rows((y * distances).sum(1))


class CAC(Method):
    """Pulls the logits of class c to the anchor α·e_c: log(1 + Σ_{j≠y} exp(d_y − d_j)) + λ·d_y with distances d.

    When to use: no outliers at hand, and whatever is far from all classes is to be rejected by distance.
    Cost: none to speak of.
    Caveat: the softmax of these logits is no probability; use the score "cac", which has to see the training rows.

    Args:
        alpha: α, how far the anchors are from the origin.
        weight: λ, of the distance to the own anchor; 0 leaves that term out.

    Raises:
        ValueError: for an α that is not above 0, a negative weight, or one of them not finite.

    Source: Miller et al., the tuplet and the anchor term, with the settings of paper and program. Both are for class
    ids; of probabilities it is the expectation over the classes. A row belongs to the class whose anchor is nearest,
    which with these anchors is the one with the highest logit; their program decides by the score's centres, for which
    it looks at mirrored images too.
    """

    name = "cac"
    paper = Paper(
        title="Class Anchor Clustering: A Loss for Distance-Based Open Set Recognition",
        authors="Miller, Sünderhauf, Milford, Dayoub",
        venue="WACV",
        year=2021,
        link="https://arxiv.org/abs/2004.02434",
        code="https://github.com/dimitymiller/cac-openset",
    )
    score = "cac"
    terms = ("tuplet", "anchor")
    replaces = ("cross-entropy",)

    def __init__(self, *, alpha: float = 10.0, weight: float = 0.1):
        super().__init__()
        check_number("alpha", alpha, above=0)
        check_number("weight", weight, low=0)
        self.alpha = alpha
        self.weight = weight

    def forward(self, logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
        """Loss of logits and class ids or probabilities."""
        return torch.stack(list(self._terms(logits, targets).values())).sum()

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return self._terms(outputs.logits["id"], batch["id"].labels)

    def _terms(self, logits: Tensor, targets: Tensor) -> Terms:
        distances = anchor_distances(logits, self.alpha)
        terms = {"tuplet": tuplet_loss(distances, targets)}
        return {**terms, "anchor": self.weight * anchor_loss(distances, targets)} if self.weight else terms


class AnchorDistance(Score):
    """min_k d_k·(1 − softmin(d)_k), with distances to the mean logits of each class's rightly classified training rows.

    Args:
        alpha: α; a class without such rows keeps its anchor α·e_c.
    """

    name = "cac"
    needs_fit = True
    learns = ("centres",)

    def __init__(self, alpha: float = 10.0):
        check_number("alpha", alpha, above=0)
        self.alpha = alpha

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        if labels is None or labels.is_floating_point():
            got = "none" if labels is None else f"{labels.dtype} of shape {tuple(labels.shape)}"
            raise ValueError(f"{self.name} needs the class ids of training rows, got {got}.")
        check_targets("labels", labels, logits.shape[1])
        if not bool(logits.isfinite().all()):
            raise ValueError("logits of training rows must be finite, got NaN or inf: did training diverge?")
        rows, ids = as_rows(logits.double()), labels.flatten().to(logits.device).long()
        right = rows.argmax(1) == ids
        rows, ids, classes = rows[right], ids[right], logits.shape[1]
        sums = rows.new_zeros(classes, classes).index_add(0, ids, rows)
        counts = ids.bincount(minlength=classes).unsqueeze(1)
        anchors = self.alpha * torch.eye(classes, dtype=rows.dtype, device=rows.device)
        self.centres = torch.where(counts > 0, sums / counts.clamp(min=1), anchors)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        if logits.shape[1] != len(self.centres):
            raise ValueError(f"logits must be of {len(self.centres)} classes, as in training, got {logits.shape[1]}.")
        centres = self.centres.to(logits.device)  # it may have been fitted elsewhere
        distances = torch.cdist(as_rows(logits.double()), centres, compute_mode="donot_use_mm_for_euclid_dist")
        # the nearest centre has the least distance and the least 1 − softmin
        scores = distances.amin(1) * msp(-distances)
        return scores.to(at_least_float32(logits).dtype).reshape(logits.shape[0], *logits.shape[2:])
