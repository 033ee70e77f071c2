"""Targets are distributions over classes, class ids the one-hot case; one cross-entropy serves every method."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Shaped
from torch import Tensor

from oodles.checks import check_logits, check_same_length, check_targets
from oodles.precision import at_least_float32


def as_probabilities(
    targets: Shaped[Tensor, " n *rest"], num_classes: int, name: str = "targets"
) -> Float[Tensor, "n c *space"]:
    """Return targets as probabilities (N, C, …): class ids become one-hot rows, probabilities stay as they are."""
    check_targets(name, targets, num_classes)
    if targets.is_floating_point():
        return targets
    return _one_hot(targets, num_classes)


def _one_hot(ids: Shaped[Tensor, " n *space"], num_classes: int) -> Float[Tensor, "n c *space"]:
    shape = (len(ids), num_classes, *ids.shape[1:])
    return torch.zeros(shape, device=ids.device).scatter_(1, ids.long().unsqueeze(1), 1.0)


def soft_targets(
    y_a: Shaped[Tensor, " n *rest"],
    y_b: Shaped[Tensor, " n *rest"],
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
        ValueError: for ids outside [0, C), probabilities that do not sum to one, or different lengths.
    """
    check_same_length(y_a=y_a, y_b=y_b)
    a, b = as_probabilities(y_a, num_classes, "y_a"), as_probabilities(y_b, num_classes, "y_b")
    if isinstance(lam, Tensor):
        if lam.ndim:
            check_same_length(y_a=y_a, lam=lam)
        lam = lam.to(a.device, a.dtype, non_blocking=True).reshape(-1, *[1] * (a.ndim - 1))
    return lam * a + (1 - lam) * b


def smoothed(targets: Shaped[Tensor, " n *rest"], amount: float, num_classes: int) -> Float[Tensor, "n c *space"]:
    """Return smoothed labels, (1 − ε)·targets + ε / C (Szegedy et al., CVPR 2016, section 7)."""
    return (1 - amount) * as_probabilities(targets, num_classes) + amount / num_classes


def mean_over_rows(values: Float[Tensor, " n *rest"]) -> Float[Tensor, ""]:
    """Return the mean, or for no rows an exact zero that still has a graph."""
    return values.mean() if values.numel() else values.sum()


def cross_entropy(logits: Float[Tensor, "n c *space"], targets: Shaped[Tensor, " n *rest"]) -> Float[Tensor, ""]:
    """Return the mean cross-entropy of logits to targets, which are class ids or probabilities.

    Computed in float32 at least; zero with a graph where there are no rows.

    Args:
        logits: (N, C) or (N, C, H, W).
        targets: class ids (N,) or (N, H, W), or probabilities of the logits' shape.

    Raises:
        TypeError: for logits that are not floating point.
        ValueError: for different lengths, ids outside [0, C), or probabilities that do not sum to one.
    """
    check_logits("logits", logits)
    check_same_length(logits=logits, targets=targets)
    check_targets("targets", targets, logits.shape[1])
    shape = logits.shape if targets.is_floating_point() else (logits.shape[0], *logits.shape[2:])
    if targets.shape != shape:
        raise ValueError(
            f"targets must have shape {tuple(shape)} for logits of shape {tuple(logits.shape)}, "
            f"got {tuple(targets.shape)}."
        )
    logits = at_least_float32(logits)
    if not logits.numel():
        return logits.sum()
    targets = targets.to(logits.dtype) if targets.is_floating_point() else targets.long()
    return F.cross_entropy(logits, targets)
