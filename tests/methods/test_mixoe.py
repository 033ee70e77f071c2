"""MixOE: mixtures with outliers, their uncertain labels, and batches of different sizes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import Batch, Classifier, MixOE, Part, TrainingStep
from oodles.methods import mixoe
from oodles.methods.mixoe import paste
from oodles.targets import cross_entropy, smoothed

from ..contract.rows import ROWS
from ..contract.steps import is_one_sentence
from ..contract.test_facts import check_facts
from ..contract.test_gradients import check_reaches_network
from ..contract.test_means import check_empty_part, check_means
from ..contract.test_ownership import check_owns_nothing, check_unit_range
from ..contract.test_randomness import check_randomness
from ..contract.test_targets import check_distributions
from ..contract.test_tracing import check_compiles, check_no_loop, check_no_sync
from ..references.equations import cross_entropy as plain
from ..references.mixoe import mixed_rows, pasted_rows, targets, term

CLASSES = 3
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
SIZES = [(4, 4), (4, 7), (7, 4), (1, 5), (5, 1)]


def images(rows: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, 2, 6, 5, generator=generator, dtype=torch.float64).to(dtype)


def labels(rows: int, kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, np.ndarray]:
    """Targets, and the same as distributions."""
    ids = torch.arange(rows) % CLASSES
    if kind == "class ids":
        return ids, F.one_hot(ids, CLASSES).double().numpy()
    soft = torch.rand(rows, CLASSES, generator=torch.Generator().manual_seed(9), dtype=torch.float64).softmax(1)
    return soft.to(dtype), soft.numpy()


def classifier(dtype: torch.dtype = torch.float64) -> tuple[Classifier, np.ndarray]:
    weight = torch.randn(CLASSES, 60, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    head = nn.Linear(60, CLASSES, bias=False, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(weight)
    return Classifier(nn.Flatten(), head).to(dtype), weight.numpy()


def with_share(monkeypatch: pytest.MonkeyPatch, lam: float) -> None:
    monkeypatch.setattr(mixoe, "draw_beta", lambda *_: torch.tensor([lam], dtype=torch.float64))


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize(("rows", "outliers"), SIZES)
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_the_term_of_mixed_rows(  # type: ignore[no-untyped-def]
    monkeypatch, dtype: torch.dtype, accuracy: float, kind: str, rows: int, outliers: int, lam: float
) -> None:
    with_share(monkeypatch, lam)
    accuracy = max(accuracy, 1e-6) if kind == "class ids" else accuracy  # they are mixed in float32
    net, weight = classifier(dtype)
    x, o, (y, as_rows) = images(rows), images(outliers, seed=1), labels(rows, kind, dtype)
    terms = TrainingStep(net, MixOE(weight=5.0))((x.to(dtype), y), outliers=o.to(dtype))
    mixed = mixed_rows(x.numpy(), o.numpy(), lam)
    logits = mixed.reshape(len(mixed), -1) @ weight.T
    assert terms["mixoe"].item() == pytest.approx(term(logits, as_rows, lam, 5.0), rel=accuracy)
    clean = x.reshape(rows, -1).numpy() @ weight.T
    assert terms["cross_entropy"].item() == pytest.approx(plain(clean, as_rows), rel=accuracy)


@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize(("rows", "outliers"), SIZES)
@pytest.mark.parametrize("seed", range(3))
def test_pasted_boxes_of_outliers(kind: str, rows: int, outliers: int, seed: int) -> None:
    """The box is found where rows differ from the images, and everything follows from it."""
    x, o, (y, as_rows) = images(rows), images(outliers, seed=1), labels(rows, kind)
    generator = torch.Generator().manual_seed(seed)
    mixed, soft = MixOE(form="cutmix", alpha=2.0)(x, y, o, CLASSES, generator=generator)
    pairs = max(rows, outliers)
    changed = (mixed != x[torch.arange(pairs) % rows]).all(1).all(0).nonzero()
    (top, left), (bottom, right) = changed.amin(0).tolist(), (changed.amax(0) + 1).tolist()
    expected, lam = pasted_rows(x.numpy(), o.numpy(), (top, bottom, left, right))
    assert torch.equal(mixed, torch.from_numpy(expected)) and 0 < lam < 1
    torch.testing.assert_close(soft.double(), torch.from_numpy(targets(as_rows, pairs, lam)), rtol=1e-6, atol=1e-7)


def test_boxes_of_nothing_and_of_everything() -> None:
    x, o = images(3), images(3, seed=1)
    mixed, lam = paste(x, o, 1.0)
    assert torch.equal(mixed, x) and lam == 1
    for seed in range(50):
        mixed, lam = paste(x, o, 0.0, torch.Generator().manual_seed(seed))
        assert lam == pytest.approx(float((mixed == x).double().mean()), abs=1e-12) and lam <= 0.75


def test_the_loss_that_the_authors_program_gave() -> None:
    recorded: dict[str, Any] = json.loads(
        Path(__file__).parents[1].joinpath("recorded", "values.json").read_text(encoding="utf-8")
    )
    inputs, lam = recorded["inputs"], recorded["mixoe"]["lam"]
    x, o = (torch.tensor(inputs[name]).reshape(-1, 6).double() for name in ("Xin", "Xout"))
    weight, bias = torch.tensor(inputs["W"]).reshape(5, 6).double(), torch.tensor(inputs["b"]).double()
    mixed = torch.lerp(o[:4], x, lam)
    loss = cross_entropy(mixed @ weight.T + bias, smoothed(torch.tensor(inputs["Y"]), 1 - lam, 5))
    assert loss.item() == pytest.approx(recorded["mixoe"]["loss"][0], rel=1e-6)


@pytest.mark.parametrize("form", ["mixup", "cutmix"])
def test_no_outliers_leave_plain_training(form: str) -> None:
    (net, _), y = classifier(), labels(4, "class ids")[0]
    terms = TrainingStep(net, MixOE(form=form))((images(4), y), outliers=images(0))
    assert terms["mixoe"].item() == 0 and terms["mixoe"].requires_grad
    assert torch.equal(terms["cross_entropy"], TrainingStep(net)((images(4), y))["cross_entropy"])


@pytest.mark.parametrize(("alpha", "spread"), [(1.0, 1 / 12), (2.0, 1 / 20)])
def test_shares_are_those_of_a_symmetric_distribution(alpha: float, spread: float) -> None:
    """Beta(0.1, 1), which another library draws from, would have a mean of 0.09."""
    x, o, generator = torch.ones(1, 1, 1, 1), torch.zeros(1, 1, 1, 1), torch.Generator().manual_seed(0)
    method, y = MixOE(alpha=alpha), torch.zeros(1, dtype=torch.long)
    shares = np.array([method(x, y, o, 2, generator=generator)[0].item() for _ in range(3000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.02) and shares.var() == pytest.approx(spread, abs=0.006)


def test_a_single_class_has_nothing_to_be_uncertain_of() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(60, 1).double()), MixOE())
    terms = step((images(4), torch.zeros(4, dtype=torch.long)), outliers=images(4, seed=1))
    assert terms["mixoe"].item() == 0


def test_labels_of_pixels_are_mixed_where_they_are() -> None:
    y = torch.randint(CLASSES, (4, 6, 5), generator=torch.Generator().manual_seed(0))
    mixed, soft = MixOE()(images(4), y, images(4, seed=1), CLASSES, generator=torch.Generator().manual_seed(0))
    lam = float(((mixed - images(4, seed=1)) / (images(4) - images(4, seed=1))).mean())
    expected = lam * F.one_hot(y, CLASSES).movedim(3, 1) + (1 - lam) / CLASSES
    torch.testing.assert_close(soft.double(), expected.double(), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="mixoe needs one label per image to paste boxes") as refusal:
        MixOE(form="cutmix")(images(4), y, images(4), CLASSES)
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "outliers, sentence",
    [
        (torch.rand(3, 2, 6, 6), r"outliers must have shape \(m, channels, h, w\) with channels = 2, h = 6 and w = 5"),
        (torch.rand(3, 2, 6, 5).half(), "outliers must have the type of the in-distribution inputs, torch.float32"),
    ],
)
def test_outliers_that_cannot_be_mixed_are_refused(outliers: Tensor, sentence: str) -> None:
    (net, _), y = classifier(torch.float32), labels(4, "class ids")[0]
    with pytest.raises(ValueError, match=sentence) as refusal:
        TrainingStep(net, MixOE())((images(4, dtype=torch.float32), y), outliers=outliers)
    assert is_one_sentence(str(refusal.value))


def test_mixed_rows_have_batch_statistics_of_their_own() -> None:
    net = Classifier(nn.Sequential(nn.BatchNorm2d(2), nn.Flatten()), nn.Linear(60, CLASSES)).train()
    step, y = TrainingStep(net, MixOE()), labels(4, "class ids")[0]
    prepared = step.prepare((images(4, dtype=torch.float32), y), outliers=images(4, seed=1, dtype=torch.float32))
    step.losses(prepared)
    alone = nn.BatchNorm2d(2)
    for role in ("id", "mixed_outliers"):
        alone(prepared[role].inputs)
    for name, value in alone.named_buffers():
        assert torch.equal(net.backbone[0].get_buffer(name), value), name


def test_unlabelled_parts_of_others_are_left_alone() -> None:
    (net, _), y = classifier(), labels(4, "class ids")[0]
    given = Batch({"id": Part(images(4), y), "outliers": Part(images(6, seed=1))})
    prepared = TrainingStep(net, MixOE()).prepare(given)
    assert prepared["id"] is given["id"] and prepared["outliers"] is given["outliers"]
    assert len(prepared["mixed_outliers"]) == 6


@pytest.mark.parametrize(
    "check",
    [
        *(check_facts, check_reaches_network, check_means, check_owns_nothing, check_unit_range, check_randomness),
        *(check_distributions, check_no_loop, check_no_sync),
    ],
)
def test_the_other_form_keeps_the_contract(check) -> None:  # type: ignore[no-untyped-def]
    check(ROWS["mixoe"].with_settings(form="cutmix"), "images")


def test_the_other_form_compiles_and_takes_empty_parts() -> None:
    row = ROWS["mixoe"].with_settings(form="cutmix")
    check_compiles(row, "images", "aot_eager")
    for role in ("id", "outliers"):
        check_empty_part(row, "images", role)
