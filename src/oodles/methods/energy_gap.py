"""Energy gap: keep the mean energies of in-distribution rows and outliers a margin apart."""

from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number, readable, shapes_checked
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.processes import mean_over_processes
from oodles.remarks import warn
from oodles.scores import energy
from oodles.targets import Targets, cross_entropy


def energy_gap(
    logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"], margin: float
) -> Float[Tensor, ""]:
    """Return relu(mean E(x) − mean E(o) + margin), with E = −logsumexp; zero where either population is empty.

    The means go over all processes. The hinge is on means: every row of a population gets the same gradient, and none
    once the means are a margin apart.
    """
    mean_in, rows_in = mean_over_processes(energy(logits_in))
    mean_out, rows_out = mean_over_processes(energy(logits_out))
    return (mean_in - mean_out + margin).relu() * (rows_in * rows_out > 0)


FAR = 0.5
"""Outliers whose mean energy is lower by more than this share of the margin are told apart the wrong way round."""


class Watch:
    """Warns once where the energies of a first batch lie the wrong way round and far apart."""

    def __init__(self) -> None:
        self.looked = False

    def __call__(self, method: str, margin: float, logits_in: Tensor, logits_out: Tensor) -> None:
        if self.looked or not readable(logits_in, read_gpu=True) or not (len(logits_in) and len(logits_out)):
            return
        self.looked = True
        means = [float(energy(logits.detach()).double().mean()) for logits in (logits_in, logits_out)]
        if means[0] - means[1] > FAR * abs(margin):
            warn(
                f"{method} wants the outliers' mean energy {margin:g} above that of in-distribution rows, and it is "
                f"{means[0] - means[1]:.3g} below: train the classifier first, and see what EnergyBounded.suggest "
                "measures for it."
            )


class EnergyRegularizedLoss(nn.Module):
    """Cross-entropy + λ × relu(mean E(x) − mean E(o) + margin): the mean-gap form of energy regularisation.

    This is **not** the loss of Liu et al. (2020), which has two margins and a squared hinge for every row: use
    :class:`EnergyBounded` for it. Here one hinge acts on the two means, so that a single extreme row can hide all
    others, and the gradient stops once the means are apart.

    Args:
        lambda_energy: λ, the weight of the term, at least 0.
        margin: by how much the outliers' mean energy has to exceed that of in-distribution rows.

    Example:
        >>> import torch
        >>> criterion = EnergyRegularizedLoss(lambda_energy=0.1, margin=10.0)
        >>> loss = criterion(torch.zeros(4, 10), torch.arange(4), torch.zeros(8, 10))
        >>> round(float(loss), 4)  # log 10 + 0.1 × 10
        3.3026
    """

    def __init__(self, lambda_energy: float = 0.1, margin: float = 10.0):
        super().__init__()
        check_number("lambda_energy", lambda_energy, low=0)
        check_number("margin", margin)
        self.lambda_energy = lambda_energy
        self.margin = margin
        self._watch = Watch()

    @shapes_checked
    def forward(
        self,
        logits_in: Float[Tensor, "n c *space"],
        targets_in: Targets,
        logits_out: Float[Tensor, "m c *space_out"] | None = None,
    ) -> Float[Tensor, ""]:
        """Loss of both batches, which may differ in size; without outliers it is plain cross-entropy.

        Raises:
            TypeError: for logits that are not floating point.
            ValueError: for labels outside the classes, or a number of classes that differs between the two.
        """
        loss = cross_entropy(logits_in, targets_in)
        if logits_out is None:
            return loss
        gap = energy_gap(logits_in, logits_out, self.margin)
        if self.lambda_energy:
            self._watch(type(self).__name__, self.margin, logits_in, logits_out)
        return loss + self.lambda_energy * gap if self.lambda_energy else loss


class EnergyGap(Method):
    """Adds weight × relu(mean E(x) − mean E(o) + margin), with E = −logsumexp of the logits.

    When to use: where a single margin is wanted that does not depend on the scale of a classifier's energies.
    Cost: the outliers' rows in the forward pass.
    Caveat: a hinge on means ignores how the rows spread; EnergyBounded, the published loss, looks at each row.

    Args:
        weight: of the term; 0 switches off.
        margin: by how much the outliers' mean energy has to exceed that of in-distribution rows.

    Raises:
        ValueError: for a negative weight, or a weight or margin that is not finite.

    Source: a widespread simplification of Liu et al., equation 8, not their loss.
    """

    name = "energy-gap"
    paper = Paper(
        title="Energy-based Out-of-distribution Detection",
        authors="Liu, Wang, Owens, Li",
        venue="NeurIPS",
        year=2020,
        link="https://arxiv.org/abs/2010.03759",
    )
    score = "energy"
    strength = "weight"
    needs = ("outliers",)
    terms = ("energy_gap",)

    def __init__(self, *, weight: float = 0.1, margin: float = 10.0):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("margin", margin)
        self.weight = weight
        self.margin = margin
        self._watch = Watch()

    def forward(
        self, logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"]
    ) -> Float[Tensor, ""]:
        """Term for in-distribution and outlier logits; the two may differ in size."""
        gap = energy_gap(logits_in, logits_out, self.margin)
        self._watch(self.name, self.margin, logits_in, logits_out)
        return self.weight * gap

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"energy_gap": self(outputs.logits["id"], outputs.logits["outliers"])}
