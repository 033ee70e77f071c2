"""Numbers that are refused: each in one sentence that says what was expected and what came."""

import math
from collections.abc import Callable

import pytest

from oodles.checks import check_number, check_share, check_whole

from .contract.steps import is_one_sentence

REFUSALS = [
    *[
        (
            lambda value=value: check_number("alpha", value, low=0),
            ValueError,
            f"alpha must be a finite number >= 0, got {value}",
        )
        for value in (-0.1, math.nan, math.inf, -math.inf)
    ],
    *[
        (
            lambda value=value: check_number("tau", value, above=0),
            ValueError,
            f"tau must be a finite number > 0, got {value}",
        )
        for value in (0, -1.0, math.nan, math.inf)
    ],
    (lambda: check_number("margin", math.inf), ValueError, "margin must be a finite number, got inf"),
    *[
        (
            lambda value=value: check_number("alpha", value, low=0),
            TypeError,
            f"alpha must be a number >= 0, got {value if value != [1.0] else 'list'!r}".replace("'list'", "list"),
        )
        for value in ("1", None, True, [1.0])
    ],
    *[
        (
            lambda value=value: check_whole("steps", value, low=1),
            ValueError,
            f"steps must be a whole number of at least 1, got {value!r}",
        )
        for value in (0, 2.0, True, "1")
    ],
    (lambda: check_share("amount", 1), ValueError, "amount must be below 1, got 1"),
    (lambda: check_share("amount", -0.5), ValueError, "amount must be a finite number >= 0, got -0.5"),
]


@pytest.mark.parametrize("check, error, sentence", REFUSALS, ids=[sentence for *_, sentence in REFUSALS])
def test_numbers_that_are_refused(check: Callable[[], None], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as refusal:
        check()
    assert str(refusal.value) == f"{sentence}." and is_one_sentence(str(refusal.value))


def test_numbers_at_the_bounds_are_taken() -> None:
    check_number("alpha", 0, low=0)
    check_number("tau", 5e-324, above=0)
    check_number("margin", -1e300)
    check_whole("steps", 1, low=1)
    check_share("amount", 0)
    check_share("amount", 0.999)
