"""Confidence branch: a confidence beside the logits, learned by asking for hints and paying for them."""

from typing import ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import log_softmax, logsigmoid, softplus

from oodles.checks import check_number, check_targets, shapes_checked
from oodles.classifier import Classifier, Inputs, device_of
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.precision import at_least_float32
from oodles.processes import mean_over_processes
from oodles.scores import HeadScore
from oodles.targets import Targets, mean_over_rows

CONFIDENCE = "confidence"


def draw_hints(rows: int, generator: Generator | None = None) -> Bool[Tensor, " n"]:
    """Draw on the CPU the rows that may ask for a hint, b ~ Bernoulli(½)."""
    return torch.rand(rows, generator=generator) < 0.5


def hinted_cross_entropy(
    logits: Float[Tensor, "n c *space"],
    confidence: Float[Tensor, "n 1 *space"],
    targets: Targets,
    hints: Bool[Tensor, " n"],
) -> Float[Tensor, ""]:
    """Return mean −Σ_k y_k log(c′·p_k + (1 − c′)·y_k), c′ = c = σ(confidence) on rows with hints, 1 on the others.

    In logarithms, so that neither p nor 1 − c underflows.
    """
    check_targets("targets", targets, logits.shape[1])
    log_p, confidence = log_softmax(at_least_float32(logits), 1), at_least_float32(confidence)
    if targets.is_floating_point():
        y = targets.to(log_p.dtype)
    else:  # all that counts is the class itself, with y = 1
        log_p = log_p.gather(1, targets.long().unsqueeze(1))
        y = torch.ones_like(log_p)
    log_hinted = torch.logaddexp(logsigmoid(confidence) + log_p, logsigmoid(-confidence) + y.log())
    may_ask = hints.reshape(-1, *[1] * (logits.ndim - 1))
    return mean_over_rows(-(y * torch.where(may_ask, log_hinted, log_p)).sum(1))


def confidence_penalty(confidence: Float[Tensor, "n 1 *space"]) -> Float[Tensor, ""]:
    """Return L_c = mean −log c, with c = σ(confidence)."""
    return mean_over_rows(softplus(-at_least_float32(confidence)))


class ConfidenceBranch(Method):
    """Learns a confidence c: a row may trade its prediction p for c·p + (1 − c)·y, at a price of λ·(−log c).

    When to use: no outliers at hand, few classes, and a confidence of its own is wanted beside the class probabilities.
    Cost: one more output of the head, and one more comparison per step.
    Caveat: with many classes the hints are worth too much, and confidence and accuracy fall.

    Args:
        budget: β, the mean of −log c that λ is steered to: above it λ grows by a factor of 1 / 0.99 per step, below it
            λ shrinks by 1 / 1.01.
        weight: λ at the start.

    Raises:
        ValueError: for a budget or weight that is not above 0, or not finite.

    Source: DeVries and Taylor, equations 2 to 5, with hints for half of the rows and the budget, both among the paper's
    details of implementation. Budget and weight are the authors' program's; it also cuts a patch out of each image. It
    clamps p and c to [1e-12, 1 − 1e-12]; logarithms need no clamp, and keep the gradient of rows that are sure and
    wrong. Targets may be probabilities, as in the paper's formula.
    """

    name = "confidence-branch"
    paper = Paper(
        title="Learning Confidence for Out-of-Distribution Detection in Neural Networks",
        authors="DeVries, Taylor",
        venue="arXiv",
        year=2018,
        link="https://arxiv.org/abs/1802.04865",
        code="https://github.com/uoguelph-mlrg/confidence_estimation",
    )
    score = "confidence"
    terms = ("hinted_cross_entropy", "confidence_penalty")
    heads = ("confidence",)
    replaces = ("cross-entropy",)
    multiplier: Tensor

    def __init__(self, *, budget: float = 0.3, weight: float = 0.1):
        super().__init__()
        check_number("budget", budget, above=0)
        check_number("weight", weight, above=0)
        self.budget = budget
        self.weight = weight
        self.register_buffer("multiplier", torch.tensor(weight, dtype=torch.float64))

    def forward(
        self,
        logits: Float[Tensor, "n c *space"],
        confidence: Float[Tensor, "n 1 *space"],
        targets: Targets,
        *,
        generator: Generator | None = None,
    ) -> Float[Tensor, ""]:
        """Loss with hints for half of the rows; call :meth:`steer` after the update."""
        hints = draw_hints(len(logits), generator).to(logits.device)
        return hinted_cross_entropy(logits, confidence, targets, hints) + self._penalty(confidence)

    @shapes_checked
    def steer(self, confidence: Float[Tensor, "n 1 *space"]) -> None:
        """Move λ so that L_c, the mean over all processes, comes to the budget; without rows it stays."""
        mean, rows = mean_over_processes(softplus(-at_least_float32(confidence.detach())))
        if rows:
            cheap = mean < self.budget
            self.multiplier.copy_(torch.where(cheap, self.multiplier / 1.01, self.multiplier / 0.99))

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(CONFIDENCE, 1)
        self.to(device_of(classifier))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        hints = draw_hints(len(batch["id"]), now.generator)
        return batch.with_draws(confidence_hints=hints.to(device_of(now.classifier), non_blocking=True))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        logits, confidence = outputs.logits["id"], outputs.heads[CONFIDENCE]["id"]
        hints = batch.draws["confidence_hints"]
        return {
            "hinted_cross_entropy": hinted_cross_entropy(logits, confidence, batch["id"].labels, hints),
            "confidence_penalty": self._penalty(confidence),
        }

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        self.steer(outputs.heads[CONFIDENCE]["id"])

    def _penalty(self, confidence: Tensor) -> Tensor:
        penalty = confidence_penalty(confidence)
        return self.multiplier.to(penalty.dtype, copy=True) * penalty  # a copy, since λ changes in place


class Confidence(HeadScore):
    """1 − c."""

    name = "confidence"
    needs_heads = (CONFIDENCE,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (confidence,) = heads
        return torch.sigmoid(-confidence.squeeze(1))


class ConfidencePerturbed(Confidence):
    """1 − c after one step of the inputs towards confidence, x − ε·sign ∇(−log c(x)).

    Args:
        epsilon: ε, on inputs in [0, 1]. The authors' 0.001 is on inputs divided by a standard deviation of about ¼.
    """

    name = "confidence-perturbed"
    differentiates: ClassVar[bool] = True

    def __init__(self, epsilon: float = 0.00025):
        check_number("epsilon", epsilon, low=0)
        self.epsilon = epsilon

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            got = inputs.dtype if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
            raise TypeError(f"{self.name} needs one floating-point tensor of inputs, got {got}: use confidence.")
        with torch.inference_mode(False), torch.enable_grad():
            x = inputs.clone().detach().requires_grad_()
            confidence = at_least_float32(classifier.heads[CONFIDENCE](classifier.features(x)))
            (gradient,) = torch.autograd.grad(softplus(-confidence).sum(), x)
        perturbed = inputs - self.epsilon * gradient.sign()
        return super().of(classifier, perturbed, classifier.features(perturbed), logits)
