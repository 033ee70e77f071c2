"""What the engine adds to a step, counted in calls of Python functions, since a time would depend on the machine."""

import sys
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any

import pytest
import torch

from oodles import Classifier, LogitNorm, Method, Mixup, OutlierExposure, TrainingStep
from oodles import step as engine


def _calls(function: Callable[[], Any]) -> Counter[str]:
    """Count the calls of Python functions by name, in the third time round."""
    calls: Counter[str] = Counter()

    def count(frame: FrameType, event: str, argument: Any) -> None:
        if event == "call":
            calls[frame.f_code.co_name] += 1

    function()
    function()
    sys.setprofile(count)
    try:
        function()
    finally:
        sys.setprofile(None)
    return calls


def _training(*methods: Method) -> Callable[[], Any]:
    step = TrainingStep(Classifier(torch.nn.Linear(8, 16), torch.nn.Linear(16, 3)), *methods)
    batch, outliers = (torch.rand(6, 8), torch.arange(6) % 3), torch.rand(4, 8)
    return lambda: step(batch, outliers if any(method.needs for method in methods) else None)


@pytest.mark.parametrize(
    "methods, most",
    [((), 170), ((OutlierExposure(),), 232), ((Mixup(), LogitNorm()), 288)],
    ids=["plain", "outlier-exposure", "mixup + logit-norm"],
)
def test_a_step_makes_few_calls(methods: tuple[Method, ...], most: int) -> None:
    assert sum(_calls(_training(*methods)).values()) < most


def test_what_follows_from_the_methods_is_worked_out_only_when_others_act(monkeypatch: pytest.MonkeyPatch) -> None:
    mixup, exposure = Mixup(), OutlierExposure()
    train = _training(mixup, exposure, LogitNorm())
    worked_out: list[int] = []
    of = engine._Acting.of
    monkeypatch.setattr(
        engine._Acting, "of", lambda in_order, places: worked_out.append(len(places)) or of(in_order, places)
    )
    assert list(train()) == list(train()) == ["cross_entropy", "outlier_exposure"]
    assert worked_out == []
    exposure.weight = 0
    assert list(train()) == list(train()) == ["cross_entropy"]
    mixup.alpha = 0
    train(), train()
    exposure.weight = 0.5
    assert list(train()) == list(train()) == ["cross_entropy", "outlier_exposure"]
    assert worked_out == [2, 1, 2]
