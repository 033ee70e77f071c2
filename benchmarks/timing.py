"""Time functions against each other in one process: in turn, after a warm-up, medians, ratios round by round."""

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import torch

KEPT = {"MALLOC_TRIM_THRESHOLD_": str(2**30), "MALLOC_MMAP_THRESHOLD_": str(2**30)}
"""Lets the C library keep memory that is freed: else it may hand some back and fetch it again at every call, which
depends on what was called before and can double a time."""
RESULTS = Path(os.environ.get("OODLES_BENCHMARK_RESULTS", Path(__file__).parent / "results"))


def keep_freed_memory() -> None:
    """Start the program again where the C library hands memory back; call it first."""
    if not KEPT.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **KEPT})


def ratios(
    functions: Mapping[str, Callable[[], object]], baseline: str, rounds: int = 40, repeats: int = 5
) -> dict[str, dict[str, float]]:
    """Return milliseconds per call (median over rounds) and the median ratio to ``baseline`` in the same round."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for function in functions.values():
        for _ in range(3):
            function()
    for _ in range(rounds):
        for name, function in functions.items():
            start = time.perf_counter()
            for _ in range(repeats):
                function()
            seconds[name].append((time.perf_counter() - start) / repeats)
    return {
        name: {
            "ms": round(1e3 * statistics.median(taken), 4),
            "ratio": round(statistics.median(a / b for a, b in zip(taken, seconds[baseline], strict=True)), 3),
        }
        for name, taken in seconds.items()
    }


def show(title: str, baseline: str, rows: Mapping[str, Mapping[str, float]]) -> None:
    """Print a table."""
    width = max(map(len, rows))
    print(f"\n{title} (ratio to {baseline})")
    for name, row in rows.items():
        print(f"  {name:<{width}}  {row['ms']:9.3f} ms  {row['ratio']:6.2f}")


def record(name: str, tables: Mapping[str, object]) -> None:
    """Write tables with versions and device to ``results/NAME.json``."""
    RESULTS.mkdir(exist_ok=True)
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    threads = torch.get_num_threads()
    about = {"torch": torch.__version__, "python": platform.python_version(), "device": device, "threads": threads}
    (RESULTS / f"{name}.json").write_text(json.dumps({**about, **tables}, indent=1) + "\n")
