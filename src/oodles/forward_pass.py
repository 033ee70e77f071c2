"""The forward pass of a training step: all parts of one shape together, ``id`` first."""

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.func import functional_call

from oodles.classifier import Classifier, Inputs, first_of, frozen
from oodles.contract import Batch, Method, Outputs, Part, Rows, WrongPart
from oodles.precision import at_least_float32
from oodles.targets import as_rows


@dataclass(frozen=True)
class Reading:
    """What methods read of a forward pass: roles, further heads, and roles forwarded apart or as at test time."""

    roles: frozenset[str]
    heads: tuple[str, ...]
    apart: frozenset[str]
    tested: frozenset[str]

    @classmethod
    def of(cls, methods: Sequence[Method]) -> "Reading":
        return cls(
            frozenset({"id", *(role for method in methods for role in method.reads)}),
            tuple(dict.fromkeys(name for method in methods for name in method.heads)),
            frozenset(role for method in methods for role in method.separate),
            frozenset(role for method in methods for role in method.as_tested),
        )


class ForwardPass:
    """Forwards the parts of a batch that some method reads.

    Args:
        classifier: the network.
        methods: those whose :meth:`Method.layers` give hidden results that they change.
    """

    def __init__(self, classifier: Classifier, methods: Sequence[Method]):
        self._network = _Network(classifier)
        self._rows: Rows | None = None  # these two while a pass lasts
        self._batch: Batch | None = None
        self._layers = [(method, layer) for method in methods for layer in method.layers(classifier)]

    def watch(self) -> None:
        """Let methods change hidden results from now on; the classifier calls them back."""
        for method, layer in self._layers:
            self._network.classifier.watch(layer, _Change(self, method, layer))

    def __call__(self, batch: Batch, reading: Reading) -> Outputs:
        """Return the outputs of ``id`` and of every part that is read, in float32 at least.

        Parts of one shape go through the network together, so that batch norm sees them together, all of them with
        every change of weights that one of them has; those apart that a method forwards apart or as at test time. What
        batch norm keeps for testing moves with the weights that are tested, where some part has those. Rows made as
        features join those of ``id`` behind the backbone. Pictures of ``id`` some of whose pixels are another part's go
        through once.
        """
        read, names = reading.roles, reading.heads
        features: dict[str, Tensor] = {}
        logits: dict[str, Tensor] = {}
        heads: dict[str, dict[str, Tensor]] = {name: {} for name in names}
        again = [role for role in batch.parts if _divides_pictures(batch, role) and role in read - reading.apart]
        read = read.difference(again)
        made = [role for role, part in batch.parts.items() if role in read and part.features is not None]
        passes = list(_passes(batch, read, reading))
        copies = reading.tested or (batch.weights and any(one.beside for one in passes))
        buffers = self._network.copied_buffers() if copies else {}  # now, since batch norm moves its statistics
        for one in passes:
            roles, without = one.roles, () if one.roles is one.kept else set(one.roles).difference(one.kept)
            together = [*roles, *(made if "id" in one.kept else ())]
            sizes = [len(batch[role]) for role in together]
            starts = [sum(sizes[:index]) for index in range(len(roles))]
            self._rows = {r: slice(start, start + size) for r, start, size in zip(roles, starts, sizes, strict=False)}
            self._batch = batch
            try:
                inputs = _concatenate([batch[role].inputs for role in roles])
                more = [batch[role].first for role in together[len(roles) :]]
                if roles[0] in reading.tested:
                    found = self._network.run_as_tested(inputs, names, one.change, buffers)
                else:
                    found = self._network.run(inputs, more, names, one.change, buffers if one.beside else None)
            finally:
                self._rows = self._batch = None
            rows_features, rows_logits, by_head = found
            _split_among(together, sizes, rows_features, features, without)
            _split_among(together, sizes, rows_logits, logits, without)
            for name, rows in zip(names, by_head, strict=True):
                _split_among(together, sizes, rows, heads[name], without)
        for by_role in (features, logits, *heads.values()):
            by_role.update({role: by_role["id"] for role in again})
        outputs = Outputs(features, logits, heads)
        return _valid_outputs(outputs, batch) if batch.places else outputs

    def change_hidden(self, method: Method, layer: str, hidden: Tensor) -> Tensor:
        """Let a method change a layer's result, inside a pass alone."""
        if self._rows is None or self._batch is None:
            return hidden
        return method.change_hidden(hidden, layer, self._rows, self._batch)


class _Change:
    """A hook of a layer; an object of its own, so that it is copied with the step."""

    def __init__(self, forward: ForwardPass, method: Method, layer: str):
        self.forward = forward
        self.method = method
        self.layer = layer

    def __call__(self, module: nn.Module, args: Any, hidden: Tensor) -> Tensor:
        return self.forward.change_hidden(self.method, self.layer, hidden)


class _Network(nn.Module):
    """Features, logits and further heads in one call, so that ``functional_call`` can exchange weights."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(
        self, inputs: Inputs, made: Sequence[Tensor], heads: Sequence[str]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        features = self.classifier.features(inputs)
        if made:
            features = torch.cat([features, *(rows.to(features.dtype) for rows in made)])
        return features, self.classifier.head(features), [self.classifier.heads[name](features) for name in heads]

    def run(
        self,
        inputs: Inputs,
        made: Sequence[Tensor],
        heads: Sequence[str],
        change: Mapping[str, Tensor],
        buffers: Mapping[str, Tensor] | None = None,
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Forward rows, with ``change`` added to the classifier's weights, and with other ``buffers``."""
        if not change and not buffers:
            return self.forward(inputs, made, heads)
        weights = {
            f"{path}.{name}": weight
            for path, module in self.named_modules()  # each once, however often it is used
            for name, weight in module.named_parameters(recurse=False, remove_duplicate=False)
        }
        names = {name: f"classifier.{name}" for name in change}
        changed = {id(weights[names[name]]): weights[names[name]] + more for name, more in change.items()}
        # by hand for weights that layers share, since torch would not put back what it ties
        by_name = {name: changed[id(value)] for name, value in weights.items() if id(value) in changed}
        result: tuple[Tensor, Tensor, list[Tensor]] = functional_call(
            self, {**by_name, **(buffers or {})}, (inputs, made, heads), tie_weights=False
        )
        return result

    def run_as_tested(
        self, inputs: Inputs, heads: Sequence[str], change: Mapping[str, Tensor], buffers: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, list[Tensor]]:
        """Forward rows in eval mode and without autocast."""
        with frozen(self.classifier), torch.autocast(first_of(inputs).device.type, enabled=False):
            return self.run(inputs, (), heads, change, buffers)

    def copied_buffers(self) -> dict[str, Tensor]:
        """Copy the classifier's buffers, by the names that they have here."""
        return {f"classifier.{name}": buffer.clone() for name, buffer in self.classifier.named_buffers()}


class _Pass(NamedTuple):
    """Roles that go through the network together."""

    change: Mapping[str, Tensor]
    """What is added to the classifier's weights."""
    roles: list[str]
    kept: list[str]
    """Those that have these weights; the others are seen by batch norm alone."""
    beside: bool
    """Whether the others have the classifier's own weights."""


def _passes(batch: Batch, read: frozenset[str], reading: Reading) -> Iterator[_Pass]:
    groups: dict[Any, dict[int | None, list[str]]] = {}
    for role in sorted(batch.parts, key=lambda role: role != "id"):
        inputs = batch[role].inputs
        if role in read and inputs is not None:
            layout = tuple((key, value.shape[1:], value.dtype, value.layout) for key, value in _items(inputs))
            changed = None
            if batch.weights:
                changed = next((index for index, (roles, _) in enumerate(batch.weights) if role in roles), None)
            apart = role if role in reading.apart else role in reading.tested
            groups.setdefault((layout, apart), {}).setdefault(changed, []).append(role)
    for by_change in groups.values():
        every, *more = by_change.values()
        if more:
            every = sorted([*every, *(role for kept in more for role in kept)], key=lambda role: role != "id")
        for changed, kept in by_change.items():
            change = {} if changed is None else batch.weights[changed][1]
            roles = kept if kept[0] in reading.tested else every
            yield _Pass(change, roles, kept, beside=changed is not None and None in by_change)


def _divides_pictures(batch: Batch, role: str) -> bool:
    """Tell whether a part is further pixels of the very pictures of ``id``, seen by the same weights."""
    if role == "id" or batch[role].valid is None or batch[role].inputs is not batch["id"].inputs:
        return False
    return all((role in roles) == ("id" in roles) for roles, _ in batch.weights)


def _split_among(
    roles: list[str], sizes: list[int], rows: Tensor, by_role: dict[str, Tensor], without: Collection[str]
) -> None:
    rows = at_least_float32(rows)
    pieces = [rows] if len(roles) == 1 else rows.split_with_sizes(sizes)  # a split that splits nothing costs time
    for role, piece in zip(roles, pieces, strict=True):
        if role not in without:
            by_role[role] = piece


def valid_rows(batch: Batch) -> Batch:
    """Return a batch as terms see it: where some rows or pixels do not count, the targets and draws of those that do.

    Pixels become rows: targets are (M,) or (M, C), whereas inputs stay whole.
    """
    if not batch.places:
        return batch
    parts = dict(batch.parts)
    for role, places in batch.places.items():
        targets = parts[role].targets
        if targets is not None:
            rows = as_rows(targets) if targets.is_floating_point() else targets.flatten()
            targets = rows.index_select(0, places)
        parts[role] = replace(parts[role], targets=targets, valid=None)
    draws = dict(batch.draws)
    if "id" in batch.places:
        draws = {name: _valid_draws(draw, batch["id"], batch.places["id"]) for name, draw in draws.items()}
    return replace(batch, parts=parts, draws=draws)


def _valid_draws(draw: Tensor, part: Part, places: Tensor) -> Tensor:
    """Return the random numbers of the rows or pixels that count; those that belong to no rows stay."""
    valid = part.valid
    if valid is None or not draw.ndim or len(draw) != len(valid):
        return draw
    if draw.shape[: valid.ndim] == valid.shape:
        return draw.flatten(0, valid.ndim - 1).index_select(0, places)
    return draw.index_select(0, places // math.prod(valid.shape[1:]))


def _valid_outputs(outputs: Outputs, batch: Batch) -> Outputs:
    """Return outputs of the rows or pixels that count alone, as rows (M, C), where a part has others too."""
    masks = {role: batch["id"].valid if (own := batch[role].valid) is None else own for role in batch.places}

    def taken(what: str, by_role: Mapping[str, Tensor]) -> dict[str, Tensor]:
        left = _Left(what)
        for role, value in by_role.items():
            valid = masks.get(role)
            if valid is None:
                left[role] = value
            elif valid.ndim == 1:
                left[role] = value.index_select(0, batch.places[role])
            elif valid.shape == (len(value), *value.shape[2:]):
                left[role] = as_rows(value).index_select(0, batch.places[role])
            elif what == "logits":
                raise ValueError(
                    f"The pixels of {role!r} that count must be given for logits of shape {tuple(value.shape)}, "
                    f"got labels or truth values of shape {tuple(valid.shape)}."
                )
        return left

    heads = {name: taken(f"outputs of the head {name!r}", by_role) for name, by_role in outputs.heads.items()}
    return Outputs(taken("features", outputs.features), taken("logits", outputs.logits), heads)


class _Left(dict[str, Tensor]):
    """Outputs by role, without those of another resolution than the labels, of which no pixel could be left out."""

    def __init__(self, what: str):
        super().__init__()
        self.what = what

    def __missing__(self, role: str) -> Tensor:
        raise WrongPart(f"{self.what} of {role!r} must have the logits' pixels to leave void ones out, got others.")


def _items(inputs: Inputs) -> list[tuple[str, Tensor]]:
    return [(key, inputs[key]) for key in sorted(inputs)] if isinstance(inputs, dict) else [("", inputs)]


def _concatenate(inputs: Sequence[Any]) -> Inputs:
    if len(inputs) == 1:
        only: Inputs = inputs[0]
        return only
    if isinstance(inputs[0], dict):
        return {key: torch.cat([tensors[key] for tensors in inputs]) for key in inputs[0]}
    return torch.cat(list(inputs))
