"""AugMix: the divergence, the mixtures of chains against loops, and what is compared with what."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import AugMix, Classifier, Mixup, TrainingStep
from oodles import augmentations as operations
from oodles.augmentations import draw_operations
from oodles.methods.augmix import jensen_shannon

from ..contract.steps import is_one_sentence
from ..references import augmix as reference
from ..references.augmentations import NINE

PRECISIONS = [(torch.float32, 2e-5), (torch.float64, 1e-12)]


def images(rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.rand(rows, 2, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((drawn * 255).round() / 255).to(dtype)


def logits(rows: int = 5, classes: int = 4, scale: float = 1.0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    return [scale * torch.randn(rows, classes, generator=generator, dtype=torch.float64) for _ in range(3)]


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("scale", [0.1, 1.0, 30.0])
def test_the_divergence(dtype: torch.dtype, accuracy: float, scale: float) -> None:
    found = jensen_shannon(*(z.to(dtype) for z in logits(scale=scale)))
    assert found.dtype == dtype
    expected = reference.jensen_shannon(*(z.numpy() for z in logits(scale=scale)))
    assert found.item() == pytest.approx(expected, rel=10 * accuracy, abs=accuracy)


def test_the_mean_is_over_rows_and_not_over_classes() -> None:
    first, *others = logits(1)
    once = jensen_shannon(first, *others)
    torch.testing.assert_close(jensen_shannon(*(z.repeat(7, 1) for z in (first, *others))), once)
    kl = F.kl_div
    mean = torch.stack([z.softmax(1) for z in (first, *others)]).mean(0).clamp(1e-7, 1).log()
    expected = sum(kl(mean, z.softmax(1), reduction="batchmean") for z in (first, *others)) / 3
    torch.testing.assert_close(once, expected)


def test_bounds() -> None:
    same = torch.randn(4, 3)
    assert abs(jensen_shannon(same, same, same).item()) < 1e-7
    apart = [1e4 * torch.eye(3)[[c]] for c in range(3)]
    assert jensen_shannon(*apart).item() == pytest.approx(np.log(3))
    assert jensen_shannon(*(torch.randn(4, 1) for _ in range(3))).item() == 0
    empty = jensen_shannon(*(torch.zeros(0, 3, requires_grad=True) for _ in range(3)))
    assert empty.item() == 0 and empty.requires_grad


def test_gradients_of_predictions_that_are_certain() -> None:
    """A probability that underflows to zero has no gradient of NaN."""
    z = [(torch.eye(3)[[c]] * 300).requires_grad_() for c in range(3)]
    jensen_shannon(*z).backward()
    assert all(each.grad is not None and each.grad.isfinite().all() for each in z)


def test_the_recorded_value() -> None:
    """Computed apart from the formula: the inputs of the two views are shifted."""
    recorded: dict[str, Any] = json.loads(
        Path(__file__).parents[1].joinpath("recorded", "values.json").read_text(encoding="utf-8")
    )
    inputs = recorded["inputs"]
    x, weight = (torch.tensor(inputs[name]).reshape(-1, 6).double() for name in ("Xin", "W"))
    z = [(x + shift) @ weight.T + torch.tensor(inputs["b"]).double() for shift in recorded["augmix"]["shifts"]]
    loss = F.cross_entropy(z[0], torch.tensor(inputs["Y"])) + AugMix()(*z)
    assert loss.item() == pytest.approx(recorded["augmix"]["loss"][0], rel=1e-6)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 5e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("width", "depth"), [(3, -1), (1, 2), (2, 0)])
def test_views_against_loops(dtype: torch.dtype, accuracy: float, width: int, depth: int) -> None:
    rows, severity = 8, 6.0
    x = images(rows)
    method = AugMix(width=width, depth=depth, severity=severity)
    found = method.view(x.to(dtype), generator=torch.Generator().manual_seed(2))
    generator = torch.Generator().manual_seed(2)  # the same draws, in the same order
    depths = torch.randint(1, 4, (width * rows,), generator=generator).tolist()
    depths = [depth] * len(depths) if depth > 0 else depths
    exponential = -np.log1p(-torch.rand(width, rows, dtype=torch.float64, generator=generator).numpy())
    shares = exponential / exponential.sum(0)
    m = torch.rand(rows, dtype=torch.float64, generator=generator).tolist()
    drawn = [draw_operations(width * rows, severity, generator) for _ in range(depth if depth > 0 else 3)]
    for row in range(rows):
        chains = []
        for chain in range(width):
            which = chain * rows + row
            steps = [
                (
                    next(n for n in NINE if getattr(operations, n.upper()) == d.kind[which]),
                    d.level[which],
                    d.sign[which],
                )
                for d in drawn[: depths[which]]
            ]
            chains.append(steps)
        expected = reference.view(x[row].numpy(), chains, shares[:, row].tolist(), m[row])
        np.testing.assert_allclose(found[row].double().numpy(), expected, atol=accuracy)


def test_the_two_views_differ_and_images_stay() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(84, 3)), AugMix())
    x, y = images(6, torch.float32), torch.arange(6) % 3
    prepared = step.prepare((x, y))
    assert prepared["id"].inputs is x and prepared["id"].targets is y
    first, second = (prepared[role].inputs for role in ("view1", "view2"))
    assert not torch.equal(first, second) and not torch.equal(first, x)
    assert prepared["view1"].targets is None and len(prepared["view2"]) == 6


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
def test_the_step_is_cross_entropy_of_clean_images_and_the_divergence(dtype: torch.dtype, accuracy: float) -> None:
    net = Classifier(nn.Flatten(), nn.Linear(84, 3)).to(dtype)
    step = TrainingStep(net, AugMix(weight=7.0))
    y = torch.arange(6) % 3
    prepared = step.prepare((images(6, dtype), y))
    terms = step.losses(prepared)
    z = [net(prepared[role].inputs).detach() for role in ("id", "view1", "view2")]
    expected = 7 * reference.jensen_shannon(*(each.double().numpy() for each in z))
    assert terms["augmix"].item() == pytest.approx(expected, rel=100 * accuracy)
    assert terms["cross_entropy"].item() == pytest.approx(F.cross_entropy(z[0], y).item(), rel=accuracy)
    assert set(terms) == {"cross_entropy", "augmix"}


def test_after_mixup_the_views_are_of_mixed_images() -> None:
    x, y = images(6, torch.float32), torch.arange(6) % 3
    net = Classifier(nn.Flatten(), nn.Linear(84, 3))
    prepared = TrainingStep(net, Mixup(), AugMix()).prepare((x, y))
    mixed = TrainingStep(net, Mixup()).prepare((x, y))["id"].inputs
    assert torch.equal(prepared["id"].inputs, mixed)
    small = TrainingStep(net, Mixup(), AugMix(severity=0.1)).prepare((x, y))
    distance = [(small["view1"].inputs - each).abs().mean().item() for each in (mixed, x)]
    assert distance[0] < distance[1]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_any_type_and_number_of_rows(dtype: torch.dtype, rows: int) -> None:
    found = AugMix().view(images(rows, dtype), generator=torch.Generator().manual_seed(1))
    assert found.shape == (rows, 2, 7, 6) and found.dtype == dtype
    assert ((found >= 0) & (found <= 1)).all()


def test_images_that_are_normalised_already_are_refused() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(84, 3).double()), AugMix())
    with pytest.raises(
        ValueError, match=r"augmix needs images in \[0, 1\], got -0.992 to 1: let Normalize be"
    ) as refusal:
        step((images(4) * 2 - 1, torch.arange(4) % 3))
    assert is_one_sentence(str(refusal.value))


def test_descending_the_term_makes_predictions_agree() -> None:
    net = Classifier(nn.Flatten(), nn.Linear(84, 3).double())
    step = TrainingStep(net, AugMix())
    prepared = step.prepare((images(16), torch.arange(16) % 3))
    optimizer = torch.optim.SGD(step.parameters(), lr=0.3)
    terms = []
    for _ in range(100):
        optimizer.zero_grad()
        terms.append(step.losses(prepared)["augmix"])
        terms[-1].backward()
        optimizer.step()
    assert terms[-1].item() < terms[0].item() / 2
