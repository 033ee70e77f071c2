"""Properties 6 and 16: nothing that the caller owns is changed, and inputs stay in [0, 1]."""

import random
from typing import Any

import numpy as np
import pytest
import torch

from oodles import Batch, Method, Part, TrainingStep, frozen

from .networks import batch, classifier, inputs, labels, probabilities, tensors
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import is_one_sentence, total


def surroundings() -> dict[str, Any]:
    """Return the global state that a step must leave as it is."""
    numpy_state = np.random.get_state()
    assert isinstance(numpy_state, tuple)
    return {
        "torch's random numbers": torch.get_rng_state().tolist(),
        "NumPy's random numbers": (numpy_state[1].tolist(), *numpy_state[2:]),
        "Python's random numbers": random.getstate(),
        "grad mode": torch.is_grad_enabled(),
        "inference mode": torch.is_inference_mode_enabled(),
        "autocast": (torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")),
        "autocast cache": torch.is_autocast_cache_enabled(),
        "default dtype": torch.get_default_dtype(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
    }


def check_owns_nothing(row: Row, kind: str) -> None:
    """Check that a step leaves inputs, targets, the batch, weights, modes and global state as they were."""
    for targets in (labels(kind, 6), probabilities(kind, 6).float()):
        given = batch(kind)
        given = given.with_part("id", Part(given["id"].inputs, targets))
        net = classifier(kind, noisy=True).train()
        for module in net.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0  # dropout itself draws global numbers
            if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
                module.eval()  # as people freeze it
        step = TrainingStep(net, *row.methods())
        handed_over = [tensor for part in given.parts.values() for tensor in tensors(part.inputs)] + [targets]
        owned = [*handed_over, *net.parameters(), *net.buffers()]
        copies, versions = [tensor.detach().clone() for tensor in owned], [tensor._version for tensor in owned]
        parts, modes = dict(given.parts), [module.training for module in step.modules()]
        before = surroundings()
        total(step(given)).backward()
        for name, value in surroundings().items():
            assert before[name] == value, f"{name} changed"
        assert [module.training for module in step.modules()] == modes, "a mode changed"
        assert not given.draws and given.parts.keys() == parts.keys(), "the batch changed"
        assert all(given[role] is part for role, part in parts.items()), "the batch changed"
        for tensor, copy, version in zip(owned, copies, versions, strict=True):
            assert torch.equal(tensor, copy) and tensor._version == version, "written in place"
        assert not any(tensor.requires_grad for tensor in handed_over), "an input began to require gradients"


def check_unit_range(row: Row, kind: str) -> None:
    """Check that prepared inputs stay in [0, 1]: only the classifier normalises."""
    for seed in range(5):
        step = TrainingStep(classifier(kind), *row.methods(), seed=seed)
        given = batch(kind, seed=seed)
        extremes = inputs(kind, 6, seed=seed)
        if isinstance(extremes, torch.Tensor):
            given = given.with_part("id", Part(extremes.round(), given["id"].targets))
        for role, part in step.prepare(given).parts.items():
            for tensor in tensors(part.inputs) if part.features is None else ():
                if tensor.is_floating_point() and not (row.beyond and role in row.cls.adds):
                    assert tensor.min() >= 0 and tensor.max() <= 1, f"{role} leaves [0, 1]"


@pytest.mark.parametrize("name", ["pixmix", "augmix", "ceda", "acet", "ascood"])
def test_images_outside_of_the_unit_range_are_refused_where_it_matters(name: str) -> None:
    given = batch("images")
    pixels = given["id"].inputs
    assert isinstance(pixels, torch.Tensor)
    with pytest.raises(ValueError, match=rf"{name} needs images in \[0, 1\], got .* to 2: let Normalize") as refusal:
        TrainingStep(classifier("images"), *ROWS[name].methods())(
            given.with_part("id", Part(4 * pixels.clamp(0.25, 0.5), given["id"].targets))
        )
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_nothing_the_caller_owns_changes(name: str, kind: str) -> None:
    check_owns_nothing(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_inputs_stay_in_the_unit_range(name: str, kind: str) -> None:
    check_unit_range(ROWS[name], kind)


@pytest.mark.parametrize("name", ROWS)
def test_tensors_that_share_memory_or_repeat_are_left_alone(name: str) -> None:
    row, base = ROWS[name], torch.rand(1, 2, 8, 8)
    views = base.expand(6, 2, 8, 8)  # a write would show in every row
    before = base.clone()
    TrainingStep(classifier("images"), *row.methods())((views, labels("images", 6)), outliers=views, wild=views)
    assert torch.equal(base, before)


class Raises(Method):
    """Fails at one moment, while the classifier is frozen."""

    name = "raises"
    terms = ("raises",)

    def __init__(self, moment: str):
        super().__init__()
        self.moment = moment

    def _maybe(self, moment: str, now: Any) -> None:
        if moment == self.moment:
            with now.frozen():
                assert not any(module.training for module in now.classifier.modules())
                raise KeyError("inside")

    def change_batch(self, batch, now):  # type: ignore[no-untyped-def]
        self._maybe("change_batch", now)
        return batch

    def change_outputs(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self._maybe("change_outputs", now)
        return outputs

    def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
        self._maybe("loss_terms", now)
        return {}


@pytest.mark.parametrize("moment", ["change_batch", "change_outputs", "loss_terms"])
def test_an_exception_leaves_modes_and_global_state_as_they_were(moment: str) -> None:
    net = classifier("images", noisy=True).train()
    norm, dropout = net.backbone[1], net.backbone[2]
    norm.eval()
    dropout.p = 0.0
    step = TrainingStep(net, ROWS["mixup"].make(), Raises(moment))
    before, modes = surroundings(), [module.training for module in step.modules()]
    with pytest.raises(KeyError, match="inside"):
        step(batch("images"))
    assert surroundings() == before
    assert [module.training for module in step.modules()] == modes
    assert not norm.training and dropout.training
    assert step.steps == (0 if moment == "change_batch" else 1), "a batch that was not prepared does not count"


def test_frozen_passes_leave_statistics_alone() -> None:
    net = classifier("images", noisy=True).train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    with frozen(net):
        net(torch.rand(4, 2, 8, 8))
    assert before and all(torch.equal(net.get_buffer(name), value) for name, value in before.items())
    assert all(module.training for module in net.modules())


def test_frozen_inside_frozen_gives_back_each_mode() -> None:
    net = classifier("images", noisy=True).train()
    net.backbone[1].eval()
    with frozen(net), frozen(net):
        assert not any(module.training for module in net.modules())
    assert [module.training for module in net.backbone[:3]] == [True, False, True]


def test_a_batch_that_gains_a_part_leaves_the_first_one_as_it_was() -> None:
    given = Batch({"id": Part(torch.rand(2, 3), torch.tensor([0, 1]))})
    more = given.with_part("mixed", given["id"]).with_draws(noise=torch.rand(2))
    assert set(given.parts) == {"id"} and not given.draws
    assert set(more.parts) == {"id", "mixed"} and set(more.draws) == {"noise"}
