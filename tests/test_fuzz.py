"""Wrong arguments of every public function and method: what comes back is a value of the right shape, or a sentence."""

import re
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from jaxtyping import Float
from torch import Tensor

import oodles
from oodles.cards import card
from oodles.methods import METHODS

from . import fuzz
from .contract.steps import is_one_sentence

IN_ALL = 2000


@pytest.mark.parametrize("name", fuzz.CALLS)
def test_what_comes_back_is_a_value_or_a_sentence(name: str) -> None:
    @settings(max_examples=-(-IN_ALL // len(fuzz.CALLS)))
    @given(st.integers(0, 2**32 - 1))
    def call(number: int) -> None:
        outcome, what = fuzz.draw_and_call(name, number)
        assert outcome != "wrong", f"draw_and_call({name!r}, {number}): {what}"

    call()


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
@pytest.mark.parametrize("name", METHODS)
def test_a_method_refuses_odd_settings_or_works_with_them(name: str) -> None:
    for parameter in card(name).parameters:
        for value in (*fuzz.HUGE, *fuzz.NO_NUMBERS, *fuzz.ARRAYS):
            draw = fuzz.Draw(0)
            try:
                method, args, named = fuzz.standalone(name, draw, {parameter.name: value})
                method(*args, **named)
            except (TypeError, ValueError) as error:
                assert fuzz.is_sentence(str(error)), f"{parameter.name}: {error}"


WHOLE_RUNS = {
    *("adopt", "benchmark", "compare", "train", "open_run", "export", "as_program", "check_outliers"),
    *("choose_score", "new_class_estimate"),
}
"""Functions of files and whole trainings, which have tests of their own."""


def test_every_public_function_and_method_is_called() -> None:
    assert {name for name in METHODS if f"method {name}" not in fuzz.CALLS} == set()
    functions = {name for name in oodles.__all__ if name[0].islower() and callable(getattr(oodles, name))}
    assert functions - WHOLE_RUNS - {"frozen"} - set(fuzz.CALLS) == set()


def outcome_of(function: Callable[..., Any], argument: Any, monkeypatch: pytest.MonkeyPatch) -> tuple[str, str]:
    monkeypatch.setitem(fuzz.CALLS, "own", lambda draw: (function, [argument], {}))  # type: ignore[arg-type]
    outcomes = {fuzz.draw_and_call("own", number) for number in range(20)}
    return next((one for one in sorted(outcomes, reverse=True) if one[0] == "wrong"), sorted(outcomes)[0])


def test_the_search_sees_what_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    def right(x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return torch.zeros(())

    def other_shape(x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return torch.zeros(1)

    def no_tensor(x: Float[Tensor, " n"]) -> Float[Tensor, ""]:
        return 1.0  # type: ignore[return-value]

    def fails(x: Any) -> None:
        raise RuntimeError("x must be something else.")

    def others_words(x: Any) -> None:
        raise ValueError("The size of tensor a (3) must match the size of tensor b (4).")

    def warned(x: Any) -> None:
        warnings.warn("something is odd: 'int' object is not iterable", stacklevel=1)

    x = torch.zeros(3)
    assert outcome_of(right, x, monkeypatch)[0] != "wrong"
    for function, what in (
        (other_shape, "returned shape (1,)"),
        (no_tensor, "returned float"),
        (fails, "RuntimeError: x must be"),
        (others_words, "ValueError: The size of tensor"),
        (warned, "UserWarning"),
    ):
        outcome, said = outcome_of(function, x, monkeypatch)
        assert outcome == "wrong" and what in said


def test_sentences_are_the_project_s() -> None:
    for text in ("k must be at least 1, got 0.", "x must not hold NaN, got 1: did training diverge?"):
        assert fuzz.is_sentence(text) and is_one_sentence(text)
    for text in ("no stop", "two\nlines.", "", "'int' object is not iterable.", "Expected 3 to be 4.", "dots..."):
        assert not fuzz.is_sentence(text)


def test_the_script_counts_and_shows_failures(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with warnings.catch_warnings():
        assert fuzz.main(20, ["pair", "soft_targets"]) == 0
        assert re.search(
            r"20 calls of 2 functions in \d+ s: \d+ values, \d+ sentences, 0 wrong", capsys.readouterr().out
        )

        def fails(x: Any) -> None:
            raise KeyError(x)

        monkeypatch.setitem(fuzz.CALLS, "own", lambda draw: (fails, [1], {}))  # type: ignore[arg-type]
        assert fuzz.main(4, ["own"]) == 1
        assert "draw_and_call('own', 3): KeyError" in capsys.readouterr().out
