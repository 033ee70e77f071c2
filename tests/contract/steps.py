"""Tools of several property checks: outputs and terms of tiny steps, changes of batches, one sentence."""

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from oodles import Batch, Classifier, Method, Now, Outputs, Part, TrainingStep
from oodles.targets import cross_entropy

from .networks import tensors


def total(terms: Mapping[str, Tensor]) -> Tensor:
    """Sum the terms to the loss."""
    return torch.stack(list(terms.values())).sum()


def all_terms(*methods: type[Method]) -> set[str]:
    """Return the names of the terms of a step with these methods."""
    plain = set() if any("cross-entropy" in method.replaces for method in methods) else {"cross_entropy"}
    return plain.union(*(method.terms for method in methods))


def pass_of(prepared: Batch, role: str) -> int | None:
    """Return which change of weights a part is forwarded with; none for the classifier's own weights."""
    return next((index for index, (roles, _) in enumerate(prepared.weights) if role in roles), None)


def roles_in_order(batch: Batch, methods: list[Method]) -> list[str]:
    """Return the roles that have to be forwarded: ``id``, then those read, of which those made as features come last,
    then those forwarded apart."""
    read = {role for method in methods for role in method.reads}
    apart = {role for method in methods for role in (*method.separate, *method.as_tested)}
    roles = ["id", *(role for role in batch.parts if role != "id" and role in read)]
    return sorted(roles, key=lambda role: (role in apart, batch[role].features is not None))


def leaf_outputs(classifier: Classifier, batch: Batch, roles: list[str]) -> Outputs:
    """Return features, logits and outputs of further heads for some parts, as leaves that record gradients.

    Where a method differentiates in the inputs, they are no leaves but belong to these.
    """
    given = batch["id"].inputs
    joined = isinstance(given, Tensor) and given.requires_grad

    def leaf(value: Tensor) -> Tensor:
        return value.clone() if joined else value.detach().clone()

    features, logits = {}, {}
    heads: dict[str, dict[str, Tensor]] = {name: {} for name in classifier.heads}
    with torch.set_grad_enabled(joined):
        for role in roles:
            made = batch[role].features
            rows = (
                classifier.features(batch[role].inputs)
                if made is None
                else made.to(next(classifier.parameters()).dtype)
            )
            features[role] = rows = leaf(rows)
            logits[role] = leaf(classifier.head(rows))
            for name, head in classifier.heads.items():
                heads[name][role] = leaf(head(rows))
    if not joined:
        for value in (*features.values(), *logits.values(), *(v for one in heads.values() for v in one.values())):
            value.requires_grad_()
    return Outputs(features, logits, heads)


def terms_of(step: TrainingStep, batch: Batch, outputs: Outputs) -> dict[str, Tensor]:
    """Compute the terms for given outputs, by calling the methods' moments by hand."""
    methods = [method for method in step.methods if isinstance(method, Method) and method.active]
    changers = [method for method in methods if "change_outputs" in method.moments]
    now = Now(step.classifier, changers=changers)
    for method in changers:
        outputs = method.change_outputs(outputs, batch, now)
    terms: Mapping[str, Tensor] = {}
    if not any("cross-entropy" in method.replaces for method in methods):
        alone = any(method.alone for method in methods)
        logits = now.probe(outputs.features["id"]) if alone else outputs.logits["id"]
        terms = {"cross_entropy": cross_entropy(logits, batch["id"].labels)}
    for method in methods:
        own = method.loss_terms(outputs, batch, now)
        terms = {**terms, **{name: value for name, value in own.items() if name not in method.measures}}
    for method in methods:
        terms = method.change_sum(terms, now)
    return dict(terms)


def gradients(loss: Tensor, outputs: Outputs) -> dict[str, Tensor]:
    """Return the gradients of a loss in the outputs for each part; zero where there is none."""
    leaves = {f"logits of {role}": value for role, value in outputs.logits.items()}
    leaves |= {f"features of {role}": value for role, value in outputs.features.items()}
    leaves |= {f"{name} of {role}": value for name, rows in outputs.heads.items() for role, value in rows.items()}
    slopes = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, retain_graph=True)
    return {
        name: torch.zeros_like(leaf) if gradient is None else gradient
        for (name, leaf), gradient in zip(leaves.items(), slopes, strict=True)
    }


def belongs_to_rows(draw: Tensor, batch: Batch, *roles: str) -> bool:
    """Say whether a draw has one number for each row of a part of one of these roles, each of its own size."""
    return draw.ndim > 0 and len(draw) in [len(batch[role]) for role in roles if role in batch]


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Return a batch in which every tensor is changed."""

    def part(given: Part) -> Part:
        inputs = given.inputs
        return Part(
            {key: change(value) for key, value in inputs.items()}
            if isinstance(inputs, dict)
            else None
            if inputs is None
            else change(inputs),
            None if given.targets is None else change(given.targets),
            None if given.features is None else change(given.features),
        )

    return Batch(
        {role: part(given) for role, given in batch.parts.items()},
        {name: change(draw) for name, draw in batch.draws.items()},
        tuple((roles, {name: change(value) for name, value in more.items()}) for roles, more in batch.weights),
    )


def repeat_rows(part: Part, times: int) -> Part:
    """Repeat the rows of a part."""

    def tile(value: Tensor) -> Tensor:
        return torch.cat([value] * times)

    inputs, targets = part.inputs, None if part.targets is None else tile(part.targets)
    if part.features is not None:
        return Part(targets=targets, features=tile(part.features))
    return Part(
        {key: tile(value) for key, value in inputs.items()} if isinstance(inputs, dict) else tile(inputs), targets
    )


def equal_batches(a: Batch, b: Batch) -> bool:
    """Say whether two batches hold the same numbers, bit for bit."""

    def flat(batch: Batch) -> list[tuple[str, Tensor]]:
        values = [(f"draw {name}", value) for name, value in batch.draws.items()]
        values += [(f"weights {name}", value) for _, change in batch.weights for name, value in change.items()]
        for role, part in batch.parts.items():
            values += [(role, value) for value in tensors(part.inputs)] if part.inputs is not None else []
            values += [(f"{role} targets", part.targets)] if part.targets is not None else []
            values += [(f"{role} features", part.features)] if part.features is not None else []
        return values

    first, second = flat(a), flat(b)
    return [name for name, _ in first] == [name for name, _ in second] and all(
        torch.equal(x, y) for (_, x), (_, y) in zip(first, second, strict=True)
    )


def is_one_sentence(message: str) -> bool:
    """Say whether a message is one line and one sentence."""
    return re.fullmatch(r"\S[^\n]*[^.?][.?]", message) is not None and re.search(r"[.!?] [A-Z]", message) is None
