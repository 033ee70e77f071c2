"""Sums, means and rows over all processes, differentiable, so that several processes train as one does."""

import torch
import torch.distributed as dist
import torch.distributed.nn.functional  # what torch imports late would keep the group, and its threads, past its end
from jaxtyping import Float, Shaped
from torch import Tensor
from torch.distributed import _functional_collectives as collectives

from oodles.checks import shapes_checked


def rank() -> int:
    """Return this process's number, from 0."""
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def process_count() -> int:
    """Return how many processes train together."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


@shapes_checked
def sum_over_processes(values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
    """Sum a tensor over all processes, number by number; differentiable in each.

    A statistic of the batch that enters a non-linear function has to come from here, from :func:`mean_over_processes`
    or from :func:`rows_of_all_processes`: then several processes give the gradients of one.
    """
    if process_count() == 1:
        return values
    total: Tensor = collectives.all_reduce(values, "sum", _everybody())
    return total


@shapes_checked
def mean_over_processes(values: Shaped[Tensor, "*shape"]) -> tuple[Float[Tensor, ""], Tensor | int]:
    """Return the mean of ``values`` over all processes, differentiable in each, and how many values there are.

    The mean of no values is zero.
    """
    total, count = values.sum(), values.numel()
    if process_count() == 1:
        return total / max(count, 1), count
    both = sum_over_processes(torch.stack([total, torch.full_like(total, count)]))
    return both[0] / both[1].clamp(min=1), both[1]


@shapes_checked
def rows_of_all_processes(rows: Shaped[Tensor, " n *shape"]) -> tuple[Shaped[Tensor, " m *shape"], int]:
    """Return the rows of all processes, in order of rank, and where those of this one begin; differentiable in each.

    Every process must give the same number of rows.

    Raises:
        ValueError: for other numbers of rows in other processes; on CPUs, since elsewhere looking would wait.
    """
    if process_count() == 1:
        return rows, 0
    if rows.device.type == "cpu" and not torch.compiler.is_compiling():
        most = torch.tensor([len(rows), -len(rows)])
        dist.all_reduce(most, dist.ReduceOp.MAX)
        if int(most[0]) != -int(most[1]):
            raise ValueError(
                f"rows must be as many in every process, got {-int(most[1])} to {int(most[0])}: "
                "drop the last batch of an epoch."
            )
    gathered = collectives.all_gather_tensor_autograd(rows.contiguous(), 0, _everybody())
    return gathered, rank() * len(rows)


def _everybody() -> list[int]:
    return list(range(process_count()))
