"""Run the cases of one of two processes; see test_two_processes.py."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from oodles import SAM, Batch, Classifier, Part, TrainingStep, mean_over_processes, rows_of_all_processes
from oodles.targets import cross_entropy_of_checked

from ..contract.networks import batch, classifier
from ..contract.rows import ROWS, Row
from ..contract.steps import belongs_to_rows, map_tensors, total


@dataclass(frozen=True)
class Case:
    """A method, a classifier in float64 and the prepared rows of both processes."""

    row: Row
    net: Classifier
    prepared: Batch

    def step(self) -> TrainingStep:
        torch.manual_seed(0)
        return TrainingStep(self.net, *self.row.methods())


class Traced(nn.Module):
    """The traced half alone, for rows that are prepared already."""

    def __init__(self, step: TrainingStep):
        super().__init__()
        self.step = step

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        return self.step.losses(batch)


def shard(batch: Batch, rank: int, world: int) -> Batch:
    """Return the consecutive rows of one process: different ones in each."""

    def own(value: Tensor) -> Tensor:
        return value.tensor_split(world)[rank]

    parts = map_tensors(Batch(batch.parts), own).parts
    split = {name: own(draw) for name, draw in batch.draws.items() if belongs_to_rows(draw, batch, "id", "wild")}
    draws = {**batch.draws, **split}
    return Batch(parts, draws, batch.weights)


def outcome(step: TrainingStep, module: nn.Module, given: Batch) -> dict[str, Tensor]:
    """The mean of each term, and the gradients and buffers after one step."""
    step.zero_grad()
    terms = module(given)
    total(terms).backward()
    step.after_update()
    found = {f"term {name}": value.detach() for name, value in terms.items()}
    found |= {f"gradient {name}": p.grad.clone() for name, p in step.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": value.clone() for name, value in step.named_buffers()}


def work(rank: int, world: int, folder: str) -> None:
    """Run every case on this process's rows and leave the results in ``folder``."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    try:
        cases: dict[str, Case] = torch.load(Path(folder, "cases.pt"), weights_only=False)
        results: dict[str, Any] = {
            "outcomes": {name: _outcome(case, rank, world) for name, case in cases.items()},
            "batches": {},
            "whole steps": {},
            "means": [_mean(values, rank) for values in MEANS],
        }
        rows = {name.split("/")[0]: case.row for name, case in cases.items() if name.count("/") == 1}
        for name, row in rows.items():
            kind = row.kinds[0]
            step = TrainingStep(classifier(kind), *row.methods(), seed=7)
            results["batches"][name] = [step.prepare(batch(kind)) for _ in range(2)]
            results["whole steps"][name] = _whole_step(row, kind, rank)
        results["other weights"] = _other_weights(rank, world)
        results["unequal"] = _unequal(rank)
        results["class weights"] = weighted(rank, world)
        results["void"] = {key: _void(*key, rank, world) for key in VOID}
        results["compiled"] = _compiled(cases["energy-gap/vectors"], rank, world)
        torch.save(results, Path(folder, f"{rank}.pt"))
        dist.barrier()
    finally:
        dist.destroy_process_group()
    Path(folder, f"{rank}.json").write_text(json.dumps(threads_of_a_group()))


def threads_of_a_group() -> list[str]:
    """Return the names of threads that take the work of a process group on CPUs; empty where names are not told."""
    names = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in names if name == "pt_gloo_runloop"]


MEANS = [([1.0, 2.0, 3.0], [10.0]), ([1.0, 2.0], []), ([], [])]
"""Values on the first and on the second process."""


def _mean(values: tuple[list[float], list[float]], rank: int) -> tuple[float, float, list[float]]:
    mine = torch.tensor(values[rank], dtype=torch.float64, requires_grad=True)
    mean, count = mean_over_processes(mine)
    (mean**2).backward()
    assert mine.grad is not None
    return mean.item(), count.item(), mine.grad.tolist()


def _outcome(case: Case, rank: int, world: int) -> dict[str, Tensor]:
    step = case.step()
    return outcome(step, DistributedDataParallel(Traced(step)), shard(case.prepared, rank, world))


def _compiled(case: Case, rank: int, world: int) -> dict[str, Tensor]:
    step = case.step()
    step.compile(backend="aot_eager")
    return outcome(step, DistributedDataParallel(Traced(step)), shard(case.prepared, rank, world))


def weighted(rank: int, world: int) -> list[Tensor]:
    """Return the mean gradient over processes of a weighted cross-entropy, for class ids and for probabilities."""
    generator = torch.Generator().manual_seed(5)
    logits, soft = (torch.randn(8, 3, generator=generator, dtype=torch.float64) for _ in range(2))
    weights, slopes = torch.tensor([0.5, 1.0, 3.0]), []
    for targets in (torch.tensor([0, 0, 0, 1, 2, 2, 1, 2]), soft.softmax(1)):
        factor = torch.ones(3, dtype=torch.float64, requires_grad=True)
        rows, own = (value.tensor_split(world)[rank] for value in (logits, targets))
        cross_entropy_of_checked(rows * factor, own, weights).backward()
        assert factor.grad is not None
        if world > 1:
            dist.all_reduce(factor.grad)
        slopes.append(factor.grad / world)
    return slopes


def _unequal(rank: int) -> str:
    """Gather other numbers of rows from each process, which is refused in all of them."""
    try:
        rows_of_all_processes(torch.ones(3 + rank, 2))
    except ValueError as error:
        return str(error)
    return ""


VOID = [(name, even) for name in ("outlier-exposure", "energy-gap", "mcd", "objectosphere") for even in (True, False)]
"""Methods with void pixels, as many in each process or not."""


def void_batch(even: bool) -> Batch:
    """Draw pictures with void pixels: with ``even``, the last half of them has as many as the first."""
    given = batch("dense", dtype=torch.float64)
    parts = {}
    for role, part in given.parts.items():
        order = torch.rand(2, len(part) // 2 * 64, generator=torch.Generator().manual_seed(4)).argsort(1)
        counts = order < torch.tensor([[40], [40 if even else 90]])
        parts[role] = Part(part.inputs, part.targets, valid=counts.reshape(len(part), 8, 8))
    return Batch(parts)


def _void(name: str, even: bool, rank: int, world: int) -> dict[str, Tensor]:
    torch.manual_seed(0)
    step = TrainingStep(classifier("dense", dtype=torch.float64), *ROWS[name].methods())
    given = void_batch(even)
    own = {role: part.take(torch.arange(len(part)).tensor_split(world)[rank]) for role, part in given.parts.items()}
    return outcome(step, DistributedDataParallel(Traced(step)), step.prepare(Batch(own)))


def _other_weights(rank: int, world: int) -> dict[str, Tensor]:
    """What is added to the weights where it follows the gradient over all processes."""
    net, given = classifier("images", dtype=torch.float64), batch("images", dtype=torch.float64)
    ((_, change),) = TrainingStep(net, SAM()).prepare(shard(given, rank, world)).weights
    return dict(change)


def _whole_step(row: Row, kind: str, rank: int) -> dict[str, Tensor]:
    """Two steps of training with everything inside DDP, each process with data of its own."""
    wrapped = DistributedDataParallel(TrainingStep(classifier(kind), *row.methods()))
    optimizer = torch.optim.SGD(wrapped.parameters(), lr=0.1)
    for seed in range(2):
        optimizer.zero_grad()
        total(wrapped(batch(kind, seed=10 * seed + rank))).backward()
        optimizer.step()
    return {name: value.detach().clone() for name, value in wrapped.module.classifier.state_dict().items()}
