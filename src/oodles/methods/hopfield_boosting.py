"""Hopfield Boosting: known rows and outliers apart by the energies of two memories, learnt from outliers in between."""

import math
from typing import Any, Self

import torch
from jaxtyping import Bool, Float, Int64
from torch import Generator, Tensor, nn

from oodles.checks import check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.outliers.choice import look, take
from oodles.precision import unit_length
from oodles.processes import rows_of_all_processes
from oodles.scores.score import ComparingScore, check_features, check_training_rows
from oodles.targets import mean_over_rows

HOPFIELD = "hopfield"
"""The further head in whose outputs rows are compared."""
UNIT = 2**24
"""Numbers of at most 1 are stored as so many times themselves."""
AT_ONCE = 2**14
"""So many stored rows are compared with at once."""


def hopfield_energy(
    rows: Float[Tensor, "n d"],
    patterns: Float[Tensor, "m d"],
    beta: float,
    valid: Bool[Tensor, " m"] | None = None,
) -> Float[Tensor, " n"]:
    """Return E(z) = −β⁻¹ log mean_i exp(β·z·p_i) of rows z and the patterns p that count; infinite without any."""
    with torch.autocast(rows.device.type, enabled=False):
        near = beta * (rows @ patterns.to(rows.dtype).T)
    if valid is None:
        return (math.log(max(len(patterns), 1)) - near.logsumexp(1)) / beta
    counts = valid.sum().clamp(min=1).to(near.dtype).log()
    return (counts - near.masked_fill(~valid, -torch.inf).logsumexp(1)) / beta


def border_energy(energy_in: Float[Tensor, " n"], energy_out: Float[Tensor, " n"], beta: float) -> Float[Tensor, " n"]:
    """Return E_b = E_in + E_out − 2·E_∪, which is 0 on the border and above it on either side.

    E_∪ is the energy of both memories as one, with equal shares. exp(−β·E_b) is 4·p·(1 − p), with p the probability
    that the row is of the first one.
    """
    union = (math.log(2) - torch.logaddexp(beta * -energy_in, beta * -energy_out)) / beta
    return energy_in + energy_out - 2 * union


def draw_without_replacement(
    log_weights: Float[Tensor, " n"], count: int, generator: Generator | None = None
) -> Int64[Tensor, " k"]:
    """Draw ``count`` places, one after the other, each by its weight among those that are left.

    They are the largest of the weights' logarithms with Gumbel noise (Kool et al., ICML 2019), which is drawn on the
    CPU. Those of weight zero come last.
    """
    noise = -torch.empty(len(log_weights), dtype=torch.float64).exponential_(generator=generator).log()
    keys = log_weights + noise.to(log_weights.device, log_weights.dtype, non_blocking=True)
    return keys.topk(min(count, len(keys)), sorted=False).indices


class Memory(nn.Module):
    """The further head that projects features, and the last outliers that it projected, for the score."""

    outliers: Tensor
    """At unit length, in whole numbers, which a moving average of weights copies: its means would be of no row."""
    stored: Tensor
    """How many have been, also those that others have replaced."""
    beta: Tensor

    def __init__(self, projection: nn.Module, rows: int, dimensions: int):
        super().__init__()
        self.projection = projection
        self.register_buffer("outliers", torch.zeros(rows, dimensions, dtype=torch.int32))
        self.register_buffer("stored", torch.zeros((), dtype=torch.int64))
        self.register_buffer("beta", torch.ones(()))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n d"]:
        projected: Tensor = self.projection(features)
        return projected

    def store(self, rows: Float[Tensor, "n d"]) -> None:
        """Store rows at unit length in the place of the oldest ones."""
        rows = rows[-len(self.outliers) :]
        places = (self.stored + torch.arange(len(rows), device=rows.device)) % len(self.outliers)
        numbers = (rows * UNIT).nan_to_num(0.0).round()  # a row without a direction is as near to all others
        self.outliers.index_copy_(0, places, numbers.to(self.outliers.dtype))
        self.stored += len(rows)

    def read(self) -> Float[Tensor, "n d"]:
        """Return the rows that are stored."""
        return self.outliers[: min(int(self.stored), len(self.outliers))].float() / UNIT


class HopfieldBoosting(Method):
    """Subtracts λ × the mean border energy E_b from the loss, with outliers drawn by exp(−β·E_b) from those given.

    Rows are projections at unit length; E_in and E_out are their energies with the known rows and with the outliers of
    the batch.

    When to use: many outliers at hand, most of which are easy, and a score that may compare with training rows.
    Cost: all candidates and all known rows once more without gradients, and a product of all rows with all rows.
    Caveat: the score compares with every training row and with stored outliers, and both are kept with it.

    Args:
        weight: λ; 0 switches off.
        kept: the number of outliers that are drawn in each process; of no more candidates all are.
        beta: β, the inverse temperature of energies and draws, above 0.
        hidden: the width of the projection's hidden layer.
        dimensions: of the projection.
        memory: the number of projected outliers that the classifier keeps for the score.
        learn_projection: whether the projection learns, too; else it stays as drawn.

    Raises:
        ValueError: for a weight that is negative, a β that is not above 0, one of them not finite, and sizes below 1.

    Source: Hofmann et al.; λ, β and sizes are those of their program, whose E_b has this sign and whose outliers and
    known rows are as many, so that its mean is that of the two means here. It draws with replacement before every
    epoch, from 400,000 outliers and by energies with all training rows; here each step draws without, by energies in
    the batch. Its optimizer has no parameters of the projection, so that the published figures are of one that stays as
    drawn. Its score stores as many outliers as training rows after training; here the last ones that were trained on
    are stored, as they were projected then.
    """

    name = "hopfield-boosting"
    paper = Paper(
        title="Energy-based Hopfield Boosting for Out-of-Distribution Detection",
        authors="Hofmann, Schmid, Lehner, Klotz, Hochreiter",
        venue="NeurIPS",
        year=2024,
        link="https://arxiv.org/abs/2405.08766",
        code="https://github.com/ml-jku/hopfield-boosting",
    )
    score = "hopfield"
    strength = "weight"
    needs = ("outliers", "vectors")
    replaces = ("choice of outliers",)
    terms = ("hopfield_boosting",)
    heads = ("hopfield",)

    def __init__(
        self,
        *,
        weight: float = 0.5,
        kept: int = 128,
        beta: float = 4.0,
        hidden: int = 256,
        dimensions: int = 128,
        memory: int = 4096,
        learn_projection: bool = False,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("beta", beta, above=0)
        for name, size in {"kept": kept, "hidden": hidden, "dimensions": dimensions, "memory": memory}.items():
            check_whole(name, size, low=1)
        self.weight = weight
        self.kept = kept
        self.beta = beta
        self.hidden = hidden
        self.dimensions = dimensions
        self.memory = memory
        self.learn_projection = learn_projection

    def forward(self, projections_in: Float[Tensor, "n d"], projections_out: Float[Tensor, "m d"]) -> Float[Tensor, ""]:
        """Term for projections of known rows and of outliers, of any length; zero where either are none."""
        known, outliers = unit_length(projections_in), unit_length(projections_out)
        return self._term(known, outliers, known, outliers)

    def _term(self, known: Tensor, outliers: Tensor, all_known: Tensor, all_outliers: Tensor) -> Tensor:
        """Return the term of this process's rows, compared with those of all."""
        if not (len(known) and len(outliers)):
            return mean_over_rows(known[:0]) + mean_over_rows(outliers[:0])
        energies = (
            border_energy(
                hopfield_energy(rows, all_known, self.beta), hopfield_energy(rows, all_outliers, self.beta), self.beta
            )
            for rows in (known, outliers)
        )
        return self.weight * -torch.stack([mean_over_rows(values) for values in energies]).mean()

    def change_classifier(self, classifier: Classifier) -> None:
        if HOPFIELD not in classifier.heads:
            projection = classifier.add_head(HOPFIELD, self.dimensions, hidden=self.hidden)
            classifier.heads[HOPFIELD] = classifier.placed(Memory(projection, self.memory, self.dimensions))
        memory = memory_of(classifier)
        there, wanted = tuple(memory.outliers.shape), (self.memory, self.dimensions)
        if there != wanted:
            raise ValueError(
                f"The classifier keeps outliers of shape {there} for its score, and {wanted} are wanted: "
                "take the memory and dimensions that it was trained with."
            )
        memory.beta.fill_(self.beta)
        memory.projection.requires_grad_(self.learn_projection)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        candidates, known = batch["outliers"], batch["id"]
        if len(candidates) <= self.kept:
            return batch
        seen, patterns = (_projected(part, now) for part in (candidates, known))
        energies = border_energy(
            hopfield_energy(seen, patterns, self.beta, known.valid),
            hopfield_energy(seen, seen, self.beta, candidates.valid),
            self.beta,
        )
        weights = self.beta * -energies
        if candidates.valid is not None:
            weights = weights.masked_fill(~candidates.valid, -torch.inf)
        return batch.with_part(
            "outliers", take(candidates, draw_without_replacement(weights, self.kept, now.generator))
        )

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        own = [unit_length(outputs.heads[HOPFIELD][role]) for role in ("id", "outliers")]
        rows = [rows_of_all_processes(part)[0] for part in own]
        return {"hopfield_boosting": self._term(*own, *rows)}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        rows, _ = rows_of_all_processes(unit_length(outputs.heads[HOPFIELD]["outliers"]))
        memory_of(now.classifier).store(rows)


def memory_of(classifier: Any) -> Memory:
    """Return the further head that the method has added to a classifier."""
    memory: Memory = classifier.heads[HOPFIELD]
    return memory


def _projected(part: Part, now: Now) -> Float[Tensor, "n d"]:
    """Return projections of inputs at unit length, in eval mode."""
    return unit_length(look(part, now).heads[HOPFIELD])


class EnergyDifference(ComparingScore):
    """E_in − E_out of a projection: its energy with all training rows, less that with the outliers of training.

    The outliers are the last ones on which :class:`HopfieldBoosting` trained: its head keeps them.
    """

    name = "hopfield"
    learns = ("known", "outliers", "beta")
    known: Tensor
    outliers: Tensor
    beta: float

    def __init__(self) -> None:
        super().__init__(head=HOPFIELD)

    def fit_of(self, classifier: nn.Module, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        self.check(classifier)
        memory = memory_of(classifier)
        self.outliers, self.beta = memory.read(), float(memory.beta)
        if not len(self.outliers):
            raise ValueError(f"{self.name} compares with outliers of training and there were none: train with some.")
        return super().fit_of(classifier, features, logits, labels)

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        if not hasattr(self, "outliers"):
            raise ValueError(
                f"{self.name} reads the classifier's head: call fit_of(classifier, features, logits, labels)."
            )
        check_features(features)
        check_training_rows(features=features)
        self.known = unit_length(features)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        check_features(features, self.known.shape[1])
        rows = unit_length(features.to(self.known.device))  # it may have been fitted elsewhere
        return self._energy(rows, self.known) - self._energy(rows, self.outliers)

    def _energy(self, rows: Tensor, patterns: Tensor) -> Tensor:
        """Return energies with all patterns, from those with some at once."""
        sums = [
            math.log(len(block)) - self.beta * hopfield_energy(rows, block, self.beta)
            for block in torch.split(patterns, AT_ONCE)
        ]
        return (math.log(len(patterns)) - torch.stack(sums, 1).logsumexp(1)) / self.beta
