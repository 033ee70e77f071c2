"""SNGP: a Gaussian process on random features in place of the last layer, and layers that stretch nothing too far."""

import math
from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn
from torch.nn.functional import layer_norm, normalize

from oodles.checks import check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.precision import at_least_float32, in_one_precision
from oodles.scores.score import ScoreOfLastLayer, check_features, check_training_rows
from oodles.targets import RowTargets, cross_entropy


def orthogonal_gaussian(rows: int, columns: int) -> Float[Tensor, "r c"]:
    """Draw a matrix whose columns are as long as Gaussian ones and, up to as many as there are rows, orthogonal."""
    blocks = [torch.linalg.qr(torch.randn(rows, rows)).Q for _ in range(math.ceil(columns / rows))]
    lengths: Tensor = torch.linalg.vector_norm(torch.randn(rows, columns), dim=0)
    return torch.cat(blocks, 1)[:, :columns] * lengths


def random_features(
    features: Float[Tensor, "n f"], frequencies: Float[Tensor, "f m"], phases: Float[Tensor, " m"]
) -> Float[Tensor, "n m"]:
    """Return √(2/M)·cos(hΩ + b) of features h that are normalised to mean 0 and variance 1, in float32 at least."""
    with torch.autocast(features.device.type, enabled=False):
        h, omega, b = in_one_precision(features, frequencies, phases)
        waves: Tensor = torch.cos(layer_norm(h, h.shape[1:]) @ omega + b)
        return math.sqrt(2 / len(b)) * waves


class RandomFeatures(nn.Module):
    """A linear layer on random features, which are drawn once and stay: a Gaussian process with the kernel of Gauss."""

    frequencies: Tensor
    phases: Tensor

    def __init__(self, in_features: int, out_features: int, number: int, length_scale: float):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        scale = length_scale * math.sqrt(in_features)
        self.register_buffer("frequencies", orthogonal_gaussian(in_features, number) / scale)
        self.register_buffer("phases", 2 * math.pi * torch.rand(number))
        self.linear = nn.Linear(number, out_features)

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        logits: Tensor = self.linear(random_features(features, self.frequencies, self.phases).to(self.linear.weight))
        return logits


class SNGP(Method):
    """Replaces the last layer by a Gaussian process on random features, and bounds the spectral norm of every layer.

    When to use: no outliers at hand, training from scratch; what is far from all training rows is to be uncertain.
    Cost: one product of a vector with each layer's weights a step.
    Caveat: its score has to see the training rows once after training. Rows that the layers map onto known ones stay
    unseen.

    Args:
        bound: c, the largest spectral norm of a layer's weights; 0 leaves them free.
        number: M, of random features.
        length_scale: ℓ of the kernel exp(−‖h − h'‖² / 2ℓ²), in units of √F, the length of normalised features.

    Raises:
        ValueError: for a bound, number or length scale outside its range.

    Source: Liu et al., algorithm 1 and equations 6 to 9. As in that algorithm, weights are scaled down after each
    update of the optimizer, by one power iteration; the authors' program does it in the forward pass. A convolution's
    weights count as a matrix of its output channels, whereas their program takes the norm of the convolution, which is
    at most √(kernel's pixels) times as large. A length scale that does not grow with √F, as theirs, puts the features
    of a new network so far apart that small networks learn nothing. The precision of the process is computed by the
    score ``gp-variance`` from all training rows, not while training.
    """

    name = "sngp"
    paper = Paper(
        title="Simple and Principled Uncertainty Estimation with Deterministic Deep Learning via Distance Awareness",
        authors="Liu, Lin, Padhy, Tran, Bedrax-Weiss, Lakshminarayanan",
        venue="NeurIPS",
        year=2020,
        link="https://arxiv.org/abs/2006.10108",
        code="https://github.com/google/uncertainty-baselines",
    )
    score = "gp-variance"
    needs = ("vectors",)
    replaces = ("head",)

    def __init__(self, *, bound: float = 6.0, number: int = 1024, length_scale: float = 1.0):
        super().__init__()
        check_number("bound", bound, low=0)
        check_whole("number", number, low=1)
        check_number("length_scale", length_scale, above=0)
        self.bound = bound
        self.number = number
        self.length_scale = length_scale

    def forward(self, logits: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
        """Loss of the process's logits and class ids or probabilities: their cross-entropy, as of plain training."""
        return cross_entropy(logits, targets)

    def change_classifier(self, classifier: Classifier) -> None:
        if not isinstance(classifier.head, RandomFeatures):
            head = RandomFeatures(classifier.num_features, classifier.num_classes, self.number, self.length_scale)
            classifier.head = classifier.placed(head)
        for name, weight in _weights(classifier):
            if name not in self._buffers:
                drawn = normalize(torch.randn(weight.shape[0]), dim=0)
                self.register_buffer(name, drawn.to(weight.device, at_least_float32(weight).dtype))

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        if not self.bound:
            return
        for name, weight in _weights(now.classifier):
            if weight.requires_grad:
                left = self.get_buffer(name)
                matrix = at_least_float32(weight).flatten(1)
                right = normalize(matrix.T @ left, dim=0)
                stretched = matrix @ right
                left.copy_(normalize(stretched, dim=0))
                norm = left @ stretched
                weight.mul_((self.bound / norm.clamp(min=self.bound)).to(weight.dtype))


def _weights(classifier: Classifier) -> list[tuple[str, nn.Parameter]]:
    """Return the weights of the backbone's layers, by names that a buffer can have."""
    layers = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    return [
        (f"direction_{path.replace('.', '_')}", module.weight)
        for path, module in classifier.backbone.named_modules()
        if isinstance(module, layers) and isinstance(module.weight, nn.Parameter)
    ]


class GPVariance(ScoreOfLastLayer):
    """φᵀ(I + Σ φφᵀ / r)⁻¹φ: the process's variance at a row of random features φ, given all training rows.

    One covariance serves all classes, as with the Gaussian likelihood in the authors' program (equation 9).

    Args:
        ridge: r, the precision before any row is seen.

    Raises:
        ValueError: for a ridge that is not above 0.
    """

    name = "gp-variance"
    learns = ("frequencies", "phases", "root")
    frequencies: Tensor
    phases: Tensor
    root: Float64[Tensor, "m m"]
    """The inverse of the lower Cholesky factor of I + Σ φφᵀ / r."""

    def __init__(self, ridge: float = 1.0):
        check_number("ridge", ridge, above=0)
        self.ridge = ridge

    def check(self, classifier: nn.Module) -> None:
        super().check(classifier)
        if not (isinstance(classifier, Classifier) and isinstance(classifier.head, RandomFeatures)):
            raise ValueError(f"{self.name} needs a head of random features: train the classifier with sngp.")

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        self.check(classifier)
        check_features(features)
        check_training_rows(features=features)
        head = classifier.head
        assert isinstance(head, RandomFeatures)
        self.frequencies, self.phases = (
            value.detach().to(features.device) for value in (head.frequencies, head.phases)
        )
        precision = torch.eye(len(self.phases), dtype=torch.float64, device=features.device)
        for rows in torch.split(features, 4096):
            phi = random_features(rows, self.frequencies, self.phases).double()
            precision.addmm_(phi.T, phi, alpha=1 / self.ridge)
        identity = torch.eye(len(precision), dtype=torch.float64, device=features.device)
        self.root = torch.linalg.solve_triangular(torch.linalg.cholesky(precision), identity, upper=False)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, len(self.frequencies))
        phi = random_features(features.to(self.phases.device), self.frequencies, self.phases).double()
        return (phi @ self.root.T).square().sum(1)
