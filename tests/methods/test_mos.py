"""MOS: softmaxes within groups, decisions, the score, and groups that are given or measured."""

import copy
import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from oodles import MOS, Classifier, LogitNorm, Mixup, OutlierExposure, TrainingStep, evaluate
from oodles.methods.mos import GroupedHead, class_means, log_probabilities

from ..contract.steps import is_one_sentence, total
from ..references import mos as reference

GROUPS = (0, 1, 0, 2, 1)
IDS = torch.tensor([0, 3, 1, 4, 2, 2, 0])


def rows(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of classes and of others, and soft targets."""
    generator = torch.Generator().manual_seed(4)
    z, o, y = (torch.randn(7, n, generator=generator, dtype=torch.float64) for n in (5, 3, 5))
    return (2 * z).to(dtype), (2 * o).to(dtype), y.softmax(1).to(dtype)


def classifier(groups: tuple[int, ...] = GROUPS, dtype: torch.dtype = torch.float64) -> Classifier:
    torch.manual_seed(0)
    net = Classifier(nn.Identity(), nn.Linear(4, 5)).to(dtype)
    TrainingStep(net, MOS(groups=groups))
    return net


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    return 3 * torch.randn(7, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64).to(dtype)


def linear_outputs(net: Classifier, h: Tensor) -> tuple[list[list[float]], list[list[float]]]:
    """Logits of classes and of others, before any softmax."""
    z = h.double() @ net.head.linear.weight.double().T + net.head.linear.bias.double()  # type: ignore[union-attr, operator]
    return z[:, :5].tolist(), z[:, 5:].tolist()


@pytest.mark.parametrize("mixed", [False, True])
@pytest.mark.parametrize("dtype, accuracy", [(torch.float64, 1e-12), (torch.float32, 1e-5), (torch.bfloat16, 1e-5)])
def test_the_papers_loss(dtype: torch.dtype, accuracy: float, mixed: bool) -> None:
    z, o, soft = rows(dtype)
    y = soft.double() if mixed else nn.functional.one_hot(IDS, 5).double()
    y = y / y.sum(1, keepdim=True)
    expected = reference.loss(z.double().tolist(), o.double().tolist(), GROUPS, y.tolist())
    given = y.to(torch.float64 if dtype == torch.float64 else torch.float32) if mixed else IDS
    loss = MOS(groups=GROUPS)(z, o, given)
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert loss.item() == pytest.approx(expected, rel=accuracy)


def test_the_step_trains_what_the_classifier_is_tested_with() -> None:
    net, h = classifier(), features()
    z, o = linear_outputs(net, h)
    terms = TrainingStep(net, MOS(groups=GROUPS))((h, IDS))
    targets = nn.functional.one_hot(IDS, 5).tolist()
    assert list(terms) == ["mos"] and terms["mos"].item() == pytest.approx(reference.loss(z, o, GROUPS, targets))
    p, p_others = zip(*(reference.probabilities(a, b, GROUPS) for a, b in zip(z, o, strict=True)), strict=True)
    torch.testing.assert_close(net(h).exp(), torch.tensor(p, dtype=torch.float64))
    torch.testing.assert_close(net.heads["others"](h).exp(), torch.tensor(p_others, dtype=torch.float64))
    decisions = [reference.decision(a, b, GROUPS) for a, b in zip(z, o, strict=True)]
    assert net(h).argmax(1).tolist() == decisions
    assert decisions != torch.tensor(z).argmax(1).tolist(), "the highest logit before the softmaxes is another class"


def test_the_score_is_the_least_p_of_others() -> None:
    net, h = classifier(dtype=torch.float32), features(torch.float32)
    expected = [reference.score(a, b, GROUPS) for a, b in zip(*linear_outputs(net, h), strict=True)]
    found = evaluate(net, [h], {}, ["mos"]).scores["id"]["mos"]
    assert [math.exp(value) for value in found] == pytest.approx(expected, rel=1e-5)


def test_rows_that_are_sure_of_a_group_keep_their_order() -> None:
    net = classifier(dtype=torch.float32)
    with torch.no_grad():
        net.head.linear.weight.zero_(), net.head.linear.bias.zero_()  # type: ignore[union-attr, operator]
        net.head.linear.weight[0, 0] = 1.0  # type: ignore[union-attr, index]
    h = torch.zeros(50, 4)
    h[:, 0] = torch.arange(50) * 4.0
    found = torch.from_numpy(evaluate(net, [h], {}, ["mos"]).scores["id"]["mos"])
    assert (found.diff() < 0).all() and found.isfinite().all()


def test_large_logits_are_finite_and_exact() -> None:
    z = torch.tensor([[1e4, -1e4, 0.0, 3e4, 3e4]], requires_grad=True)
    o = torch.tensor([[0.0, -3e4, -1e4]], requires_grad=True)
    log_p, log_others = log_probabilities(z, o, torch.tensor(GROUPS))
    torch.testing.assert_close(log_p, torch.tensor([[0.0, -4e4, -1e4, 0.0, 0.0]]))
    torch.testing.assert_close(log_others, torch.tensor([[-1e4, -6e4, -4e4]]))
    MOS(groups=GROUPS)(z, o, torch.tensor([1])).backward()
    assert z.grad is not None and z.grad.isfinite().all() and o.grad is not None and o.grad.isfinite().all()


def test_gradients_are_those_of_the_softmaxes() -> None:
    z, o, y = rows()
    z, o = z.requires_grad_(), o.requires_grad_()
    assert torch.autograd.gradcheck(lambda z, o: MOS(groups=GROUPS)(z, o, y), (z, o))


def test_one_group_of_all_is_cross_entropy_beside_an_output_that_nothing_is() -> None:
    z, o, _ = rows()
    expected = nn.functional.cross_entropy(torch.cat([z, o[:, :1]], 1), IDS)
    torch.testing.assert_close(MOS()(z, o[:, :1], IDS), expected)


def test_the_heads_share_their_layer_also_in_copies_and_saved_states() -> None:
    net, h = classifier(), features()
    step = TrainingStep(net, MOS(groups=GROUPS))
    copied = copy.deepcopy(net)
    assert copied.heads["others"].head is copied.head
    total(step((h, IDS))).backward()
    torch.optim.SGD(step.parameters(), lr=0.5).step()
    z, o = linear_outputs(net, h)
    expected = [reference.probabilities(a, b, GROUPS)[1] for a, b in zip(z, o, strict=True)]
    torch.testing.assert_close(net.heads["others"](h).exp(), torch.tensor(expected, dtype=torch.float64))
    copied.load_state_dict(net.state_dict())
    assert torch.equal(copied.heads["others"](h), net.heads["others"](h)) and torch.equal(copied(h), net(h))


def test_a_trained_head_stays_for_the_same_groups_alone() -> None:
    net = classifier()
    head = net.head
    TrainingStep(net, MOS(groups=GROUPS))
    assert net.head is head
    TrainingStep(net, MOS(groups=(0, 0, 0, 1, 1)))
    assert isinstance(net.head, GroupedHead) and net.head is not head and net.heads["others"].head is net.head


def test_float32_under_autocast() -> None:
    net, h = classifier(dtype=torch.float32), features(torch.float32)
    expected = net(h), net.heads["others"](h)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(net(h), expected[0]) and torch.equal(net.heads["others"](h), expected[1])


def test_mixed_rows_and_outliers_compose() -> None:
    step = TrainingStep(classifier(), MOS(groups=GROUPS), Mixup(), OutlierExposure())
    terms = step((features().abs(), IDS), outliers=features().abs())
    assert list(terms) == ["mos", "outlier_exposure"] and total(terms).isfinite()


def test_methods_on_logits_are_refused() -> None:
    with pytest.raises(ValueError, match="mos and logit-norm both replace 'logits'") as refusal:
        TrainingStep(Classifier(nn.Identity(), nn.Linear(4, 5)), MOS(groups=GROUPS), LogitNorm())
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("groups", [(0, 1, 0, 1), (0, 1, 0, 1, 0, 1)])
def test_groups_that_miss_a_class_are_refused(groups: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=f"a number for each of the 5 classes, got {len(groups)}") as refusal:
        TrainingStep(Classifier(nn.Identity(), nn.Linear(4, 5)), MOS(groups=groups))
    assert is_one_sentence(str(refusal.value))


def test_logits_of_others_of_another_number_of_groups_are_refused() -> None:
    z, o, _ = rows()
    with pytest.raises(ValueError, match="others must have a logit for each of 3 groups, got 2") as refusal:
        MOS(groups=GROUPS)(z, o[:, :2], IDS)
    assert is_one_sentence(str(refusal.value))


def test_groups_may_come_from_json() -> None:
    assert MOS(groups=[0, 1, 1]).groups == (0, 1, 1)  # type: ignore[arg-type]


CENTRES = torch.tensor([[9.0, 0, 0, 0], [0, 9, 0, 0], [8, 0, 0, 1], [0, 9, 1, 0], [0, 0, 0, -1]])


def batches(ids: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Rows around the centre of their class, whose mean it is."""
    y = torch.tensor(ids)
    return [(CENTRES[y] + 0.5, y), (CENTRES[y] - 0.5, y)]


def test_groups_are_measured_by_clustering_class_means() -> None:
    net = Classifier(nn.Identity(), nn.Linear(4, 5))
    torch.testing.assert_close(class_means(net, batches([0, 1, 2, 3, 4, 4])), CENTRES.double())
    found = MOS.suggest(net, batches([0, 1, 2, 3, 4, 4]), None)
    assert found in ({"groups": (0, 1, 0, 1, 0)}, {"groups": (0, 1, 0, 1, 1)})
    assert MOS.suggest(net, reversed(batches([4, 3, 2, 1, 0])), None) == found
    TrainingStep(net, MOS(**found))


def test_there_are_at_most_eight_groups() -> None:
    net = Classifier(nn.Identity(), nn.Linear(2, 100))
    y = torch.arange(100)
    angle = 2 * math.pi * y / 100
    groups = MOS.suggest(net, [(torch.stack([angle.cos(), angle.sin()], 1), y)], None)["groups"]
    assert set(groups) == set(range(8)) and groups[0] == 0
    one = Classifier(nn.Identity(), nn.Linear(2, 1))
    assert MOS.suggest(one, [(torch.ones(3, 2), torch.zeros(3, dtype=torch.long))], None) == {"groups": (0,)}


def test_a_class_without_rows_counts_as_the_mean_of_the_others() -> None:
    net = Classifier(nn.Identity(), nn.Linear(4, 5))
    found = class_means(net, batches([0, 1, 2, 3]))
    torch.testing.assert_close(found[:4], CENTRES[:4].double())
    torch.testing.assert_close(found[4], CENTRES[:4].double().mean(0))


def test_void_rows_are_left_out() -> None:
    net = Classifier(nn.Identity(), nn.Linear(4, 5))
    (x, y), more = batches([0, 1, 2, 3, 4])
    void = torch.full_like(y, 255)
    found = class_means(net, [(x, y), more, (100 * x, void)], ignore_index=255)
    torch.testing.assert_close(found, CENTRES.double())


def test_rows_without_class_ids_measure_nothing() -> None:
    net = Classifier(nn.Identity(), nn.Linear(4, 5))
    with pytest.raises(ValueError, match="mos needs the class ids of training rows to measure groups") as refusal:
        MOS.suggest(net, [CENTRES], None)
    assert is_one_sentence(str(refusal.value))
