"""OpenMix: labels shared between a class and the one for outliers, over K + 1 logits."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import BackgroundClass, Classifier, OpenMix, TrainingStep
from oodles.methods import openmix, score_named
from oodles.methods.openmix import mixed_cross_entropy
from oodles.scores import msp

from ..contract.steps import is_one_sentence
from ..references.mixoe import mixed_rows
from ..references.openmix import over_all, term

CLASSES = 3
PRECISIONS = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
SIZES = [(4, 4), (4, 7), (7, 4), (1, 5)]


def rows(count: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(count, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64).to(dtype)


def labels(count: int, kind: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, np.ndarray]:
    """Targets, and the same as distributions."""
    ids = torch.arange(count) % CLASSES
    if kind == "class ids":
        return ids, F.one_hot(ids, CLASSES).double().numpy()
    soft = torch.rand(count, CLASSES, generator=torch.Generator().manual_seed(9), dtype=torch.float64).softmax(1)
    return soft.to(dtype), soft.numpy()


def step_with(
    *methods: OpenMix | BackgroundClass, dtype: torch.dtype = torch.float64
) -> tuple[TrainingStep, np.ndarray]:
    """A step on a linear classifier, and the weights of its K + 1 logits."""
    step = TrainingStep(Classifier(nn.Identity(), nn.Linear(5, CLASSES)).to(dtype), *methods)
    layers = step.classifier.head, step.classifier.heads["background"]
    return step, np.concatenate(
        [torch.cat([layer.weight, layer.bias[:, None]], 1).detach().double().numpy() for layer in layers]  # type: ignore[union-attr,list-item,index]
    )


def logits_of(x: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return x @ weights[:, :-1].T + weights[:, -1]


@pytest.mark.parametrize(("dtype", "accuracy"), PRECISIONS)
@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize(("count", "outliers"), SIZES)
@pytest.mark.parametrize("lam", [0.0, 0.4, 1.0])
def test_all_terms(  # type: ignore[no-untyped-def]
    monkeypatch, dtype: torch.dtype, accuracy: float, kind: str, count: int, outliers: int, lam: float
) -> None:
    monkeypatch.setattr(openmix, "draw_beta", lambda *_: torch.tensor([lam], dtype=torch.float64))
    step, weights = step_with(OpenMix(weight=0.7), dtype=dtype)
    x, o, (y, as_rows) = rows(count), rows(outliers, seed=1), labels(count, kind, dtype)
    terms = step((x.to(dtype), y), outliers=o.to(dtype))
    mixed = logits_of(mixed_rows(x.numpy(), o.numpy(), lam), weights)
    assert terms["openmix"].item() == pytest.approx(term(mixed, as_rows, lam, 0.7), rel=accuracy)
    clean = [over_all(z, label) for z, label in zip(logits_of(x.numpy(), weights), as_rows, strict=True)]
    both = terms["cross_entropy"] + terms["background"]
    assert both.item() == pytest.approx(np.mean(clean), rel=accuracy), "cross-entropy over K + 1 classes"


def test_limits_of_the_share() -> None:
    logits, background, y = torch.randn(6, 4).double(), torch.randn(6, 1).double(), torch.arange(6) % 4
    whole = torch.cat([logits, background], 1)
    torch.testing.assert_close(mixed_cross_entropy(logits, background, y, 1.0), F.cross_entropy(whole, y))
    last = torch.full((6,), 4)
    torch.testing.assert_close(mixed_cross_entropy(logits, background, y, 0.0), F.cross_entropy(whole, last))
    level = mixed_cross_entropy(torch.zeros(6, 4), torch.zeros(6, 1), y, 0.3)
    assert level.item() == pytest.approx(np.log(5))


@pytest.mark.parametrize("gap", [-1e4, 1e4])
def test_far_apart_logits_stay_finite(gap: float) -> None:
    logits = torch.zeros(2, 3).requires_grad_()
    loss = mixed_cross_entropy(logits, torch.full((2, 1), gap), torch.tensor([0, 1]), 0.4)
    loss.backward()
    assert loss.isfinite() and logits.grad is not None and logits.grad.isfinite().all()


def test_a_single_known_class_is_a_question_of_known_or_not() -> None:
    logits, background = torch.tensor([[0.3], [-1.0]]), torch.tensor([[0.1], [0.5]])
    known = (logits - background).flatten()
    expected = 0.4 * F.softplus(-known).mean() + 0.6 * F.softplus(known).mean()
    found = mixed_cross_entropy(logits, background, torch.tensor([0, 0]), 0.4)
    torch.testing.assert_close(found, expected)


def test_no_outliers_leave_the_other_terms() -> None:
    step, _ = step_with(OpenMix())
    terms = step((rows(4), labels(4, "class ids")[0]), outliers=rows(0))
    assert terms["openmix"].item() == 0 and terms["openmix"].requires_grad
    assert terms["background"].item() > 0


def test_shares_are_near_one_half() -> None:
    """Beta(10, 10) has a variance of 1 / 84."""
    generator, method = torch.Generator().manual_seed(0), OpenMix()
    shares = np.array([method.mixed(rows(1), rows(1), generator)[2].item() for _ in range(2000)])
    assert shares.mean() == pytest.approx(0.5, abs=0.01) and shares.var() == pytest.approx(1 / 84, rel=0.1)


def test_the_head_is_shared_with_the_background_class() -> None:
    step, _ = step_with(OpenMix(weight=0.5), BackgroundClass(weight=0.5))
    assert list(step.classifier.heads) == ["background"]
    given = (rows(4), labels(4, "class ids")[0])
    both = step(given, outliers=rows(6, seed=1))
    assert set(both) == {"cross_entropy", "background", "openmix", "background_class"}
    alone, _ = step_with(OpenMix(weight=0.5))
    alone.classifier.load_state_dict(step.classifier.state_dict())
    for name, value in alone(given, outliers=rows(6, seed=1)).items():
        assert value.item() == pytest.approx(both[name].item(), rel=1e-12), name


def test_the_score_looks_at_the_known_classes_only() -> None:
    step, weights = step_with(OpenMix())
    logits = step.classifier(rows(4))
    assert logits.shape == (4, CLASSES) and OpenMix.score == "msp"
    torch.testing.assert_close(
        score_named("msp")(rows(4), logits), msp(torch.from_numpy(logits_of(rows(4).numpy(), weights)[:, :CLASSES]))
    )


@pytest.mark.parametrize(
    "outliers, sentence",
    [
        (torch.rand(3, 4), r"outliers must have shape \(m, 5\), as x has, got \(3, 4\)"),
        (torch.rand(3, 5).double(), "outliers must have the type of the in-distribution inputs, torch.float32"),
    ],
)
def test_outliers_that_cannot_be_mixed_are_refused(outliers: Tensor, sentence: str) -> None:
    step, _ = step_with(OpenMix(), dtype=torch.float32)
    with pytest.raises(ValueError, match=sentence) as refusal:
        step((rows(4, dtype=torch.float32), labels(4, "class ids")[0]), outliers=outliers)
    assert is_one_sentence(str(refusal.value))
