"""Deterministic uncertainty quantification: a kernel to a centroid of each class, and a bounded slope in the inputs."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32, in_one_precision, take_over
from oodles.processes import sum_over_processes
from oodles.targets import RowTargets, as_probabilities, mean_over_rows

FIRST_COUNT, FIRST_SPREAD = 13.0, 0.05
"""Before training every class counts as so many rows, whose embeddings vary by so much around zero: the authors'."""
LARGEST = 25e6
"""So many weights, 100 MB, the layer has at most where no width is asked for."""
CLOSEST = -1e-6
"""log K of a row on a centroid: below 0, or the other classes' log(1 − K) would be infinite."""


class Kernels(nn.Module):
    """Logits log K_c = −mean_n (W_c·h − e_c)² / 2ℓ², with an embedding W_c of n numbers and a centroid e_c."""

    sums: Tensor
    """(C, n), moving averages of the embeddings' sums: with :attr:`counts`, the centroids."""
    counts: Tensor
    """(C,), moving averages of the number of rows in a batch."""

    def __init__(self, in_features: int, out_features: int, width: int, length_scale: float):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.length_scale = length_scale
        self.weight = nn.Parameter(torch.empty(out_features, width, in_features))
        nn.init.normal_(self.weight, std=math.sqrt(2 / (in_features * out_features)))  # as the authors' program draws
        self.register_buffer("sums", FIRST_COUNT * FIRST_SPREAD * torch.randn(out_features, width))
        self.register_buffer("counts", torch.full((out_features,), FIRST_COUNT))

    def embeddings(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c w"]:
        """Return each class's embedding of rows, in float32 at least."""
        with torch.autocast(features.device.type, enabled=False):
            h, weight = in_one_precision(features, self.weight)
            return torch.einsum("nf,cwf->ncw", h, weight)

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        z = self.embeddings(features)
        sums, counts = (buffer.to(z.dtype, copy=True) for buffer in (self.sums, self.counts))  # they move in place
        distances = (z - sums / counts.unsqueeze(1)).square().mean(2)
        return -distances / (2 * self.length_scale**2)

    @torch.no_grad()
    def follow(self, features: Float[Tensor, "n f"], targets: Float[Tensor, "n c"], momentum: float) -> None:
        """Move the centroids towards the embeddings of rows, those of all processes together."""
        z = self.embeddings(features)
        y = targets.to(z.dtype)
        seen = sum_over_processes(torch.cat([torch.einsum("nc,ncw->cw", y, z), y.sum(0).unsqueeze(1)], 1))
        sums, counts = seen[:, :-1].to(self.sums.dtype), seen[:, -1].to(self.counts.dtype)
        take_over(
            (self.sums, self.sums.lerp(sums, 1 - momentum)), (self.counts, self.counts.lerp(counts, 1 - momentum))
        )


def binary_cross_entropy(logits: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
    """Return the mean over rows and classes of −y·log K − (1 − y)·log(1 − K), for logits log K."""
    log_k = at_least_float32(logits).clamp(max=CLOSEST)
    y = as_probabilities(targets, logits.shape[1]).to(log_k.dtype)
    return -mean_over_rows(y * log_k + (1 - y) * (-torch.expm1(log_k)).log())


def slope_penalty(kernels: Float[Tensor, "n c"], inputs: Float[Tensor, "m *shape"]) -> Float[Tensor, " m"]:
    """Return (‖∂ Σ_c K_c / ∂x‖₂ − 1)² of each row of inputs that record gradients."""
    (slopes,) = torch.autograd.grad(kernels.sum(), [inputs], create_graph=True, materialize_grads=True)
    squares = at_least_float32(slopes).flatten(1).square().sum(1)
    flat = squares == 0  # the root has no gradient there
    return (squares.masked_fill(flat, 1.0).sqrt().masked_fill(flat, 0.0) - 1).square()


class DUQ(Method):
    """Replaces the last layer by kernels to class centroids, and keeps their slope in the inputs near 1.

    When to use: no outliers at hand, training from scratch, and one number for "I do not know" is wanted.
    Cost: a second backward pass, and a layer C times as large as a linear one.
    Caveat: the length scale decides: too small and nothing trains, too large and nothing is unknown. With many classes
    a kernel of a row is near 0 for all but one of them, and training is slow.

    Args:
        penalty: λ, the weight of the slope's penalty; 0 trains kernels alone, without a second backward pass.
        length_scale: ℓ, above 0, in units of the embeddings.
        width: n, the numbers of an embedding. 0 takes 32, or as many as keep the layer below 100 MB.
        centroid_momentum: γ, the share of a centroid that stays at each step, in [0, 1).

    Raises:
        ValueError: for a penalty, length scale, width or momentum outside its range.

    Source: van Amersfoort et al., equations 1 to 7, with centroids m_c / N_c. The authors use ℓ = 0.1, λ = 0.75 and 512
    numbers on CIFAR-10. Logits are log K_c, so the maximum logit is the paper's score. Of probabilities the loss is the
    expectation, and a centroid follows rows in proportion. Centroids follow embeddings of the updated network in eval
    mode, as in the authors' program.
    """

    name = "duq"
    paper = Paper(
        title="Uncertainty Estimation Using a Single Deep Deterministic Neural Network",
        authors="van Amersfoort, Smith, Teh, Gal",
        venue="ICML",
        year=2020,
        link="https://arxiv.org/abs/2003.02037",
        code="https://github.com/y0ast/deterministic-uncertainty-quantification",
    )
    score = "max-logit"
    needs = ("vectors",)
    terms = ("kernel_cross_entropy", "slope_penalty")
    replaces = ("head", "cross-entropy")
    differentiates = ("id",)

    def __init__(
        self, *, penalty: float = 0.1, length_scale: float = 0.3, width: int = 0, centroid_momentum: float = 0.999
    ):
        super().__init__()
        check_number("penalty", penalty, low=0)
        check_number("length_scale", length_scale, above=0)
        check_whole("width", width, low=0)
        check_share("centroid_momentum", centroid_momentum)
        self.penalty = penalty
        self.length_scale = length_scale
        self.width = width
        self.centroid_momentum = centroid_momentum

    def forward(self, logits: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
        """Loss of logits log K and class ids or probabilities, without the penalty of the slope."""
        return binary_cross_entropy(logits, targets)

    def change_classifier(self, classifier: Classifier) -> None:
        features, classes = classifier.num_features, classifier.num_classes
        if not isinstance(classifier.head, Kernels):
            width = self.width or max(1, min(32, int(LARGEST / (features * classes))))
            classifier.head = classifier.placed(Kernels(features, classes, width, self.length_scale))
        classifier.head.length_scale = self.length_scale

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        logits, part = outputs.logits["id"], batch["id"]
        terms = {"kernel_cross_entropy": self(logits, part.labels)}
        if not self.penalty:
            return terms
        penalties = batch.counted("id", slope_penalty(logits.exp(), part.rows))
        return {**terms, "slope_penalty": self.penalty * mean_over_rows(penalties)}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        part, head = batch["id"], now.classifier.head
        with now.frozen():
            features = now.classifier.features(part.rows)
        y = as_probabilities(part.labels, now.classifier.num_classes)
        assert isinstance(head, Kernels)
        head.follow(batch.counted("id", features), y, self.centroid_momentum)
