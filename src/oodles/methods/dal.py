"""DAL: Outlier Exposure on the worst features in a ball around those of the outliers."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.func import grad
from torch.nn.modules.batchnorm import _BatchNorm

from oodles.checks import check_number, check_whole
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.precision import at_least_float32, take_over, unit_length
from oodles.processes import mean_over_processes

FIRST_PRICE = 0.01
"""γ before the first step, as in the authors' program."""


def distance(change: Float[Tensor, "m f"]) -> Float[Tensor, " m"]:
    """Return mean_f abs(e_f) of each row: how far e leads from the features."""
    return change.abs().mean(1)


def worst_change(
    classify: Callable[[Tensor], Tensor],
    features: Float[Tensor, "m f"],
    price: float | Float[Tensor, ""],
    steps: int,
    step_length: float,
) -> Float[Tensor, "m f"]:
    """Climb H(U, p(h + e)) − γ·c(e) in e from e = 0, with c the :func:`distance`; return e, which has no graph.

    Every one of ``steps`` has the length ``step_length`` in the direction of the row's gradient; a row without one
    stays.

    Args:
        classify: gives logits (M, C) of features.
        features: h.
        price: γ.
        steps: of the ascent.
        step_length: ‖·‖₂ of each.
    """
    start = at_least_float32(features.detach())

    def height(change: Tensor) -> Tensor:
        z = at_least_float32(classify(start + change))
        value: Tensor = (z.logsumexp(1) - z.mean(1) - price * distance(change)).sum()
        return value

    change = torch.zeros_like(start)
    with torch.no_grad():  # the weights' gradient would go through all steps
        for _ in range(steps):
            change = change + step_length * unit_length(grad(height)(change))
    return change


class DAL(Method):
    """Adds w·H(U, p(h + e)) on outliers' features h, where e leads to the worst ones in a ball of radius ρ.

    When to use: to fine-tune a trained classifier with outliers that are not much like what it will be tested on.
    Cost: ``steps`` passes through the last layer.
    Caveat: the authors' settings switch the ball off. No e is longer than steps × step_length / √F on average over F
    features, which is 0.88 for the 128 of their network: γ falls to 0 in the first step and stays there, so that the
    number and length of the steps alone say how far e leads. Take a radius below that for the ball to act.

    Args:
        weight: w; 0 switches off.
        radius: ρ, above 0, of the mean over rows of mean_f abs(e_f).
        price_limit: γ_max, the largest price of distance.
        price_rate: β, by which the price rises with each unit that the mean distance is above ρ.
        steps: of the ascent.
        step_length: of each step, above 0.

    Raises:
        ValueError: for a weight, price limit or price rate that is negative, NaN or infinite, a radius or step length
            that is not above 0, fewer steps than 1, or a last layer with batch norm.

    Source: Wang et al., and the authors' program for the distance and its settings, which are those for CIFAR-10. γ
    follows the mean distance of the changes that are used, theirs that before the last step. The ascent starts at e = 0
    and not at random numbers of 10⁻⁴, so that the price, whose slope is a sign, has none in the first step.
    """

    name = "dal"
    paper = Paper(
        title="Learning to Augment Distributions for Out-of-Distribution Detection",
        authors="Wang, Fang, Zhang, Liu, Li, Han",
        venue="NeurIPS",
        year=2023,
        link="https://arxiv.org/abs/2311.01796",
        code="https://github.com/tmlr-group/DAL",
    )
    strength = "weight"
    needs = ("outliers", "vectors")
    terms = ("dal",)
    measures = ("dal_excess",)
    price: Tensor
    """γ, which makes the mean distance ρ where it can."""

    def __init__(
        self,
        *,
        weight: float = 0.5,
        radius: float = 10.0,
        price_limit: float = 10.0,
        price_rate: float = 0.01,
        steps: int = 10,
        step_length: float = 1.0,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("radius", radius, above=0)
        check_number("price_limit", price_limit, low=0)
        check_number("price_rate", price_rate, low=0)
        check_whole("steps", steps, low=1)
        check_number("step_length", step_length, above=0)
        self.weight = weight
        self.radius = radius
        self.price_limit = price_limit
        self.price_rate = price_rate
        self.steps = steps
        self.step_length = step_length

    def forward(self, logits_out: Float[Tensor, "m c"]) -> Float[Tensor, ""]:
        """Term for the logits of outliers' features, changed by :func:`worst_change`."""
        return self.weight * cross_entropy_to_uniform(logits_out)

    def change_classifier(self, classifier: Classifier) -> None:
        if counting := [part for part in classifier.head.modules() if isinstance(part, _BatchNorm)]:
            raise ValueError(
                f"dal needs a last layer that it can pass features through many times, got one with "
                f"{type(counting[0]).__name__}, which would count them: leave it to the backbone."
            )
        if "price" not in self._buffers:
            like = at_least_float32(next(classifier.parameters()).detach())
            self.register_buffer("price", like.new_full((), min(FIRST_PRICE, self.price_limit)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        def classify(features: Tensor) -> Tensor:
            return now.logits("outliers", features, outputs, batch)

        features = outputs.features["outliers"]
        price = self.price.to(features.dtype, copy=True)  # a copy, since it moves in place
        change = worst_change(classify, features, price, self.steps, self.step_length)
        excess, _ = mean_over_processes(distance(change) - self.radius)
        return {"dal": self(classify(features + change)), "dal_excess": excess}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        price = self.price + self.price_rate * outputs.measures["dal_excess"].to(self.price.dtype)
        take_over((self.price, price.clamp(0, self.price_limit)))
