"""GReg: slopes by differences, against those of single inputs and of a second derivative, and of what they are."""

import copy

import pytest
import torch
from torch import Tensor, nn

from oodles import Batch, Classifier, EnergyBounded, GReg, LogitNorm, Mixup, Normalize, TrainingStep
from oodles.methods.greg import shifted, slopes_between
from oodles.scores import energy

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import greg as reference

SETTINGS = {"weight": 0.7, "margin_in": -1.38, "margin_out": -1.36, "delta": 1e-3}


def by_second_derivative(net: Classifier, given: Batch, settings: dict[str, float]) -> Tensor:
    """The term by differentiating the gradient, as the authors' program does, with every row's own gradient."""
    terms = []
    for role, right in (("id", -1), ("outliers", 1)):
        x = given[role].rows.detach().requires_grad_()
        values = energy(net(x))
        (slope,) = torch.autograd.grad(values.sum(), x, create_graph=True)
        margin = settings["margin_in" if role == "id" else "margin_out"]
        counts = right * (values - margin) > 0
        assert 0 < counts.sum() < len(counts), "the margin lies between rows"
        terms.append((slope.flatten(1).norm(dim=1) * counts).mean())
    return settings["weight"] * (terms[0] + terms[1])


def test_the_papers_equation() -> None:
    net, given = classifier("vectors", dtype=torch.float64), batch("vectors", dtype=torch.float64)

    def energy_of(x: list[float]) -> float:
        with torch.no_grad():
            return reference.energy(net(torch.tensor([x], dtype=torch.float64))[0].tolist())

    known, outliers = given["id"].rows.tolist(), given["outliers"].rows.tolist()
    expected = reference.penalty(energy_of, known, outliers, -1.38, -1.36)
    term = TrainingStep(net, GReg(**SETTINGS))(given)["greg"]
    assert term.item() == pytest.approx(0.7 * expected, rel=1e-6)


@pytest.mark.parametrize("kind, margins", [("vectors", (-1.38, -1.36)), ("images", (-1.385, -1.384))])
def test_its_gradient_is_that_of_the_second_derivative(kind: str, margins: tuple[float, float]) -> None:
    settings = {**SETTINGS, "margin_in": margins[0], "margin_out": margins[1]}
    net, given = classifier(kind, dtype=torch.float64), batch(kind, dtype=torch.float64)
    plain = copy.deepcopy(net)
    TrainingStep(net, GReg(**settings))(given)["greg"].backward()
    by_second_derivative(plain, given, settings).backward()
    for (name, parameter), other in zip(net.named_parameters(), plain.named_parameters(), strict=True):
        expected = torch.zeros_like(parameter) if other[1].grad is None else other[1].grad  # of the last bias
        torch.testing.assert_close(parameter.grad, expected, rtol=1e-4, atol=1e-7, msg=name)


def test_rows_are_shifted_to_both_sides_along_the_gradient() -> None:
    net, x = classifier("images", dtype=torch.float64), batch("images", dtype=torch.float64)["id"].rows
    before = x.clone()
    moved = shifted(net, x, 0.01).reshape(6, 2, -1)
    ahead = moved[:, 0] - x.flatten(1)
    assert torch.equal(x, before) and not x.requires_grad
    torch.testing.assert_close(ahead, x.flatten(1) - moved[:, 1])
    torch.testing.assert_close(ahead.norm(dim=1), torch.full((6,), 0.01, dtype=torch.float64))
    slopes, between = slopes_between(net(moved.reshape(12, 2, 8, 8)), 0.01)
    torch.testing.assert_close(between, energy(net(x)), rtol=1e-6, atol=0)
    assert (slopes > 0).all()


def test_the_weight_does_not_depend_on_how_many_rows_there_are() -> None:
    """As in the authors' program, which takes the gradient of a mean."""
    given = batch("vectors", dtype=torch.float64)
    x, y, o = given["id"].rows, given["id"].labels, given["outliers"].rows
    step = TrainingStep(classifier("vectors", dtype=torch.float64), GReg(**SETTINGS))
    once = step((x, y), o)["greg"].item()
    assert step((x.repeat(4, 1), y.repeat(4)), o)["greg"].item() == pytest.approx(once, rel=1e-10)
    assert step((x, y), o.repeat(3, 1))["greg"].item() == pytest.approx(once, rel=1e-10)


def test_dropout_and_batch_norm_are_as_they_are_tested() -> None:
    """Two draws of dropout would differ by far more than the two sides of a row."""
    net, given = classifier("images", noisy=True).train(), batch("images")
    for seed in range(3):
        net(batch("images", seed=5 + seed)["id"].rows)  # statistics of its own
    settings = {**SETTINGS, "margin_in": 98.0, "margin_out": 99.0, "delta": 0.05}
    tested = copy.deepcopy(net).eval()
    x = given["id"].rows.requires_grad_()
    (slope,) = torch.autograd.grad(energy(tested(x)).sum(), x)
    buffers = {name: value.clone() for name, value in net.named_buffers()}
    step = TrainingStep(net, GReg(**settings))
    prepared = step.prepare((given["id"].rows.detach(), given["id"].labels), given["outliers"].rows)
    assert all(torch.equal(net.get_buffer(name), value) for name, value in buffers.items())
    term = step.losses(prepared)["greg"]
    assert term.item() == pytest.approx(0.7 * slope.flatten(1).norm(dim=1).mean().item(), rel=1e-3)
    assert int(net.get_buffer("backbone.1.num_batches_tracked")) == 4, "known rows alone are counted"
    assert all(module.training for module in net.modules())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_mixed_precision_leaves_the_differences_alone(dtype: torch.dtype) -> None:
    given, settings = batch("images"), {**SETTINGS, "margin_in": 98.0, "margin_out": 99.0, "delta": 0.05}
    expected = TrainingStep(classifier("images"), GReg(**settings))(given)["greg"]
    step = TrainingStep(classifier("images"), GReg(**settings))
    with torch.autocast("cpu", dtype=dtype):
        found = step(given)["greg"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-5)


def test_slopes_are_those_of_the_score_whatever_training_makes_of_the_logits() -> None:
    given = batch("vectors", dtype=torch.float64)
    alone = TrainingStep(classifier("vectors", dtype=torch.float64), GReg(**SETTINGS))(given)
    beside = TrainingStep(classifier("vectors", dtype=torch.float64), GReg(**SETTINGS), LogitNorm())(given)
    assert beside["greg"].item() == alone["greg"].item() != 0
    assert beside["cross_entropy"].item() != alone["cross_entropy"].item()


def test_slopes_are_in_units_of_what_the_network_sees() -> None:
    """A classifier that normalises has the term of one that is given normalised rows."""
    normalize, inside = Normalize([0.3, 0.2], [0.25, 0.5]).double(), classifier("images", dtype=torch.float64)
    outside = Classifier(nn.Sequential(normalize, copy.deepcopy(inside.backbone)), copy.deepcopy(inside.head))
    given = batch("images", dtype=torch.float64)
    settings = {**SETTINGS, "margin_in": 98.0, "margin_out": 99.0}
    found = TrainingStep(outside, GReg(**settings))(given)["greg"]
    x, o = (normalize(given[role].rows) for role in ("id", "outliers"))
    expected = TrainingStep(inside, GReg(**settings))((x, given["id"].labels), o)["greg"]
    assert found.item() == pytest.approx(expected.item(), rel=1e-9)
    mean, std = [0.1] * 6, [0.5, 2.0, 1.0, 3.0, 0.2, 1.0]
    vectors = classifier("vectors", dtype=torch.float64)
    net = Classifier(nn.Sequential(Normalize(mean, std).double(), vectors.backbone), vectors.head)
    assert TrainingStep(net, GReg(**settings))(batch("vectors", dtype=torch.float64))["greg"].isfinite()


def test_rows_are_those_that_other_methods_have_made() -> None:
    step = TrainingStep(classifier("vectors"), GReg(**SETTINGS), Mixup())
    prepared = step.prepare(batch("vectors"))
    middle = prepared["shifted"].rows.reshape(6, 2, 6).mean(1)
    torch.testing.assert_close(middle, prepared["id"].rows)


def test_training_flattens_energies() -> None:
    net, given = classifier("vectors"), batch("vectors")
    step = TrainingStep(net, GReg(weight=3.0, margin_in=98.0, margin_out=99.0))
    optimizer = torch.optim.SGD(step.parameters(), lr=0.05, momentum=0.9)
    first = None
    for _ in range(60):
        terms = step(given)
        first = first if first is not None else terms["greg"].item()
        optimizer.zero_grad()
        total(terms).backward()
        optimizer.step()
    assert first is not None and terms["greg"].item() < first / 3


def test_flat_energies_have_no_direction() -> None:
    net = classifier("vectors")
    with torch.no_grad():
        net.head.weight.zero_()
    terms = TrainingStep(net, GReg(weight=1.0, margin_in=98.0, margin_out=99.0))(batch("vectors"))
    terms["greg"].backward()
    assert terms["greg"].item() == 0 and all(p.grad is None or p.grad.isfinite().all() for p in net.parameters())


def test_logits_of_no_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="must be those of pairs, got 3 rows") as refusal:
        GReg()(torch.zeros(3, 4), torch.zeros(2, 4))
    assert is_one_sentence(str(refusal.value))
    assert GReg()(torch.zeros(0, 4), torch.zeros(0, 4)).item() == 0


@pytest.mark.filterwarnings("ignore:Margins want a classifier:oodles.TrainingWarning")
def test_margins_are_measured_as_those_of_energy_bounded() -> None:
    net, given = classifier("vectors"), batch("vectors")
    loaders = [given["id"].rows], [given["outliers"].rows]
    assert GReg.suggest(net, *loaders) == EnergyBounded.suggest(net, *loaders)
