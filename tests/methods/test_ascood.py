"""ASCOOD: outliers where the class shows, standardised features in training, and what is tested."""

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import ASCOOD, Batch, Classifier, Normalize, Part, TrainingStep
from oodles.methods.ascood import divergence_from_uniform, largest_slopes, permute, standardized

from ..contract import networks
from ..contract.rows import ROWS
from ..contract.test_gradients import check_reaches_network
from ..contract.test_ownership import check_owns_nothing, check_unit_range
from ..contract.test_randomness import check_randomness
from ..contract.test_tracing import check_no_loop
from ..references import ascood as reference
from ..references.equations import cross_entropy
from .linear import BIAS, PRECISIONS, TARGETS, WEIGHT, classifier, features, targets

VALUES = json.loads(Path(__file__).parents[1].joinpath("recorded", "values.json").read_text(encoding="utf-8"))
RECORDED = VALUES["ascood"]
SHUFFLE = ROWS["ascood"].with_settings(form="shuffle", share=0.3)


def logits_of(row: list[float], sigma: float) -> list[float]:
    """W·(σ z) + b of standardised features."""
    z = [sigma * value for value in reference.standardized(row)]
    return [sum(w * h for w, h in zip(ws, z, strict=True)) + b for ws, b in zip(WEIGHT, BIAS, strict=True)]


def slope_of(row: list[float], target: list[float], sigma: float) -> list[float]:
    """∂ Σ_c y_c z_c / ∂x by finite differences, where features are inputs."""

    def labelled(x: list[float]) -> float:
        return sum(t * z for t, z in zip(target, logits_of(x, sigma), strict=True))

    steps = ([*row[:i], row[i] + step, *row[i + 1 :]] for i in range(len(row)) for step in (1e-6, -1e-6))
    values = [labelled(x) for x in steps]
    return [(above - below) / 2e-6 for above, below in zip(values[::2], values[1::2], strict=True)]


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize(("sigma", "share", "alpha"), [(0.5, 0.4, 0.05), (1.5, 1.0, 3.0), (0.5, 0.01, 0.05)])
def test_both_terms(dtype: torch.dtype, accuracy: float, kind: str, sigma: float, share: float, alpha: float) -> None:
    x = features().clamp(max=1)
    step = TrainingStep(classifier(dtype), ASCOOD(weight=0.7, sigma=sigma, share=share, alpha=alpha))
    made = []
    for row, target in zip(x.tolist(), TARGETS[kind], strict=True):
        outlier = reference.gradient_outlier(row, slope_of(row, target, sigma), alpha, max(1, int(5 * share)))
        made.append([min(max(value, 0.0), 1.0) for value in outlier])
    prepared = step.prepare((x.to(dtype), targets(kind, dtype)))
    loose = max(accuracy, 1e-8)  # finite differences
    found = prepared["ascood"].inputs
    torch.testing.assert_close(found.double(), torch.tensor(made, dtype=torch.float64), rtol=loose, atol=10 * loose)
    terms = step.losses(prepared)
    logits = np.array([logits_of(row, sigma) for row in x.tolist()])
    plain = cross_entropy(logits, np.array(TARGETS[kind]))
    assert terms["cross_entropy"].item() == pytest.approx(plain, rel=10 * accuracy)
    divergence = reference.divergence_from_uniform([logits_of(row, sigma) for row in found.tolist()])
    assert terms["ascood"].item() == pytest.approx(0.7 * divergence, rel=100 * accuracy)


def test_standardised_features_that_the_authors_program_gave() -> None:
    """The features are the in-distribution rows of the recorded inputs."""
    x = torch.tensor(VALUES["inputs"]["Xin"]).reshape(4, 6)
    np.testing.assert_allclose(standardized(x).flatten().numpy(), RECORDED["z_std(sigma1)"], rtol=1e-5, atol=1e-6)


def test_outliers_by_gradient_that_the_authors_program_gave() -> None:
    """Inputs and slopes are closed forms, see "x" and "g"."""
    steps = torch.arange(1, 97, dtype=torch.float32).reshape(2, 3, 4, 4)
    x, slope = 0.5 * torch.sin(0.19 * steps) + 0.5, 0.1 * torch.sin(0.43 * steps)
    changes = largest_slopes(slope, RECORDED["p"])
    assert (changes != 0).sum() == RECORDED["changed_px"]
    made = x + RECORDED["alpha"] * changes
    assert made.sum().item() == pytest.approx(RECORDED["gradient_ood_sum"], rel=1e-5)


def test_the_divergence() -> None:
    z = torch.tensor([[1.0, 2.0, -1.0], [0.5, 0.5, 0.5]], dtype=torch.float64)
    assert divergence_from_uniform(z).item() == pytest.approx(reference.divergence_from_uniform(z.tolist()), rel=1e-12)
    assert divergence_from_uniform(z[1:]).item() == pytest.approx(0, abs=1e-15)
    empty = z[:0].requires_grad_()
    assert divergence_from_uniform(empty).item() == 0 and divergence_from_uniform(empty).requires_grad
    assert ASCOOD(weight=3.0)(z).item() == pytest.approx(3 * divergence_from_uniform(z).item())


def test_features_that_are_all_equal() -> None:
    x = torch.tensor([[0.3] * 5, [0.0] * 5], dtype=torch.float64, requires_grad=True)
    assert torch.equal(standardized(x), torch.zeros(2, 5).double())
    (slope,) = torch.autograd.grad(standardized(x)[:, 0].sum(), x)
    assert slope.isfinite().all()


@pytest.mark.parametrize("share", [0.05, 0.3, 1.0])
def test_shuffled_pixels(share: float) -> None:
    x, slope = torch.rand(5, 3, 6, 6), torch.randn(5, 3, 6, 6)
    made = permute(x, slope, share, torch.Generator().manual_seed(0))
    count = max(1, int(36 * share))
    for row in range(5):
        weight = slope[row].exp().sum(0).flatten()
        chosen = weight.argsort(descending=True)[:count]
        others = weight.argsort(descending=True)[count:]
        before, after = x[row].flatten(1), made[row].flatten(1)
        assert torch.equal(before[:, others], after[:, others])
        assert sorted(before[:, chosen].T.tolist()) == sorted(after[:, chosen].T.tolist()), "the same pixels"
        assert count < 10 or not torch.equal(before[:, chosen], after[:, chosen])
    again = permute(x, slope, share, torch.Generator().manual_seed(0))
    other = permute(x, slope, share, torch.Generator().manual_seed(1))
    assert torch.equal(made, again) and (count < 10 or not torch.equal(made, other))


def test_shuffling_keeps_the_contract() -> None:
    check_randomness(replace(SHUFFLE, random=True), "images")
    check_owns_nothing(SHUFFLE, "images")
    check_unit_range(SHUFFLE, "images")
    check_no_loop(SHUFFLE, "images")
    check_reaches_network(SHUFFLE, "images")
    with pytest.raises(ValueError, match=r"ascood needs images of shape \(N, C, H, W\), got \(6, 6\)"):
        TrainingStep(networks.classifier("vectors"), SHUFFLE.make())(networks.batch("vectors"))


def test_slopes_are_those_of_eval_mode_and_leave_no_trace() -> None:
    net = networks.classifier("images", noisy=True).train()
    step = TrainingStep(net, ASCOOD())
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    first, second = (step.prepare(networks.batch("images"))["ascood"].inputs for _ in range(2))
    assert torch.equal(first, second), "dropout is off"
    assert all(torch.equal(net.get_buffer(name), value) for name, value in buffers.items())
    assert all(p.grad is None for p in net.parameters()) and all(m.training for m in net.modules())
    assert not first.requires_grad


def test_alpha_counts_in_normalised_inputs() -> None:
    """A classifier that normalises makes the outliers of one whose inputs are normalised already."""
    x, y = 0.4 + 0.1 * torch.rand(4, 2, 3, 3, dtype=torch.float64), torch.tensor([0, 2, 1, 2])
    normalize = Normalize([0.3, 0.2], [0.25, 0.5]).double()  # gives numbers in [0.4, 0.8], which are not clamped
    made = []
    for backbone, rows in ((nn.Sequential(normalize, nn.Flatten()), x), (nn.Flatten(), normalize(x))):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            net = Classifier(backbone, nn.Linear(18, 3, dtype=torch.float64))
        made.append(TrainingStep(net, ASCOOD(alpha=0.05)).prepare((rows, y))["ascood"].inputs)
    assert not torch.equal(made[0], x)
    torch.testing.assert_close(normalize(made[0]), made[1])


def test_vectors_that_are_normalised_have_a_unit_for_each_feature() -> None:
    x, y = torch.rand(4, 6, dtype=torch.float64), torch.tensor([0, 2, 1, 2])
    net = Classifier(nn.Sequential(Normalize([0.5] * 6, [0.5] * 6).double()), nn.Linear(6, 3, dtype=torch.float64))
    assert TrainingStep(net, ASCOOD(alpha=0.05)).prepare((x, y))["ascood"].rows.shape == x.shape


def test_the_trained_classifier_scales_and_does_not_standardise() -> None:
    net, x = classifier(), features()
    weight = net.head.weight
    TrainingStep(net, ASCOOD(sigma=0.5))
    TrainingStep(net, ASCOOD(sigma=0.5))
    assert net.head.weight is weight and set(net.state_dict()) == {"head.weight", "head.bias", "head.factor"}
    expected = 0.5 * x @ weight.T + net.head.bias
    torch.testing.assert_close(net(x), expected)
    torch.testing.assert_close(net.eval()(x), expected)


def test_a_weight_of_zero_makes_no_outliers() -> None:
    step = TrainingStep(classifier(), ASCOOD(weight=0, sigma=0.5))
    given = Batch({"id": Part(features(), targets("class ids"))})
    assert set(step.prepare(given).parts) == {"id"}
    terms = step(given)
    expected = cross_entropy(
        np.array([logits_of(row, 0.5) for row in features().tolist()]), np.array(TARGETS["class ids"])
    )
    assert set(terms) == {"cross_entropy"} and terms["cross_entropy"].item() == pytest.approx(expected)


def test_the_last_layer_may_learn_at_another_rate() -> None:
    net = Classifier(nn.Linear(5, 5), nn.Linear(5, 3))
    assert len(TrainingStep(net, ASCOOD()).parameter_groups(0.1)) == 1
    _, own = TrainingStep(net, ASCOOD(head_learning_rate=0.05)).parameter_groups(0.1)
    assert own["lr"] == pytest.approx(0.005)
    assert {id(p) for p in own["params"]} == {id(p) for p in net.head.parameters()}


def test_outliers_are_less_like_their_class_after_training_than_before() -> None:
    """On separable rows the term falls while the classes stay right."""
    generator = torch.Generator().manual_seed(0)
    centres = torch.rand(3, 20, generator=generator)
    y = torch.arange(90) % 3
    x: Tensor = (centres[y] + 0.05 * torch.randn(90, 20, generator=generator)).clamp(0, 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(nn.Sequential(nn.Linear(20, 32), nn.ReLU()), nn.Linear(32, 3))
    step = TrainingStep(net, ASCOOD(alpha=0.5, share=0.5))
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1, momentum=0.9)
    values = []
    for _ in range(60):
        terms = step((x, y))
        optimizer.zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        optimizer.step()
        values.append(terms["cross_entropy"].item() + terms["ascood"].item())
    assert values[-1] < 0.7 * values[0] and math.isfinite(values[-1])
    assert (net.eval()(x).argmax(1) == y).float().mean() > 0.9
