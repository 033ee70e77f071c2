"""Rows on another device than the CPU: nothing waits for them, and nothing drawn on the CPU meets them unmoved."""

from typing import Any
from unittest.mock import patch

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from oodles import Batch, Method, Now, OutlierExposure, Part, TrainingStep

from .additions import NOBODY, Hardest
from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS
from .steps import map_tensors, total


class TwoDevices(TorchDispatchMode):
    """Refuses operations on tensors of both devices, but for copies and single numbers."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        tensors = [value for value in tree_leaves((args, kwargs or {})) if isinstance(value, Tensor)]
        devices = {value.device.type for value in tensors if value.ndim}
        copies = func in (torch.ops.aten.copy_.default, torch.ops.aten._to_copy.default)
        assert len(devices) < 2 or copies, f"{func} of tensors on {' and '.join(sorted(devices))}"
        return func(*args, **(kwargs or {}))


def away(value: Tensor) -> Tensor:
    """Return a tensor of the shape and type on a device that has no values: whoever reads one fails."""
    return torch.empty_like(value, device="meta")


def check_devices(methods: list[Method], kind: str) -> None:
    """Check a whole step, the second one, on a device whose values nobody can read."""
    step = TrainingStep(classifier(kind), *methods)
    total(step(batch(kind))).backward()
    step.after_update()
    step.zero_grad()
    for module in step.modules():
        for name, parameter in module._parameters.items():
            module._parameters[name] = None if parameter is None else nn.Parameter(away(parameter))
        for name, buffer in module._buffers.items():
            module._buffers[name] = None if buffer is None else away(buffer)
    autocast: Any = torch.autocast

    def on_the_cpu(device_type: str, **options: Any) -> Any:
        return autocast("cpu" if device_type == "meta" else device_type, **options)

    with patch("torch.autocast", on_the_cpu), TwoDevices():
        total(step(map_tensors(batch(kind, seed=1), away))).backward()
        step.after_update()


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_steps_on_another_device(name: str, kind: str) -> None:
    check_devices(ROWS[name].methods(), kind)


def test_a_choice_among_outliers_waits_for_nothing() -> None:
    check_devices([Hardest(keep=3), OutlierExposure()], "images")


class Unmoved(Method):
    """Weighs outliers by numbers that stay on the CPU."""

    name = "unmoved"
    paper = NOBODY
    needs = ("outliers",)
    replaces = ("outliers",)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        rows = batch["outliers"].rows
        return batch.with_part("outliers", Part(rows * torch.rand(len(rows), 1, generator=now.generator)))


class Waiting(Unmoved):
    """Scales outliers by the largest number of theirs, which it reads."""

    name = "waiting"

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        rows = batch["outliers"].rows
        return batch.with_part("outliers", Part(rows / float(rows.amax())))


@pytest.mark.parametrize(
    "method, says", [(Unmoved(), "of tensors on cpu and meta"), (Waiting(), "cannot be called on meta tensors")]
)
def test_those_that_mix_devices_or_wait_are_rejected(method: Method, says: str) -> None:
    with pytest.raises((AssertionError, RuntimeError), match=says):
        check_devices([method, OutlierExposure()], "vectors")


@pytest.mark.parametrize("places", [[2, 0], [], [1, 1, 3]])
def test_rows_are_taken_by_places_on_the_cpu(places: list[int]) -> None:
    part = Part(away(torch.rand(4, 3)), away(torch.arange(4)), valid=away(torch.ones(4, dtype=torch.bool)))
    with TwoDevices():
        taken = part.take(torch.tensor(places, dtype=torch.int64))
    assert taken.rows.shape == (len(places), 3) and taken.rows.device.type == "meta"
    assert taken.valid is not None and len(taken.labels) == len(taken.valid) == len(places)
