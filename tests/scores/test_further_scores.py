"""Scores that are asked for by name, against the papers' equations in float64, one row and one number at a time."""

import math
from copy import copy

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA
from torch import Tensor, nn

from oodles import Classifier, evaluate
from oodles.heads import ScaledLinear
from oodles.inference import collect
from oodles.methods import score_named
from oodles.scores import FURTHER_SCORES, SCORES, Cosine, Dice, Gen, KlMatching, Odin, React, Score, She, VirtualLogit

N, F, C = 60, 10, 4


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def classifier(factor: float = 1.0, bias: bool = True) -> Classifier:
    head = nn.Linear(F, C, bias=bias, dtype=torch.float64)
    with torch.no_grad():
        head.weight.copy_(normal(C, F, seed=1))
        if bias:
            head.bias.copy_(normal(C, seed=2))
    return Classifier(nn.ReLU(), head if factor == 1 else ScaledLinear(head, factor)).requires_grad_(False)


NET = classifier()
TRAIN, LABELS, QUERIES = normal(N, F, seed=3) + 0.5, torch.arange(N) % C, 2 * normal(12, F, seed=4)
WEIGHT, BIAS = NET.head.weight.numpy(), NET.head.bias.numpy()


def features_of(rows: Tensor) -> np.ndarray:
    return np.maximum(rows.numpy(), 0)


def logits_of(features: np.ndarray) -> np.ndarray:
    return features @ WEIGHT.T + BIAS


def logsumexp(row: np.ndarray) -> float:
    return float(row.max() + math.log(sum(math.exp(z - row.max()) for z in row)))


def softmax(row: np.ndarray) -> list[float]:
    return [math.exp(z - logsumexp(row)) for z in row]


def scored(score: Score, net: Classifier = NET) -> np.ndarray:
    """Score rows as an evaluation does."""
    return evaluate(net, [QUERIES], {}, [score], train_loader=[(TRAIN, LABELS)]).scores["id"][score.name]


def test_they_are_not_among_those_of_every_run() -> None:
    assert not set(FURTHER_SCORES) & set(SCORES)
    assert all(score_named(name).name == name == cls.name for name, cls in FURTHER_SCORES.items())


@pytest.mark.parametrize("gamma, top", [(0.1, 100), (0.1, 2), (0.7, 3)])
def test_gen(gamma: float, top: int) -> None:
    expected = []
    for row in logits_of(features_of(QUERIES)):
        largest = sorted(softmax(row), reverse=True)[:top]
        expected.append(sum(p**gamma * (1 - p) ** gamma for p in largest))
    np.testing.assert_allclose(scored(Gen(gamma, top)), expected, rtol=1e-7)


def test_gen_keeps_the_order_of_sure_rows_in_float32() -> None:
    logits = torch.zeros(60, 3)
    logits[:, 1] = torch.arange(20, 80)
    score = Gen()(logits, logits)
    assert (score.diff() < 0).all()
    others = 2 * math.exp(-50) / (1 + 2 * math.exp(-50))
    terms = [others**0.1, *[(others / 2) ** 0.1] * 2]
    assert score[30].item() == pytest.approx(sum(terms), rel=1e-5)
    masked = torch.tensor([[2.0, 1.0, -torch.inf]])
    torch.testing.assert_close(Gen()(masked, masked), Gen()(masked, masked[:, :2]))
    assert Gen()(logits[:2], torch.ones(2, 1)).tolist() == [0, 0]


@pytest.mark.parametrize("dim", [None, 3])
@pytest.mark.parametrize("factor, bias", [(1.0, True), (0.5, True), (1.0, False)])
def test_vim(dim: int | None, factor: float, bias: bool) -> None:
    net = classifier(factor, bias)
    weight, b = factor * WEIGHT, BIAS if bias else np.zeros(C)
    origin = -np.linalg.pinv(weight) @ b
    x, q = features_of(TRAIN) - origin, features_of(QUERIES) - origin
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    rest = axes[:, np.argsort(variances)[: F - (dim or F // 2)]]
    train, logits = (f @ weight.T + b for f in (features_of(TRAIN), features_of(QUERIES)))
    alpha = train.max(1).mean() / np.linalg.norm(x @ rest, axis=1).mean()
    expected = [alpha * np.linalg.norm(row @ rest) - logsumexp(z) for row, z in zip(q, logits, strict=True)]
    np.testing.assert_allclose(scored(VirtualLogit(dim), net), expected, rtol=1e-9)


def test_vim_leaves_out_principal_components() -> None:
    """Around the mean of the rows it would be scikit-learn's principal components."""
    net = Classifier(nn.Identity(), nn.Linear(F, C, bias=False, dtype=torch.float64)).requires_grad_(False)
    rows = TRAIN - TRAIN.mean(0)
    fitted = VirtualLogit(4).fit_of(net, rows, net.head(rows), None)
    pca = PCA(4).fit(rows.numpy())
    rest = QUERIES.numpy() - (QUERIES.numpy() @ pca.components_.T) @ pca.components_
    alone = fitted(QUERIES, torch.zeros(12, 1, dtype=torch.float64))
    np.testing.assert_allclose(alone, fitted.alpha * np.linalg.norm(rest, axis=1), rtol=1e-9)


def test_vim_of_few_rows() -> None:
    few, labels = TRAIN[:6], LABELS[:6]
    rows = collect(NET, [(few, labels)])
    assert VirtualLogit().fit_of(NET, *rows).principal.shape == (F, 3)
    with pytest.raises(ValueError, match="the number of directions in which training rows vary, 6, got 6"):
        VirtualLogit(6).fit_of(NET, *rows)


@pytest.mark.parametrize("percentile", [0.9, 0.5, 0.0])
def test_react(percentile: float) -> None:
    cut = np.quantile(features_of(TRAIN).ravel(), percentile)
    expected = [-logsumexp(row) for row in logits_of(np.minimum(features_of(QUERIES), cut))]
    np.testing.assert_allclose(scored(React(percentile)), expected, rtol=1e-12)


@pytest.mark.parametrize("percentile", [0.9, 0.7, 0.0])
@pytest.mark.parametrize("factor", [1.0, 0.5])
def test_dice(percentile: float, factor: float) -> None:
    weight, mean = factor * WEIGHT, features_of(TRAIN).mean(0)
    contribution = np.array([[w * m for w, m in zip(row, mean, strict=True)] for row in weight])
    kept = contribution > np.quantile(contribution, percentile)
    expected = [-logsumexp(row @ (weight * kept).T + BIAS) for row in features_of(QUERIES)]
    np.testing.assert_allclose(scored(Dice(percentile), classifier(factor)), expected, rtol=1e-12)


def test_she() -> None:
    logits, queries = normal(N, C, seed=5), normal(12, C, seed=6)
    patterns = []
    for k in range(C):
        right = [x for x, z, y in zip(TRAIN.numpy(), logits, LABELS.tolist(), strict=True) if z.argmax() == y == k]
        assert 0 < len(right) < N // C
        patterns.append(np.mean(right, axis=0))
    expected = [-float(x @ patterns[int(z.argmax())]) for x, z in zip(QUERIES.numpy(), queries, strict=True)]
    np.testing.assert_allclose(She().fit(TRAIN, logits, LABELS)(QUERIES, queries), expected, rtol=1e-12)


def test_she_of_classes_that_are_never_right_or_never_there() -> None:
    rows, labels = torch.eye(4, 3).double(), torch.tensor([0, 0, 1, 1])
    logits = torch.tensor([[9.0, 0, 0], [9, 0, 0], [9, 0, 0], [9, 0, 0]]).double()  # class 1 is never predicted
    patterns = She().fit(rows, logits, labels).patterns
    torch.testing.assert_close(patterns, torch.stack([rows[:2].mean(0), rows[2:].mean(0), rows.mean(0)]))


def test_kl_matching() -> None:
    p = np.array([softmax(row) for row in logits_of(features_of(TRAIN))])
    predicted = p.argmax(1)
    typical = [p[predicted == k].mean(0) for k in sorted(set(predicted.tolist()))]
    expected = []
    for row in logits_of(features_of(QUERIES)):
        q = softmax(row)
        expected.append(min(sum(a * math.log(a / b) for a, b in zip(q, d, strict=True)) for d in typical))
    np.testing.assert_allclose(scored(KlMatching()), expected, rtol=1e-6, atol=1e-12)


def test_kl_matching_of_pixels_and_of_a_class_that_is_never_predicted() -> None:
    z = normal(6, C, 2, 3)
    z[:, 1] -= 50
    pixels = z.movedim(1, -1).reshape(-1, C)
    dense, flat = KlMatching().fit(z, z, None), KlMatching().fit(pixels, pixels, None)
    assert flat.typical.shape == (C - 1, C) and dense(z, z).shape == (6, 2, 3)
    torch.testing.assert_close(dense(z, z).flatten(), flat(pixels, pixels))
    assert flat(pixels, 100 * pixels).isfinite().all()


@pytest.mark.parametrize("temperature, epsilon", [(1000.0, 0.0014), (2.0, 0.05), (1.0, 0.0)])
def test_odin(temperature: float, epsilon: float) -> None:
    def highest(row: np.ndarray) -> float:
        return max(softmax(logits_of(np.maximum(row, 0)) / temperature))

    expected = []
    for row in QUERIES.numpy():
        step = np.zeros(F)
        for i in range(F):
            up, down = row.copy(), row.copy()
            up[i], down[i] = up[i] + 1e-6, down[i] - 1e-6
            slope = highest(up) - highest(down)
            step[i] = 0 if abs(slope) < 1e-13 else math.copysign(1, slope)  # a row has no slope where ReLU is off
        expected.append(1 - highest(row + epsilon * step))
    np.testing.assert_allclose(scored(Odin(temperature, epsilon)), expected, rtol=1e-9)


def test_odin_leaves_modes_inputs_and_gradients_alone() -> None:
    net, x = classifier().train(), QUERIES.clone()
    for parameter in net.parameters():
        parameter.requires_grad_()
    evaluate(net, [x], {}, ["odin"])
    assert net.training and torch.equal(x, QUERIES) and all(p.grad is None for p in net.parameters())
    with pytest.raises(TypeError, match=r"odin needs one floating-point tensor of inputs, got torch.int64: use energy"):
        Odin().of(net, torch.ones(2, F, dtype=torch.int64), QUERIES, QUERIES)
    with pytest.raises(ValueError, match=r"odin changes the inputs: call of\(classifier"):
        Odin()(QUERIES, QUERIES)


class Directions(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.normalize(features)[:, :C]


@pytest.mark.parametrize("name", ["vim", "react", "dice"])
def test_other_heads_are_refused(name: str) -> None:
    net = Classifier(nn.Identity(), Directions(), num_classes=C, num_features=F)
    with pytest.raises(
        ValueError, match=rf"{name} needs a last layer that gives W·h \+ b, as torch.nn.Linear does, got Directions"
    ):
        evaluate(net, [QUERIES], {}, [name], train_loader=[(TRAIN, LABELS)])
    with pytest.raises(ValueError, match=f"{name} needs features and Linear gives logits alone"):
        evaluate(nn.Linear(F, C).double(), [QUERIES], {}, [name], train_loader=[(TRAIN, LABELS)])


@pytest.mark.parametrize("name", ["vim", "dice"])
def test_features_and_logits_are_not_enough_to_fit(name: str) -> None:
    with pytest.raises(ValueError, match=rf"{name} reads the classifier's head: call fit_of\(classifier"):
        score_named(name).fit(TRAIN, TRAIN, LABELS)


def test_logits_are_enough_for_some() -> None:
    found = evaluate(nn.Linear(F, C).double(), [QUERIES], {"far": [9 * QUERIES]}, ["gen", "kl-matching", "odin"],
                     train_loader=[(TRAIN, LABELS)])  # fmt: skip
    assert set(found.metrics["far"]) == {"gen", "kl-matching", "odin"}


def test_wrong_settings_are_refused() -> None:
    for name, sentence in {
        "vim(dim=0)": "dim must be a whole number of at least 1, got 0",
        "gen(gamma=0)": "gamma must be a finite number > 0",
        "gen(top=0)": "top must be a whole number",
        "react(percentile=1)": "percentile must be below 1",
        "dice(percentile=-0.1)": "percentile must be a finite number >= 0",
        "odin(temperature=0)": "temperature must be a finite number > 0",
        "odin(epsilon=-1)": "epsilon must be a finite number >= 0",
        "relative-mahalanobis(shrinkage=1)": "shrinkage must be below 1",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            score_named(name)


def test_cosine() -> None:
    features, queries = features_of(TRAIN), features_of(QUERIES)
    means = [np.mean([row / np.linalg.norm(row) for row in features[k::C]], axis=0) for k in range(C)]
    expected = [
        1 - max(float(row @ mean) / np.linalg.norm(row) / np.linalg.norm(mean) for mean in means) for row in queries
    ]
    np.testing.assert_allclose(scored(Cosine()), expected, rtol=1e-10)


def test_cosine_of_what_has_no_direction() -> None:
    rows = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 2.0], [0.0, 5.0]])
    score = Cosine().fit(rows, rows, torch.tensor([4, 4, 7, 7]))
    assert score.directions.tolist() == [[0, 0], [0, 1]]
    queries = torch.tensor([[0.0, 3.0], [0.0, -3.0], [0.0, 0.0], [1.0, 0.0]])
    assert score(queries, queries).tolist() == [0, 1, 1, 1]
    with pytest.raises(ValueError, match="cosine needs the class ids"):
        Cosine().fit(rows, rows, None)


class Doubled(nn.Module):
    """A head of its own mind in training mode, that gives numbers in another precision."""

    def forward(self, features: Tensor) -> Tensor:
        return (torch.zeros_like(features) if self.training else 2 * features[:, :3].square()).bfloat16()


@pytest.mark.parametrize("name", ["knn(k=3, {})", "mahalanobis({})", "relative-mahalanobis({})", "cosine({})"])
def test_the_outputs_of_a_further_head_are_compared(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("oodles.scores.score.ROWS", 7)
    net = classifier()
    net.heads["further"] = Doubled()
    given = score_named(name.format("head=further"))
    assert given.name == name.format("head=further") and given.needs_heads == ("further",)
    evaluation = evaluate(net.train(), [QUERIES], {}, [given], train_loader=[(TRAIN, LABELS)])
    plain = score_named(name.format("").replace(", )", ")"))
    outputs, of_queries = ((2 * torch.relu(x)[:, :3].square()).bfloat16().float() for x in (TRAIN, QUERIES))
    expected = plain.fit(outputs, outputs, LABELS)(of_queries, of_queries)
    np.testing.assert_array_equal(evaluation.scores["id"][given.name], expected)
    assert not given.fitted and net.training and net.heads["further"].training
    lone = copy(given).fit_of(net, *collect(net, [(TRAIN, LABELS)]))
    again = score_named(given.name).load_state(lone.state())
    features, logits = collect(net, [QUERIES])[:2]
    with torch.no_grad():
        np.testing.assert_array_equal(again.of(net.eval(), QUERIES, features, logits), expected)


def test_a_head_that_is_not_there_is_refused() -> None:
    with pytest.raises(ValueError, match=r"knn\(head=further\) looks at a head 'further' that") as no:
        evaluate(NET, [QUERIES], {}, ["knn(head=further)"], train_loader=[(TRAIN, LABELS)])
    assert str(no.value).endswith("train it with a method that adds this head.")
    with pytest.raises(ValueError, match="needs features and Linear gives logits alone"):
        evaluate(nn.Linear(F, C).double(), [QUERIES], {}, ["cosine(head=further)"], train_loader=[(TRAIN, LABELS)])
    with pytest.raises(ValueError, match="this classifier lacks"):
        score_named("knn(head=further)").fit_of(NET, TRAIN, TRAIN, LABELS)
    with pytest.raises(TypeError, match="head must be the name of a further head of the classifier, got 3"):
        Cosine(head=3)  # type: ignore[arg-type]
