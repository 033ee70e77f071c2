"""SAL: the gradient in closed form, the filter against singular values, what it finds, and an empty choice."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from oodles import SAL, Classifier, Data, Method, TrainingStep, evaluate
from oodles.methods.sal import leading_directions, own_gradients

from ..contract.networks import CLASSES, batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import sal as reference


def drawn(rows: int, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Features, logits and class ids in float64."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(rows, 5, generator=generator, dtype=torch.float64)
    z = 2 * torch.randn(rows, 3, generator=generator, dtype=torch.float64)
    return h, z, torch.randint(3, (rows,), generator=generator)


def made(**settings: float) -> SAL:
    method = SAL(**settings)
    method.change_classifier(Classifier(nn.Identity(), nn.Linear(5, 3)))
    return method


def rows_of(seeds: int, kind: str = "vectors") -> Data:
    parts = [batch(kind, seed=seed)["id"] for seed in range(seeds)]
    wild = [batch(kind, seed=seed)["wild"].rows for seed in range(seeds)]
    return Data(train=[(part.rows, part.labels) for part in parts], wild=wild)


def test_the_gradient_of_a_row_is_that_of_its_own_class_in_closed_form() -> None:
    h, _, y = drawn(6)
    head = nn.Linear(5, 3).double()
    found = own_gradients(h, head(h), y)
    for row, label in enumerate(y.tolist()):
        (slope,) = torch.autograd.grad(cross_entropy(head(h[row : row + 1]), y[row : row + 1]), head.weight)
        torch.testing.assert_close(found[row], slope[label], rtol=1e-10, atol=1e-12)


def test_sure_rows_have_a_small_gradient_and_none_is_lost() -> None:
    z = torch.tensor([[40.0, 0.0, 0.0]], dtype=torch.float64)
    found = own_gradients(torch.ones(1, 5, dtype=torch.float64), z, torch.tensor([0]))
    assert found[0, 0].item() == pytest.approx(-2 * float(np.exp(-40.0)), rel=1e-6)


@pytest.mark.parametrize("scale", [1.0, 1e-9, 1e9])
def test_directions_are_singular_vectors(scale: float) -> None:
    generator = torch.Generator().manual_seed(3)
    y = torch.arange(120) % 4
    y[y == 2] = 3
    rows = torch.randn(120, 6, generator=generator, dtype=torch.float64) * torch.tensor([1, 2, 3, 4, 5, 9])
    rows = rows * torch.tensor([1.0, 1e-6, 1.0, 1e3])[y][:, None] * scale
    found = leading_directions(rows, y, 4)
    assert not found[2].any(), "a class without rows"
    for label in (0, 1, 3):
        expected = np.linalg.svd(rows[y == label].numpy())[2][0]
        assert abs(float(found[label].numpy() @ expected)) == pytest.approx(1, abs=1e-9)
    assert leading_directions(rows[:0], y[:0], 4).abs().sum() == 0


@pytest.mark.parametrize("quantile", [0.95, 0.5, 0.0])
def test_the_filter_against_the_reference(quantile: float) -> None:
    h, z, y = drawn(60)
    method = made(quantile=quantile)
    wild, logits, _ = drawn(25, seed=1)
    method.fit(h, z, y, wild, logits)
    means, directions, threshold = reference.fitted(
        h.numpy(), z.numpy(), y.numpy(), wild.numpy(), logits.numpy(), quantile
    )
    torch.testing.assert_close(method.means, torch.from_numpy(means))
    signs = (method.directions * torch.from_numpy(directions)).sum(1)
    torch.testing.assert_close(signs.abs(), torch.ones(3, dtype=torch.float64), rtol=1e-8, atol=0)
    assert method.threshold.item() == pytest.approx(threshold, rel=1e-5)
    expected = [
        reference.score(one, two, int(two.argmax()), means, directions) > threshold
        for one, two in zip(wild.numpy(), logits.numpy(), strict=True)
    ]
    assert method.choose(wild, logits).tolist() == expected
    assert any(expected)


def test_a_filter_that_is_not_fitted_lets_all_through() -> None:
    wild, logits, _ = drawn(25)
    assert made().choose(wild, logits).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_loss(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(5)
    known, wild = (2 * torch.randn(n, 1, generator=generator, dtype=torch.float64) for n in (4, 9))
    chosen = torch.arange(9) % 3 == 1
    found = SAL(weight=3.0)(known.to(dtype), wild.to(dtype), chosen)
    expected = 3 * reference.loss(known[:, 0].numpy(), wild[:, 0].numpy(), chosen.numpy())
    assert found.item() == pytest.approx(expected, rel=1e-12 if dtype == torch.float64 else 1e-6)
    equal = torch.cat([-known, wild[:4]])  # as many of both: the authors' mean over all
    alike = SAL(weight=3.0)(known, wild[:4], torch.ones(4, dtype=torch.bool))
    torch.testing.assert_close(alike, 3 * nn.functional.softplus(equal).mean())


def test_without_unknown_rows_the_term_is_zero_and_has_no_gradient() -> None:
    step = TrainingStep(classifier("vectors"), SAL())
    method = step.methods[0]
    assert isinstance(method, SAL)
    method.threshold.fill_(1e9)
    terms = step(batch("vectors"))
    assert terms["sal"].item() == 0 and step.measures["wild_chosen"].item() == 0
    slopes = torch.autograd.grad(terms["sal"], list(step.parameters()), allow_unused=True)
    assert not any(slope is not None and slope.any() for slope in slopes)


def test_it_filters_by_the_classifier_as_it_is_in_testing() -> None:
    step = TrainingStep(classifier("images", noisy=True).train(), SAL(quantile=0.6))
    step.start_epoch(0, 2, rows_of(4, "images"))
    before = copy.deepcopy(step.classifier.state_dict())
    given = batch("images")
    chosen = step.prepare(given).draws["sal_chosen"]
    method = step.methods[0]
    assert isinstance(method, SAL)
    step.classifier.eval()
    with torch.no_grad():
        features = step.classifier.features(given["wild"].rows)
        expected = method.choose(features, step.classifier.head(features))
    assert torch.equal(chosen, expected) and 0 < expected.sum() < len(expected)
    assert all(torch.equal(value, before[name]) for name, value in step.classifier.state_dict().items())


def test_each_epoch_fits_anew_to_rows_that_have_a_label() -> None:
    step = TrainingStep(classifier("vectors"), SAL())
    method = step.methods[0]
    assert isinstance(method, SAL)
    data = rows_of(3)
    step.start_epoch(0, 2, data)
    first = method.threshold.item()
    soft = [(rows, nn.functional.one_hot(labels, CLASSES).float()) for rows, labels in data.train or ()]
    void = [(torch.rand(5, 6), torch.full((5,), 255))]
    step.start_epoch(0, 2, Data(train=[*soft], wild=data.wild))
    assert method.threshold.item() == pytest.approx(first, rel=1e-9)
    step.start_epoch(0, 2, Data(train=[*(data.train or ()), *void], wild=data.wild))
    assert method.threshold.item() == pytest.approx(first, rel=1e-9)
    with torch.no_grad():
        step.classifier.head.weight.mul_(2)
    step.start_epoch(1, 2, data)
    assert method.threshold.item() != pytest.approx(first, rel=1e-3)


def test_unknown_rows_are_found_where_wild_rows_vary_and_known_ones_hardly_do() -> None:
    generator = torch.Generator().manual_seed(0)

    def drawn_around(first: float, second: float, spread: tuple[float, float], count: int) -> Tensor:
        return torch.tensor([first, second]) + torch.tensor(spread) * torch.randn(count, 2, generator=generator)

    head = nn.Linear(2, 2)
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([0.1, 0.0]))
    net, method = Classifier(nn.Identity(), head), SAL()
    known, unknown = drawn_around(1, 0, (1, 0.1), 460), drawn_around(1, 3, (0, 0.1), 40)
    wild, train = torch.cat([known[400:], unknown]), (known[:400], torch.zeros(400, dtype=torch.long))
    TrainingStep(net, method).start_epoch(0, 1, Data(train=[train], wild=[wild]))
    chosen = method.choose(wild, net(wild))
    assert chosen[60:].all() and chosen[:60].float().mean() < 0.2


def test_training_rows_have_to_be_there() -> None:
    step = TrainingStep(classifier("vectors"), SAL())
    with pytest.raises(ValueError, match="before an epoch, got none of the former") as told:
        step.start_epoch(0, 3)
    assert is_one_sentence(str(told.value))
    with pytest.raises(ValueError, match="train must give rows with their labels, got rows alone"):
        step.start_epoch(0, 3, Data(train=[torch.rand(3, 6)], wild=[torch.rand(3, 6)]))


def test_it_finds_a_kind_between_the_classes_and_tells_it_by_its_head() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.tensor([[3.0, 0.0], [-3.0, 0.0], [0.0, 5.0]])

    def rows(kinds: Tensor) -> Tensor:
        return centres[kinds] + 0.7 * torch.randn(len(kinds), 2, generator=generator)

    y = torch.arange(240) % 2
    x, wild = rows(y), rows(torch.cat([y, torch.full((60,), 2)]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = Classifier(nn.Sequential(nn.Linear(2, 16), nn.Tanh()), nn.Linear(16, 2))

    def train(epochs: int, *methods: Method) -> TrainingStep:
        step = TrainingStep(net, *methods)
        optimizer = torch.optim.SGD(step.parameters(), lr=0.05, momentum=0.9)
        for epoch in range(epochs):
            step.start_epoch(epoch, epochs, Data(train=[(x, y)], wild=[wild]))
            for _ in range(10):
                optimizer.zero_grad()
                total(step((x, y), wild=wild)).backward()
                optimizer.step()
        return step

    train(3)
    step = TrainingStep(net, SAL())
    step.start_epoch(0, 1, Data(train=[(x, y)], wild=[wild]))
    chosen = step.prepare((x, y), wild=wild).draws["sal_chosen"]
    assert chosen[240:].float().mean() > 0.9 and chosen[:240].float().mean() < 0.15
    train(8, SAL())
    unknown = {"between": [rows(torch.full((200,), 2))]}
    found = evaluate(net, [(rows(y), y)], unknown, ["sal", "msp"])
    assert found.metrics["between"]["sal"]["auroc"] > 0.98 and found.accuracy > 0.97
