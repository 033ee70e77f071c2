"""Balanced energy against the paper's formulas, and energy-bounded learning as its limit."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from oodles import BalancedEnergy, Classifier, EnergyBounded, Recipe, TrainingStep, TrainingWarning, compare, train
from oodles.cli import COMMANDS
from oodles.cli.parsing import parse_train
from oodles.methods.balanced_energy import balanced_hinge, class_shares, frequency
from oodles.runs.preparation import _command

from ..contract.steps import is_one_sentence
from ..references import balanced_energy as reference
from ..references.equations import pixels_as_rows
from ..runs.small import small_suite

PRIOR = (0.5, 0.25, 0.125, 0.0625, 0.0625)
MARGINS = {"margin_in": -4.0, "margin_out": -2.0}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def balanced(z_in: Tensor, z_out: Tensor, **settings: object) -> float:
    return BalancedEnergy(**{"weight": 0.3, **MARGINS, **settings})(z_in, z_out).item()  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype, accuracy", [(torch.float64, 1e-7), (torch.float32, 1e-5)])
@pytest.mark.parametrize("shape", [(7, 5), (1, 5), (2, 5, 4, 2)])
@pytest.mark.parametrize("alpha, gamma", [(5.0, 0.75), (0.0, 0.75), (10.0, 2.0)])
def test_the_formula(shape: tuple[int, ...], alpha: float, gamma: float, dtype: torch.dtype, accuracy: float) -> None:
    z_in, z_out = normal(*shape), normal(2 * shape[0], *shape[1:], seed=1)
    rows = (pixels_as_rows(z.numpy()) if z.ndim > 2 else z.numpy() for z in (z_in, z_out))
    expected = 0.3 * reference.loss(*rows, -4.0, -2.0, alpha, gamma, PRIOR)
    found = balanced(z_in.to(dtype), z_out.to(dtype), alpha=alpha, gamma=gamma, prior=PRIOR)
    assert found == pytest.approx(expected, rel=accuracy)


def test_float64_with_shares_that_float32_has() -> None:
    z_in, z_out = normal(7, 5), normal(11, 5, seed=1)
    expected = 0.3 * reference.loss(z_in.numpy(), z_out.numpy(), -4.0, -2.0, 5.0, 1.0, PRIOR)
    assert balanced(z_in, z_out, gamma=1, prior=PRIOR) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("settings", [{}, {"prior": (2.0,) * 5}, {"prior": PRIOR, "gamma": 0}])
def test_a_uniform_prior_is_energy_bounded_at_a_margin_higher_by_alpha_over_the_classes(settings) -> None:  # type: ignore[no-untyped-def]
    z_in, z_out = normal(7, 5), normal(11, 5, seed=1)
    bounded = EnergyBounded(weight=0.3, margin_in=-4.0, margin_out=-2.0 + 3.0 / 5)(z_in, z_out).item()
    assert balanced(z_in, z_out, alpha=3, **settings) == pytest.approx(bounded, rel=1e-7)
    without = EnergyBounded(weight=0.3, **MARGINS)(z_in, z_out).item()
    assert balanced(z_in, z_out, alpha=0, **settings) == pytest.approx(without, rel=1e-7)


def test_counts_are_as_good_as_shares() -> None:
    z_in, z_out = normal(7, 5), normal(11, 5, seed=1)
    counts = tuple(16 * share for share in PRIOR)
    assert balanced(z_in, z_out, prior=counts) == pytest.approx(balanced(z_in, z_out, prior=PRIOR), rel=1e-6)
    assert class_shares([1, 16, 0], 0.5) == pytest.approx([0.2, 0.8, 0.0])


def test_outliers_that_look_like_frequent_classes_are_pressed_harder() -> None:
    z = torch.tensor([[3.0, 0.0, 0.0], [0.0, 0.0, 3.0]], requires_grad=True)  # the same energy
    shares = torch.tensor([0.7, 0.2, 0.1])
    assert frequency(z, shares)[0] > frequency(z, shares)[1]
    balanced_hinge(z, shares, 5.0, 0.0).backward()
    assert z.grad is not None and z.grad[0, 0] > 2 * z.grad[1, 2] > 0  # down with their logits, up with their energy


def test_doubling_the_outliers_changes_nothing() -> None:
    z_in, z_out = normal(7, 5), normal(11, 5, seed=1)
    once = balanced(z_in, z_out, prior=PRIOR)
    assert balanced(z_in, torch.cat([z_out, z_out]), prior=PRIOR) == pytest.approx(once, rel=1e-12)


def test_the_gradient_passes_through_the_weights() -> None:
    z = normal(6, 5).requires_grad_()
    shares = torch.tensor(PRIOR, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda z: balanced_hinge(z, shares, 5.0, -2.0), (z,))
    loose = frequency(z, shares).detach()
    too_low = (-2.0 + z.logsumexp(1) + 5.0 * loose).relu()
    detached = (loose * too_low**2).sum() / loose.sum()
    whole = balanced_hinge(z, shares, 5.0, -2.0)
    assert detached.item() == pytest.approx(whole.item())
    slopes = [torch.autograd.grad(value, z, retain_graph=True)[0] for value in (whole, detached)]
    assert (slopes[0] - slopes[1]).abs().max() > 0.01


def test_empty_parts_are_an_exact_zero() -> None:
    none = torch.zeros(0, 5, requires_grad=True)
    loss = BalancedEnergy(prior=PRIOR)(none, none)
    loss.backward()
    assert loss.item() == 0 and none.grad is not None


def test_outliers_of_classes_that_are_never_predicted_give_no_nan() -> None:
    z = torch.tensor([[500.0, 0.0], [400.0, 0.0]], requires_grad=True)  # exp(−400) is zero in float32
    loss = BalancedEnergy(prior=(0.0, 1.0), **MARGINS)(z, z)
    loss.backward()
    assert loss.isfinite() and z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1.0, 1e18, 1e20, 1e37])
@pytest.mark.parametrize("margins", [MARGINS, {"margin_in": -1.0, "margin_out": 1.0}])
def test_any_finite_logits_have_a_finite_loss_and_gradient(scale: float, margins: dict[str, float]) -> None:
    for method in (BalancedEnergy(prior=PRIOR, **margins), BalancedEnergy(**margins), EnergyBounded(**margins)):
        known, unknown = ((scale * normal(4, 5, seed=seed).float()).requires_grad_() for seed in (0, 1))
        loss = method(known, unknown)
        loss.backward()
        assert loss.isfinite() and known.grad is not None and unknown.grad is not None
        assert known.grad.isfinite().all() and unknown.grad.isfinite().all()


@pytest.mark.parametrize("scale", [1e-300, 1.0, 1e300])
def test_only_the_proportions_of_a_prior_matter(scale: float) -> None:
    z = normal(4, 5)
    one, other = (
        BalancedEnergy(**MARGINS, gamma=2.0, prior=tuple(size * share for share in PRIOR)) for size in (1.0, scale)
    )
    assert other(z, z).item() == pytest.approx(one(z, z).item(), rel=1e-6)


def test_a_prior_for_other_classes_is_refused_before_training() -> None:
    for refused in (
        lambda: TrainingStep(Classifier(nn.Identity(), nn.Linear(6, 4)), BalancedEnergy(prior=PRIOR)),
        lambda: BalancedEnergy(prior=PRIOR)(torch.zeros(2, 4), torch.zeros(2, 4)),
    ):
        with pytest.raises(ValueError, match="prior must have a number for each of the 4 classes, got 5") as refusal:
            refused()
        assert is_one_sentence(str(refusal.value))


def test_a_single_number_is_no_prior() -> None:
    with pytest.raises(TypeError, match="prior must be a number for each class, got 5") as refusal:
        BalancedEnergy(prior=5)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))


def test_margins_and_prior_are_measured() -> None:
    net = Classifier(nn.Identity(), nn.Identity(), num_classes=3).train()
    known = [(torch.tensor([[9.0, 0.0, 0.0], [0.0, 7.0, 0.0]]), torch.tensor([0, 1]))]
    rows = torch.tensor([[1.0, 0.0, 0.0], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0], [3.0, 0.0, 0.0]])
    unknown = [(rows[:3], torch.zeros(3)), (rows[3:], torch.zeros(1))]
    found = BalancedEnergy.suggest(net, iter(known), iter(unknown))  # loaders that run once
    assert found["prior"] == (0.75, 0.25, 0.0) and net.training
    assert {**found, "prior": None} == {**EnergyBounded.suggest(net, known, unknown), "prior": None}
    made = BalancedEnergy(**json.loads(json.dumps(found)))
    assert made.prior == found["prior"] and isinstance(made.prior, tuple)
    with pytest.warns(TrainingWarning, match="gives outliers the higher mean energy"):
        BalancedEnergy.suggest(net, unknown, known)


@pytest.mark.parametrize("prior", [(), (0.5, 0.25, 0.25)])
def test_a_prior_survives_toml_json_and_the_command_line(prior: tuple[float, ...], tmp_path: Path) -> None:
    recipe = Recipe(methods=(("balanced-energy", {"prior": prior}), ("mixup", {})))
    assert recipe.methods[0][1]["prior"] == prior
    (tmp_path / "recipe.toml").write_text(recipe.to_toml(), encoding="utf-8")
    assert Recipe.load(tmp_path / "recipe.toml") == recipe
    plain = recipe.as_dict()
    assert json.loads(json.dumps(plain)) == plain and Recipe.from_dict(plain) == recipe
    words = shlex.split(_command(tmp_path, recipe, {}))
    chain = parse_train(COMMANDS["train"], words[2:]).keywords["chain"]  # type: ignore[attr-defined]
    assert chain[0][1]["prior"] == prior and Recipe(methods=chain) == recipe


def test_a_measured_prior_goes_through_training_the_run_folder_and_the_report(tmp_path: Path) -> None:
    first = Recipe(learning_rate=0.1, epochs=1, batch_size=20, outlier_batch_size=10)
    options = {"network": "tests.runs.small:linear", "progress": False}
    start = train(first, small_suite(), folder=tmp_path / "first", **options)
    recipe = replace(first, methods=(("balanced-energy", {}),), weights=str(start.folder), suggest=True)
    run = train(recipe, small_suite(), folder=tmp_path / "run", **options)
    prior = run.suggested["balanced-energy"]["prior"]
    assert isinstance(prior, list) and len(prior) == 3 and sum(prior) == pytest.approx(1)
    assert run.methods[0][1]["prior"] == () and run.classifier().num_classes == 3
    again = train(recipe, small_suite(), folder=tmp_path / "run", **options)
    assert again.suggested == run.suggested
    shown = " ".join(f"{share:.4g}" for share in prior)
    assert f"prior {shown}<" in compare([run.folder]).to_html()
