"""RegMixup: train on clean rows and, as a regulariser, on strongly mixed ones."""

from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from oodles.checks import check_flag, check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.mixup import Mixed, mix_part, mixup_data


class RegMixup(Method):
    """Adds η·CE(mixed rows, mixed labels) to the cross-entropy of the clean rows, λ ~ Beta(α, α).

    When to use: no outliers at hand, and accuracy matters as much as detection.
    Cost: twice the rows in the forward pass.
    Caveat: with the paper's large α most λ are near ½, so the mixed rows lie far from the data.

    Args:
        alpha: α of the Beta distribution. The paper uses 20 on CIFAR-10 and 10 on CIFAR-100.
        weight: η, the weight of the mixed rows' loss; 0 switches off.
        per_sample: one λ per row; by default one per batch, as in the authors' code.

    Raises:
        ValueError: for an α or weight that is negative, NaN or infinite.

    Source: Pinto et al., equation 4. The authors' code averages over clean and mixed rows together, which halves
    both terms.
    """

    name = "regmixup"
    paper = Paper(
        title="RegMixup: Mixup as a Regularizer Can Surprisingly Improve Accuracy & Out-of-Distribution Robustness",
        authors="Pinto, Yang, Lim, Torr, Dokania",
        venue="NeurIPS",
        year=2022,
        link="https://arxiv.org/abs/2206.14502",
        code="https://github.com/FrancescoPinto/RegMixup",
    )
    strength = "weight"
    adds = ("mixed",)
    terms = ("regmixup",)

    def __init__(self, *, alpha: float = 20.0, weight: float = 1.0, per_sample: bool = False):
        super().__init__()
        check_number("alpha", alpha, low=0)
        check_number("weight", weight, low=0)
        check_flag("per_sample", per_sample)
        self.alpha = alpha
        self.weight = weight
        self.per_sample = per_sample

    def forward(
        self, x: Float[Tensor, " n *rest"], y: Shaped[Tensor, " n *labels"], *, generator: Generator | None = None
    ) -> Mixed:
        """Rows mixed with one another, without the clean ones, see :func:`mixup_data`."""
        return mixup_data(x, y, self.alpha, per_sample=self.per_sample, generator=generator)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("mixed", mix_part(self, batch["id"], now))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        loss = now.cross_entropy(outputs.logits["mixed"], batch["mixed"].labels)
        return {"regmixup": self.weight * loss}
