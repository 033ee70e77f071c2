"""Property 5: strength zero switches off, bit for bit."""

import pytest
import torch
from torch import Tensor

from oodles import EnergyRegularizedLoss, Mixup, OutlierExposure, OutlierExposureLoss, Part, TrainingStep
from oodles.facts import ROLES

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import total


def _train(kind: str, *methods, outliers: bool) -> tuple[dict[str, Tensor], list[set[str]], TrainingStep]:  # type: ignore[no-untyped-def]
    """Train a network with batch norm and dropout for a few steps, with ``outliers`` and wild rows or without."""
    step = TrainingStep(classifier(kind, noisy=True).train(), *methods, seed=3)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3)
    names = []
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for index in range(4):
            given = batch(kind, seed=10 * index)
            pair = (given["id"].inputs, given["id"].targets)
            terms = step(pair, **{role: given[role].inputs for role in ROLES if outliers})
            names.append(set(terms))
            optimizer.zero_grad()
            total(terms).backward()
            optimizer.step()
    return step.classifier.state_dict(), names, step


def check_strength_zero(row: Row, kind: str) -> None:
    """Check that at strength zero terms, weights and statistics are those of plain training."""
    if row.cls.strength is None:
        assert row.no_strength, "a method without a strength says why, in its row"
        assert row.make().active
        return
    assert not row.no_strength
    off, beside = row.off(), row.methods()[1:]
    assert not off.active and row.make().active, "active, unless its strength is zero"
    given = batch(kind)
    prepared = TrainingStep(classifier(kind), off).prepare(given)
    assert prepared.parts.keys() == given.parts.keys() and not prepared.draws, "off, yet it adds something"
    for role, part in given.parts.items():
        assert prepared[role].inputs is part.inputs, "off, it hands on the very same tensors"
        assert prepared[role].targets is part.targets, "off, it hands on the very same tensors"
    expected, expected_names, _ = _train(kind, *beside, outliers=bool(beside))
    for outliers in {bool(beside), True}:
        weights, names, step = _train(kind, off, *beside, outliers=outliers)
        assert names == expected_names, "off, it leaves its terms out"
        assert step.steps == 4
        for name, value in expected.items():
            assert torch.equal(weights[name], value), f"{name} differs from plain training"
    active, *_ = _train(kind, *row.methods(), outliers=True)
    assert any(not torch.equal(active[name], value) for name, value in expected.items()), "no effect at all"


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_strength_zero_is_plain_training(name: str, kind: str) -> None:
    check_strength_zero(ROWS[name], kind)


def test_alpha_zero_of_regmixup_repeats_the_clean_rows() -> None:
    given = batch("images")
    prepared = TrainingStep(classifier("images"), ROWS["regmixup"].make(alpha=0)).prepare(given)
    assert prepared["mixed"].inputs is given["id"].inputs and prepared["mixed"].targets is given["id"].targets


@pytest.mark.parametrize("piece", [OutlierExposureLoss(lambda_oe=0), EnergyRegularizedLoss(lambda_energy=0)])
def test_zero_times_infinity_is_left_out(piece: torch.nn.Module) -> None:
    logits, targets = torch.randn(4, 3), torch.tensor([0, 1, 2, 0])
    overflown = torch.tensor([[float("inf"), 1.0, 2.0], [float("nan"), 0.0, 0.0]])
    assert torch.equal(piece(logits, targets, overflown), torch.nn.functional.cross_entropy(logits, targets))


def test_a_method_without_a_role_for_outliers_never_forwards_them() -> None:
    given = batch("images")
    step = TrainingStep(classifier("images"), OutlierExposure(weight=0), Mixup(alpha=0))
    broken = Part(torch.full((4, 2, 8, 8), float("nan")))
    assert step(given.with_part("outliers", broken))["cross_entropy"].isfinite()
