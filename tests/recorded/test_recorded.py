"""Agreement with numbers that the authors' own programs gave; values.json says which program gave which."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from oodles import (
    CIDER,
    VOS,
    WOODS,
    Batch,
    Classifier,
    EnergyBounded,
    LogitNorm,
    OutlierExposure,
    OutlierExposureLoss,
    Part,
    ReweightOOD,
    SupCon,
    TrainingStep,
    mixup_criterion,
    soft_targets,
)
from oodles.methods.cider import compactness, dispersion, moved
from oodles.methods.cutmix import cutmix_box
from oodles.methods.logit_norm import normalized
from oodles.scores import energy
from oodles.targets import cross_entropy

from ..contract.steps import total

VALUES: dict[str, Any] = json.loads(Path(__file__).with_name("values.json").read_text(encoding="utf-8"))
X_IN, X_OUT, W = (torch.tensor(VALUES["inputs"][name]) for name in ("Xin", "Xout", "W"))
X_IN, X_OUT, W = X_IN.reshape(4, 6), X_OUT.reshape(8, 6), W.reshape(5, 6)
B, Y = torch.tensor(VALUES["inputs"]["b"]), torch.tensor(VALUES["inputs"]["Y"])
DTYPES = [torch.float32, torch.float64]


def linear(dtype: torch.dtype) -> nn.Linear:
    layer = nn.Linear(6, 5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(W), layer.bias.copy_(B)
    return layer


def near(found: Tensor, recorded: list[float]) -> None:
    torch.testing.assert_close(found.double().flatten(), torch.tensor(recorded).double(), rtol=1e-5, atol=2e-6)


def test_inputs_are_the_closed_forms() -> None:
    def closed_form(a: float, b: float, scale: float, count: int) -> list[float]:
        return [math.sin(a * (k + 1) + b) * scale for k in range(count)]

    near(X_IN, closed_form(0.71, 0, 2, 24))
    near(X_OUT, closed_form(0.53, 0.4, 2, 48))
    near(W, closed_form(0.37, 0, 2, 30))
    near(B, closed_form(0.9, 0, 0.5, 5))


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name, method", [("outlier_exposure", OutlierExposure()), ("energy_bounded", EnergyBounded())])
def test_losses_with_outliers(name: str, method: OutlierExposure | EnergyBounded, dtype: torch.dtype) -> None:
    recorded = VALUES[name]
    layer = linear(dtype)
    step = TrainingStep(Classifier(nn.Identity(), layer), method)
    loss = total(step((X_IN.to(dtype), Y), outliers=X_OUT.to(dtype)))
    loss.backward()
    assert loss.item() == pytest.approx(recorded["loss"], rel=1e-6)
    assert layer.weight.grad is not None and layer.bias.grad is not None
    near(layer.weight.grad, recorded["grad_w"])
    near(layer.bias.grad, recorded["grad_b"])


def test_the_standalone_piece_of_outlier_exposure() -> None:
    layer = linear(torch.float32)
    loss = OutlierExposureLoss()(layer(X_IN), Y, layer(X_OUT))
    loss.backward()
    assert loss.item() == pytest.approx(VALUES["outlier_exposure"]["loss"], rel=1e-6)
    assert layer.weight.grad is not None
    near(layer.weight.grad, VALUES["outlier_exposure"]["grad_w"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_mixup(dtype: torch.dtype) -> None:
    recorded, layer = VALUES["mixup"], linear(dtype)
    lam, order = recorded["lam"], recorded["perm"]
    x = X_IN.to(dtype)
    pred = layer(lam * x + (1 - lam) * x[order])
    (expected,) = recorded["loss"]
    two_losses = mixup_criterion(nn.CrossEntropyLoss(), pred, Y, Y[order], lam)
    one_loss = cross_entropy(pred, soft_targets(Y, Y[order], lam, 5))
    assert two_losses.item() == pytest.approx(expected, rel=1e-6)
    assert one_loss.item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_logit_norm(dtype: torch.dtype) -> None:
    recorded = VALUES["logit_norm"]
    z = linear(dtype)(X_IN.to(dtype)).detach().requires_grad_()
    loss = LogitNorm(temperature=recorded["tau"])(z, Y)
    loss.backward()
    assert loss.item() == pytest.approx(recorded["loss"][0], rel=1e-5)
    assert z.grad is not None
    torch.testing.assert_close(
        z.grad.double().flatten(), torch.tensor(recorded["grad_z"]).double(), rtol=1e-4, atol=1e-5
    )
    given = Batch({"id": Part(X_IN.to(dtype), Y)})
    step = TrainingStep(Classifier(nn.Identity(), linear(dtype)), LogitNorm())
    assert step(given)["cross_entropy"].item() == pytest.approx(recorded["loss"][0], rel=1e-5)
    assert torch.equal(normalized(z, recorded["tau"]).argmax(1), z.argmax(1))


@pytest.mark.parametrize("index", range(4))
def test_cutmix_boxes(index: int) -> None:
    """The authors floor the side and the half side, so that their box can be up to a pixel smaller at each edge."""
    recorded = VALUES["cutmix"][index]
    lam = torch.tensor([recorded["lam"]], dtype=torch.float64)
    centre = torch.tensor([[recorded["centre_y"]], [recorded["centre_x"]]], dtype=torch.float64) / 32
    top, bottom, left, right = cutmix_box(lam, centre, 32, 32).flatten().tolist()
    ours, theirs = (left, top, right, bottom), tuple(recorded[edge] for edge in ("x1", "y1", "x2", "y2"))
    assert all(abs(a - b) <= 1 for a, b in zip(ours, theirs, strict=True))
    assert ours == theirs or index == 3
    side = int(32 * math.sqrt(1 - recorded["lam"])) // 2
    x, y = recorded["centre_x"], recorded["centre_y"]
    floored = (max(x - side, 0), max(y - side, 0), min(x + side, 32), min(y + side, 32))
    assert theirs == floored, "which is what the authors' program does"
    assert recorded["lam_after"] == 1 - (theirs[2] - theirs[0]) * (theirs[3] - theirs[1]) / 1024


def test_the_box_that_flooring_makes_smaller() -> None:
    """√.95 · 32 / 2 = 15.6 pixels on each side of pixel 31: edges at 15.4 and 46.6, so 15 and, clipped, 32."""
    centre = torch.full((2, 1), 31 / 32, dtype=torch.float64)
    assert cutmix_box(torch.tensor([0.05], dtype=torch.float64), centre, 32, 32).flatten().tolist() == [15, 32, 15, 32]


@pytest.mark.parametrize("dtype", DTYPES)
def test_reweight_ood(dtype: torch.dtype) -> None:
    recorded = VALUES["contrast"]
    features = torch.tensor(recorded["features"]).reshape(6, 6).to(dtype)
    near(ReweightOOD(weight=1.0)(features, torch.tensor(recorded["labels"]), 3), recorded["reweight_ood"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_supcon(dtype: torch.dtype) -> None:
    recorded = VALUES["contrast"]
    features = torch.tensor(recorded["features"]).reshape(6, 6).to(dtype)
    found = SupCon(weight=1.0)(features, torch.tensor(recorded["labels"]), 3)
    assert found.item() == pytest.approx(recorded["supcon"][0], abs=1e-6 if dtype == torch.float32 else 5e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_cider(dtype: torch.dtype) -> None:
    """The authors move prototypes row by row: so does this, and then the terms and their gradients are theirs."""
    recorded = VALUES["contrast"]
    features = torch.tensor(recorded["features"]).reshape(6, 6).to(dtype).requires_grad_()
    labels = torch.tensor(recorded["labels"])
    before = torch.tensor(recorded["prototypes"]).reshape(3, 6).to(dtype)
    after = list(before)
    for row, label in zip(features, labels.tolist(), strict=True):
        after[label] = nn.functional.normalize(0.95 * after[label] + 0.05 * row, dim=0)
    prototypes = torch.stack(after)
    near(prototypes, recorded["moved"])
    apart = dispersion(prototypes, 0.1)
    near(apart, recorded["dispersion"])
    (slope,) = torch.autograd.grad(apart, features)
    near(slope, recorded["grad_dispersion"])
    targets = nn.functional.one_hot(labels, 3).to(dtype)
    pulled = compactness(features, prototypes.detach(), targets, 0.1) * 0.1 / 0.07
    near(pulled, recorded["compactness"])
    (slope,) = torch.autograd.grad(pulled, features)
    assert slope.norm().item() == pytest.approx(recorded["grad_compactness_norm"], rel=1e-6)
    at_once = moved(before, features, targets, CIDER().prototype_momentum)
    assert (at_once - prototypes).abs().max() < 0.003, "two rows of a class at once, and not in order"


@pytest.mark.parametrize("dtype", DTYPES)
def test_vos(dtype: torch.dtype) -> None:
    """Weights of classes are shifts of logits; of four known and eight virtual rows, two means make one."""
    recorded = VALUES["vos"]
    shift = torch.tensor(recorded["class_weights"]).to(dtype).log()
    known, virtual = (linear(dtype)(x.to(dtype)) + shift for x in (X_IN, X_OUT))
    near(-energy(torch.cat([known, virtual])), recorded["log_sum_exp"])
    (w0, w1), (b0, b1) = recorded["phi_weight"], recorded["phi_bias"]
    slope, bias, none = torch.tensor(w1 - w0).to(dtype), torch.tensor(b1 - b0).to(dtype), known[:0]
    method = VOS(weight=1.0)
    near((4 * method(known, none, slope, bias) + 8 * method(none, virtual, slope, bias)) / 12, recorded["loss"])


@pytest.mark.parametrize("dtype", DTYPES)
def test_woods(dtype: torch.dtype) -> None:
    recorded = VALUES["woods"]
    method, layer = WOODS().to(dtype), linear(dtype)
    (weight, bias), constraints = recorded["phi"], method.energies
    with torch.no_grad():
        constraints.slope.fill_(math.log(math.expm1(-weight)))
        constraints.bias.fill_(bias)
    constraints.on_alarms.multiplier.fill_(recorded["lam"])
    constraints.on_loss.multiplier.fill_(recorded["lam2"])
    constraints.first_loss.fill_(recorded["first_loss"])
    known = constraints.known(layer(X_IN.to(dtype)), Y)
    out = method(layer(X_OUT.to(dtype)))
    near(out, recorded["out"])
    near(known.of_alarms, recorded["in_loss"])
    near(known.of_loss, recorded["ce_part"])
    near(known.of_alarms + known.of_loss + out, recorded["loss"])
