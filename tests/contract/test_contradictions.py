"""A class whose facts and hooks contradict each other is refused when the step is built, by name."""

import inspect
from typing import Any

import pytest

import oodles.step as engine
from oodles import LogitNorm, Method, Mixup, OutlierExposure, TrainingStep
from oodles.facts import FACTS, HOOKS
from oodles.methods import METHODS, method_class

from .networks import batch, classifier
from .rows import ROWS
from .steps import is_one_sentence


def own(**body: Any) -> Method:
    """Make a method with these attributes."""
    cls: type[Method] = type("Own", (Method,), {"name": "own", **body})
    return cls()


def gives(*names: str) -> Any:
    return lambda self, outputs, batch, now: {name: outputs.logits["id"].sum() for name in names}


def as_it_is(self: Method, batch: Any, now: Any) -> Any:
    return batch


CONTRADICTIONS: dict[str, tuple[dict[str, Any], str]] = {
    "old hook": ({"change_loss": as_it_is}, "Own has 'change_loss', which is no hook of a method: say 'loss_terms'"),
    "plural of the old hook": ({"change_losses": as_it_is}, "Own has 'change_losses', .* say 'loss_terms'"),
    "singular": ({"loss_term": gives("x")}, "Own has 'loss_term', which is no hook of a method: say 'loss_terms'"),
    "misspelt hook": ({"change_bach": as_it_is}, "Own has 'change_bach', .* say 'change_batch'"),
    "hook of the past": ({"before_update": as_it_is}, ""),
    "old fact": ({"asks": ("projection",)}, "Own has 'asks', which is no fact of a method: say 'heads'"),
    "misspelt fact": ({"replace": ("head",)}, "Own has 'replace', which is no fact of a method: say 'replaces'"),
    "unknown need": ({"needs": ("image",)}, "Own needs 'image', which is unknown: did you mean 'images'?"),
    "unknown replacement": ({"replaces": ("logit",)}, "Own replaces 'logit', which is unknown: did you mean 'logits'?"),
    "terms and no hook": ({"terms": ("x",)}, "Own declares terms and overrides no loss_terms or change_sum"),
    "hook and no terms": ({"loss_terms": gives("x")}, "Own overrides loss_terms and declares no terms or measures"),
    "sum and no terms": (
        {"change_sum": lambda self, terms, now: terms},
        "Own overrides change_sum and declares no terms",
    ),
    "part and no hook": ({"adds": ("x",)}, "Own declares adds and overrides no change_batch"),
    "head and no hook": ({"heads": ("x",)}, "Own declares heads and overrides no change_classifier"),
    "measure and no hook": ({"measures": ("x",)}, "Own declares measures and overrides no loss_terms"),
    "replaces and no hook": ({"replaces": ("head",)}, "Own replaces 'head' and overrides no change_classifier"),
    "layers alone": ({"layers": lambda self, classifier: ()}, "Own must override both layers and change_hidden"),
    "shares what it does not add": ({"shares": ("view",)}, "Own shares 'view', which is not among what it adds"),
    "views what it does not add": ({"views": ("view",)}, "Own views 'view', which is not among what it adds"),
    "consumes what it does not need": (
        {"consumes": ("wild",)},
        "Own consumes 'wild', which is not among what it needs",
    ),
    "apart and unread": ({"separate": ("mixed",)}, "Own separate 'mixed', which is not among what it reads"),
    "reads something else": (
        {"reads": ("id", "mixed")},
        "Own declares that it reads id, mixed, and by what it needs, adds and consumes it reads id: leave reads out",
    ),
    "no strength": ({"strength": "weight"}, "own has no setting 'weight', which it names as its strength"),
    "no name": ({"name": None}, "Own has no name: give the class one"),
}


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_contradictions_are_refused_in_a_sentence(case: str) -> None:
    body, sentence = CONTRADICTIONS[case]
    if not sentence:
        TrainingStep(classifier("vectors"), own(**body))  # a name that is like no hook is the class's own affair
        return
    with pytest.raises(ValueError, match=sentence) as refusal:
        TrainingStep(classifier("vectors"), own(**body))
    assert is_one_sentence(str(refusal.value))


def test_what_is_declared_as_it_follows_is_no_contradiction() -> None:
    class Declares(OutlierExposure):
        reads = ("id", "outliers")
        replaces = ()

    assert TrainingStep(classifier("vectors"), Declares())(batch("vectors")).keys() == {
        "cross_entropy",
        "outlier_exposure",
    }


TERMS: dict[str, tuple[tuple[str, ...], tuple[str, ...], str]] = {
    "undeclared": (("penalty",), ("penalti",), "own gives 'penalti', which is not among the terms .* 'penalty'"),
    "another's": (
        ("penalty",),
        ("outlier_exposure",),
        "own gives 'outlier_exposure', which is a term of outlier-exposure",
    ),
    "the step's": (
        ("penalty",),
        ("penalty", "cross_entropy"),
        "own gives 'cross_entropy', which is not among the terms",
    ),
}


@pytest.mark.parametrize("case", TERMS)
def test_undeclared_and_foreign_terms_are_refused_by_name(case: str) -> None:
    declared, given, sentence = TERMS[case]
    step = TrainingStep(classifier("vectors"), OutlierExposure(), own(terms=declared, loss_terms=gives(*given)))
    with pytest.raises(ValueError, match=sentence) as refusal:
        step(batch("vectors"))
    assert is_one_sentence(str(refusal.value))


def test_a_term_of_the_changed_sum_is_declared_too() -> None:
    body = {"terms": ("half",), "change_sum": lambda self, terms, now: {**terms, "third": sum(terms.values())}}
    with pytest.raises(ValueError, match="own gives 'third', which is not among the terms that it declares"):
        TrainingStep(classifier("vectors"), own(**body))(batch("vectors"))


def test_no_cross_entropy_is_computed_where_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = engine.cross_entropy
    monkeypatch.setattr(engine, "cross_entropy", lambda *args: calls.append(args) or original(*args))
    for name, row in ROWS.items():
        TrainingStep(classifier("images"), row.make())(batch("images"))
        assert bool(calls) == ("cross-entropy" not in row.cls.replaces), name
        calls.clear()


@pytest.mark.parametrize("name", METHODS)
def test_what_follows_is_not_declared(name: str) -> None:
    """The class body leaves out what its hooks and other facts say."""
    cls = method_class(name)
    assert "    reads =" not in inspect.getsource(cls)
    assert set(cls.moments) == {hook for hook in HOOKS if hook in vars(cls)}
    assert set(FACTS) <= {*vars(Method), "name", "paper"}


def test_images_are_needed_in_every_part_that_is_needed() -> None:
    def method(*needs: str) -> Method:
        return own(needs=needs, adds=("more",), change_batch=as_it_is)

    given, vectors = batch("images"), batch("vectors")
    mixed_up = given.with_part("outliers", vectors["outliers"])
    TrainingStep(classifier("images"), method("images")).prepare(mixed_up)  # nobody looks at them
    for needs, wrong in ((("images",), vectors), (("images", "outliers"), mixed_up)):
        with pytest.raises(ValueError, match=r"own needs images of shape \(N, C, H, W\), got \(\d+, 6\)") as refusal:
            TrainingStep(classifier("images"), method(*needs)).prepare(wrong)
        assert is_one_sentence(str(refusal.value))
    with pytest.raises(TypeError, match="own needs one tensor of images, floating point, got a dict"):
        TrainingStep(classifier("tokens"), method("images")).prepare(batch("tokens"))


def test_who_replaces_what() -> None:
    assert LogitNorm.replaces == ("logits",) and Mixup.replaces == ("in-distribution inputs",)
    assert method_class("flooding").replaces == ("the sum",)
    assert method_class("t2fnorm").replaces == ("head", "logits")
    assert method_class("mixoe").reads == ("id", "mixed_outliers")
    assert method_class("augmix").reads == ("id", "view1", "view2")
