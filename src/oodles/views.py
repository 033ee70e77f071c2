"""A second view of a batch: the same rows, augmented."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.augmentations import brightness, color, contrast, warp
from oodles.checks import check_unit_range
from oodles.classifier import Inputs
from oodles.contract import Batch, Now, Outputs
from oodles.precision import at_least_float32, unit_length
from oodles.processes import rows_of_all_processes
from oodles.targets import as_probabilities

PROJECTION = "projection"
"""The further head in whose outputs methods compare rows; they share it."""
SMALLEST = 0.2
"""The smallest share of an image that a crop shows."""
WIDEST = 4 / 3
"""The largest ratio of the two sides of a crop, whichever is longer."""
JITTER = 0.4
"""Factors of brightness, contrast and saturation differ from 1 by at most this."""
JITTERED, GREY = 0.8, 0.2
"""The shares of images whose colours change, and that become grey."""


def with_view(batch: Batch, now: Now) -> Batch:
    """Return a batch that has a part ``view``: a second view of the rows of ``id``, one by one, with their targets.

    A view that is already there stays, be it the loader's or another method's, so that methods share one. A new one is
    a :func:`random_view` of images in [0, 1], drawn from (seed, step, rank); of other inputs it is the same rows again,
    which differ after dropout alone. For large images let the loader make views, in its workers, and hand over
    ``Batch({"id": …, "view": …})``.
    """
    if "view" in batch:
        return batch
    part = batch["id"]
    match part.inputs:
        case Tensor(ndim=4) as images if images.is_floating_point():
            check_unit_range("A second view", images, read_gpu=now.step == 0)
            view: Inputs = random_view(images, generator=now.generator_of("view"))
        case Tensor() as rows:
            view = rows.view_as(rows)  # another object, since one and the same would be forwarded once for both
        case names:
            view = dict(names or {})
    return batch.with_part("view", replace(part, inputs=view))


def projected_views(
    outputs: Outputs, batch: Batch, num_classes: int
) -> tuple[Float[Tensor, "m d"], Float[Tensor, "m c"], slice]:
    """Return projections of both views of all processes' rows at unit length, their targets as probabilities, and which
    rows are this process's.

    The views of a process come one after the other, and targets have the projections' precision.
    """
    own, y = own_projected_views(outputs, batch, num_classes)
    rows, begin = rows_of_all_processes(own)
    targets, _ = rows_of_all_processes(y)
    return rows, targets, slice(begin, begin + len(own))


def own_projected_views(
    outputs: Outputs, batch: Batch, num_classes: int
) -> tuple[Float[Tensor, "n d"], Float[Tensor, "n c"]]:
    """Return the same of this process's rows alone."""
    rows = unit_length(torch.cat([outputs.heads[PROJECTION][role] for role in ("id", "view")]))
    y = as_probabilities(batch["id"].labels, num_classes).to(rows.dtype)
    return rows, torch.cat([y, y])


def random_view(x: Float[Tensor, "n c h w"], *, generator: Generator | None = None) -> Float[Tensor, "n c h w"]:
    """Crop, mirror, recolour and grey images at random, each in a way of its own; all draws are on the CPU.

    A crop shows a share of 0.2 to 1 of the image, 3/4 to 4/3 as wide as high, enlarged to all of it. Half of the views
    are mirrored; brightness, contrast and saturation of 80 % are multiplied by 0.6 to 1.4; 20 % are grey.

    Args:
        x: images in [0, 1]; not changed.
        generator: a CPU generator; by default torch's own.

    Source: the augmentations of contrastive learning (Chen et al., ICML 2020, appendix A), without changes of hue.
    """
    images = at_least_float32(x)
    u = torch.rand(10, len(x), dtype=torch.float64, generator=generator)
    area, ratio = SMALLEST + (1 - SMALLEST) * u[0], ((2 * u[1] - 1) * math.log(WIDEST)).exp()
    wide, high = (area * ratio).sqrt().clamp(max=1), (area / ratio).sqrt().clamp(max=1)
    matrix = torch.zeros(len(x), 2, 3, dtype=torch.float64)
    matrix[:, 0, 0] = torch.where(u[2] < 0.5, -wide, wide)
    matrix[:, 1, 1] = high
    matrix[:, 0, 2], matrix[:, 1, 2] = (1 - wide) * (2 * u[3] - 1), (1 - high) * (2 * u[4] - 1)
    factors = torch.where(u[5] < JITTERED, 1 + JITTER * (2 * u[6:9] - 1), 1.0)
    factors[2] = torch.where(u[9] < GREY, 0.0, factors[2])
    light, depth, colour = factors.to(images.device, images.dtype, non_blocking=True)
    view = warp(images, matrix.to(images.device, images.dtype, non_blocking=True))
    view = contrast(brightness(view, light), depth)
    return (color(view, colour) if x.shape[1] == 3 else view).to(x.dtype)
