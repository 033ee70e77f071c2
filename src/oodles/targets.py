"""Targets are distributions over classes, class ids the one-hot case; one cross-entropy serves every method."""

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Integer, Shaped
from torch import Tensor

from oodles.checks import check_mixing, check_no_one_hot, check_targets, check_whole, shapes_checked
from oodles.precision import at_least_float32
from oodles.processes import process_count, sum_over_processes
from oodles.spelling import shown

Targets = Integer[Tensor, " n *space"] | Float[Tensor, "n c *space"]
"""Class ids or probabilities, of rows or of pixels."""
MOST_CLASSES = 2**31
"""Of more classes no row of probabilities fits into memory."""
RowTargets = Integer[Tensor, " n"] | Float[Tensor, "n c"]
"""Class ids or probabilities of rows."""


def as_probabilities(
    targets: Shaped[Tensor, " n *rest"], num_classes: int, name: str = "targets"
) -> Float[Tensor, "n c *space"]:
    """Return targets as probabilities (N, C, …): class ids become one-hot rows, probabilities stay as they are."""
    check_targets(name, targets, num_classes)
    if targets.is_floating_point():
        return targets
    if num_classes > MOST_CLASSES:
        raise ValueError(f"num_classes must be at most {MOST_CLASSES}, got {shown(num_classes)}.")
    return _one_hot(targets, num_classes)


def _one_hot(
    ids: Shaped[Tensor, " n *space"], num_classes: int, share: float | Tensor = 1.0
) -> Float[Tensor, "n c *space"]:
    """Return rows with ``share``, one number or one per row, in the place of their class, and 0 elsewhere."""
    places, shape = ids.long().unsqueeze(1), (len(ids), num_classes, *ids.shape[1:])
    if not isinstance(share, Tensor):
        return torch.zeros(shape, device=ids.device).scatter_(1, places, share)
    share = at_least_float32(share)
    return torch.zeros(shape, dtype=share.dtype, device=ids.device).scatter_(1, places, share.expand_as(places))


def _share_of(targets: Tensor, share: float | Tensor, num_classes: int) -> Tensor:
    """Return share × the distribution of targets; for class ids, without multiplying zeros."""
    return share * targets if targets.is_floating_point() else _one_hot(targets, num_classes, share)


def indexable(targets: Shaped[Tensor, " n *rest"]) -> Shaped[Tensor, " n *rest"]:
    """Return class ids of types of which torch takes no rows, such as uint16, as int64; others as they are."""
    return targets.long() if targets.dtype in (torch.uint16, torch.uint32, torch.uint64) else targets


@shapes_checked
def soft_targets(
    y_a: Targets,
    y_b: Targets,
    lam: float | Float[Tensor, " n"],
    num_classes: int,
) -> Float[Tensor, "n c *space"]:
    """Return the distribution λ·y_a + (1 − λ)·y_b of mixed rows, float32 unless the targets are wider.

    Args:
        y_a: class ids (N,) or (N, H, W), or probabilities (N, C).
        y_b: the same for the rows mixed in.
        lam: the share λ of ``y_a``, one number or one per row (N,).
        num_classes: C.

    Raises:
        TypeError: for what is no tensor of whole or floating-point numbers.
        ValueError: for ids outside [0, C), probabilities that do not sum to one, one-hot rows of whole numbers,
            different lengths, or a λ outside [0, 1].
    """
    check_whole("num_classes", num_classes, low=1)
    check_mixing("lam", lam)
    for name, given in (("y_a", y_a), ("y_b", y_b)):
        check_targets(name, given, num_classes)
        check_no_one_hot(name, given, num_classes)
    return mixed_targets(y_a, y_b, lam, num_classes)


def mixed_targets(y_a: Tensor, y_b: Tensor, lam: float | Tensor, num_classes: int) -> Float[Tensor, "n c *space"]:
    """Return the same for targets that have been checked, as those of a step have."""
    if isinstance(lam, Tensor):
        dtype, axes = (y_a.dtype, y_a.ndim) if y_a.is_floating_point() else (torch.float32, y_a.ndim + 1)
        lam = lam.to(y_a.device, dtype, non_blocking=True).reshape(-1, *[1] * (axes - 1))
    return _share_of(y_a, lam, num_classes) + _share_of(y_b, 1 - lam, num_classes)


def as_rows(values: Shaped[Tensor, "n c *space"]) -> Shaped[Tensor, "rows c"]:
    """Return a row for each pixel."""
    return values.movedim(1, -1).flatten(0, -2)


def smoothed(targets: Shaped[Tensor, " n *rest"], amount: float, num_classes: int) -> Float[Tensor, "n c *space"]:
    """Return smoothed labels, (1 − ε)·targets + ε / C (Szegedy et al., CVPR 2016, section 7)."""
    return (1 - amount) * as_probabilities(targets, num_classes) + amount / num_classes


def mean_over_rows(values: Float[Tensor, " n *rest"]) -> Float[Tensor, ""]:
    """Return the mean, or for no rows an exact zero that still has a graph."""
    return values.mean() if values.numel() else values.sum()


def mean_per_row(
    values: Float[Tensor, " n *space"], valid: Bool[Tensor, " n *counted"] | None = None
) -> Float[Tensor, " n"]:
    """Return each row's mean over its pixels, or over those that count; a row without pixels is its own mean.

    Where nothing of a row counts, it is zero.
    """
    pixels = values.unsqueeze(-1).flatten(1)
    if valid is None or valid.shape != values.shape:  # whole rows that do not count are left out later
        return pixels.mean(1)
    counts = valid.unsqueeze(-1).flatten(1)
    return torch.where(counts, pixels, 0.0).sum(1) / counts.sum(1).clamp(min=1)


@shapes_checked
def cross_entropy(logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of logits to targets, which are class ids or probabilities.

    Computed in float32 at least; zero with a graph where there are no rows.

    Args:
        logits: (N, C) or (N, C, H, W).
        targets: class ids (N,) or (N, H, W), or probabilities of the logits' shape.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for different lengths, ids outside [0, C), or probabilities that do not sum to one.
    """
    check_targets("targets", targets, logits.shape[1])
    return cross_entropy_of_checked(logits, targets)


def cross_entropy_of_checked(
    logits: Tensor, targets: Tensor, weights: Tensor | None = None, *, by_row: bool = False
) -> Float[Tensor, "..."]:
    """Return the same for targets that have been checked, as those of a step have; ``by_row`` without the mean.

    With ``weights`` w (C,) it is Σ Σ_c w_c·t_c·(−log p_c) / Σ Σ_c w_c·t_c, the denominator over all processes, so that
    several give the gradients of one.
    """
    logits = at_least_float32(logits)
    wanted = logits.shape if targets.is_floating_point() else (len(logits), *logits.shape[2:])
    if targets.shape != wanted:
        raise ValueError(
            f"targets must have shape {tuple(wanted)} for logits of shape {tuple(logits.shape)}, "
            f"got {tuple(targets.shape)}."
        )
    if not logits.numel() and weights is None and not by_row:
        return logits.sum()
    targets = targets.to(logits.dtype) if targets.is_floating_point() else targets.long()
    if weights is None:
        return F.cross_entropy(logits, targets, reduction="none" if by_row else "mean")
    weights = weights.to(logits.dtype)
    total = F.cross_entropy(logits, targets, weights, reduction="sum")
    mass = as_rows(targets) @ weights if targets.is_floating_point() else weights[targets.flatten()]
    share = sum_over_processes(mass.sum()) / process_count()
    return total / share if logits.numel() else logits.sum()
