"""Many runs at once: ``oodles demo`` and ``oodles benchmark``."""

import shutil
import sys
from pathlib import Path
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from oodles.cli.flags import (
    Count,
    Folder,
    Folders,
    OptionalCount,
    OptionalName,
    OptionalPath,
)
from oodles.cli.shown import print_json, print_result, say


def demo(*, to: Folder = Path("oodles-demo"), seeds: Count = 5, jobs: OptionalCount = None) -> int:
    """Train methods with several seeds on real images, compare them and write a report; takes a minute or two.

    It is the benchmark demo, a part of the benchmark digits. Finished runs are kept: the same command resumes it.

    Args:
        to: folder for the runs and report.html.
        seeds: how many seeds for each method.
        jobs: processes side by side; as many as there are cores unless given.
    """
    return benchmark("demo", to=to, seeds=seeds, jobs=jobs)


def benchmark(
    file: Annotated[str, Positional, arg(metavar="FILE")],
    /,
    *,
    to: OptionalPath = None,
    seeds: OptionalCount = None,
    jobs: OptionalCount = None,
    root: Folders = (),
    engine: Literal["local", "ray"] = "local",
    address: OptionalName = None,
    json: bool = False,
) -> int:
    """Train recipes on suites with several seeds, many runs side by side, compare them and write a report.

    oodles benchmark digits

    oodles benchmark benchmark.toml --jobs 4

    Finished runs are kept: the same command resumes it. A run that fails does not stop the others.

    Args:
        file: a TOML file, or the name of a benchmark that comes with the package.
        to: folder for the runs, results.jsonl, results.md and report.html; oodles-NAME unless given.
        seeds: how many seeds, in place of the file's.
        jobs: runs side by side; one for each GPU unless given, or for each core without GPUs.
        root: where the files of the suites are, in place of what the file says.
        engine: this machine, or a Ray cluster.
        address: of a running Ray cluster.
        json: print one JSON document.
    """
    from oodles.benchmarking.running import benchmark as run_benchmark

    done = run_benchmark(file, to, seeds=seeds, jobs=jobs, root=root, engine=engine, address=address)
    if json:
        compared = done.comparison.as_dict() if done.comparison else {}
        print_json({"folder": str(done.folder), "failed": done.failed, **compared})
    elif done.comparison:
        print(done.comparison.to_text(width=shutil.get_terminal_size((100, 24)).columns, color=sys.stdout.isatty()))
        print_result(f"\nThe report with pictures: {done.folder / 'report.html'}")
    if done.failed:
        say(done.failures)
    return 1 if done.failed else 0
