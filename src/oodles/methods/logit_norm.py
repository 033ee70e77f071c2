"""LogitNorm: cross-entropy on logits of constant norm, so that training cannot make them ever larger."""

from dataclasses import replace

from jaxtyping import Float
from torch import Tensor

from oodles.checks import check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper
from oodles.precision import at_least_float32, length_to_divide_by
from oodles.targets import Targets, cross_entropy


def normalized(logits: Float[Tensor, "n c *space"], temperature: float) -> Float[Tensor, "n c *space"]:
    """Return z / (‖z‖₂ + 1e-7) / τ, the norm over the classes; the small number is that of the authors' code.

    Logits of zero, as a last layer of zeros gives them, are divided by τ alone.
    """
    logits = at_least_float32(logits)
    # dividing costs more in the backward pass
    return logits * (1 / ((length_to_divide_by(logits) + 1e-7) * temperature))


class LogitNorm(Method):
    """Divides the logits of every part by their norm and by τ in training; scores use the logits as they are.

    When to use: no outliers at hand, a network with batch norm, training from scratch.
    Cost: none.
    Caveat: gradients are 1/τ times larger, so that without batch norm or at a high learning rate training collapses.
    τ belongs to training; it is no temperature for testing. The norm of logits, which energy and the maximum logit
    need, is trained away.

    Args:
        temperature: τ, above 0. The paper uses 0.04 on CIFAR-10 and CIFAR-100.

    Raises:
        ValueError: for a temperature that is not a finite number above 0.

    Source: Wei et al., equation 5.
    """

    name = "logit-norm"
    paper = Paper(
        title="Mitigating Neural Network Overconfidence with Logit Normalization",
        authors="Wei, Xie, Cheng, Feng, An, Li",
        venue="ICML",
        year=2022,
        link="https://arxiv.org/abs/2205.09310",
        code="https://github.com/hongxin001/logitnorm_ood",
    )
    trains_away = ("energy", "max-logit")

    def __init__(self, *, temperature: float = 0.04):
        super().__init__()
        check_number("temperature", temperature, above=0)
        self.temperature = temperature

    def forward(self, logits: Float[Tensor, "n c *space"], targets: Targets) -> Float[Tensor, ""]:
        """Loss of logits and class ids or probabilities: the cross-entropy of the normalised logits."""
        return cross_entropy(normalized(logits, self.temperature), targets)

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        logits = {role: normalized(z, self.temperature) for role, z in outputs.logits.items()}
        return replace(outputs, logits=logits)
