"""Checks of arguments; each failure is one sentence: what was expected, what came, what to do.

Checks of values read numbers, so they run on ordinary CPU tensors only: tracing and fake tensors skip them, and
tensors on a GPU are read only where a caller asks for it.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from oodles.checks.annotations import shapes_checked as shapes_checked
from oodles.spelling import shown

LARGEST_WHOLE = 2**31 - 1
VOID = (255, -100, -1)
"""Numbers that commonly stand for a pixel without a label."""


def check_number(
    name: str, value: object, *, low: float = -math.inf, above: float = -math.inf, high: float = math.inf
) -> None:
    """Refuse what is no finite number, or one below ``low``, not above ``above``, or over ``high``."""
    bound = f" >= {low:g}" if low > -math.inf else f" > {above:g}" if above > -math.inf else ""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number{bound}, got {shown(value)}.")
    try:
        finite = math.isfinite(value)
    except OverflowError:  # a whole number that no float can hold
        finite = False
    if finite and isinstance(value, int) and abs(value) >= 2**63:
        raise ValueError(f"{name} must fit into 64 bits as a whole number, got {shown(value)}: write it with a point.")
    if not finite or value < low or value <= above:
        raise ValueError(f"{name} must be a finite number{bound}, got {shown(value)}.")
    if value > high:
        raise ValueError(f"{name} must be at most {high:g}, got {shown(value)}.")


def check_whole(name: str, value: object, *, low: int) -> None:
    """Refuse what is no whole number of at least ``low``, and one that is too large to count anything."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < low:
        raise ValueError(f"{name} must be a whole number of at least {low}, got {shown(value)}.")
    if value > LARGEST_WHOLE:
        raise ValueError(f"{name} must be a whole number of at most {LARGEST_WHOLE}, got {shown(value)}.")


def check_share(name: str, value: float) -> None:
    """Refuse what is no share in [0, 1)."""
    check_number(name, value, low=0)
    if value >= 1:
        raise ValueError(f"{name} must be below 1, got {shown(value)}.")


def check_mixing(name: str, share: float | Tensor) -> None:
    """Refuse a share λ, or one for each row, that is not in [0, 1]."""
    if isinstance(share, Tensor) and not (readable(share, False) and share.numel()):
        return
    bounds = share.detach().double().aminmax() if isinstance(share, Tensor) else (share, share)
    low, high = (float(bound) if isinstance(share, Tensor) else bound for bound in bounds)
    check_number(name, low, low=0)
    check_number(name, high, high=1)


def check_flag(name: str, value: object) -> None:
    """Refuse what is neither true nor false."""
    if not isinstance(value, bool | np.bool_) and not (type(value) is int and value in (0, 1)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}.")


def check_choice(name: str, value: object, choices: Sequence[str | int]) -> None:
    """Refuse what is none of several words or numbers."""
    if not any(type(value) is type(choice) and value == choice for choice in choices):
        listed = [repr(choice) for choice in choices]
        raise ValueError(f"{name} must be {', '.join(listed[:-1])} or {listed[-1]}, got {shown(value)}.")


def check_sides(network: str, input_shape: tuple[int, ...], least: int, hint: str = "") -> None:
    """Refuse images (C, H, W) that are smaller than a network takes, and feature vectors (F,)."""
    if len(input_shape) != 3:
        raise ValueError(f"{network} takes images, got feature vectors of {input_shape[0]} numbers: try mlp.")
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
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or inputs.layout is not torch.strided:
        got = f"a {type(inputs).__name__}"
        if isinstance(inputs, Tensor):
            got = f"{inputs.layout if inputs.is_floating_point() else inputs.dtype}"
        raise TypeError(f"{method} needs one tensor of {shape}, floating point, got {got}.")
    fits = inputs.ndim == 4 or (volumes and inputs.ndim > 4)
    if not fits or (square and inputs.shape[2] != inputs.shape[3]):
        raise ValueError(f"{method} needs {shape} of shape (N, C, H, W), got {tuple(inputs.shape)}.")
    if 0 in inputs.shape[1:]:
        raise ValueError(f"{method} needs {shape} with channels and pixels, got {tuple(inputs.shape)}.")
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
    if not -1.001e-3 <= low <= high <= 1.00101:  # a thousandth, whatever the precision that it was rounded to
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
    (first, rows), *others = [(name, tensor.shape[0]) for name, tensor in tensors.items()]
    for name, more in others:
        if rows != more:
            raise ValueError(f"{first} and {name} must have as many rows, got {rows} and {more}.")


def check_places(places: object, rows: int | None = None) -> None:
    """Refuse what does not number rows: a tensor (N,) of whole numbers, each below ``rows`` where that is given."""
    if not isinstance(places, Tensor) or places.ndim != 1 or places.dtype not in (torch.int64, torch.int32):
        got = f"{places.dtype} of shape {tuple(places.shape)}" if isinstance(places, Tensor) else type(places).__name__
        raise TypeError(f"places must be whole numbers of rows, (N,), got {got}: of a mask take mask.nonzero()[:, 0].")
    if rows is not None and places.numel() and readable(places, False):
        low, high = (int(bound) for bound in places.aminmax())
        if low < 0 or high >= rows:
            raise ValueError(f"places must be from 0 to {rows - 1}, got {low if low < 0 else high}.")


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
    """Refuse targets that are neither class ids in [0, C) nor probabilities over C classes."""
    if targets.layout is not torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got {targets.layout}: convert it with .to_dense().")
    if targets.is_floating_point():
        if targets.ndim < 2 or targets.shape[1] != num_classes:
            shape = f"{name} given as probabilities must have shape (N, {num_classes}), got {tuple(targets.shape)}."
            raise ValueError(_of_one_logit(name) if num_classes == 1 else shape)
    elif targets.dtype == torch.bool or targets.is_complex():
        raise TypeError(f"{name} must be class ids or probabilities, got {targets.dtype}.")
    elif targets.ndim == 0:
        raise ValueError(f"{name} must have a class id for each row, got a single number.")
    if not readable(targets, read_gpu) or targets.numel() == 0:
        return
    if targets.is_floating_point():
        tolerance = 1e-4 if targets.dtype in (torch.float32, torch.float64) else 2e-2
        least = targets.detach().min().item()
        worst = max(
            (bound.item() for bound in targets.detach().sum(1, dtype=torch.float64).aminmax()),
            key=lambda value: abs(value - 1),
        )
        if least < 0 or not abs(worst - 1) <= tolerance:
            if num_classes == 1:
                raise ValueError(_of_one_logit(name))
            raise ValueError(
                f"{name} given as probabilities must be non-negative and sum to one, "
                f"got a minimum of {least:.4g} and a sum of {worst:.4g}."
            )
        return
    ids = targets.long()
    low, high = (int(bound) for bound in ids.aminmax())
    if low < 0 or high >= num_classes:
        if num_classes == 1:
            raise ValueError(_of_one_logit(name))
        met = low if low < 0 else high
        void = f", or give the step or evaluate ignore_index={met}" if met in VOID else ""
        raise ValueError(
            f"{name} must be class ids from 0 to {num_classes - 1}, got {met}: "
            f"leave rows without a label out of the batch{void}."
        )


def check_no_one_hot(name: str, targets: Tensor, num_classes: int, *, read_gpu: bool = False) -> None:
    """Refuse one-hot rows of whole numbers, which look like a class id for each of many pixels."""
    rows = not targets.is_floating_point() and targets.ndim > 1 and targets.shape[1] == num_classes > 1
    if rows and targets.numel() and readable(targets, read_gpu):
        ids = targets.long()
        if bool(((ids == 0) | (ids == 1)).all()) and bool((ids.sum(1) == 1).all()):
            raise ValueError(
                f"{name} must be class ids or probabilities, got one-hot rows of {targets.dtype}: "
                "make them probabilities by .float(), or class ids by .argmax(1)."
            )


def check_index(name: str, index: object, num_classes: int = 0) -> None:
    """Refuse a label that is no whole number, or that is a class id."""
    if index is not None and (isinstance(index, bool) or not isinstance(index, int)):
        raise TypeError(f"{name} must be a whole number, got {index!r}.")
    if isinstance(index, int) and 0 <= index < num_classes:
        raise ValueError(f"{name} must be no class id, and 0 to {num_classes - 1} are, got {index}.")


def differs(ids: Tensor, index: int | None) -> Tensor:
    """Return where class ids are another number than an index: everywhere, where their type cannot hold it."""
    whole = not (ids.dtype == torch.bool or ids.is_floating_point() or ids.is_complex())
    if index is None or not whole or not torch.iinfo(ids.dtype).min <= index <= torch.iinfo(ids.dtype).max:
        return torch.ones_like(ids, dtype=torch.bool)
    return ids != index


def _of_one_logit(name: str) -> str:
    return (
        f"{name} must be of the only class, 0, since the network has one logit: give it one logit for each class, two "
        "in place of one with a sigmoid."
    )


def readable(tensor: Tensor, read_gpu: bool) -> bool:
    """Tell whether values may be read: of an ordinary tensor, not traced, on the CPU, or on a GPU if asked for."""
    plain = type(tensor) in (Tensor, torch.nn.Parameter) and not torch.compiler.is_compiling()
    return plain and (tensor.device.type == "cpu" or (read_gpu and tensor.device.type != "meta"))
