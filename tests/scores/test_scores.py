"""Outlier scores against their formulas in exact or float64 arithmetic, and against scikit-learn."""

from copy import copy
from decimal import Decimal, getcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.covariance import EmpiricalCovariance
from sklearn.neighbors import NearestNeighbors
from torch import Tensor, nn

from oodles import Classifier
from oodles.methods import METHOD_SCORES, score_named
from oodles.methods.cac import AnchorDistance
from oodles.methods.confidence_branch import ConfidencePerturbed
from oodles.scores import (
    FURTHER_SCORES,
    SCORES,
    Energy,
    Mahalanobis,
    NearestNeighbours,
    RelativeMahalanobis,
    Score,
    energy,
    entropy,
    max_logit,
    msp,
    settings_of,
)

getcontext().prec = 400  # 1 − p of logits 600 apart needs 261 digits

EVERY = [*SCORES, *FURTHER_SCORES, *METHOD_SCORES]
OF_LOGITS = {"msp": msp, "max-logit": max_logit, "energy": energy, "entropy": entropy}
rows_of_logits = st.integers(2, 6).flatmap(
    lambda classes: st.lists(st.lists(st.floats(-300, 300), min_size=classes, max_size=classes), min_size=1, max_size=3)
)


def exact(name: str, row: list[float], temperature: float = 1.0) -> float:
    """The formula as the paper prints it, in 400 digits."""
    logits = [Decimal(z) / Decimal(temperature) for z in row]
    total = sum(z.exp() for z in logits)
    probabilities = [z.exp() / total for z in logits]
    if name == "msp":
        return float(1 - max(probabilities))
    if name == "max-logit":
        return float(-max(logits))
    if name == "energy":
        return float(-Decimal(temperature) * total.ln())
    return float(-sum(p * p.ln() for p in probabilities))


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", OF_LOGITS)
@given(rows=rows_of_logits)
def test_the_formula(name: str, rows: list[list[float]]) -> None:
    scores = OF_LOGITS[name](torch.tensor(rows, dtype=torch.float64))
    smallest = 1e-14 if name == "energy" else 1e-300  # an energy near zero is a difference, the others are not
    assert scores.tolist() == pytest.approx([exact(name, row) for row in rows], rel=1e-12, abs=smallest)


@given(rows=rows_of_logits, temperature=st.floats(0.1, 100))
def test_energy_with_a_temperature(rows: list[list[float]], temperature: float) -> None:
    expected = [exact("energy", row, temperature) for row in rows]
    scores = energy(torch.tensor(rows, dtype=torch.float64), temperature)
    assert scores.tolist() == pytest.approx(expected, rel=1e-11, abs=1e-11)


def test_score_objects_are_the_functions() -> None:
    logits = normal(4, 3)
    for name, function in OF_LOGITS.items():
        assert torch.equal(score_named(name).fit(logits, logits, None)(logits, logits), function(logits))
    assert torch.equal(Energy(temperature=2)(logits, logits), energy(logits, 2))


def test_the_gradient_of_the_energy_is_the_negative_softmax() -> None:
    logits = normal(3, 4).requires_grad_()
    energy(logits, 2.0).sum().backward()
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, -(logits / 2).softmax(1))


@pytest.mark.parametrize("score", [msp, entropy])
def test_confident_rows_keep_their_order_in_float32(score) -> None:
    logits = torch.zeros(60, 3)
    logits[:, 1] = torch.arange(20, 80)
    assert (1 - logits.softmax(1).amax(1))[0] == 0  # what rounding would do
    assert (score(logits).diff() < 0).all()


@pytest.mark.parametrize("name", OF_LOGITS)
def test_dense_logits_are_rows_of_pixels(name: str) -> None:
    logits = normal(2, 5, 3, 4)
    by_pixel = OF_LOGITS[name](logits.movedim(1, -1).reshape(-1, 5)).reshape(2, 3, 4)
    torch.testing.assert_close(OF_LOGITS[name](logits), by_pixel, rtol=1e-14, atol=0)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", OF_LOGITS)
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    logits = normal(4, 5).to(dtype)
    torch.testing.assert_close(OF_LOGITS[name](logits), OF_LOGITS[name](logits.float()), rtol=0, atol=0)


@pytest.mark.parametrize("name", OF_LOGITS)
def test_a_class_at_minus_infinity_does_not_count(name: str) -> None:
    logits = normal(3, 4)
    masked = torch.cat([logits, torch.full((3, 1), -torch.inf, dtype=torch.float64)], 1)
    torch.testing.assert_close(OF_LOGITS[name](masked), OF_LOGITS[name](logits), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", [*SCORES, *FURTHER_SCORES])
def test_a_higher_score_is_more_out_of_distribution(name: str) -> None:
    centers = 10 * torch.eye(3, 4, dtype=torch.float64)
    labels = torch.arange(300) % 3
    known = centers[labels] + normal(300, 4, seed=1)
    unknown = normal(50, 4, seed=2) - 3
    classifier = Classifier(nn.Identity(), nn.Linear(4, 3, bias=False, dtype=torch.float64))
    with torch.no_grad():
        classifier.head.weight.copy_(centers)
        score = score_named(name).fit_of(classifier, known, known @ centers.T, labels)
        of_known, of_unknown = (score.of(classifier, rows, rows, rows @ centers.T) for rows in (known, unknown))
    assert of_unknown.min() > of_known.median()
    assert score.name == name


@pytest.mark.parametrize(("train", "query", "k"), [(60, 7, 1), (60, 7, 50), (3000, 3100, 4)])
def test_neighbours_agree_with_scikit_learn(train: int, query: int, k: int) -> None:
    rows, queries = normal(train, 3, seed=1), normal(query, 3, seed=2)
    unit_rows, unit_queries = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (rows.numpy(), queries.numpy()))
    expected = NearestNeighbors(n_neighbors=k).fit(unit_rows).kneighbors(unit_queries)[0][:, -1]
    scores = NearestNeighbours(k).fit(rows, rows, None)(queries, queries)
    np.testing.assert_allclose(scores, expected, rtol=1e-9, atol=1e-12)


def test_neighbours_ignore_lengths_and_resolve_close_rows() -> None:
    angle = torch.arange(1, 41, dtype=torch.float64) * 1e-5
    circle = torch.stack([angle.cos(), angle.sin()], 1)
    rows = circle.repeat_interleave(2, 0) * torch.tensor([[0.5], [7.0]], dtype=torch.float64).repeat(40, 1)
    queries = torch.tensor([[3.0, 0.0], [0.2, 0.0]], dtype=torch.float64)
    scores = NearestNeighbours(k=3).fit(rows, rows, None)(queries, queries)
    assert scores.tolist() == pytest.approx([2e-5, 2e-5], rel=1e-6)  # the second angle; float32 would give 0


def test_fewer_rows_than_k_give_the_farthest() -> None:
    rows, query = torch.eye(3), torch.tensor([[1.0, 0.0, 0.0]])
    assert NearestNeighbours(k=50).fit(rows, rows, None)(query, query).item() == pytest.approx(2**0.5)


def test_a_zero_row_has_no_direction_and_no_nan() -> None:
    rows, queries = torch.eye(4, 3), torch.tensor([[0.0, 0.0, 0.0], [2.0, 0.0, 0.0]])  # the last row is zero
    assert NearestNeighbours(k=1).fit(rows, rows, None)(queries, queries).tolist() == pytest.approx([0, 0])
    assert NearestNeighbours(k=2).fit(rows, rows, None)(queries, queries).tolist() == pytest.approx([1, 1])


def distances(rows: torch.Tensor, labels: torch.Tensor, queries: torch.Tensor) -> np.ndarray:
    """Squared Mahalanobis distances (queries, classes) through scikit-learn's precision matrix."""
    means = {int(label): rows[labels == label].mean(0) for label in labels.unique()}
    centered = np.stack([(row - means[int(label)]).numpy() for row, label in zip(rows, labels, strict=True)])
    precision = EmpiricalCovariance(assume_centered=True).fit(centered).precision_
    apart = np.stack([(queries - mean).numpy() for mean in means.values()], 1)
    return np.einsum("qcf,fg,qcg->qc", apart, precision, apart)


@pytest.mark.parametrize("offset", [0.0, 1e3])
def test_mahalanobis_agrees_with_scikit_learn(offset: float) -> None:
    mixing = normal(5, 5, seed=3)
    labels = torch.tensor([2, 5, 9])[torch.arange(90) % 3]  # ids need not be consecutive
    rows = (normal(90, 5, seed=1) + labels.unsqueeze(1)) @ mixing + offset
    queries = 3 * normal(20, 5, seed=2) @ mixing + offset
    to_classes = distances(rows, labels, queries).min(1)
    to_all = distances(rows, torch.zeros(90), queries)[:, 0]
    scores = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    relative = RelativeMahalanobis(shrinkage=0).fit(rows, rows, labels)(queries, queries)
    np.testing.assert_allclose(scores, to_classes, rtol=1e-6)
    np.testing.assert_allclose(relative, to_classes - to_all, rtol=1e-6, atol=1e-6)


@given(st.integers(0, 1000))
def test_mahalanobis_does_not_depend_on_the_coordinates(seed: int) -> None:
    rows, queries, labels = normal(40, 3, seed=seed), normal(6, 3, seed=seed + 1), torch.arange(40) % 2
    change = torch.linalg.qr(normal(3, 3, seed=seed + 2)).Q * torch.tensor([1.0, 10.0, 0.1], dtype=torch.float64)
    before = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    after = Mahalanobis().fit(rows @ change, rows, labels)(queries @ change, queries)
    torch.testing.assert_close(after, before, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_directions_without_variance_are_left_out(dtype: torch.dtype) -> None:
    rows, queries, labels = normal(40, 3), normal(6, 3, seed=1), torch.arange(40) % 2
    repeated = torch.cat([rows, rows[:, :2] / 3, torch.full((40, 1), 0.7)], 1).to(dtype)
    repeated_queries = torch.cat([queries, queries[:, :2] / 3, torch.zeros(6, 1)], 1).to(dtype)
    expected = Mahalanobis().fit(rows, rows, labels)(queries, queries)
    scores = Mahalanobis().fit(repeated, rows, labels)(repeated_queries, queries)
    torch.testing.assert_close(scores, expected, rtol=1e-5, atol=1e-5)


FITTED = [name for name, kind in {**SCORES, **FURTHER_SCORES}.items() if kind.needs_fit]


@pytest.mark.parametrize("name", FITTED)
def test_fitted_scores_refuse_what_they_cannot_use(name: str) -> None:
    rows, labels = normal(6, 3), torch.arange(6) % 2
    net = Classifier(nn.Identity(), nn.Linear(3, 3, dtype=torch.float64)).requires_grad_(False)
    with pytest.raises(ValueError, match=r"has seen none: call fit"):
        score_named(name).of(net, rows, rows, rows)
    with pytest.raises(ValueError, match=r"at least one row"):
        score_named(name).fit_of(net, rows[:0], rows[:0], labels[:0])
    with pytest.raises(ValueError, match=r"must be finite"):
        score_named(name).fit_of(net, *[rows / torch.tensor([1.0, 0.0, 1.0])] * 2, labels)
    if name != "kl-matching":
        with pytest.raises(ValueError, match=r"\(N, F\), got \(6, 3, 1\).*Classifier\.split"):
            score_named(name).fit_of(net, rows[:, :, None], rows, labels)
        with pytest.raises(ValueError, match=r"\(N, F\), got \(6, 0\)"):
            score_named(name).fit_of(net, rows, rows, labels).of(net, rows, rows[:, :0], rows)


@pytest.mark.parametrize("name", ["mahalanobis", "relative-mahalanobis"])
def test_class_ids_are_needed(name: str) -> None:
    rows = normal(6, 3)
    with pytest.raises(ValueError, match=r"needs the class ids .* got none"):
        score_named(name).fit(rows, rows, None)
    with pytest.raises(ValueError, match=r"needs the class ids .* got torch.float64 of shape \(6, 3\)"):
        score_named(name).fit(rows, rows, rows.softmax(1))
    with pytest.raises(ValueError, match=r"labels must have shape \(n, …\) with n = 6, as features has, got \(5,\)"):
        score_named(name).fit(rows, rows, torch.zeros(5, dtype=torch.int64))


def test_settings_are_checked_and_named() -> None:
    assert (Energy().name, Energy(2).name) == ("energy", "energy(temperature=2)")
    assert (NearestNeighbours().name, NearestNeighbours(50).name) == ("knn", "knn(k=50)")
    for temperature in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="temperature must be a finite number > 0"):
            Energy(temperature)
    for k in (0, -3, 1.5, True):
        with pytest.raises(ValueError, match="k must be a whole number"):
            NearestNeighbours(k)
    with pytest.raises(ValueError, match="got 'enrgy': did you mean 'energy'"):
        score_named("enrgy")


@pytest.mark.parametrize("name", EVERY)
def test_a_name_shows_each_setting_that_is_not_the_default_and_can_be_typed(name: str) -> None:
    default = score_named(name)
    assert default.name == type(default).name == name
    others = {"form": "B", "k": 7, "dim": 3, "top": 5, "head": "projection"}
    others["normalize"] = not getattr(default, "normalize", True)
    for setting, standard in settings_of(type(default)).items():
        for value in [others[setting]] if setting in others else [1.1 * standard, 0.123456789, 0.5]:
            changed = type(default)(**{setting: value})
            shown = f"{value:g}" if isinstance(value, float) and float(f"{value:g}") == value else value
            assert changed.name == copy(changed).name == f"{name}({setting}={shown})"
            again = score_named(changed.name)
            assert type(again) is type(changed) and vars(again) == vars(changed) and again.name == changed.name
        assert type(default)(**{setting: standard}).name == name


def test_names_with_several_settings_and_loose_spelling() -> None:
    assert score_named("ash(form=P, percentile=0.95)").name == "ash(form=P, percentile=0.95)"
    assert score_named(" ash( percentile = 0.95,form=P )").name == "ash(form=P, percentile=0.95)"
    assert score_named("mahalanobis(normalize=true)").name == "mahalanobis(normalize=True)"
    assert score_named("knn(k=None)").name == score_named("knn()").name == "knn"
    assert ConfidencePerturbed(0.1).name == "confidence-perturbed(epsilon=0.1)"
    assert AnchorDistance(3.0).name == "cac(alpha=3)"
    assert Energy(1234567).name == "energy(temperature=1234567)" and Energy(0.1 + 0.2).name == (
        "energy(temperature=0.30000000000000004)"
    )


@pytest.mark.parametrize(
    "name, sentence",
    [
        ("knn(k=0)", "k must be a whole number of at least 1, got 0"),
        ("knn(k=five)", "k must be a whole number of at least 1, got 'five'"),
        ("knn(K=5)", "knn has no setting 'K': expected one of k, normalize"),
        ("ash(percentil=0.5)", "ash has no setting 'percentil': did you mean 'percentile'"),
        ("msp(k=5)", "msp has no setting 'k': leave the brackets out"),
        ("knn(k=5", "written like knn.k=5., got 'knn.k=5': close the bracket"),
        ("knn(k)", "The setting 'k' of knn must have one value"),
        ("knn(k=5, k=6)", "The setting 'k' of knn must have one value"),
        ("kn(k=5)", "got 'kn.k=5.': did you mean 'knn'"),
        ("ash(form=X)", "form must be 'S', 'B' or 'P', got 'X'"),
    ],
)
def test_names_that_mean_nothing(name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        score_named(name)


def test_names_of_scores_of_ones_own() -> None:
    class Mine(Score):
        name = "mine"

        def __init__(self, cut: float = 0.5, mode: str = "sum", smooth: bool = False):
            self.cut, self.mode = cut, mode

        def __call__(self, features: Tensor, logits: Tensor) -> Tensor:
            return logits[:, 0]

    class More(Mine):
        name = "more"

        def __init__(self) -> None:
            super().__init__(cut=2)

    class Same(Mine):
        pass

    assert Mine(mode="mean", cut=1234567).name == "mine(cut=1234567, mode=mean)"
    assert Mine(0.5, smooth=True).name == "mine"  # which it does not keep
    assert More().name == "more" and Same(0.25).name == "mine(cut=0.25)"


@pytest.mark.parametrize("name", OF_LOGITS)
def test_whole_numbers_are_no_logits(name: str) -> None:
    with pytest.raises(TypeError, match="logits must be floating point"):
        OF_LOGITS[name](torch.ones(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("dead", [0, 50, 63, 64])
def test_mahalanobis_leaves_out_features_that_never_vary(dead: int) -> None:
    rows, labels = normal(200, 64), torch.arange(200) % 4
    rows[:, :dead] = 3.0
    score = Mahalanobis().fit(rows, torch.zeros(200, 4), labels)
    alive = Mahalanobis().fit(rows[:, dead:], torch.zeros(200, 4), labels) if dead < 64 else None
    actual = score(rows[:9], torch.zeros(9, 4))
    expected = torch.zeros(9) if alive is None else alive(rows[:9, dead:], torch.zeros(9, 4))
    assert actual.tolist() == pytest.approx(expected.tolist(), rel=1e-9)
