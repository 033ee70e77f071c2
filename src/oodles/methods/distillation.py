"""Distillation: predictions follow those of a frozen teacher, here of logits whose lengths say nothing."""

from copy import deepcopy
from itertools import chain
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier, Inputs, apply, first_of
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.logit_norm import normalized
from oodles.precision import at_least_float32, in_one_precision
from oodles.targets import mean_over_rows


def divergence(
    student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"], temperature: float = 1.0
) -> Float[Tensor, ""]:
    """Return the mean of KL(p_t ‖ p_s) over rows, with p = softmax(z / T) of the logits z of both."""
    z_s, z_t = in_one_precision(student, teacher)
    log_s, log_t = (z_s / temperature).log_softmax(1), (z_t / temperature).log_softmax(1)
    return mean_over_rows((log_t.exp() * (log_t - log_s)).sum(1))


def logits_of_teacher(teacher: nn.Module, inputs: Inputs | None, num_classes: int) -> Float[Tensor, "n c"]:
    """Return a teacher's logits of inputs, in float32 at least, without a graph; it follows them to their device.

    Floating-point inputs come in the precision of its parameters.

    Raises:
        ValueError: for a teacher that gives something else than logits (N, C) of ``num_classes`` classes.
    """
    first = first_of(inputs)  # type: ignore[arg-type]  # those of known rows, which are there
    like = next(chain(teacher.parameters(), teacher.buffers()), first)
    if like.device != first.device:
        teacher.to(first.device, non_blocking=True)

    def fitting(rows: Tensor) -> Tensor:
        return rows.to(like.dtype) if rows.is_floating_point() and like.is_floating_point() else rows

    given = {name: fitting(rows) for name, rows in inputs.items()} if isinstance(inputs, dict) else fitting(first)
    with torch.no_grad():
        logits: Any = teacher(given) if isinstance(teacher, Classifier) else apply(teacher, given)
    if not isinstance(logits, Tensor) or not logits.is_floating_point() or logits.shape != (len(first), num_classes):
        got = f"{logits.dtype} of shape {tuple(logits.shape)}" if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(
            f"A teacher must give logits of shape {(len(first), num_classes)}, a number for each row and class, got "
            f"{got}: Classifier.split(model, …, output=…) makes one of a model that gives them among others."
        )
    return at_least_float32(logits)


class Distillation(Method):
    """Adds λ·T²·KL(p_t ‖ p_s), how far predictions are from those of a frozen teacher, both of logits of one length.

    When to use: there is a larger or better pretrained classifier of the same classes, too large to deploy.
    Cost: a forward pass of the teacher for every batch, without gradients.
    Caveat: what the teacher takes for known, so does the student; classes near the known ones may be told worse. Of
    logits of one length, gradients are T/τ times larger, so that at a high learning rate training collapses unless they
    are clipped.

    Args:
        teacher: gives logits (N, C) from the inputs of a batch; a copy of it is kept as it is, in eval mode. It is no
            part of the step: neither its parameters nor what is saved.
        weight: λ; 0 switches off.
        temperature: T, which divides the logits in the softmax of both.
        norm_temperature: τ; logits of both are first divided by ‖z‖·τ, as LogitNorm does. 0 leaves them as they are, as
            in the paper of Hinton et al.

    Raises:
        TypeError: for a teacher that is no module.
        ValueError: for a weight or τ that is negative, a T that is not above 0, one of them not finite, or a teacher of
            other classes.

    Source: Hinton et al., section 2, where the factor T² keeps gradients of one size. Normalised logits, with LogitNorm
    beside, are LogitNorm-KD of TANGO (BMVC 2026, github.com/parky-j/TANGO_BMVC), with 16·KL at T = 4 and the entropy as
    score. The teacher sees what the network sees, so where rows are mixed, the mixed ones.
    """

    name = "distillation"
    paper = Paper(
        title="Distilling the Knowledge in a Neural Network",
        authors="Hinton, Vinyals, Dean",
        venue="NIPS Workshop",
        year=2014,
        link="https://arxiv.org/abs/1503.02531",
    )
    score = "entropy"
    strength = "weight"
    needs = ("vectors", "teacher")
    terms = ("distillation",)

    def __init__(
        self,
        *,
        teacher: nn.Module | None = None,
        weight: float = 1.0,
        temperature: float = 4.0,
        norm_temperature: float = 0.04,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("temperature", temperature, above=0)
        check_number("norm_temperature", norm_temperature, low=0)
        if teacher is not None and not isinstance(teacher, nn.Module):
            raise TypeError(
                f"teacher must be a Classifier or a module that gives logits, got {type(teacher).__name__}."
            )
        self.weight = weight
        self.temperature = temperature
        self.norm_temperature = norm_temperature
        # in a tuple, so that it is none of the modules that are trained, saved or kept alike in all processes
        self._teacher: tuple[nn.Module, ...] = (
            () if teacher is None else (deepcopy(teacher).eval().requires_grad_(False),)
        )

    @property
    def teacher(self) -> nn.Module | None:
        """Return the copy that is kept, if there is a teacher."""
        return self._teacher[0] if self._teacher else None

    def forward(self, student: Float[Tensor, "n c"], teacher: Float[Tensor, "n c"]) -> Float[Tensor, ""]:
        """Term for the logits of the network that trains, and of the teacher, for the same rows."""
        if self.norm_temperature:
            student, teacher = (normalized(logits, self.norm_temperature) for logits in (student, teacher))
        return self.weight * self.temperature * self.temperature * divergence(student, teacher, self.temperature)

    def change_classifier(self, classifier: Classifier) -> None:
        teacher = self.teacher
        if isinstance(teacher, Classifier) and teacher.num_classes != classifier.num_classes:
            raise ValueError(
                f"distillation needs a teacher of the same {classifier.num_classes} classes, got one of "
                f"{teacher.num_classes}: take one that was trained on these."
            )

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        taught = logits_of_teacher(self._teacher[0], batch["id"].inputs, now.classifier.num_classes)
        return batch.with_draws(teacher_logits=taught)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"distillation": self(outputs.logits["id"], batch.draws["teacher_logits"])}
