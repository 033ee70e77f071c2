"""Climb a function of rows by steps along the sign of its gradient, near where they are."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.precision import at_least_float32


def climb(
    height: Callable[[Tensor], Tensor],
    x: Float[Tensor, " n *shape"],
    start: Float[Tensor, " n *shape"],
    *,
    epsilon: float,
    step: float,
    steps: int,
    best: bool = False,
) -> Float[Tensor, " n *shape"]:
    """Climb a height of each row by projected gradient ascent in the ℓ∞ ball of radius ε around it, within [0, 1].

    Each of the ``steps`` adds ``step`` times the sign of the gradient, and moves back what has left the ball or the
    range.

    Args:
        height: gives a number for each row (N,), which depends on that row alone: a classifier should be in eval mode.
        x: the middle of each ball, in [0, 1]; not changed.
        start: where the ascent begins; what lies outside is moved to the nearest point inside.
        epsilon: ε.
        step: the length of a step.
        steps: how many there are.
        best: return of each row the highest point on the way, x included; otherwise the last one.

    Source: Madry et al., ICLR 2018, section 2.1; one step of length ε from x is that of Goodfellow et al., ICLR 2015.
    """
    if not len(x):
        return x
    middle = at_least_float32(x.detach())
    low, high = (middle - epsilon).clamp(min=0), (middle + epsilon).clamp(max=1)
    u = torch.clamp(start.to(middle.dtype), low, high)
    top, highest = (middle, height(x).detach()) if best else (u, None)
    for _ in range(steps):
        with torch.enable_grad():
            u = u.detach().requires_grad_()
            reached = height(u.to(x.dtype))
            (gradient,) = torch.autograd.grad(reached.sum(), u)
        if highest is not None:
            top, highest = _higher(u, reached, top, highest)
        u = torch.clamp(u.detach() + step * gradient.sign(), low, high)
    if highest is not None:
        u, _ = _higher(u, height(u.to(x.dtype)), top, highest)
    return u.to(x.dtype)


def _higher(u: Tensor, reached: Tensor, top: Tensor, highest: Tensor) -> tuple[Tensor, Tensor]:
    """Return for each row the higher one of the points u and ``top``, and its height."""
    reached = reached.detach()
    better = (reached > highest).reshape(-1, *[1] * (u.ndim - 1))
    return torch.where(better, u.detach(), top), torch.maximum(highest, reached)
