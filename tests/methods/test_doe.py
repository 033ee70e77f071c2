"""DOE: the regret, how long the perturbation of a layer is, and training against two weight states by hand."""

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodles import DOE, GODIN, Batch, Classifier, LogitNorm, Method, OutlierExposure, TrainingStep
from oodles.methods.doe import as_long, regret
from oodles.methods.logit_norm import normalized
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.randomness import generator_for

from ..contract.networks import batch, classifier
from ..contract.steps import total
from ..references import doe as reference

SCALES = (0.3, 0.2, 0.1, 0.05)
SETTINGS = {"weight": 0.8, "start": 0.0, "scales": SCALES, "perturbation_momentum": 0.6}
KERNELS = ("backbone.0.weight", "head.weight")


def logits(dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(9, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-5), (torch.float64, 1e-8)])
def test_the_regret_is_the_slope_in_a_factor_on_the_logits(dtype: torch.dtype, accuracy: float) -> None:
    z = logits(dtype)
    found = regret(z)
    assert found.dtype == dtype and found.item() == pytest.approx(reference.regret(z.tolist()), rel=accuracy)


def test_uniform_predictions_leave_nothing_to_regret() -> None:
    assert regret(torch.full((4, 3), 2.0)).item() == 0
    nothing = regret(torch.zeros(0, 3, requires_grad=True))
    assert nothing.item() == 0 and nothing.requires_grad


@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-6), (torch.float64, 1e-12), (torch.float16, 1e-3)])
def test_a_layers_perturbation_is_as_long_as_its_weights(dtype: torch.dtype, accuracy: float) -> None:
    weight, slope = logits(dtype), 100 * logits(dtype).flip(0)
    expected = reference.as_long(slope.flatten().tolist(), weight.flatten().tolist())
    found = as_long(slope, weight)
    assert found.dtype == torch.promote_types(dtype, torch.float32)
    assert found.flatten().tolist() == pytest.approx(expected, rel=accuracy)
    assert as_long(torch.zeros(2, 2), torch.ones(2, 2)).tolist() == [[0, 0], [0, 0]]


def uphill(net: Classifier, given: Batch) -> dict[str, list[float]]:
    """The perturbation of one batch by hand."""
    plain = copy.deepcopy(net)
    z = plain(given["outliers"].rows)
    ((z.softmax(1) * z).sum(1) - z.mean(1)).mean().square().backward()
    weights = dict(plain.named_parameters())
    return {
        name: reference.as_long(weights[name].grad.flatten().tolist(), weights[name].flatten().tolist())  # type: ignore[union-attr]
        for name in KERNELS
    }


def test_training_is_that_of_two_weight_states_by_hand() -> None:
    """Known rows at W, outliers at W + α·P, and one update by the sum of both gradients."""
    net = classifier("vectors", dtype=torch.float64)
    plain = copy.deepcopy(net)
    step = TrainingStep(net, DOE(**SETTINGS), seed=7)
    optimizers = [torch.optim.SGD(one.parameters(), lr=0.1, momentum=0.9) for one in (net, plain)]
    history: list[dict[str, list[float]]] = []
    for index in range(5):
        given = batch("vectors", seed=10 * index, dtype=torch.float64)
        history.append(uphill(plain, given))
        place = int(torch.randint(4, (), generator=generator_for(7, index, "doe", "shared")))
        shaken = copy.deepcopy(plain)
        with torch.no_grad():
            for name in KERNELS:
                mean = reference.averaged([one[name] for one in history], 0.6)
                weight = shaken.get_parameter(name)
                weight += SCALES[place] * torch.tensor(mean, dtype=torch.float64).view_as(weight)
        outliers = 0.8 * cross_entropy_to_uniform(shaken(given["outliers"].rows))
        known = cross_entropy(plain(given["id"].rows), given["id"].labels)
        slopes = [
            torch.autograd.grad(loss, list(one.parameters())) for loss, one in ((known, plain), (outliers, shaken))
        ]
        for parameter, first, second in zip(plain.parameters(), *slopes, strict=True):
            parameter.grad = first + second

        optimizers[0].zero_grad()
        terms = step(given)
        assert terms["doe"].item() == pytest.approx(outliers.item(), rel=1e-9)
        assert terms["cross_entropy"].item() == pytest.approx(known.item(), rel=1e-9)
        total(terms).backward()
        for optimizer in optimizers:
            optimizer.step()
    for (name, parameter), other in zip(net.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(parameter, other, rtol=1e-8, atol=1e-10, msg=name)


def test_a_small_step_along_the_perturbation_raises_the_regret() -> None:
    net, given = classifier("images", dtype=torch.float64), batch("images", dtype=torch.float64)
    ((roles, change),) = TrainingStep(net, DOE(start=0.0, scales=(1e-4,))).prepare(given).weights
    assert roles == {"outliers"} and all(change[name].ndim > 1 for name in change)
    before = regret(net(given["outliers"].rows)).item()
    with torch.no_grad():
        for name, value in change.items():
            net.get_parameter(name).add_(value)
    assert regret(net(given["outliers"].rows)).item() > before


def test_before_its_start_it_is_outlier_exposure() -> None:
    given = batch("vectors")
    step = TrainingStep(classifier("vectors"), DOE())
    exposure = TrainingStep(classifier("vectors"), OutlierExposure(weight=1.0))
    for epoch in range(4):
        step.start_epoch(epoch, 4)
        prepared = step.prepare(given)
        terms, expected = step.losses(prepared), exposure(given)
        assert bool(prepared.weights) == (epoch >= 2)
        same = torch.allclose(terms["doe"], expected["outlier_exposure"], rtol=1e-6)
        assert same == (epoch < 2), "and then perturbed"


def test_the_perturbation_is_kept_after_the_update_and_a_broken_one_is_not() -> None:
    method = DOE(**SETTINGS)
    step = TrainingStep(classifier("vectors"), method)
    step(batch("vectors"))
    assert not method.perturbation.any(), "as the first batch may be prepared again"
    step.after_update()
    kept = method.perturbation.clone()
    assert kept.any()
    broken = batch("vectors")
    step((broken["id"].rows, broken["id"].labels), torch.full((4, 6), torch.inf))
    step.after_update()
    assert torch.equal(method.perturbation, kept)


@pytest.mark.parametrize("others", [(GODIN(),), (LogitNorm(),)], ids=["another head", "normalised logits"])
def test_the_regret_is_that_of_what_other_methods_make_of_the_logits(others: tuple[Method, ...]) -> None:
    step = TrainingStep(classifier("vectors", dtype=torch.float64), DOE(**SETTINGS), *others)
    given = batch("vectors", dtype=torch.float64)
    prepared = step.prepare(given)
    names = {name for name, p in step.classifier.named_parameters() if p.ndim > 1}
    ((_, change),) = prepared.weights
    assert set(change) == names and len(step.methods[0].perturbation) == sum(v.numel() for v in change.values())  # type: ignore[arg-type]
    if isinstance(others[0], LogitNorm):
        net = step.classifier
        regret(normalized(net(given["outliers"].rows), others[0].temperature)).backward()
        weight = net.head.weight
        torch.testing.assert_close(change["head.weight"] / prepared.draws["doe"], as_long(weight.grad, weight.detach()))


def test_statistics_of_batch_norm_are_those_of_the_weights_that_are_tested() -> None:
    net = classifier("images", noisy=True).train()
    TrainingStep(net, DOE(**SETTINGS))(batch("images"))
    assert int(net.get_buffer("backbone.1.num_batches_tracked")) == 1, "the search and other weights move none"


def test_batch_norm_sees_known_rows_and_outliers_together_with_either_weights() -> None:
    torch.manual_seed(3)
    net = Classifier(nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU()), nn.Linear(8, 4)).double()
    plain = copy.deepcopy(net)
    known, outliers = torch.randn(10, 6, dtype=torch.float64), 5 + 3 * torch.randn(7, 6, dtype=torch.float64)
    labels = torch.arange(10) % 4
    together = torch.cat([known, outliers])
    asked = copy.deepcopy(net)
    z = asked(together)[10:]
    ((z.softmax(1) * z).sum(1) - z.mean(1)).mean().square().backward()
    shaken = copy.deepcopy(net)
    with torch.no_grad():
        for name in KERNELS:
            weight, slope = shaken.get_parameter(name), asked.get_parameter(name).grad
            assert slope is not None
            weight += 0.2 * weight.norm() * slope / slope.norm()
    terms = TrainingStep(net, DOE(weight=0.8, start=0.0, scales=(0.2,)))((known, labels), outliers)
    assert terms["cross_entropy"].item() == pytest.approx(cross_entropy(plain(together)[:10], labels).item(), abs=1e-12)
    expected = 0.8 * cross_entropy_to_uniform(shaken(together)[10:])
    assert terms["doe"].item() == pytest.approx(expected.item(), abs=1e-9)
    name = "backbone.1.running_mean"
    assert torch.equal(net.get_buffer(name), plain.get_buffer(name))
