"""Class weights: the weighted mean that is meant, for all kinds of targets, and the methods that refuse them."""

import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, Mixup, RegMixup, TrainingStep
from oodles.methods import METHODS, method_class
from oodles.targets import cross_entropy_of_checked

WEIGHTS = torch.tensor([0.5, 1.0, 3.0])


def _by_hand(logits: Tensor, targets: Tensor) -> Tensor:
    above = below = torch.zeros((), dtype=torch.float64)
    for row, target in zip(logits.double(), targets.double(), strict=True):
        mass = WEIGHTS.double() * target
        above = above - (mass * row.log_softmax(0)).sum()
        below = below + mass.sum()
    return above / below


@pytest.mark.parametrize("soft", [False, True])
def test_the_cross_entropy_is_a_weighted_mean(soft: bool) -> None:
    torch.manual_seed(0)
    logits, ids = torch.randn(7, 3), torch.arange(7) % 3
    targets = torch.rand(7, 3).softmax(1) if soft else nn.functional.one_hot(ids, 3)
    found = cross_entropy_of_checked(logits, targets if soft else ids, WEIGHTS)
    assert float(found) == pytest.approx(float(_by_hand(logits, targets)), rel=1e-6)
    one_hot = cross_entropy_of_checked(logits, nn.functional.one_hot(ids, 3).float(), WEIGHTS)
    torch.testing.assert_close(one_hot, nn.functional.cross_entropy(logits, ids, WEIGHTS))


def test_pixels_are_rows() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4, 5).softmax(1)
    rows, soft = (value.movedim(1, -1).reshape(-1, 3) for value in (logits, targets))
    assert float(cross_entropy_of_checked(logits, targets, WEIGHTS)) == pytest.approx(float(_by_hand(rows, soft)), 1e-6)
    assert float(cross_entropy_of_checked(logits[:0], targets[:0], WEIGHTS)) == 0


def _classifier() -> Classifier:
    torch.manual_seed(1)
    return Classifier(nn.Linear(5, 4), nn.Linear(4, 3))


def test_a_step_weighs_known_rows_also_those_that_are_mixed() -> None:
    torch.manual_seed(0)
    rows, ids = torch.randn(6, 5), torch.arange(6) % 3
    plain = TrainingStep(_classifier(), class_weights=WEIGHTS.tolist())
    found = plain((rows, ids))["cross_entropy"]
    expected = _by_hand(plain.classifier(rows), nn.functional.one_hot(ids, 3))
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    mixed = TrainingStep(_classifier(), Mixup(alpha=1.0), class_weights=WEIGHTS)
    batch = mixed.prepare((rows, ids))
    expected = _by_hand(mixed.classifier(batch["id"].rows), batch["id"].labels)
    assert mixed.losses(batch)["cross_entropy"].item() == pytest.approx(expected.item(), rel=1e-6)
    further = TrainingStep(_classifier(), RegMixup(alpha=1.0), class_weights=WEIGHTS)
    batch = further.prepare((rows, ids))
    expected = _by_hand(further.classifier(batch["mixed"].rows), batch["mixed"].labels)
    assert further.losses(batch)["regmixup"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_equal_weights_change_nothing_and_are_no_state() -> None:
    rows, ids = torch.randn(6, 5), torch.arange(6) % 3
    plain, even = TrainingStep(_classifier()), TrainingStep(_classifier(), class_weights=(2.0, 2.0, 2.0))
    torch.testing.assert_close(even((rows, ids)), plain((rows, ids)))
    assert even.state_dict().keys() == plain.state_dict().keys()


@pytest.mark.parametrize("name", [name for name in METHODS if "cross-entropy" in method_class(name).replaces])
def test_methods_with_another_loss_refuse_them(name: str) -> None:
    with pytest.raises(ValueError, match=rf"class_weights weigh the cross-entropy, and {name} has another loss in its"):
        TrainingStep(_classifier(), method_class(name)(), class_weights=(1, 1, 2))


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ((1, 2), "class_weights must be a number for each of the 3 classes, got 2."),
        ((1, 2, 3, 4), "class_weights must be a number for each of the 3 classes, got 4."),
        ((1, 2, 0), "class_weights must be finite and above 0, got list."),
        ((1, 2, float("nan")), "class_weights must be finite and above 0, got list."),
    ],
)
def test_other_weights_are_refused(given: tuple[float, ...], sentence: str) -> None:
    with pytest.raises(ValueError) as refused:
        TrainingStep(_classifier(), class_weights=given)
    assert str(refused.value) == sentence
