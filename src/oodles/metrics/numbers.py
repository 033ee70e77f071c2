"""Scores and labels as arrays: what may be scored, and tensors without asking for torch."""

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Values: TypeAlias = "NDArray[Any] | Tensor"


def numbers(name: str, scores: "Values") -> NDArray[Any]:
    """Return scores as a flat array of floating-point numbers; refuse others, and NaN."""
    values = as_array(scores).ravel()
    if values.dtype.kind in "iub":
        values = values.astype(np.float64)
    if values.dtype.kind != "f":
        raise TypeError(f"{name} must be numbers, got {values.dtype}.")
    if missing := int(np.isnan(values).sum()):
        raise ValueError(f"{name} must not hold NaN, got {missing} of {values.size}: did training diverge?")
    return values


def as_array(values: "Values") -> NDArray[Any]:
    """Return tensors as arrays; NumPy does not know bfloat16."""
    if hasattr(values, "detach"):
        values = values.detach().cpu().to_dense()
        values = (values.float() if str(values.dtype) == "torch.bfloat16" else values).numpy()
    return np.asarray(values)
