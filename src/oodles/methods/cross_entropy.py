"""Plain cross-entropy training, the empty difference, with label smoothing where it is asked for."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_share
from oodles.contract import Batch, Method, Now, Paper
from oodles.targets import Targets, cross_entropy, smoothed


class CrossEntropy(Method):
    """Cross-entropy to the labels, or to smoothed labels (1 − ε)·y + ε / C.

    When to use: as the baseline of every comparison.
    Cost: none.
    Caveat: smoothed labels also smooth the scores; compare under several.

    Args:
        label_smoothing: ε, the share of a uniform distribution in every target, in [0, 1); 0 is plain training.

    Raises:
        ValueError: for an ε outside [0, 1).

    Source: label smoothing is Szegedy et al., CVPR 2016, section 7. It applies to every part that has targets.
    """

    name = "cross-entropy"
    paper = Paper(
        title="Rethinking the Inception Architecture for Computer Vision",
        authors="Szegedy, Vanhoucke, Ioffe, Shlens, Wojna",
        venue="CVPR",
        year=2016,
        link="https://arxiv.org/abs/1512.00567",
    )
    strength = "label_smoothing"

    def __init__(self, *, label_smoothing: float = 0.0):
        super().__init__()
        check_share("label_smoothing", label_smoothing)
        self.label_smoothing = label_smoothing

    def forward(self, logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
        """Loss of (N, C, …) logits and class ids or probabilities."""
        if self.active:
            targets = smoothed(targets, self.label_smoothing, logits.shape[1])
        return cross_entropy(logits, targets)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        for role, part in batch.parts.items():
            if part.targets is not None:
                targets = smoothed(part.targets, self.label_smoothing, now.classifier.num_classes)
                batch = batch.with_part(role, replace(part, targets=targets))
        return batch
