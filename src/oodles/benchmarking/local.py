"""Runs side by side on this machine: processes that stay, each with its share of the cores or a GPU."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any

# spawned and not forked: threads of the parent do not survive a fork, and a GPU is chosen before torch is imported
_SPAWN = get_context("spawn")


@contextmanager
def local(jobs: int | None, use_gpus: bool) -> Iterator[Callable[..., Future[Any]]]:
    """Open a function like ``Executor.submit``; when the block ends, calls that still run are killed.

    A call whose process dies raises a ``RuntimeError`` that says how it died; other calls are not affected.

    Args:
        jobs: processes side by side; one for each GPU unless given, or for each core where there are no GPUs. They
            share the cores, unless ``OMP_NUM_THREADS`` says how many threads each has.
        use_gpus: whether GPUs may be used, if there are any.
    """
    gpus = _gpus() if use_gpus else []
    jobs = side_by_side(jobs, use_gpus)
    count = threads(max(1, _cores() // jobs))
    workers = [_Worker(count, gpus[place % len(gpus)] if gpus else None) for place in range(jobs)]
    free: SimpleQueue[_Worker] = SimpleQueue()
    for worker in workers:
        free.put(worker)

    def in_a_free_worker(function: Callable[..., Any], *arguments: Any) -> Any:
        worker = free.get()
        try:
            return worker.call(function, *arguments)
        finally:
            free.put(worker)

    def submit(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
        return waiting.submit(in_a_free_worker, function, *arguments)

    waiting = ThreadPoolExecutor(jobs)
    try:
        yield submit
    finally:
        waiting.shutdown(wait=False, cancel_futures=True)
        for worker in workers:
            worker.stop()


def side_by_side(jobs: int | None, use_gpus: bool) -> int:
    """Return how many processes run side by side, see :func:`local`."""
    return jobs or (len(_gpus()) if use_gpus else 0) or _cores()


def threads(share: int) -> int:
    """Return how many threads a run has: what ``OMP_NUM_THREADS`` says, or else its share of the cores."""
    given = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()
    return int(given) if given.isdecimal() and int(given) else share


def in_threads(count: int, function: Callable[..., Any], *arguments: Any) -> Any:
    """Call a function with ``count`` threads: figures depend on their number."""
    import torch

    torch.set_num_threads(count)
    return function(*arguments)


class _Worker:
    """One process, started when it is first needed and again if it died."""

    def __init__(self, count: int, gpu: str | None) -> None:
        self._share = (count, gpu)
        self._process: Any = None
        self._connection: Connection | None = None
        self._stopped = False
        self._starting = threading.Lock()

    def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call a function in the process.

        Raises:
            RuntimeError: if the process dies before.
        """
        with self._starting:
            if self._stopped:
                raise RuntimeError("it was stopped")
            if self._connection is None:
                self._connection, theirs = _SPAWN.Pipe()
                self._process = _SPAWN.Process(target=_serve, args=(theirs, *self._share))
                self._process.start()
                theirs.close()
        try:
            self._connection.send((function, arguments))
            wait([self._connection, self._process.sentinel])
            return self._connection.recv()
        except (EOFError, OSError):
            with self._starting:
                self._process.join()
                self._connection.close()
                self._connection = None
            raise RuntimeError(f"its process {_how_it_ended(self._process.exitcode)}") from None

    def stop(self) -> None:
        """Kill the process: every file that it writes is whole at any moment."""
        with self._starting:
            self._stopped = True
            if self._process is not None:
                self._process.kill()
                self._process.join()


def _serve(connection: Connection, count: int, gpu: str | None) -> None:
    """Answer one call after another until the parent closes the connection."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent sees to it
    threading.Thread(target=_end_with_the_parent, daemon=True).start()
    os.environ["OMP_NUM_THREADS"] = str(count)
    if gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpu
    while True:
        try:
            function, arguments = connection.recv()
        except EOFError:
            return
        connection.send(in_threads(count, function, *arguments))


def _end_with_the_parent() -> None:
    """Exit when the parent does: an orphan would keep the folder that it works in locked."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _how_it_ended(code: int) -> str:
    if code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    return f"was killed by {name}{', perhaps because memory ran out' if name == 'SIGKILL' else ''}"


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _gpus() -> list[str]:
    """List GPUs as CUDA_VISIBLE_DEVICES names them."""
    import torch

    visible = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    count = torch.cuda.device_count()
    return visible[:count] or [str(number) for number in range(count)]
