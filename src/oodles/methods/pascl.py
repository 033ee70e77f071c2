"""PASCL: rows of rare classes attract their own kind and repel outliers, in a projection of the features."""

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number, check_whole, differs
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import as_labels, read_batch
from oodles.methods.balanced_energy import per_class
from oodles.precision import in_one_precision, unit_length
from oodles.processes import mean_over_processes, rows_of_all_processes
from oodles.views import PROJECTION, projected_views, with_view


def count_classes(loader: Any, num_classes: int, ignore_index: int | None = None) -> tuple[int, ...]:
    """Count the rows (or pixels) of each class in batches with class ids.

    Raises:
        ValueError: for rows without class ids, and ids of other classes.
    """
    counts = torch.zeros(num_classes, dtype=torch.int64)
    for batch in loader:
        _, beside = read_batch(batch, "A batch of training rows")
        labels = as_labels(beside, "A batch of training rows")
        if labels is None or labels.is_floating_point():
            got = "none" if labels is None else str(labels.dtype)
            raise ValueError(f"Counting classes needs class ids of training rows, got {got}: give the counts.")
        ids = labels[differs(labels, ignore_index)].long().cpu()
        found = ids.bincount(minlength=num_classes)
        if len(found) > num_classes:
            raise ValueError(f"Labels of training rows must be 0 to {num_classes - 1}, got {int(ids.max())}.")
        counts += found
    return tuple(counts.tolist())


def check_counts(class_counts: Sequence[float]) -> tuple[float, ...]:
    """Return the rows of each class as a tuple; refuse classes that are never seen."""
    counts = per_class("class_counts", class_counts)
    for index, count in enumerate(counts):
        check_number(f"class_counts[{index}]", count, above=0)
    return counts


def check_as_many(class_counts: Sequence[float], num_classes: int) -> None:
    """Refuse counts of other classes than the classifier's."""
    if class_counts and len(class_counts) != num_classes:
        raise ValueError(
            f"class_counts must have a number for each of the {num_classes} classes, got {len(class_counts)}."
        )


def by_frequency(class_counts: Sequence[float]) -> list[int]:
    """Return class ids, the most frequent ones first; of as many rows, in their order."""
    return sorted(range(len(class_counts)), key=lambda c: -class_counts[c])


def rarest(class_counts: Sequence[float], share: float) -> list[int]:
    """Return the ids of the rarest classes, C − round((1 − share)·C) of C."""
    return sorted(by_frequency(class_counts)[round((1 - share) * len(class_counts)) :])


def tail_contrast(
    rows: Float[Tensor, "n d"],
    targets: Float[Tensor, "n c"],
    outliers: Float[Tensor, "m d"],
    temperature: float,
    own: slice = slice(None),
) -> Float[Tensor, ""]:
    """Return the mean over anchors i of −Σ_p a_ip·log softmax_p(z_i·z_p / T) / Σ_p a_ip, with outliers in the softmax.

    Anchors, and the rows p that they attract, are those of rare classes; a_ip is the probability that two of them are
    of one class. A row without another of its class contributes zero.

    Args:
        rows: z, at unit length.
        targets: the probabilities of the rare classes, which sum to zero for rows of others.
        outliers: at unit length.
        temperature: T.
        own: the rows that are anchors.
    """
    numbers = torch.arange(len(rows), device=rows.device)
    itself = numbers[own].unsqueeze(1) == numbers
    in_tail = targets.sum(1)
    near, away = rows[own] @ rows.T / temperature, rows[own] @ outliers.T / temperature
    alike = (targets[own] @ targets.T).masked_fill(itself, 0)
    count = alike.sum(1)
    attracted = (alike * near).sum(1) / count.masked_fill(count == 0, 1)
    among = (near + in_tail.log()).masked_fill(itself, -torch.inf)
    # zeros for rows that are left out, as the derivative of a sum over nobody would be NaN
    repelled = torch.cat([among, away], 1).masked_fill((count == 0).unsqueeze(1), 0).logsumexp(1)
    loss = torch.where(count > 0, in_tail[own] * (repelled - attracted), 0)
    total, _ = mean_over_processes(loss)
    anchors, _ = mean_over_processes(in_tail[own])
    return total / anchors.masked_fill(anchors == 0, 1)


class PASCL(Method):
    """Adds λ × the cross-entropy of finding a rare class's rows among each other and the outliers, by cosines.

    When to use: beside outlier-exposure, for classes of very different frequency, whose rare ones look like outliers.
    Cost: a second view of every row and the outliers' rows in the forward pass.
    Caveat: only batches with rows of rare classes teach it anything. Without counts all classes are rare; where all
    have as many rows, the last ones are.

    Args:
        weight: λ; 0 switches off. The authors take 0.1 on CIFAR-10 and 0.02 on CIFAR-100.
        temperature: T, above 0. The authors take 0.07 on CIFAR-10 and 0.2 on CIFAR-100.
        tail: the share of the classes that are rare, above 0 and at most 1.
        class_counts: how many training rows each class has, see ``suggest``; empty for not known.
        dimensions: of the projection in which rows are compared.

    Raises:
        ValueError: for a weight that is negative, a temperature, tail or count outside its range, one of them not
            finite, or no dimensions.

    Source: Wang et al., stage 1, whose objective also has cross-entropy and Outlier Exposure, here a method of its own.
    Outliers are in the softmax and never anchors. Their program takes the cross-entropy of both views, here it is that
    of the rows themselves; its weights of classes are 1 for every rare one, and left out. Stage 2, which trains norms
    and the last layer anew for accuracy, is not here: outliers are scored after stage 1.
    """

    name = "pascl"
    paper = Paper(
        title="Partial and Asymmetric Contrastive Learning for Out-of-Distribution Detection in Long-Tailed "
        "Recognition",
        authors="Wang, Zhang, Zhu, Zheng, Li, Smola, Wang",
        venue="ICML",
        year=2022,
        link="https://arxiv.org/abs/2207.01160",
        code="https://github.com/amazon-science/long-tailed-ood-detection",
    )
    strength = "weight"
    needs = ("outliers", "vectors")
    adds = ("view",)
    shares = ("view",)
    views = ("view",)
    terms = ("pascl",)
    heads = ("projection",)
    suggests = ("class_counts",)
    measured_on = ("train",)

    _rare: Tensor

    def __init__(
        self,
        *,
        weight: float = 0.1,
        temperature: float = 0.07,
        tail: float = 0.4,
        class_counts: tuple[float, ...] = (),
        dimensions: int = 128,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("temperature", temperature, above=0)
        check_number("tail", tail, above=0, high=1)
        check_whole("dimensions", dimensions, low=1)
        self.weight = weight
        self.temperature = temperature
        self.tail = tail
        self.class_counts = check_counts(class_counts)
        self.dimensions = dimensions
        self.register_buffer("_rare", torch.tensor(rarest(self.class_counts, tail)).long(), persistent=False)

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
        self, projections: Float[Tensor, "n d"], targets: Float[Tensor, "n c"], projections_out: Float[Tensor, "m d"]
    ) -> Float[Tensor, ""]:
        """Term for projections of all views, their probabilities of classes, and projections of outliers."""
        rows, y, outliers = in_one_precision(unit_length(projections), targets, unit_length(projections_out))
        return self.weight * tail_contrast(rows, self._of_rare(y), outliers, self.temperature)

    def _of_rare(self, targets: Float[Tensor, "n c"]) -> Float[Tensor, "n rare"]:
        return targets[:, self._rare] if self.class_counts else targets

    def change_classifier(self, classifier: Classifier) -> None:
        check_as_many(self.class_counts, classifier.num_classes)
        classifier.add_head(PROJECTION, self.dimensions, hidden=classifier.num_features)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return with_view(batch, now)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        rows, targets, own = projected_views(outputs, batch, now.classifier.num_classes)
        outliers, _ = rows_of_all_processes(unit_length(outputs.heads[PROJECTION]["outliers"]))
        term = tail_contrast(rows, self._of_rare(targets), outliers, self.temperature, own)
        return {"pascl": self.weight * term}
