"""Entropic open-set loss: unknowns are pulled to the uniform prediction, and together weigh as much as one class."""

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.outlier_exposure import cross_entropy_to_uniform


def class_balanced_entropic(logits_out: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
    """Return mean −1/K Σ_c log p_c, divided by K: where K classes weigh 1 together, all the unknowns weigh 1 / K."""
    return cross_entropy_to_uniform(logits_out) / logits_out.shape[1]


class EntropicOpenSet(Method):
    """Adds weight × (1 / K) × mean −1/K Σ_c log p_c(o): all unknowns together weigh as much as one of K classes.

    When to use: negatives of kinds near to the known classes, however many beside those of one class.
    Cost: the outliers' rows in the forward pass.
    Caveat: it is the term of Outlier Exposure at λ = weight / K, which is little where there are many classes.

    Args:
        weight: as how many classes the unknowns count; 0 switches off.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Dhamija et al., the Entropic Open-Set loss J_E. The authors' code gives every row a weight, so that each
    class and all unknowns together weigh the same; divided by what the K classes weigh, that is a mean over each part.
    Their code balances the known classes among each other as well, which changes nothing where these are equally
    many; PyTorch ports average over all rows at once.
    """

    name = "entropic-open-set"
    paper = Paper(
        title="Reducing Network Agnostophobia",
        authors="Dhamija, Günther, Boult",
        venue="NeurIPS",
        year=2018,
        link="https://arxiv.org/abs/1811.04110",
        code="https://github.com/Vastlab/Reducing-Network-Agnostophobia",
    )
    strength = "weight"
    needs = ("outliers",)
    terms = ("entropic_open_set",)

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(self, logits_out: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the unknowns' logits."""
        return self.weight * class_balanced_entropic(logits_out)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"entropic_open_set": self(outputs.logits["outliers"])}
