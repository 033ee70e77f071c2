"""A training step on a GPU; shown without one, too, where tensors without values stand for those on it."""

import copy
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from oodles import Classifier, TrainingStep
from oodles.data.augment import Augment
from oodles.data.image_set import ImageSet, Resident
from oodles.methods import METHODS, build_methods

from ..contract.rows import ROWS

GPU = torch.device("meta")
NUMBERS = np.random.default_rng(0)
SETTINGS: dict[str, Any] = {"cross-entropy": {"label_smoothing": 0.1}}
OTHERS: dict[str, Any] = {"mixup": {"per_sample": True}, "cutmix": {"per_sample": True}}


class NoWaiting(TorchDispatchMode):
    """Refuses operations on tensors of both devices, and copies for which the CPU would wait.

    Reading a value of a tensor without values is an error by itself.
    """

    def __torch_dispatch__(self, op: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        values = tree_leaves((args, kwargs or {}))
        devices = {value.device.type for value in values if isinstance(value, Tensor) and value.ndim}
        result = op(*args, **(kwargs or {}))
        if op in (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default):
            moved = devices | {result.device.type}
            assert len(moved) == 1 or any(value is True for value in values), f"{op} waits for {sorted(moved)}"
        else:
            assert len(devices) < 2, f"{op} takes tensors of {sorted(devices)}"
        return result


def _images(augment: Augment, rows: int = 9) -> ImageSet:
    pixels = NUMBERS.integers(0, 256, (rows, 3, 8, 8), dtype=np.uint8)
    return ImageSet(pixels, np.arange(rows) % 4, augment)


@pytest.mark.parametrize("augment", [Augment(), Augment(shift=2, flip=True)], ids=["as they are", "augmented"])
def test_batches_of_resident_images_are_made_on_the_device(augment: Augment) -> None:
    resident = Resident(_images(augment), GPU)
    with NoWaiting():
        images, labels = resident.batch(np.array([0, 0, 1]), np.array([7, 8, 0]))
    assert (images.device, images.dtype, images.shape) == (GPU, torch.float32, (3, 3, 8, 8))
    assert (labels.device, labels.dtype, labels.shape) == (GPU, torch.int64, (3,))


EVERY = [*((name, SETTINGS.get(name, {})) for name in METHODS), *OTHERS.items()]


def _step(name: str, settings: dict[str, Any]) -> TrainingStep:
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.ReLU(), torch.nn.Flatten()]
    classifier = Classifier(torch.nn.Sequential(*layers), torch.nn.Linear(144, 4))
    chosen = [(name, settings), *((other, dict(ROWS[other].settings)) for other in ROWS[name].beside)]
    methods = build_methods(chosen, teacher=Classifier(torch.nn.Flatten(), torch.nn.Linear(192, 4)))
    return TrainingStep(classifier, *methods)


@pytest.mark.parametrize("name, settings", EVERY)
def test_a_step_stays_on_the_device(name: str, settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "autocast", lambda *_, **__: nullcontext())  # which the stand-in has not
    step = _step(name, settings).to(GPU)
    known, unknown = (torch.rand(rows, 3, 8, 8, device=GPU) for rows in (6, 10))
    with NoWaiting():
        terms = step((known, torch.zeros(6, dtype=torch.int64, device=GPU)), outliers=unknown, wild=unknown)
        torch.stack(list(terms.values())).sum().backward()
    for term, value in terms.items():
        assert (value.device, value.dtype, value.shape) == (GPU, torch.float32, ()), term
    for parameter, value in step.named_parameters():
        if parameter.startswith("classifier.heads.hopfield.projection."):
            assert not value.requires_grad, "it stays as drawn"
        else:
            assert value.grad is not None and value.grad.device == GPU, parameter


@contextmanager
def _without_waiting() -> Iterator[None]:
    """Make CUDA refuse whatever the host would wait for."""
    torch.cuda.synchronize()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that this mode is new
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.gpu
@pytest.mark.parametrize("half", [False, True], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("name, settings", EVERY)
def test_a_real_gpu_is_not_waited_for(name: str, settings: dict[str, Any], half: bool) -> None:
    step = _step(name, settings).cuda()
    batch = torch.rand(6, 3, 8, 8, device="cuda"), torch.zeros(6, dtype=torch.int64, device="cuda")
    outliers = torch.rand(10, 3, 8, 8, device="cuda")

    def train() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=half):
            terms = step(batch, outliers=outliers)
        torch.stack(list(terms.values())).sum().backward()
        step.after_update()

    train()  # the first batch is read, to look at its labels
    with _without_waiting():
        train()


@pytest.mark.gpu
@pytest.mark.parametrize("name, settings", EVERY)
def test_a_gpu_gives_the_terms_of_a_cpu(name: str, settings: dict[str, Any]) -> None:
    torch.manual_seed(0)
    here = _step(name, settings)
    there = copy.deepcopy(here).cuda()
    inputs, labels, outliers = torch.rand(6, 3, 8, 8), torch.arange(6) % 4, torch.rand(10, 3, 8, 8)
    expected = here((inputs, labels), outliers=outliers)
    found = there((inputs.cuda(), labels.cuda()), outliers=outliers.cuda())
    assert list(found) == list(expected)
    for term, value in expected.items():
        torch.testing.assert_close(found[term].cpu(), value, rtol=1e-3, atol=1e-4)
