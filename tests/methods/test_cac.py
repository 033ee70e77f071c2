"""Class anchor clustering: both terms, the score, and the values of the authors' program."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import CAC, Classifier, TrainingStep, evaluate
from oodles.methods import score_named
from oodles.methods.cac import AnchorDistance, anchor_distances, anchor_loss, tuplet_loss

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence
from ..references import cac as reference

ACCURACY = {torch.float64: 1e-12, torch.float32: 2e-6}
LABELS = torch.tensor([0, 1, 2, 3, 4, 0])
VALUES: dict[str, Any] = json.loads((Path(__file__).parents[1] / "recorded" / "values.json").read_text("utf-8"))


def logits(rows: int = 6, classes: int = 5, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(2)
    return (3 * torch.randn(rows, classes, generator=generator, dtype=torch.float64)).to(dtype)


def soft(rows: int = 6, classes: int = 5) -> Tensor:
    return torch.rand(rows, classes, generator=torch.Generator().manual_seed(3), dtype=torch.float64).softmax(1)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("mixed", [False, True])
def test_the_papers_equations(dtype: torch.dtype, mixed: bool) -> None:
    z = logits(dtype=dtype)
    targets = soft() if mixed else LABELS
    shares = soft() if mixed else one_hot(LABELS, 5)
    tuplet, anchor = reference.cac(z.double().tolist(), shares.tolist(), 7.0)
    distances = anchor_distances(z, 7.0)
    assert distances.dtype == dtype
    assert tuplet_loss(distances, targets).item() == pytest.approx(tuplet, rel=ACCURACY[dtype])
    assert anchor_loss(distances, targets).item() == pytest.approx(anchor, rel=ACCURACY[dtype])
    whole = CAC(alpha=7.0, weight=0.3)(z, targets)
    assert whole.item() == pytest.approx(tuplet + 0.3 * anchor, rel=ACCURACY[dtype])
    assert CAC(alpha=7.0, weight=0)(z, targets).item() == pytest.approx(tuplet, rel=ACCURACY[dtype])


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_values_of_the_authors_program(dtype: torch.dtype) -> None:
    """dimitymiller/cac-openset. pytorch-ood 0.4 contrasts the wrong classes and has 4.16666 here."""
    given, recorded = VALUES["inputs"], VALUES["cac"]
    x, w, b = (torch.tensor(given[name]).to(dtype) for name in ("Xin", "W", "b"))
    layer = nn.Linear(6, 5).to(dtype)
    with torch.no_grad():
        layer.weight.copy_(w.reshape(5, 6)), layer.bias.copy_(b)
    labels = torch.tensor(given["Y"])
    step = TrainingStep(Classifier(nn.Identity(), layer), CAC(alpha=recorded["alpha"], weight=recorded["lambda"]))
    terms = step((x.reshape(4, 6), labels))
    assert terms["tuplet"].item() == pytest.approx(recorded["tuplet"][0], rel=1e-6)
    assert terms["anchor"].item() == pytest.approx(0.1 * recorded["anchor"][0], rel=1e-6)
    assert sum(terms.values()).item() == pytest.approx(recorded["total"][0], rel=1e-6)
    z = layer(x.reshape(4, 6)).detach()
    assert anchor_distances(z, 10.0).flatten().tolist() == pytest.approx(recorded["dist"], rel=1e-6)
    score = AnchorDistance().fit(z, z, (z.argmax(1) + 1) % 5)  # nobody is right, so that anchors stay as they are
    assert score(z, z).tolist() == pytest.approx(recorded["score"], rel=1e-5)


def test_a_weight_of_zero_leaves_the_anchor_term_out() -> None:
    assert set(TrainingStep(classifier("vectors"), CAC(weight=0))(batch("vectors"))) == {"tuplet"}


@pytest.mark.parametrize("alpha", [0.5, 10.0, 300.0])
def test_the_nearest_anchor_is_that_of_the_highest_logit(alpha: float) -> None:
    z = logits(200)
    assert torch.equal(anchor_distances(z, alpha).argmin(1), z.argmax(1))


def test_an_anchor_itself() -> None:
    z = (10 * torch.eye(5)).requires_grad_()
    loss = CAC(weight=1.0)(z, torch.arange(5))
    loss.backward()
    apart = math.sqrt(200)
    assert loss.item() == pytest.approx(math.log1p(4 * math.exp(-apart)), abs=1e-7)
    assert z.grad is not None and z.grad.isfinite().all()


@pytest.mark.parametrize("near", [1e-2, 1e-5])
def test_distances_close_to_an_anchor_do_not_cancel(near: float) -> None:
    z = torch.zeros(1, 1000)
    z[0, 0], z[0, 1] = 10.0, near
    assert anchor_distances(z, 10.0)[0, 0].item() == pytest.approx(near, rel=1e-3)


def test_one_class_and_no_rows() -> None:
    z = torch.tensor([[13.0], [6.0]])
    assert CAC()(z, torch.zeros(2, dtype=torch.long)).item() == pytest.approx(0.1 * 3.5)
    empty = torch.zeros(0, 5, requires_grad=True)
    loss = CAC()(empty, LABELS[:0])
    loss.backward()
    assert loss.item() == 0 and empty.grad is not None
    assert AnchorDistance().fit(z, z, torch.zeros(2, dtype=torch.long))(z, z).tolist() == [0, 0]


def test_pixels_are_rows() -> None:
    z, labels = logits(24, 4).reshape(2, 3, 4, 4).movedim(3, 1), torch.arange(24).reshape(2, 3, 4) % 4
    by_row = z.movedim(1, 3).reshape(24, 4)
    torch.testing.assert_close(CAC()(z, labels), CAC()(by_row, labels.flatten()))
    score = AnchorDistance().fit(z, z, labels)
    flat = AnchorDistance().fit(by_row, by_row, labels.flatten())
    torch.testing.assert_close(score(z, z).flatten(), flat(by_row, by_row))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_score(dtype: torch.dtype) -> None:
    z = logits(60, dtype=dtype)
    labels = z.argmax(1)
    labels[::3] = (labels[::3] + 1) % 5  # which the classifier gets wrong
    labels[labels == 4] = 3  # and no row of the last class
    wide = z.double().tolist()
    centres = reference.centres(wide, labels.tolist(), 10.0)
    assert centres[4] == [0, 0, 0, 0, 10] and centres[0] != [10, 0, 0, 0, 0]
    score = score_named("cac").fit(z, z, labels)
    new = 2 * logits(9, dtype=dtype)
    found = score(new, new)
    assert found.dtype == dtype
    expected = [reference.score(row, centres) for row in new.double().tolist()]
    assert found.tolist() == pytest.approx(expected, rel=10 * ACCURACY[dtype])
    other = AnchorDistance(alpha=3.0).fit(z, z, labels)(new, new).tolist()
    centres = reference.centres(wide, labels.tolist(), 3.0)
    assert other == pytest.approx([reference.score(row, centres) for row in new.double().tolist()], rel=1e-5)


def test_a_row_far_from_all_centres_scores_high_and_a_sure_one_keeps_its_order() -> None:
    centres = 10 * torch.eye(3)
    score = AnchorDistance().fit(centres, centres, torch.arange(3))
    rows = torch.stack([centres[0] + torch.tensor([0.0, step, 0.0]) for step in (0.001, 0.01, 0.1, 1.0, 30.0)])
    assert (score(rows, rows).diff() > 0).all()
    assert score(torch.zeros(1, 3), torch.zeros(1, 3)) > score(rows[:4], rows[:4]).max()


def test_training_rows_make_the_centres_of_an_evaluation() -> None:
    net = classifier("vectors")
    given = batch("vectors", rows=60)["id"]
    assert given.targets is not None
    train = [(given.inputs, given.targets)]
    found = evaluate(net, train, {}, ["cac"], train).scores["id"]["cac"]
    with torch.no_grad():
        z = net(given.inputs).double()
    centres = reference.centres(z.tolist(), given.targets.tolist(), 10.0)
    assert found.tolist() == pytest.approx([reference.score(row, centres) for row in z.tolist()], rel=1e-5)


def test_what_the_score_refuses() -> None:
    z = logits()
    with pytest.raises(ValueError, match="cac compares with training rows but has seen none"):
        AnchorDistance()(z, z)
    for labels, sentence in (
        (None, "cac needs the class ids of training rows, got none"),
        (soft(), "cac needs the class ids of training rows, got torch.float"),
        (LABELS - 1, "labels must be class ids from 0 to 4, got -1"),
    ):
        with pytest.raises((TypeError, ValueError), match=sentence) as refusal:
            AnchorDistance().fit(z, z, labels)
        assert is_one_sentence(str(refusal.value))
    with pytest.raises(ValueError, match="logits of training rows must be finite"):
        AnchorDistance().fit(z, z / 0, LABELS)
    with pytest.raises(ValueError, match="alpha must be a finite number > 0, got 0"):
        AnchorDistance(alpha=0)
