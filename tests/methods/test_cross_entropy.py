"""Cross-entropy, with and without smoothed labels: values, bounds, and every part of a step."""

import math

import pytest
import torch
import torch.nn.functional as F

from oodles import CrossEntropy, RegMixup, TrainingStep
from oodles.targets import cross_entropy

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import cross_entropy as reference
from ..references import equations
from .losses import CASES, LABELS, Case, check_huge_logits, given, logits, logits_alone


@CASES
def test_the_value(case: Case) -> None:
    one = given(case)
    plain = equations.cross_entropy(one.z_in, one.t)
    one.check(cross_entropy(one.known, one.targets), plain)
    one.check(CrossEntropy()(one.known, one.targets), plain)
    # class ids are smoothed in float32
    accuracy = 1e-6 if case[1] == "class ids" and one.known.dtype == torch.float64 else 0.0
    for amount in (0.1, 0.9):
        smoothed = CrossEntropy(label_smoothing=amount)(one.known, one.targets)
        if one.targets.dtype not in (torch.bfloat16, torch.float16):  # there, targets are rounded once more
            one.check(smoothed, reference.loss(one.z_in, one.t, amount), accuracy)


@pytest.mark.parametrize("kind", ["class ids", "probabilities"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_step(kind: str, dtype: torch.dtype) -> None:
    one = given(("rows", kind, dtype))
    step = TrainingStep(logits_alone(), CrossEntropy(label_smoothing=0.3))
    terms = step((one.known, one.targets), outliers=one.unknown)
    assert list(terms) == ["cross_entropy"]
    accuracy = 1e-6 if kind == "class ids" and dtype == torch.float64 else 0.0
    one.check(terms["cross_entropy"], reference.loss(one.z_in, one.t, 0.3), accuracy)


def test_every_part_with_targets_is_smoothed_once() -> None:
    whole = batch("images", dtype=torch.float64)
    smoothing, mixing = CrossEntropy(label_smoothing=0.2), RegMixup(alpha=2.0)
    plain = TrainingStep(classifier("images", dtype=torch.float64), mixing).prepare(whole)["mixed"].labels
    expected = torch.from_numpy(reference.smoothed(plain.double().numpy(), 0.2))
    for methods in ((smoothing, mixing), (mixing, smoothing)):
        prepared = TrainingStep(classifier("images", dtype=torch.float64), *methods).prepare(whole)
        torch.testing.assert_close(prepared["mixed"].labels.double(), expected, rtol=0, atol=1e-6)
        assert prepared["outliers"].targets is None


def test_label_smoothing_is_torchs() -> None:
    for amount in (0.0, 0.1, 0.9):
        expected = F.cross_entropy(logits(6), LABELS, label_smoothing=amount)
        torch.testing.assert_close(CrossEntropy(label_smoothing=amount)(logits(6), LABELS), expected)


def test_equal_logits_cost_the_logarithm_of_the_classes_however_smooth_the_labels() -> None:
    for amount in (0.0, 0.5):
        loss = CrossEntropy(label_smoothing=amount)(torch.full((3, 7), 5.0), torch.tensor([0, 3, 6]))
        assert loss.item() == pytest.approx(math.log(7))
    assert CrossEntropy(label_smoothing=0.5)(torch.tensor([[5.0], [-3.0]]), torch.tensor([0, 0])).item() == 0


def test_huge_logits_stay_finite() -> None:
    check_huge_logits(lambda a, b: CrossEntropy(label_smoothing=0.1)(a, torch.tensor([0, 2])))


WRONG = {
    "too high": (LABELS + 1, ValueError, "targets must be class ids from 0 to 4, got 5"),
    "below zero": (LABELS - 100, ValueError, "targets must be class ids from 0 to 4, got -100"),
    "lengths": (
        LABELS[:5],
        ValueError,
        r"targets of torch.int64 must have shape \(n,\) with n = 6, as logits has, got \(5,\)",
    ),
    "sums": (torch.full((6, 5), 0.3), ValueError, "non-negative and sum to one.* a sum of 1.5"),
    "classes": (
        torch.full((6, 4), 0.25),
        ValueError,
        r"must have shape \(n, c\) with n = 6 and c = 5, as logits has, got \(6, 4\)",
    ),
    "none": (None, TypeError, "targets must be a tensor of whole numbers or floating point, got None"),
    "one-hot": (torch.eye(5, dtype=torch.long)[LABELS], ValueError, r"convert it with targets.float\(\)"),
    "ids as numbers": (LABELS.float(), ValueError, r"convert it with targets.long\(\)"),
    "truth values": (LABELS > 1, TypeError, "targets must be whole numbers or floating point, got torch.bool"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_targets_are_refused(case: str) -> None:
    targets, error, sentence = WRONG[case]
    with pytest.raises(error, match=sentence) as refusal:
        CrossEntropy()(logits(6), targets)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))


def test_wrong_logits_are_refused() -> None:
    for wrong, error, sentence in (
        (torch.ones(6, 5, dtype=torch.long), TypeError, "logits must be floating point, got torch.int64"),
        (torch.ones(6), ValueError, r"logits must have shape \(n, c, …\) with c at least 1, got \(6,\)"),
    ):
        with pytest.raises(error, match=sentence) as refusal:
            CrossEntropy()(wrong, LABELS)
        assert is_one_sentence(str(refusal.value))
