"""VOS: what the draws are distributed as, the averages that decay, the late start, and the sign that is kept."""

import itertools

import numpy as np
import pytest
import torch
from scipy.stats import chi2, kstest
from torch import Tensor, nn
from torch.nn.functional import one_hot, softplus

from oodles import NPOS, VOS, Classifier, Method, T2FNorm, TrainingStep
from oodles.methods.vos import classes_in_turn, extreme_radii, root_of

from ..contract.networks import batch, classifier
from ..contract.steps import is_one_sentence, total
from ..references import vos as reference


def made(features: int = 5, classes: int = 3, **settings: int) -> VOS:
    """A method whose averages are of these sizes, in float64."""
    method = VOS(**settings)  # type: ignore[arg-type]  # counts
    method.change_classifier(Classifier(nn.Flatten(), nn.Linear(features, classes)).double())
    return method


def rows(count: int, seed: int = 0, classes: int = 3) -> tuple[Tensor, Tensor, Tensor]:
    """Features of classes far from zero and from each other, their targets one-hot, and soft ones."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.arange(count) % classes
    features = 100 + 10 * ids[:, None] + torch.randn(count, 5, generator=generator, dtype=torch.float64)
    soft = torch.rand(count, classes, generator=generator, dtype=torch.float64).softmax(1)
    return features, one_hot(ids, classes).double(), soft


def take(method: VOS, features: Tensor, targets: Tensor) -> None:
    for name, value in method.moments_with(features, targets).items():
        getattr(method, name).copy_(value)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_papers_equation(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(1)
    known, virtual = (torch.randn(n, 4, generator=generator, dtype=torch.float64) for n in (5, 8))
    found = VOS(weight=0.3)(known.to(dtype), virtual.to(dtype), torch.tensor(0.7), torch.tensor(-0.4))
    expected = 0.3 * reference.loss(
        known.tolist(), virtual.tolist(), float(torch.tensor(0.7)), float(torch.tensor(-0.4))
    )
    assert found.item() == pytest.approx(expected, rel=1e-10 if dtype == torch.float64 else 1e-5)
    assert found.dtype == dtype


@pytest.mark.parametrize("mixed", [False, True])
def test_up_to_the_memory_averages_are_those_of_all_rows(mixed: bool) -> None:
    features, hard, soft = rows(30)
    targets = soft if mixed else hard
    method = made(memory=1000)
    for start, end in ((0, 4), (4, 4), (4, 13), (13, 30)):
        take(method, features[start:end], targets[start:end])
    means, covariance = reference.moments(features.tolist(), targets.tolist())
    torch.testing.assert_close(method.means, torch.tensor(means, dtype=torch.float64))
    torch.testing.assert_close(method.covariance, torch.tensor(covariance, dtype=torch.float64))
    torch.testing.assert_close(method.counts, targets.sum(0))


def test_beyond_the_memory_earlier_rows_decay() -> None:
    method = made(memory=4)
    for seed in range(5):
        take(method, *rows(12, seed=seed)[:2])
    assert method.counts.tolist() == [4, 4, 4]
    before, spread = method.means.clone(), method.covariance.clone()
    features, targets, _ = rows(6, seed=9)
    take(method, features, targets)
    new = torch.stack([features[c::3].mean(0) for c in range(3)])
    torch.testing.assert_close(method.means, (4 * before + 2 * new) / 6)
    within = sum((features[i] - new[i % 3]).outer(features[i] - new[i % 3]) for i in range(6))
    between = sum(4 * 2 / 6 * d.outer(d) for d in new - before)
    torch.testing.assert_close(method.covariance, (12 * spread + within + between) / 18)


def test_a_class_without_rows_stays_as_it_was() -> None:
    method = made()
    take(method, *rows(12)[:2])
    before = method.means.clone()
    features, targets, _ = rows(6, seed=2)
    take(method, features[::3], targets[::3])
    assert torch.equal(method.means[1:], before[1:]) and not torch.equal(method.means[0], before[0])


def test_float32_keeps_a_small_spread_far_from_zero() -> None:
    method = VOS()
    method.change_classifier(Classifier(nn.Flatten(), nn.Linear(5, 3)))
    features, targets, _ = rows(30)
    take(method, features.float(), targets.float())
    _, covariance = reference.moments(features.tolist(), targets.tolist())
    torch.testing.assert_close(method.covariance, torch.tensor(covariance), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("candidates, size", [(1, 3), (200, 8), (10_000, 128)])
def test_radii_are_those_of_the_least_likely_of_n_draws(candidates: int, size: int) -> None:
    """Kolmogorov–Smirnov against the distribution of the largest of n, and against maxima of actual draws."""
    generator = torch.Generator().manual_seed(4)
    radii = extreme_radii(20_000, candidates, size, generator).numpy()
    assert kstest(radii, lambda r: chi2.cdf(r**2, size) ** candidates).pvalue > 0.01
    rng = np.random.default_rng(0)
    largest = [np.sqrt(rng.chisquare(size, (100, candidates)).max(1)) for _ in range(10)]
    assert kstest(radii, np.concatenate(largest)).pvalue > 0.01


def test_draws_lie_around_their_class_as_the_covariance_says() -> None:
    method = made(candidates=50)
    features, targets, _ = rows(300)
    mixing = torch.randn(5, 5, generator=torch.Generator().manual_seed(6), dtype=torch.float64)
    take(method, features @ mixing, targets)
    method.root.copy_(root_of(method.covariance))
    classes = torch.arange(6000) % 3
    drawn = method.drawn(classes, torch.Generator().manual_seed(7))
    ridge = 1e-4 + 1e-5 * method.covariance.diagonal().mean()
    root = torch.linalg.cholesky(method.covariance + ridge * torch.eye(5))
    white = torch.linalg.solve_triangular(root, (drawn - method.means[classes]).T, upper=False).T
    radii = white.norm(dim=1)
    assert kstest(radii.numpy(), lambda r: chi2.cdf(r**2, 5) ** 50).pvalue > 0.01
    directions = white / radii[:, None]
    torch.testing.assert_close(directions.mean(0), torch.zeros(5).double(), rtol=0, atol=0.03)
    torch.testing.assert_close(directions.T @ directions / 6000, torch.eye(5).double() / 5, rtol=0, atol=0.02)


def test_a_covariance_of_few_rows_has_a_root() -> None:
    method = VOS()
    method.change_classifier(Classifier(nn.Flatten(), nn.Linear(64, 3)))
    features = 1e3 * torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    take(method, features, one_hot(torch.arange(4) % 3, 3).float())
    method.root.copy_(root_of(method.covariance))
    drawn = method.drawn(torch.arange(3), torch.Generator().manual_seed(0))
    ridge = 1e-4 + 1e-5 * method.covariance.diagonal().mean()
    root = torch.linalg.cholesky((method.covariance + ridge * torch.eye(64)).double())
    white = torch.linalg.solve_triangular(root, (drawn - method.means).double().T, upper=False)
    expected = extreme_radii(3, 10_000, 64, torch.Generator().manual_seed(0))
    torch.testing.assert_close(white.norm(dim=0), expected, rtol=0.05, atol=0)


def test_the_covariance_has_a_new_root_every_ten_steps() -> None:
    method = VOS()
    step = TrainingStep(classifier("vectors"), method)
    roots = []
    for number in range(21):
        step(batch("vectors", seed=number))
        step.after_update()
        if number % 10 == 0:
            torch.testing.assert_close(method.root, root_of(method.covariance), rtol=0, atol=0)
        roots.append(method.root.clone())
    assert [torch.equal(a, b) for a, b in itertools.pairwise(roots)] == ([True] * 9 + [False]) * 2


def test_classes_take_turns_and_those_never_seen_are_left_out() -> None:
    every = torch.ones(4, dtype=torch.bool)
    assert classes_in_turn(every, 6, 0).tolist() == [0, 1, 2, 3, 0, 1]
    assert classes_in_turn(every, 6, 6).tolist() == [2, 3, 0, 1, 2, 3]
    assert classes_in_turn(torch.tensor([True, False, True, True]), 5, 1).tolist() == [2, 3, 0, 2, 3]
    assert classes_in_turn(~every, 3, 2).tolist() == [2, 2, 2], "none was seen yet"
    assert classes_in_turn(every, 0, 2).tolist() == []


def trained(*methods: Method, epochs: int) -> dict[str, Tensor]:
    """Weights after two steps in each of the first ``epochs`` of five epochs."""
    step = TrainingStep(classifier("images", noisy=True).train(), *methods, seed=3)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        for epoch in range(epochs):
            step.start_epoch(epoch, 5)
            for seed in (0, 1):
                optimizer.zero_grad()
                total(step(batch("images", seed=2 * epoch + seed))).backward()
                optimizer.step()
    return {name: value for name, value in step.classifier.state_dict().items() if "heads" not in name}


@pytest.mark.parametrize("method", [VOS(weight=0.8), NPOS(weight=0.8)], ids=["vos", "npos"])
def test_before_the_start_it_is_plain_training_bit_for_bit(method: Method) -> None:
    plain, early = trained(epochs=2), trained(method, epochs=2)
    assert all(torch.equal(early[name], value) for name, value in plain.items())
    plain, late = trained(epochs=3), trained(method, epochs=3)
    assert not any(torch.equal(late[name], value) for name, value in plain.items() if "weight" in name)


@pytest.mark.parametrize("method", [VOS(), NPOS()], ids=["vos", "npos"])
def test_the_start_compiles_nothing_anew(method: Method) -> None:
    torch._dynamo.reset()
    step = TrainingStep(classifier("images"), method)
    step.compile(backend="aot_eager")
    terms = []
    for epoch in range(5):
        step.start_epoch(epoch, 5)
        with torch._dynamo.config.patch(error_on_recompile=epoch > 0):
            terms.append(step(batch("images", seed=epoch))[method.name].item())
    assert [term > 0 for term in terms] == [False, False, True, True, True]


def test_one_epoch_is_enough_to_start() -> None:
    step = TrainingStep(classifier("images"), VOS(start=0.9))
    step.start_epoch(0, 1)
    assert step(batch("images"))["vos"].item() > 0


@pytest.mark.parametrize("raw", [-30.0, -1.0, 2.0])
def test_a_known_row_never_has_the_higher_energy_of_the_two(raw: float) -> None:
    """Whatever is learned, the term falls with the energy of known rows and rises with that of virtual ones."""
    known, virtual = torch.zeros(3, 4, requires_grad=True), torch.zeros(3, 4, requires_grad=True)
    VOS()(known, virtual, softplus(torch.tensor(raw)), torch.tensor(0.3)).backward()
    assert (known.grad < 0).all() and (virtual.grad > 0).all()


def test_the_slope_and_the_bias_are_learned() -> None:
    method, net = VOS(), classifier("vectors", dtype=torch.float64)
    step = TrainingStep(net, method)
    assert softplus(method.slope).item() == pytest.approx(1.0)
    with torch.no_grad():
        method.slope.fill_(-2.0)
    prepared = step.prepare(batch("vectors", dtype=torch.float64))
    terms = step.losses(prepared)
    logits = net(prepared["id"].rows), net.head(prepared["virtual"].first)
    expected = method(*logits, softplus(torch.tensor(-2.0)), torch.tensor(0.0))
    assert terms["vos"].item() == pytest.approx(expected.item(), rel=1e-6)
    total(terms).backward()
    assert all(parameter.grad for parameter in method.parameters())


def test_as_many_virtual_rows_as_the_batch_has_of_classes_in_turn() -> None:
    method = VOS()
    step = TrainingStep(classifier("vectors"), method)
    step(batch("vectors"))
    step.after_update()
    method.means.copy_(100 * torch.arange(4.0)[:, None].expand(-1, 7))
    method.root.zero_()
    method.counts.fill_(1)
    made = step.prepare(batch("vectors"))["virtual"].first
    assert made.shape == (6, 7)
    torch.testing.assert_close(made, method.means[[2, 3, 0, 1, 2, 3]], rtol=0, atol=0.2)


@pytest.mark.parametrize(
    "other, words",
    [
        (T2FNorm(), "both replace 'lengths of features'"),
        (NPOS(), "both add the part 'virtual'"),
    ],
)
def test_what_it_is_refused_with(other: Method, words: str) -> None:
    with pytest.raises(ValueError, match=f"{words}: use one of them") as refusal:
        TrainingStep(classifier("vectors"), VOS(), other)
    assert "vos" in str(refusal.value) and is_one_sentence(str(refusal.value))


def test_a_thousand_classes_take_little_to_save() -> None:
    method = VOS()
    TrainingStep(Classifier(nn.Flatten(), nn.Linear(2048, 1000)), method)
    assert sum(value.nbytes for value in method.state_dict().values()) < 42e6
