"""Deep copies, and saving and loading: nothing is shared, nothing is lost."""

import copy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from oodles import TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import total


def _train(step: TrainingStep, kind: str, seeds: range) -> list[float]:
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1)
    losses = []
    with torch.random.fork_rng(devices=[]):
        for seed in seeds:
            torch.manual_seed(seed)  # dropout
            loss = total(step(batch(kind, seed=seed)))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return losses


def check_state(row: Row, kind: str) -> None:
    """Check that a state dictionary holds all that later steps depend on: a fresh step resumes exactly."""
    step = TrainingStep(classifier(kind, noisy=True).train(), *row.methods(), seed=2)
    _train(step, kind, range(3))
    state = {name: value.clone() for name, value in step.state_dict().items()}
    assert all(isinstance(value, Tensor) for value in step.state_dict().values())
    copied = copy.deepcopy(step)
    fresh = TrainingStep(classifier(kind, noisy=True, seed=5).train(), *row.methods(), seed=2)
    fresh.load_state_dict(state)
    assert fresh.steps == copied.steps == 3
    expected = _train(step, kind, range(3, 6))
    assert all(torch.equal(copied.state_dict()[name], value) for name, value in state.items()), (
        "the copy shares tensors"
    )
    assert _train(fresh, kind, range(3, 6)) == expected, "loaded"
    assert _train(copied, kind, range(3, 6)) == expected, "copied"
    for name, value in step.state_dict().items():
        assert torch.equal(fresh.state_dict()[name], value), name
        assert torch.equal(copied.state_dict()[name], value), name


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_a_fresh_step_goes_on_where_another_was_saved(name: str, kind: str) -> None:
    check_state(ROWS[name], kind)


@pytest.mark.parametrize("name", ROWS)
def test_states_are_saved_and_read_without_unpickling_code(name: str, tmp_path: Path) -> None:
    row = ROWS[name]
    step = TrainingStep(classifier(row.kinds[0]), *row.methods())
    step(batch(row.kinds[0]))
    torch.save(step.state_dict(), tmp_path / "state.pt")
    fresh = TrainingStep(classifier(row.kinds[0], seed=9), *row.methods())
    fresh.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    assert fresh.steps == 1


@pytest.mark.parametrize("name", ROWS)
def test_methods_are_copied_alone(name: str) -> None:
    method = ROWS[name].make()
    copied = copy.deepcopy(method)
    assert type(copied) is type(method)
    assert {key: getattr(copied, key) for key in ROWS[name].defaults} == {
        key: getattr(method, key) for key in ROWS[name].defaults
    }
