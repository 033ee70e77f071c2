"""SupCon: the contrast of rows, soft targets, rows alone in their class, and what is no neighbour of itself."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize, one_hot

from oodles import PALM, Batch, LogitNorm, Mixup, Part, SupCon, TrainingStep
from oodles.methods.supcon import contrast

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import supcon as reference

LABELS = torch.tensor([0, 1, 2, 0, 1, 1, 3])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Projections of any length, class ids and soft targets as probabilities; class 3 has one row."""
    generator = torch.Generator().manual_seed(3)
    z = torch.randn(7, 5, generator=generator, dtype=torch.float64)
    soft = (3 * torch.rand(7, 4, generator=generator, dtype=torch.float64)).softmax(1)
    return z.to(dtype), one_hot(LABELS, 4).to(dtype), soft.to(dtype)


@pytest.mark.parametrize("temperature", [0.07, 0.5])
@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_equation(dtype: torch.dtype, mixed: bool, temperature: float) -> None:
    z, hard, soft = rows(dtype)
    y = soft if mixed else hard
    expected = reference.loss(normalize(z.double()).tolist(), y.double().tolist(), temperature)
    method = SupCon(weight=0.8, temperature=temperature)
    assert method(z, y, 4).item() == pytest.approx(0.8 * expected, rel=1e-10 if dtype == torch.float64 else 1e-5)
    if not mixed:
        assert torch.equal(method(z, LABELS, 4), method(z, y, 4))


def test_a_row_alone_in_its_class_gives_zero_and_repels() -> None:
    z = normalize(rows()[0]).requires_grad_()
    alone = contrast(z, torch.eye(7, dtype=torch.float64), 0.1)
    (slope,) = torch.autograd.grad(alone, z)
    assert alone.item() == 0 and not slope.any()
    one_pair = contrast(z, one_hot(torch.tensor([0, 0, 1, 2, 3, 4, 5])).double(), 0.1)
    (slope,) = torch.autograd.grad(one_pair, z)
    assert one_pair > 0 and slope.isfinite().all() and bool((slope != 0).any(1).all())
    for count in (0, 1):
        few = z[:count]
        value = contrast(few, torch.ones(count, 1, dtype=torch.float64), 0.1)
        (slope,) = torch.autograd.grad(value, z)
        assert value.item() == 0 and not slope.any() and slope.isfinite().all()


def test_the_other_view_of_a_row_is_of_its_class() -> None:
    net = classifier("images", dtype=torch.float64)
    step = TrainingStep(net, SupCon(weight=0.8, dimensions=5), seed=2)
    given = batch("images", dtype=torch.float64)
    labels = torch.arange(4).repeat(2)[:6]
    prepared = step.prepare(given.with_part("id", Part(given["id"].inputs, labels)))
    z = torch.cat([net.heads["projection"](net.features(prepared[role].rows)) for role in ("id", "view")])
    y = one_hot(labels.repeat(2), 4).double()
    expected = reference.loss(normalize(z).tolist(), y.tolist(), 0.1)
    assert step.losses(prepared)["supcon"].item() == pytest.approx(0.8 * expected, rel=1e-10)


def test_a_loaders_view_is_used() -> None:
    net = classifier("images")
    step = TrainingStep(net, SupCon(dimensions=5))
    given = batch("images")
    same = step(Batch({**given.parts, "view": Part(given["id"].rows, given["id"].labels)}))
    z = normalize(net.heads["projection"](net.features(given["id"].rows))).repeat(2, 1)
    expected = contrast(z, one_hot(given["id"].labels, 4).float().repeat(2, 1), 0.1)
    assert same["supcon"].item() == pytest.approx(0.5 * expected.item(), rel=1e-5)


def test_alone_the_features_learn_from_the_contrast_only() -> None:
    given = batch("images")
    net = classifier("images")
    terms = TrainingStep(net, SupCon(alone=True, dimensions=5))(given)
    terms["cross_entropy"].backward(retain_graph=True)
    backbone = [parameter.grad for parameter in net.backbone.parameters()]
    assert all(slope is None or not slope.any() for slope in backbone)
    assert net.head.weight.grad is not None and net.head.weight.grad.any()
    terms["supcon"].backward()
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in net.backbone.parameters())
    with pytest.raises(ValueError, match="supcon alone and logit-norm both replace 'logits'") as no:
        TrainingStep(classifier("images"), SupCon(alone=True), LogitNorm())
    assert is_one_sentence(str(no.value))
    assert set(TrainingStep(classifier("images"), SupCon(), LogitNorm())(given)) == {"cross_entropy", "supcon"}


def test_views_are_of_mixed_rows() -> None:
    step = TrainingStep(classifier("images"), SupCon(dimensions=5), Mixup())
    prepared = step.prepare(batch("images"))
    assert torch.equal(prepared["view"].labels, prepared["id"].labels) and prepared["id"].labels.is_floating_point()
    assert total(step.losses(prepared)).isfinite()


def test_projections_of_two_sizes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"The classifier has a head 'projection' of sizes \[7, 7, 6\], and") as no:
        TrainingStep(classifier("images"), SupCon(dimensions=5), PALM(dimensions=6))
    assert is_one_sentence(str(no.value))
