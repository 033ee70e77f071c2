"""GReg: energies that are flat around rows which are on the right side of a margin already."""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier, unit_of_inputs
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.methods.energy_bounded import EnergyBounded, check_margins
from oodles.precision import at_least_float32, unit_length
from oodles.scores import energy
from oodles.targets import mean_over_rows

SHIFTED, SHIFTED_OUTLIERS = "shifted", "shifted_outliers"
"""The parts of rows that are shifted to both sides."""


def shifted(
    classify: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n *shape"],
    delta: float,
    unit: float | Float[Tensor, "..."] = 1.0,
) -> Float[Tensor, "m *shape"]:
    """Return x₁ + δu₁, x₁ − δu₁, x₂ + δu₂, …, where u is the direction in which the energy of a row grows fastest.

    Args:
        classify: gives logits; should be in eval mode, which is not changed here.
        x: rows; not changed.
        delta: δ.
        unit: of the space in which u has the length 1, in units of x.
    """
    with torch.enable_grad():
        rows = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(classify(rows)).sum(), rows)
    direction = unit_length((unit * at_least_float32(slope)).flatten(1)).reshape(x.shape)
    shift = delta * unit * direction
    return torch.stack([x + shift, x - shift], 1).flatten(0, 1).to(x.dtype)


def slopes_between(logits: Float[Tensor, "m c"], delta: float) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Return (E₊ − E₋) / 2δ, which is ‖∇E‖ for a small δ, and the energy between, of logits of :func:`shifted` rows."""
    if len(logits) % 2:
        raise ValueError(f"Logits of shifted rows must be those of pairs, got {len(logits)} rows: see shifted.")
    pairs = energy(logits).reshape(-1, 2)
    return (pairs[:, 0] - pairs[:, 1]) / (2 * delta), pairs.mean(1)


class GReg(Method):
    """Adds λ × (the mean ‖∇E(x)‖ where E(x) < m_in + the mean ‖∇E(o)‖ where E(o) > m_out), E the energy of a row.

    When to use: beside energy-bounded, whose margins these are, so that energies hold around the rows, too.
    Cost: a forward and a backward pass for the directions, and twice as many further rows in the forward pass.
    Caveat: slopes are differences, which half precision rounds away: it needs weights in float32. Mixed precision is
    fine, as these rows are left out of it.

    Args:
        weight: λ; 0 switches off.
        margin_in: m_in, the energy below which in-distribution rows are to lie in a flat place.
        margin_out: m_out, the energy above which outliers are.
        delta: δ, half of the distance at which energies are compared, above 0.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, margins that are not finite or in the wrong order,
            or a δ that is not above 0.

    Source: Sharifi et al.; the choice of outliers of their GReg+ is not part of it. Slopes are central differences in
    the direction of the gradient, and so need no second derivative: exact as δ gets small. They are those of the score,
    of the network as it is tested, in eval mode, and in units of normalised inputs where the classifier has a
    ``Normalize``. In the authors' program, with λ = 1, batch norm is in training mode, and the gradient is that of the
    mean over a batch, then averaged over known rows and outliers together: for their 64 and 64 rows this makes 1/128 of
    λ, which is the default here, where nothing depends on the size of a batch.
    """

    name = "greg"
    paper = Paper(
        title="Gradient-Regularized Out-of-Distribution Detection",
        authors="Sharifi, Entesari, Safaei, Patel, Fazlyab",
        venue="ECCV",
        year=2024,
        link="https://arxiv.org/abs/2404.12368",
        code="https://github.com/o4lc/Greg-OOD",
    )
    score = "energy"
    strength = "weight"
    needs = ("outliers", "vectors")
    consumes = ("outliers",)
    adds = ("shifted", "shifted_outliers")
    as_tested = ("shifted", "shifted_outliers")
    terms = ("greg",)
    suggests = ("margin_in", "margin_out")

    def __init__(
        self,
        *,
        weight: float = 0.0078125,
        margin_in: float = -25.0,
        margin_out: float = -7.0,
        delta: float = 0.01,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_margins(margin_in, margin_out)
        check_number("delta", delta, above=0)
        self.weight = weight
        self.margin_in = margin_in
        self.margin_out = margin_out
        self.delta = delta

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, float]:
        """Measure the margins that :meth:`EnergyBounded.suggest` measures."""
        return EnergyBounded.suggest(classifier, id_loader, outlier_loader, ignore_index=ignore_index)

    def forward(
        self, logits_shifted: Float[Tensor, "m c"], logits_shifted_out: Float[Tensor, "k c"]
    ) -> Float[Tensor, ""]:
        """Term for logits of rows and of outliers that :func:`shifted` has shifted to both sides, in its order."""
        slope, between = slopes_between(logits_shifted, self.delta)
        slope_out, between_out = slopes_between(logits_shifted_out, self.delta)
        known = mean_over_rows(torch.where(between < self.margin_in, slope, 0.0))
        return self.weight * (known + mean_over_rows(torch.where(between_out > self.margin_out, slope_out, 0.0)))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        for role, made in (("id", SHIFTED), ("outliers", SHIFTED_OUTLIERS)):
            rows, valid = batch[role].rows, batch[role].valid
            with now.frozen(), torch.autocast(rows.device.type, enabled=False):
                moved = shifted(now.classifier, rows, self.delta, unit_of_inputs(now.classifier, rows))
            valid = None if valid is None else valid.repeat_interleave(2)
            batch = batch.with_part(made, Part(moved, valid=valid))
        return batch

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"greg": self(outputs.logits[SHIFTED], outputs.logits[SHIFTED_OUTLIERS])}
