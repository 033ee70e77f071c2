"""Pair in-distribution rows with outliers: loaders, and rows of a batch."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor


def pair(
    loader: Iterable[Any], outlier_loader: Iterable[Any] | None = None, *, wild: Iterable[Any] | None = None
) -> "Pairs":
    """Pair the batches of loaders: an epoch is the in-distribution loader, and the outliers never run out.

    When the outlier loader ends it is started again, so a shuffling loader reshuffles; each epoch goes on where the
    last one stopped, so that all outliers are used however short an epoch is. The same goes for wild rows.

    Args:
        loader: gives in-distribution batches; its length is the length of an epoch.
        outlier_loader: gives batches of outliers.
        wild: gives batches of wild rows. With it, the second of each pair is a dictionary by role for
            ``step(batch, **others)``, in which outliers are only where there is a loader of them.

    Raises:
        TypeError: for what cannot be iterated over, and without a second loader.
        ValueError: on iterating, where a loader of outliers or wild rows is empty, or ends and cannot be read again.

    Example:
        >>> [batch for batch in pair([1, 2, 3], ["a", "b"])]
        [(1, 'a'), (2, 'b'), (3, 'a')]
        >>> [batch for batch in pair([1, 2], ["a"], wild=["x", "y"])]
        [(1, {'outliers': 'a', 'wild': 'x'}), (2, {'outliers': 'a', 'wild': 'y'})]
    """
    for name, given in (("loader", loader), ("outlier_loader", outlier_loader), ("wild", wild)):
        left_out = given is None and name != "loader"
        gives = hasattr(given, "__iter__") or hasattr(given, "__getitem__")
        if not left_out and (not gives or getattr(given, "ndim", 1) == 0):
            raise TypeError(f"{name} must give batches, got {type(given).__name__}.")
    if outlier_loader is None and wild is None:
        raise TypeError("pair needs a second loader, got one: give outlier_loader or wild=….")
    return Pairs(loader, outlier_loader, wild)


class Pairs:
    """The batches that :func:`pair` gives: iterate over them once per epoch."""

    def __init__(self, loader: Iterable[Any], outlier_loader: Iterable[Any] | None, wild: Iterable[Any] | None = None):
        self.loader = loader
        self.by_role = wild is not None
        """Whether what goes with a batch is a dictionary, and no batch of outliers."""
        given = {"outliers": ("outlier_loader", outlier_loader), "wild": ("wild", wild)}
        self._others = {role: _Endless(name, one) for role, (name, one) in given.items() if one is not None}

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # as for any loader: only those with a length have one

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for batch in self.loader:
            others = {role: batches.next() for role, batches in self._others.items()}
            yield batch, others if self.by_role else others["outliers"]


class _Endless:
    """The batches of a loader, which is started again whenever it ends.

    Args:
        name: of the loader, for errors.
        loader: gives batches.
    """

    def __init__(self, name: str, loader: Iterable[Any]):
        self.name = name
        self.loader = loader
        self._batches: Iterator[Any] = iter(())
        self._given = 0

    def next(self) -> Any:
        for batch in self._batches:
            self._given += 1
            return batch
        self._batches = iter(self.loader)
        for batch in self._batches:
            self._given += 1
            return batch
        if self._given:
            raise ValueError(
                f"{self.name} must be one that can be read again, got {type(self.loader).__name__}, which "
                f"ended after {self._given} batches: give a list or a DataLoader, or one that never ends."
            )
        raise ValueError(f"{self.name} must give at least one batch, got none: is its data set empty?")


def in_pairs(rows: int, others: int, device: torch.device) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """Number the rows and others that go together: every one of both occurs, the fewer again and again in order.

    There are no pairs where there are no rows, or no others.
    """
    pairs = torch.arange(max(rows, others) if rows and others else 0, device=device)
    return pairs % max(rows, 1), pairs % max(others, 1)
