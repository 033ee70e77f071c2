"""Distillation: the divergence from a frozen teacher, which is part of nothing that trains."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from oodles import (
    Batch,
    Classifier,
    Distillation,
    ELogitNorm,
    LogitNorm,
    Mixup,
    Part,
    T2FNorm,
    TrainingStep,
)
from oodles.methods.distillation import divergence, logits_of_teacher

from ..contract.networks import batch, classifier, inputs
from ..contract.steps import is_one_sentence, total
from ..references import distillation as reference
from .losses import ACCURACY, given, logits, logits_alone


class Counting(nn.Module):
    """Passes on what it sees, and notes it with the mode and whether gradients are recorded."""

    def __init__(self, change: Callable[[Tensor], Tensor] = lambda rows: rows):
        super().__init__()
        self.change = change
        self.seen: list[Tensor] = []
        self.modes: list[tuple[bool, bool]] = []

    def forward(self, rows: Tensor) -> Tensor:
        self.seen.append(rows)
        self.modes.append((self.training, torch.is_grad_enabled()))
        return self.change(rows)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("norm_temperature", [0.0, 0.04, 0.5])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_the_value(dtype: torch.dtype, norm_temperature: float, temperature: float) -> None:
    one = given(("rows", "class ids", dtype))
    teacher = logits(len(one.known), seed=3, dtype=dtype)
    method = Distillation(weight=0.7, temperature=temperature, norm_temperature=norm_temperature)
    expected = reference.distillation(one.z_in.tolist(), teacher.double().tolist(), 0.7, temperature, norm_temperature)
    one.check(method(one.known, teacher), expected, 2e-5 if dtype == torch.float32 else 0.0)


def test_of_a_teacher_that_agrees_nothing_is_to_be_learnt() -> None:
    z = logits(6, dtype=torch.float64).requires_grad_()
    term = Distillation()(z, 3 * z.detach())
    term.backward()
    assert z.grad is not None and abs(term.item()) < 1e-12 and z.grad.abs().max() < 1e-6
    assert Distillation(norm_temperature=0)(z, 3 * z.detach()).item() > 0.1, "lengths count where nothing takes them"


def test_no_rows_are_a_zero_with_a_graph() -> None:
    z = torch.zeros(0, 5, requires_grad=True)
    term = Distillation()(z, torch.zeros(0, 5))
    assert term.item() == 0 and term.requires_grad
    assert divergence(torch.tensor([[0.0, 1e4]]), torch.tensor([[1e4, 0.0]])).isfinite()


def test_logits_of_zero_length_are_not_nan() -> None:
    z = torch.zeros(2, 3, requires_grad=True)
    Distillation()(z, torch.tensor([[3.0, 0.0, 0.0]] * 2)).backward()
    assert z.grad is not None and z.grad.isfinite().all() and bool((z.grad[:, 0] < 0).all())


def _steps(*methods: Callable[[], nn.Module], change: Callable[[Tensor], Tensor]) -> tuple[TrainingStep, Distillation]:
    method = Distillation(teacher=Counting(change), weight=0.5)
    return TrainingStep(logits_alone(), method, *(make() for make in methods)), method  # type: ignore[arg-type]


def test_with_logit_norm_it_is_the_published_loss() -> None:
    one = given(("rows", "class ids", torch.float64))
    step, _ = _steps(lambda: LogitNorm(temperature=0.04), change=lambda rows: rows.flip(1))
    terms = step((one.known, one.targets))
    student, teacher = one.z_in.tolist(), one.z_in[:, ::-1].tolist()
    one.check(terms["distillation"], reference.distillation(student, teacher, 0.5, 4, 0.04), 1e-6)
    one.check(terms["cross_entropy"], LogitNorm()(one.known, one.targets).item())


@pytest.mark.parametrize("other", [LogitNorm, ELogitNorm, T2FNorm])
def test_methods_that_only_scale_logits_leave_its_term(other: Callable[[], nn.Module]) -> None:
    rows = batch("images", dtype=torch.float64)
    found = []
    for more in ((), (other,)):
        net = classifier("images", dtype=torch.float64)
        with torch.no_grad():
            net.head.bias.zero_()
        teacher = copy.deepcopy(classifier("images", seed=4))
        methods = [Distillation(teacher=teacher), *(make() for make in more)]
        found.append(TrainingStep(net, *methods)(rows)["distillation"].item())  # type: ignore[arg-type]
    assert found[0] == pytest.approx(found[1], rel=1e-5) and found[0] > 0.1


def test_the_teacher_sees_the_mixed_rows_in_eval_mode_and_without_a_graph() -> None:
    x, y = logits(6), torch.arange(6) % 5
    for order in ((0, 1), (1, 0)):
        method = Distillation(teacher=Counting())
        methods = [method, Mixup(alpha=1.0)]
        step = TrainingStep(logits_alone(), *(methods[index] for index in order)).train()
        prepared = step.prepare((x, y))
        teacher = method.teacher
        assert isinstance(teacher, Counting) and teacher.modes == [(False, False)]
        (seen,) = teacher.seen
        assert torch.equal(seen, prepared["id"].rows) and not torch.equal(seen, x)
        assert torch.equal(prepared.draws["teacher_logits"], seen)


def test_a_copy_of_the_teacher_is_kept_and_belongs_to_nothing() -> None:
    master = classifier("images", seed=4, noisy=True)
    before = {name: value.clone() for name, value in master.state_dict().items()}
    plain = TrainingStep(classifier("images"))
    method = Distillation(teacher=master, weight=0.1)
    step = TrainingStep(classifier("images"), method)
    assert [name for name, _ in step.named_parameters()] == [name for name, _ in plain.named_parameters()]
    assert step.state_dict().keys() == plain.state_dict().keys() and not list(method.buffers())
    assert master.training and all(parameter.requires_grad for parameter in master.parameters())
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    step.train()
    first = step.prepare(batch("images")).draws["teacher_logits"]
    for _ in range(3):
        optimizer.zero_grad()
        total(step(batch("images"))).backward()
        optimizer.step()
    assert torch.equal(step.prepare(batch("images")).draws["teacher_logits"], first), "neither trained nor tracked"
    assert all(torch.equal(value, before[name]) for name, value in master.state_dict().items())
    with torch.no_grad():
        for parameter in master.parameters():
            parameter.zero_()
    assert torch.equal(step.prepare(batch("images")).draws["teacher_logits"], first), "it was copied"
    assert torch.equal(copy.deepcopy(step).prepare(batch("images")).draws["teacher_logits"], first)


@pytest.mark.parametrize("kind", ["vectors", "images", "tokens"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_classifier_of_any_inputs_and_precision_teaches(kind: str, dtype: torch.dtype) -> None:
    teacher = classifier(kind, seed=4, dtype=dtype)
    rows = inputs(kind, 6)
    found = logits_of_teacher(teacher, rows, 4)
    expected = teacher(rows if isinstance(rows, dict) else rows.to(dtype))
    torch.testing.assert_close(found, expected)
    assert not found.requires_grad and found.dtype == dtype


def test_half_precision_is_its_own() -> None:
    teacher = classifier("vectors", seed=4).bfloat16()
    found = logits_of_teacher(teacher, inputs("vectors", 6), 4)
    rows = inputs("vectors", 6)
    assert isinstance(rows, Tensor) and found.dtype == torch.float32
    assert torch.equal(found, teacher(rows.bfloat16()).float())


class Fixed(nn.Module):
    """Tensors that no optimizer knows."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("weight", torch.ones(6, 4))

    def forward(self, rows: Tensor) -> Tensor:
        return rows @ self.get_buffer("weight")


@pytest.mark.parametrize("teacher", [classifier("vectors", seed=4), Fixed()], ids=["parameters", "buffers"])
def test_it_follows_the_rows_to_their_device(teacher: nn.Module) -> None:
    method = Distillation(teacher=teacher)
    step = TrainingStep(classifier("vectors"), method).to("meta")
    meta = Part(torch.zeros(6, 6, device="meta"), torch.zeros(6, dtype=torch.int64, device="meta"))
    taught = method.change_batch(Batch({"id": meta}), step._now()).draws["teacher_logits"]
    assert taught.device.type == "meta" and taught.shape == (6, 4)


def test_at_weight_zero_the_teacher_does_not_run() -> None:
    method = Distillation(teacher=Counting(), weight=0)
    terms = TrainingStep(logits_alone(), method)((logits(6), torch.arange(6) % 5))
    assert isinstance(method.teacher, Counting) and not method.teacher.seen and list(terms) == ["cross_entropy"]


def test_the_network_follows_the_teacher() -> None:
    """The teacher names the class after the label; with it, most predictions come to be the teacher's."""
    torch.manual_seed(0)
    x = torch.randn(60, 5)
    y = x.argmax(1)
    shares = []
    for weight in (0.0, 1.0):
        net = Classifier(nn.Identity(), nn.Linear(5, 5))
        with torch.no_grad():
            net.head.weight.copy_(torch.eye(5) * 0.1), net.head.bias.zero_()
        method = Distillation(teacher=Counting(lambda rows: 4 * rows.roll(1, 1)), weight=weight)
        step = TrainingStep(net, method)
        optimizer = torch.optim.SGD(step.parameters(), lr=0.02, momentum=0.9)
        for _ in range(150):
            optimizer.zero_grad()
            total(step((x, y))).backward()
            optimizer.step()
        shares.append((net(x).argmax(1) == (y + 1) % 5).float().mean().item())
    assert shares[0] < 0.1 and shares[1] > 0.8


@pytest.mark.parametrize(
    "teacher, sentence",
    [
        (None, "distillation needs a teacher, got none: say Distillation"),
        (
            Classifier(nn.Identity(), nn.Linear(5, 7)),
            "needs a teacher of the same 5 classes, got one of 7: take one that was trained on these",
        ),
    ],
)
def test_wrong_teachers_are_refused_when_the_step_is_built(teacher: nn.Module | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        TrainingStep(logits_alone(), Distillation(teacher=teacher))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "change, got",
    [
        (lambda rows: rows[:, :4], r"got torch.float32 of shape \(6, 4\)"),
        (lambda rows: rows[:3], r"got torch.float32 of shape \(3, 5\)"),
        (lambda rows: rows.argmax(1), r"got torch.int64 of shape \(6,\)"),
        (lambda rows: rows > 0, r"got torch.bool of shape \(6, 5\)"),
        (lambda rows: {"logits": rows}, "got dict"),
    ],
    ids=["classes", "rows", "ids", "truth values", "dictionary"],
)
def test_what_is_no_logits_is_refused_in_the_first_step(change: Callable[[Tensor], Tensor], got: str) -> None:
    step = TrainingStep(logits_alone(), Distillation(teacher=Counting(change)))
    with pytest.raises(ValueError, match=rf"A teacher must give logits of shape \(6, 5\), .*{got}") as refusal:
        step((logits(6), torch.arange(6) % 5))
    assert is_one_sentence(str(refusal.value))
