"""Runs on a Ray cluster: each is a task that another machine takes over if its own is lost."""

import math
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any

from oodles.benchmarking.local import in_threads, threads

RETRIES = 3
"""How often a run is taken over; it resumes from its last saved state."""


@contextmanager
def cluster(jobs: int | None, use_gpus: bool, address: str | None) -> Iterator[Callable[..., Future[Any]]]:
    """Open a function like ``Executor.submit``; when the block ends, calls that still run are cancelled.

    Args:
        jobs: calls side by side: each gets a share of the GPUs or cores such that this many fit, or a few more; one
            for each GPU unless given, or for each core where there are no GPUs. A call has as many threads as cores,
            unless ``OMP_NUM_THREADS`` says how many.
        use_gpus: whether calls ask for GPUs, if there are any.
        address: of a running cluster; unless given, one that runs on this machine, or else a new one.

    Raises:
        ImportError: without Ray.
        ConnectionError: where no cluster answers.
    """
    try:
        import ray
    except ImportError:
        raise ImportError("The engine 'ray' needs Ray: pip install 'oodles[cluster]'.") from None
    ours = not ray.is_initialized()
    if ours:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is sent anywhere unasked
        ray.init(address=address, log_to_driver=False, logging_level="warning")
    running: list[Any] = []
    try:
        share = _share(ray.nodes(), jobs, use_gpus)

        def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
            task = ray.remote(max_retries=RETRIES, **share)(in_threads).options(name=str(arguments[0]))
            running.append(task.remote(threads(int(share["num_cpus"])), function, *arguments))
            future: Future[Any] = running[-1].future()
            return future

        yield submit
    finally:
        for reference in running:  # without effect on those that have ended
            ray.cancel(reference, force=True)
        if ours:
            ray.shutdown()


def _share(nodes: list[dict[str, Any]], jobs: int | None, use_gpus: bool) -> dict[str, float]:
    """Return the share of cores and GPUs that one call gets, no more than one machine has."""
    alive = [node["Resources"] for node in nodes if node["Alive"]]
    cores = [int(resources.get("CPU", 0)) for resources in alive]
    gpus = sum(resources.get("GPU", 0) for resources in alive) if use_gpus else 0
    if gpus:
        part = 1 / math.ceil(jobs / gpus) if jobs else 1.0
        return {"num_gpus": part, "num_cpus": 1}
    return {"num_cpus": min(max(1, sum(cores) // jobs), max(cores)) if jobs else 1}
