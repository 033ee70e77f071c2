"""POEM: of many outliers, those at a boundary that is drawn from what is known of it."""

import math

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from oodles.checks import check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Data, Method, Now, Outputs, Paper
from oodles.outliers.choice import for_rows, look, take
from oodles.precision import at_least_float32, take_over
from oodles.processes import sum_over_processes


def posterior(
    gram: Float[Tensor, "f f"], products: Float[Tensor, " f"], variance: float, noise: float
) -> tuple[Float[Tensor, " f"], Float[Tensor, "f f"]]:
    """Return the mean A⁻¹·Hᵀy / σ_n of the weights of y from the rows of H, and the root A^(−½) of their covariance.

    Bayesian linear regression without an intercept, with A = HᵀH / σ_n + I / σ.

    Args:
        gram: HᵀH.
        products: Hᵀy.
        variance: σ of each weight before anything is known.
        noise: σ_n, the variance of y given the weights.
    """
    values, vectors = torch.linalg.eigh(gram / noise)
    precisions = values.clamp(min=0) + 1 / variance  # rounding may leave an eigenvalue below 0
    mean = vectors @ (vectors.T @ products / noise / precisions)
    return mean, vectors * precisions.rsqrt() @ vectors.T


class POEM(Method):
    """Keeps the outliers whose features h are nearest to the boundary wᵀh = 0, where w is drawn before each epoch.

    It is drawn from its posterior in a Bayesian linear regression, where wᵀh is −1 × a confidence for known rows, and
    the confidence for the outliers that were kept.

    When to use: many outliers at hand, most of which are easy.
    Cost: all candidates once more, without gradients, and the eigenvalues of a matrix of features by features in each
    epoch.
    Caveat: it learns when an epoch starts, so a loop of one's own has to call ``step.start_epoch``.

    Args:
        kept: the number of outliers that are kept in each process; of no more candidates all are.
        confidence: what wᵀh is to be, on either side.
        variance: σ, the variance of each weight before anything is known.
        noise: σ_n, the variance around the confidence.
        exploration: by how much the posterior's covariance is multiplied; 1 draws from the posterior itself.
        memory: the number of epochs over which rows reach back.

    Raises:
        ValueError: for a number that is not above 0, NaN or infinite, and for fewer rows or epochs than one.

    Source: Ming et al., algorithm 1, with the numbers of the authors' program, which multiplies the covariance by σ.
    Four things differ from it. It embeds all rows of its memory anew before every epoch; here the features are those of
    the steps, as in training, and sums over epochs decay by 1 − 1 / memory. It repeats the known rows of the first
    epoch; here they are those of every step. One draw of noise that it adds to all confidences is left out. It chooses
    before every epoch from a pool of eight times as many; here each step chooses from its own candidates.
    """

    name = "poem"
    paper = Paper(
        title="POEM: Out-of-Distribution Detection with Posterior Sampling",
        authors="Ming, Fan, Li",
        venue="ICML",
        year=2022,
        link="https://arxiv.org/abs/2206.13687",
        code="https://github.com/deeplearning-wisc/poem",
    )
    needs = ("outliers", "vectors")
    replaces = ("choice of outliers",)
    gram: Tensor
    products: Tensor
    direction: Tensor

    def __init__(
        self,
        *,
        kept: int = 64,
        confidence: float = 3.0,
        variance: float = 20.0,
        noise: float = 0.5,
        exploration: float = 20.0,
        memory: int = 4,
    ):
        super().__init__()
        check_whole("kept", kept, low=1)
        check_number("confidence", confidence, above=0)
        check_number("variance", variance, above=0)
        check_number("noise", noise, above=0)
        check_number("exploration", exploration, above=0)
        check_whole("memory", memory, low=1)
        self.kept = kept
        self.confidence = confidence
        self.variance = variance
        self.noise = noise
        self.exploration = exploration
        self.memory = memory

    def forward(self, features_out: Float[Tensor, "n f"], direction: Float[Tensor, " f"]) -> Int64[Tensor, " k"]:
        """Places of the outliers to keep, for the features of candidates and the weights w."""
        return self._nearest(_distances(features_out, direction))

    def _nearest(self, distances: Float[Tensor, " n"]) -> Int64[Tensor, " k"]:
        return distances.argsort(stable=True)[: self.kept]

    def change_classifier(self, classifier: Classifier) -> None:
        if "gram" in self._buffers:
            return
        like = at_least_float32(next(classifier.head.parameters()).detach())
        self.register_buffer("gram", like.new_zeros([classifier.num_features] * 2))
        self.register_buffer("products", like.new_zeros(classifier.num_features))
        self.register_buffer("direction", like.new_zeros(classifier.num_features))

    def start_epoch(self, data: Data, now: Now) -> None:
        gram, products = (sums.double().cpu() for sums in (self.gram, self.products))
        mean, root = posterior(gram, products, self.variance, self.noise)
        z = torch.randn(len(mean), dtype=mean.dtype, generator=now.shared)
        self.direction.copy_(mean + math.sqrt(self.exploration) * (root @ z))
        for sums in (self.gram, self.products):
            sums *= 1 - 1 / self.memory

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        candidates = batch["outliers"]
        if len(candidates) <= self.kept:
            return batch
        distances = for_rows(_distances(look(candidates, now).features, self.direction), candidates)
        return batch.with_part("outliers", take(candidates, self._nearest(distances)))

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        known, outliers = (outputs.features[role].to(self.gram.dtype) for role in ("id", "outliers"))
        gram = sum_over_processes(known.T @ known + outliers.T @ outliers)
        products = sum_over_processes(self.confidence * (outliers.sum(0) - known.sum(0)))
        take_over((self.gram, self.gram + gram), (self.products, self.products + products))


def _distances(features: Tensor, direction: Tensor) -> Tensor:
    """Return |wᵀh| of each row."""
    with torch.autocast(features.device.type, enabled=False):
        return (at_least_float32(features) @ direction.to(at_least_float32(features).dtype)).abs()
