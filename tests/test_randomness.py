"""Seeds of several words, and draws."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from oodles.randomness import draw_beta, draw_betas, draw_permutation, generator_for, random_seed


@given(alpha=st.floats(0, allow_infinity=False, exclude_min=True), seed=st.integers(0, 2**32))
def test_shares_are_shares_for_every_alpha(alpha: float, seed: int) -> None:
    lam = draw_beta(alpha, 50, torch.Generator().manual_seed(seed))
    assert lam.dtype == torch.float64 and (lam >= 0).all() and (lam <= 1).all()


@pytest.mark.parametrize("alpha", [0.01, 0.2, 1.0, 20.0])
def test_shares_have_the_moments_of_the_beta_distribution(alpha: float) -> None:
    lam = draw_beta(alpha, 200_000, torch.Generator().manual_seed(0))
    variance = 1 / (4 * (2 * alpha + 1))
    assert lam.mean().item() == pytest.approx(0.5, abs=0.005)
    assert lam.var().item() == pytest.approx(variance, rel=0.02)
    if alpha == 1:  # the uniform distribution
        assert np.abs(np.sort(lam.numpy()) - np.linspace(0, 1, 200_000)).max() < 0.005


@pytest.mark.parametrize("a, b", [(0.01, 0.01), (0.05, 4.0), (2.5, 0.7), (3.0, 1.0)])
def test_every_share_has_parameters_of_its_own(a: float, b: float) -> None:
    both = torch.tensor([[a], [b]], dtype=torch.float64).expand(2, 200_000)
    lam = draw_betas(torch.cat([both, both.flip(0)], 1), torch.Generator().manual_seed(0))
    for found, mean in ((lam[:200_000], a / (a + b)), (lam[200_000:], b / (a + b))):
        assert found.mean().item() == pytest.approx(mean, abs=0.005)
        assert found.var().item() == pytest.approx(a * b / ((a + b) ** 2 * (a + b + 1)), rel=0.04)
    if b == 1:  # P(λ ≤ x) = x^a
        assert np.abs(np.sort(lam[:200_000].numpy()) ** a - np.linspace(0, 1, 200_000)).max() < 0.005


def test_permutations_are_uniform() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.zeros(4, 4)
    for _ in range(4000):
        counts[torch.arange(4), draw_permutation(4, torch.device("cpu"), generator)] += 1
    assert ((counts / 1000 - 1).abs() < 0.15).all()


def test_seeds_of_neighbours_are_unrelated() -> None:
    seeds = {random_seed(seed, step, rank) for seed in range(6) for step in range(20) for rank in range(4)}
    assert len(seeds) == 6 * 20 * 4
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert random_seed(1, 2) != random_seed(2, 1)
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert abs(bits.mean(0) - 0.5).max() < 0.1


def test_names_are_words_of_seeds() -> None:
    words = (0, 1, 2), (0, 1, "mixup"), (0, 1, "cutmix"), ("mixup", 0, 1), (0, 1, "")
    assert len({random_seed(*some) for some in words}) == len(words)
    first, second = (torch.rand(3, generator=generator_for(0, "mixup")) for _ in range(2))
    assert torch.equal(first, second)


def test_seeds_of_whole_numbers_stay_what_they_are() -> None:
    """The order of data and initial weights of earlier runs depend on them."""
    assert [random_seed(0), random_seed(0, 1, 2), random_seed(7, 103)] == [
        7896617691693857887,
        1535930435702422785,
        1710742764648015562,
    ]
