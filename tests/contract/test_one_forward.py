"""Property 1: one forward pass over the parts that are read, ``id`` first."""

import pytest
import torch
from torch import Tensor

from oodles import Batch, Classifier, Method, OutlierExposure, Part, RegMixup, TrainingStep

from .networks import batch, classifier, inputs, tensors
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import pass_of, roles_in_order, total


class Calls:
    """What a classifier's halves were called with."""

    def __init__(self, classifier: Classifier):
        self.backbone: list[Tensor] = []
        self.head: list[Tensor] = []

        def seen_by_backbone(module: object, args: tuple[Tensor, ...], kwargs: dict[str, Tensor]) -> None:
            self.backbone.append(kwargs["ids"] if kwargs else args[0])

        classifier.backbone.register_forward_pre_hook(seen_by_backbone, with_kwargs=True)
        classifier.head.register_forward_pre_hook(lambda module, args: self.head.append(args[0]))


def first(part: Part) -> Tensor:
    return part.inputs["ids"] if isinstance(part.inputs, dict) else part.inputs


def check_one_forward(row: Row, kind: str) -> None:
    methods, given = row.methods(), batch(kind)
    unread = Part(inputs(kind, 3, seed=9))
    mixed_up = Batch({"unread": unread, **{role: given[role] for role in ("wild", "outliers", "id")}})
    net = classifier(kind)
    step = TrainingStep(net, *methods)
    calls = Calls(net)
    prepared = step.prepare(mixed_up)
    assert bool(calls.backbone) == bool(row.forwards), "an extra forward pass while the batch is prepared"
    roles = [role for role in roles_in_order(prepared, methods) if prepared[role].features is None]
    apart = {role for method in methods for role in method.separate}
    tested = {role for method in methods for role in method.as_tested}
    together = [role for role in roles if role not in apart | tested]
    passes = {pass_of(prepared, role) for role in together}  # all rows with either weights, as batch norm sees them
    expected = [torch.cat([first(prepared[role]) for role in together])] * len(passes)
    expected += [first(prepared[role]) for role in roles if role in apart]
    expected += [torch.cat([first(prepared[role]) for role in roles if role in tested])] if tested else []
    for _ in range(2):
        calls.backbone.clear(), calls.head.clear()
        step.losses(prepared)
        assert len(calls.backbone) == len(expected), "one forward pass, or one more per declared part"
        for forwarded, rows in zip(calls.backbone, expected, strict=True):
            assert torch.equal(forwarded, rows), "the parts that are read, id first"


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_parts_that_are_read_share_one_forward(name: str, kind: str) -> None:
    check_one_forward(ROWS[name], kind)


def test_the_same_batch_norm_statistics_as_one_concatenated_forward() -> None:
    given = batch("images")
    step = TrainingStep(classifier("images", noisy=True).train(), OutlierExposure())
    for module in step.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    step(given)
    alone = classifier("images", noisy=True).train()
    alone.backbone(torch.cat([*tensors(given["id"].inputs), *tensors(given["outliers"].inputs)]))
    for name, buffer in alone.named_buffers():
        assert torch.equal(buffer, step.classifier.get_buffer(name)), name


@pytest.mark.parametrize("kind", ["images", "tokens"])
def test_a_part_of_another_shape_has_its_own_forward(kind: str) -> None:
    given = batch(kind)
    if kind == "images":
        other = Part(torch.rand(5, 2, 10, 10))
    else:
        other = Part({"ids": torch.zeros(5, 9, dtype=torch.long), "mask": torch.ones(5, 9, dtype=torch.bool)})
    net = classifier(kind)
    calls = Calls(net)
    terms = TrainingStep(net, OutlierExposure())(given.with_part("outliers", other))
    assert [len(rows) for rows in calls.backbone] == [len(given["id"]), 5]
    expected = OutlierExposure()(net(other.inputs))
    assert terms["outlier_exposure"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_a_part_declared_separate_has_its_own_forward() -> None:
    class Apart(OutlierExposure):
        separate = ("outliers",)

    given, net = batch("images"), classifier("images")
    calls = Calls(net)
    TrainingStep(net, Apart())(given)
    assert [len(rows) for rows in calls.backbone] == [6, 10]
    assert torch.equal(calls.backbone[0], first(given["id"]))


def test_what_one_method_adds_the_next_one_sees_in_the_same_forward() -> None:
    given, net = batch("images"), classifier("images")
    calls = Calls(net)
    TrainingStep(net, RegMixup(), OutlierExposure())(given)
    assert [len(rows) for rows in calls.backbone] == [6 + 10 + 6]


def test_the_step_is_one_module_that_covers_what_methods_own() -> None:
    class WithHead(Method):
        name = "with-head"
        terms = ("of_head",)

        def __init__(self) -> None:
            super().__init__()
            self.extra = torch.nn.Linear(7, 1)
            self.register_buffer("queue", torch.arange(3.0))

        def loss_terms(self, outputs, batch, now):  # type: ignore[no-untyped-def]
            return {"of_head": self.extra(outputs.features["id"]).square().mean()}

    method = WithHead()
    step = TrainingStep(classifier("vectors"), method)
    assert any(parameter is method.extra.weight for parameter in step.parameters())
    assert {"methods.0.extra.weight", "methods.0.extra.bias", "methods.0.queue"} <= set(step.state_dict())
    total(step(batch("vectors"))).backward()
    assert method.extra.weight.grad is not None and method.extra.weight.grad.abs().sum() > 0
    assert step.double().methods[0].queue.dtype == torch.float64
