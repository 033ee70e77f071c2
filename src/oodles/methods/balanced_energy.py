"""Balanced energy: energy-bounded learning that presses harder on outliers which look like frequent classes."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import collect
from oodles.methods.energy_bounded import Watch, check_margins, hinge, margins_around
from oodles.precision import at_least_float32
from oodles.processes import mean_over_processes
from oodles.scores import energy
from oodles.spelling import shown
from oodles.targets import mean_over_rows


def class_shares(prior: Sequence[float], gamma: float) -> list[float]:
    """Return π_c^γ / Σ π^γ."""
    most = max(prior, default=1)  # of shares of the largest no power overflows
    powers = [(probability / most) ** gamma for probability in prior]
    return [power / sum(powers) for power in powers]


def frequency(logits: Float[Tensor, "n c *space"], shares: Float[Tensor, " c"]) -> Float[Tensor, "n *space"]:
    """Return Z = Σ_c p_c · share_c: how frequent the classes are that a row looks like."""
    probabilities = at_least_float32(logits).softmax(1)
    return (probabilities.movedim(1, -1) * shares.to(probabilities.dtype)).sum(-1)


def balanced_hinge(
    logits_out: Float[Tensor, "m c *space"], shares: Float[Tensor, " c"], alpha: float, margin_out: float
) -> Float[Tensor, ""]:
    """Return Σ Z · relu(m_out − E + α·Z)² / Σ Z over all processes; zero where there are no rows."""
    frequent = frequency(logits_out, shares)
    too_low = hinge(margin_out - energy(logits_out) + alpha * frequent)
    pressure, _ = mean_over_processes(frequent * too_low**2)
    weight, _ = mean_over_processes(frequent)
    return pressure / weight.clamp(min=1e-12)  # no rows, or all of them of classes that were never predicted


def per_class(name: str, numbers: Iterable[float]) -> tuple[float, ...]:
    """Return a setting of a number for each class as a tuple, since JSON makes it a list."""
    if not isinstance(numbers, Iterable) or isinstance(numbers, str | Mapping) or getattr(numbers, "ndim", 1) != 1:
        raise TypeError(f"{name} must be a number for each class, got {shown(numbers)}.")
    return tuple(numbers)


def _checked(prior: Iterable[float]) -> tuple[float, ...]:
    """Return a prior as a tuple; refuse numbers below 0, and zeros alone."""
    prior = per_class("prior", prior)
    for index, share in enumerate(prior):
        check_number(f"prior[{index}]", share, low=0)
    if prior and not any(prior):
        raise ValueError("prior must have a number above 0, got zeros alone: leave it empty for a uniform one.")
    return prior


class BalancedEnergy(Method):
    """Adds weight × (mean relu(E(x) − m_in)² + Σ Z(o)·relu(m_out + α·Z(o) − E(o))² / Σ Z(o)), Z how frequent a row is.

    When to use: energy fine-tuning where outliers fall unevenly on the classes, as with long-tailed training data.
    Cost: the outliers' rows in the forward pass; ``suggest`` looks at all outliers once.
    Caveat: margins and prior belong to one classifier. Without a prior nothing is balanced, and m_out is α / K higher.

    Args:
        weight: of the term; 0 switches off.
        margin_in: m_in, the energy below which in-distribution rows are left alone.
        margin_out: m_out, the energy above which outliers are left alone, but for α·Z.
        alpha: α, how much higher the margin is for frequent classes. The scripts use 10 on CIFAR-10, 100 on CIFAR-100.
        gamma: γ, from 0, where all classes count the same. For long-tailed data the scripts use 0.75 with ResNet-18 and
            0.5 with WRN-40-2, for balanced data 0.05 on CIFAR-10 and 0.005 on CIFAR-100.
        prior: π, how often each class is predicted on outliers, as shares or counts; empty is uniform.

    Raises:
        ValueError: for a negative weight, α, γ or prior, for margins in the wrong order, and for anything not finite.

    Source: Choi et al.: Z(o) = Σ_c p_c(o)·π_c^γ / Σ π^γ. As in the authors' code the gradient passes through it. The
    other defaults are their program's, where γ is 0 unless a script sets it; it fine-tunes for 20 epochs at a learning
    rate of 0.001.
    """

    name = "balanced-energy"
    paper = Paper(
        title="Balanced Energy Regularization Loss for Out-of-distribution Detection",
        authors="Choi, Jeong, Choi",
        venue="CVPR",
        year=2023,
        link="https://arxiv.org/abs/2306.10485",
        code="https://github.com/hyunjunChhoi/Balanced_Energy",
    )
    score = "energy"
    strength = "weight"
    needs = ("outliers",)
    terms = ("balanced_energy",)
    suggests = ("margin_in", "margin_out", "prior")

    _shares: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.1,
        margin_in: float = -25.0,
        margin_out: float = -7.0,
        alpha: float = 5.0,
        gamma: float = 0.75,
        prior: tuple[float, ...] = (),
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_margins(margin_in, margin_out)
        check_number("alpha", alpha, low=0)
        check_number("gamma", gamma, low=0)
        prior = _checked(prior)
        self.weight = weight
        self.margin_in = margin_in
        self.margin_out = margin_out
        self.alpha = alpha
        self.gamma = gamma
        self.prior = prior
        self._watch = Watch()
        # a buffer, since a tensor made anew would keep the device waiting in every step
        self.register_buffer("_shares", torch.tensor(class_shares(self.prior, gamma)), persistent=False)

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, Any]:
        """Measure margins as for :class:`EnergyBounded`, and how often each class is predicted on outliers.

        Args:
            classifier: trained, with plain cross-entropy for instance.
            id_loader: batches of training or validation rows.
            outlier_loader: batches of auxiliary outliers.
            ignore_index: the label of rows or pixels that are left out, as of a training step.

        Returns:
            ``margin_in``, ``margin_out`` and ``prior``.

        Raises:
            ValueError: for energies that are all the same.
        """
        known, unknown = (
            collect(classifier, loader, ignore_index=ignore_index).logits for loader in (id_loader, outlier_loader)
        )
        counts = unknown.argmax(1).flatten().bincount(minlength=unknown.shape[1]).double()
        return {**margins_around(known, unknown), "prior": tuple((counts / counts.sum()).tolist())}

    def forward(
        self, logits_in: Float[Tensor, "n c *space"], logits_out: Float[Tensor, "m c *space_out"]
    ) -> Float[Tensor, ""]:
        """Term for in-distribution and outlier logits; the two may differ in size."""
        classes = logits_out.shape[1]
        self._check_prior(classes)
        self._watch(self.name, (self.margin_in, self.margin_out), logits_in, logits_out)
        shares = self._shares if self.prior else self._shares.new_full((classes,), 1 / classes)
        too_high = hinge(energy(logits_in) - self.margin_in)
        return self.weight * (
            mean_over_rows(too_high**2) + balanced_hinge(logits_out, shares, self.alpha, self.margin_out)
        )

    def _check_prior(self, classes: int) -> None:
        if self.prior and len(self.prior) != classes:
            raise ValueError(f"prior must have a number for each of the {classes} classes, got {len(self.prior)}.")

    def change_classifier(self, classifier: Classifier) -> None:
        self._check_prior(classifier.num_classes)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"balanced_energy": self(outputs.logits["id"], outputs.logits["outliers"])}
