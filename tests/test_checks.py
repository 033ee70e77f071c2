"""Numbers that are refused: each in one sentence that says what was expected and what came."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch

from oodles.checks import (
    check_choice,
    check_flag,
    check_mixing,
    check_no_one_hot,
    check_number,
    check_places,
    check_share,
    check_targets,
    check_whole,
)

from .contract.steps import is_one_sentence

MANY = "a number of more than 40 digits"
SINGLE = "a single number"
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
    (lambda: check_number("alpha", 10**400, low=0), ValueError, "alpha must be a finite number >= 0, got " + MANY),
    (lambda: check_number("alpha", 10**5000), ValueError, "alpha must be a finite number, got " + MANY),
    (
        lambda: check_number("alpha", 2**63),
        ValueError,
        "alpha must fit into 64 bits as a whole number, got 9223372036854775808: write it with a point",
    ),
    (lambda: check_number("alpha", np.float32("nan")), ValueError, "alpha must be a finite number, got nan"),
    (lambda: check_number("alpha", np.bool_(True)), TypeError, "alpha must be a number, got bool"),
    (lambda: check_number("alpha", np.zeros(2)), TypeError, "alpha must be a number, got ndarray"),
    (lambda: check_number("alpha", torch.tensor(1.0)), TypeError, "alpha must be a number, got Tensor"),
    (lambda: check_number("alpha", 1j), TypeError, "alpha must be a number, got complex"),
    (lambda: check_number("alpha", 2, high=1), ValueError, "alpha must be at most 1, got 2"),
    (
        lambda: check_whole("k", 10**400, low=1),
        ValueError,
        "k must be a whole number of at most 2147483647, got " + MANY,
    ),
    (lambda: check_flag("per_sample", "no"), TypeError, "per_sample must be True or False, got 'no'"),
    (lambda: check_flag("per_sample", 2), TypeError, "per_sample must be True or False, got 2"),
    (lambda: check_choice("form", "x", ("a", "b")), ValueError, "form must be 'a' or 'b', got 'x'"),
    (lambda: check_choice("form", np.zeros(2), ("a", "b")), ValueError, "form must be 'a' or 'b', got ndarray"),
    (lambda: check_choice("power", True, (1, 2)), ValueError, "power must be 1 or 2, got True"),
    *[
        (lambda share=share: check_mixing("lam", share), ValueError, f"lam must be {words}")
        for share, words in (
            (1.5, "at most 1, got 1.5"),
            (-0.1, "a finite number >= 0, got -0.1"),
            (math.nan, "a finite number >= 0, got nan"),
            (torch.tensor([0.5, math.nan]), "a finite number >= 0, got nan"),
            (torch.tensor([0.5, 2.0]), "at most 1, got 2.0"),
        )
    ],
    (
        lambda: check_no_one_hot("y", torch.eye(3, dtype=torch.int64), 3),
        ValueError,
        "y must be class ids or probabilities, got one-hot rows of torch.int64: make them probabilities by .float(), "
        "or class ids by .argmax(1)",
    ),
    (
        lambda: check_targets("y", torch.tensor(1), 3),
        ValueError,
        "y must have a class id for each row, got a single number",
    ),
    (
        lambda: check_targets("y", torch.tensor([0, 300], dtype=torch.uint16), 3),
        ValueError,
        "y must be class ids from 0 to 2, got 300: leave rows without a label out of the batch",
    ),
    (lambda: check_places(torch.tensor([0, 3]), 3), ValueError, "places must be from 0 to 2, got 3"),
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


def test_numbers_of_numpy_and_class_ids_of_every_width_are_taken() -> None:
    for number in (np.float32(0.5), np.float64(0.5), np.float16(0.5), np.int64(1), np.uint8(1)):
        check_number("alpha", number, low=0)
    check_whole("k", np.int64(3), low=1)
    check_flag("per_sample", np.bool_(True))
    check_mixing("lam", torch.tensor([0.0, 1.0]))
    check_mixing("lam", torch.zeros(0))
    for dtype in (torch.int8, torch.uint8, torch.int16, torch.uint16, torch.int32, torch.uint32, torch.uint64):
        check_targets("y", torch.tensor([0, 2]).to(dtype), 3)


def test_whole_numbers_that_are_no_one_hot_rows_may_be_ids_of_pixels() -> None:
    for pixels in ([[0, 1, 2]], [[0, 0, 0]], [[1, 1, 0]], [[2, 0, 0]]):
        check_no_one_hot("y", torch.tensor(pixels), 3)
    check_no_one_hot("y", torch.zeros(0, 3, dtype=torch.int64), 3)
    check_no_one_hot("y", torch.zeros(4, 1, dtype=torch.int64), 1)
