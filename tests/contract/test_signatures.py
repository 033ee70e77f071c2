"""Property 13: hyper-parameters are keyword-only, with the paper's defaults, and wrong values are refused."""

import inspect
import typing

import pytest

from oodles import TrainingStep

from .networks import batch, classifier
from .rows import ROWS, Row
from .steps import is_one_sentence


def check_signature(row: Row) -> None:
    parameters = dict(list(inspect.signature(row.cls.__init__).parameters.items())[1:])
    parameters = {name: parameter for name, parameter in parameters.items() if name not in row.cls.needs}
    assert {name: parameter.default for name, parameter in parameters.items()} == dict(row.defaults)
    hints = typing.get_type_hints(row.cls.__init__)
    for name, parameter in parameters.items():
        by_position = name in row.by_position
        expected = parameter.POSITIONAL_OR_KEYWORD if by_position else parameter.KEYWORD_ONLY
        assert parameter.kind is expected, f"{name} must {'come by position' if by_position else 'be keyword-only'}"
        kind = typing.get_origin(hints[name]) or hints[name]
        assert kind is type(parameter.default), f"{name} must be annotated, as its default is typed"
        documented = inspect.getdoc(row.cls) or ""
        assert f"\n    {name}: " in documented, f"{name} is explained under Args"
    made = row.cls()
    for name, value in row.defaults.items():
        assert getattr(made, name) == value, f"{name} is an attribute of that name"


def check_wrong_values(row: Row) -> None:
    assert row.wrong or not row.defaults, "a row names wrong values"
    for settings, sentence in row.wrong:
        with pytest.raises((ValueError, TypeError), match=sentence) as refusal:
            row.make(**settings)
        assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("name", ROWS)
def test_hyper_parameters_are_keyword_only_with_the_papers_defaults(name: str) -> None:
    check_signature(ROWS[name])


@pytest.mark.parametrize("name", ROWS)
def test_wrong_values_are_refused_when_the_method_is_made(name: str) -> None:
    check_wrong_values(ROWS[name])


@pytest.mark.filterwarnings("ignore:.*margins:oodles.TrainingWarning")
@pytest.mark.parametrize("name", ROWS)
def test_default_settings_train(name: str) -> None:
    row = ROWS[name]
    terms = TrainingStep(classifier(row.kinds[0]), row.cls(**row.handed), *row.methods()[1:])(batch(row.kinds[0]))
    assert all(value.isfinite() for value in terms.values())


@pytest.mark.parametrize("name", ROWS)
def test_unknown_hyper_parameters_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        ROWS[name].cls(colour="red")


@pytest.mark.parametrize("name", ROWS)
def test_the_docstring_says_when_to_use_at_what_cost_and_what_to_mind(name: str) -> None:
    text = inspect.getdoc(ROWS[name].cls) or ""
    settings = ("Args:\n",) if ROWS[name].defaults else ()
    for heading in ("When to use: ", "Cost: ", "Caveat: ", *settings, "Raises:\n", "Source: "):
        assert f"\n{heading}" in text, heading
    assert text.splitlines()[0].endswith(".")
