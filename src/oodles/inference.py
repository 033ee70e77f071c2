"""Run a classifier over rows, in eval mode and without gradients."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import reduce
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from oodles.checks import check_logits, check_same_length, check_whole, differs
from oodles.classifier import Classifier, Inputs, apply, device_of, first_of, frozen, pieces_of
from oodles.precision import at_least_float32


class Seen(NamedTuple):
    """Outputs of a classifier for inputs, in float32 at least."""

    features: Tensor
    """(N, F) or (N, F, H, W)."""
    logits: Tensor
    """(N, C) or (N, C, H, W)."""
    heads: Mapping[str, Tensor]
    """Outputs of each further head."""


class Collected(NamedTuple):
    """Outputs of a classifier for the rows of a loader, in float32 at least."""

    features: Tensor
    """(N, F); (N, 0) for a model that is no :class:`~oodles.Classifier`."""
    logits: Tensor
    """(N, C) or (N, C, H, W)."""
    labels: Tensor | None
    """As the loader gives them, or None where a batch has none."""


def see(classifier: Classifier, inputs: Inputs, rows: int = 1024) -> Seen:
    """Run a classifier and its further heads over inputs, ``rows`` at once; statistics and modes stay as they were."""
    check_whole("rows", rows, low=1)
    features, logits = [], []
    heads: dict[str, list[Tensor]] = {name: [] for name in classifier.heads}
    with frozen(classifier), torch.no_grad():
        for piece in pieces_of(inputs, rows):
            piece_features = classifier.features(piece)
            features.append(at_least_float32(piece_features))
            logits.append(at_least_float32(classifier.head(piece_features)))
            for name, head in classifier.heads.items():
                heads[name].append(at_least_float32(head(piece_features)))
    return Seen(torch.cat(features), torch.cat(logits), {name: torch.cat(parts) for name, parts in heads.items()})


def collect(
    classifier: nn.Module,
    loader: Iterable[Any],
    *,
    name: str = "loader",
    to: str | torch.device = "cpu",
    ignore_index: int | None = None,
    labelled: bool = False,
) -> Collected:
    """Return features, logits and labels of every row of a loader.

    Batches are moved to the classifier's device. Modes and the global random state stay as they were.

    Args:
        classifier: a :class:`~oodles.Classifier`, or any module that gives logits: then without features.
        loader: gives inputs, or inputs and labels; inputs are a tensor, or a dictionary of tensors that
            become keyword arguments (labels may be in it, under ``labels`` or ``label``).
        name: of the loader, for errors.
        to: the device that results are moved to.
        ignore_index: the label of rows or pixels that are left out. Pixels are then rows, without features where these
            have another resolution; of labels that are truth values, what is true is taken.
        labelled: refuse what comes with the inputs and is no number for each row; otherwise it is ignored.

    Raises:
        TypeError: for batches of other kinds, and models that return no tensor of logits.
        ValueError: for a loader that gives no rows, and labels that fit no predictions.
    """
    features: list[Tensor] = []
    logits: list[Tensor] = []
    labels: list[Tensor | None] = []
    with in_eval_mode(classifier):
        for batch in batches_seen(classifier, loader, name, labelled=labelled):
            seen = without_void(batch, ignore_index)
            features.append(seen.features.to(to))
            logits.append(seen.logits.to(to))
            labels.append(None if seen.labels is None else seen.labels.to(to))
    return Collected(torch.cat(features), torch.cat(logits), all_or_none(labels))


class BatchSeen(NamedTuple):
    """One batch of a loader, and a classifier's outputs for it."""

    inputs: Inputs
    features: Tensor
    logits: Tensor
    labels: Tensor | None


def without_void(batch: BatchSeen, ignore_index: int | None) -> BatchSeen:
    """Return the rows or pixels that have another label, as rows; without an index, the batch as it is."""
    if ignore_index is None:
        return batch
    labels, predicted = batch.labels, (len(batch.logits), *batch.logits.shape[2:])
    if labels is None or labels.is_floating_point():
        taken = torch.ones(predicted, dtype=torch.bool)
    else:
        taken = labels if labels.dtype == torch.bool else differs(labels, ignore_index)
    if tuple(taken.shape) != predicted:
        raise ValueError(f"Labels must have the shape {predicted} of the predictions, got {tuple(taken.shape)}.")
    taken = taken.to(batch.logits.device)
    fits = batch.features.ndim == 2 and len(predicted) == 1
    fits |= (len(batch.features), *batch.features.shape[2:]) == predicted and batch.features.ndim > 2
    logits = batch.logits.movedim(1, -1)[taken]
    features = batch.features.movedim(1, -1)[taken] if fits else logits.new_zeros(len(logits), 0)
    if labels is not None:
        labels = None if labels.is_floating_point() else labels[taken.to(labels.device)]
    return BatchSeen(batch.inputs, features, logits, labels)


@contextmanager
def in_eval_mode(classifier: nn.Module) -> Iterator[None]:
    """Set eval mode, switch gradients off, and keep the global random state, from which a DataLoader draws a seed.

    Several threads may be inside at once: what belongs to the classifier is given back when the last one leaves.
    """
    with torch.random.fork_rng(devices=[]), _used(classifier), torch.no_grad():
        yield


@dataclass
class _Use:
    """How a classifier was before the first of those that run it began, and how many do."""

    modes: list[tuple[nn.Module, bool]]
    input_name: str | None
    users: int = 0


_USED: dict[int, _Use] = {}
"""By identity of a classifier, which lives as long as it is used."""
_CHANGING = Lock()


@contextmanager
def _used(classifier: nn.Module) -> Iterator[None]:
    """Set eval mode inside; after the last thread, modes and the name of the inputs are what they were."""
    with _CHANGING:
        if id(classifier) not in _USED:
            modes = [(module, module.training) for module in classifier.modules()]
            _USED[id(classifier)] = _Use(modes, classifier.input_name if isinstance(classifier, Classifier) else None)
        use = _USED[id(classifier)]
        use.users += 1
        classifier.eval()
    try:
        yield
    finally:
        with _CHANGING:
            use.users -= 1
            if not use.users:
                del _USED[id(classifier)]
                for module, training in use.modes:
                    module.training = training
                if isinstance(classifier, Classifier):
                    classifier.input_name = use.input_name


def batches_seen(
    classifier: nn.Module, loader: Iterable[Any], name: str, *, labelled: bool = False
) -> Iterator[BatchSeen]:
    """Run a classifier over a loader, batch by batch, inside :func:`in_eval_mode`.

    What comes with the inputs and is no label of each row is ignored, or refused where rows are ``labelled``.

    Raises:
        TypeError: for what gives no batches, batches that are no tensors, and models that return no tensor of logits.
        ValueError: for a loader, called ``name``, that gives no rows, and inputs on which the classifier does not run.
    """
    device = device_of(classifier)
    rows = 0
    of_loader = f"A batch of {name[:1].lower()}{name[1:]}"
    check_gives_batches(loader, name)
    for batch in loader:
        inputs, beside = read_batch(batch, of_loader)
        labels = _labels_of(inputs, beside, of_loader, labelled=labelled)
        inputs = _move(inputs, device)
        if isinstance(classifier, Classifier):
            inputs = classifier.unnamed(inputs)
        features, logits = _run(classifier, inputs)
        rows += len(first_of(inputs))
        yield BatchSeen(inputs, at_least_float32(features), at_least_float32(logits), labels)
    if not rows:
        raise ValueError(f"{name} must give at least one row, got none: is its data set empty?")


def check_gives_batches(loader: object, name: str) -> None:
    """Refuse what cannot be iterated over.

    Raises:
        TypeError: that names it.
    """
    if not (hasattr(loader, "__iter__") or hasattr(loader, "__getitem__")):
        raise TypeError(f"{name} must give batches, as a DataLoader or a list of them does, got {_kind(loader)}.")


def finite_rows(*values: Inputs) -> Tensor:
    """Say of each row (N,) whether all its numbers are finite, in tensors and dictionaries with N rows each."""
    tensors = [one for value in values for one in (value.values() if isinstance(value, Mapping) else [value])]
    rows = (one.isfinite().flatten(1).all(1) if one.ndim > 1 else one.isfinite() for one in tensors)
    return reduce(torch.logical_and, rows)


def _labels_of(inputs: Inputs, beside: Any, name: str, *, labelled: bool) -> Tensor | None:
    """Return what comes with inputs where it labels every row; otherwise none, or refuse it."""
    try:
        labels = as_labels(beside, name)
        if labels is not None:
            check_same_length(inputs=first_of(inputs), labels=labels)
    except (TypeError, ValueError):
        if labelled:
            raise
        return None
    return labels


def all_or_none(labels: Sequence[Tensor | None]) -> Tensor | None:
    """Join the labels of all batches; return none where any batch lacks them."""
    known = [given for given in labels if given is not None]
    if any(given.ndim == 0 for given in known):
        raise TypeError("labels must be a tensor with a row for each sample, got a single number.")
    alike = len({given.shape[1:] for given in known}) <= 1
    return torch.cat(known) if len(known) == len(labels) and alike else None


def _run(classifier: nn.Module, inputs: Inputs) -> tuple[Tensor, Tensor]:
    try:
        if isinstance(classifier, Classifier):
            features = classifier.features(inputs)
            logits = classifier.head(features)
        else:
            logits = apply(classifier, inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        first = first_of(inputs)
        said = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(
            f"The classifier must run on inputs of shape {tuple(first.shape)} and {first.dtype}, but: {said}."
        ) from error
    if not isinstance(logits, Tensor):
        raise TypeError(
            f"The classifier must return a tensor of logits, got {type(logits).__name__}: "
            "name the field or position that holds them with Classifier.split(model, …, output=…)."
        )
    check_logits("logits", logits)
    return features if isinstance(classifier, Classifier) else logits.new_zeros(len(logits), 0), logits


LABELS = ("labels", "label")
"""The keys of a dictionary batch under which labels may stand."""


def read_batch(batch: Any, name: str) -> tuple[Inputs, Any]:
    """Return the inputs of a batch, and what comes with them: labels, or anything else.

    Inputs come alone, or first of several things; in a dictionary (any mapping) labels stand under ``labels`` or
    ``label``.

    Args:
        batch: as a loader gives it.
        name: of the batch, for errors.

    Raises:
        TypeError: for inputs that are no tensors.
        ValueError: for a dictionary with labels under both keys, or with nothing else.
    """
    inputs, beside = batch, None
    if isinstance(batch, Sequence) and not isinstance(batch, str) and len(batch):
        inputs, beside = batch[0], batch[1] if len(batch) > 1 else None
    if isinstance(inputs, Tensor) and inputs.ndim:
        return inputs, beside
    if not isinstance(inputs, Mapping):
        hint = ": torch.from_numpy makes a tensor of it." if isinstance(inputs, np.ndarray) else "."
        raise TypeError(
            f"{name} must be inputs or (inputs, labels), tensors or a dictionary of them, got {_kind(inputs)}{hint}"
        )
    keys = [key for key in LABELS if inputs.get(key) is not None]
    if len(keys) > 1:
        raise ValueError(f"{name} must have labels once, got 'labels' and 'label': leave one of them out.")
    tensors = {key: value for key, value in inputs.items() if key not in LABELS}
    if not tensors:
        raise ValueError(f"{name} must have inputs beside its labels, got a dictionary without.")
    for key, value in tensors.items():
        if not isinstance(value, Tensor) or not value.ndim:
            raise TypeError(
                f"{name} must have tensors as inputs, and labels under 'labels', got {_kind(value)} under {key!r}: "
                "convert it, or leave it out."
            )
    return tensors, inputs[keys[0]] if keys else beside


def as_labels(given: Any, name: str) -> Tensor | None:
    """Return labels as a tensor, or none where there are none.

    Raises:
        TypeError: for labels that are no numbers.
    """
    if given is None or isinstance(given, Tensor):
        return given
    if isinstance(given, np.ndarray | Sequence) and not isinstance(given, str):
        with suppress(TypeError, ValueError, RuntimeError):
            return torch.as_tensor(given)
    raise TypeError(
        f"{name} must have labels that are numbers, class ids or probabilities, got {_kind(given)}: number them."
    )


def _kind(value: object) -> str:
    """Say of which type a value is, and of which its first item."""
    if isinstance(value, list | tuple) and value:
        return f"{type(value).__name__} of {type(value[0]).__name__}"
    return "a single number" if isinstance(value, Tensor) and not value.ndim else type(value).__name__


def _move(inputs: Inputs, device: torch.device) -> Inputs:
    if isinstance(inputs, Mapping):
        return {key: value.to(device) for key, value in inputs.items()}
    return inputs.to(device)
