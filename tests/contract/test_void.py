"""Void rows and pixels leave every term: the terms are those of the others, and nothing depends on what is void."""

from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oodles import Batch, EnergyBounded, Method, Mixup, Now, OutlierExposure, Outputs, Part, RegMixup, TrainingStep
from oodles.facts import order

from .networks import CLASSES, batch, classifier, inputs, labels, probabilities
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import equal_batches, is_one_sentence, terms_of, total

VOID = 255


def mask(kind: str, rows: int, *, seed: int = 0) -> Tensor:
    """Draw which rows or pixels count: about two thirds, and in a row or picture of its own none."""
    shape = (rows, 8, 8) if kind == "dense" else (rows,)
    counts = torch.rand(shape, generator=torch.Generator().manual_seed(seed + 7)) < 0.7
    counts[1] = False
    counts[0].fill_(True) if kind != "dense" else counts[0, 0].fill_(True)
    return counts


def void_batch(kind: str, *, soft: bool = False, garbage: int = 0) -> Batch:
    """Draw a batch with void rows or pixels in both parts; their labels are garbage."""
    given = batch(kind, dtype=torch.float64)
    valid, chosen = mask(kind, len(given["id"])), mask(kind, len(given["outliers"]), seed=1)
    if soft:
        targets = probabilities(kind, len(valid))
        targets = torch.where(valid.unsqueeze(1), targets, float("nan") if garbage else 0.0)
    else:
        targets = torch.where(valid, labels(kind, len(valid)), garbage)
    known = Part(given["id"].inputs, targets, valid=valid)
    return Batch({"id": known, "outliers": Part(given["outliers"].inputs, valid=chosen)})


def dropped(values: Tensor, counts: Tensor | None) -> Tensor:
    """Drop what is void by boolean indexing."""
    if counts is None:
        return values
    return values[counts] if counts.ndim == 1 else values.movedim(1, -1)[counts]


def naive_terms(step: TrainingStep, prepared: Batch) -> Mapping[str, Tensor]:
    """Compute the terms of the rows or pixels that count, each part's chosen by boolean indexing after the forward."""
    methods = [method for method in step.methods if isinstance(method, Method)]
    views = {role for method in methods for role in method.views}
    whole = step._forward(replace(prepared, places={}), methods)
    counts = {role: prepared["id" if role in views else role].valid for role in whole.logits}

    def left(by_role: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {role: dropped(value, counts[role]) for role, value in by_role.items()}

    parts = dict(prepared.parts)
    for role, part in parts.items():
        if part.targets is not None and part.valid is not None:
            ids = not part.targets.is_floating_point()
            parts[role] = replace(part, targets=part.targets[part.valid] if ids else dropped(part.targets, part.valid))
    draws, valid = dict(prepared.draws), prepared["id"].valid
    for name, draw in draws.items():
        if draw.ndim == 1 and len(draw) == len(valid):
            draws[name] = draw.reshape(-1, *[1] * (valid.ndim - 1)).expand(valid.shape)[valid]
    outputs = Outputs(
        left(whole.features), left(whole.logits), {name: left(by_role) for name, by_role in whole.heads.items()}
    )
    return terms_of(step, Batch(parts, draws), outputs)


def check_void(row: Row, kind: str, *, soft: bool = False) -> None:
    """Check that terms and gradients are those of the rows or pixels that count."""
    step = TrainingStep(classifier(kind, dtype=torch.float64), row.make())
    prepared = step.prepare(void_batch(kind, soft=soft))
    terms, expected = step.losses(prepared), naive_terms(step, prepared)
    assert terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(terms[name], value, rtol=1e-10, atol=1e-12, msg=name)
    parameters = [parameter for parameter in step.parameters() if parameter.requires_grad]
    slopes = torch.autograd.grad(total(terms), parameters, allow_unused=True)
    for slope, other in zip(slopes, torch.autograd.grad(total(expected), parameters, allow_unused=True), strict=True):
        assert (slope is None) == (other is None)
        if slope is not None:
            torch.testing.assert_close(slope, other, rtol=1e-9, atol=1e-11)


def check_void_labels_matter_nowhere(row: Row, kind: str) -> None:
    """Check that what a method makes is the same, where it counts, whatever stands in the place of void labels."""
    made = []
    for garbage in (0, 3):
        given, net, method = void_batch(kind, garbage=garbage), classifier(kind, dtype=torch.float64), row.make()
        TrainingStep(net, method)
        made.append(method.change_batch(given, Now(net, step=0, epoch=0, epochs=1, seed=(0,), name=method.name)))
    for role, part in made[0].parts.items():
        other = made[1][role]
        assert (part.valid is None) == (other.valid is None)
        assert part.valid is None or torch.equal(part.valid, other.valid)
        if part.targets is not None:
            assert part.valid is not None, f"{role} has targets of void rows or pixels"
            ids = not part.targets.is_floating_point()
            for a, b in [(part.targets, other.targets)]:
                assert torch.equal(*(t[part.valid] if ids else dropped(t, part.valid) for t in (a, b))), role
        if isinstance(part.inputs, Tensor):
            rows = slice(None) if part.valid is None or part.valid.ndim > 1 else part.valid
            assert torch.equal(part.inputs[rows], other.inputs[rows]), role


def check_all_void(row: Row, kind: str) -> None:
    """Check that a batch of which nothing counts gives finite terms with a graph, and no gradient becomes NaN."""
    given = void_batch(kind)
    nothing = {role: replace(part, valid=torch.zeros_like(part.valid)) for role, part in given.parts.items()}
    step = TrainingStep(classifier(kind, dtype=torch.float64), row.make())
    terms = step(Batch(nothing))
    for name, value in terms.items():
        assert value.isfinite() and value.requires_grad, name
    assert terms.get("cross_entropy", torch.zeros(())).item() == 0
    total(terms).backward()
    for name, parameter in step.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


def check_nothing_void(row: Row, kind: str) -> None:
    """Check that where all counts, terms and gradients are those of a step without ``ignore_index``, bit for bit."""
    given = batch(kind)
    everything = torch.ones(len(given["outliers"]), *((8, 8) if kind == "dense" else ()), dtype=torch.bool)
    found = []
    for index, outliers in ((None, given["outliers"]), (VOID, replace(given["outliers"], valid=everything))):
        step = TrainingStep(classifier(kind), row.make(), ignore_index=index)
        prepared = step.prepare(given.with_part("outliers", outliers))
        assert not prepared.places
        terms = step.losses(prepared)
        total(terms).backward()
        found.append([*terms.values(), *(p.grad for p in step.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) and all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("soft", [False, True], ids=["ids", "soft"])
@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_terms_are_those_of_what_counts(name: str, kind: str, soft: bool) -> None:
    check_void(ROWS[name], kind, soft=soft)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_void_labels_matter_nowhere(name: str, kind: str) -> None:
    check_void_labels_matter_nowhere(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_batch_of_which_nothing_counts(name: str, kind: str) -> None:
    check_all_void(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_batch_of_which_all_counts(name: str, kind: str) -> None:
    check_nothing_void(ROWS[name], kind)
