"""Scores of the features: their lengths, and SCALE and ASH, which send changed features through the head."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from oodles import Classifier, evaluate
from oodles.methods import score_named
from oodles.scores import Ash, FeatureNorm, Scale, Score

WEIGHT = [[0.5, -1.0, 2.0, 0.3, -0.2], [1.5, 0.25, -0.75, 0.1, 0.4], [-0.5, 0.6, 0.2, -1.1, 0.9]]
BIAS = [0.1, -0.2, 0.3]
WAYS = ["scale", "S", "B", "P"]
rows_of_features = st.lists(
    st.lists(st.floats(0, 30).map(lambda value: round(value, 6)), min_size=5, max_size=5), min_size=1, max_size=3
)


def energy_of(features: list[float]) -> float:
    logits = [sum(w * h for w, h in zip(row, features, strict=True)) + b for row, b in zip(WEIGHT, BIAS, strict=True)]
    highest = max(logits)
    return -highest - math.log(sum(math.exp(z - highest) for z in logits))


def reference(way: str, features: list[float], percentile: float) -> float:
    """The papers' algorithms for features of at least 0, one number at a time."""
    kept = max(1, len(features) - round(len(features) * percentile))
    order = sorted(range(len(features)), key=lambda index: -features[index])[:kept]
    everything, left = sum(features), sum(features[index] for index in order)
    factor = math.exp(everything / left) if left else 1.0
    if way == "scale":
        return energy_of([factor * h for h in features])
    changed = {"S": lambda h: factor * h, "B": lambda h: everything / kept, "P": lambda h: h}[way]
    return energy_of([changed(h) if index in order else 0.0 for index, h in enumerate(features)])


def score_of(way: str, percentile: float) -> Score:
    return Scale(percentile) if way == "scale" else Ash(way, percentile)


def classifier(dtype: torch.dtype = torch.float64) -> Classifier:
    head = nn.Linear(5, 3)
    with torch.no_grad():
        head.weight.copy_(torch.tensor(WEIGHT))
        head.bias.copy_(torch.tensor(BIAS))
    return Classifier(nn.Identity(), head).to(dtype).requires_grad_(False)


def scored(score: Score, features: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
    net = classifier(dtype)
    return score.of(net, features, features, net(features.to(dtype)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("percentile", [0.0, 0.4, 0.65, 0.85, 0.99])
@given(rows=rows_of_features)
def test_the_algorithms_of_the_papers(way: str, percentile: float, rows: list[list[float]]) -> None:
    ordered = [sorted(row, reverse=True) for row in rows]
    distinct = [row for row, top in zip(rows, ordered, strict=True) if len(set(top)) == len(top)]  # ties may fall apart
    if not distinct:
        return
    expected = [reference(way, row, percentile) for row in distinct]
    actual = scored(score_of(way, percentile), torch.tensor(distinct, dtype=torch.float64))
    assert actual.tolist() == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_numbers_by_hand() -> None:
    features = torch.tensor([[4.0, 1.0, 0.0, 3.0, 2.0]], dtype=torch.float64)  # the largest three: 9 of 10
    for way, changed in {
        "scale": [math.exp(10 / 9) * h for h in (4, 1, 0, 3, 2)],
        "S": [math.exp(10 / 9) * h for h in (4, 0, 0, 3, 2)],
        "B": [10 / 3, 0, 0, 10 / 3, 10 / 3],
        "P": [4, 0, 0, 3, 2],
    }.items():
        assert score_of(way, 0.4).shaped(features).tolist() == [pytest.approx(changed, rel=1e-12)]
    assert FeatureNorm()(features, features).item() == pytest.approx(-math.sqrt(30))


def test_negative_features_are_small_where_they_are_near_zero() -> None:
    features = torch.tensor([[4.0, -1.0, 0.0, -3.0, 2.0]], dtype=torch.float64)
    for way, changed in {
        "scale": [math.exp(10 / 9) * h for h in (4, -1, 0, -3, 2)],
        "S": [math.exp(10 / 9) * h for h in (4, 0, 0, -3, 2)],
        "B": [10 / 3, 0, 0, -10 / 3, 10 / 3],
        "P": [4, 0, 0, -3, 2],
    }.items():
        assert score_of(way, 0.4).shaped(features).tolist() == [pytest.approx(changed, rel=1e-12)]
    assert FeatureNorm()(features, features).item() == pytest.approx(-math.sqrt(20))


@pytest.mark.parametrize("name", ["scale", "ash", "feature-norm"])
def test_no_row_gives_nan_or_infinity(name: str) -> None:
    rows = [[0.0] * 5, [-1.0] * 5, [1e-38, 0, 0, 0, 0], [3.0, -3.0, 0, 0, 0], [1e4] * 5]
    assert scored(score_named(name), torch.tensor(rows), torch.float32).isfinite().all()
    wide = torch.rand(4, 2000).add(1)  # kept: one of 2000, so that e^r would overflow
    for score in (Scale(0.9999), Ash("S", 0.9999)):
        assert score.shaped(wide).isfinite().all()


def test_no_features_are_left_out_at_a_percentile_of_zero() -> None:
    features = torch.rand(4, 5, dtype=torch.float64)
    torch.testing.assert_close(Ash("P", 0.0).shaped(features), features)
    torch.testing.assert_close(Ash("S", 0.0).shaped(features), features * math.e)
    torch.testing.assert_close(Scale(0.0).shaped(features), features * math.e)


@pytest.mark.parametrize("name", ["scale", "ash", "feature-norm"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_networks_of_other_precision(name: str, dtype: torch.dtype) -> None:
    # drawn once: of others, rounding may change which activations are cut
    features = torch.rand(4, 5, generator=torch.Generator().manual_seed(0))
    actual = scored(score_named(name), features.to(dtype), dtype)
    assert actual.dtype == torch.float32
    torch.testing.assert_close(actual.double(), scored(score_named(name), features.double()), rtol=3e-2, atol=3e-2)


def test_evaluations_give_the_same_numbers() -> None:
    rows = torch.rand(6, 5, dtype=torch.float64)
    scores = evaluate(classifier(), [rows], {"more": [rows * 2]}, ["scale", "ash", "feature-norm"]).scores
    for name in ("scale", "ash", "feature-norm"):
        torch.testing.assert_close(torch.from_numpy(scores["id"][name]), scored(score_named(name), rows))
        torch.testing.assert_close(torch.from_numpy(scores["more"][name]), scored(score_named(name), rows * 2))


def test_names_tell_other_settings() -> None:
    assert (Scale().name, Scale(0.65).name) == ("scale", "scale(percentile=0.65)")
    assert (Ash().name, Ash("B").name, Ash(percentile=0.95).name) == (
        "ash",
        "ash(form=B)",
        "ash(percentile=0.95)",
    )
    assert Ash("P", percentile=0.95).name == Ash(percentile=0.95, form="P").name == "ash(form=P, percentile=0.95)"


@pytest.mark.parametrize("score", [Scale(), Ash()])
def test_features_and_logits_are_not_enough(score: Score) -> None:
    with pytest.raises(ValueError, match=rf"{score.name} reads the classifier's head, .*: call of\(classifier"):
        score(torch.rand(2, 5), torch.rand(2, 3))
    with pytest.raises(ValueError, match=f"{score.name} needs features and Linear gives logits alone"):
        score.check(nn.Linear(5, 3))


@pytest.mark.parametrize("name", ["scale", "ash", "feature-norm"])
def test_features_that_are_no_vectors_are_refused(name: str) -> None:
    features = torch.rand(2, 5, 4, 4)
    with pytest.raises(ValueError, match=r"features must have shape \(N, F\), got \(2, 5, 4, 4\)"):
        score_named(name).of(classifier(), features, features, features)


def test_wrong_settings_are_refused() -> None:
    for value in (-0.1, 1.0, 85, float("nan")):
        with pytest.raises(ValueError, match="percentile must be"):
            Scale(value)
        with pytest.raises(ValueError, match="percentile must be"):
            Ash(percentile=value)
    with pytest.raises(ValueError, match="form must be 'S', 'B' or 'P', got 's'"):
        Ash("s")
