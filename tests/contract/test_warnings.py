"""A step says once that a term outweighs the cross-entropy, and says it where it costs nothing."""

import warnings

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, EnergyBounded, OutlierExposure, TrainingStep, TrainingWarning
from oodles.remarks import hear, warn

from .steps import is_one_sentence


def step_of(*methods: nn.Module, **options: int) -> TrainingStep:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return TrainingStep(Classifier(nn.Flatten(), nn.Linear(16, 3)), *methods, **options)  # type: ignore[arg-type]


def rows(seed: int = 0) -> tuple[tuple[Tensor, Tensor], Tensor]:
    random = torch.Generator().manual_seed(seed)
    return (torch.rand(8, 16, generator=random), torch.arange(8) % 3), torch.rand(4, 16, generator=random)


def said_by(step: nn.Module, steps: int = 3) -> list[str]:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for seed in range(steps):
            known, unknown = rows(seed)
            step(known, outliers=unknown)
    assert all(warning.category is TrainingWarning for warning in said)
    return [str(warning.message) for warning in said]


@pytest.mark.parametrize("weight, warns", [(0.5, False), (30.0, False), (60.0, True), (1e6, True)])
def test_a_term_of_more_than_fifty_cross_entropies_is_said_once(weight: float, warns: bool) -> None:
    found = said_by(step_of(OutlierExposure(weight=weight)))
    assert len(found) == warns
    if warns:
        assert found[0].startswith("The term 'outlier_exposure' was more than 50 times the cross-entropy in the first")
        assert found[0].endswith("lower its weight.") and is_one_sentence(found[0])


def test_settings_that_can_be_measured_are_named() -> None:
    (found,) = said_by(step_of(EnergyBounded(margin_in=-60.0)))
    assert found.endswith("lower its weight, or measure its settings with EnergyBounded.suggest.")


def test_later_steps_are_not_looked_at() -> None:
    step = step_of(OutlierExposure(weight=1e6))
    step.steps = 20
    assert said_by(step) == []
    step.steps = 19
    assert len(said_by(step)) == 1


def test_a_compiled_step_stays_one_graph_and_warns() -> None:
    step = step_of(OutlierExposure(weight=1e6))
    step.compile(backend="eager")
    assert len(said_by(step)) == 1
    whole = torch.compile(step_of(OutlierExposure(weight=1e6)), backend="eager")
    said_by(whole)


def test_what_is_said_is_heard_whatever_is_shown() -> None:
    with hear() as outer, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warn("One.")
        with hear() as inner:
            warn("Two.")
        warn("One.")
    assert (outer, inner) == (["One."], ["Two."])
    with pytest.warns(TrainingWarning, match="Three"):
        warn("Three.")
    assert outer == ["One."]
