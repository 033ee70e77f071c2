"""IsoMax+: distances between features and prototypes of unit length, times a scale that is learned."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.heads import distances
from oodles.methods.isomax import scale_logits
from oodles.precision import at_least_float32, unit_length
from oodles.targets import RowTargets, cross_entropy


class UnitDistanceHead(nn.Module):
    """Logits −|s|·‖ĥ − p̂_c‖₂ of features and prototypes of unit length; the distance scale s is learned."""

    def __init__(self, features: int, classes: int):
        super().__init__()
        self.prototypes = nn.Parameter(torch.randn(classes, features))
        self.distance_scale = nn.Parameter(torch.ones(1))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return -self.distance_scale.abs() * distances(unit_length(features), unit_length(self.prototypes))


class IsoMaxPlus(Method):
    """Replaces the last layer by scaled distances on the unit sphere, and multiplies logits by E_s while training.

    When to use: no outliers at hand, training from scratch; the distance to the nearest prototype is to tell.
    Cost: distances instead of one matrix product.
    Caveat: probabilities of the trained classifier are far from confident, on purpose: score it with its maximum
    logit, which is the negative minimum distance.

    Args:
        entropic_scale: E_s, above 0. The paper uses 10 everywhere.

    Raises:
        ValueError: for a scale that is not a finite number above 0.

    Source: Macêdo and Ludermir, section 3. Prototypes p_φ^j are our p_c, the distance scale d_s is s; ĥ and p̂
    are of unit length. The authors' code takes the logarithm after the softmax; here targets may be probabilities.
    """

    name = "isomax-plus"
    paper = Paper(
        title="Enhanced Isotropy Maximization Loss: Seamless and High-Performance Out-of-Distribution Detection Simply "
        "Replacing the SoftMax Loss",
        authors="Macêdo, Ludermir",
        venue="arXiv",
        year=2021,
        link="https://arxiv.org/abs/2105.14399",
        code="https://github.com/dlmacedo/entropic-out-of-distribution-detection",
    )
    score = "max-logit"
    needs = ("vectors",)
    replaces = ("head", "lengths of features")

    def __init__(self, *, entropic_scale: float = 10.0):
        super().__init__()
        check_number("entropic_scale", entropic_scale, above=0)
        self.entropic_scale = entropic_scale

    def forward(self, logits: Float[Tensor, "n c"], targets: RowTargets) -> Float[Tensor, ""]:
        """Loss of logits and class ids or probabilities: the cross-entropy of E_s times the logits."""
        return cross_entropy(self.entropic_scale * at_least_float32(logits), targets)

    def change_classifier(self, classifier: Classifier) -> None:
        if not isinstance(classifier.head, UnitDistanceHead):
            classifier.head = classifier.placed(UnitDistanceHead(classifier.num_features, classifier.num_classes))

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        return scale_logits(outputs, self.entropic_scale)
