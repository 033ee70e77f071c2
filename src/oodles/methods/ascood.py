"""ASCOOD: outliers made from training rows where the class shows, and features standardised in training."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.checks import check_choice, check_images, check_number, check_unit_range
from oodles.classifier import Classifier, unit_of_inputs
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.heads import logits_of, scale_features, scaled_head
from oodles.precision import at_least_float32, length_to_divide_by
from oodles.targets import as_probabilities, mean_over_rows


def standardized(features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
    """Return (h − mean h) / (std h + 1e-6) over each row's features, with F − 1 in the standard deviation.

    A row of equal features gives zeros.
    """
    features = at_least_float32(features)
    centred = features - features.mean(1, keepdim=True)
    return centred / (length_to_divide_by(centred) / math.sqrt(max(features.shape[1] - 1, 1)) + 1e-6)


def largest_slopes(slope: Float[Tensor, " n *rest"], share: float) -> Float[Tensor, " n *rest"]:
    """Return ∇ at the share of each row's numbers where |∇| is largest, and 0 elsewhere."""
    flat = slope.flatten(1)
    top = flat.abs().topk(max(1, int(flat.shape[1] * share)), dim=1).indices
    return torch.zeros_like(flat).scatter(1, top, flat.gather(1, top)).reshape(slope.shape)


def permute(
    x: Float[Tensor, "n c h w"], slope: Float[Tensor, "n c h w"], share: float, generator: Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Permute the share of each image's pixels where Σ_channels exp(∇) is largest; the others stay."""
    pixels = x.flatten(2)
    top = slope.exp().sum(1).flatten(1).topk(max(1, int(pixels.shape[2] * share)), dim=1).indices
    order = torch.rand(top.shape, generator=generator).argsort(1).to(x.device, non_blocking=True)
    to, of = (index.unsqueeze(1).expand(-1, x.shape[1], -1) for index in (top, top.gather(1, order)))
    return pixels.scatter(2, to, pixels.gather(2, of)).reshape(x.shape)


def divergence_from_uniform(logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """Return KL(U‖p) = log Σ_c exp z_c − mean_c z_c − log C, averaged over rows."""
    logits = at_least_float32(logits)
    return mean_over_rows(logits.logsumexp(1) - logits.mean(1) - math.log(logits.shape[1]))


class ASCOOD(Method):
    """Adds w·KL(U‖p(o)) on outliers made of training rows, and trains the last layer on standardised features.

    When to use: no outliers at hand, and unknown rows share a background or most details with the known classes.
    Cost: a forward and a backward pass to make the outliers, and twice the rows in the forward pass.
    Caveat: early gradients say little about where the class shows. Inputs have to be one floating-point tensor.

    Args:
        weight: w of the outliers' term. The authors use 1 on CIFAR-10, 5 on CIFAR-100 and 0.1 on Waterbirds.
        sigma: σ, by which standardised features are multiplied, above 0.
        form: how outliers are made: ``gradient`` adds α·∇_x z_y, ``shuffle`` permutes pixels, as on CIFAR.
        share: p, the share of numbers or pixels that change, in (0, 1].
        alpha: α of the form ``gradient``, above 0; fine-tuning on larger images the authors let it fall from 300 to 30.
        head_learning_rate: the last layer's learning rate as a multiple. The authors use 0.05 on CIFAR-100.

    Raises:
        ValueError: for numbers outside these ranges, another form, or a last layer that is not linear.

    Source: Regmi, section 3. z_y is the label's logit, U the uniform distribution. Testing leaves the standardisation
    out and keeps the factor, as T2FNorm does: the trained classifier gives the logits of σ·h. The authors classify with
    standardised features; their scripts score with SCALE on CIFAR, as here, and with ODIN on Waterbirds. Their gradient
    is that of normalised inputs, and here too where the classifier has a ``Normalize``. Outliers are clamped to [0, 1],
    theirs are not.
    """

    name = "ascood"
    paper = Paper(
        title="Image-based Outlier Synthesis With Training Data",
        authors="Regmi",
        venue="CVPR",
        year=2026,
        link="https://arxiv.org/abs/2411.10794",
        code="https://github.com/sudarshanregmi/ASCOOD",
    )
    score = "scale"
    needs = ("unit-range", "vectors")
    adds = ("ascood",)
    terms = ("ascood",)
    replaces = ("head", "lengths of features")

    def __init__(
        self,
        *,
        weight: float = 1.0,
        sigma: float = 0.5,
        form: str = "gradient",
        share: float = 0.1,
        alpha: float = 10.0,
        head_learning_rate: float = 1.0,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_choice("form", form, ("gradient", "shuffle"))
        numbers = {"sigma": sigma, "share": share, "alpha": alpha, "head_learning_rate": head_learning_rate}
        for name, value in numbers.items():
            check_number(name, value, above=0)
        if share > 1:
            raise ValueError(f"share must be at most 1, got {share}.")
        self.weight = weight
        self.sigma = sigma
        self.form = form
        self.share = share
        self.alpha = alpha
        self.head_learning_rate = head_learning_rate

    def forward(self, logits_out: Float[Tensor, "m c"]) -> Float[Tensor, ""]:
        """Term for the outliers' logits, w·KL(U‖p)."""
        return self.weight * divergence_from_uniform(logits_out)

    def change_classifier(self, classifier: Classifier) -> None:
        scale_features(classifier, self.sigma, self.name)

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        if self.head_learning_rate == 1:
            return ()
        return ({"params": list(classifier.head.parameters()), "learning_rate": self.head_learning_rate},)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        if not self.weight:
            return batch
        x = batch["id"].rows
        check_unit_range(self.name, x, read_gpu=now.step == 0)
        unit = unit_of_inputs(now.classifier, x)
        slope = unit * self._slope(x, batch["id"].labels, now)
        if self.form == "shuffle":
            outliers = permute(check_images(self.name, x), slope, self.share, now.generator)
        else:
            outliers = (x + unit * self.alpha * largest_slopes(slope, self.share)).clamp(0, 1)
        return batch.with_part("ascood", Part(outliers, valid=batch["id"].valid))

    def _slope(self, x: Tensor, labels: Tensor, now: Now) -> Tensor:
        """Return ∇_x Σ_c y_c z_c(x), of the logits that are trained."""
        with now.frozen(), torch.enable_grad():
            rows = x.detach().requires_grad_()
            logits = self._logits(now.classifier, now.classifier.features(rows))
            of_labels = (logits * as_probabilities(labels, logits.shape[1])).sum()
            slope: Tensor = torch.autograd.grad(of_labels, rows)[0]
        return slope

    def _logits(self, classifier: Classifier, features: Tensor) -> Tensor:
        return logits_of(scaled_head(classifier, self.name), self.sigma * standardized(features))

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        logits = {role: self._logits(now.classifier, features) for role, features in outputs.features.items()}
        return replace(outputs, logits={**outputs.logits, **logits})

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"ascood": self(outputs.logits["ascood"])} if self.weight else {}
