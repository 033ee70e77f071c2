"""Pair in-distribution rows with outliers: loaders, and rows of a batch."""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from jaxtyping import Int64
from torch import Tensor


def pair(loader: Iterable[Any], outlier_loader: Iterable[Any]) -> "Pairs":
    """Pair the batches of two loaders: an epoch is the in-distribution loader, and the outliers never run out.

    When the outlier loader ends it is started again, so a shuffling loader reshuffles; each epoch goes on where the
    last one stopped, so that all outliers are used however short an epoch is.

    Args:
        loader: gives in-distribution batches; its length is the length of an epoch.
        outlier_loader: gives batches of outliers.

    Raises:
        TypeError: for what cannot be iterated over.
        ValueError: on iterating, where the outlier loader is empty, or ends and cannot be read again.

    Example:
        >>> [batch for batch in pair([1, 2, 3], ["a", "b"])]
        [(1, 'a'), (2, 'b'), (3, 'a')]
    """
    for name, given in (("loader", loader), ("outlier_loader", outlier_loader)):
        if not (hasattr(given, "__iter__") or hasattr(given, "__getitem__")) or getattr(given, "ndim", 1) == 0:
            raise TypeError(f"{name} must give batches, got {type(given).__name__}.")
    return Pairs(loader, outlier_loader)


class Pairs:
    """The batches that :func:`pair` gives: iterate over them once per epoch."""

    def __init__(self, loader: Iterable[Any], outlier_loader: Iterable[Any]):
        self.loader = loader
        self.outlier_loader = outlier_loader
        self._outliers: Iterator[Any] = iter(())
        self._given = 0

    def __len__(self) -> int:
        return len(self.loader)  # type: ignore[arg-type]  # as for any loader: only those with a length have one

    def __iter__(self) -> Iterator[tuple[Any, Any]]:
        for batch in self.loader:
            yield batch, self._next_outliers()

    def _next_outliers(self) -> Any:
        for outliers in self._outliers:
            self._given += 1
            return outliers
        self._outliers = iter(self.outlier_loader)
        for outliers in self._outliers:
            self._given += 1
            return outliers
        if self._given:
            raise ValueError(
                f"outlier_loader must be one that can be read again, got {type(self.outlier_loader).__name__}, which "
                f"ended after {self._given} batches: give a list or a DataLoader, or one that never ends."
            )
        raise ValueError("outlier_loader must give at least one batch, got none: is its data set empty?")


def in_pairs(rows: int, others: int, device: torch.device) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """Number the rows and others that go together: every one of both occurs, the fewer again and again in order.

    There are no pairs where there are no rows, or no others.
    """
    pairs = torch.arange(max(rows, others) if rows and others else 0, device=device)
    return pairs % max(rows, 1), pairs % max(others, 1)
