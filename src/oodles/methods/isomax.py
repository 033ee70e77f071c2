"""IsoMax: logits are negative distances to prototypes, and ten times those in training."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.heads import distances
from oodles.precision import at_least_float32
from oodles.targets import RowTargets, cross_entropy


def scale_logits(outputs: Outputs, factor: float) -> Outputs:
    """Multiply the logits of every part by a number."""
    return replace(outputs, logits={role: factor * logits for role, logits in outputs.logits.items()})


class DistanceHead(nn.Module):
    """Logits −‖h − p_c‖₂ with one prototype p_c for each class; ``spread`` is their initial standard deviation."""

    def __init__(self, features: int, classes: int, spread: float):
        super().__init__()
        self.prototypes = nn.Parameter(spread * torch.randn(classes, features))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return -distances(features, self.prototypes)


class IsoMax(Method):
    """Replaces the last layer by distances to prototypes, and multiplies logits by E_s while training.

    When to use: no outliers at hand, training from scratch; the entropy is to tell.
    Cost: distances instead of one matrix product.
    Caveat: probabilities of the trained classifier are far from confident, on purpose; ``isomax-plus`` is the authors'
    own successor.

    Args:
        entropic_scale: E_s, above 0. The paper uses 10 everywhere.
        spread: the standard deviation of the prototypes before training. The paper starts with all at 0, from where
            the first step moves prototypes alone.

    Raises:
        ValueError: for a scale that is not above 0, or a spread that is negative.

    Source: Macêdo et al., section III. Prototypes p_φ^j are our p_c. The authors' code takes the logarithm
    after the softmax, which is the same number until it underflows; here targets may also be probabilities.
    """

    name = "isomax"
    paper = Paper(
        title="Entropic Out-of-Distribution Detection",
        authors="Macêdo, Ren, Zanchettin, Oliveira, Ludermir",
        venue="IJCNN",
        year=2021,
        link="https://arxiv.org/abs/1908.05569",
        code="https://github.com/dlmacedo/entropic-out-of-distribution-detection",
    )
    score = "entropy"
    needs = ("vectors",)
    replaces = ("head",)

    def __init__(self, *, entropic_scale: float = 10.0, spread: float = 0.0):
        super().__init__()
        check_number("entropic_scale", entropic_scale, above=0)
        check_number("spread", spread, low=0)
        self.entropic_scale = entropic_scale
        self.spread = spread

    def forward(self, logits: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
        """Loss of logits and class ids or probabilities: the cross-entropy of E_s times the logits."""
        return cross_entropy(self.entropic_scale * at_least_float32(logits), targets)

    def change_classifier(self, classifier: Classifier) -> None:
        if not isinstance(classifier.head, DistanceHead):
            head = DistanceHead(classifier.num_features, classifier.num_classes, self.spread)
            classifier.head = classifier.placed(head)

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        return scale_logits(outputs, self.entropic_scale)
