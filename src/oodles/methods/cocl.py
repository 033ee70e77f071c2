"""COCL: a class for outliers, prototypes of rare classes apart from them, and frequent classes away from them."""

import math
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import softplus

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.heads import distances
from oodles.methods.background_class import BACKGROUND, background_term, known_logit
from oodles.methods.pascl import by_frequency, check_as_many, check_counts, count_classes, rarest
from oodles.methods.shared_discriminator import no_s1
from oodles.precision import at_least_float32, in_one_precision, unit_length
from oodles.processes import mean_over_processes, rows_of_all_processes
from oodles.scores import HeadScore
from oodles.targets import as_probabilities, mean_over_rows

CLASS_PRIOR = "class_prior"


def unit_halves(values: Float[Tensor, "n f"]) -> Float[Tensor, "n f"]:
    """Return vectors both of whose halves have length 1."""
    return torch.cat([unit_length(half) for half in values.chunk(2, dim=1)], 1)


def tail_loss(
    features: Float[Tensor, "n f"],
    targets: Float[Tensor, "n c"],
    outliers: Float[Tensor, "m f"],
    prototypes: Float[Tensor, "c f"],
    temperature: float,
) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of finding a row's class among the prototypes of rare classes and the outliers.

    Args:
        features: of in-distribution rows.
        targets: the probabilities of the rare classes, which sum to zero for rows of others.
        outliers: features of the outliers of all processes.
        prototypes: one for each rare class.
        temperature: of the sum of the cosines of both halves.
    """
    rows = unit_halves(features)
    with torch.autocast(rows.device.type, enabled=False):
        near = rows @ torch.cat([unit_halves(prototypes).to(rows.dtype), unit_halves(outliers)]).T / temperature
    log_p = near.log_softmax(1)[:, : targets.shape[1]]
    total, _ = mean_over_processes(-(targets * log_p).sum(1))
    rare, _ = mean_over_processes(targets.sum(1))
    return total / rare.masked_fill(rare == 0, 1)


def head_loss(
    outliers: Float[Tensor, "m f"],
    everybody: Float[Tensor, "k f"],
    features: Float[Tensor, "n f"],
    frequent: Float[Tensor, " n"],
    margin: float,
) -> Float[Tensor, ""]:
    """Return the mean over outliers and rows of frequent classes of relu(‖o − o⁺‖ − ‖o − h‖ + margin).

    o⁺ is the outlier farthest from o.

    Args:
        outliers: features of this process's outliers.
        everybody: of those of all processes.
        features: of the in-distribution rows of all processes.
        frequent: how much each of these rows is of a frequent class.
        margin: by how much nearer o⁺ is to be.
    """
    farthest = distances(outliers, everybody).amax(1, keepdim=True) if len(everybody) else outliers[:, :1]
    too_near = (farthest - distances(outliers, features) + margin).relu()
    weights = frequent.to(too_near.dtype)
    total, _ = mean_over_processes((too_near * weights).sum(1))
    rows = weights.sum()
    return total / rows.masked_fill(rows == 0, 1)


class ClassPrior(nn.Module):
    """Gives log π for every row, the logarithms of the shares that classes have of the training rows."""

    log_prior: Tensor

    def __init__(self, class_counts: tuple[float, ...]):
        super().__init__()
        everything = sum(class_counts)
        self.register_buffer("log_prior", torch.tensor([math.log(count / everything) for count in class_counts]))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return self.log_prior.expand(features.shape[0], -1)  # len would fix the number of rows in exports


class COCL(Method):
    """Adds a class for outliers, and keeps rare classes apart from them by prototypes and frequent ones by distances.

    When to use: you have outliers, and classes of very different frequency, whose rare ones look like outliers.
    Cost: the outliers' rows in the forward pass, and their distances to each other and to the rows.
    Caveat: score it with its own score. Without counts all classes are rare, and frequent.

    Args:
        weight: of the outliers' cross-entropy to their class; 0 switches the method off.
        tail_weight: of the prototypes of rare classes.
        head_weight: of the distances of frequent classes.
        temperature: of the prototypes, above 0.
        margin: by how much an outlier is to be nearer to the farthest outlier than to rows of frequent classes.
        tail: the share of the classes that are rare, above 0 and at most 1; as many are frequent.
        class_counts: how many training rows each class has, see ``suggest``; empty for not known.

    Raises:
        ValueError: for a weight or margin that is negative, a temperature, tail or count outside its range, or one of
            them not finite.

    Source: Miao et al. Their program compares an outlier with one row of a frequent class, drawn at random; here it is
    the mean over all of them, and zero where a batch has none. There frequent classes are one more than rare ones, here
    as many. The published weights on ImageNet-LT are 0.02, 0.01 and 0.01. The prior corrects the score and not the
    prediction, which stays that of the logits.
    """

    name = "cocl"
    paper = Paper(
        title="Out-of-Distribution Detection in Long-Tailed Recognition with Calibrated Outlier Class Learning",
        authors="Miao, Pang, Bai, Li, Zheng",
        venue="AAAI",
        year=2024,
        link="https://arxiv.org/abs/2312.10686",
        code="https://github.com/mala-lab/COCL",
    )
    score = "cocl"
    strength = "weight"
    needs = ("outliers", "vectors")
    terms = ("background", "cocl_outliers", "cocl_tail", "cocl_head")
    heads = ("background", "class_prior")
    suggests = ("class_counts",)
    measured_on = ("train",)

    _rare: Tensor
    _frequent: Tensor
    prototypes: nn.Parameter

    def __init__(
        self,
        *,
        weight: float = 0.05,
        tail_weight: float = 0.05,
        head_weight: float = 0.1,
        temperature: float = 0.07,
        margin: float = 1.0,
        tail: float = 0.4,
        class_counts: tuple[float, ...] = (),
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("tail_weight", tail_weight, low=0)
        check_number("head_weight", head_weight, low=0)
        check_number("temperature", temperature, above=0)
        check_number("margin", margin, low=0)
        check_number("tail", tail, above=0, high=1)
        self.weight = weight
        self.tail_weight = tail_weight
        self.head_weight = head_weight
        self.temperature = temperature
        self.margin = margin
        self.tail = tail
        self.class_counts = check_counts(class_counts)
        rare = rarest(self.class_counts, tail)
        self.register_buffer("_rare", torch.tensor(rare).long(), persistent=False)
        frequent = by_frequency(self.class_counts)[: len(rare)]
        self.register_buffer("_frequent", torch.tensor(frequent).long(), persistent=False)

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, Any]:
        """Count the training rows of each class.

        Args:
            classifier: trained or not; it is not run.
            id_loader: batches of training rows with class ids.
            outlier_loader: not looked at.
            ignore_index: the label of rows or pixels that are left out, as of a training step.

        Returns:
            ``class_counts``.

        Raises:
            ValueError: for rows without class ids.
        """
        return {"class_counts": count_classes(id_loader, classifier.num_classes, ignore_index)}

    def forward(
        self,
        features_in: Float[Tensor, "n f"],
        targets_in: Float[Tensor, "n c"],
        features_out: Float[Tensor, "m f"],
        prototypes: Float[Tensor, "r f"],
    ) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
        """Terms of rare and frequent classes, for features, probabilities of classes, and prototypes of the rare."""
        known, targets, unknown, points = in_one_precision(features_in, targets_in, features_out, prototypes)
        everybody, _ = rows_of_all_processes(unknown)
        rows, _ = rows_of_all_processes(known)
        y, _ = rows_of_all_processes(targets)
        frequent = y[:, self._frequent] if self.class_counts else y
        rare = targets[:, self._rare] if self.class_counts else targets
        in_tail = tail_loss(known, rare, everybody, points, self.temperature)
        in_head = head_loss(unknown, everybody, rows, frequent.sum(1), self.margin)
        return self.tail_weight * in_tail, self.head_weight * in_head

    def change_classifier(self, classifier: Classifier) -> None:
        classes, size = classifier.num_classes, classifier.num_features
        check_as_many(self.class_counts, classes)
        classifier.add_head(BACKGROUND, 1)
        if CLASS_PRIOR not in classifier.heads:
            classifier.heads[CLASS_PRIOR] = classifier.placed(ClassPrior(self.class_counts or (1,) * classes))
        if "prototypes" not in self._parameters:
            rare = len(self._rare) if self.class_counts else classes
            self.prototypes = nn.Parameter(torch.empty(rare, size).uniform_(-1, 1) / math.sqrt(size))
            classifier.placed(self)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        h, o = outputs.features["id"], outputs.features["outliers"]
        y = as_probabilities(batch["id"].labels, now.classifier.num_classes).to(h.dtype)
        in_tail, in_head = self(h, y, o, self.prototypes)
        known = known_logit(outputs.logits["outliers"], outputs.heads[BACKGROUND]["outliers"])
        return {
            BACKGROUND: background_term(outputs),
            "cocl_outliers": self.weight * mean_over_rows(softplus(known)),
            "cocl_tail": in_tail,
            "cocl_head": in_head,
        }


class CalibratedOutlierClass(HeadScore):
    """The probability of the outliers' class, of logits z_c − τ·log π_c with the share π of each class.

    Args:
        tau: τ, how much of the prior is taken away; 0 for none of it.
    """

    name = "cocl"
    needs_heads = (BACKGROUND, CLASS_PRIOR)

    def __init__(self, tau: float = 1.0):
        check_number("tau", tau, low=0)
        self.tau = tau

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n _"]) -> Tensor:
        background, log_prior = heads
        if log_prior.shape != logits.shape:
            raise ValueError(
                f"The prior must have a number for each logit, {tuple(logits.shape)}, got {tuple(log_prior.shape)}."
            )
        return no_s1(known_logit(at_least_float32(logits) - self.tau * log_prior, background))
