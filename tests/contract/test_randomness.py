"""Property 7: randomness is a function of (seed, step, rank). Ranks: tests/distributed."""

import copy
import inspect
import random

import numpy as np
import pytest
import torch

import oodles
from oodles import Batch, CutMix, Mixup, RegMixup, TrainingStep, mixup_data

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import equal_batches


def _seed_everything(seed: int) -> None:
    torch.manual_seed(seed), np.random.seed(seed), random.seed(seed)


def check_randomness(row: Row, kind: str) -> None:
    """Check that the n-th prepared batch depends on the seed and n, not on global state, history or other steps."""
    given = batch(kind)

    def fresh(seed: int = 7) -> TrainingStep:
        return TrainingStep(classifier(kind), *row.methods(), seed=seed)

    with torch.random.fork_rng(devices=[]):
        states = random.getstate(), np.random.get_state()
        _seed_everything(1)
        step = fresh()
        batches: list[Batch] = [step.prepare(given) for _ in range(4)]
        _seed_everything(2)
        again = fresh()
        for expected in batches:
            torch.rand(3)
            assert equal_batches(again.prepare(given), expected), "another global state, other numbers"
        random.setstate(states[0]), np.random.set_state(states[1])

    late = fresh()
    late.steps = 2
    assert equal_batches(late.prepare(given), batches[2]), "a skipped batch needs no replay"

    other_data = fresh()
    for seed in (5, 6):
        other_data.prepare(batch(kind, seed=seed))
    assert equal_batches(other_data.prepare(given), batches[2]), "earlier data have no influence"

    resumed = fresh()
    saved = fresh()
    saved.prepare(given), saved.prepare(given), saved.prepare(given)
    resumed.load_state_dict(saved.state_dict())
    assert equal_batches(resumed.prepare(given), batches[3]), "resumed"
    assert equal_batches(copy.deepcopy(saved).prepare(given), batches[3]), "copied"

    varies = not equal_batches(batches[0], batches[1])
    assert varies == row.draws(kind), "the row says whether a method draws numbers"
    assert (not equal_batches(fresh(seed=8).prepare(given), batches[0])) == row.draws(kind), (
        "another seed, other numbers"
    )


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_batches_depend_on_seed_and_step_alone(name: str, kind: str) -> None:
    check_randomness(ROWS[name], kind)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("cls", [Mixup, CutMix, RegMixup])
def test_mixers_draw_from_the_generator_they_are_given(cls: type, per_sample: bool) -> None:
    mixer = cls(alpha=1.0, per_sample=per_sample)
    x, y = torch.rand(6, 2, 8, 8), torch.arange(6)
    state = torch.get_rng_state()
    first, second, other = (mixer(x, y, generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0], second[0]) and torch.equal(first[2], second[2])
    assert not torch.equal(first[0], other[0])


def test_every_public_function_that_draws_takes_a_generator() -> None:
    takes = [
        name
        for name in oodles.__all__
        if inspect.isfunction(value := getattr(oodles, name)) and "generator" in inspect.signature(value).parameters
    ]
    assert "mixup_data" in takes
    for name in takes:
        parameter = inspect.signature(getattr(oodles, name)).parameters["generator"]
        assert parameter.default is None and parameter.kind is parameter.KEYWORD_ONLY, name


@pytest.mark.parametrize("piece", [mixup_data, CutMix(), Mixup(per_sample=True), CutMix(per_sample=True)])
def test_torch_seed_alone_reproduces_a_standalone_call(piece) -> None:  # type: ignore[no-untyped-def]
    x, y = torch.rand(6, 2, 8, 8), torch.arange(6)
    results = []
    for numpy_seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(11)
            np.random.seed(numpy_seed)
            results.append(piece(x, y))
    for a, b in zip(*results, strict=True):
        assert torch.equal(torch.as_tensor(a), torch.as_tensor(b))


def test_a_generator_is_there_before_the_forward_only() -> None:
    now = oodles.Now(classifier("vectors"))
    with pytest.raises(RuntimeError, match="Random numbers are drawn in change_batch"):
        _ = now.generator
