"""VOS: outliers drawn as features, where the normal distributions of classes are thin, and energies that know them."""

import math
from collections.abc import Mapping

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from scipy.special import gammainccinv
from torch import Generator, Tensor, nn
from torch.nn.functional import softplus

from oodles.checks import check_number, check_share, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.precision import at_least_float32, take_over
from oodles.processes import sum_over_processes
from oodles.scores import energy
from oodles.targets import as_probabilities, mean_over_rows

VIRTUAL = "virtual"
"""The part of rows that are made as features."""
ROOTS = 10
"""So many steps go by between two roots of the covariance, in which a long memory hardly changes it."""
RIDGE = 1e-4
"""Added to the variances, as the authors do; here also 1e-5 × their mean, so that rounding leaves a root."""


def extreme_radii(
    count: int, candidates: int, dimensions: int, generator: Generator | None = None
) -> Float64[Tensor, " n"]:
    """Draw how far from the mean the least likely of ``candidates`` normal draws lies, ``count`` times.

    The density falls with ‖z‖ alone and ‖z‖² is χ²-distributed, so that the largest of n has the quantile function
    Q(u^(1/n)) of it; its upper tail is −expm1(log u / n), where 1 − u^(1/n) would cancel.
    """
    u = 1 - torch.rand(count, dtype=torch.float64, generator=generator).numpy()  # in (0, 1]
    tail = -np.expm1(np.log(u) / candidates)
    return torch.from_numpy(np.sqrt(2 * gammainccinv(dimensions / 2, tail)))


def classes_in_turn(seen: Bool[Tensor, " c"], count: int, turn: int) -> Int64[Tensor, " n"]:
    """Return ``count`` classes in turn, from number ``turn`` on: those of which rows were seen, or one if none were."""
    around = (torch.arange(len(seen), device=seen.device) + turn) % len(seen)
    first = around[(~seen[around]).long().argsort(stable=True)]
    return first[torch.arange(count, device=seen.device) % seen.sum().clamp(min=1)]


def root_of(covariance: Float[Tensor, "f f"]) -> Float[Tensor, "f f"]:
    """Return the lower root of a covariance with :data:`RIDGE` on its diagonal."""
    size, mean = len(covariance), covariance.diagonal().mean()
    ridge = (RIDGE + 0.1 * RIDGE * mean) * torch.eye(size, dtype=covariance.dtype, device=covariance.device)
    with torch.autocast(covariance.device.type, enabled=False):
        root: Tensor = torch.linalg.cholesky_ex(covariance + ridge).L
    return root


def begun(start: float, now: Now, like: Tensor) -> Float[Tensor, ""]:
    """Return 1 where this share of the epochs is over, and 0 before, on the device of a tensor."""
    return like.new_full((), float(now.over(start)))


def told_apart(known: Float[Tensor, " n"], made: Float[Tensor, " m"]) -> Float[Tensor, ""]:
    """Return the mean log(1 + exp(−z)) of known rows + the mean log(1 + exp(z)) of others, for log-odds z."""
    return mean_over_rows(softplus(-known)) + mean_over_rows(softplus(made))


class VOS(Method):
    """Adds λ × the logistic loss by which energies tell rows from virtual ones, drawn where their class is unlikely.

    When to use: no outliers at hand, and features of a class that are roughly one cluster.
    Cost: a product of features with themselves, and as many more rows behind the backbone.
    Caveat: it starts late, so its share of the epochs has to be trained after that.

    Args:
        weight: λ; 0 switches off.
        start: the share of the epochs before the term counts, in [0, 1).
        candidates: n, of so many draws the least likely one is taken.
        memory: the number of rows of each class over which means and the covariance reach back.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, a start outside [0, 1), or no candidates or memory.

    Source: Du et al., equations 3 to 6. Four things differ from the authors' program. The least likely of n draws
    is drawn at once, from the distribution of the largest radius. Means and the covariance that the classes share
    are averages that decay, in place of the last 1,000 features of each class, and draws take the covariance of at
    most ten steps ago; a batch gets as many virtual rows as it has rows, from classes in turn. The loss is the
    equation's sum of two means. The energy is the paper's, without weights of classes, and the log-odds of a known
    row are s × −energy + b with s > 0: with a free sign, as published, known rows may get the higher energy, and
    the score is turned round.
    """

    name = "vos"
    paper = Paper(
        title="VOS: Learning What You Don't Know by Virtual Outlier Synthesis",
        authors="Du, Wang, Cai, Li",
        venue="ICLR",
        year=2022,
        link="https://arxiv.org/abs/2202.01197",
        code="https://github.com/deeplearning-wisc/vos",
    )
    score = "energy"
    strength = "weight"
    needs = ("vectors",)
    adds = ("virtual",)
    terms = ("vos",)
    replaces = ("lengths of features",)
    means: Tensor
    covariance: Tensor
    root: Tensor
    counts: Tensor

    def __init__(self, *, weight: float = 0.1, start: float = 0.4, candidates: int = 10_000, memory: int = 1000):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("start", start)
        check_whole("candidates", candidates, low=1)
        check_whole("memory", memory, low=1)
        self.weight = weight
        self.start = start
        self.candidates = candidates
        self.memory = memory

    def forward(
        self,
        logits: Float[Tensor, "n c"],
        virtual_logits: Float[Tensor, "m c"],
        slope: Float[Tensor, ""],
        bias: Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """Term for logits of rows and of virtual rows, where the log-odds of a known row are −slope × energy + bias."""
        known, made = (
            bias.to(z.dtype) - slope.to(z.dtype) * energy(z) for z in map(at_least_float32, (logits, virtual_logits))
        )
        return self.weight * told_apart(known, made)

    def moments_with(self, features: Float[Tensor, "n f"], targets: Float[Tensor, "n c"]) -> Mapping[str, Tensor]:
        """Return means, the shared covariance and counts after further rows, with targets as probabilities.

        Up to ``memory`` rows of each class they are those of all rows; from then on earlier rows decay.
        """
        n = sum_over_processes(targets.sum(0))
        sums = sum_over_processes(targets.T @ features)
        none = torch.finfo(features.dtype).tiny
        middle = sums.sum(0) / n.sum().clamp(min=none)  # subtracted first, so that squares do not cancel
        centers = torch.where(n[:, None] > 0, sums / n.clamp(min=none)[:, None], middle) - middle
        rows = features - middle
        within = sum_over_processes(rows.T @ rows) - (n[:, None] * centers).T @ centers
        before = self.counts.to(rows.dtype)
        share = n / (before + n).clamp(min=none)
        drift = centers + middle - self.means.to(rows.dtype)
        between = ((before * share)[:, None] * drift).T @ drift
        total = before.sum() + n.sum()
        return {
            "means": self.means + share[:, None] * drift,
            "covariance": (before.sum() * self.covariance + within + between) / total.clamp(min=none),
            "counts": (before + n).clamp(max=self.memory),
        }

    def drawn(self, classes: Int64[Tensor, " n"], generator: Generator | None = None) -> Float[Tensor, "n f"]:
        """Draw the least likely of n draws around the mean of each of these classes."""
        size = self.means.shape[1]
        radii = extreme_radii(len(classes), self.candidates, size, generator)
        z = torch.randn(len(classes), size, generator=generator)
        steps = (radii / z.norm(dim=1)).to(z.dtype)[:, None] * z
        with torch.autocast(self.root.device.type, enabled=False):
            away = steps.to(self.root.device, self.root.dtype, non_blocking=True) @ self.root.T
        made: Tensor = self.means[classes] + away
        return made

    def change_classifier(self, classifier: Classifier) -> None:
        if "means" in self._buffers:
            return
        like = at_least_float32(next(classifier.head.parameters()).detach())
        self.register_buffer("means", like.new_zeros(classifier.num_classes, classifier.num_features))
        self.register_buffer("covariance", like.new_zeros([classifier.num_features] * 2))
        self.register_buffer("root", root_of(self.covariance))
        self.register_buffer("counts", like.new_zeros(classifier.num_classes))
        self.slope = nn.Parameter(like.new_full((), math.log(math.e - 1)))  # of which the softplus is 1
        self.bias = nn.Parameter(like.new_zeros(()))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        count = len(batch["id"])
        made = self.drawn(classes_in_turn(self.counts > 0, count, now.step * count), now.generator)
        return batch.with_part(VIRTUAL, Part(features=made)).with_draws(vos=begun(self.start, now, made))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        term = self(outputs.logits["id"], outputs.logits[VIRTUAL], softplus(self.slope), self.bias)
        return {"vos": batch.draws["vos"] * term}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        targets = as_probabilities(batch["id"].labels, now.classifier.num_classes)
        features = outputs.features["id"].to(self.means.dtype)
        moments = self.moments_with(features, targets.to(features.dtype))
        take_over(*((getattr(self, name), value) for name, value in moments.items()))
        if now.step % ROOTS == 0:
            self.root.copy_(root_of(self.covariance))
