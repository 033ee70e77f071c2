"""Maximum classifier discrepancy: two heads that agree on known rows and are made to disagree on unlabelled ones."""

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.processes import mean_over_processes
from oodles.scores import HeadScore, entropy

SECOND = "second"


def discrepancy_hinge(
    logits: Float[Tensor, "m c *space"], second: Float[Tensor, "m c *space"], margin: float
) -> Float[Tensor, ""]:
    """Return relu(m − mean(H(p₁) − H(p₂))), the mean over the rows of all processes; zero where there are none."""
    difference, rows = mean_over_processes(entropy(logits) - entropy(second))
    return (margin - difference).relu() * (rows > 0)


class MCD(Method):
    """Adds CE(z₂(x), y) of a second head and weight × relu(m − mean(H(p₁(o)) − H(p₂(o)))), H the entropy.

    When to use: unlabelled images at hand of which some, unknown which, are in-distribution.
    Cost: the outliers' rows in the forward pass, and a second head.
    Caveat: the second head begins with random weights, so a fine-tune needs enough steps for the two to agree.

    Args:
        weight: of the hinge; 0 switches off, the second head too.
        margin: m, the mean difference of entropies beyond which outliers are left alone, in nats.

    Raises:
        ValueError: for a weight or margin that is negative, NaN or infinite.

    Source: Yu and Aizawa, section 3. They train both heads on labelled rows first; then two steps alternate, the
    cross-entropies of both heads, and those with the hinge: this is one step with their sum. The hinge is on a mean, so
    outliers that differ much make up for others; entropies are over the classes, and not over the batch as in OpenOOD.
    The classifier's own head is the first one.
    """

    name = "mcd"
    paper = Paper(
        title="Unsupervised Out-of-Distribution Detection by Maximum Classifier Discrepancy",
        authors="Yu, Aizawa",
        venue="ICCV",
        year=2019,
        link="https://arxiv.org/abs/1908.04951",
    )
    score = "discrepancy"
    strength = "weight"
    needs = ("outliers",)
    terms = ("second_head", "mcd")
    heads = ("second",)

    def __init__(self, *, weight: float = 1.0, margin: float = 1.2):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("margin", margin, low=0)
        self.weight = weight
        self.margin = margin

    def forward(
        self, logits_out: Float[Tensor, "m c *space"], second_out: Float[Tensor, "m c *space"]
    ) -> Float[Tensor, ""]:
        """Term for the outliers' logits of both heads."""
        return self.weight * discrepancy_hinge(logits_out, second_out, self.margin)

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(SECOND, classifier.num_classes)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        second = outputs.heads[SECOND]
        return {
            "second_head": now.cross_entropy(second["id"], batch["id"].labels),
            "mcd": self(outputs.logits["outliers"], second["outliers"]),
        }


class Discrepancy(HeadScore):
    """Σ_c |p₁ − p₂|, from 0 to 2."""

    name = "discrepancy"
    needs_heads = (SECOND,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n c *space"]) -> Tensor:
        (second,) = heads
        return (logits.softmax(1) - second.softmax(1)).abs().sum(1)
