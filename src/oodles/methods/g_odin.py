"""Generalized ODIN: logits are quotients, of how near each class is and of how known the row is."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear

from oodles.checks import check_choice, check_number
from oodles.classifier import Classifier, Inputs
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.heads import distances
from oodles.precision import at_least_float32, take_over, unit_length
from oodles.processes import mean_over_processes
from oodles.scores import Score

FORMS = ("cosine", "euclidean", "inner")


class QuotientHead(nn.Module):
    """Logits h_c(f) / g(f), g = σ(BN(w·f)), with the moving averages of the batch norm in training as in testing."""

    mean: Tensor
    variance: Tensor

    def __init__(self, features: int, classes: int, form: str):
        super().__init__()
        self.form = form
        self.h = nn.Linear(features, classes, bias=form == "inner")
        nn.init.kaiming_normal_(self.h.weight, nonlinearity="relu")
        if form == "inner":
            nn.init.zeros_(self.h.bias)
        self.g = nn.Linear(features, 1, bias=False)  # the batch norm would take a bias out again
        self.scale, self.shift = nn.Parameter(torch.ones(1)), nn.Parameter(torch.zeros(1))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("variance", torch.ones(1))

    def numerators(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        """Return h: the cosine of f and w_c, −‖f − w_c‖², or w_c·f + b_c."""
        features = at_least_float32(features)
        weight = self.h.weight.to(features.dtype)
        with torch.autocast(features.device.type, enabled=False):
            if self.form == "euclidean":
                return -distances(features, weight).square()
            if self.form == "cosine":
                return linear(unit_length(features), unit_length(weight))
            return linear(features, weight, self.h.bias.to(features.dtype))

    def projected(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n 1"]:
        """Return w·f, the input of the batch norm."""
        features = at_least_float32(features)
        with torch.autocast(features.device.type, enabled=False):
            return linear(features, self.g.weight.to(features.dtype))

    def quotients(self, features: Float[Tensor, "n f"], mean: Tensor, variance: Tensor) -> Float[Tensor, "n c"]:
        """Return h / g with these statistics in the batch norm; 1 / σ(v) = 1 + exp(−v), of which 1e13 is enough."""
        v = (self.projected(features) - mean) * (variance + 1e-5).rsqrt() * self.scale + self.shift
        return self.numerators(features) * (1 + torch.exp((-v).clamp(max=30.0)))

    def forward(self, features: Float[Tensor, "n f"]) -> Float[Tensor, "n c"]:
        return self.quotients(features, self.mean, self.variance)


class GODIN(Method):
    """Logits are similarities to the classes divided by a learned gate; the largest similarity says how known a row is.

    When to use: no outliers at hand, training from scratch; test rows may be perturbed, which costs gradients.
    Cost: none in training; its score takes two more forward passes and one backward.
    Caveat: cosines are at most 1, so that training begins slowly; the euclidean form is the hardest to train. Known
    classes suffer a little.

    Args:
        form: the similarity h: ``cosine``, ``euclidean`` or ``inner``, the paper's DeConf-C, DeConf-E and DeConf-I.

    Raises:
        ValueError: for another form.

    Source: Hsu et al., section 3; the weights of h have no weight decay. f is the feature vector, written f^p in the
    paper. There is no code by the authors; third parties take the mean over features for the euclidean form, where the
    paper has the sum. The batch norm's statistics are those of in-distribution rows, in all processes together.
    """

    name = "g-odin"
    paper = Paper(
        title="Generalized ODIN: Detecting Out-of-distribution Image without Learning from Out-of-distribution Data",
        authors="Hsu, Shen, Jin, Kira",
        venue="CVPR",
        year=2020,
        link="https://arxiv.org/abs/2002.11297",
    )
    score = "g-odin"
    needs = ("vectors",)
    replaces = ("head",)

    def __init__(self, *, form: str = "cosine"):
        super().__init__()
        check_choice("form", form, FORMS)
        self.form = form

    def forward(self, features: Float[Tensor, "n f"], head: QuotientHead) -> Float[Tensor, "n c"]:
        """Logits of in-distribution rows as in training, with these rows' own statistics in the batch norm."""
        if features.shape[1] != head.h.in_features:
            raise ValueError(
                f"features must have shape (n, {head.h.in_features}) for this head, got {tuple(features.shape)}."
            )
        return head.quotients(features, *_statistics(head.projected(features))[:2])

    def change_classifier(self, classifier: Classifier) -> None:
        if not (isinstance(classifier.head, QuotientHead) and classifier.head.form == self.form):
            head = QuotientHead(classifier.num_features, classifier.num_classes, self.form)
            classifier.head = classifier.placed(head)

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        return ({"params": list(_head(classifier, self.name).h.parameters()), "weight_decay": 0.0},)

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        head = _head(now.classifier, self.name)
        projected = head.projected(outputs.features["id"])
        mean, variance, _ = _statistics(projected)
        logits = {role: head.quotients(features, mean, variance) for role, features in outputs.features.items()}
        return replace(
            outputs, logits={**outputs.logits, **logits}, heads={**outputs.heads, self.name: {"id": projected}}
        )

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        """Update the batch norm's moving averages by this batch, with the unbiased variance."""
        head = _head(now.classifier, self.name)
        mean, variance, count = _statistics(outputs.heads[self.name]["id"])
        if count:
            unbiased = variance * count / max(count - 1, 1)
            new = ((head.mean, mean), (head.variance, unbiased))
            take_over(*((old, old.lerp(value.to(old.dtype), 0.1)) for old, value in new))


def _statistics(projected: Float[Tensor, "n 1"]) -> tuple[Tensor, Tensor, Tensor | int]:
    """Return mean, variance and number of the rows of all processes."""
    mean, count = mean_over_processes(projected)
    variance, _ = mean_over_processes((projected - mean).square())
    return mean, variance, count


def _head(classifier: Classifier, name: str) -> QuotientHead:
    if not isinstance(classifier.head, QuotientHead):
        raise ValueError(f"{name} needs the last layer that the method g-odin makes: train with it.")
    return classifier.head


def similarity(classifier: Classifier, inputs: Inputs) -> Float[Tensor, " n"]:
    """Return max_c h_c(x)."""
    return _head(classifier, "g-odin").numerators(classifier.features(inputs)).amax(1)


def perturbed(classifier: Classifier, inputs: Inputs, epsilon: float) -> Inputs:
    """Return x + ε·sign(∇ max_c h_c(x)), a step that makes a row more similar to its nearest class.

    Inputs that are not one floating-point tensor, such as token ids, stay as they are.
    """
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point() or not epsilon:
        return inputs
    with torch.inference_mode(False), torch.enable_grad():
        rows = inputs.clone().detach().requires_grad_()
        (slope,) = torch.autograd.grad(similarity(classifier, rows).sum(), rows)
    return inputs + epsilon * slope.sign()


class Unperturbed(Score):
    """−max_c h_c(x): the similarity to the nearest class, negative."""

    name = "g-odin-unperturbed"
    needs_vectors = True

    def check(self, classifier: nn.Module) -> None:
        super().check(classifier)
        if isinstance(classifier, Classifier):
            _head(classifier, self.name)

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        raise ValueError(f"{self.name} reads the classifier's head: call of(classifier, inputs, features, logits).")

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        return -_head(classifier, self.name).numerators(features).amax(1)


class Perturbed(Unperturbed):
    """−max_c h_c(x̂), x̂ = x + ε·sign(∇ max_c h_c(x)) (Hsu et al., section 3).

    Args:
        epsilon: ε in the units of the inputs, at least 0; 0.0025 is OpenOOD's default. The paper takes, of six from
            0.0025 to 0.08, the one that makes held-out rows most similar to their nearest classes.
    """

    name = "g-odin"
    differentiates = True

    def __init__(self, epsilon: float = 0.0025):
        check_number("epsilon", epsilon, low=0)
        self.epsilon = epsilon

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        with torch.no_grad():
            return -similarity(classifier, perturbed(classifier, inputs, self.epsilon))
