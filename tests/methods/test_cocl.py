"""COCL: the outliers' class, prototypes of rare classes, distances of frequent ones, and the calibrated score."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from oodles import COCL, Part, Recipe, TrainingStep, evaluate, train
from oodles.methods.cocl import head_loss, tail_loss

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import cocl as reference
from ..runs.small import small_suite

LABELS = torch.tensor([0, 1, 2, 0, 1, 3])
COUNTS = (5, 40, 9, 30)  # 0 and 2 are rare
RARE, FREQUENT = [0, 2], [1, 3]
DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-10)]


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Features of an odd number, soft targets, features of outliers, prototypes."""
    generator = torch.Generator().manual_seed(3)
    shapes = ((6, 7), (6, 4), (5, 7), (2, 7))
    h, y, o, p = (torch.randn(*shape, generator=generator).double() for shape in shapes)
    return h.to(dtype), y.softmax(1).to(dtype), o.to(dtype), p.to(dtype)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_equations_of_rare_and_frequent_classes(dtype: torch.dtype, accuracy: float, mixed: bool) -> None:
    h, soft, o, p = rows(dtype)
    y = soft if mixed else one_hot(LABELS, 4).to(dtype)
    found = COCL(tail_weight=0.3, head_weight=0.4, temperature=0.5, class_counts=COUNTS)(h, y, o, p)
    wide, shares = [value.double().tolist() for value in (h, o, p)], y.double()
    in_tail = reference.tail(wide[0], shares[:, RARE].tolist(), wide[1], wide[2], 0.5)
    in_head = reference.head(wide[1], wide[0], shares[:, FREQUENT].sum(1).tolist(), 1.0)
    assert [term.item() for term in found] == pytest.approx([0.3 * in_tail, 0.4 * in_head], rel=accuracy)
    assert all(term.dtype == dtype for term in found)


def test_frequent_classes_are_as_many_as_rare_ones() -> None:
    method = COCL(class_counts=tuple(range(100, 0, -10)))
    assert method._rare.tolist() == [6, 7, 8, 9] and method._frequent.tolist() == [0, 1, 2, 3]


def test_the_terms_of_a_step() -> None:
    net = classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, method := COCL(weight=0.3, class_counts=COUNTS), seed=2)
    given = batch("vectors", dtype=torch.float64)
    given = given.with_part("id", Part(given["id"].inputs, LABELS))
    terms = step(given)
    h, o = (net.features(given[role].inputs) for role in ("id", "outliers"))
    wide = [torch.cat([net.head(rows), net.heads["background"](rows)], 1) for rows in (h, o)]
    known = cross_entropy(wide[0], LABELS)
    assert (terms["cross_entropy"] + terms["background"]).item() == pytest.approx(known.item(), rel=1e-10)
    unknown = cross_entropy(wide[1], torch.full((len(o),), 4))
    assert terms["cocl_outliers"].item() == pytest.approx(0.3 * unknown.item(), rel=1e-10)
    y = one_hot(LABELS, 4)
    in_tail = reference.tail(h.tolist(), y[:, RARE].tolist(), o.tolist(), method.prototypes.tolist(), 0.07)
    assert terms["cocl_tail"].item() == pytest.approx(0.05 * in_tail, rel=1e-9)
    in_head = reference.head(o.tolist(), h.tolist(), y[:, FREQUENT].sum(1).tolist(), 1.0)
    assert terms["cocl_head"].item() == pytest.approx(0.1 * in_head, rel=1e-9)


def test_a_batch_without_rows_of_a_kind_is_an_exact_zero() -> None:
    h, _, o, p = (value.requires_grad_() for value in rows())
    y = one_hot(LABELS, 4).double()
    rare_only, frequent_only = y[[0, 2, 0, 2, 0, 2]], y[[1, 5, 1, 5, 1, 5]]
    method = COCL(class_counts=COUNTS, margin=20)
    for targets, outliers, zero in ((frequent_only, o, (0,)), (rare_only, o, (1,)), (y, o[:0], (1,)), (y, o[:1], ())):
        terms = method(h, targets, outliers, p)
        assert [place for place, term in enumerate(terms) if term.item() == 0] == list(zero)
        slopes = torch.autograd.grad(terms[0] + terms[1], (h, o, p), allow_unused=True)
        assert all(slope is None or slope.isfinite().all() for slope in slopes)


def test_one_outlier_is_its_own_farthest() -> None:
    o, h = torch.tensor([[0.0, 0.0]]), torch.tensor([[3.0, 4.0], [0.6, 0.8]])
    assert head_loss(o, o, h, torch.ones(2), 1.5).item() == pytest.approx((0 + 0.5) / 2)
    two = torch.tensor([[0.0, 0.0], [0.0, 2.0]])
    assert head_loss(o, two, h[:1], torch.ones(1), 4.0).item() == pytest.approx(2 - 5 + 4)


def test_prototypes_are_found_among_outliers() -> None:
    h = torch.tensor([[1.0, 1.0]])
    term = tail_loss(h, torch.ones(1, 1), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.tensor([[2.0, 3.0]]), 1.0)
    assert term.item() == pytest.approx(np.log((2 * np.exp(2) + np.exp(-2)) / np.exp(2)), rel=1e-6)


@pytest.mark.parametrize("tau", [0.0, 0.5, 1.0])
def test_the_score_takes_the_prior_away(tau: float) -> None:
    net = classifier("vectors", dtype=torch.float64)
    TrainingStep(net, COCL(class_counts=COUNTS))
    x = batch("vectors", dtype=torch.float64)["outliers"].inputs
    name = "cocl" if tau == 1 else f"cocl(tau={tau:g})"
    found = evaluate(net, [x], {"ood": [x]}, [name]).scores["ood"][name]
    with torch.no_grad():
        h = net.features(x)  # type: ignore[arg-type]
        z, background = net.head(h).tolist(), net.heads["background"](h)[:, 0].tolist()
    expected = [reference.score(*row, COUNTS, tau) for row in zip(z, background, strict=True)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_counts_of_other_classes_are_refused_before_training() -> None:
    with pytest.raises(ValueError, match="class_counts must have a number for each of the 4 classes, got 3") as refusal:
        TrainingStep(classifier("vectors"), COCL(class_counts=(3, 2, 1)))
    assert is_one_sentence(str(refusal.value))


def test_a_run_measures_counts_and_keeps_their_prior(tmp_path: Path) -> None:
    suite = small_suite()
    recipe = Recipe(methods=(("cocl", {}),), learning_rate=0.1, epochs=1, batch_size=20, outlier_batch_size=10)
    run = train(recipe, suite, folder=tmp_path, network="tests.runs.small:linear", progress=False)
    counts = np.bincount(suite.train.labels, minlength=3)
    assert run.suggested == {"cocl": {"class_counts": counts.tolist()}}
    prior = run.classifier().heads["class_prior"].log_prior
    torch.testing.assert_close(prior.exp().double(), torch.from_numpy(counts / counts.sum()), check_device=False)
    assert all("cocl" in scores for scores in run.result["metrics"]["test"].values())
