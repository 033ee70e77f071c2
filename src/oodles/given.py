"""What a training step is given, as a batch: read, checked, and with the rows or pixels that count."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import is_dataclass, replace
from typing import Any

import torch
from torch import Tensor

from oodles.checks import check_images, check_no_one_hot, check_same_length, check_targets, differs, readable
from oodles.classifier import Classifier, Inputs, first_of, frozen
from oodles.contract import Batch, Method, Part
from oodles.facts import INPUTS, ROLES
from oodles.inference import as_labels, read_batch
from oodles.targets import indexable


def as_batch(
    classifier: Classifier,
    batch: Any,
    others: Mapping[str, Any],
    *,
    ignore_index: int | None = None,
    ood_index: int | None = None,
) -> Batch:
    """Return what a step is called with as a batch, whose parts say which rows or pixels count.

    Args:
        classifier: that the step trains.
        batch: as a step takes it.
        others: outliers and the like by role, or none.
        ignore_index: the class id of rows or pixels without a label.
        ood_index: the class id of unknown pixels.
    """
    whole = batch if isinstance(batch, Batch) else Batch({"id": _as_known(batch)})
    if "id" not in whole or whole["id"].targets is None or whole["id"].inputs is None:
        raise ValueError("A batch must have a part 'id' with inputs and targets, got none.")
    for role, given in others.items():
        if given is not None:
            whole = whole.with_part(role, _as_part(role, given, whole["id"].labels, ignore_index, ood_index))
    return _marked(_unnamed(classifier, whole), ignore_index, ood_index)


def checked(batch: Batch, num_classes: int, methods: Sequence[Method], made: Collection[str], *, first: bool) -> Batch:
    """Refuse parts that are no rows with targets, or not what methods need; return those that fit, ready for torch.

    Args:
        batch: of :func:`as_batch`.
        num_classes: C.
        methods: those that act.
        made: the roles that they make.
        first: look at values on a GPU too, and at the units of inputs.
    """
    whole = batch
    for role, part in batch.parts.items():
        given = list(part.inputs.values()) if isinstance(part.inputs, dict) else [part.first]
        if not given or not all(isinstance(value, Tensor) for value in given):
            raise TypeError(f"Inputs of {role!r} must be a tensor or a dictionary of tensors, got {describe(given)}.")
        if part.targets is not None:
            check_same_length(inputs=part.first, targets=part.targets)
            for check in (check_targets, check_no_one_hot):
                check(f"targets of {role!r}", part.targets, num_classes, read_gpu=first)
            if (ids := indexable(part.targets)) is not part.targets:
                whole = whole.with_part(role, replace(part, targets=ids))
    for method in methods:
        needed = [role for role in ROLES if role in method.needs]
        for role in needed:
            if role not in whole and role not in made:
                raise ValueError(f"{method.name} needs {role}, got none: call step(batch, {role}=inputs).")
        for role in (role for role in method.views if role in whole):
            check_same_length(**{"id": whole["id"].first, role: whole[role].first})
            if replacers := [other.name for other in methods if INPUTS in other.replaces]:
                raise ValueError(
                    f"{method.name} compares rows with the given part {role!r}, and {replacers[0]} changes the rows: "
                    "leave that part out, so that it is made of the changed rows, or use one of the methods."
                )
        if "images" in method.needs:
            for role in ("id", *needed):
                if role in whole:
                    check_images(method.name, whole[role].inputs, volumes=True)
        for role in (role for role in needed if role in whole):
            _check_like(role, whole[role].inputs, whole["id"].inputs, first=first)
    return whole


def _as_known(batch: Any) -> Part:
    """Return the in-distribution part that a loader's batch is."""
    if not isinstance(batch, Sequence | Mapping) or isinstance(batch, str) or len(batch) == 0:
        hint = ": hand over its inputs and targets." if is_dataclass(batch) else "."
        raise TypeError(f"batch must be (inputs, targets) or a Batch, got {describe(batch)}{hint}")
    if isinstance(batch, Sequence) and len(batch) != 2:
        more = ": leave out what follows the targets, such as numbers or weights of rows, which a step does not use."
        hint = more if len(batch) > 2 else "."
        raise TypeError(f"batch must be (inputs, targets) or a Batch, got {describe(batch)}{hint}")
    inputs, targets = read_batch(batch, "A batch")
    if targets is None:
        where = f" under 'labels' in a dictionary of {', '.join(inputs)}" if isinstance(inputs, Mapping) else ""
        raise ValueError(f"A batch must have a part 'id' with inputs and targets, got none{where}.")
    return Part(inputs, as_labels(targets, "A batch"))


def _as_part(role: str, given: Any, targets: Tensor, ignore_index: int | None, ood_index: int | None) -> Part:
    if isinstance(given, Part):
        return given
    inputs, labels = read_batch(given, role)
    dimensions = targets.ndim - targets.is_floating_point()
    if dimensions < 2 or getattr(labels, "ndim", 0) < dimensions:  # labels of whole pictures do not matter
        return Part(inputs)
    labels = torch.as_tensor(labels).to(first_of(inputs).device, non_blocking=True)
    return Part(inputs, valid=_pixels_meant(role, labels, dimensions, ignore_index, ood_index))


def _pixels_meant(
    role: str, labels: Tensor, dimensions: int, ignore_index: int | None, ood_index: int | None
) -> Tensor:
    """Return which pixels a mask of outliers means."""
    if labels.ndim == dimensions and labels.dtype == torch.bool:
        return labels
    whole = not (labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool)
    if labels.ndim == dimensions and whole and (ignore_index is not None or ood_index is not None):
        return differs(labels, ignore_index) if ood_index is None else ~differs(labels, ood_index)
    raise ValueError(
        f"{role} came with {labels.dtype} of shape {tuple(labels.shape)} for their pixels: give truth values "
        f"{'(N, L)' if dimensions == 2 else '(N, H, W)'}, true where a pixel is an outlier, or class ids and say "
        "ignore_index=… or ood_index=…, or leave them out."
    )


def _marked(batch: Batch, ignore_index: int | None, ood_index: int | None) -> Batch:
    """Return a batch whose parts say which rows or pixels count, and have class 0 as the label of the others."""
    ignored = [index for index in (ignore_index, ood_index) if index is not None]
    if not ignored and all(part.valid is None for part in batch.parts.values()):
        return batch
    known = batch["id"]
    if ood_index is not None and "outliers" not in batch and not known.labels.is_floating_point():
        batch = batch.with_part("outliers", Part(known.inputs, valid=~differs(known.labels, ood_index)))
    return replace(batch, parts={role: _with_valid(role, part, ignored) for role, part in batch.parts.items()})


def _with_valid(role: str, part: Part, ignored: Sequence[int]) -> Part:
    targets, valid = part.targets, part.valid
    if valid is not None and (valid.dtype != torch.bool or valid.ndim == 0 or len(valid) != len(part)):
        raise ValueError(
            f"What counts in {role!r} must be said by truth values for its {len(part)} rows or their pixels, "
            f"got {valid.dtype} of shape {tuple(valid.shape)}."
        )
    if targets is None or targets.dtype == torch.bool or targets.is_complex():
        return part
    shape = (len(targets), *targets.shape[2:]) if targets.is_floating_point() else tuple(targets.shape)
    if valid is not None and tuple(valid.shape) != shape:
        raise ValueError(
            f"What counts in {role!r} must be said by truth values of its labels' shape {shape}, "
            f"got {tuple(valid.shape)}."
        )
    if targets.is_floating_point():
        if valid is None:
            return part
        uniform = targets.new_full((), 1 / targets.shape[1])
        return replace(part, targets=torch.where(valid.unsqueeze(1), targets, uniform))
    for index in ignored:
        labelled = differs(targets, index)
        valid = labelled if valid is None else valid & labelled
    return part if valid is None else replace(part, targets=torch.where(valid, targets, 0), valid=valid)


def with_places(batch: Batch, methods: Sequence[Method], read: Collection[str]) -> Batch:
    """Number the rows or pixels that count in parts that are read, where some do not: here, where one may wait."""
    if all(part.valid is None for part in batch.parts.values()):
        return batch
    views = {role for method in methods for role in method.views}
    places = {}
    for role, part in batch.parts.items():
        valid = batch["id"].valid if part.valid is None and role in views else part.valid
        if valid is not None and role in read:
            numbers = valid.flatten().nonzero()[:, 0]
            if len(numbers) < valid.numel():
                places[role] = numbers
    return replace(batch, places=places) if places else batch


def _unnamed(classifier: Classifier, batch: Batch) -> Batch:
    """Return a batch whose parts are the tensors themselves, where all have one in a dictionary by the same name."""
    dictionaries = {role: part for role, part in batch.parts.items() if isinstance(part.inputs, dict)}
    if len({tuple(part.inputs) for part in dictionaries.values() if part.inputs is not None}) == 1:
        for role, part in dictionaries.items():
            if part.inputs is not None:
                batch = batch.with_part(role, replace(part, inputs=classifier.unnamed(part.inputs)))
    return batch


def _check_like(role: str, given: Inputs | None, known: Inputs | None, *, first: bool) -> None:
    """Refuse rows of another type, of other channels or, in the first batch, in other units than those of ``id``."""
    if isinstance(given, dict) and isinstance(known, dict):
        for name in given.keys() & known.keys():
            _check_like(role, given[name], known[name], first=first)
    if not isinstance(given, Tensor) or not isinstance(known, Tensor):
        return
    if given.dtype != known.dtype and (given.is_floating_point() or known.is_floating_point()):
        whole = given.dtype == torch.uint8
        raise ValueError(
            f"{role} must have the type of the in-distribution inputs, {known.dtype}, got {given.dtype}: convert them"
            f"{', and divide them by 255 if the others are in [0, 1].' if whole else '.'}"
        )
    if given.ndim != known.ndim or (given.ndim > 3 and given.shape[1] != known.shape[1]):
        raise ValueError(
            f"{role} must have as many dimensions and channels as the in-distribution inputs, of shape "
            f"{tuple(known.shape)}, got {tuple(given.shape)}: prepare both alike."
        )
    dense = given.layout is known.layout is torch.strided
    images = dense and given.ndim > 3 and given.is_floating_point() and given.numel() and known.numel()
    if first and images and readable(given, True) and readable(known, True):
        (low, high), (other_low, other_high) = (
            [float(end) for end in rows.detach().aminmax()] for rows in (given, known)
        )
        for least, most, other in ((low, high, other_high), (other_low, other_high, high)):
            if 0 <= least <= most <= 1 and most > 0 and other > 16:
                raise ValueError(
                    f"{role} must be in the units of the in-distribution inputs, which reach from {other_low:.3g} to "
                    f"{other_high:.3g}, got {low:.3g} to {high:.3g}: are some divided by 255 and others not?"
                )


def check_runs(classifier: Classifier, batch: Batch) -> None:
    """Name the part on which the network does not run, of those that have another shape than ``id``."""
    for role in (role for role in ROLES if role in batch):
        rows, known = batch[role].inputs, batch["id"].inputs
        if isinstance(rows, Tensor) and isinstance(known, Tensor) and rows.shape[1:] != known.shape[1:]:
            with frozen(classifier), torch.no_grad():
                try:
                    classifier(rows)
                except RuntimeError as error:
                    said = str(error).partition("\n")[0].rstrip(".")
                    raise ValueError(
                        f"The network must run on {role}, of shape {tuple(rows.shape)}, as on in-distribution inputs "
                        f"of shape {tuple(known.shape)}, but: {said}."
                    ) from error


def describe(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}, which has to be called"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
