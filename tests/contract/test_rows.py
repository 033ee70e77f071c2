"""A method without test data fails the suite."""

from collections.abc import Mapping

import pytest

from oodles import TrainingStep
from oodles.methods import METHODS, method_class

from .networks import batch, classifier
from .rows import ROWS
from .steps import is_one_sentence


def check_complete(methods: Mapping[str, str], rows: Mapping[str, object]) -> None:
    assert set(methods) == set(rows), "every method in METHODS needs a row in tests/contract/rows.py, and no other"


def test_every_method_has_a_row() -> None:
    check_complete(METHODS, ROWS)


@pytest.mark.parametrize("name", METHODS)
def test_rows_are_of_the_right_class(name: str) -> None:
    assert ROWS[name].cls is method_class(name)


@pytest.mark.parametrize("name", ROWS)
def test_a_row_tests_at_least_one_kind_of_input(name: str) -> None:
    assert ROWS[name].kinds


@pytest.mark.parametrize("name, kind", [(name, kind) for name, row in ROWS.items() for kind in row.refuses])
def test_other_kinds_of_input_are_refused_in_a_sentence(name: str, kind: str) -> None:
    with pytest.raises((ValueError, TypeError), match=ROWS[name].refuses[kind]) as refusal:
        TrainingStep(classifier(kind), *ROWS[name].methods())(batch(kind))
    assert is_one_sentence(str(refusal.value))
