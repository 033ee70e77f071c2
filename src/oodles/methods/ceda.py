"""CEDA: low confidence on noise made from the training images."""

import torch
from jaxtyping import Float, Float64
from torch import Generator, Tensor

from oodles.checks import check_images, check_number, check_unit_range
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.precision import at_least_float32
from oodles.targets import mean_over_rows

RADIUS = 7
"""Of the low-pass filter, in pixels: the authors' kernel is 15 × 15."""


def log_confidence(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return max_c log p_c of each row (and pixel)."""
    return at_least_float32(logits).log_softmax(1).amax(1)


def permuted_pixels(x: Float[Tensor, "n c h w"], *, generator: Generator | None = None) -> Float[Tensor, "n c h w"]:
    """Permute the pixels of each image in an order of its own; the channels of a pixel stay together."""
    keys = torch.rand(len(x), 1, x.shape[2] * x.shape[3], generator=generator)
    order = keys.to(x.device, non_blocking=True).argsort(stable=True)  # equal keys in the same order on every device
    return x.flatten(2).gather(2, order.expand(-1, x.shape[1], -1)).reshape(x.shape)


def low_pass(x: Float[Tensor, "n c h w"], sigma: Float64[Tensor, ""]) -> Float[Tensor, "n c h w"]:
    """Smooth images by a Gaussian of standard deviation ``sigma`` pixels; beyond its edges an image is mirrored."""
    with torch.autocast(x.device.type, enabled=False):
        down, along = (_smoothing(size, sigma).to(x.device, x.dtype, non_blocking=True) for size in x.shape[2:])
        return down @ x @ along.T


def _smoothing(size: int, sigma: Float64[Tensor, ""]) -> Float64[Tensor, "s s"]:
    """Return the filter along one side as a matrix, so that it may be wider than the image."""
    offsets = torch.arange(-RADIUS, RADIUS + 1)
    weights = (-0.5 * (offsets / sigma).square()).softmax(0)
    sources = (torch.arange(size)[:, None] + offsets) % (2 * size)
    sources = torch.minimum(sources, 2 * size - 1 - sources)
    return torch.zeros(size, size, dtype=torch.float64).scatter_add_(1, sources, weights.expand(size, -1))


def full_range(x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
    """Shift and scale each image to a minimum of 0 and a maximum of 1; one of a single value becomes 0."""
    low, high = x.amin((1, 2, 3), keepdim=True), x.amax((1, 2, 3), keepdim=True)
    return (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)


def noise_images(x: Float[Tensor, "n c h w"], *, generator: Generator | None = None) -> Float[Tensor, "n c h w"]:
    """Make as many images of noise as there are images: half of these with their pixels permuted, and uniform noise.

    All are smoothed by one low-pass filter with σ ~ U(1, 2.5) and scaled to the full range [0, 1].

    Args:
        x: images; not changed.
        generator: a CPU generator; by default torch's own.
    """
    half = len(check_images("Noise", x)) // 2
    permuted = permuted_pixels(at_least_float32(x[:half]), generator=generator)
    uniform = torch.rand(len(x) - half, *x.shape[1:], generator=generator).to(x.device, non_blocking=True)
    sigma = 1 + 1.5 * torch.rand((), dtype=torch.float64, generator=generator)
    return full_range(low_pass(torch.cat([permuted, uniform.to(permuted.dtype)]), sigma)).to(x.dtype)


class CEDA(Method):
    """Adds λ × the mean log confidence, max_c log p_c, on noise: half uniform, half permuted pixels, both smoothed.

    When to use: images in [0, 1], no outliers at hand.
    Cost: twice the rows in the forward pass.
    Caveat: it learns that noise is unknown, which other objects need not be.

    Args:
        weight: λ; 0 switches off.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Hein et al., sections 4 and 5: λ = 1, as much noise as images, σ between 1 and 2.5. One σ per batch, a
    filter of 15 × 15 pixels, mirrored edges and a range of its own for each image are the authors' code's, which
    averages over images and noise together: that halves both terms.
    """

    name = "ceda"
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
    adds = ("noise",)
    terms = ("ceda",)

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(self, logits_noise: Float[Tensor, "m c *space"]) -> Float[Tensor, ""]:
        """Term for the logits of :func:`noise_images`."""
        return self.weight * mean_over_rows(log_confidence(logits_noise))

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        images = check_images(self.name, batch["id"].rows)
        check_unit_range(self.name, images, read_gpu=now.step == 0)
        return batch.with_part("noise", Part(noise_images(images, generator=now.generator)))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        return {"ceda": self(outputs.logits["noise"])}
