"""Arithmetic of losses, energies and scores: in float32 at least, and finite where a vector has no direction."""

import torch
from jaxtyping import Float
from torch import Tensor


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert float16 and bfloat16 to float32; float32 and float64 stay."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values


def in_one_precision(*values: Tensor) -> tuple[Tensor, ...]:
    """Convert tensors to the widest precision among them, float32 at least."""
    wide = torch.float64 if any(value.dtype == torch.float64 for value in values) else torch.float32
    return tuple(value.to(wide) for value in values)


def take_over(*values: tuple[Tensor, Tensor]) -> None:
    """Copy values into buffers, given as (buffer, value), unless one of them is not finite.

    Half precision gives such a batch now and then; an average would keep it for good.
    """
    finite = torch.stack([value.isfinite().all() for _, value in values]).all()
    for buffer, value in values:
        buffer.copy_(torch.where(finite, value.to(buffer.dtype), buffer))


SHORT = 1e-6
"""The length below which a vector has no direction worth dividing for."""


def length_to_divide_by(values: Float[Tensor, "n f *space"]) -> Float[Tensor, "n 1 *space"]:
    """Return ‖v‖₂ of each row (or pixel), and 1 where it is below 1e-6, so that such a row is divided by nothing.

    The gradient of v / ‖v‖ grows as 1 / ‖v‖: from a layer of zeros, one step would throw the weights so far that no
    later one moves them.
    """
    length: Tensor = torch.linalg.vector_norm(values, dim=1, keepdim=True)
    return length.masked_fill(length < SHORT, 1.0)


def unit_length(values: Float[Tensor, "n f *space"]) -> Float[Tensor, "n f *space"]:
    """Return v / ‖v‖₂ of each row (or pixel), in float32 at least; a row of zeros stays one, with a gradient of 1."""
    values = at_least_float32(values)
    return values / length_to_divide_by(values)
