"""DOE: outliers seen by weights under which their predictions are worst, which changes them as no picture would."""

from collections.abc import Iterable

import torch
from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number, check_share
from oodles.classifier import Classifier
from oodles.contract import Batch, Gradient, Method, Now, Outputs, Paper, Terms
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.precision import at_least_float32, take_over
from oodles.processes import mean_over_processes
from oodles.spelling import shown


def regret(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, ""]:
    """Return (∂/∂s of the mean H(U, softmax(s·z)) at s = 1)², the mean over all processes.

    The derivative is that of a factor s on the logits, Σ_c p_c z_c − mean_c z_c: as it is 0 where no factor would help,
    its square says how far predictions are from the best that could be made of them.
    """
    z = at_least_float32(logits)
    slope, _ = mean_over_processes((z.softmax(1) * z).sum(1) - z.mean(1))
    return slope.square()


def as_long(gradient: Float[Tensor, "..."], weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
    """Return ‖w‖·g / ‖g‖ in float32 at least, a gradient g as long as the weight w; zeros where g is zero."""
    slope = at_least_float32(gradient)
    length = torch.linalg.vector_norm(slope)
    ratio: Tensor = torch.linalg.vector_norm(at_least_float32(weight)) / torch.where(length > 0, length, torch.inf)
    return ratio * slope


def _kernels(classifier: Classifier) -> dict[str, Tensor]:
    """Return the matrices and kernels between inputs and logits, which are what is perturbed."""
    named = ((name, weight.detach()) for name, weight in classifier.named_parameters())
    return {name: weight for name, weight in named if weight.ndim > 1 and name.startswith(("backbone.", "head."))}


def _joined(tensors: Iterable[Tensor]) -> Float[Tensor, " p"]:
    return torch.cat([at_least_float32(value).flatten() for value in tensors])


class DOE(Method):
    """Adds w·H(U, p(o; W + α·P)), where P is the direction in which the weights W make the outliers' regret grow.

    When to use: to fine-tune a trained classifier with outliers that are not much like what it will be tested on.
    Cost: two further forward and backward passes, and one more copy of the weights.
    Caveat: it needs a classifier that knows the outliers at hand already: half of the epochs are Outlier Exposure.

    Args:
        weight: w; 0 switches off.
        start: the share of the epochs before the weights are perturbed, in [0, 1).
        scales: of α, the length of P as a multiple of the weights', one is drawn at each step.
        perturbation_momentum: the share of P that stays at each step, in [0, 1).

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, a start or momentum outside [0, 1), or no scales or
            one that is not above 0.

    Source: Wang et al., sections 3.2 and 3.3, and the authors' program for all numbers. P is rescaled layer by layer to
    the length of the weights; biases and the parameters of norms stay. Their program updates the weights twice in a
    step, for the outliers at W + α·P and then for known rows; here one update follows the sum. It takes the step to P
    downhill, so that the regret falls, where the paper looks for its maximum, as here. Batch norm sees known rows and
    outliers together, with either weights, as in their program; what it keeps for testing moves at W alone, and in
    theirs at W + α·P, too.
    """

    name = "doe"
    paper = Paper(
        title="Out-of-distribution Detection with Implicit Outlier Transformation",
        authors="Wang, Ye, Liu, Dai, Kalander, Liu, Hao, Han",
        venue="ICLR",
        year=2023,
        link="https://arxiv.org/abs/2303.05033",
        code="https://github.com/QizhouWang/DOE",
    )
    score = "max-logit"
    strength = "weight"
    needs = ("outliers",)
    terms = ("doe",)
    perturbation: Tensor
    """P of all kernels, one behind the other; zeros before the first."""

    def __init__(
        self,
        *,
        weight: float = 1.0,
        start: float = 0.5,
        scales: tuple[float, ...] = (0.1, 0.01, 0.001, 0.0001),
        perturbation_momentum: float = 0.6,
    ):
        super().__init__()
        check_number("weight", weight, low=0)
        check_share("start", start)
        given: object = scales
        if not isinstance(given, tuple | list) or not given:
            raise ValueError(f"scales must be one or more numbers, got {shown(given)}.")
        for index, scale in enumerate(given):
            check_number(f"scales[{index}]", scale, above=0)
        check_share("perturbation_momentum", perturbation_momentum)
        self.weight = weight
        self.start = start
        self.scales = tuple(scales)
        self.perturbation_momentum = perturbation_momentum

    def forward(self, logits_out: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits that perturbed weights give to outliers."""
        return self.weight * cross_entropy_to_uniform(logits_out)

    def change_classifier(self, classifier: Classifier) -> None:
        if "perturbation" not in self._buffers:
            self.register_buffer("perturbation", torch.zeros_like(_joined(_kernels(classifier).values())))

    def change_weights(self, batch: Batch, gradient: Gradient, now: Now) -> Batch:
        if not now.over(self.start):
            return batch
        kernels = _kernels(now.classifier)
        slopes = gradient(batch, lambda outputs: regret(outputs.logits["outliers"]))
        uphill = _joined(
            as_long(slopes[name], weight) if name in slopes else torch.zeros_like(weight)
            for name, weight in kernels.items()
        )
        before = self.perturbation.to(uphill.dtype)
        mean = torch.where(before.any(), uphill.lerp(before, self.perturbation_momentum), uphill)
        drawn = torch.randint(len(self.scales), (), generator=now.shared)
        scale = torch.tensor(self.scales, dtype=torch.float64)[drawn]
        pieces = torch.split(scale * mean, [weight.numel() for weight in kernels.values()])
        change = {
            name: piece.view_as(weight).to(weight.dtype)
            for (name, weight), piece in zip(kernels.items(), pieces, strict=True)
        }
        return batch.with_weights(("outliers",), change).with_draws(doe=scale)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"doe": self(outputs.logits["outliers"])}

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        for _, change in batch.weights:
            mean = _joined(change.values()) / batch.draws["doe"]
            take_over((self.perturbation, mean))
