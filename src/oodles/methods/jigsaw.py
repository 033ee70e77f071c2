"""Jigsaw: small logits on images whose patches are shuffled."""

from typing import Self

import torch
from jaxtyping import Float, Int64
from torch import Generator, Tensor

from oodles.checks import check_images, check_number, check_whole
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.precision import at_least_float32
from oodles.scores import Score
from oodles.scores.score import check_training_rows
from oodles.targets import mean_over_rows


def positive_norm(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return ‖max(z, 0)‖₂ over the classes."""
    norm: Tensor = torch.linalg.vector_norm(at_least_float32(logits).relu(), dim=1)
    return norm


def draw_orders(rows: int, count: int, *, generator: Generator | None = None) -> Int64[Tensor, "n k"]:
    """Draw an order of ``count`` things for each row, never the one they are in: that one is rolled by one place."""
    orders = torch.rand(rows, count, generator=generator).argsort(stable=True)
    unchanged = torch.arange(count)
    return torch.where((orders == unchanged).all(1, keepdim=True), unchanged.roll(1), orders)


def with_patches(x: Float[Tensor, "n c h w"], orders: Int64[Tensor, "n k"]) -> Float[Tensor, "n c h w"]:
    """Put the ``orders[i]``-th of each image's k patches in the place of the i-th, counted row by row.

    Patches are of ⌊H / √k⌋ × ⌊W / √k⌋ pixels; pixels that are left over at the bottom and right stay.
    """
    (rows, channels, height, width), side = x.shape, round(orders.shape[1] ** 0.5)
    tall, wide = height // side, width // side
    inside = x[:, :, : side * tall, : side * wide].reshape(rows, channels, side, tall, side, wide)
    patches = inside.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)
    index = orders.to(x.device, non_blocking=True)[:, :, None, None, None].expand_as(patches)
    placed = patches.gather(1, index).reshape(rows, side, side, channels, tall, wide).permute(0, 3, 1, 4, 2, 5)
    shuffled = x.clone(memory_format=torch.contiguous_format)
    shuffled[:, :, : side * tall, : side * wide] = placed.reshape(rows, channels, side * tall, side * wide)
    return shuffled


def jigsaw_puzzles(
    x: Float[Tensor, "n c h w"], patches: int = 3, *, generator: Generator | None = None
) -> Float[Tensor, "n c h w"]:
    """Cut images into ``patches`` × ``patches`` pieces and put them in a wrong order, each image in one of its own.

    Args:
        x: images; not changed.
        patches: pieces along each side, at least 2.
        generator: a CPU generator; by default torch's own.

    Raises:
        ValueError: for images with fewer pixels along a side than patches.
    """
    check_images("jigsaw", x)
    if min(x.shape[2:]) < patches:
        height, width = x.shape[2:]
        raise ValueError(
            f"patches must be at most {min(height, width)} for images of {height} × {width} pixels, got {patches}."
        )
    return with_patches(x, draw_orders(len(x), patches**2, generator=generator))


class Jigsaw(Method):
    """Adds w × the mean ‖max(z, 0)‖₂ of jigsaw puzzles: images whose patches are shuffled, so that nothing is whole.

    When to use: images of objects, no outliers at hand, and what is unknown has the known ones' colours and textures.
    Cost: twice the rows in the forward pass.
    Caveat: textures, and images that are mostly empty, look much the same when shuffled. Cross-entropy does not feel a
    shift of all logits, so that known rows can lose their positive logits too, and then the term has nothing to press.

    Args:
        weight: w; 0 switches off.
        patches: along each side of an image. Sides that they do not divide leave up to ``patches`` − 1 pixels at the
            bottom and right as they are, which is much of an 8 × 8 image: take 2 or 4 there.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, or fewer patches than 2.

    Source: Yu et al.; the norm, in training as in the score, is that of the logits, and as in the authors' program the
    score subtracts a threshold of the training rows first. The authors fine-tune for 15 epochs
    at a learning rate of 0.003; their code shuffles images augmented anew and more strongly, fills what 3 × 3 patches
    leave over of 224 × 224 pixels with zeros, and does not exclude the order in which nothing has moved.
    """

    name = "jigsaw"
    paper = Paper(
        title="Exploring Using Jigsaw Puzzles for Out-of-Distribution Detection",
        authors="Yu, Shin, Ko, Lee",
        venue="CVIU",
        year=2024,
        link="https://doi.org/10.1016/j.cviu.2024.103968",
        code="https://github.com/gist-ailab/jigsaw-training-OOD",
    )
    score = "positive-logit-norm"
    strength = "weight"
    needs = ("images",)
    adds = ("jigsaw",)
    terms = ("jigsaw",)

    def __init__(self, *, weight: float = 1.0, patches: int = 3):
        super().__init__()
        check_number("weight", weight, low=0)
        check_whole("patches", patches, low=2)
        self.weight = weight
        self.patches = patches

    def forward(self, logits_jigsaw: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits of :func:`jigsaw_puzzles`."""
        return self.weight * mean_over_rows(positive_norm(logits_jigsaw))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("jigsaw", Part(jigsaw_puzzles(batch["id"].rows, self.patches, generator=now.generator)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"jigsaw": self(outputs.logits["jigsaw"])}


class PositiveLogitNorm(Score):
    """−‖max(z − t, 0)‖₂, with t the mean over the training rows of the second largest logit.

    The paper has no t. The authors' final evaluation subtracts it: without, the logits of most known rows are too large
    to differ.
    """

    name = "positive-logit-norm"
    needs_fit = True
    learns = ("threshold",)

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_training_rows(logits=logits)
        second = logits.double().topk(min(2, logits.shape[1]), dim=1).values[:, -1]
        self.threshold = float(second.mean())
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        return -positive_norm(at_least_float32(logits) - self.threshold)
