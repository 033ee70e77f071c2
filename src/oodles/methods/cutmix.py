"""CutMix: paste a box of another image, and mix the labels by area."""

import math

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Generator, Tensor

from oodles.checks import check_flag, check_number, shapes_checked
from oodles.contract import Batch, Method, Now, Paper
from oodles.methods.mixup import Mixed, MixingCollate, mix_part
from oodles.randomness import draw_beta, draw_permutation
from oodles.targets import indexable

_SIDES = np.array([[-1], [1]])
"""From a box's centre to its edges."""


def cutmix_box(
    lam: Float64[Tensor, " n"], centre: Float64[Tensor, "2 n"], height: int, width: int
) -> Int64[Tensor, "4 n"]:
    """Return the box of relative side √(1 − λ) around ``centre``, clipped to the image, its edges rounded to pixels.

    Args:
        lam: λ before clipping.
        centre: vertical and horizontal position in [0, 1].
        height: of the image, in pixels.
        width: likewise.

    Returns:
        top, bottom, left, right; bottom and right are exclusive.

    Source: Yun et al., ICCV 2019, equation 2. The authors' code floors the box's side and half-side instead, which
    makes boxes on small images too small.
    """
    half = np.sqrt(np.maximum(1 - lam.numpy(), 0)) / 2  # NumPy: a handful of numbers
    edges = np.minimum(np.maximum(centre.numpy()[:, None] + half * _SIDES, 0), 1)
    size = np.array([[[height]], [[width]]])
    return torch.from_numpy(np.rint(edges * size).astype(np.int64).reshape(4, -1))


@shapes_checked
def cutmix_data(
    x: Float[Tensor, "n channels *depth h w"],
    y: Shaped[Tensor, " n *labels"],
    alpha: float = 1.0,
    *,
    per_sample: bool = False,
    generator: Generator | None = None,
) -> Mixed:
    """Paste a box of ``x[permutation]`` into ``x``; λ is then exactly 1 − box area / image area.

    Arguments, result and errors are those of :func:`mixup_data`, but ``x`` must be images (N, C, H, W).
    """
    check_number("alpha", alpha, low=0)
    if y.ndim > 1 + y.is_floating_point():
        raise ValueError(f"CutMix needs one label per image, got targets of shape {tuple(y.shape)}.")
    if alpha == 0 or len(x) == 0:
        return x, y, y, torch.ones(len(x)) if per_sample else 1.0
    height, width = x.shape[-2:]
    permutation = draw_permutation(len(x), x.device, generator)
    count = len(x) if per_sample else 1
    lam = draw_beta(alpha, count, generator)
    centre = torch.rand(2, count, dtype=torch.float64, generator=generator)
    share: Tensor | float
    if per_sample:
        box = cutmix_box(lam, centre, height, width)
        area = (box[1] - box[0]) * (box[3] - box[2])
        share = (1 - area.double() / (height * width)).float().to(x.device, non_blocking=True)
        outside = _outside(box.to(x.device, non_blocking=True), x)
    else:
        outside, share = outside_of_box(lam.item(), centre, x)
    mixed = x.index_select(0, permutation).lerp_(x, outside)  # a weight of 0 or 1 copies exactly
    return mixed, y, indexable(y).index_select(0, permutation), share


def outside_of_box(
    lam: float, centre: Float64[Tensor, "2 1"], x: Float[Tensor, "n channels *rest"]
) -> tuple[Float[Tensor, "height width"], float]:
    """Return 0 for the pixels in the box of :func:`cutmix_box` and 1 for the others, and the share of the latter."""
    height, width = x.shape[-2:]
    half = math.sqrt(max(1 - lam, 0)) / 2  # one box is cheapest in Python's own numbers
    edges = [
        round(min(max(position + side, 0), 1) * size)
        for position, size in zip(centre.flatten().tolist(), (height, width), strict=True)
        for side in (-half, half)
    ]
    top, bottom, left, right = edges
    outside = x.new_ones(height, width)
    outside[top:bottom, left:right].zero_()
    return outside, 1 - (bottom - top) * (right - left) / (height * width)


def _outside(box: Int64[Tensor, "4 n"], x: Tensor) -> Tensor:
    """Return 0 for the pixels in each row's box and 1 for the others, in a shape that broadcasts over channels."""
    rows, columns = (torch.arange(size, device=x.device) for size in x.shape[-2:])
    top, bottom, left, right = (edge[:, None] for edge in box)
    across = ((rows >= top) & (rows < bottom)).to(x.dtype)
    along = ((columns >= left) & (columns < right)).to(x.dtype)
    outside: Tensor = 1 - across[:, :, None] * along[:, None, :]
    shape = (box.shape[1], *[1] * (x.ndim - 3), *x.shape[-2:])
    return outside.reshape(shape)


class CutMix(Method):
    """Trains on images into which a box of another image is pasted, with the labels mixed by area.

    When to use: images in which objects fill the frame, no outliers at hand.
    Cost: one copy of the inputs.
    Caveat: on very small images a box can hide the object altogether.

    Args:
        alpha: α of λ ~ Beta(α, α); 0 switches off. The paper uses 1.
        per_sample: one box per image; by default one per batch, as in the authors' code.

    Raises:
        ValueError: for an α that is negative, NaN or infinite.

    Example:
        >>> import torch
        >>> mixed_x, y_a, y_b, lam = CutMix(alpha=1.0)(torch.rand(8, 3, 32, 32), torch.arange(8))
        >>> 0 <= lam <= 1
        True

    Source: Yun et al., equations 1 and 2.
    """

    name = "cutmix"
    paper = Paper(
        title="CutMix: Regularization Strategy to Train Strong Classifiers with Localizable Features",
        authors="Yun, Han, Oh, Chun, Choe, Yoo",
        venue="ICCV",
        year=2019,
        link="https://arxiv.org/abs/1905.04899",
        code="https://github.com/clovaai/CutMix-PyTorch",
    )
    strength = "alpha"
    needs = ("images",)
    replaces = ("in-distribution inputs",)

    def __init__(self, alpha: float = 1.0, *, per_sample: bool = False):
        super().__init__()
        check_number("alpha", alpha, low=0)
        check_flag("per_sample", per_sample)
        self.alpha = alpha
        self.per_sample = per_sample

    def forward(
        self, x: Float[Tensor, " n *rest"], y: Shaped[Tensor, " n *labels"], *, generator: Generator | None = None
    ) -> Mixed:
        """Rows with a box of another row pasted in, see :func:`cutmix_data`."""
        return cutmix_data(x, y, self.alpha, per_sample=self.per_sample, generator=generator)

    def collate(self, num_classes: int) -> MixingCollate:
        """Make a ``collate_fn`` that gives ``(mixed_x, soft targets)``."""
        return MixingCollate(self, num_classes)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("id", mix_part(self, batch["id"], now))
