"""Property 3: targets are distributions, class ids their one-hot case."""

import copy
from collections import UserDict

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import GODIN, Batch, Classifier, OutlierExposure, Part, TrainingStep, evaluate

from .networks import CLASSES, batch, classifier, inputs, labels, probabilities
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import is_one_sentence, total


def _terms(row: Row, kind: str, targets: torch.Tensor) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
    step = TrainingStep(classifier(kind, dtype=torch.float64), *row.methods())
    given = batch(kind, dtype=torch.float64)
    terms = step(given.with_part("id", Part(given["id"].inputs, targets)))
    total(terms).backward()
    return terms, [p.grad for p in step.parameters() if p.grad is not None]


def check_distributions(row: Row, kind: str) -> None:
    """Check that one-hot targets give the terms of class ids, and mixed targets the mixture of terms."""
    ids = labels(kind, 6)
    one_hot = F.one_hot(ids, CLASSES).movedim(-1, 1).double()
    soft = probabilities(kind, 6)
    from_ids, gradients_from_ids = _terms(row, kind, ids)
    from_one_hot, gradients_from_one_hot = _terms(row, kind, one_hot)
    # class ids become float32 probabilities where they are mixed: hence not 1e-12
    for name, value in from_ids.items():
        torch.testing.assert_close(from_one_hot[name], value, rtol=1e-6, atol=1e-7, msg=name)
    for a, b in zip(gradients_from_ids, gradients_from_one_hot, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-7)
    from_soft, _ = _terms(row, kind, soft)
    from_mixture, _ = _terms(row, kind, 0.3 * one_hot + 0.7 * soft)
    for name, value in from_mixture.items():
        if row.curved and ("weights" in row.cls.replaces or any(name in cls.terms for cls in row.classes)):
            continue
        expected = 0.3 * from_one_hot[name] + 0.7 * from_soft[name]
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=1e-7, msg=name)


def check_prepared_targets(row: Row, kind: str) -> None:
    """Check that the targets a method makes are class ids or distributions, one per row."""
    given = batch(kind)
    for targets in (labels(kind, 6), probabilities(kind, 6).float()):
        step = TrainingStep(classifier(kind), *row.methods())
        prepared = step.prepare(given.with_part("id", Part(given["id"].inputs, targets)))
        for role, part in prepared.parts.items():
            if part.targets is None:
                continue
            assert len(part.targets) == len(part), role
            if part.targets.is_floating_point():
                assert part.targets.min() >= 0, role
                torch.testing.assert_close(part.targets.sum(1), torch.ones_like(part.targets.sum(1)))


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_class_ids_are_one_hot_distributions(name: str, kind: str) -> None:
    check_distributions(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_prepared_targets_are_distributions(name: str, kind: str) -> None:
    check_prepared_targets(ROWS[name], kind)


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.int32])
def test_other_whole_numbers_are_class_ids_too(name: str, dtype: torch.dtype) -> None:
    given = batch("images")
    expected = TrainingStep(classifier("images"), *ROWS[name].methods())(given)
    terms = TrainingStep(classifier("images"), *ROWS[name].methods())(
        given.with_part("id", Part(given["id"].inputs, given["id"].targets.to(dtype)))
    )
    for term, value in expected.items():
        torch.testing.assert_close(terms[term], value, rtol=1e-6, atol=1e-7)


BAD_TARGETS = {
    "ignored": (torch.tensor([0, 1, -100, 1, 2, 3]), "must be class ids from 0 to 3, got -100: leave rows"),
    "too high": (torch.tensor([0, 1, 2, 3, 4, 0]), "must be class ids from 0 to 3, got 4"),
    "too few": (torch.tensor([0, 1, 2, 3, 0]), "inputs and targets must have as many rows, got 6 and 5"),
    "too few classes": (torch.full((6, 3), 1 / 3), r"must have shape \(N, 4\), got \(6, 3\)"),
    "no distribution": (torch.full((6, 4), 0.5), "non-negative and sum to one, got a minimum of 0.5 and a sum of 2"),
    "negative": (torch.tensor([[1.5, -0.5, 0.0, 0.0]] * 6), "non-negative and sum to one, got a minimum of -0.5"),
    "not numbers": (torch.full((6, 4), float("nan")), "non-negative and sum to one"),
    "truth values": (torch.ones(6, dtype=torch.bool), "must be class ids or probabilities, got torch.bool"),
}


@pytest.mark.parametrize("name", ROWS)
@pytest.mark.parametrize("case", BAD_TARGETS)
def test_wrong_targets_are_refused_in_a_sentence(name: str, case: str) -> None:
    targets, sentence = BAD_TARGETS[case]
    step = TrainingStep(classifier("images"), *ROWS[name].methods())
    given = batch("images")
    with pytest.raises((ValueError, TypeError), match=sentence) as refusal:
        step(given.with_part("id", Part(given["id"].inputs, targets)))
    assert is_one_sentence(str(refusal.value))


def test_a_dictionary_with_labels_is_a_batch() -> None:
    step = TrainingStep(classifier("tokens"), OutlierExposure())
    given, outliers, y = inputs("tokens", 4), inputs("tokens", 3, seed=5), labels("tokens", 4)
    assert isinstance(given, dict) and isinstance(outliers, dict)
    apart = step((given, y), outliers)
    together = step({**given, "labels": y}, {**outliers, "labels": y[:3]})
    assert apart.keys() == together.keys()
    for name, value in apart.items():
        assert torch.equal(value, together[name])


IMAGES = inputs("images", 5)
SIZE = IMAGES[0].numel() if isinstance(IMAGES, Tensor) else 0


class Named(nn.Module):
    """A network that takes images by one name alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(SIZE, 7), nn.Tanh())

    def forward(self, *, pixel_values: Tensor) -> Tensor:
        features: Tensor = self.body(pixel_values)
        return features


def named() -> tuple[Classifier, Classifier]:
    """Return a classifier that takes images by name, and one with the same weights that takes them first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(Named(), nn.Linear(7, CLASSES))
    other = copy.deepcopy(net)
    other.backbone = other.backbone.body  # type: ignore[assignment]
    return net, other


def test_any_mapping_is_a_batch_and_labels_have_two_names() -> None:
    given, outliers, y = inputs("tokens", 4), inputs("tokens", 3, seed=5), labels("tokens", 4)
    assert isinstance(given, dict) and isinstance(outliers, dict)
    expected = total(TrainingStep(classifier("tokens"), OutlierExposure())((given, y), outliers))
    for known in (UserDict(given, labels=y), UserDict(given, label=y), (UserDict(given), y.tolist())):
        for unknown in (UserDict(outliers), (UserDict(outliers), ["a", "b", "c"]), UserDict(outliers, label=None)):
            terms = TrainingStep(classifier("tokens"), OutlierExposure())(known, unknown)
            assert torch.equal(total(terms), expected)
    parts = Batch({"id": Part(UserDict(given), y), "outliers": Part(UserDict(outliers))})
    assert torch.equal(total(TrainingStep(classifier("tokens"), OutlierExposure())(parts)), expected)


@pytest.mark.parametrize("name", [name for name in ROWS if name != "manifold-mixup"])  # which names layers
def test_a_tensor_alone_in_a_dictionary_is_the_rows(name: str) -> None:
    net, other = named()
    y, o = torch.arange(5) % CLASSES, inputs("images", 4, seed=5)
    roles = [role for role in ("outliers", "wild") if role in ROWS[name].cls.needs]
    expected = TrainingStep(other, *ROWS[name].methods())((IMAGES, y), **dict.fromkeys(roles, o))
    given = UserDict(pixel_values=IMAGES, labels=y)
    terms = TrainingStep(net, *ROWS[name].methods())(given, **{role: {"pixel_values": o} for role in roles})
    assert terms.keys() == expected.keys()
    for term, value in expected.items():
        assert torch.equal(terms[term], value), term


def test_scores_change_the_rows_of_a_dictionary_too() -> None:
    net, other = named()
    for network in (net, other):
        TrainingStep(network, GODIN())
    first = evaluate(net, [{"pixel_values": IMAGES}], {}, ["g-odin"]).scores["id"]["g-odin"]
    assert np.array_equal(first, evaluate(other, [IMAGES], {}, ["g-odin"]).scores["id"]["g-odin"])


def test_one_logit_gets_a_sentence_of_its_own() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(6, 1)))
    for targets in (torch.tensor([0, 1]), torch.tensor([0.0, 1.0]), torch.tensor([[0.0], [1.0]])):
        with pytest.raises(ValueError, match="since the network has one logit: give it one logit for each") as refusal:
            step((torch.rand(2, 6), targets))
        assert is_one_sentence(str(refusal.value))
    assert total(step((torch.rand(2, 6), torch.zeros(2, dtype=torch.long)))) == 0
