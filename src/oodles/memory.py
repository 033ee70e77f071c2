"""Tell the C library what to do with memory that is freed, since what suits one large process wastes a worker's."""

import ctypes
from contextlib import suppress

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # as glibc's malloc.h numbers them


def keep_freed_memory() -> None:
    """Let glibc keep up to a gigabyte that is freed; else every batch fetches its memory from the system anew."""
    _set(_TRIM_THRESHOLD, 2**30)
    _set(_MMAP_THRESHOLD, 2**30)


def hand_back_memory(worker: int) -> None:
    """Let glibc hand back memory as soon as it is freed; in a worker, batches of images leave it in pieces otherwise.

    Args:
        worker: its number, which loaders tell.
    """
    _set(_TRIM_THRESHOLD, 2**20)
    _set(_MMAP_THRESHOLD, 2**20)  # larger blocks are mapped, each by itself


def _set(parameter: int, value: int) -> None:
    with suppress(AttributeError, OSError):  # of other C libraries
        ctypes.CDLL(None).mallopt(parameter, value)
