"""A class whose facts and hooks contradict each other is refused when the step is built, by name."""

import inspect
from typing import Any

import pytest
import torch

import oodles.contract as contract
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
    "as tested and unread": ({"as_tested": ("mixed",)}, "Own as_tested 'mixed', which is not among what it reads"),
    "reads something else": (
        {"reads": ("id", "mixed")},
        "Own declares that it reads id, mixed, and by what it needs, adds and consumes it reads id: leave reads out",
    ),
    "a name in place of names": (
        {"terms": "mine"},
        r"terms of Own must be a tuple of names, got 'mine': write terms = ",
    ),
    "no names": ({"adds": None}, "adds of Own must be a tuple of names, got None"),
    "a property": (
        {"needs": property(lambda self: ("outliers",))},
        "needs of Own must be a tuple of names",
    ),
    "adds what is there": ({"adds": ("id",), "change_batch": as_it_is}, "Own adds 'id', which is always there"),
    "the step's term": (
        {"terms": ("cross_entropy",), "loss_terms": gives("cross_entropy")},
        "Own declares 'cross_entropy', which is the step's own term: give it another name, or declare replaces",
    ),
    "the step's term measured": (
        {"measures": ("cross_entropy",), "loss_terms": gives("cross_entropy")},
        "Own declares 'cross_entropy', which is the step's own term",
    ),
    "term and measure": (
        {"terms": ("x",), "measures": ("x",), "loss_terms": gives("x")},
        "Own declares 'x' as a term and as a measure",
    ),
    "a head that is not added": (
        {"heads": ("projection",), "change_classifier": lambda self, classifier: None},
        "own declares the head 'projection', and its change_classifier adds none of that name",
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


def test_facts_on_an_instance_are_refused() -> None:
    method = own()
    method.needs = ("outliers",)  # type: ignore[misc]
    with pytest.raises(ValueError, match="own sets needs on an instance, and facts belong to the class") as refusal:
        TrainingStep(classifier("vectors"), method)
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize(
    "name, value",
    [
        *(
            (name, as_it_is)
            for name in ("change_inputs", "change_logits", "change_class", "layer", "change_batch_size")
        ),
        *((name, 0.1) for name in ("share", "view", "head", "term", "need")),
        *((name, ("x",)) for name in ("names", "scores", "tasks", "shapes")),
    ],
)
def test_names_that_are_somewhat_alike_are_the_classs_own(name: str, value: object) -> None:
    TrainingStep(classifier("vectors"), own(**{name: value}))


def test_a_class_that_is_mixed_in_may_call_things_as_it_likes() -> None:
    class Foreign:
        asks = ("anything",)

        def change_loss(self) -> None: ...

    class Own(Foreign, OutlierExposure):
        pass

    assert "outlier_exposure" in TrainingStep(classifier("vectors"), Own())(batch("vectors"))


def test_a_hook_is_taken_back() -> None:
    class Plain(LogitNorm):
        change_outputs = Method.change_outputs

    assert Plain.moments == () and Plain.replaces == ()
    given = batch("vectors")
    expected = TrainingStep(classifier("vectors"))(given)
    assert TrainingStep(classifier("vectors"), Plain())(given)["cross_entropy"].equal(expected["cross_entropy"])


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


SUMS = {
    "overwrites": lambda self, terms, now: {
        **terms,
        "cross_entropy": terms["cross_entropy"] * 0,
        "half": terms["cross_entropy"],
    },
    "drops": lambda self, terms, now: {"half": terms["cross_entropy"]},
}


@pytest.mark.parametrize("case", SUMS)
def test_a_changed_sum_leaves_the_other_terms(case: str) -> None:
    step = TrainingStep(classifier("vectors"), own(terms=("half",), change_sum=SUMS[case]))
    with pytest.raises(ValueError, match="change_sum of own must leave all terms as they are") as refusal:
        step(batch("vectors"))
    assert is_one_sentence(str(refusal.value))


RETURNS: dict[str, tuple[dict[str, Any], str]] = {
    "no batch": (
        {"change_batch": lambda self, batch, now: None},
        "change_batch of own must return a Batch, got NoneType",
    ),
    "no terms": (
        {"terms": ("x",), "loss_terms": lambda *args: None},
        "loss_terms of own must return its terms by name",
    ),
    "a vector": (
        {"terms": ("x",), "loss_terms": lambda self, outputs, batch, now: {"x": outputs.logits["id"].sum(1)}},
        r"x of own must be a tensor with a single number, got shape \(6,\)",
    ),
    "a float": (
        {"measures": ("x",), "loss_terms": lambda self, outputs, batch, now: {"x": 1.0}},
        "x of own must be a tensor with a single number, got float",
    ),
    "nothing left": (
        {"terms": ("x",), "replaces": ("cross-entropy",), "loss_terms": lambda *args: {}},
        "The loss has no terms: a method that replaces the cross-entropy must give one",
    ),
    "labels that are not there": (
        {"terms": ("x",), "loss_terms": lambda self, outputs, batch, now: {"x": batch["outliers"].labels.sum()}},
        "own cannot act on this batch: targets must be class ids or probabilities, got none",
    ),
}


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("case", RETURNS)
def test_what_hooks_return_is_refused_in_a_sentence(case: str, compiled: bool) -> None:
    body, sentence = RETURNS[case]
    step = TrainingStep(classifier("vectors"), own(**body))
    if compiled:
        torch._dynamo.reset()
        step.compile(backend="eager")
    with pytest.raises((ValueError, TypeError), match=sentence) as refusal:
        step(batch("vectors"))
    assert is_one_sentence(str(refusal.value))


def test_a_draw_of_another_method_is_not_replaced() -> None:
    def draws(name: str) -> Method:
        body = {"name": name, "change_batch": lambda self, batch, now: batch.with_draws(lam=torch.rand(1))}
        return type(name, (Method,), body)()

    TrainingStep(classifier("vectors"), draws("a"))(batch("vectors"))
    with pytest.raises(ValueError, match="b replaces the draw 'lam' of another method: give its own another name"):
        TrainingStep(classifier("vectors"), draws("b"), draws("a"))(batch("vectors"))


def test_no_cross_entropy_is_computed_where_it_is_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    original = contract.cross_entropy_of_checked
    monkeypatch.setattr(contract, "cross_entropy_of_checked", lambda *args: calls.append(args) or original(*args))
    for name, row in ROWS.items():
        TrainingStep(classifier("images"), *row.methods())(batch("images"))
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
    assert method_class("t2fnorm").replaces == ("head", "lengths of features", "logits")
    assert method_class("mixoe").reads == ("id", "mixed_outliers")
    assert method_class("augmix").reads == ("id", "view1", "view2")
