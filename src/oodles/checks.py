"""Checks of arguments; each failure is one sentence: what was expected, what came, what to do.

Checks of values read numbers, so they run on ordinary CPU tensors only: tracing and fake tensors skip them, and
tensors on a GPU are read only where a caller asks for it.
"""

import math
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from numbers import Real

import torch
from torch import Tensor


class TrainingWarning(UserWarning):
    """Training goes on, and will hardly give what is wanted; each is said once, and kept in the record of a run."""


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def warn(words: str) -> None:
    """Give a :class:`TrainingWarning`, and note it for :func:`hear`."""
    if (heard := _heard.get()) is not None and words not in heard:
        heard.append(words)
    warnings.warn(words, TrainingWarning, stacklevel=3)


@contextmanager
def hear() -> Iterator[list[str]]:
    """Open a list that gets the words of every :class:`TrainingWarning`, whether or not they are shown."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)


def check_number(name: str, value: object, *, low: float = -math.inf, above: float = -math.inf) -> None:
    """Refuse a number that is not finite, below ``low``, or not above ``above``."""
    bound = f" >= {low:g}" if low > -math.inf else f" > {above:g}" if above > -math.inf else ""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number{bound}, got {value!r}.")
    if not math.isfinite(value) or value < low or value <= above:
        raise ValueError(f"{name} must be a finite number{bound}, got {value}.")


def check_whole(name: str, value: object, *, low: int) -> None:
    """Refuse what is no whole number of at least ``low``."""
    if isinstance(value, bool) or not isinstance(value, int) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {value!r}.")


def check_share(name: str, value: float) -> None:
    """Refuse what is no share in [0, 1)."""
    check_number(name, value, low=0)
    if value >= 1:
        raise ValueError(f"{name} must be below 1, got {value}.")


def check_sides(network: str, input_shape: tuple[int, int, int], least: int, hint: str = "") -> None:
    """Refuse images (C, H, W) that are smaller than a network takes."""
    _, height, width = input_shape
    if min(height, width) < least:
        raise ValueError(f"{network} takes images of at least {least} × {least} pixels, got {height} × {width}{hint}.")


def check_floating(name: str, tensor: Tensor) -> None:
    """Refuse whole numbers where floating-point values are expected."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} must be a floating-point tensor, got {type(tensor).__name__}.")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} must be floating point, got {tensor.dtype}: convert it with {name}.float().")


def check_images(method: str, inputs: object, *, square: bool = False, volumes: bool = False) -> Tensor:
    """Return the inputs where they are floating-point images (N, C, H, W), or ``volumes`` if allowed; refuse others."""
    shape = "square images" if square else "images"
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
        raise TypeError(f"{method} needs one tensor of {shape}, floating point, got {got}.")
    fits = inputs.ndim == 4 or (volumes and inputs.ndim > 4)
    if not fits or (square and inputs.shape[2] != inputs.shape[3]):
        raise ValueError(f"{method} needs {shape} of shape (N, C, H, W), got {tuple(inputs.shape)}.")
    return inputs


def check_one_label(method: str, targets: Tensor | None) -> None:
    """Refuse a label for each pixel, which would have to follow the pixels."""
    if targets is not None and targets.ndim > 1 + targets.is_floating_point():
        raise ValueError(
            f"{method} needs one label per image, got targets of shape {tuple(targets.shape)}: "
            "it moves pixels, and their labels would stay where they are."
        )


def check_unit_range(method: str, images: Tensor, *, read_gpu: bool = False) -> None:
    """Refuse images that are not in [0, 1]; reading them from a GPU waits for it."""
    if not images.numel() or not readable(images, read_gpu):
        return
    low, high = (float(bound) for bound in images.detach().aminmax())
    if not -1e-3 <= low <= high <= 1 + 1e-3:
        raise ValueError(
            f"{method} needs images in [0, 1], got {low:.3g} to {high:.3g}: let Normalize be the classifier's first "
            "layer, and leave its inputs as they are."
        )


def check_same_length(**tensors: Tensor) -> None:
    """Refuse tensors with different numbers of rows, and what is no tensor."""
    for name, tensor in tensors.items():
        if not isinstance(tensor, Tensor) or tensor.ndim == 0:
            got = "a single number" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} must be a tensor with a row for each sample, got {got}.")
    (first, a), *others = tensors.items()
    for name, b in others:
        if len(a) != len(b):
            raise ValueError(f"{first} and {name} must have as many rows, got {len(a)} and {len(b)}.")


def check_places(places: object) -> None:
    """Refuse what does not number rows: a tensor (N,) of whole numbers."""
    if not isinstance(places, Tensor) or places.ndim != 1 or places.dtype not in (torch.int64, torch.int32):
        got = f"{places.dtype} of shape {tuple(places.shape)}" if isinstance(places, Tensor) else type(places).__name__
        raise TypeError(f"places must be whole numbers of rows, (N,), got {got}: of a mask take mask.nonzero()[:, 0].")


def check_same_classes(logits: Tensor, other: Tensor, name: str = "logits_in", other_name: str = "logits_out") -> None:
    """Refuse logits of in-distribution and outlier rows with different numbers of classes."""
    if logits.shape[1] != other.shape[1]:
        raise ValueError(
            f"{name} and {other_name} must have as many classes, got {logits.shape[1]} and {other.shape[1]}: "
            "both must come from the same classifier."
        )


def check_alike(method: str, x: Tensor, outliers: Tensor) -> None:
    """Refuse outliers that cannot be mixed with the rows, being of another shape or type."""
    if x.shape[1:] != outliers.shape[1:] or x.dtype != outliers.dtype:
        raise ValueError(
            f"{method} needs outliers of the inputs' shape {tuple(x.shape[1:])} and type {x.dtype}, "
            f"got {tuple(outliers.shape[1:])} and {outliers.dtype}."
        )


def check_logits(name: str, logits: Tensor) -> None:
    """Refuse logits that are not floating point of shape (N, C) or (N, C, H, W)."""
    check_floating(name, logits)
    if logits.ndim < 2 or logits.shape[1] < 1:
        raise ValueError(f"{name} must have shape (N, C) or (N, C, H, W), got {tuple(logits.shape)}.")


def check_targets(name: str, targets: Tensor, num_classes: int, *, read_gpu: bool = False) -> None:
    """Refuse targets that are neither class ids in [0, C) nor probabilities over C classes.

    There is no ``ignore_index``, which means nothing for mixed targets: leave rows without a label out beforehand.
    """
    if targets.is_floating_point():
        if targets.ndim < 2 or targets.shape[1] != num_classes:
            raise ValueError(
                f"{name} given as probabilities must have shape (N, {num_classes}), got {tuple(targets.shape)}."
            )
    elif targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(f"{name} must be class ids or probabilities, got {targets.dtype}.")
    if not readable(targets, read_gpu) or targets.numel() == 0:
        return
    if targets.is_floating_point():
        tolerance = 1e-4 if targets.dtype in (torch.float32, torch.float64) else 2e-2
        sums = targets.detach().double().sum(1)
        worst = sums.flatten()[(sums - 1).abs().argmax()]
        if bool(targets.min() < 0) or not abs(float(worst) - 1) <= tolerance:
            raise ValueError(
                f"{name} given as probabilities must be non-negative and sum to one, "
                f"got a minimum of {float(targets.min()):.4g} and a sum of {float(worst):.4g}."
            )
    else:
        low, high = (int(bound) for bound in targets.aminmax())
        if low < 0 or high >= num_classes:
            raise ValueError(
                f"{name} must be class ids from 0 to {num_classes - 1}, got {low if low < 0 else high}: "
                "leave rows without a label out of the batch."
            )


def readable(tensor: Tensor, read_gpu: bool) -> bool:
    """Tell whether values may be read: of an ordinary tensor, not traced, on the CPU, or on a GPU if asked for."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    return plain and (tensor.device.type == "cpu" or (read_gpu and tensor.device.type != "meta"))
