"""Rotation prediction: a further head says by how much an image is turned."""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_images, check_number
from oodles.classifier import Classifier, Inputs
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.precision import at_least_float32
from oodles.scores import HeadScore
from oodles.targets import mean_over_rows

ROTATION = "rotation"
TURNED = ("rotated_90", "rotated_180", "rotated_270")


def rotated(x: Float[Tensor, "n c s s"], quarters: int) -> Float[Tensor, "n c s s"]:
    """Turn square images counter-clockwise by so many right angles."""
    return torch.rot90(x, quarters, (2, 3))


def rotation_loss(logits: Float[Tensor, "n 4"], quarters: int) -> Float[Tensor, " n"]:
    """Return the cross-entropy of the head's logits for each image to the rotation that it has."""
    return -at_least_float32(logits).log_softmax(1)[:, quarters]


class RotationPrediction(Method):
    """Adds λ × the cross-entropy of a head that tells images turned by 0, 90, 180 and 270 degrees apart.

    When to use: images of things that have an upright, no outliers at hand.
    Cost: four times the rows in the forward pass, and its score four times the rows in testing.
    Caveat: images have to be square. What looks the same when turned, textures or the digits 0 and 8, tells the head
    nothing.

    Args:
        weight: λ; 0 switches off.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Hendrycks et al., sections 3 and 4. λ = 1 is the authors' network's: their code divides its weight of 3
    by three heads, of which the two for translations have weight 0. Its score is in bits and takes 10 classes for
    granted, where this takes as many as there are.
    """

    name = "rotation-prediction"
    paper = Paper(
        title="Using Self-Supervised Learning Can Improve Model Robustness and Uncertainty",
        authors="Hendrycks, Mazeika, Kadavath, Song",
        venue="NeurIPS",
        year=2019,
        link="https://arxiv.org/abs/1906.12340",
        code="https://github.com/hendrycks/ss-ood",
    )
    score = "rotation"
    strength = "weight"
    needs = ("images", "vectors")
    adds = ("rotated_90", "rotated_180", "rotated_270")
    views = ("rotated_90", "rotated_180", "rotated_270")
    terms = ("rotation_prediction",)
    heads = ("rotation",)

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(self, *logits: Float[Tensor, "_ 4"]) -> Float[Tensor, ""]:
        """Term for the head's logits of images turned by 0, 1, 2 and 3 right angles, see :func:`rotated`."""
        if len(logits) != 4:
            raise ValueError(f"rotation-prediction needs the logits of four rotations, got {len(logits)}.")
        losses = [mean_over_rows(rotation_loss(turned, quarters)) for quarters, turned in enumerate(logits)]
        return self.weight * torch.stack(losses).mean()

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(ROTATION, 4)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        images = check_images(self.name, batch["id"].rows, square=True)
        for quarters, role in enumerate(TURNED, start=1):
            batch = batch.with_part(role, Part(rotated(images, quarters)))
        return batch

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        logits = outputs.heads[ROTATION]
        return {"rotation_prediction": self(*(logits[role] for role in ("id", *TURNED)))}


class Rotation(HeadScore):
    """−KL(U ‖ p) + the mean over four rotations of the rotation head's cross-entropy, in bits (section 4)."""

    name = "rotation"
    needs_heads = (ROTATION,)

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        images = check_images("The score rotation", inputs, square=True)
        head = classifier.heads[ROTATION]
        by_quarters = [features.to(next(classifier.parameters()).dtype)]
        by_quarters += [classifier.features(rotated(images, quarters)) for quarters in (1, 2, 3)]
        return self(features, logits, *(head(turned) for turned in by_quarters))

    def __call__(self, features: Tensor, logits: Float[Tensor, "n c"], *heads: Float[Tensor, "n 4"]) -> Tensor:
        known = at_least_float32(logits).log_softmax(1)
        from_uniform = -known.mean(1) - math.log(known.shape[1])
        losses = torch.stack([rotation_loss(turned, quarters) for quarters, turned in enumerate(heads)])
        return (losses.mean(0) - from_uniform) / math.log(2)
