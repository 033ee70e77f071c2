"""Outlier Exposure with confidence control: uniform predictions on outliers, and known rows no surer than right."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import collect
from oodles.metrics import accuracy
from oodles.precision import at_least_float32
from oodles.processes import sum_over_processes


def confidence_gap(logits: Float[Tensor, "n c *space"], training_accuracy: float) -> Float[Tensor, "n *space"]:
    """Return (max_c p_c − A)² of each row."""
    return (at_least_float32(logits).softmax(1).amax(1) - training_accuracy).square()


def distance_to_uniform(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return Σ_c |p_c − 1 / K| of each row, twice the total variation distance to uniform."""
    return (at_least_float32(logits).softmax(1) - 1 / logits.shape[1]).abs().sum(1)


class OECC(Method):
    """Adds λ₁ × Σ_x (max p(x) − A)² + λ₂ × Σ_o ‖p(o) − 1 / K‖₁: sums over the batch, A the training accuracy.

    When to use: to fine-tune a trained classifier with auxiliary outliers where its confidence should stay calibrated.
    Cost: the outliers' rows in the forward pass.
    Caveat: the terms are sums, so the weights belong to batches of 128 rows and 256 outliers; other sizes want others.

    Args:
        weight: of both terms; 0 switches off.
        confidence_weight: λ₁, for each in-distribution row; 0 leaves the term out.
        outlier_weight: λ₂, for each outlier; 0 leaves the term out. The paper uses 0.05 on CIFAR and 0.03 on SVHN.
        training_accuracy: A, that of the classifier that training starts from, a share from 0 to 1. The authors' code
            has 0.9486 for CIFAR-10, 0.7573 for CIFAR-100 and 0.985 for SVHN. ``suggest`` measures it.

    Raises:
        ValueError: for weights that are negative, NaN or infinite, and an accuracy outside 0 to 1.

    Source: Papadopoulos et al. The authors speak of the mean confidence's distance to A, their code sums the squares of
    the rows' own, as here. What it calls training accuracies are about the test accuracies of its baselines; a network
    that makes no mistake on its training rows has A = 1, which controls nothing. Several processes add up their rows,
    so that two train as one does on the whole batch; accumulated batches are averaged.
    """

    name = "oecc"
    paper = Paper(
        title="Outlier Exposure with Confidence Control for Out-of-Distribution Detection",
        authors="Papadopoulos, Rajati, Shaikh, Wang",
        venue="Neurocomputing",
        year=2021,
        link="https://arxiv.org/abs/1906.03509",
        code="https://github.com/nazim1021/OOD-detection-using-OECC",
    )
    strength = "weight"
    needs = ("outliers",)
    terms = ("oecc_confidence", "oecc_outliers")
    suggests = ("training_accuracy",)

    def __init__(
        self,
        *,
        weight: float = 1.0,
        confidence_weight: float = 0.07,
        outlier_weight: float = 0.05,
        training_accuracy: float = 0.9486,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("confidence_weight", confidence_weight, low=0)
        check_number("outlier_weight", outlier_weight, low=0)
        check_number("training_accuracy", training_accuracy, low=0)
        if training_accuracy > 1:
            raise ValueError(f"training_accuracy must be a share from 0 to 1, got {training_accuracy}.")
        self.weight = weight
        self.confidence_weight = confidence_weight
        self.outlier_weight = outlier_weight
        self.training_accuracy = training_accuracy

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, Any]:
        """Measure the accuracy of a trained classifier.

        Args:
            classifier: trained, with plain cross-entropy for instance.
            id_loader: batches of rows with class ids: training rows as in the paper, or held-out ones.
            outlier_loader: not looked at.
            ignore_index: the label of rows or pixels that are left out, as of a training step.

        Returns:
            ``training_accuracy``.

        Raises:
            ValueError: for rows without labels.
        """
        rows = collect(classifier, id_loader, name="id_loader", labelled=True, ignore_index=ignore_index)
        if rows.labels is None:
            raise ValueError("training_accuracy needs rows with labels, got some without: give (inputs, labels).")
        return {"training_accuracy": accuracy(rows.logits, rows.labels)}

    def forward(
        self, logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"]
    ) -> Float[Tensor, ""]:
        """Term for in-distribution and outlier logits: the sum of both."""
        return self._confidence(logits_in) + self._outliers(logits_out)

    def _confidence(self, logits_in: Tensor) -> Tensor:
        gaps = sum_over_processes(confidence_gap(logits_in, self.training_accuracy).sum())
        return self.weight * self.confidence_weight * gaps

    def _outliers(self, logits_out: Tensor) -> Tensor:
        return self.weight * self.outlier_weight * sum_over_processes(distance_to_uniform(logits_out).sum())

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        terms = {}
        if self.confidence_weight:
            terms["oecc_confidence"] = self._confidence(outputs.logits["id"])
        if self.outlier_weight:
            terms["oecc_outliers"] = self._outliers(outputs.logits["outliers"])
        return terms
