"""Energy-bounded learning: hold in-distribution energies below one margin and outlier energies above another."""

from typing import Any

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_choice, check_number, readable
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import collect
from oodles.remarks import warn
from oodles.scores import energy
from oodles.targets import mean_over_rows

LARGEST_HINGE = 1e15
"""Larger hinges count as this, without a gradient: the sum of their squares would overflow in float32."""


def hinge(gap: Float[Tensor, " *rows"]) -> Float[Tensor, " *rows"]:
    """Return relu(gap), finite also when it is squared."""
    return gap.relu().clamp(max=LARGEST_HINGE)


def energy_hinge(
    logits_in: Float[Tensor, "n c *space"],
    logits_out: Float[Tensor, "m c *space_out"],
    margin_in: float,
    margin_out: float,
    power: int = 2,
) -> Float[Tensor, ""]:
    """Return mean relu(E(x) − m_in)^power + mean relu(m_out − E(o))^power, with E = −logsumexp of the logits.

    Each population has its own mean, so the result does not depend on how many outliers there are.
    """
    too_high = hinge(energy(logits_in) - margin_in)
    too_low = hinge(margin_out - energy(logits_out))
    return mean_over_rows(too_high**power) + mean_over_rows(too_low**power)


def check_margins(margin_in: float, margin_out: float) -> None:
    """Refuse margins that are no finite numbers, or in the wrong order."""
    check_number("margin_in", margin_in)
    check_number("margin_out", margin_out)
    if margin_in >= margin_out:
        raise ValueError(
            f"margin_in must be below margin_out, got {margin_in} and {margin_out}: "
            "in-distribution rows have the lower energy."
        )


def margins_around(
    logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"]
) -> dict[str, float]:
    """Return ``margin_in`` and ``margin_out``: the mean energies, moved apart by half their distance on either side.

    Where the outliers' mean energy is not the higher one, as in a classifier that has hardly been trained, they lie a
    standard deviation on either side of the two means' middle, and a warning says so.

    Raises:
        ValueError: for energies that are all the same.
    """
    energies = [energy(logits).double() for logits in (logits_in, logits_out)]
    mean_in, mean_out = (float(values.mean()) for values in energies)
    if mean_in < mean_out:
        apart = (mean_out - mean_in) / 2
        return {"margin_in": mean_in - apart, "margin_out": mean_out + apart}
    deviation = max(float(values.std(correction=0)) for values in energies)
    found = f"{mean_in:.3g} in-distribution and {mean_out:.3g} for outliers"
    if not deviation:
        raise ValueError(f"Margins need a classifier whose energies differ, got {found} for all: train it first.")
    warn(
        f"Margins want a classifier that gives outliers the higher mean energy, and it is {found}: these lie a "
        "deviation to either side of the middle; train the classifier longer, or give others."
    )
    middle = (mean_in + mean_out) / 2
    return {"margin_in": middle - deviation, "margin_out": middle + deviation}


PAPER = (-25.0, -7.0)
"""The margins of the authors' program."""
NEARLY_ALL = 0.95


class Watch:
    """Warns once where nearly all energies of a first batch lie far on the wrong side of the paper's margins."""

    def __init__(self) -> None:
        self.looked = False

    def __call__(self, method: str, margins: tuple[float, float], logits_in: Tensor, logits_out: Tensor) -> None:
        """Look at the first batch that has rows; only margins that nobody chose are doubted."""
        if self.looked or not readable(logits_in, read_gpu=True) or not (len(logits_in) and len(logits_out)):
            return
        self.looked = True
        if margins != PAPER:
            return
        middle = sum(margins) / 2
        energies = energy(logits_in.detach()), energy(logits_out.detach())
        wrong = max(float((energies[0] > middle).double().mean()), float((energies[1] < middle).double().mean()))
        if wrong >= NEARLY_ALL:
            means = [float(values.double().mean()) for values in energies]
            warn(
                f"{method} has the paper's margins, {margins[0]:g} and {margins[1]:g}, and this classifier's mean "
                f"energies are {means[0]:.3g} in-distribution and {means[1]:.3g} for outliers: measure margins with "
                "suggest."
            )


class EnergyBounded(Method):
    """Adds weight × (mean relu(E(x) − m_in)² + mean relu(m_out − E(o))²), with E = −logsumexp of the logits.

    When to use: to fine-tune a trained classifier that will be scored by energy, with auxiliary outliers.
    Cost: the outliers' rows in the forward pass.
    Caveat: margins belong to the scale of one classifier; wrong ones ruin its accuracy. ``suggest`` measures them.

    Args:
        weight: of the term; 0 switches off. The paper uses 0.1.
        margin_in: m_in, the energy below which in-distribution rows are left alone.
        margin_out: m_out, the energy above which outliers are left alone.
        power: 2 squares the hinge, as in the paper; 1 keeps its gradient bounded.

    Raises:
        ValueError: for a negative weight, margins that are not finite or in the wrong order, or another power.

    Source: Liu et al., equation 8. The margins are the default of the authors' program, whose scripts use −23 and −5
    for CIFAR-10, −27 and −5 for CIFAR-100; it fine-tunes for 10 epochs at a learning rate of 0.001.
    """

    name = "energy-bounded"
    paper = Paper(
        title="Energy-based Out-of-distribution Detection",
        authors="Liu, Wang, Owens, Li",
        venue="NeurIPS",
        year=2020,
        link="https://arxiv.org/abs/2010.03759",
        code="https://github.com/wetliu/energy_ood",
    )
    score = "energy"
    strength = "weight"
    needs = ("outliers",)
    terms = ("energy_bounded",)
    suggests = ("margin_in", "margin_out")

    def __init__(self, *, weight: float = 0.1, margin_in: float = -25.0, margin_out: float = -7.0, power: int = 2):
        super().__init__()
        check_number("weight", weight, low=0)
        check_margins(margin_in, margin_out)
        check_choice("power", power, (1, 2))
        self.weight = weight
        self.margin_in = margin_in
        self.margin_out = margin_out
        self.power = power
        self._watch = Watch()

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, float]:
        """Measure margins for a trained classifier: its mean energies, each moved away by half their distance.

        The authors advise to place the margins a little outside of the trained classifier's two mean energies; how
        little they leave open.

        Args:
            classifier: trained, with plain cross-entropy for instance.
            id_loader: batches of training or validation rows.
            outlier_loader: batches of auxiliary outliers.
            ignore_index: the label of rows or pixels that are left out, as of a training step.

        Returns:
            ``margin_in`` and ``margin_out``.

        Raises:
            ValueError: for energies that are all the same.
        """
        known, unknown = (
            collect(classifier, loader, ignore_index=ignore_index).logits for loader in (id_loader, outlier_loader)
        )
        return margins_around(known, unknown)

    def forward(
        self, logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"]
    ) -> Float[Tensor, ""]:
        """Term for in-distribution and outlier logits; the two may differ in size."""
        self._watch(self.name, (self.margin_in, self.margin_out), logits_in, logits_out)
        return self.weight * energy_hinge(logits_in, logits_out, self.margin_in, self.margin_out, self.power)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"energy_bounded": self(outputs.logits["id"], outputs.logits["outliers"])}
