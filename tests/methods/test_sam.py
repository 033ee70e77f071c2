"""SAM: the step up, and training against the textbook's loop of two passes."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from oodles import SAM, Batch, Classifier, OutlierExposure, TrainingStep
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.methods.sam import step_up

from ..contract.networks import batch, classifier
from ..contract.steps import total
from ..references import sam as reference

RADIUS = 0.2


def plain_loss(net: Classifier, given: Batch, weight: float) -> Tensor:
    known, unknown = given["id"], given["outliers"]
    return cross_entropy(net(known.rows), known.labels) + weight * cross_entropy_to_uniform(net(unknown.rows))


@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-6), (torch.float64, 1e-12)])
def test_one_length_for_all_weights_together(dtype: torch.dtype, accuracy: float) -> None:
    gradient = [torch.tensor([[0.3, -1.0], [2.0, 0.1]], dtype=dtype), torch.tensor([0.5, -0.2, 0.7], dtype=dtype)]
    expected = reference.worst([value for slope in gradient for value in slope.flatten().tolist()], RADIUS)
    found = SAM(radius=RADIUS)(*gradient)
    assert torch.cat([change.flatten() for change in found]).tolist() == pytest.approx(expected, rel=accuracy)
    assert [change.shape for change in found] == [slope.shape for slope in gradient]


def test_where_the_gradient_is_zero_nothing_moves() -> None:
    assert [change.tolist() for change in step_up([torch.zeros(2), torch.zeros(1, 1)], 0.1)] == [[0, 0], [[0]]]
    assert step_up([], 0.1) == []


def test_half_precision_keeps_its_type_and_does_not_overflow() -> None:
    (change,) = step_up([torch.full((4,), 300.0, dtype=torch.float16)], 0.5)  # whose squares float16 cannot hold
    assert change.dtype == torch.float16 and change.tolist() == [0.25] * 4


def test_the_step_up_follows_finite_differences_of_the_loss() -> None:
    given, net = batch("vectors", dtype=torch.float64), classifier("vectors", dtype=torch.float64)
    names = [name for name, _ in net.named_parameters()]
    start = torch.nn.utils.parameters_to_vector(net.parameters()).tolist()
    other = copy.deepcopy(net)

    def loss(weights: list[float]) -> float:
        torch.nn.utils.vector_to_parameters(torch.tensor(weights, dtype=torch.float64), other.parameters())
        with torch.no_grad():
            return float(plain_loss(other, given, 0.5))

    expected = reference.worst(reference.slopes(loss, start), RADIUS)
    ((roles, change),) = TrainingStep(net, OutlierExposure(), SAM(radius=RADIUS)).prepare(given).weights
    assert roles == set(given.parts)
    found = torch.cat([change[name].flatten() for name in names])
    torch.testing.assert_close(found, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("weight", [0.0, 0.5])
def test_training_is_the_textbooks_loop(weight: float) -> None:
    """Go up, take the gradient, come back, and let the optimizer use it; also with a loss of outliers."""
    net = classifier("images", dtype=torch.float64)
    plain = copy.deepcopy(net)
    step = TrainingStep(net, SAM(radius=RADIUS), OutlierExposure(weight=weight))
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3) for one in (net, plain)]
    for seed in range(4):
        given = batch("images", seed=10 * seed, dtype=torch.float64)
        optimizers[0].zero_grad()
        total(step(given)).backward()
        optimizers[0].step()

        optimizers[1].zero_grad()
        plain_loss(plain, given, weight).backward()
        start = [parameter.detach().clone() for parameter in plain.parameters()]
        slopes = [parameter.grad for parameter in plain.parameters()]
        length = torch.stack([slope.square().sum() for slope in slopes if slope is not None]).sum().sqrt()
        with torch.no_grad():
            for parameter, slope in zip(plain.parameters(), slopes, strict=True):
                parameter += RADIUS * slope / length  # type: ignore[operator]
        optimizers[1].zero_grad()
        plain_loss(plain, given, weight).backward()
        with torch.no_grad():
            for parameter, value in zip(plain.parameters(), start, strict=True):
                parameter.copy_(value)
        optimizers[1].step()
    for (name, parameter), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-10, atol=1e-12, msg=name)


def test_batch_norm_counts_one_batch_and_dropout_draws_once() -> None:
    net, once = (classifier("images", noisy=True).train() for _ in range(2))
    state = torch.get_rng_state()
    TrainingStep(net, SAM())(batch("images"))
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    once(batch("images")["id"].rows)
    assert torch.equal(torch.get_rng_state(), after), "the first pass leaves the random numbers of dropout as they were"
    assert int(net.get_buffer("backbone.1.num_batches_tracked")) == 1


def test_weights_that_are_fixed_stay_where_they_are() -> None:
    net = classifier("vectors")
    for parameter in net.backbone.parameters():
        parameter.requires_grad_(False)
    ((_, change),) = TrainingStep(net, SAM()).prepare(batch("vectors")).weights
    assert set(change) == {"head.weight", "head.bias"}
