"""AugMix: mix chains of augmentations, and predict the same for an image and two of its mixtures."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.augmentations import augment_, check_severity, draw_operations
from oodles.checks import check_flag, check_images, check_number, check_one_label, check_unit_range, check_whole
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.precision import at_least_float32
from oodles.targets import mean_over_rows

VIEWS = ("view1", "view2")
DEEPEST = 3
"""Operations in a chain of random depth, at most."""
SMALLEST = 1e-7
"""Bound below the mean of the three distributions, so that its logarithm stays finite."""


def jensen_shannon(*logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
    """Return the Jensen–Shannon divergence of several predictions for the same rows, averaged over rows.

    It is the mean of KL(p_i ‖ m), where m is the mean of the distributions p_i.
    """
    logs = torch.stack([at_least_float32(view).log_softmax(1) for view in logits])
    mean = logs.exp().mean(0).clamp(min=SMALLEST).log()
    return mean_over_rows((logs.exp() * (logs - mean)).sum(2).mean(0))


class AugMix(Method):
    """Adds λ × the Jensen–Shannon divergence of the predictions for an image and for two augmented mixtures of it.

    When to use: images, no outliers at hand; robustness and calibration matter as well.
    Cost: three times the rows in the forward pass, and some milliseconds per batch.
    Caveat: views are made of the rows that are trained on, so that manifold mixup, which mixes them later, is refused.

    Args:
        weight: λ; 0 switches off.
        severity: of the augmentations, from 0.1 to 10.
        width: chains of augmentations that are mixed.
        depth: operations in each chain; below 1, each chain draws 1, 2 or 3.
        all_operations: with the four augmentations that overlap with a benchmark's corruptions: colour, contrast,
            brightness and sharpness.

    Raises:
        ValueError: for a negative weight, another severity, or a width below 1.

    Source: Hendrycks et al., section 3: chains are mixed with shares ~ Dirichlet(1, …, 1), and the result with
    the image by a share ~ Beta(1, 1). Cross-entropy is that of the clean images alone.
    """

    name = "augmix"
    paper = Paper(
        title="AugMix: A Simple Data Processing Method to Improve Robustness and Uncertainty",
        authors="Hendrycks, Mu, Cubuk, Zoph, Gilmer, Lakshminarayanan",
        venue="ICLR",
        year=2020,
        link="https://arxiv.org/abs/1912.02781",
        code="https://github.com/google-research/augmix",
    )
    strength = "weight"
    needs = ("images",)
    adds = ("view1", "view2")
    views = ("view1", "view2")
    terms = ("augmix",)

    def __init__(
        self,
        *,
        weight: float = 12.0,
        severity: float = 3.0,
        width: int = 3,
        depth: int = -1,
        all_operations: bool = False,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_severity(severity)
        check_flag("all_operations", all_operations)
        check_whole("width", width, low=1)
        check_whole("depth", depth, low=-1)
        self.weight = weight
        self.severity = severity
        self.width = width
        self.depth = depth
        self.all_operations = all_operations

    def forward(self, *logits: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
        """Term for the logits of images and of their views."""
        if not logits:
            raise ValueError("augmix needs the logits of images and of their views, got none.")
        return self.weight * jensen_shannon(*logits)

    def view(self, x: Float[Tensor, "n c h w"], *, generator: Generator | None = None) -> Float[Tensor, "n c h w"]:
        """Return augmented mixtures of images in [0, 1]."""
        images, rows, width = at_least_float32(check_images(self.name, x)), len(x), self.width
        deepest = self.depth if self.depth > 0 else DEEPEST
        depth = torch.randint(1, DEEPEST + 1, (width * rows,), generator=generator).numpy()
        if self.depth > 0:
            depth = np.full_like(depth, self.depth)
        # shares of a Dirichlet distribution with ones: exponential numbers divided by their sum
        share = -torch.log1p(-torch.rand(width, rows, dtype=torch.float64, generator=generator)) + 1e-300
        share /= share.sum(0)
        share *= torch.rand(rows, dtype=torch.float64, generator=generator)  # of the chains together, Beta(1, 1)
        chains = images.repeat(width, 1, 1, 1)
        for step in range(deepest):
            operations = draw_operations(width * rows, self.severity, generator, all_operations=self.all_operations)
            augment_(chains, operations.only(step < depth))
        weights = torch.cat([share, 1 - share.sum(0, keepdim=True)])[:, :, None, None, None]
        weights = weights.to(images.device, images.dtype, non_blocking=True)
        mixed = images * weights[-1]
        for chain, weight in zip(chains.chunk(width), weights, strict=False):
            mixed.addcmul_(chain, weight)
        return mixed.clamp_(0, 1).to(x.dtype)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part = batch["id"]
        images = part.rows
        check_one_label(self.name, part.targets)
        check_unit_range(self.name, images, read_gpu=now.step == 0)
        for role in VIEWS:
            batch = batch.with_part(role, Part(self.view(images, generator=now.generator)))
        return batch

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"augmix": self(outputs.logits["id"], *(outputs.logits[role] for role in VIEWS))}
