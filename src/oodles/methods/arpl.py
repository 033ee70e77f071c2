"""Adversarial reciprocal points: a point per class for what that class is not, and logits that grow away from it."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32, in_one_precision
from oodles.targets import RowTargets, as_probabilities, mean_over_rows


def squared_distances(features: Float[Tensor, "n f"], points: Float[Tensor, "c f"]) -> Float[Tensor, "n c"]:
    """Return d_k = mean_i (h_i − P_ki)², the mean over the F features."""
    h, p = in_one_precision(features, points)
    return (h.square().mean(1, keepdim=True) - 2 / h.shape[1] * (h @ p.T) + p.square().mean(1)).clamp(min=0)


def excess(
    distances: Float[Tensor, "n c"], targets: RowTargets, radius: Float[Tensor, ""], margin: float = 1.0
) -> Float[Tensor, ""]:
    """Return mean relu(d_y − R + m), how far rows are outside the sphere around their class's reciprocal point."""
    y = as_probabilities(targets, distances.shape[1]).to(distances.dtype)
    return mean_over_rows((y * (distances - at_least_float32(radius) + margin).relu()).sum(1))


class ReciprocalPoints(nn.Module):
    """Logits (‖h − P_k‖² / F − h·P_k) / T: the farther from the reciprocal point of a class, the more that class."""

    def __init__(self, in_features: int, out_features: int, temperature: float = 1.0):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.temperature = temperature
        self.points = nn.Parameter(0.1 * torch.randn(out_features, in_features))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        with torch.autocast(features.device.type, enabled=False):
            h, p = in_one_precision(features, self.points)
            return (squared_distances(h, p) - h @ p.T) / self.temperature


class ARPL(Method):
    """Logits are distances to reciprocal points, learned with a bound on how far a class may go: + λ·relu(d_y − R + m).

    When to use: no outliers at hand, and unknown rows are expected to have small features.
    Cost: none to speak of.
    Caveat: accuracy is often below that of plain training.

    Args:
        weight: λ, of the bound.
        temperature: T, which divides the logits.
        margin: m; 1 in the authors' program, 0 in the paper.

    Raises:
        ValueError: for a weight or temperature that is not above 0, a negative margin, or one of them not finite.

    Source: Chen et al., without the confusing samples, which need a GAN: 1 / T is the paper's γ; P and R are its own
    letters. The authors' program divides by T in the loss alone; here the head does, so that the softmax that is
    trained is the one that is tested. The bound is for class ids; of probabilities it is the expectation over the
    classes.
    """

    name = "arpl"
    paper = Paper(
        title="Adversarial Reciprocal Points Learning for Open Set Recognition",
        authors="Chen, Peng, Wang, Tian",
        venue="TPAMI",
        year=2021,
        link="https://arxiv.org/abs/2103.00953",
        code="https://github.com/iCGY96/ARPL",
    )
    score = "max-logit"
    needs = ("vectors",)
    terms = ("reciprocal_margin",)
    replaces = ("head",)

    def __init__(self, *, weight: float = 0.1, temperature: float = 1.0, margin: float = 1.0):
        super().__init__()
        check_number("weight", weight, above=0)
        check_number("temperature", temperature, above=0)
        check_number("margin", margin, low=0)
        self.weight = weight
        self.temperature = temperature
        self.margin = margin
        self.radius = nn.Parameter(torch.zeros(()))

    def forward(
        self, features: Float[Tensor, "n f"], points: Float[Tensor, "c f"], targets: RowTargets
    ) -> Float[Tensor, ""]:
        """Term for features, reciprocal points, and class ids or probabilities: λ × the bound."""
        return self.weight * excess(squared_distances(features, points), targets, self.radius, self.margin)

    def change_classifier(self, classifier: Classifier) -> None:
        if not isinstance(classifier.head, ReciprocalPoints):
            head = ReciprocalPoints(classifier.num_features, classifier.num_classes)
            classifier.head = classifier.placed(head)
        classifier.head.temperature = self.temperature
        classifier.placed(self)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        points: Tensor = now.classifier.head.points  # type: ignore[assignment]  # those of change_classifier
        return {"reciprocal_margin": self(outputs.features["id"], points, batch["id"].labels)}
