"""The background class is cross-entropy over K + 1 classes; recorded: the formula, computed apart ("BGC")."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import BackgroundClass, Classifier, OpenMix, Outputs, TrainingStep
from oodles.methods.background_class import Background, BackgroundS2, BackgroundS3, background_term

from ..contract.steps import total
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import background_class as reference
from ..references.equations import one_hot, pixels_as_rows

ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}
SCORES = {"background": Background, "background-s2": BackgroundS2, "background-s3": BackgroundS3}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 4 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def step_on(z: nn.Module, background: nn.Module, weight: float = 1.0) -> TrainingStep:
    """A step whose logits and background logit are linear layers of the inputs."""
    classifier = Classifier(nn.Identity(), z)
    classifier.heads["background"] = background
    return TrainingStep(classifier, BackgroundClass(weight=weight))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_value(dtype: torch.dtype) -> None:
    step = step_on(layer(0, 5, dtype), layer(5, 6, dtype))
    loss = total(step((X_IN.to(dtype), Y), outliers=X_OUT.to(dtype)))
    assert loss.item() == pytest.approx(VALUES["background"]["BGC"][0], rel=1e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("targets", ["ids", "probabilities"])
def test_cross_entropy_over_one_class_more(targets: str, dtype: torch.dtype) -> None:
    x, o, y = normal(7, 6), normal(9, 6, seed=1), torch.arange(7) % 5
    soft = torch.rand(7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)
    given, rows = (y, one_hot(y.tolist(), 5)) if targets == "ids" else (soft.to(dtype), soft.numpy())
    whole = layer(0, 6, torch.float64)
    z_in, z_out = whole(x).detach().numpy(), whole(o).detach().numpy()
    step = step_on(layer(0, 5, dtype), layer(5, 6, dtype), weight=0.7)
    loss = total(step((x.to(dtype), given), outliers=o.to(dtype)))
    assert loss.item() == pytest.approx(reference.loss(z_in, rows, z_out, 0.7), rel=ACCURACY[dtype])


def test_the_gradient_is_that_of_one_linear_layer_with_a_row_more() -> None:
    parts, whole = (layer(0, 5, torch.float64), layer(5, 6, torch.float64)), layer(0, 6, torch.float64)
    x, o = X_IN.double(), X_OUT.double()
    total(step_on(*parts, weight=0.7)((x, Y), outliers=o)).backward()
    (F.cross_entropy(whole(x), Y) + 0.7 * F.cross_entropy(whole(o), torch.full((8,), 5))).backward()
    found = torch.cat([part.weight.grad for part in parts if part.weight.grad is not None])
    assert whole.weight.grad is not None
    torch.testing.assert_close(found, whole.weight.grad, rtol=1e-12, atol=1e-13)


def test_pixels_are_rows() -> None:
    z_in, b_in, z_out, b_out = normal(2, 4, 3, 2), normal(2, 1, 3, 2), normal(3, 4, 3, 2, seed=1), normal(3, 1, 3, 2)
    y = torch.arange(12).reshape(2, 3, 2) % 4
    outputs = Outputs({}, {"id": z_in, "outliers": z_out}, {"background": {"id": b_in, "outliers": b_out}})
    loss = F.cross_entropy(z_in, y) + background_term(outputs) + BackgroundClass(weight=0.3)(z_out, b_out)
    rows_in, rows_out = (pixels_as_rows(torch.cat(pair, 1).numpy()) for pair in ((z_in, b_in), (z_out, b_out)))
    expected = reference.loss(rows_in, one_hot(y.flatten().tolist(), 4), rows_out, 0.3)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


def test_equal_logits_leave_the_logarithm_of_one_class_more() -> None:
    zeros = nn.Linear(6, 4), nn.Linear(6, 1)
    for each in zeros:
        nn.init.zeros_(each.weight), nn.init.zeros_(each.bias)
    terms = step_on(*zeros, weight=0.5)((X_IN, Y % 4), outliers=X_OUT)
    assert terms["background"].item() == pytest.approx(math.log(5 / 4), rel=1e-6)
    assert total(terms).item() == pytest.approx(1.5 * math.log(5), rel=1e-6)


def test_one_known_class_is_logistic_regression() -> None:
    d = normal(5, 1)
    assert BackgroundClass()(d, torch.zeros_like(d)).item() == pytest.approx(F.softplus(d).mean().item(), rel=1e-12)


def test_logits_far_apart_stay_finite() -> None:
    far = torch.tensor([[-1e4, 0.0], [1e4, 0.0]], requires_grad=True)
    loss = BackgroundClass()(far, torch.zeros(2, 1))
    loss.backward()
    assert loss.item() == pytest.approx((math.log(2) + 1e4) / 2)  # d of the rows: 0 and 10000
    assert far.grad is not None and far.grad.isfinite().all()


def test_no_outliers_are_an_exact_zero() -> None:
    loss = BackgroundClass()(torch.zeros(0, 3, requires_grad=True), torch.zeros(0, 1))
    assert loss.item() == 0 and loss.requires_grad


def test_the_term_of_known_rows_is_there_once() -> None:
    """Two methods that train the class share its term."""
    head, background = nn.Linear(6, 5), nn.Linear(6, 1)
    net = Classifier(nn.Identity(), head)
    net.heads["background"] = background
    terms = TrainingStep(net, OpenMix(), BackgroundClass())((X_IN, Y), outliers=X_OUT)
    assert set(terms) == {"cross_entropy", "background", "background_class", "openmix"}
    d = head(X_IN).logsumexp(1, keepdim=True) - background(X_IN)
    assert terms["background"].item() == pytest.approx(F.softplus(-d).mean().item(), rel=1e-6)


@pytest.mark.parametrize("name", SCORES)
def test_the_scores(name: str) -> None:
    z = normal(20, 6)
    found = SCORES[name]()(z, z[:, :5], z[:, 5:])
    formula = {
        "background": lambda row: 1 - reference.s1(row),
        "background-s2": lambda row: 1 - reference.s2(row),
        "background-s3": lambda row: 1 - reference.s3(row),
    }[name]
    assert found.tolist() == pytest.approx([formula(row) for row in z.tolist()], rel=1e-11, abs=1e-14)


@pytest.mark.parametrize("name", SCORES)
def test_sure_rows_keep_their_order(name: str) -> None:
    z = torch.cat([torch.linspace(20, 59, 40)[:, None], torch.zeros(40, 4)], 1)
    found = SCORES[name]()(z, z, torch.zeros(40, 1))
    assert bool((found.diff() < 0).all()), "in float32"


def test_a_row_the_background_claims_scores_higher() -> None:
    z = torch.tensor([[5.0, 0.0, 0.0], [5.0, 0.0, 0.0]])
    background = torch.tensor([[-5.0], [9.0]])
    for score in SCORES.values():
        known, unknown = score()(z, z, background).tolist()
        assert unknown > known
