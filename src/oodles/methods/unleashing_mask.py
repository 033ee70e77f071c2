"""Unleashing Mask: fine-tune a trained classifier back to the loss of its middle stage, to forget atypical rows."""

from copy import deepcopy
from typing import Any

import torch
from jaxtyping import Float
from torch import Generator, Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.inference import batches_seen, in_eval_mode, see, without_void
from oodles.methods.flooding import flood
from oodles.targets import Targets, cross_entropy

MASKS = 10
"""Masks whose losses are averaged: between masks the loss deviates by nine tenths, between tens of them by a third."""
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


def mask_weights(classifier: Classifier, share: float, generator: Generator | None = None) -> Classifier:
    """Copy a classifier, with a random share of the weights of every linear and convolutional layer set to zero."""
    copy = deepcopy(classifier)
    for layer in copy.modules():
        if isinstance(layer, LAYERS):
            weight = layer.weight.data
            zeros = torch.randperm(weight.numel(), generator=generator)[: int(share * weight.numel())]
            mask = torch.ones(weight.numel(), dtype=weight.dtype, device=weight.device)
            mask[zeros.to(weight.device)] = 0.0
            weight.mul_(mask.reshape(weight.shape))  # whatever its layout in memory
    return copy


class UnleashingMask(Method):
    """Makes the cross-entropy b + abs(CE − b), with b the loss at which the classifier told unknown rows apart best.

    When to use: to fine-tune a classifier that was trained to the end, without or with outliers.
    Cost: none; ``suggest`` runs the training rows once through each of ten copies.
    Caveat: the level belongs to one trained classifier; ``suggest`` measures it, but roughly, through random masks.

    Args:
        level: b; 0 switches off, as it is in the authors' program unless given. 0.1 is a guess: see ``suggest``.

    Raises:
        ValueError: for a level that is negative, NaN or infinite.

    Source: Zhu et al., the objective of Unleashing Mask; the form is Flooding's, on the in-distribution cross-entropy
    instead of the sum. Its pruning variant, UMAP, which learns a mask and keeps the weights, is not here.
    """

    name = "unleashing-mask"
    paper = Paper(
        title="Unleashing Mask: Explore the Intrinsic Out-of-Distribution Detection Capability",
        authors="Zhu, Li, Yao, Liu, Xu, Han",
        venue="ICML",
        year=2023,
        link="https://arxiv.org/abs/2306.03715",
        code="https://github.com/tmlr-group/Unleashing-Mask",
    )
    score = "energy"
    strength = "level"
    needs = ("weights",)
    terms = ("unleashing_mask",)
    suggests = ("level",)
    measured_on = ("train",)
    replaces = ("cross-entropy",)

    def __init__(self, *, level: float = 0.1):
        super().__init__()
        check_number("level", level, low=0)
        self.level = level

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, float]:
        """Measure the level for a trained classifier: its cross-entropy with 3.5 % of the weights masked at random.

        That share is the authors' for CIFAR-10. A mask hurts the rows most that were learned last. The level is the
        mean over ten masks, always the same ones, since it varies much from one to the next.

        Args:
            classifier: trained, with plain cross-entropy for instance.
            id_loader: batches of training rows with labels.
            outlier_loader: not looked at.
            ignore_index: the label of rows or pixels that are left out, as of a training step.

        Returns:
            ``level``.

        Raises:
            ValueError: for rows without labels.
        """
        masked = [mask_weights(classifier, 0.035, Generator().manual_seed(seed)) for seed in range(MASKS)]
        total, rows = 0.0, 0
        with in_eval_mode(masked[0]):
            # in one pass, since not every loader gives rows again
            for batch in batches_seen(masked[0], id_loader, "loader", labelled=True):
                for logits in (batch.logits, *(see(copy, batch.inputs).logits for copy in masked[1:])):
                    seen = without_void(batch._replace(logits=logits), ignore_index)
                    if seen.labels is None:
                        raise ValueError("The level of unleashing-mask is a cross-entropy, and there are no labels.")
                    count = seen.logits.numel() // seen.logits.shape[1]
                    total += count * float(cross_entropy(seen.logits.double(), seen.labels.to(logits.device)))
                    rows += count
        return {"level": total / rows}

    def forward(self, logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
        """Loss |CE − b| + b of logits and class ids or probabilities."""
        loss = cross_entropy(logits, targets)
        return loss + flood(loss, self.level)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"unleashing_mask": self(outputs.logits["id"], batch["id"].labels)}
