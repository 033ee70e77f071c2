"""Energies of wild rows raised under two constraints on known rows, each kept by an augmented Lagrangian."""

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from oodles.checks import check_number, check_share
from oodles.classifier import Classifier
from oodles.contract import Data, Now
from oodles.inference import batches_seen, in_eval_mode
from oodles.precision import at_least_float32, take_over
from oodles.processes import mean_over_processes
from oodles.scores import energy
from oodles.targets import Targets, cross_entropy_of_checked, mean_over_rows

LARGEST_PENALTY = 10.0
"""A penalty stops to grow here: of a constraint that cannot be kept it would grow until training diverges."""


def augmented_lagrangian(
    excess: Float[Tensor, ""], multiplier: Float[Tensor, ""], penalty: Float[Tensor, ""]
) -> Float[Tensor, ""]:
    """Return λ·c + ρ/2·c² for a constraint c ≤ 0, or −λ² / 2ρ, which has no gradient, where ρ·c + λ < 0."""
    missed = multiplier * excess + penalty / 2 * excess.square()
    return torch.where(penalty * excess + multiplier >= 0, missed, -multiplier.square() / (2 * penalty))


class Constraint(nn.Module):
    """A constraint c ≤ 0 on an epoch's mean of something, with its multiplier λ and penalty ρ."""

    multiplier: Tensor
    penalty: Tensor
    total: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name, start in (("multiplier", 0.0), ("penalty", 1.0), ("total", 0.0), ("count", 0.0)):
            self.register_buffer(name, torch.tensor(start, dtype=torch.float64))

    def forward(self, excess: Float[Tensor, ""]) -> Float[Tensor, ""]:
        """Term for how far a batch exceeds what is allowed."""
        # copies, since they move in place while a graph may hold them
        values = (value.to(excess.dtype, copy=True) for value in (self.multiplier, self.penalty))
        return augmented_lagrangian(excess, *values)

    def note(self, excess: Float[Tensor, ""]) -> None:
        """Add the excess of a batch to those of the epoch."""
        take_over((self.total, self.total + excess), (self.count, self.count + 1))

    def update(self, rate: float, growth: float) -> None:
        """Move λ by the epoch's mean excess c, and multiply ρ where c is above 0; without batches nothing moves."""
        c, begun = self.total / self.count.clamp(min=1), self.count > 0
        missed = self.penalty * c + self.multiplier >= 0
        step = rate * torch.where(missed, c, -self.multiplier / self.penalty)
        self.multiplier += torch.where(begun, step, 0.0)
        grown = (self.penalty * growth).clamp(max=LARGEST_PENALTY)
        self.penalty.copy_(torch.where(begun & (c > 0), grown, self.penalty))
        self.total.zero_()
        self.count.zero_()


class Constrained(NamedTuple):
    """The terms of both constraints, and what they constrain, each a single number."""

    of_loss: Tensor
    of_alarms: Tensor
    loss: Tensor
    """The cross-entropy of known rows."""
    alarms: Tensor
    """Their mean σ(φ)."""

    def named(self, method: str) -> dict[str, Tensor]:
        """Return them by the names of terms and measures of a method."""
        return {
            f"{method}_cross_entropy": self.of_loss,
            f"{method}_false_alarms": self.of_alarms,
            "known_cross_entropy": self.loss,
            "false_alarms": self.alarms,
        }


class ConstrainedEnergies(nn.Module):
    """Log-odds φ that a row is unknown, of its energy, and constraints on false alarms and on the cross-entropy.

    φ(x) = a·(E(x) − m) / s + b with a > 0 and the mean m and deviation s of the training rows' energies E.

    Args:
        false_alarms: the mean of σ(φ) that known rows may have.
        loss_factor: the multiple of the first cross-entropy that theirs may have.
        rate: by which multipliers follow an epoch's mean excess.
        growth: of the penalty of a constraint that an epoch has missed.
    """

    mean: Tensor
    deviation: Tensor
    first_loss: Tensor

    def __init__(self, false_alarms: float, loss_factor: float, rate: float, growth: float):
        super().__init__()
        check_share("false_alarms", false_alarms)
        check_number("loss_factor", loss_factor, above=0)
        check_number("multiplier_rate", rate, above=0)
        check_number("penalty_growth", growth, low=1)
        self.false_alarms = false_alarms
        self.loss_factor = loss_factor
        self.rate = rate
        self.growth = growth
        self.slope = nn.Parameter(torch.tensor(math.log(math.e - 1)))  # of which the softplus, a, is 1
        self.bias = nn.Parameter(torch.zeros(()))
        self.on_alarms = Constraint()
        self.on_loss = Constraint()
        for name, start in (("mean", 0.0), ("deviation", 1.0), ("first_loss", math.inf)):
            self.register_buffer(name, torch.tensor(start, dtype=torch.float64))

    def log_odds(self, logits: Float[Tensor, "n c *space"], margin: float = 0.0) -> Float[Tensor, "n *space"]:
        """Return φ of rows, of their energies with ``margin`` added."""
        energies = energy(logits) + margin
        mean, deviation = (value.to(energies.dtype, copy=True) for value in (self.mean, self.deviation))
        a, b = softplus(self.slope).to(energies.dtype), self.bias.to(energies.dtype)
        return a * (energies - mean) / deviation + b

    def wild(self, logits: Float[Tensor, "n c *space"], margin: float = 0.0) -> Float[Tensor, ""]:
        """Return the mean σ(−φ) of wild rows."""
        return mean_over_rows((-self.log_odds(logits, margin)).sigmoid())

    def known(self, logits: Float[Tensor, "n c *space"], targets: Targets) -> Constrained:
        """Return the terms of both constraints on known rows, and what they constrain.

        The cross-entropy is its own term until the first one is measured.
        """
        z = at_least_float32(logits)
        alarms, _ = mean_over_processes(self.log_odds(z).sigmoid())
        loss, _ = mean_over_processes(cross_entropy_of_checked(z, targets, by_row=True))
        first = self.first_loss.to(loss.dtype, copy=True)
        measured = first.isfinite()
        excess = loss - self.loss_factor * torch.where(measured, first, 0.0)
        of_loss = torch.where(measured, self.on_loss(excess), loss)
        return Constrained(of_loss, self.on_alarms(alarms - self.false_alarms), loss, alarms)

    def start(self, method: str, data: Data, now: Now) -> None:
        """Measure training rows before the first epoch, and move both constraints by the last one.

        Raises:
            ValueError: without training rows, naming the ``method``.
        """
        if not bool(self.first_loss.isfinite()):
            if data.train is None:
                raise ValueError(
                    f"{method} measures the training rows before the first epoch, got none: "
                    "call step.start_epoch(epoch, epochs, Data(train=…))."
                )
            self._measure(now.classifier, data.train)
        for constraint in (self.on_alarms, self.on_loss):
            constraint.update(self.rate, self.growth)

    def follow(self, measures: Mapping[str, Tensor]) -> None:
        """Note what a batch has measured."""
        self.on_alarms.note(measures["false_alarms"] - self.false_alarms)
        self.on_loss.note(measures["known_cross_entropy"] - self.loss_factor * self.first_loss)

    def _measure(self, classifier: Classifier, train: Iterable[Any]) -> None:
        """Measure the cross-entropy of training rows, and the mean and deviation of their energies."""
        count, loss, first, second = (torch.zeros_like(self.mean) for _ in range(4))
        with in_eval_mode(classifier):
            for batch in batches_seen(classifier, train, "train", labelled=True):
                if batch.labels is None:
                    raise ValueError("train must give rows with their labels, got rows alone.")
                logits, labels = batch.logits.double(), batch.labels.to(batch.logits.device)
                if labels.is_floating_point():
                    counts = torch.ones_like(logits[:, 0], dtype=torch.bool)
                    losses = cross_entropy_of_checked(logits, labels, by_row=True)
                else:  # others are void
                    counts = (labels >= 0) & (labels < classifier.num_classes)
                    losses = cross_entropy_of_checked(logits, torch.where(counts, labels.long(), 0), by_row=True)
                energies = energy(logits)
                for total, values in ((loss, losses), (first, energies), (second, energies.square())):
                    total += torch.where(counts, values, 0.0).sum()
                count += counts.sum()
        n = count.clamp(min=1)
        deviation = (second / n - (first / n).square()).clamp(min=0).sqrt()
        self.first_loss.copy_(loss / n)
        self.mean.copy_(first / n)
        self.deviation.copy_(torch.where(deviation > 0, deviation, 1.0))
