"""Random numbers as a function of (seed, step, rank, …), and the draws that mixing needs."""

from functools import cache
from hashlib import sha256

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Generator, Tensor

ID_ORDER, OUTLIER_ORDER, INITIAL_WEIGHTS, FORWARD_PASS = 101, 102, 103, 104
BALANCED_ORDER, FEWER_OUTLIERS, WILD_ORDER, NEW_CLASSES = 105, 106, 107, 108
NEW_HEADS, NEW_EPOCH = 201, 202
CROPS, COLOURS, TRANSFORMS, WILD_ROWS = 301, 302, 303, 304
"""What random numbers are for: the last word of a seed, so that two uses of one seed draw unrelated numbers.

A changed value changes the order of data or the initial weights of every run.
"""


def random_seed(*words: int | str) -> int:
    """Make one 63-bit seed of whole numbers and names such as (seed, step, rank); neighbours give unrelated seeds."""
    numbers = [_as_number(word) if isinstance(word, str) else word for word in words]
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))


@cache
def _as_number(name: str) -> int:
    return int.from_bytes(sha256(name.encode()).digest()[:8])


def generator_for(*words: int | str) -> Generator:
    """Make a CPU generator whose state depends on ``words`` alone, so resuming needs no saved random state."""
    return Generator().manual_seed(random_seed(*words))


def draw_beta(alpha: float, count: int, generator: Generator | None = None) -> Float64[Tensor, " n"]:
    """Draw ``count`` numbers λ ~ Beta(α, α) on the CPU, for any finite α > 0.

    Through logarithms of gamma draws, Gamma(α) = Gamma(α + 1) · U^(1/α), so that a small α does not underflow.
    """
    shape = torch.full((2, count), alpha + 1.0, dtype=torch.float64)
    uniform = torch.rsub(torch.rand(shape.shape, dtype=torch.float64, generator=generator), 1.0)  # in (0, 1]
    tiny = 1e-300  # below it, log U / α is infinite, and infinity − infinity no number
    log_gamma = torch._standard_gamma(shape, generator=generator).log_().add_(uniform.log_().div_(max(alpha, tiny)))
    first, second = log_gamma.unbind()
    return (first - second).sigmoid_()


TRIES = 8
"""Of so many candidates for a gamma variate all are rejected less than once in 1e10 times."""


def draw_betas(parameters: Float64[Tensor, "2 n"], generator: Generator | None = None) -> Float64[Tensor, " n"]:
    """Draw λ_i ~ Beta(a_i, b_i) where the parameters are, which nothing waits for, from numbers drawn on the CPU.

    As in :func:`draw_beta`, with gamma draws by the method of Marsaglia and Tsang (ACM TOMS 2000): for Gamma(a + 1) and
    d = a + 2/3, of several d·v with v = (1 + x / √(9·d))³ and x ~ N(0, 1) the first that is accepted.

    Args:
        parameters: all a and all b, finite and above 0.
        generator: a CPU generator; by default torch's own.
    """
    there = parameters.device
    normal = torch.randn(TRIES, *parameters.shape, dtype=torch.float64, generator=generator)
    uniform = torch.rand(TRIES + 1, *parameters.shape, dtype=torch.float64, generator=generator)
    x = normal.to(there, non_blocking=True)
    log_u = torch.rsub(uniform, 1.0).log_().to(there, non_blocking=True)  # of numbers in (0, 1]
    d = parameters + 2 / 3
    v = (1 + x / (9 * d).sqrt()).pow(3).clamp(min=1e-300)  # what is not positive has no logarithm, and is rejected
    accepted = log_u[:TRIES] < x.square() / 2 + d - d * v + d * v.log()
    first = accepted.int().argmax(0, keepdim=True)
    log_gamma = d.log() + v.log().gather(0, first)[0] + log_u[TRIES] / parameters.clamp(min=1e-300)
    of_a, of_b = log_gamma.unbind()
    share: Tensor = (of_a - of_b).sigmoid()
    return share


def draw_permutation(rows: int, device: torch.device, generator: Generator | None = None) -> Int64[Tensor, " n"]:
    """Draw a permutation of ``rows`` on the CPU, so that every device gets the same one."""
    return torch.randperm(rows, generator=generator).to(device, non_blocking=True)
