"""Outlier scores that need nothing but logits."""

import math
from typing import Self

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from oodles.checks import check_number, check_whole, shapes_checked
from oodles.precision import at_least_float32
from oodles.scores.score import Score, check_training_rows
from oodles.targets import as_rows


@shapes_checked
def msp(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return 1 − the maximum softmax probability (Hendrycks and Gimpel, ICLR 2017), in [0, 1).

    Computed as the sum of the other probabilities: 1 − p would round confident rows to zero.
    """
    _, weights = _below_the_top(logits)
    others = weights.sum(1)
    return others / (1 + others)


@shapes_checked
def max_logit(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return the negative maximum logit (Hendrycks et al., ICML 2022)."""
    return -at_least_float32(logits).amax(1)


@shapes_checked
def energy(logits: Float[Tensor, "n c *space"], temperature: float = 1.0) -> Float[Tensor, "n *space"]:
    """Return the energy −T · logsumexp(z / T) (Liu et al., NeurIPS 2020, equation 4)."""
    check_number("temperature", temperature, above=0)
    logits = at_least_float32(logits)
    return -logits.logsumexp(1) if temperature == 1 else -float(temperature) * (logits / temperature).logsumexp(1)


@shapes_checked
def entropy(logits: Float[Tensor, "n c *space"]) -> Float[Tensor, "n *space"]:
    """Return the entropy of the softmax, in nats.

    With d = z − max z it is log Σ exp(d) − Σ p·d; the top class is left out of both sums, so that nothing cancels.
    """
    below, weights = _below_the_top(logits)
    others = weights.sum(1)
    return others.log1p() - (weights * below).sum(1) / (1 + others)


@shapes_checked
def generalized_entropy(
    logits: Float[Tensor, "n c *space"], gamma: float = 0.1, top: int = 100
) -> Float[Tensor, "n *space"]:
    """Return Σ p^γ·(1 − p)^γ over the ``top`` largest probabilities (Liu, Lochman and Zach, CVPR 2023, equation 4).

    The authors' confidence is its negative. In logarithms, since 1 − p would round to 0 for confident rows.
    """
    check_number("gamma", gamma, above=0)
    check_whole("top", top, low=1)
    known = at_least_float32(logits).log_softmax(1)
    index = known.argmax(1, keepdim=True)
    others = known.scatter(1, index, -torch.inf).logsumexp(1, keepdim=True)  # log(1 − p) of the likeliest class
    rest = (-known.scatter(1, index, -1.0).exp()).log1p().scatter(1, index, others)
    terms = (gamma * (known + rest)).exp()
    return terms.topk(min(top, terms.shape[1]), dim=1).values.sum(1)


def _below_the_top(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return d = z − max z, and exp(d) with a zero in the top class's place."""
    logits = at_least_float32(logits)
    top, index = logits.max(1, keepdim=True)
    below = (logits - top).clamp(min=torch.finfo(torch.float32).min)  # a class at −inf: 0 · d has to be 0
    return below, below.exp().scatter(1, index, 0.0)


class Msp(Score):
    """1 − the largest softmax probability: how far the network is from being sure of a class.

    See :func:`msp`.
    """

    name = "msp"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return msp(logits)


class MaxLogit(Score):
    """Minus the largest logit, which does not depend on the other classes.

    See :func:`max_logit`.
    """

    name = "max-logit"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return max_logit(logits)


class Energy(Score):
    """The energy, minus the logarithm of the summed exponentials of all logits.

    See :func:`energy`.
    """

    name = "energy"

    def __init__(self, temperature: float = 1.0):
        check_number("temperature", temperature, above=0)
        self.temperature = temperature

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return energy(logits, self.temperature)


class Entropy(Score):
    """The entropy of the softmax: how evenly the network spreads its belief over the classes.

    See :func:`entropy`.
    """

    name = "entropy"

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return entropy(logits)


class Gen(Score):
    """An entropy that counts small probabilities for more than the usual one does.

    See :func:`generalized_entropy`.

    Args:
        gamma: γ, above 0. The authors' default.
        top: M, how many of the largest probabilities count; the paper takes a tenth of ImageNet's classes.
    """

    name = "gen"

    def __init__(self, gamma: float = 0.1, top: int = 100):
        check_number("gamma", gamma, above=0)
        check_whole("top", top, low=1)
        self.gamma = gamma
        self.top = top

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        return generalized_entropy(logits, self.gamma, self.top)


class KlMatching(Score):
    """The least KL(p ‖ d_k) over the classes' typical softmax d_k.

    d_k is the mean softmax of the training rows that are predicted as class k; a class that no row is predicted as has
    none. Source: Hendrycks et al., ICML 2022, section 3.2, with rows that were held back; here they are the training
    rows, as for the other fitted scores.
    """

    name = "kl-matching"
    needs_fit = True
    learns = ("typical",)

    def fit(self, features: Tensor, logits: Tensor, labels: Tensor | None) -> Self:
        check_training_rows(logits=logits)
        rows = as_rows(logits.double()).log_softmax(1)
        predicted = rows.argmax(1)
        typical = [_log_mean(rows[predicted == k]) for k in torch.unique(predicted).tolist()]
        self.typical = torch.stack(typical)
        return self._learnt()

    def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
        self._check_fitted()
        typical = self.typical.to(logits.device)
        known = as_rows(logits.double()).log_softmax(1)
        p = known.exp()
        own = torch.where(p > 0, p * known, 0.0).sum(1, keepdim=True)
        least = (own - p @ typical.T).amin(1)
        return least.to(at_least_float32(logits).dtype).reshape(logits.shape[0], *logits.shape[2:])


def _log_mean(logarithms: Float64[Tensor, "n c"]) -> Float64[Tensor, " c"]:
    """Return the logarithm of the mean of what these are the logarithms of."""
    return logarithms.logsumexp(0) - math.log(len(logarithms))
