"""SNGP: random features and their kernel, bounded weights, and the variance, given training rows."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from oodles import SNGP, Classifier, TrainingStep, evaluate
from oodles.methods.sngp import GPVariance, RandomFeatures, orthogonal_gaussian, random_features

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import sngp as reference


def head(features: int = 8, number: int = 24, length_scale: float = 1.0) -> RandomFeatures:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return RandomFeatures(features, 3, number, length_scale).double()


def rows(count: int, seed: int = 0, features: int = 8) -> torch.Tensor:
    return torch.randn(count, features, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_papers_features_and_logits() -> None:
    layer, h = head(), rows(5)
    phi = reference.random_features(h.numpy(), layer.frequencies.numpy(), layer.phases.numpy())
    torch.testing.assert_close(random_features(h, layer.frequencies, layer.phases), torch.from_numpy(phi))
    expected = phi @ layer.linear.weight.detach().numpy().T + layer.linear.bias.detach().numpy()
    torch.testing.assert_close(layer(h).detach(), torch.from_numpy(expected))


@pytest.mark.parametrize("length_scale", [0.5, 1.0, 2.0])
def test_products_of_random_features_are_the_kernel_of_gauss(length_scale: float) -> None:
    layer = head(16, 20000, length_scale)
    h = nn.functional.layer_norm(rows(6, features=16), (16,))
    phi = random_features(h, layer.frequencies, layer.phases)
    kernel = (-torch.cdist(h, h).square() / (2 * length_scale**2 * 16)).exp()
    torch.testing.assert_close(phi @ phi.T, kernel, rtol=0, atol=0.03)


def test_frequencies_are_orthogonal_and_as_long_as_gaussian_ones() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        drawn = orthogonal_gaussian(30, 70).double()
    for block in (drawn[:, :30], drawn[:, 30:60]):
        gram = block.T @ block
        torch.testing.assert_close(gram - gram.diagonal().diag(), torch.zeros(30, 30).double(), rtol=0, atol=1e-4)
    assert drawn.square().sum(0).mean().item() == pytest.approx(30, rel=0.1), "the mean of chi-squared of 30"
    assert drawn.norm(dim=0).std() > 0.3


def test_features_are_computed_in_float32_under_autocast() -> None:
    layer, h = head(64, 32, 0.05).float(), rows(6, features=64).float()
    expected = random_features(h, layer.frequencies, layer.phases)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(random_features(h, layer.frequencies, layer.phases), expected)


def test_weights_are_scaled_down_to_the_bound_after_each_update() -> None:
    net = classifier("images", dtype=torch.float64)
    with torch.no_grad():
        for parameter in net.backbone.parameters():
            parameter.mul_(5)
    before = copy.deepcopy(net.backbone.state_dict())
    step = TrainingStep(net, SNGP(bound=1.5, number=16))
    for name, weight in net.backbone.state_dict().items():
        assert torch.equal(weight, before[name]), "a step changes no weights when it is made"
    for _ in range(60):  # the power iteration goes on from step to step
        step(batch("images", dtype=torch.float64))
        step.after_update()
    for name, weight in net.backbone.state_dict().items():
        expected = reference.bounded(before[name].numpy(), 1.5) if weight.ndim > 1 else before[name].numpy()
        np.testing.assert_allclose(weight.numpy(), expected, rtol=1e-6)
    assert any(not torch.equal(weight, before[name]) for name, weight in net.backbone.state_dict().items())


def test_weights_within_the_bound_and_frozen_ones_stay() -> None:
    for bound, frozen in ((100.0, False), (0.0, False), (0.1, True)):
        net = classifier("images")
        for parameter in net.backbone.parameters():
            parameter.requires_grad_(not frozen)
        before = copy.deepcopy(net.backbone.state_dict())
        step = TrainingStep(net, SNGP(bound=bound, number=16))
        step(batch("images"))
        step.after_update()
        assert all(torch.equal(weight, before[name]) for name, weight in net.backbone.state_dict().items())


def test_the_variance_is_that_of_the_process_given_the_training_rows() -> None:
    layer = head()
    net = Classifier(nn.Identity(), layer)
    train, test = rows(40), rows(7, seed=1)
    score = GPVariance(ridge=0.5).fit_of(net, train, layer(train), None)
    phi = [reference.random_features(h.numpy(), layer.frequencies.numpy(), layer.phases.numpy()) for h in (train, test)]
    expected = reference.variance(*phi, 0.5)
    np.testing.assert_allclose(score(test, layer(test)).numpy(), expected, rtol=1e-9)
    again = GPVariance(ridge=0.5).load_state(score.state())
    assert torch.equal(again(test, layer(test)), score(test, layer(test)))


def test_what_is_far_from_all_training_rows_has_the_highest_variance() -> None:
    layer = head(8, 512, 0.5)
    net = Classifier(nn.Identity(), layer)
    center = rows(1, seed=5)
    known = center + 0.1 * rows(200, seed=2)
    found = evaluate(
        net, [known[:50]], {"far": [rows(50, seed=3)]}, [GPVariance()], [(known[50:], torch.zeros(150).long())]
    )
    assert found.metrics["far"]["gp-variance"]["auroc"] == 1.0


def test_the_score_needs_a_head_of_random_features_and_training_rows() -> None:
    with pytest.raises(
        ValueError, match="gp-variance needs a head of random features: train the classifier"
    ) as refusal:
        GPVariance().check(classifier("vectors"))
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="has seen none"):
        GPVariance()(rows(2), rows(2))


def test_a_trained_process_is_a_plain_classifier() -> None:
    """Its weights have the names that they had, and it can be copied, so that it is saved and exported as any other."""
    net = classifier("images")
    names = set(net.backbone.state_dict())
    step = TrainingStep(net, SNGP(number=16))
    total(step(batch("images"))).backward()
    step.after_update()
    assert set(net.backbone.state_dict()) == names
    other = classifier("images")
    TrainingStep(other, SNGP(number=16))
    other.load_state_dict(net.state_dict())
    x = batch("images")["id"].rows
    torch.testing.assert_close(other(x), copy.deepcopy(net)(x))
