"""DUQ: kernels and their loss, centroids that follow, the slope in the inputs, and how it is compiled."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import one_hot

from oodles import DUQ, Classifier, Mixup, Part, TrainingStep, evaluate
from oodles.methods.duq import Kernels, binary_cross_entropy, slope_penalty

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import duq as reference

SETTINGS = {"penalty": 0.5, "length_scale": 0.5, "width": 3, "centroid_momentum": 0.9}


def trained(kind: str = "vectors", **changes: float) -> tuple[TrainingStep, Kernels, Part]:
    """A step, its head, and known rows, in float64."""
    net = classifier(kind, dtype=torch.float64)
    step = TrainingStep(net, DUQ(**{**SETTINGS, **changes}))
    assert isinstance(net.head, Kernels)
    return step, net.head, batch(kind, dtype=torch.float64)["id"]


def of_reference(head: Kernels, h: Tensor) -> list[list[float]]:
    centroids = (head.sums / head.counts[:, None]).tolist()
    return [
        [
            reference.log_kernel(w, e, row, head.length_scale)
            for w, e in zip(head.weight.tolist(), centroids, strict=True)
        ]
        for row in h.tolist()
    ]


@pytest.mark.parametrize("mixed", [False, True])
def test_the_papers_kernels_and_their_loss(mixed: bool) -> None:
    step, head, part = trained()
    h = step.classifier.features(part.rows)
    expected = of_reference(head, h)
    torch.testing.assert_close(head(h), torch.tensor(expected, dtype=torch.float64))
    y = torch.rand(6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).softmax(1)
    shares = y if mixed else one_hot(part.labels, 4).double()
    found = binary_cross_entropy(head(h), y if mixed else part.labels)
    assert found.item() == pytest.approx(reference.binary_cross_entropy(expected, shares.tolist()), rel=1e-12)


def test_the_slope_is_that_of_the_kernels_sum_in_each_row() -> None:
    step, _, part = trained()
    net = step.classifier

    def kernels(x: list[float]) -> float:
        with torch.no_grad():
            return float(net(torch.tensor([x], dtype=torch.float64)).exp().sum())

    expected = [reference.slope_penalty(kernels, x) for x in part.rows.tolist()]
    term = step((part.rows, part.labels))["slope_penalty"]
    assert term.item() == pytest.approx(0.5 * sum(expected) / len(expected), rel=1e-6)


def test_the_penalty_trains_the_network() -> None:
    """Alone, it brings slopes near 1."""
    step, _, part = trained(penalty=1.0)
    optimizer = torch.optim.Adam(step.parameters(), lr=0.01)
    first = None
    for _ in range(150):
        term = step((part.rows, part.labels))["slope_penalty"]
        first = first if first is not None else term.item()
        optimizer.zero_grad()
        term.backward()
        optimizer.step()
    assert first is not None and term.item() < first / 10


def test_flat_kernels_have_a_finite_gradient() -> None:
    x = torch.ones(2, 3, requires_grad=True)
    weight = torch.zeros(3, requires_grad=True)
    values = slope_penalty((x * weight).sum(1, keepdim=True), x)
    values.sum().backward()
    assert values.tolist() == [1.0, 1.0] and weight.grad is not None and weight.grad.isfinite().all()


def test_centroids_follow_the_updated_network_in_eval_mode() -> None:
    net = classifier("vectors", dtype=torch.float64, noisy=True)
    step = TrainingStep(net, DUQ(**SETTINGS))
    head, given = net.head, batch("vectors", dtype=torch.float64)
    assert isinstance(head, Kernels)
    sums, counts = head.sums.clone(), head.counts.clone()
    total(step(given)).backward()
    torch.optim.SGD(step.parameters(), lr=0.1).step()
    assert torch.equal(head.sums, sums)
    step.after_update()
    net.eval()
    with torch.no_grad():
        z = head.embeddings(net.features(given["id"].rows))
    y = one_hot(given["id"].labels, 4).double().tolist()
    expected = reference.followed(sums.tolist(), counts.tolist(), z.tolist(), y, 0.9)
    torch.testing.assert_close(head.sums, torch.tensor(expected[0], dtype=torch.float64))
    torch.testing.assert_close(head.counts, torch.tensor(expected[1], dtype=torch.float64))


def test_counts_are_those_of_the_authors_program() -> None:
    """After one batch with 2, 1 and 1 rows: numbers that y0ast/deterministic-uncertainty-quantification gave."""
    head = Kernels(2, 3, 4, 0.1)
    head.follow(torch.ones(4, 2), one_hot(torch.tensor([0, 1, 2, 0]), 3), 0.999)
    assert head.counts.tolist() == pytest.approx([12.98900032, 12.98800087, 12.98800087])


def test_a_row_on_a_centroid_and_one_far_away_give_a_finite_loss() -> None:
    log_k = torch.tensor([[0.0, -1e4], [-1e4, 0.0]], requires_grad=True)
    for labels in (torch.tensor([0, 1]), torch.tensor([1, 0])):
        loss = binary_cross_entropy(log_k, labels)
        loss.backward()
        assert loss.isfinite() and log_k.grad is not None and log_k.grad.isfinite().all()


def test_void_rows_have_no_slope() -> None:
    step, _, part = trained()
    void = TrainingStep(step.classifier, DUQ(**SETTINGS), ignore_index=9)
    labels = part.labels.clone()
    labels[2:] = 9
    few, all_but = step((part.rows[:2], part.labels[:2])), void((part.rows, labels))
    for name, value in few.items():
        torch.testing.assert_close(all_but[name], value)
    before = step.classifier.head.counts.clone()
    void.after_update()
    assert (step.classifier.head.counts - 0.9 * before).sum().item() == pytest.approx(0.1 * 2)


def test_rows_are_doubled_without_a_change() -> None:
    part = trained()[2]
    once = trained()[0]((part.rows, part.labels))
    twice = trained()[0]((torch.cat([part.rows] * 2), torch.cat([part.labels] * 2)))
    for name, value in once.items():
        torch.testing.assert_close(twice[name], value)


def test_the_slope_is_in_what_other_methods_have_made_of_the_inputs() -> None:
    step = TrainingStep(classifier("vectors"), DUQ(**SETTINGS), Mixup(alpha=1.0))
    prepared = step.prepare(batch("vectors"))
    rows = prepared["id"].rows
    assert rows.requires_grad and rows.is_leaf and not torch.equal(rows, batch("vectors")["id"].rows)
    assert step.losses(prepared)["slope_penalty"].isfinite()


def test_the_given_inputs_stay_as_they_are() -> None:
    given = batch("vectors")
    TrainingStep(classifier("vectors"), DUQ())(given)
    assert not given["id"].rows.requires_grad


def test_without_a_penalty_nothing_is_differentiated_twice() -> None:
    step, _, part = trained(penalty=0.0)
    assert set(step((part.rows, part.labels))) == {"kernel_cross_entropy"}


def test_a_torch_that_cannot_compile_a_slope_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    step = TrainingStep(classifier("vectors"), DUQ())
    monkeypatch.setattr("torch._dynamo.config", object())
    with pytest.raises(ValueError, match=r"duq differentiates in its inputs, which torch .* cannot compile") as refusal:
        step.compile(backend="eager")
    assert is_one_sentence(str(refusal.value))
    monkeypatch.undo()
    step.compile(backend="eager")
    assert step(batch("vectors"))["slope_penalty"].isfinite()


def test_the_layer_stays_small_where_no_width_is_asked_for() -> None:
    for features, classes, width in ((512, 10, 32), (2048, 1000, 12), (2048, 20000, 1)):
        with torch.device("meta"):
            net = Classifier(nn.Flatten(), nn.Linear(features, classes))
            TrainingStep(net, DUQ())
        assert net.head.weight.shape == (classes, width, features)  # type: ignore[union-attr]  # a parameter


def test_kernels_are_those_of_float32_under_autocast() -> None:
    head = Kernels(16, 5, 8, 0.05)
    h = torch.randn(6, 16, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(head(h), head(h.float())) and head(h.bfloat16()).dtype == torch.float32
    torch.testing.assert_close(head(h), head.double()(h.double()).float(), rtol=1e-4, atol=1e-3)


def test_what_is_far_from_all_centroids_scores_highest() -> None:
    head = Kernels(2, 3, 2, 0.5)
    with torch.no_grad():
        head.weight.copy_(torch.eye(2).expand(3, 2, 2))
        head.sums.copy_(13 * torch.tensor([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.0]]))
    features = torch.tensor([[1.0, 0.0], [0.1, 0.9], [-1.0, -0.1], [4.0, -4.0]])
    found = evaluate(Classifier(nn.Identity(), head), [features], {}, ["max-logit"]).scores["id"]["max-logit"]
    assert found.argmax() == 3 and head(features).argmax(1).tolist()[:3] == [0, 1, 2]
    assert found[0] == pytest.approx(0, abs=1e-6) and found[3] == pytest.approx((9 + 16) / 2 / (2 * 0.25))
    assert math.isfinite(found[3])
