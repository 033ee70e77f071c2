"""ACET: the ascent against the equations on a linear classifier, and what it leaves alone."""

import numpy as np
import pytest
import torch
from torch import nn

from oodles import ACET, TrainingStep
from oodles.methods.acet import most_confident
from oodles.methods.ceda import log_confidence, noise_images
from oodles.randomness import generator_for

from ..contract.networks import batch, classifier, inputs
from ..contract.steps import total
from ..references import acet as reference
from ..references import ceda

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def linear(dtype: torch.dtype = torch.float64) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return nn.Sequential(nn.Flatten(), nn.Linear(8, 3)).to(dtype)


@pytest.mark.parametrize("epsilon, steps", [(0.3, 1), (0.3, 7), (0.05, 3), (2.0, 5)])
def test_the_ascent_is_that_of_the_reference(epsilon: float, steps: int) -> None:
    net, x = linear(), torch.rand(6, 2, 2, 2, dtype=torch.float64, generator=generator(2))
    found = most_confident(net, x, epsilon=epsilon, steps=steps, generator=generator(5))
    draws = generator(5)
    reach = torch.rand(6, 1, 1, 1, generator=draws)
    start = x + epsilon * reach * (2 * torch.rand(x.shape, generator=draws) - 1)
    weight, bias = net[1].weight.detach().numpy(), net[1].bias.detach().numpy()
    for row in range(6):
        expected = reference.worst(x[row].flatten().numpy(), start[row].flatten().numpy(), weight, bias, epsilon, steps)
        np.testing.assert_allclose(found[row].flatten().numpy(), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["images", "dense"])
def test_the_result_is_in_the_ball_in_the_unit_range_and_at_least_as_confident(kind: str) -> None:
    net, noise = classifier(kind), inputs(kind, 8, seed=4)
    assert isinstance(noise, torch.Tensor)
    worst = most_confident(net, noise, epsilon=0.2, steps=5, generator=generator())
    assert float((worst - noise).abs().max()) <= 0.2 + 1e-6
    assert worst.min() >= 0 and worst.max() <= 1 and not worst.requires_grad
    with torch.no_grad():
        before, after = (log_confidence(net(x)).reshape(8, -1).mean(1) for x in (noise, worst))
    assert (after >= before).all() and (after > before + 1e-3).all()


def test_a_longer_ascent_reaches_higher() -> None:
    net, noise = classifier("images"), inputs("images", 20, seed=4)
    one, ten = (most_confident(net, noise, steps=steps, generator=generator()) for steps in (1, 10))
    assert log_confidence(net(ten)).mean() > log_confidence(net(one)).mean()


def test_where_nothing_is_more_confident_the_noise_stays() -> None:
    noise = torch.rand(3, 1, 4, 4)
    flat = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    nn.init.zeros_(flat[1].weight), nn.init.zeros_(flat[1].bias)
    assert torch.equal(most_confident(flat, noise, steps=3), noise)
    assert most_confident(flat, noise[:0], steps=3).shape == (0, 1, 4, 4)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_term_is_that_of_the_paper(dtype: torch.dtype, accuracy: float) -> None:
    z = 3 * torch.randn(7, 5, dtype=torch.float64, generator=generator()).to(dtype)
    assert ACET(weight=0.8)(z).item() == pytest.approx(0.8 * ceda.term(z.double().numpy()), rel=accuracy)
    net = classifier("images", dtype=dtype)
    step = TrainingStep(net, ACET(weight=0.8, steps=2))
    prepared = step.prepare(batch("images", dtype=dtype))
    with torch.no_grad():
        z = net(prepared["adversarial_noise"].inputs)
    expected = 0.8 * ceda.term(z.double().numpy())
    assert step.losses(prepared)["acet"].item() == pytest.approx(expected, rel=accuracy)
    assert prepared["adversarial_noise"].inputs.dtype == dtype


def test_it_starts_from_the_noise_of_ceda() -> None:
    start = noise_images(batch("images")["id"].rows, generator=generator_for(0, 0, 0, "acet"))
    net = classifier("images")
    worst = TrainingStep(net, ACET(epsilon=0.1, steps=4)).prepare(batch("images"))["adversarial_noise"].inputs
    assert 0.05 < float((worst - start).abs().max()) <= 0.1 + 1e-6
    assert log_confidence(net(worst)).mean() > log_confidence(net(start)).mean()


def test_gradients_statistics_and_modes_stay_and_no_grad_does_not_stop_it() -> None:
    net = classifier("images", noisy=True).train()
    net.backbone[2].p = 0.0
    step = TrainingStep(net, ACET(steps=3))
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    prepared = step.prepare(batch("images"))
    assert all(parameter.grad is None for parameter in net.parameters())
    assert before and all(torch.equal(net.get_buffer(name), value) for name, value in before.items())
    assert all(module.training for module in net.modules())
    again = TrainingStep(net, ACET(steps=3))
    with torch.no_grad():
        quiet = again.prepare(batch("images"))
    assert torch.equal(quiet["adversarial_noise"].inputs, prepared["adversarial_noise"].inputs)
    assert not quiet["adversarial_noise"].inputs.requires_grad


def test_under_autocast_the_step_still_trains_every_weight() -> None:
    """Weights that autocast casts while nothing is recorded would stay cut off from the graph of the forward pass."""
    step = TrainingStep(classifier("images"), ACET(steps=2))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = total(step(batch("images")))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in step.parameters())
