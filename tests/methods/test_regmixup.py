"""RegMixup: mixed rows beside the clean ones, and both terms of the loss."""

import pytest
import torch

from oodles import Batch, Mixup, Part, RegMixup, TrainingStep
from oodles.randomness import generator_for

from ..contract.networks import batch, classifier, inputs
from ..contract.steps import total
from ..references import regmixup as reference
from ..references.equations import one_hot
from . import mixers


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("shape", mixers.SHAPES)
def test_rows_and_labels_are_combinations(shape: tuple[int, ...], per_sample: bool) -> None:
    mixers.check_combinations(RegMixup, per_sample, shape)


@pytest.mark.parametrize("per_sample", [False, True])
@pytest.mark.parametrize("check", mixers.EVERY)
def test_it_mixes(check: mixers.Check, per_sample: bool) -> None:
    check(RegMixup, per_sample)


@pytest.mark.parametrize("dtype, accuracy", [(torch.float64, 1e-12), (torch.float32, 1e-5)])
@pytest.mark.parametrize("weight", [0.6, 1.0])
def test_both_terms(weight: float, dtype: torch.dtype, accuracy: float) -> None:
    net = classifier("images", dtype=dtype)
    x, method = mixers.images(4, dtype=dtype), RegMixup(alpha=2.0, weight=weight)
    step = TrainingStep(net, method, seed=4)
    prepared = step.prepare(Batch({"id": Part(x, torch.eye(4, dtype=dtype))}))
    assert prepared["id"].inputs is x
    draws = generator_for(4, 0, 0, method.name)
    mixed_x, y_a, y_b, lam = method(x, torch.arange(4), generator=draws)
    assert isinstance(lam, float) and torch.equal(prepared["mixed"].inputs, mixed_x)
    terms = step.losses(prepared)
    assert set(terms) == {"cross_entropy", "regmixup"}
    exact = classifier("images").double()
    clean, mixed = (exact(rows.double()).detach().numpy() for rows in (x, mixed_x))
    labels, partners = one_hot(range(4), 4), mixers.partners_of(y_a, y_b)
    expected = [reference.loss(clean, labels, mixed, partners, lam, of) for of in (0.0, weight)]
    assert terms["cross_entropy"].item() == pytest.approx(expected[0], rel=accuracy)
    assert total(terms).item() == pytest.approx(expected[1], rel=accuracy)


def test_class_ids_are_mixed_in_float32() -> None:
    given = batch("images", dtype=torch.float64)
    steps = [TrainingStep(classifier("images", dtype=torch.float64), RegMixup(alpha=2.0)) for _ in range(2)]
    soft = torch.nn.functional.one_hot(given["id"].labels, 4).double()
    first, second = steps[0](given), steps[1](given.with_part("id", Part(given["id"].rows, soft)))
    assert first["regmixup"].item() == pytest.approx(second["regmixup"].item(), rel=1e-6)


def test_the_clean_rows_loss_is_that_of_plain_training() -> None:
    given = batch("images")
    terms = TrainingStep(classifier("images"), RegMixup())(given)
    plain = TrainingStep(classifier("images"))(given)
    torch.testing.assert_close(terms["cross_entropy"], plain["cross_entropy"], rtol=1e-6, atol=1e-7)


def test_alpha_zero_adds_the_clean_rows_once_more() -> None:
    terms = TrainingStep(classifier("vectors"), RegMixup(alpha=0, weight=0.3))(batch("vectors"))
    assert terms["regmixup"].item() == pytest.approx(0.3 * terms["cross_entropy"].item(), rel=1e-6)


def test_the_papers_shares_are_near_one_half() -> None:
    x = inputs("vectors", 4000)
    *_, lam = RegMixup(per_sample=True)(x, torch.zeros(4000))  # type: ignore[arg-type]
    assert isinstance(lam, torch.Tensor)
    assert lam.mean().item() == pytest.approx(0.5, abs=0.01)
    assert lam.std().item() == pytest.approx((1 / (4 * 41)) ** 0.5, rel=0.1)


def test_the_rows_alone_are_mixups() -> None:
    x, y = mixers.images(5), torch.arange(5)
    first, second = (cls(alpha=3.0)(x, y, generator=torch.Generator().manual_seed(0)) for cls in (RegMixup, Mixup))
    assert torch.equal(first[0], second[0]) and torch.equal(first[2], second[2]) and first[3] == second[3]
