"""DAL: the ascent, the price of distance, and what other methods make of the worst features' logits."""

import copy

import pytest
import torch
from torch import Tensor, nn

from oodles import DAL, SAM, Classifier, LogitNorm, Part, TrainingStep
from oodles.methods.dal import distance, worst_change
from oodles.methods.logit_norm import normalized
from oodles.methods.outlier_exposure import cross_entropy_to_uniform

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..recorded.linear_layer import VALUES, X_OUT, layer
from ..references import dal as reference

SETTINGS = {"weight": 0.7, "radius": 0.05, "price_rate": 2.0, "steps": 4, "step_length": 0.3}


@pytest.mark.parametrize("price", [0.0, 0.3, 40.0])
@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-4), (torch.float64, 1e-10)])
def test_the_papers_ascent(price: float, dtype: torch.dtype, accuracy: float) -> None:
    generator = torch.Generator().manual_seed(4)
    features = torch.randn(7, 6, generator=generator, dtype=torch.float64).to(dtype)
    head = nn.Linear(6, 4, dtype=dtype)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    found = worst_change(head, features, price, 5, 0.2)
    w, b = head.weight.tolist(), head.bias.tolist()
    expected = [reference.worst(h, w, b, price, 5, 0.2) for h in features.tolist()]
    assert found.dtype == dtype and not found.requires_grad
    torch.testing.assert_close(
        found.double(), torch.tensor(expected, dtype=torch.float64), rtol=accuracy, atol=accuracy
    )
    assert distance(found).tolist() == pytest.approx([reference.distance(e) for e in expected], rel=accuracy)


CASES = {"price_0.01_ten_steps_of_1": (0.01, 10, 1.0), "price_2_four_steps_of_0.3": (2.0, 4, 0.3)}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("case", CASES)
def test_the_values_of_the_authors_program(case: str, dtype: torch.dtype) -> None:
    price, steps, length = CASES[case]
    head, features, recorded = layer(0, 5, dtype), X_OUT.to(dtype), VALUES["dal"]
    found = worst_change(head, features, price, steps, length)
    torch.testing.assert_close(found.double().flatten(), torch.tensor(recorded[case]).double(), rtol=1e-4, atol=2e-5)
    loss = cross_entropy_to_uniform(head(features + found))
    assert loss.item() == pytest.approx(recorded[f"{case}:loss"][0], rel=1e-5)
    before = worst_change(head, features, price, steps - 1, length)
    expected = recorded[f"{case}:distance_before_the_last_step"][0]
    assert distance(before).mean().item() == pytest.approx(expected, rel=1e-5)


def test_terms_and_price_of_a_step() -> None:
    method = DAL(**SETTINGS)
    step = TrainingStep(classifier("vectors", dtype=torch.float64), method)
    net, price = step.classifier, 0.01
    optimizer = torch.optim.SGD(step.parameters(), lr=0.05)
    for seed in range(4):
        given = batch("vectors", seed=10 * seed, dtype=torch.float64)
        w, b = net.head.weight.tolist(), net.head.bias.tolist()
        with torch.no_grad():
            h = net.features(given["outliers"].rows).tolist()
        changes = [reference.worst(row, w, b, price, 4, 0.3) for row in h]
        worst = [[x + e for x, e in zip(*rows, strict=True)] for rows in zip(h, changes, strict=True)]
        expected = 0.7 * sum(reference.to_uniform(reference.logits(row, w, b)) for row in worst) / len(worst)
        mean = sum(map(reference.distance, changes)) / len(changes)
        optimizer.zero_grad()
        terms = step(given)
        assert terms["dal"].item() == pytest.approx(expected, rel=1e-10)
        assert step.measures["dal_excess"].item() == pytest.approx(mean - 0.05, rel=1e-9)
        total(terms).backward()
        optimizer.step()
        step.after_update()
        price = reference.moved_price(price, mean, 0.05, 2.0, 10.0)
        assert method.price.item() == pytest.approx(price, rel=1e-10) and price > 0


def test_the_gradient_is_that_of_features_moved_by_fixed_numbers() -> None:
    net, given = classifier("images", dtype=torch.float64), batch("images", dtype=torch.float64)
    plain = copy.deepcopy(net)
    TrainingStep(net, DAL(**SETTINGS))(given)["dal"].backward()
    h = plain.features(given["outliers"].rows)
    fixed = worst_change(plain.head, h, 0.01, 4, 0.3)
    (0.7 * cross_entropy_to_uniform(plain.head(h + fixed))).backward()
    for (name, parameter), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter.grad, other.grad, msg=name)


def test_the_worst_features_are_worse_and_a_price_keeps_them_in_the_ball() -> None:
    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)
    method = DAL(radius=0.05, price_rate=0.1, steps=20, step_length=0.05)
    step = TrainingStep(net, method)
    plain = cross_entropy_to_uniform(net(given["outliers"].rows)).item()
    free = step(given)
    assert free["dal"].item() > 0.5 * plain and step.measures["dal_excess"] > 0.1
    for _ in range(60):
        terms = step(given)
    assert abs(step.measures["dal_excess"].item()) < 0.01, "the mean distance is the radius"
    assert 0.5 * plain < terms["dal"].item() < free["dal"].item()


def test_the_authors_settings_leave_the_ball_inactive() -> None:
    """As no change is longer than ten steps of length 1: the price falls to 0 at once, and stays."""
    torch.manual_seed(0)
    method = DAL()
    step = TrainingStep(Classifier(nn.Linear(6, 128), nn.Linear(128, 4)), method)
    for seed in range(3):
        step(batch("vectors", seed=seed))
        assert step.measures["dal_excess"] <= 10 / 128**0.5 - 10
        step.after_update()
        assert method.price.item() == 0


def test_a_price_is_within_its_limit_and_survives_broken_rows() -> None:
    method = DAL(**{**SETTINGS, "price_limit": 0.3})
    step = TrainingStep(classifier("vectors"), method)
    for _ in range(5):
        step(batch("vectors"))
    step.after_update()
    assert method.price.item() == pytest.approx(0.3)
    given = batch("vectors")
    for rows in (torch.full((3, 6), torch.nan), torch.zeros(0, 6)):
        step(given.with_part("outliers", Part(rows)))
        step.after_update()
        assert method.price.item() == pytest.approx(0.3), "no rows say nothing"
    assert DAL(price_limit=0.0).price_limit == 0 and TrainingStep(classifier("vectors"), DAL(price_limit=0.0))


def test_uniform_predictions_have_no_direction() -> None:
    head = nn.Linear(3, 4)
    with torch.no_grad():
        head.weight.copy_(torch.ones(4, 3))
        head.bias.zero_()
    assert worst_change(head, torch.randn(5, 3), 1.0, 3, 0.5).abs().max() < 1e-6, "as long as rounding, not as a step"


def test_a_last_layer_with_batch_norm_is_refused() -> None:
    head = nn.Sequential(nn.BatchNorm1d(7), nn.Linear(7, 4))
    net = Classifier(nn.Linear(6, 7), head, num_features=7, num_classes=4)
    with pytest.raises(ValueError, match=r"dal needs a last layer .* got one with BatchNorm1d") as refusal:
        TrainingStep(net, DAL())
    assert is_one_sentence(str(refusal.value))
    TrainingStep(net, DAL(weight=0.0))


def outlier_features(net: Classifier) -> Tensor:
    return net.features(batch("vectors", dtype=torch.float64)["outliers"].rows)


def test_worst_features_are_those_of_normalised_logits_beside_logit_norm() -> None:
    step = TrainingStep(classifier("vectors", dtype=torch.float64), LogitNorm(temperature=0.5), DAL(**SETTINGS))
    net = step.classifier

    def classify(features: Tensor) -> Tensor:
        return normalized(net.head(features), 0.5)

    h = outlier_features(net)
    expected = 0.7 * cross_entropy_to_uniform(classify(h + worst_change(classify, h, 0.01, 4, 0.3)))
    found = step(batch("vectors", dtype=torch.float64))["dal"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-10)


@pytest.mark.parametrize("radius", [0.2, 0.0])
def test_worst_features_are_those_of_the_moved_weights_beside_sam(radius: float) -> None:
    step = TrainingStep(classifier("vectors", dtype=torch.float64), SAM(radius=radius), DAL(**SETTINGS))
    prepared = step.prepare(batch("vectors", dtype=torch.float64))
    net = copy.deepcopy(step.classifier)
    with torch.no_grad():
        for _, change in prepared.weights:
            for name, value in change.items():
                net.get_parameter(name).add_(value)
    h = outlier_features(net)
    expected = 0.7 * cross_entropy_to_uniform(net.head(h + worst_change(net.head, h, 0.01, 4, 0.3)))
    assert step.losses(prepared)["dal"].item() == pytest.approx(expected.item(), rel=1e-10)


def test_it_compiles_beside_methods_that_change_logits_and_weights() -> None:
    torch._dynamo.reset()
    eager, compiled = (TrainingStep(classifier("vectors"), DAL(**SETTINGS), LogitNorm(), SAM()) for _ in range(2))
    compiled.compile(backend="aot_eager")
    for seed in range(3):
        with torch._dynamo.config.patch(error_on_recompile=seed > 0):
            terms = compiled(batch("vectors", seed=seed))
        torch.testing.assert_close(terms, eager(batch("vectors", seed=seed)), rtol=1e-5, atol=1e-6)
