"""T2FNorm: train the last layer on features of constant norm, and score with features as they are."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.heads import logits_of, scale_features, scaled_head
from oodles.precision import unit_length


class T2FNorm(Method):
    """Trains the last layer on h / (‖h‖·τ), every part alike, and tests it on h / τ.

    When to use: no outliers at hand; a network that ends with ReLU and pooling, trained from scratch.
    Cost: none.
    Caveat: the bias weighs differently in training and in testing, so that a class may change. As a score the maximum
    softmax probability gains most; scores that use lengths of features gain too.

    Args:
        temperature: τ, above 0. The paper uses 0.1, for fine-tuning on ImageNet 0.05.

    Raises:
        ValueError: for a temperature that is not a finite number above 0, or a last layer that is not linear.

    Source: Regmi et al., section 3. h is the feature vector and fc the last layer. The authors' code classifies with
    normalised features and scores without; here the trained classifier gives the logits that are scored, and decides
    by them too. On ImageNet their code drops τ in testing.
    """

    name = "t2fnorm"
    paper = Paper(
        title="T2FNorm: Train-time Feature Normalization for OOD Detection in Image Classification",
        authors="Regmi, Panthi, Dotel, Gyawali, Stoyanov, Bhattarai",
        venue="CVPR Workshops",
        year=2024,
        link="https://arxiv.org/abs/2305.17797",
        code="https://github.com/sudarshanregmi/T2FNorm",
    )
    needs = ("vectors",)
    replaces = ("head", "lengths of features")

    def __init__(self, *, temperature: float = 0.1):
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
        """Features h / (‖h‖·τ), on which the last layer is trained."""
        return unit_length(features) / self.temperature

    def change_classifier(self, classifier: Classifier) -> None:
        scale_features(classifier, 1 / self.temperature, self.name)

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        head = scaled_head(now.classifier, self.name)
        logits = {role: logits_of(head, self(features)) for role, features in outputs.features.items()}
        return replace(outputs, logits={**outputs.logits, **logits})
