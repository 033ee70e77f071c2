"""Remarks on training that goes on: given as Python's warnings, and noted for the record of a run."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar


class TrainingWarning(UserWarning):
    """Training goes on, and will hardly give what is wanted; each is said once, and kept in the record of a run."""


class CalibrationWarning(UserWarning):
    """A threshold comes from so few known rows that its rate of false alarms may be rather another."""


_heard: ContextVar[list[str] | None] = ContextVar("heard", default=None)


def warn(words: str) -> None:
    """Give a :class:`TrainingWarning`, and note it for :func:`hear`."""
    if (heard := _heard.get()) is not None and words not in heard:
        heard.append(words)
    warnings.warn(words, TrainingWarning, stacklevel=3)


@contextmanager
def hear() -> Iterator[list[str]]:
    """Open a list that gets the words of every :class:`TrainingWarning`, whether or not they are shown."""
    heard: list[str] = []
    token = _heard.set(heard)
    try:
        yield heard
    finally:
        _heard.reset(token)
