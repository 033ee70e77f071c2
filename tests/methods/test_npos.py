"""NPOS: borders and candidates, the rows that are kept, and what they take."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import CIDER, NPOS, Classifier, Now, Outputs, Part, TrainingStep
from oodles.methods.npos import farthest_candidates, nearness

from ..contract.networks import batch, classifier
from ..references import npos as reference


def made(features: int = 5, classes: int = 3, **settings: float) -> tuple[NPOS, Classifier]:
    """A method that keeps features of this size, and its classifier, in float64."""
    method, net = NPOS(**settings), Classifier(nn.Flatten(), nn.Linear(features, classes)).double()  # type: ignore[arg-type]
    method.change_classifier(net)
    return method, net


def take(method: NPOS, net: Classifier, features: Tensor, targets: Tensor) -> None:
    """Let the method keep features as after a step."""
    given = batch("vectors").with_part("id", Part(features, targets))
    method.after_update(Outputs({"id": features}, {"id": net.head(features)}), given, Now(net))


def numbered(ids: list[int], first: int = 0) -> tuple[Tensor, Tensor]:
    """Rows that are recognised by their number, and their classes."""
    return torch.arange(first, first + len(ids)).double()[:, None].expand(-1, 5), torch.tensor(ids, dtype=torch.long)


def kept(method: NPOS) -> list[list[int]]:
    return [sorted(rows[:, 0].long().tolist()) for rows in method.rows_of(torch.arange(3))]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_equation(dtype: torch.dtype) -> None:
    known, virtual = torch.tensor([0.3, -1.2, 2.0]), torch.tensor([0.5, -0.4])
    expected = 0.4 * reference.loss(known.tolist(), virtual.tolist())
    found = NPOS(weight=0.4)(known.to(dtype), virtual.to(dtype))
    assert found.item() == pytest.approx(expected, rel=1e-6) and found.dtype == dtype


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_borders_and_candidates_are_the_references(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(2)
    rows = torch.randn(2, 12, 5, generator=generator, dtype=torch.float64) + 1
    steps = 0.5 * torch.randn(30, 5, generator=generator, dtype=torch.float64)
    anchors = rows[:, 3:6]
    near = nearness(rows.to(dtype), rows.to(dtype), 4)
    found = farthest_candidates(*(value.to(dtype) for value in (anchors, steps, rows)), 4, 6).double()
    for c in range(2):
        own = rows[c].tolist()
        far = torch.tensor([reference.distance_to_neighbor(row, own, 4) for row in own], dtype=torch.float64)
        torch.testing.assert_close(near[c].double(), 1 - far.square() / 2, rtol=1e-5, atol=1e-5)
        assert sorted(near[c].topk(3, largest=False).indices.tolist()) == sorted(reference.border(own, 4, 3))
        for a in range(3):
            expected = reference.candidates(anchors[c, a].tolist(), steps.tolist(), own, 4, 6)
            ours = sorted(found[c, a].tolist())
            torch.testing.assert_close(torch.tensor(ours), torch.tensor(sorted(expected)), rtol=1e-5, atol=1e-5)


def test_virtual_rows_are_made_around_border_rows_alone() -> None:
    method, net = made(memory=20, neighbors=0.3, border=0.1, candidates=50, kept=5, spread=1e-3)
    features = torch.randn(60, 5, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    take(method, net, features, torch.arange(60) % 3)
    drawn = method.drawn(torch.tensor([2, 0]), torch.Generator().manual_seed(0))
    assert drawn.shape == (2 * 2 * 5, 5)
    for c, around in zip((2, 0), drawn.split(10), strict=True):
        rows = method.rows_of(torch.tensor([c]))[0]
        places = torch.cdist(around, rows).argmin(1)
        assert set(places.tolist()) == set(reference.border(rows.tolist(), 6, 2))


def test_the_last_rows_of_each_class_are_kept() -> None:
    method, net = made(memory=3)
    take(method, net, *numbered([0, 1, 0, 0]))
    assert kept(method) == [[0, 2, 3], [1, 1, 1], [0, 0, 0]], "those that are there stand for others"
    take(method, net, *numbered([0, 1, 2], first=10))
    assert kept(method) == [[2, 3, 10], [1, 1, 11], [12, 12, 12]]
    take(method, net, *numbered([2] * 8, first=20))
    assert kept(method)[2] == [25, 26, 27], "more rows of a class than are kept"
    take(method, net, *numbered([]))
    assert method.written.tolist() == [4, 2, 9] and not method.features[-1].any()


def test_rows_of_soft_targets_belong_to_the_likeliest_class() -> None:
    method, net = made(memory=3)
    features, ids = numbered([0, 2, 1])
    take(method, net, features, 0.6 * one_hot(ids, 3).double() + 0.4 / 3)
    assert kept(method) == [[0, 0, 0], [2, 2, 2], [1, 1, 1]]


def test_at_most_ten_classes_in_a_step_in_turn() -> None:
    net = Classifier(nn.Flatten(), nn.Linear(6, 13))
    method = NPOS(memory=1, candidates=2, kept=1, spread=1e-6)
    step = TrainingStep(net, method, seed=1)
    rows = torch.arange(13).float()[:, None] * torch.ones(6)
    step((rows, torch.arange(13)))
    step.after_update()
    seen = [step.prepare((rows, torch.arange(13)))["virtual"].first.round()[:, 0].long().tolist() for _ in range(2)]
    assert seen == [[10, 11, 12, 0, 1, 2, 3, 4, 5, 6], [7, 8, 9, 10, 11, 12, 0, 1, 2, 3]]


def test_the_judge_learns_and_gives_the_backbone_a_gradient() -> None:
    step = TrainingStep(classifier("images"), NPOS())
    term = step(batch("images"))["npos"]
    slopes = torch.autograd.grad(term, list(step.classifier.backbone.parameters()), retain_graph=True)
    assert all(slope.any() for slope in slopes)
    term.backward()
    assert all(parameter.grad.any() for parameter in step.classifier.heads["judge"].parameters())


def test_the_judge_learns_at_a_tenth_of_the_rate() -> None:
    step = TrainingStep(classifier("vectors"), NPOS())
    judge = {id(parameter) for parameter in step.classifier.heads["judge"].parameters()}
    rates = {(id(p) in judge, group["lr"]) for group in step.parameter_groups(0.5) for p in group["params"]}
    assert rates == {(True, 0.05), (False, 0.5)}


def test_with_cider_alone_it_trains_the_features_and_cross_entropy_the_last_layer() -> None:
    net = classifier("images", dtype=torch.float64)
    step = TrainingStep(net, CIDER(alone=True, dimensions=5), NPOS(kept=3))
    terms = step(batch("images", dtype=torch.float64))
    assert set(terms) == {"cross_entropy", "compactness", "dispersion", "npos"}
    backbone = list(net.backbone.parameters())
    assert not any(slope is not None for slope in slopes(terms["cross_entropy"], backbone))
    assert all(slope is not None and slope.any() for slope in slopes(terms["npos"], backbone))


def slopes(term: Tensor, parameters: list[nn.Parameter]) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(term, parameters, allow_unused=True, retain_graph=True)


def test_a_thousand_classes_take_less_than_100_megabytes_to_save() -> None:
    method = NPOS(memory=1000)
    TrainingStep(Classifier(nn.Flatten(), nn.Linear(2048, 1000)), method)
    assert method.room == 9
    assert sum(value.nbytes for value in method.state_dict().values()) < 100e6
