"""PASCL: the contrast of rare classes and outliers, what is rare, and counts that are measured."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from oodles import PASCL, OutlierExposure, Part, Recipe, TrainingStep, train
from oodles.methods.pascl import count_classes, rarest, tail_contrast

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import pascl as reference
from ..runs.small import small_suite

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 3, 2])
COUNTS = (5, 40, 9, 30)  # 0 and 2 are rare


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Projections at any length, soft targets, projections of outliers."""
    generator = torch.Generator().manual_seed(3)
    z, o, y = (torch.randn(*shape, generator=generator).double() for shape in ((8, 5), (6, 5), (8, 4)))
    return z.to(dtype), y.softmax(1).to(dtype), o.to(dtype)


@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("temperature", [0.07, 0.5])
def test_the_papers_equation(dtype: torch.dtype, accuracy: float, temperature: float) -> None:
    z, soft, o = rows(dtype)
    units = normalize(z.double()).tolist(), normalize(o.double()).tolist()
    method = PASCL(weight=0.3, temperature=temperature, class_counts=COUNTS)
    found = method(z, one_hot(LABELS, 4).to(dtype), o)
    expected = reference.loss(units[0], LABELS.tolist(), units[1], reference.rare_classes(COUNTS, 0.4), temperature)
    assert found.dtype == dtype and found.item() == pytest.approx(0.3 * expected, rel=accuracy)
    expected = reference.expected_loss(units[0], soft.double().tolist(), units[1], [0, 2], temperature)
    assert method(z, soft, o).item() == pytest.approx(0.3 * expected, rel=accuracy)
    everybody = PASCL(weight=0.3, temperature=temperature)(z, soft, o).item()
    expected = reference.expected_loss(units[0], soft.double().tolist(), units[1], range(4), temperature)
    assert everybody == pytest.approx(0.3 * expected, rel=accuracy), "without counts all classes are rare"


@pytest.mark.parametrize(
    "counts, share, expected",
    [
        (COUNTS, 0.4, [0, 2]),
        (COUNTS, 0.3, [0]),
        (COUNTS, 1.0, [0, 1, 2, 3]),
        ((7, 7, 7), 0.4, [2]),
        (tuple(range(100, 0, -10)), 0.4, [6, 7, 8, 9]),
        ((), 0.4, []),
    ],
)
def test_the_tail_is_a_share_of_the_classes_by_their_rows(
    counts: tuple[float, ...], share: float, expected: list[int]
) -> None:
    assert rarest(counts, share) == expected == reference.rare_classes(counts, share)


def test_rows_of_frequent_classes_have_no_part_in_it() -> None:
    z, _, o = (value.requires_grad_() for value in rows())
    PASCL(class_counts=COUNTS)(z, one_hot(LABELS, 4).double(), o).backward()
    assert z.grad is not None and o.grad is not None
    frequent = (LABELS == 1) | (LABELS == 3)
    assert not z.grad[frequent].any() and bool(z.grad[~frequent].any(1).all()) and o.grad.any()


@pytest.mark.parametrize("labels", [[1, 1, 3, 3, 1, 1, 3, 3], [0, 1, 3, 3, 1, 1, 3, 3], [0, 2, 1, 1, 1, 1, 1, 1]])
def test_a_batch_without_pairs_of_rare_rows_is_an_exact_zero(labels: list[int]) -> None:
    z, _, o = (value.requires_grad_() for value in rows())
    for outliers in (o, o[:0]):
        term = PASCL(class_counts=COUNTS)(z, one_hot(torch.tensor(labels), 4).double(), outliers)
        slopes = torch.autograd.grad(term, z)[0]
        assert term.item() == 0 and not slopes.any() and slopes.isfinite().all()


def test_outliers_are_repelled() -> None:
    z, y = torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.ones(2, 1)
    near, far = (tail_contrast(z, y, torch.tensor([row]), 0.1).item() for row in ([1.0, 0.0], [-1.0, 0.0]))
    assert near == pytest.approx(np.log(2)) and far == pytest.approx(0, abs=1e-6)


def test_the_term_of_a_step() -> None:
    net = classifier("images", dtype=torch.float64)
    step = TrainingStep(net, PASCL(weight=0.8, dimensions=5, class_counts=COUNTS), OutlierExposure(), seed=2)
    given = batch("images", dtype=torch.float64)
    labels = torch.tensor([0, 1, 2, 2, 0, 3])
    prepared = step.prepare(given.with_part("id", Part(given["id"].inputs, labels)))
    project = net.heads["projection"]
    z, view, o = (normalize(project(net.features(prepared[role].rows))).tolist() for role in ("id", "view", "outliers"))
    expected = reference.loss(z + view, 2 * labels.tolist(), o, [0, 2], 0.07)
    assert step.losses(prepared)["pascl"].item() == pytest.approx(0.8 * expected, rel=1e-9)


def test_counts_are_measured_on_labels_alone() -> None:
    def loader() -> Iterator[tuple[Tensor, Tensor]]:
        yield torch.zeros(3, 99), torch.tensor([2, 0, 2])  # inputs on which the network does not run
        yield torch.zeros(2, 99), torch.tensor([2, 255])

    found = PASCL.suggest(classifier("vectors", classes=3), loader(), (), ignore_index=255)
    assert found == {"class_counts": (1, 0, 3)}
    made = PASCL(**json.loads(json.dumps({"class_counts": (1, 2, 3)})))
    assert made.class_counts == (1, 2, 3) and isinstance(made.class_counts, tuple)


@pytest.mark.parametrize(
    "labels, sentence",
    [
        (None, "Counting classes needs class ids of training rows, got none"),
        (torch.rand(2, 3), "Counting classes needs class ids of training rows, got torch.float32"),
        (torch.tensor([0, 3]), "Labels of training rows must be 0 to 2, got 3"),
    ],
)
def test_what_cannot_be_counted_is_refused(labels: Tensor | None, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refusal:
        count_classes([(torch.zeros(2, 4), labels)], 3)
    assert is_one_sentence(str(refusal.value))


def test_counts_of_other_classes_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match="class_counts must have a number for each of the 4 classes, got 3") as refusal:
        TrainingStep(classifier("vectors"), PASCL(class_counts=(3, 2, 1)))
    assert is_one_sentence(str(refusal.value))
    with pytest.raises(TypeError, match="class_counts must be a number for each class, got 5") as refused:
        PASCL(class_counts=5)  # type: ignore[arg-type]
    assert is_one_sentence(str(refused.value))


def test_a_run_counts_the_rows_that_it_trains_on(tmp_path: Path) -> None:
    suite = small_suite()
    methods = (("outlier-exposure", {}), ("pascl", {"dimensions": 4}))
    recipe = Recipe(methods=methods, learning_rate=0.1, epochs=1, batch_size=20, outlier_batch_size=10)
    run = train(recipe, suite, folder=tmp_path, network="tests.runs.small:linear", progress=False)
    counts = np.bincount(suite.train.labels, minlength=3).tolist()
    assert run.suggested == {"pascl": {"class_counts": counts}}, "on weights that nothing has trained"
    assert run.record["validation_chose"] == []
    assert run.classifier().heads["projection"] is not None
    assert Recipe(methods=(("pascl", {"class_counts": (9, 9, 9)}),)).suggest is False, "what is given is not measured"
