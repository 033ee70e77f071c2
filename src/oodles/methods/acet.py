"""ACET: low confidence on the worst images in a neighbourhood of noise."""

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.checks import check_images, check_number, check_unit_range, check_whole
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.methods.ceda import log_confidence, noise_images
from oodles.outliers.ascent import climb
from oodles.precision import at_least_float32
from oodles.targets import mean_over_rows, mean_per_row


def most_confident(
    classify: Callable[[Tensor], Tensor],
    x: Float[Tensor, "n c h w"],
    *,
    epsilon: float = 0.3,
    steps: int = 40,
    generator: Generator | None = None,
) -> Float[Tensor, "n c h w"]:
    """Climb max_c log p_c by projected gradient ascent in the ℓ∞ ball of radius ε around images, within [0, 1].

    The ascent starts at x + r·u with r ~ U(0, 1) for each image and u ~ U(−ε, ε) for each pixel, and takes ``steps``
    steps of ε / ``steps`` along the sign of the gradient. Of all images on the way, x itself included, the most
    confident one is kept.

    Args:
        classify: gives logits; should be in eval mode, which is not changed here.
        x: images in [0, 1]; not changed.
        epsilon: ε.
        steps: of the ascent.
        generator: a CPU generator; by default torch's own.
    """
    reach = torch.rand(len(x), 1, 1, 1, generator=generator)
    offset = epsilon * reach * (2 * torch.rand(x.shape, generator=generator) - 1)
    start = at_least_float32(x.detach())
    return climb(
        lambda u: mean_per_row(log_confidence(classify(u))),
        x,
        start + offset.to(x.device, start.dtype, non_blocking=True),
        epsilon=epsilon,
        step=epsilon / steps,
        steps=steps,
        best=True,
    )


class ACET(Method):
    """Adds λ × the mean log confidence, max_c log p_c, on the most confident images near noise: CEDA's worst case.

    When to use: images in [0, 1], no outliers at hand, and inputs that somebody chooses in order to be accepted.
    Cost: twice the rows in the forward pass, and ``steps`` forward and backward passes over the noise.
    Caveat: the paper's 40 steps are most of the time of training.

    Args:
        weight: λ; 0 switches off.
        epsilon: ε, the radius of the neighbourhood in each pixel, above 0.
        steps: of projected gradient ascent, each of length ε / steps.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite, an ε not above 0, or fewer steps than 1.

    Source: Hein et al., sections 4 and 5: λ = 1, ε = 0.3, 40 steps, noise as in CEDA. The random start, and that the
    best image on the way is kept, are the authors' code's; it averages over images and noise together, which halves
    both terms.
    """

    name = "acet"
    paper = Paper(
        title="Why ReLU Networks Yield High-Confidence Predictions Far Away From the Training Data "
        "and How to Mitigate the Problem",
        authors="Hein, Andriushchenko, Bitterwolf",
        venue="CVPR",
        year=2019,
        link="https://arxiv.org/abs/1812.05720",
        code="https://github.com/max-andr/relu_networks_overconfident",
    )
    strength = "weight"
    needs = ("images",)
    adds = ("adversarial_noise",)
    terms = ("acet",)

    def __init__(self, *, weight: float = 1.0, epsilon: float = 0.3, steps: int = 40):
        super().__init__()
        check_number("weight", weight, low=0)
        check_number("epsilon", epsilon, above=0)
        check_whole("steps", steps, low=1)
        self.weight = weight
        self.epsilon = epsilon
        self.steps = steps

    def forward(self, logits_noise: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits of what :func:`most_confident` makes of noise."""
        return self.weight * mean_over_rows(log_confidence(logits_noise))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        images = check_images(self.name, batch["id"].rows)
        check_unit_range(self.name, images, read_gpu=now.step == 0)
        noise = noise_images(images, generator=now.generator)
        with now.frozen():
            worst = most_confident(
                now.classifier, noise, epsilon=self.epsilon, steps=self.steps, generator=now.generator
            )
        return batch.with_part("adversarial_noise", Part(worst))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"acet": self(outputs.logits["adversarial_noise"])}
