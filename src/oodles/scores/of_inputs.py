"""Outlier scores that look at a classifier's answers to changed inputs."""

import torch
from torch import Tensor

from oodles.checks import check_number
from oodles.classifier import Classifier, Inputs, apply
from oodles.precision import at_least_float32
from oodles.scores.of_logits import msp
from oodles.scores.score import Score


class Odin(Score):
    """1 − max softmax(z(x̂) / T) of inputs that were moved towards their class, x̂ = x + ε·sign ∇ log max softmax(z / T).

    Source: Liang, Li and Srikant, ICLR 2018, equations 1 and 2. The authors divide the sign by the standard deviation
    that their network's inputs were divided by, so ε is in the units of images in [0, 1], as it is here.

    Args:
        temperature: T, above 0; 1000 as in the paper.
        epsilon: ε, at least 0, in the units of the classifier's inputs: those before a ``Normalize``. 0.0014 is the
            paper's for CIFAR.
    """

    name = "odin"
    differentiates = True

    def __init__(self, temperature: float = 1000.0, epsilon: float = 0.0014):
        check_number("temperature", temperature, above=0)
        check_number("epsilon", epsilon, low=0)
        self.temperature = temperature
        self.epsilon = epsilon

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        raise ValueError(f"{self.name} changes the inputs: call of(classifier, inputs, features, logits).")

    def of(self, classifier: Classifier, inputs: Inputs, features: Tensor, logits: Tensor) -> Tensor:
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            got = inputs.dtype if isinstance(inputs, Tensor) else f"a {type(inputs).__name__}"
            raise TypeError(f"{self.name} needs one floating-point tensor of inputs, got {got}: use energy.")
        with torch.inference_mode(False), torch.enable_grad():
            x = inputs.clone().detach().requires_grad_()
            cooled = at_least_float32(apply(classifier, x)) / self.temperature
            (slope,) = torch.autograd.grad(cooled.log_softmax(1).amax(1).sum(), x)
        with torch.no_grad():
            # in float64: divided by T, all logits are nearly the same
            return msp(apply(classifier, inputs + self.epsilon * slope.sign()).double() / self.temperature)
