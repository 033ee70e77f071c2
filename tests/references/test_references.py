"""Every loss and mixer against equations in plain float64."""

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import (
    Batch,
    CrossEntropy,
    CutMix,
    EnergyBounded,
    EnergyGap,
    EnergyRegularizedLoss,
    LogitNorm,
    Mixup,
    OutlierExposure,
    OutlierExposureLoss,
    Part,
    RegMixup,
    TrainingStep,
    mixup_criterion,
    mixup_data,
    soft_targets,
)
from oodles.methods.cutmix import cutmix_box, cutmix_data
from oodles.randomness import generator_for
from oodles.targets import cross_entropy

from ..contract.networks import batch, classifier
from . import equations

SHAPES = {"rows": ((7, 5), (11, 5)), "pixels": ((3, 5, 4, 2), (2, 5, 4, 2)), "one row": ((1, 2), (1, 2))}
ACCURACY = {torch.float64: 1e-12, torch.float32: 1e-5}


@pytest.fixture(params=list(SHAPES))
def logits(request: pytest.FixtureRequest) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    first, second = (
        4 * torch.randn(shape, generator=generator, dtype=torch.float64) for shape in SHAPES[request.param]
    )
    return first, second


@pytest.fixture(params=["ids", "probabilities"])
def targets(request: pytest.FixtureRequest, logits: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """As handed over, and as distributions."""
    z = logits[0]
    generator = torch.Generator().manual_seed(1)
    if request.param == "probabilities":
        soft = torch.rand(z.shape, generator=generator, dtype=torch.float64).softmax(1)
        return soft, soft
    ids = torch.randint(z.shape[1], (z.shape[0], *z.shape[2:]), generator=generator)
    return ids, torch.nn.functional.one_hot(ids, z.shape[1]).movedim(-1, 1).double()


def rows(values: Tensor) -> np.ndarray:
    return equations.pixels_as_rows(values.numpy()) if values.ndim > 2 else values.numpy()


@pytest.mark.parametrize("dtype", ACCURACY)
def test_losses(logits: tuple[Tensor, Tensor], targets: tuple[Tensor, Tensor], dtype: torch.dtype) -> None:
    given, distributions = targets
    given = given.to(dtype) if given.is_floating_point() else given
    z_in, z_out = rows(logits[0]), rows(logits[1])
    t = rows(distributions)
    plain = equations.cross_entropy(z_in, t)
    uniform = equations.cross_entropy_to_uniform(z_out)
    bounded = equations.energy_bounded(z_in, z_out, -4.0, -3.0)
    gap = equations.energy_gap(z_in, z_out, 3.0)
    a, b = (z.to(dtype) for z in logits)
    cases = {
        "cross_entropy": (cross_entropy(a, given), plain),
        "CrossEntropy": (CrossEntropy()(a, given), plain),
        "label smoothing": (
            CrossEntropy(label_smoothing=0.3)(a, given),
            equations.cross_entropy(z_in, equations.smoothed(t, 0.3)),
        ),
        "LogitNorm": (LogitNorm(temperature=0.5)(a, given), equations.logit_norm(z_in, t, 0.5)),
        "OutlierExposure": (OutlierExposure(weight=0.7)(b), 0.7 * uniform),
        "OutlierExposureLoss": (OutlierExposureLoss(0.7)(a, given, b), plain + 0.7 * uniform),
        "OutlierExposureLoss alone": (OutlierExposureLoss(0.7)(a, given), plain),
        "EnergyBounded": (EnergyBounded(weight=0.3, margin_in=-4.0, margin_out=-3.0)(a, b), 0.3 * bounded),
        "EnergyBounded, power 1": (
            EnergyBounded(weight=0.3, margin_in=-4.0, margin_out=-3.0, power=1)(a, b),
            0.3 * equations.energy_bounded(z_in, z_out, -4.0, -3.0, power=1),
        ),
        "EnergyGap": (EnergyGap(weight=0.3, margin=3.0)(a, b), 0.3 * gap),
        "EnergyRegularizedLoss": (EnergyRegularizedLoss(0.3, 3.0)(a, given, b), plain + 0.3 * gap),
        "EnergyRegularizedLoss alone": (EnergyRegularizedLoss(0.3, 3.0)(a, given), plain),
    }
    for name, (value, expected) in cases.items():
        assert value.dtype == dtype and value.ndim == 0, name
        # class ids are smoothed in float32
        accuracy = 1e-6 if name == "label smoothing" and dtype == torch.float64 else ACCURACY[dtype]
        assert value.item() == pytest.approx(expected, rel=accuracy, abs=accuracy), name


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_logits_give_the_exact_loss_of_their_values(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (4 * torch.randn(rows, 5, generator=generator) for rows in (7, 11))
    a, b, y = a.to(dtype), b.to(dtype), torch.arange(7) % 5
    z_in, z_out, t = a.double().numpy(), b.double().numpy(), equations.one_hot(y.tolist(), 5)
    with torch.autocast("cpu", dtype=dtype):
        cases = [
            (
                OutlierExposureLoss()(a, y, b),
                equations.cross_entropy(z_in, t) + 0.5 * equations.cross_entropy_to_uniform(z_out),
            ),
            (
                EnergyRegularizedLoss()(a, y, b),
                equations.cross_entropy(z_in, t) + 0.1 * equations.energy_gap(z_in, z_out, 10.0),
            ),
            (EnergyBounded()(a, b), 0.1 * equations.energy_bounded(z_in, z_out, -25.0, -7.0)),
            (LogitNorm()(a, y), equations.logit_norm(z_in, t, 0.04)),
            (CrossEntropy(label_smoothing=0.1)(a, y), equations.cross_entropy(z_in, equations.smoothed(t, 0.1))),
        ]
    for value, expected in cases:
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected, rel=1e-6)


def permutation_of(y_a: Tensor, y_b: Tensor) -> list[int]:
    """Which row was mixed in: the labels of the tests are all different."""
    return [y_a.tolist().index(label) for label in y_b.tolist()]


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shape", [(5,), (5, 3), (5, 2, 4), (5, 3, 4, 4), (5, 2, 3, 4, 4), (1, 3), (2,)])
def test_mixup(shape: tuple[int, ...], per_sample: bool) -> None:
    x, y = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(shape[0])
    for seed in range(5):
        generator = torch.Generator().manual_seed(seed)
        mixed_x, y_a, y_b, lam = mixup_data(x, y, 1.0, per_sample=per_sample, generator=generator)
        order = permutation_of(y_a, y_b)
        shares = torch.as_tensor(lam, dtype=torch.float64).expand(len(x)).tolist()
        np.testing.assert_allclose(mixed_x.numpy(), equations.mixed(x.numpy(), order, shares), rtol=0, atol=1e-15)
        assert y_a is y
        expected = equations.mixed(np.eye(shape[0]), order, shares)
        np.testing.assert_allclose(soft_targets(y_a, y_b, lam, shape[0]).numpy(), expected, atol=1e-7)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shape", [(5, 3, 8, 8), (5, 1, 1, 9), (5, 1, 7, 4), (5, 2, 3, 6, 6)])
def test_cutmix(shape: tuple[int, ...], per_sample: bool) -> None:
    x, y = torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64), torch.arange(5)
    changed = 0
    for seed in range(10):
        generator = torch.Generator().manual_seed(seed)
        mixed_x, y_a, y_b, lam = cutmix_data(x, y, 1.0, per_sample=per_sample, generator=generator)
        order = permutation_of(y_a, y_b)
        boxes = [_box_of(mixed_x[row] != x[row]) for row in range(5)]
        if not per_sample:  # rows that were mixed with themselves do not show it
            box = max(boxes, key=lambda edges: (edges[1] - edges[0]) * (edges[3] - edges[2]))
            boxes = [box] * 5
        expected, shares = equations.pasted(x.numpy(), order, boxes)
        np.testing.assert_array_equal(mixed_x.numpy(), expected)
        for row, share in enumerate(torch.as_tensor(lam, dtype=torch.float64).expand(5).tolist()):
            if order[row] != row:
                assert share == pytest.approx(shares[row], abs=1e-7)
                changed += share < 1
    assert changed > 10


def _box_of(different: Tensor) -> tuple[int, int, int, int]:
    """The box around what changed; inside it everything has to be pasted, which the reference then shows."""
    where = different.flatten(0, -3).any(0).nonzero()
    if not len(where):
        return 0, 0, 0, 0
    (top, left), (bottom, right) = where.amin(0).tolist(), where.amax(0).tolist()
    return top, bottom + 1, left, right + 1


def test_boxes() -> None:
    generator = torch.Generator().manual_seed(0)
    lam = torch.rand(200, generator=generator, dtype=torch.float64)
    centre = torch.rand(2, 200, generator=generator, dtype=torch.float64)
    for height, width in ((8, 8), (32, 20), (1, 9), (224, 224)):
        found = cutmix_box(lam, centre, height, width)
        expected = [
            equations.box(float(share), (float(down), float(right)), height, width)
            for share, down, right in zip(lam, *centre, strict=True)
        ]
        assert found.T.tolist() == [list(edges) for edges in expected]


def _logits(step: TrainingStep, role: str, prepared: Batch) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = step.classifier(prepared[role].inputs).numpy()
    return logits


def test_whole_steps() -> None:
    """Terms of composed steps: cross-entropy, the mixed rows, smoothing and normalisation come together rightly."""
    given = batch("images", dtype=torch.float64)
    net = classifier("images", dtype=torch.float64)
    methods = [CrossEntropy(label_smoothing=0.1), RegMixup(alpha=2.0, weight=0.6), OutlierExposure(weight=0.4)]
    step = TrainingStep(net, *methods)
    prepared = step.prepare(given)
    terms = step.losses(prepared)
    hard = equations.one_hot(given["id"].targets.tolist(), 4)
    smooth = equations.smoothed(hard, 0.1)
    z_in, z_out, z_mixed = (_logits(step, role, prepared) for role in ("id", "outliers", "mixed"))
    assert terms["cross_entropy"].item() == pytest.approx(equations.cross_entropy(z_in, smooth), rel=1e-6)
    assert terms["outlier_exposure"].item() == pytest.approx(0.4 * equations.cross_entropy_to_uniform(z_out), rel=1e-9)
    mixed_targets = prepared["mixed"].targets
    assert mixed_targets is not None
    expected = 0.6 * equations.cross_entropy(z_mixed, mixed_targets.double().numpy())
    assert terms["regmixup"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    "method", [Mixup(alpha=1.0), Mixup(alpha=1.0, per_sample=True), CutMix(), CutMix(per_sample=True)]
)
def test_mixing_in_a_step_is_the_mixture_of_two_losses(method: Mixup | CutMix) -> None:
    """Soft targets and λ·CE(y_a) + (1 − λ)·CE(y_b) are the same loss."""
    net = classifier("images", dtype=torch.float64)
    given = Batch({"id": Part(torch.rand(4, 2, 8, 8, dtype=torch.float64), torch.arange(4))})
    step = TrainingStep(net, method, seed=4)
    prepared = step.prepare(given)
    value = step.losses(prepared)["cross_entropy"]
    mixed_x, y_a, y_b, lam = method(
        given["id"].inputs, given["id"].targets, generator=generator_for(4, 0, 0, method.name)
    )
    assert torch.equal(mixed_x, prepared["id"].inputs)
    pred = net(mixed_x)
    per_row = torch.nn.CrossEntropyLoss(reduction="none")
    expected = mixup_criterion(per_row, pred, y_a, y_b, lam).mean()
    assert value.item() == pytest.approx(expected.item(), rel=1e-6)
