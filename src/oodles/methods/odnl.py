"""Open-set label noise: outliers with labels drawn anew in every step, so that no class can fit them."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float, Int64, Integer
from torch import Generator, Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.targets import cross_entropy


def random_labels(
    shape: Sequence[int], num_classes: int, *, generator: Generator | None = None
) -> Int64[Tensor, "..."]:
    """Draw class ids on the CPU, all equally likely."""
    return torch.randint(num_classes, tuple(shape), generator=generator)


class ODNL(Method):
    """Adds λ × CE(z(o), ỹ) on outliers whose labels ỹ are drawn uniformly from the classes, anew in every step.

    When to use: the labels of the training rows are noisy; outliers use up the capacity to memorise them.
    Cost: the outliers' rows in the forward pass.
    Caveat: in expectation it is Outlier Exposure with weight λ; what the labels add is noise in the gradient, which at
    the default costs accuracy where the training labels are right.

    Args:
        weight: λ, the paper's η; 0 switches off. The authors' example uses 3.0, their table from 1 to 3.5.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Wei et al. They train from scratch on rows with noisy labels, with as many outliers as rows.
    """

    name = "odnl"
    paper = Paper(
        title="Open-set Label Noise Can Improve Robustness Against Inherent Label Noise",
        authors="Wei, Tao, Xie, An",
        venue="NeurIPS",
        year=2021,
        link="https://arxiv.org/abs/2106.10891",
        code="https://github.com/hongxin001/ODNL",
    )
    strength = "weight"
    needs = ("outliers",)
    terms = ("odnl",)
    replaces = ("labels of outliers",)

    def __init__(self, *, weight: float = 3.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(
        self, logits_out: Float[Tensor, "m c *space"], labels: Integer[Tensor, "m *space"] | Float[Tensor, "m c *space"]
    ) -> Float[Tensor, ""]:
        """Term for the outliers' logits and their labels, see :func:`random_labels`."""
        return self.weight * cross_entropy(logits_out, labels)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        outliers, known = batch["outliers"], batch["id"].labels
        space = known.shape[2:] if known.is_floating_point() else known.shape[1:]
        labels = random_labels((len(outliers), *space), now.classifier.num_classes, generator=now.generator)
        return batch.with_part("outliers", replace(outliers, targets=labels.to(known.device, non_blocking=True)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"odnl": self(outputs.logits["outliers"], batch["outliers"].labels)}
