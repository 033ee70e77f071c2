"""Outlier scores of features, and of the logits that the head gives for changed features or with changed weights."""

from abc import abstractmethod
from typing import Self

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from oodles.checks import check_choice, check_share
from oodles.classifier import Classifier, Inputs
from oodles.heads import affine_map
from oodles.precision import at_least_float32
from oodles.scores.of_logits import energy
from oodles.scores.score import Score, ScoreOfLastLayer, check_features, check_training_rows


class FeatureNorm(Score):
    """−‖relu(h)‖₂, since features of unknown rows are short (Yu et al., CVPR 2023, here of the last features)."""

    name = "feature-norm"
    needs_vectors = True

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        check_features(features)
        length: Tensor = torch.linalg.vector_norm(at_least_float32(features).relu(), dim=1)
        return -length


def largest(features: Float[Tensor, "n f"], percentile: float) -> tuple[Bool[Tensor, "n f"], Float[Tensor, "n 1"]]:
    """Find the features of each row but for the smallest, a share ``percentile``; return where they are and r.

    r = Σ|h| / Σ|these h|. The papers take features of at least 0. With others "small" means small in magnitude, and
    signs stay, so that r is in [1, F / number kept], or 0 for a row of zeros. It is 50 at most: e^r has to be finite.
    """
    sizes = features.abs()
    count = features.shape[1]
    top = sizes.topk(max(1, count - round(count * percentile)), dim=1)
    kept = torch.zeros_like(features, dtype=torch.bool).scatter(1, top.indices, True)
    total = top.values.sum(1, keepdim=True)
    ratio = sizes.sum(1, keepdim=True) / total.clamp(min=torch.finfo(total.dtype).tiny)
    return kept, ratio.clamp(max=50.0)


class ShapedScore(Score):
    """The energy of the logits that the classifier's head gives for changed features."""

    needs_vectors = True

    @abstractmethod
    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Return the features that the head reads instead."""

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        raise ValueError(
            f"{self.name} reads the classifier's head, and features and logits are not enough: "
            "call of(classifier, inputs, features, logits)."
        )

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        check_features(features)
        shaped = self.shaped(at_least_float32(features))
        return energy(classifier.head(shaped.to(next(classifier.parameters()).dtype)))


class Scale(ShapedScore):
    """The energy after all features of a row are multiplied by e^r, r = Σ h / Σ (the largest h).

    See :func:`largest` for features below 0.
    Source: SCALE, Xu et al., ICLR 2024; 0.85 is what the authors' configuration says.

    Args:
        percentile: the share of features, the smallest ones, that the second sum leaves out, in [0, 1).
    """

    name = "scale"

    def __init__(self, percentile: float = 0.85):
        check_share("percentile", percentile)
        self.percentile = percentile

    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        _, ratio = largest(features, self.percentile)
        return features * ratio.exp()


class Ash(ShapedScore):
    """The energy after the smallest features of each row are set to zero, and the others made larger.

    See :func:`largest` for features below 0.
    Source: ASH, Djurisic et al., ICLR 2023; S at 0.9 is what the authors use with ResNet-50 on ImageNet, on CIFAR S at
    0.95.

    Args:
        form: ``S`` multiplies what is left by e^r, r = Σ h / Σ (what is left); ``B`` sets it to one value, so that the
            sum stays; ``P`` leaves it as it is.
        percentile: the share of features that is set to zero, in [0, 1).
    """

    name = "ash"

    def __init__(self, form: str = "S", percentile: float = 0.9):
        check_choice("form", form, ("S", "B", "P"))
        check_share("percentile", percentile)
        self.form = form
        self.percentile = percentile

    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        kept, ratio = largest(features, self.percentile)
        if self.form == "B":
            even = features.abs().sum(1, keepdim=True) / kept.sum(1, keepdim=True)
            features = torch.where(features < 0, -even, even)
        left = features * kept
        return left * ratio.exp() if self.form == "S" else left


class React(ShapedScore):
    """The energy after features are cut at c, a percentile of all features of the training rows: min(h, c).

    Source: ReAct, Sun et al., NeurIPS 2021, equations 2 and 3.

    Args:
        percentile: the share of training features that stay as they are, in [0, 1); 0.9 is the paper's.
    """

    name = "react"
    needs_fit = True
    needs_affine_head = True
    learns = ("cut",)

    def __init__(self, percentile: float = 0.9):
        check_share("percentile", percentile)
        self.percentile = percentile

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_training_rows(features=features)
        self.cut = _quantile(features, self.percentile)
        return self._learnt()

    def shaped(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        self._check_fitted()
        return features.clamp(max=self.cut)


class Dice(ScoreOfLastLayer):
    """The energy of a linear head in which only the weights that contribute most are left.

    The contribution of a weight is w_cf times the mean of feature f over the training rows.
    Source: DICE, Sun and Li, ECCV 2022, section 3; the bias stays.

    Args:
        percentile: the share of the weights that is set to zero, in [0, 1). 0.9 is the authors' on CIFAR; on ImageNet
            they take 0.7.
    """

    name = "dice"
    needs_affine_head = True
    learns = ("weight", "bias")

    def __init__(self, percentile: float = 0.9):
        check_share("percentile", percentile)
        self.percentile = percentile

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_features(features)
        check_training_rows(features=features)
        weight, self.bias = affine_map(classifier, self.name)
        contribution = weight * features.double().mean(0)
        self.weight = weight * (contribution > _quantile(contribution, self.percentile))
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, self.weight.shape[1])
        rows = features.to(self.weight.device).double()
        return energy(rows @ self.weight.T + self.bias)


def _quantile(values: Tensor, share: float) -> float:
    """Return the value that a share of all values does not exceed, between two of them where it falls there."""
    return float(np.quantile(values.double().cpu().numpy(), share))
