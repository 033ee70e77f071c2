"""DivOE: the ascent against the equations and the authors' programs, which outliers move, and what stays as it was."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import (
    AOE,
    BackgroundClass,
    Classifier,
    DiverseMix,
    DivOE,
    EnergyBounded,
    Method,
    OutlierExposure,
    Part,
    Recipe,
    TrainingStep,
)
from oodles.methods import build_methods
from oodles.methods.divoe import OBJECTIVES, losses_of, raised
from oodles.randomness import draw_permutation, generator_for

from ..contract.additions import Hardest
from ..contract.networks import batch, classifier, inputs
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES
from ..references import divoe as reference


def linear(inputs: int = 6, dtype: torch.dtype = torch.float64) -> Classifier:
    """A linear classifier of three classes and a background class."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        net = Classifier(nn.Flatten(), nn.Linear(inputs, 3))
        net.add_head("background", 1)
    return net.to(dtype)


def layers(net: Classifier) -> tuple[np.ndarray, np.ndarray]:
    """Weights and biases of the K + 1 classes."""
    both = net.head, net.heads["background"]
    weights = torch.cat([layer.weight for layer in both]).detach().numpy()  # type: ignore[arg-type]
    return weights, torch.cat([layer.bias for layer in both]).detach().numpy()  # type: ignore[arg-type]


def rows(count: int = 6, seed: int = 2) -> Tensor:
    return torch.rand(count, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("epsilon, step, steps", [(0.05, 0.0125, 5), (0.3, 0.3, 1), (0.4, 0.3, 3), (2.0, 0.1, 4)])
def test_the_ascent_is_that_of_the_reference(
    objective: str, best: bool, epsilon: float, step: float, steps: int
) -> None:
    net, x = linear(), rows()
    start = x + epsilon * (2 * rows(seed=3) - 1)
    found = raised(net, x, start, objective=objective, epsilon=epsilon, step=step, steps=steps, best=best)
    for row, begun, reached in zip(x.numpy(), start.numpy(), found.numpy(), strict=True):
        expected = reference.moved(row, begun, *layers(net), objective, epsilon, step, steps, best)
        np.testing.assert_allclose(reached, expected, rtol=0, atol=1e-12)
    for row, value in zip(x.numpy(), losses_of(net, x, objective).tolist(), strict=True):
        assert value == pytest.approx(reference.loss(list(row), *layers(net), objective), rel=1e-12)


@pytest.mark.parametrize("relative_step, steps", [(0.25, 2), (0.1, 3)])
def test_a_step_is_a_multiple_of_the_radius(relative_step: float, steps: int) -> None:
    net, x = linear(), rows()
    method = DivOE(share=1.0, epsilon=0.3, relative_step=relative_step, steps=steps)
    found = method(net, x, generator=torch.Generator().manual_seed(5))
    draws = torch.Generator().manual_seed(5)
    order = draw_permutation(6, torch.device("cpu"), draws)
    start = x[order] + 0.3 * (2 * torch.rand(6, 6, generator=draws) - 1)
    for place, begun in zip(order.tolist(), start.numpy(), strict=True):
        expected = reference.moved(x[place].numpy(), begun, *layers(net), "uniform", 0.3, 0.3 * relative_step, steps)
        np.testing.assert_allclose(found[place].numpy(), expected, rtol=0, atol=1e-12)


def recorded_net(name: str, dtype: torch.dtype) -> Classifier:
    """The network of a recorded value; the one of ``background`` has one output more, in a head of its own."""
    if name == "small":
        weight, bias = torch.tensor(VALUES["inputs"]["W"]).reshape(5, 6), torch.tensor(VALUES["inputs"]["b"])
    else:
        weight = torch.tensor([[1.5 * math.sin(1.9 * (6 * c + j + 1)) for j in range(6)] for c in range(6)])
        weight = weight + torch.tensor([1.2 * math.sin(0.7 * (j + 1) + 0.3) for j in range(6)])
        bias = torch.tensor([0.5 * math.sin(0.9 * (c + 1)) for c in range(6)])
    net = Classifier(nn.Identity(), nn.Linear(6, 5))
    net.add_head("background", 1)
    with torch.no_grad():
        net.head.weight.copy_(weight[:5]), net.head.bias.copy_(bias[:5])  # type: ignore[operator]
        if name == "background":
            net.heads["background"].weight.copy_(weight[5:]), net.heads["background"].bias.copy_(bias[5:])  # type: ignore[operator]
    return net.to(dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    "name, objective, epsilon, relative, best",
    [
        ("small", "uniform", 0.01, 0.25, False),
        ("uniform", "uniform", 0.3, 0.25, False),
        ("energy", "energy", 0.3, 0.25, False),
        ("background", "background", 60 / 255, 1 / 3, True),
    ],
)
def test_the_authors_programs_find_the_same(
    name: str, objective: str, epsilon: float, relative: float, best: bool, dtype: torch.dtype
) -> None:
    x = torch.tensor(VALUES["divoe"]["x"]).reshape(8, 6).to(dtype)
    net, expected = recorded_net(name, dtype), {**VALUES["divoe"], **VALUES["atom"]}[name]
    found = raised(net, x, x, objective=objective, epsilon=epsilon, step=relative * epsilon, steps=5, best=best)
    np.testing.assert_allclose(found.flatten().double().numpy(), np.array(expected), rtol=0, atol=2e-7)


def prepared(method: Method, kind: str = "images", step: int = 0, other: Method | None = None) -> tuple[Tensor, Tensor]:
    """The outliers of a batch, and what they become."""
    made = TrainingStep(classifier(kind), method, other or OutlierExposure(), seed=3)
    made.steps = step
    given = batch(kind)
    return given["outliers"].rows, made.prepare(given)["outliers"].rows


@pytest.mark.parametrize("share, count", [(0.5, 5), (0.29, 2), (1.0, 10)])
def test_a_share_of_the_outliers_moves_and_the_others_stay(share: float, count: int) -> None:
    x, found = prepared(DivOE(share=share, epsilon=0.1))
    apart = (found - x).abs().flatten(1).amax(1)
    assert int((apart > 0).sum()) == count, "the largest whole number of rows in the share"
    assert float(apart.max()) == pytest.approx(0.1, abs=1e-6), "five steps of a quarter reach the border"
    drawn = draw_permutation(10, torch.device("cpu"), generator_for(3, 0, 0, "divoe"))[:count]
    assert set(drawn.tolist()) == set(apart.nonzero()[:, 0].tolist())
    net = classifier("images")
    gain = losses_of(net, found, "uniform") - losses_of(net, x, "uniform")
    assert (gain[apart > 0] > 0).all() and not gain[apart == 0].any()


def test_other_outliers_move_in_other_steps() -> None:
    (x, first), (_, second) = prepared(DivOE()), prepared(DivOE(), step=1)
    assert [(found != x).flatten(1).any(1).tolist() for found in (first, second)].count([True] * 5 + [False] * 5) < 2
    assert not torch.equal(first, second)


def test_the_start_is_a_random_point_of_the_ball() -> None:
    x = torch.full((40, 1, 10, 10), 0.5)
    flat = Classifier(nn.Flatten(), nn.Linear(100, 3))
    nn.init.zeros_(flat.head.weight), nn.init.zeros_(flat.head.bias)  # type: ignore[arg-type]
    offset = DivOE(share=1.0, epsilon=0.2)(flat, x, generator=torch.Generator().manual_seed(0)) - x
    assert offset.mean().abs() < 0.01 and offset.abs().max() <= 0.2
    assert float(offset.var()) == pytest.approx(0.4**2 / 12, rel=0.05), "uniform over the ball, for nothing is steep"
    kept = DivOE(share=1.0, epsilon=0.2, best=True)(flat, x, generator=torch.Generator().manual_seed(0))
    assert torch.equal(kept, x), "nothing is higher"


@pytest.mark.parametrize("count", [0, 1])
def test_too_few_outliers_for_the_share_stay(count: int) -> None:
    x = rows(count).float()
    assert torch.equal(DivOE(share=0.5)(linear(dtype=torch.float32), x), x)


def test_the_best_point_is_never_lower_than_the_outlier() -> None:
    net, x = classifier("images"), inputs("images", 12, seed=4)
    assert isinstance(x, Tensor)
    wild = DivOE(share=1.0, epsilon=1.0, relative_step=1.0, best=True)(net, x)
    assert (losses_of(net, wild, "uniform") >= losses_of(net, x, "uniform")).all()


@pytest.mark.parametrize(
    "objective, other", [("energy", EnergyBounded(margin_in=-3.0, margin_out=1.0)), ("background", BackgroundClass())]
)
def test_the_objective_is_that_of_the_method_that_learns(objective: str, other: Method) -> None:
    step = TrainingStep(classifier("images"), DivOE(share=1.0, epsilon=0.2, objective=objective), other)
    x = batch("images")["outliers"].rows
    found = step.prepare(batch("images"))["outliers"].rows
    with torch.no_grad():
        before, after = (losses_of(step.classifier, rows, objective) for rows in (x, found))
    assert (after > before).all()
    plain = TrainingStep(step.classifier, other)(batch("images"))
    (term,) = set(other.terms) - set(other.heads)
    assert step(batch("images"))[term] > plain[term]


def test_a_background_class_that_is_not_there_is_said() -> None:
    for method in (DivOE(objective="background"), AOE(objective="background")):
        with pytest.raises(ValueError, match="'background' needs the head of a background class") as refusal:
            TrainingStep(classifier("images"), method, OutlierExposure())(batch("images"))
        assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("method", [DivOE(share=1.0, steps=3), DivOE(share=1.0, best=True), AOE()])
def test_gradients_statistics_and_modes_stay_and_no_grad_does_not_stop_it(method: Method) -> None:
    net = classifier("images", noisy=True).train()
    net.backbone[2].p = 0.0  # type: ignore[index,union-attr,assignment]
    step = TrainingStep(net, method, OutlierExposure())
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    found = step.prepare(batch("images"))["outliers"].rows
    assert not torch.equal(found, batch("images")["outliers"].rows)
    assert all(parameter.grad is None for parameter in net.parameters()) and not found.requires_grad
    assert before and all(torch.equal(net.get_buffer(name), value) for name, value in before.items())
    assert all(module.training for module in net.modules())
    step.steps = 0
    with torch.no_grad():
        assert torch.equal(step.prepare(batch("images"))["outliers"].rows, found)


@pytest.mark.parametrize("method", [DivOE(), DivOE(best=True), AOE(), DiverseMix()])
def test_under_autocast_the_step_still_trains_every_weight(method: Method) -> None:
    """Weights that autocast casts while nothing is recorded would stay cut off from the graph of the forward pass."""
    step = TrainingStep(classifier("images"), method, OutlierExposure())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = total(step(batch("images")))
    loss.backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in step.parameters())


@pytest.mark.parametrize("name", ["divoe", "aoe"])
def test_outliers_outside_of_the_unit_range_are_refused(name: str) -> None:
    method: Method = DivOE() if name == "divoe" else AOE()
    given = batch("images")
    wide = given.with_part("outliers", Part(2 * given["outliers"].rows - 0.5))
    with pytest.raises(
        ValueError, match=rf"{name} needs images in \[0, 1\], got -0.* to 1.*: let Normalize"
    ) as refusal:
        TrainingStep(classifier("images"), method, OutlierExposure())(wide)
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match=rf"{name} needs images in \[0, 1\], got -0.* to 1"):
        method(classifier("images"), wide["outliers"].rows)


def test_pixels_that_do_not_count_pull_nowhere() -> None:
    net = Classifier(nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 1)).double()
    x = torch.rand(5, 2, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    valid = torch.rand(5, 4, 4, generator=torch.Generator().manual_seed(1)) < 0.5
    valid[0] = False
    for best in (False, True):
        found = raised(net, x, x, objective="uniform", epsilon=0.1, step=0.1, steps=2, best=best, valid=valid)
        assert torch.equal((found != x).any(1), valid), "each pixel has logits of its own"


@pytest.mark.parametrize("method", [DivOE(share=1.0), AOE(), DiverseMix()])
def test_pixels_of_another_resolution_than_the_logits_are_refused_as_without_it(method: Method) -> None:
    given = batch("dense")
    coarse = given.with_part("outliers", Part(given["outliers"].inputs, valid=torch.zeros(10, 4, 4, dtype=torch.bool)))
    sentences = []
    for methods in ((OutlierExposure(),), (method, OutlierExposure())):
        with pytest.raises(ValueError, match="'outliers' that count") as refusal:
            TrainingStep(classifier("dense"), *methods)(coarse)
        sentences.append(str(refusal.value))
    assert sentences[0] == sentences[1] and is_one_sentence(sentences[0])


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_outliers_are_chosen_before_they_are_moved(order: tuple[int, int, int]) -> None:
    methods = [DivOE(share=1.0, epsilon=0.1), Hardest(keep=4), OutlierExposure()]
    step = TrainingStep(classifier("images"), *(methods[index] for index in order), seed=3)
    found = step.prepare(batch("images"))["outliers"].rows
    chosen = TrainingStep(classifier("images"), Hardest(keep=4), OutlierExposure()).prepare(batch("images"))
    assert len(found) == 4 and 0.09 < float((found - chosen["outliers"].rows).abs().max()) <= 0.1 + 1e-6


@pytest.mark.parametrize("pair", [(DivOE(), AOE()), (DivOE(), DiverseMix()), (AOE(), DiverseMix())])
def test_two_that_change_outliers_are_refused(pair: tuple[Method, Method]) -> None:
    with pytest.raises(ValueError, match="both replace 'outliers': use one of them") as refusal:
        TrainingStep(classifier("images"), *pair, OutlierExposure())
    assert all(method.name in str(refusal.value) for method in pair) and is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("method", [DivOE(), AOE(), DiverseMix()])
def test_without_a_method_that_learns_from_outliers_they_are_refused(method: Method) -> None:
    with pytest.raises(ValueError, match=f"{method.name} makes, chooses or changes outliers, and no other method uses"):
        TrainingStep(classifier("images"), method)


def test_the_recipe_of_atom_attacks_half_of_the_chosen_outliers_within_8_grey_levels() -> None:
    ntom, divoe, background = build_methods(Recipe.load("atom").methods)
    assert isinstance(divoe, DivOE) and divoe.epsilon == 8 / 255 and divoe.relative_step * divoe.epsilon == 2 / 255
    given, small = batch("images", rows=24), {"kept": 20, "quantile": 0.125}
    choose = type(ntom)(**small)
    net = classifier("images")
    step = TrainingStep(net, background, divoe, choose, seed=3)
    chosen = TrainingStep(net, background, type(ntom)(**small), seed=3).prepare(given)["outliers"].rows
    found = step.prepare(given)["outliers"].rows
    apart = (found - chosen).abs().flatten(1).amax(1)
    assert len(found) == 20 and int((apart > 0).sum()) == 10 and float(apart.max()) == pytest.approx(8 / 255, abs=1e-6)
    with torch.no_grad():
        before, after = (background_share(net, rows) for rows in (chosen, found))
    assert (after <= before + 1e-6).all() and (after < before).sum() == 10


def background_share(net: Classifier, x: Tensor) -> Tensor:
    """The probability of the background class."""
    features = net.features(x)
    logits = torch.cat([net.head(features), net.heads["background"](features)], 1)
    return logits.softmax(1)[:, -1]
