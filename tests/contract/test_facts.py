"""Property 14: facts that a method declares are what it is observed to do."""

import re

import pytest
import torch

from oodles import Now, Paper, Part, TrainingStep
from oodles.facts import ROLES
from oodles.methods import METHOD_SCORES, METHODS, score_named, scores_of
from oodles.scores import SCORES

from .networks import batch, classifier, inputs, tensors
from .rows import KINDS_OF_ROWS, ROWS, Row
from .steps import all_terms, gradients, is_one_sentence, leaf_outputs, terms_of

INPUTS, LOGITS = "in-distribution inputs", "logits"
OUTLIERS = {"choice of outliers", "outliers"}


def check_facts(row: Row, kind: str) -> None:
    """Check that a method adds, reads and replaces what it declares."""
    method = row.make()
    net = classifier(kind, dtype=torch.float64)
    head = net.head
    step = TrainingStep(net, method, *row.methods()[1:])
    assert (net.head is not head) == ("head" in row.cls.replaces), "replaces the head"
    assert set(net.heads) == {head for cls in row.classes for head in cls.heads}, "heads"
    given = batch(kind, dtype=torch.float64).with_part("unread", Part(inputs(kind, 4, seed=3, dtype=torch.float64)))
    prepared = step.prepare(given)
    assert set(prepared.parts) - set(given.parts) == set(row.cls.adds) - set(given.parts), "adds"
    pairs = zip(tensors(prepared["id"].inputs), tensors(given["id"].inputs), strict=True)
    assert any(not torch.equal(a, b) for a, b in pairs) == (INPUTS in row.cls.replaces), "replaces inputs"
    replaced = prepared["outliers"].inputs is not given["outliers"].inputs
    assert replaced == ("outliers" in row.cls.adds or bool(OUTLIERS & set(row.cls.replaces))), "replaces outliers"
    assert prepared["unread"].inputs is given["unread"].inputs, "unread replaced"

    outputs = leaf_outputs(net, prepared, list(prepared.parts))
    changed = method.change_outputs(outputs, prepared, Now(net))
    changes = "change_outputs" in row.cls.moments  # others may want logits as they are for their terms
    assert (changed.logits["id"] is not outputs.logits["id"]) == changes, "replaces logits"
    assert LOGITS in row.cls.replaces or not changes
    if changes:
        for role in prepared.parts:
            assert not torch.equal(changed.logits[role], outputs.logits[role]), f"logits of {role} left as they were"

    terms = terms_of(step, prepared, outputs)
    assert set(terms) == all_terms(*row.classes), "terms"
    read = {"id"}
    for value in terms.values():
        assert value.ndim == 0, "a term is a scalar"
        read |= {name.split(" of ")[1] for name, slope in gradients(value, outputs).items() if slope.any()}
    assert read == {"id", *(role for cls in row.classes for role in cls.reads)}, "reads"
    for role in read & set(ROLES):
        assert any(role in (*cls.needs, *cls.adds) for cls in row.classes), "needs"


def check_needs(row: Row, kind: str) -> None:
    """Check that a method refuses a batch without outliers or wild rows if, and only if, it needs them."""
    given = batch(kind)
    pair = given["id"].inputs, given["id"].targets
    step = TrainingStep(classifier(kind), *row.methods())
    needed = [role for role in ROLES if role in row.cls.needs]
    for role in needed:
        with pytest.raises(ValueError, match=f"{row.cls.name} needs {role}, got none") as refusal:
            step(pair, **{other: given[other].inputs for other in needed if other != role})
        assert is_one_sentence(str(refusal.value))
    if not needed:
        assert set(step(pair)) == all_terms(*row.classes)
    assert ("images" in row.cls.needs) == ("vectors" in row.refuses and "tokens" in row.refuses)
    assert "vectors" not in row.cls.needs or "dense" in row.refuses


def check_card(row: Row) -> None:
    """Check that the paper, the name and the score are there."""
    cls = row.cls
    paper = cls.paper
    assert isinstance(paper, Paper)
    for fact in ("title", "authors", "venue", "link"):
        assert getattr(paper, fact).strip() == getattr(paper, fact) != "", fact
    assert 1990 <= paper.year <= 2030
    assert re.match(r"https://\S+$", paper.link)
    assert paper.code == "" or re.match(r"https://\S+$", paper.code)
    assert cls.score in {*SCORES, *scores_of(cls.name)}, f"no score {cls.score!r}"
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", cls.name)
    if cls.strength is not None:
        assert cls.strength in row.defaults, "the strength is a hyper-parameter"


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_facts_are_observed(name: str, kind: str) -> None:
    check_facts(ROWS[name], kind)


@pytest.mark.parametrize("name, kind", KINDS_OF_ROWS)
def test_needs(name: str, kind: str) -> None:
    check_needs(ROWS[name], kind)


@pytest.mark.parametrize("name", ROWS)
def test_cards_are_complete(name: str) -> None:
    check_card(ROWS[name])


@pytest.mark.parametrize("name", METHODS)
def test_the_name_is_the_one_on_the_command_line_and_of_the_file(name: str) -> None:
    cls = ROWS[name].cls
    assert cls.name == name
    assert cls.__name__ == METHODS[name]
    assert cls.__module__ == f"oodles.methods.{name.replace('-', '_')}"


@pytest.mark.parametrize("name", METHOD_SCORES)
def test_scores_of_methods_have_their_name_and_a_method_that_brings_them(name: str) -> None:
    assert score_named(name).name == name
    assert METHOD_SCORES[name][0] in METHODS and name not in SCORES


def test_terms_and_names_are_not_used_twice_but_by_one_paper() -> None:
    rows = ROWS.values()
    for term in {term for row in rows for term in row.cls.terms}:
        owners = [row.cls for row in rows if term in row.cls.terms and term not in row.cls.heads]
        assert len({cls.paper.link for cls in owners}) <= 1 and term != "cross_entropy", term
