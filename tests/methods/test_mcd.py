"""Maximum classifier discrepancy; recorded: a third party's program, hinge and score of two heads' logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oodles import MCD, Classifier, TrainingStep
from oodles.methods.mcd import Discrepancy, discrepancy_hinge

from ..contract.steps import is_one_sentence
from ..recorded.linear_layer import VALUES, X_IN, X_OUT, Y, layer
from ..references import mcd as reference
from ..references.equations import cross_entropy, one_hot, pixels_as_rows

ACCURACY = {torch.float64: 1e-11, torch.float32: 1e-5}


def normal(*shape: int, seed: int = 0) -> Tensor:
    return 2 * torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", ACCURACY)
def test_the_recorded_values(dtype: torch.dtype) -> None:
    recorded = VALUES["mcd"]
    first = layer(0, 5, dtype)(X_OUT.to(dtype)).detach()
    second = torch.tensor(recorded["z2"], dtype=dtype).reshape(8, 5)
    assert MCD()(first, second).item() == pytest.approx(recorded["loss_m1.2"][0], rel=1e-6)
    assert Discrepancy()(first, first, second).tolist() == pytest.approx(recorded["score_l1"], rel=1e-6)


@pytest.mark.parametrize("dtype", ACCURACY)
@pytest.mark.parametrize("targets", ["ids", "probabilities"])
def test_both_terms(targets: str, dtype: torch.dtype) -> None:
    x, o, y = normal(7, 6), normal(9, 6, seed=1), torch.arange(7) % 5
    soft = torch.rand(7, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64).softmax(1)
    given, rows = (y, one_hot(y.tolist(), 5)) if targets == "ids" else (soft.to(dtype), soft.numpy())
    net = Classifier(nn.Identity(), layer(0, 5, dtype))
    net.heads["second"] = layer(5, 10, dtype)
    terms = TrainingStep(net, MCD(weight=0.7, margin=0.9))((x.to(dtype), given), outliers=o.to(dtype))
    exact = layer(0, 5, torch.float64), layer(5, 10, torch.float64)
    expected = cross_entropy(exact[1](x).detach().numpy(), rows)
    assert terms["second_head"].item() == pytest.approx(expected, rel=ACCURACY[dtype])
    hinge = reference.hinge(*(z(o).detach().numpy() for z in exact), 0.9)
    assert hinge > 0 and terms["mcd"].item() == pytest.approx(0.7 * hinge, rel=ACCURACY[dtype])


def test_pixels_are_rows() -> None:
    first, second = normal(2, 4, 3, 2), normal(2, 4, 3, 2, seed=1)
    expected = reference.hinge(pixels_as_rows(first.numpy()), pixels_as_rows(second.numpy()), 1.2)
    assert discrepancy_hinge(first, second, 1.2).item() == pytest.approx(expected, rel=1e-11)


def test_entropies_are_over_the_classes() -> None:
    flat, sharp = torch.zeros(6, 4), 100 * F.one_hot(torch.arange(6) % 4, 4).float()
    assert discrepancy_hinge(flat, sharp, 2.0).item() == pytest.approx(2 - math.log(4))
    # over the batch, equal rows would be as uncertain as can be
    assert discrepancy_hinge(sharp[:1].expand(6, 4), sharp, 2.0).item() == pytest.approx(2.0)


def test_the_hinge_is_on_the_mean_and_has_an_order() -> None:
    flat, sharp = torch.zeros(1, 4, dtype=torch.float64), torch.tensor([[100.0, 0, 0, 0]], dtype=torch.float64)
    first, second = torch.cat([flat, sharp]), torch.cat([sharp, flat])  # differences log 4 and −log 4
    assert discrepancy_hinge(first, second, 1.2).item() == pytest.approx(1.2)
    assert discrepancy_hinge(flat, sharp, 1.2).item() == 0.0
    assert discrepancy_hinge(sharp, flat, 1.2).item() == pytest.approx(1.2 + math.log(4))


def test_beyond_the_margin_nothing_moves() -> None:
    first = torch.zeros(3, 4, requires_grad=True)
    discrepancy_hinge(first, 100 * torch.eye(4)[:3], 1.2).backward()
    assert first.grad is not None and first.grad.abs().max() == 0


def test_no_outliers_are_an_exact_zero_and_no_margin_asks_for_nothing() -> None:
    none = torch.zeros(0, 4, requires_grad=True)
    loss = MCD()(none, none)
    assert loss.item() == 0 and loss.requires_grad
    z = normal(5, 4)
    assert MCD(margin=0)(z, z).item() == 0


def test_the_score_is_zero_where_heads_agree_and_two_where_they_exclude_each_other() -> None:
    z = normal(6, 4)
    assert Discrepancy()(z, z, z).tolist() == [0.0] * 6
    sharp = 1000 * torch.eye(3)
    assert Discrepancy()(sharp, sharp, sharp.roll(1, 0)).tolist() == [2.0] * 3
    other = normal(6, 4, seed=1)
    expected = [reference.score(*rows) for rows in zip(z.tolist(), other.tolist(), strict=True)]
    assert Discrepancy()(z, z, other).tolist() == pytest.approx(expected, rel=1e-11)


def test_the_heads_start_apart_and_only_the_second_is_new() -> None:
    head = nn.Linear(6, 5)
    before = head.weight.detach().clone()
    step = TrainingStep(Classifier(nn.Identity(), head), MCD())
    second = step.classifier.heads["second"]
    assert step.classifier.head is head and torch.equal(head.weight, before)
    assert isinstance(second, nn.Linear) and second.out_features == 5 and not torch.equal(second.weight, before)
    assert set(step((X_IN, Y), outliers=X_OUT)) == {"cross_entropy", "second_head", "mcd"}


def test_heads_of_other_classes_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"second_out must have shape \(m, c\) with m = 2 and c = 4, as logits_out has"
    ) as refusal:
        MCD()(torch.zeros(2, 4), torch.zeros(2, 3))
    assert is_one_sentence(str(refusal.value))
