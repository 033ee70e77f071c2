"""Jigsaw: against the equations, and the formula that was computed apart for the authors' program."""

import itertools
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from oodles import Jigsaw, TrainingStep, evaluate
from oodles.methods.jigsaw import PositiveLogitNorm, draw_orders, jigsaw_puzzles, positive_norm, with_patches

from ..contract.networks import batch, classifier, inputs, labels
from ..contract.steps import is_one_sentence
from ..references import jigsaw as reference

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
RECORDED = json.loads((Path(__file__).parents[1] / "recorded" / "values.json").read_text(encoding="utf-8"))


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape, patches", [((2, 8, 8), 2), ((1, 9, 6), 3), ((3, 8, 8), 3), ((1, 7, 11), 4)])
def test_patches_are_placed_as_the_reference_places_them(shape: tuple[int, int, int], patches: int) -> None:
    images, orders = torch.rand(4, *shape), draw_orders(4, patches**2, generator=generator())
    expected = [reference.puzzle(x, o, patches) for x, o in zip(images.numpy(), orders.tolist(), strict=True)]
    assert np.array_equal(with_patches(images, orders).numpy(), np.stack(expected))


def test_one_puzzle_by_eye() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    found = with_patches(image, torch.tensor([[3, 0, 1, 2]]))
    rows = [[10, 11, 0, 1], [14, 15, 4, 5], [2, 3, 8, 9], [6, 7, 12, 13]]
    assert found[0, 0].tolist() == rows
    wider = torch.arange(15.0).reshape(1, 1, 3, 5)  # the last row and column are left over
    assert with_patches(wider, torch.tensor([[1, 0, 3, 2]]))[0, 0].tolist() == [
        [2, 3, 0, 1, 4],
        [7, 8, 5, 6, 9],
        [10, 11, 12, 13, 14],
    ]


def test_every_order_but_the_one_in_which_nothing_moves_is_drawn() -> None:
    orders = draw_orders(5000, 4, generator=generator())
    seen, counts = np.unique(orders.numpy(), axis=0, return_counts=True)
    assert {tuple(order) for order in seen.tolist()} == set(itertools.permutations(range(4))) - {(0, 1, 2, 3)}
    assert counts.min() > 140 and np.sort(counts)[-2] < 280, "about 5000 / 24 each"
    assert tuple(seen[counts.argmax()]) == (3, 0, 1, 2), "but for the one that stands in"
    assert draw_orders(3, 9, generator=generator()).sort(1).values.tolist() == [list(range(9))] * 3


def test_puzzles_differ_from_image_to_image_and_leave_the_images_alone() -> None:
    image = torch.rand(1, 3, 9, 9).expand(20, 3, 9, 9)
    before = image.clone()
    found = jigsaw_puzzles(image, 3, generator=generator())
    assert torch.equal(image, before)
    assert not any(torch.equal(a, b) for a, b in itertools.combinations([image[0], *found], 2))
    torch.testing.assert_close(found.flatten(1).sort(1).values, image.flatten(1).sort(1).values)
    assert torch.equal(jigsaw_puzzles(image, 3, generator=generator()), found)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_term_is_that_of_the_paper(dtype: torch.dtype, accuracy: float) -> None:
    z = torch.randn(7, 5, dtype=torch.float64, generator=generator()).to(dtype)
    assert Jigsaw(weight=0.6)(z).item() == pytest.approx(0.6 * reference.term(z.double().numpy()), rel=accuracy)
    net, given = classifier("images", dtype=dtype), batch("images", dtype=dtype)
    step = TrainingStep(net, Jigsaw(weight=0.6, patches=2))
    prepared = step.prepare(given)
    with torch.no_grad():
        z = net(prepared["jigsaw"].inputs)
    expected = 0.6 * reference.term(z.double().numpy())
    assert step.losses(prepared)["jigsaw"].item() == pytest.approx(expected, rel=accuracy)


def test_the_recorded_value() -> None:
    """The formula, computed apart, on closed-form inputs: see tests/recorded/values.json."""
    x, w, b = (torch.tensor(RECORDED["inputs"][name], dtype=torch.float64) for name in ("Xout", "W", "b"))
    logits = x.reshape(8, 6) @ w.reshape(5, 6).T + b
    assert Jigsaw()(logits).item() == pytest.approx(RECORDED["jigsaw"]["loss_out"][0], rel=1e-6)


def test_one_number_per_pixel() -> None:
    z = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator())
    pixels = z.movedim(1, -1).reshape(-1, 4)
    torch.testing.assert_close(Jigsaw()(z), Jigsaw()(pixels))
    assert positive_norm(z).shape == (2, 3, 3)


def test_no_positive_logit_is_zero_and_has_a_gradient_of_zero() -> None:
    z = torch.tensor([[-1.0, -2.0], [0.0, 0.0]], requires_grad=True)
    term = Jigsaw()(z)
    term.backward()
    assert term.item() == 0 and z.grad is not None and z.grad.tolist() == [[0, 0], [0, 0]]
    one = torch.tensor([[3.0], [-4.0]])
    assert positive_norm(one).tolist() == [3, 0]
    nothing = Jigsaw()(torch.zeros(0, 3, requires_grad=True))
    assert nothing.item() == 0 and nothing.requires_grad


def test_the_score_is_the_norm_and_lower_for_what_has_larger_logits() -> None:
    z = torch.randn(6, 5, dtype=torch.float64, generator=generator())
    train = 2 + torch.randn(9, 5, dtype=torch.float64, generator=generator(1))
    t = reference.threshold(train.tolist())
    score = PositiveLogitNorm().fit(train, train, None)
    expected = [-reference.positive_norm([value - t for value in row]) for row in z.tolist()]
    np.testing.assert_allclose(score(z, z).numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(PositiveLogitNorm().fit(z, train + 7, None)(z, z + 7).numpy(), expected, rtol=1e-9)
    assert score(z, torch.tensor([[9.0, 1.0], [0.1, 0.2]])).argmax().item() == 1
    assert score(z, torch.full((2, 3), 65504.0, dtype=torch.float16)).isfinite().all()
    known = inputs("images", 5)
    net = classifier("images")
    rows = [(known, labels("images", 5))]
    found = evaluate(net, rows, {"other": [known]}, ["positive-logit-norm"], train_loader=rows)
    with torch.no_grad():
        logits = net(known).double().tolist()
    t = reference.threshold(logits)
    expected = [-reference.positive_norm([value - t for value in row]) for row in logits]
    np.testing.assert_allclose(found.scores["other"]["positive-logit-norm"], expected, rtol=1e-4, atol=1e-6)


def test_the_threshold_of_pixels_and_of_one_class() -> None:
    z = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator())
    pixels = z.movedim(1, -1).reshape(-1, 4)
    dense, flat = PositiveLogitNorm().fit(z, z, None), PositiveLogitNorm().fit(pixels, pixels, None)
    assert dense.threshold == pytest.approx(flat.threshold) and dense(z, z).shape == (2, 3, 3)
    assert PositiveLogitNorm().fit(z, torch.tensor([[1.0], [3.0]]), None).threshold == 2
    with pytest.raises(ValueError, match="logits of training rows must be finite"):
        PositiveLogitNorm().fit(z, z / 0, None)


@pytest.mark.parametrize("images", [torch.rand(2, 2, 8, 8), torch.rand(2, 2, 12, 8)])
def test_images_with_too_few_pixels_are_refused(images: Tensor) -> None:
    with pytest.raises(ValueError, match=r"patches must be at most 8 for images of \d+ × 8 pixels, got 9") as no:
        TrainingStep(classifier("images"), Jigsaw(patches=9))((images, torch.zeros(2, dtype=torch.long)))
    assert is_one_sentence(str(no.value))
    with pytest.raises(ValueError, match="patches must be a whole number of at least 2, got 1") as no:
        Jigsaw(patches=1)
    assert is_one_sentence(str(no.value))
