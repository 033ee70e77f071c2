"""MOS: a softmax within each group of classes, with an output for all classes of other groups."""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from torch.nn.functional import linear

from oodles.checks import check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import batches_seen, in_eval_mode, without_void
from oodles.precision import at_least_float32, in_one_precision
from oodles.scores import HeadScore
from oodles.spelling import shown
from oodles.targets import RowTargets, as_probabilities, as_rows, mean_over_rows

OTHERS = "others"
MOST_GROUPS = 8
"""The paper's number of groups, for a thousand classes."""


def log_probabilities(
    logits: Float[Tensor, "n c"], others: Float[Tensor, "n g"], groups: Integer[Tensor, " c"]
) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n g"]]:
    """Return log p of each class within its group, and of each group's output for others: one softmax a group.

    Args:
        logits: of the classes.
        others: the logits of "none of this group".
        groups: the number of each class's group.
    """
    places = groups.expand(logits.shape)
    most = others.detach().scatter_reduce(1, places, logits.detach(), "amax")
    sums = (others - most).exp().scatter_add(1, places, (logits - most.index_select(1, groups)).exp())
    whole = most + sums.log()
    return logits - whole.index_select(1, groups), others - whole


def group_cross_entropy(
    log_p: Float[Tensor, "n c"], log_others: Float[Tensor, "n g"], targets: RowTargets, groups: Integer[Tensor, " c"]
) -> Float[Tensor, ""]:
    """Return the sum over groups of the mean cross-entropy: to the class in its own group, in all else to others."""
    y = as_probabilities(targets, log_p.shape[1]).to(log_p.dtype)
    inside = torch.zeros_like(log_others).index_add(1, groups, y)
    return -mean_over_rows((y * log_p).sum(1) + ((1 - inside) * log_others).sum(1))


class GroupedHead(nn.Module):
    """Logits log p_c within the group of class c: the likeliest class of all groups has the highest one."""

    groups: Tensor

    def __init__(self, in_features: int, groups: tuple[int, ...]):
        super().__init__()
        self.in_features = in_features
        self.out_features = len(groups)
        self.linear = nn.Linear(in_features, len(groups) + max(groups) + 1)
        self.register_buffer("groups", torch.tensor(groups))

    def log_probabilities(self, features: Float[Tensor, "n f"]) -> tuple[Float[Tensor, "n c"], Float[Tensor, "n g"]]:
        """Return log p of the classes and of the groups' others."""
        h = at_least_float32(features)
        with torch.autocast(h.device.type, enabled=False):
            z = linear(h, self.linear.weight.to(h.dtype), self.linear.bias.to(h.dtype))
            return log_probabilities(z[:, : self.out_features], z[:, self.out_features :], self.groups)

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return self.log_probabilities(features)[0]


class Others(nn.Module):
    """The further head log p_others of each group, from the weights of the last layer."""

    def __init__(self, head: GroupedHead):
        super().__init__()
        self.head = head

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n g"]:
        return self.head.log_probabilities(features)[1]


class MOS(Method):
    """Divides the classes into groups, each with a softmax over its classes and "others": the cross-entropies' sum.

    When to use: many classes that fall into groups of similar ones; no outliers at hand.
    Cost: one output a group; its score none.
    Caveat: results depend on the groups, which need a taxonomy, or a trained network whose features are clustered.

    Args:
        groups: the number of each class's group, from 0 on; empty is one group of all.

    Raises:
        TypeError: for groups that are no list of numbers.
        ValueError: for group numbers that are not whole or leave one out, and another count of them than of classes.

    Source: Huang and Li. Of probabilities as targets it is the expectation. The paper takes eight groups of a taxonomy
    for ImageNet, or clusters the class means of a trained network's features, as ``suggest`` does; it trains the last
    layer alone, from zeros. A row is of the class that is the likeliest within its own group, over all groups.
    """

    name = "mos"
    paper = Paper(
        title="MOS: Towards Scaling Out-of-distribution Detection for Large Semantic Space",
        authors="Huang, Li",
        venue="CVPR",
        year=2021,
        link="https://arxiv.org/abs/2105.01879",
        code="https://github.com/deeplearning-wisc/large_scale_ood",
    )
    score = "mos"
    needs = ("vectors",)
    terms = ("mos",)
    heads = ("others",)
    replaces = ("head", "cross-entropy", "logits")
    suggests = ("groups",)
    measured_on = ("train",)

    def __init__(self, *, groups: tuple[int, ...] = ()):
        super().__init__()
        self.groups = _as_tuple(groups)

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, Any]:
        """Cluster the class means of features by k-means, into eight groups at most and two classes a group on average.

        Args:
            classifier: trained, with plain cross-entropy for instance.
            id_loader: batches of training rows with class ids; a class without rows counts as the mean of the others.
            outlier_loader: not looked at.
            ignore_index: the label of rows that are left out, as of a training step.

        Returns:
            ``groups``.

        Raises:
            ValueError: for rows without class ids.
        """
        from sklearn.cluster import KMeans

        means = class_means(classifier, id_loader, ignore_index=ignore_index).cpu().numpy()
        clusters = KMeans(min(MOST_GROUPS, max(1, len(means) // 2)), n_init=10, random_state=0).fit_predict(means)
        numbers = {cluster: number for number, cluster in enumerate(dict.fromkeys(clusters.tolist()))}
        return {"groups": tuple(numbers[cluster] for cluster in clusters.tolist())}

    def forward(
        self, logits: Float[Tensor, "n c"], others: Float[Tensor, "n g"], targets: RowTargets
    ) -> Float[Tensor, ""]:
        """Loss of the logits of classes and of the groups' others, and class ids or probabilities."""
        numbers = self._of_all(logits.shape[1])
        if others.shape[1] != max(numbers) + 1:
            raise ValueError(f"others must have a logit for each of {max(numbers) + 1} groups, got {others.shape[1]}.")
        groups = torch.tensor(numbers, device=logits.device)
        own, foreign = in_one_precision(logits, others)
        log_p, log_others = log_probabilities(own, foreign, groups)
        return group_cross_entropy(log_p, log_others, targets, groups)

    def _of_all(self, classes: int) -> tuple[int, ...]:
        """Return a group for each class."""
        groups = self.groups or (0,) * classes
        if len(groups) != classes:
            raise ValueError(f"groups must have a number for each of the {classes} classes, got {len(groups)}.")
        return groups

    def change_classifier(self, classifier: Classifier) -> None:
        groups, head = self._of_all(classifier.num_classes), classifier.head
        if not (isinstance(head, GroupedHead) and tuple(head.groups.tolist()) == groups):
            head = classifier.placed(GroupedHead(classifier.num_features, groups))
            classifier.head, classifier.heads[OTHERS] = head, Others(head)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        groups: Tensor = now.classifier.head.groups  # type: ignore[assignment]  # those of change_classifier
        log_p, log_others = outputs.logits["id"], outputs.heads[OTHERS]["id"]
        return {"mos": group_cross_entropy(log_p, log_others, batch["id"].labels, groups)}


def class_means(classifier: Classifier, loader: Any, *, ignore_index: int | None = None) -> Float[Tensor, "c f"]:
    """Return the mean features of each class's rows, in float64; of a class without rows, the mean of the others."""
    sums = counts = torch.zeros(())
    with in_eval_mode(classifier):
        for batch in batches_seen(classifier, loader, "id_loader", labelled=True):
            seen = without_void(batch, ignore_index)
            h = as_rows(seen.features.double())
            y = as_rows(_class_ids(seen.labels, classifier.num_classes)).to(h.device, h.dtype)
            sums = sums + y.T @ h
            counts = counts + y.sum(0).unsqueeze(1)
    there = counts > 0
    means = sums / counts.clamp(min=1)
    return torch.where(there, means, means.sum(0) / there.sum())


def _class_ids(labels: Tensor | None, classes: int) -> Float[Tensor, "n c *space"]:
    if labels is None:
        raise ValueError("mos needs the class ids of training rows to measure groups, got none: give groups.")
    return as_probabilities(labels, classes, "labels")


def _as_tuple(groups: Iterable[int]) -> tuple[int, ...]:
    """Return groups as a tuple, since JSON makes it a list; refuse what numbers no groups."""
    if not isinstance(groups, Iterable) or isinstance(groups, str | Mapping) or getattr(groups, "ndim", 1) != 1:
        raise TypeError(f"groups must be a number for each class, got {shown(groups)}.")
    groups = tuple(groups)
    for index, group in enumerate(groups):
        check_whole(f"groups[{index}]", group, low=0)
    groups = tuple(int(group) for group in groups)
    if left_out := sorted(set(range(max(groups, default=-1))) - set(groups)):
        raise ValueError(f"groups must be numbered from 0 on, got none of number {left_out[0]}: leave no number out.")
    return groups


class OtherGroups(HeadScore):
    """min_g log p_others of group g: how sure all groups are that a row is of another one.

    The paper's score is max_g −p_others negated, which orders rows alike and rounds those of known ones to zero.
    """

    name = "mos"
    needs_heads = (OTHERS,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n g"]) -> Tensor:
        (log_others,) = heads
        if not log_others.shape[1]:
            raise ValueError("The head of the groups must give a number for each of them, got none.")
        return log_others.amin(1)
