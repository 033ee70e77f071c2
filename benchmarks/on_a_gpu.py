"""Do everything that waits for a GPU, a step at a time: python benchmarks/on_a_gpu.py --root path/to/images --to FOLDER

Every step runs in a process of its own and has nine minutes; what it finds lies in FOLDER/results, what it prints in
FOLDER/logs. The same command goes on where it was stopped: steps that are done are not repeated, and a training that
met the limit resumes from its last saved state. Runs of the benchmark are steps of their own, first of all rows with
one seed, then with the next.

    --list                 what there is to do, and what is done
    --only tests waits     these steps alone, again if they are done; also the beginning of a name
    --minutes 9            begin no step that may not end within so many minutes from now
    --device cpu --tiny    try all of it without a GPU: small images, a small network, a short training
"""

import argparse
import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from oodles.methods import METHODS

HERE = Path(__file__).resolve()
REPOSITORY = HERE.parent.parent
LIMIT = 530
"""Seconds that a step may take."""
WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize", "cudaMemcpy")
"""Calls of CUDA in which the host waits."""
READS = ("aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero")
"""Operations that read values; on a GPU they wait."""
COMPILED = ("cross-entropy", "outlier-exposure", "logit-norm", "mixup", "pixmix")
"""Methods whose compiled steps are timed: compiling takes a while."""


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    name: str
    about: str
    act: Callable[[], Any]
    """Called in a process of its own; what it returns is written to ``results/NAME.json``."""


class Work:
    """The steps for one device and one folder."""

    def __init__(self, flags: argparse.Namespace):
        self.to = Path(flags.to).resolve()
        self.root: list[str] = [str(Path(folder).resolve()) for folder in flags.root]
        self.device: str = flags.device
        self.tiny: bool = flags.tiny
        self.methods = COMPILED[:2] if flags.tiny else tuple(METHODS)
        self.suite, self.network = ("digits", "small-cnn") if flags.tiny else ("cifar10", "resnet-18")

    def steps(self) -> list[Step]:
        """List all steps in their order."""
        steps = [
            Step("about", "versions and devices", self.about),
            Step("tests", "the tests that need a GPU", self.tests),
            Step("waits", "calls in a step of each method for which the host waits", self.waits),
            Step("costs-float32", "a step of each method over a plain one and over a bare loop", self.costs),
            Step("costs-bf16", "the same in bfloat16", lambda: self.costs(half=True)),
            Step("costs-compiled", "some of them compiled, in bfloat16", lambda: self.costs(half=True, compiled=True)),
            Step("loop", "images per second against a loop written by hand", self.loop),
            Step(
                "cold-start", f"{self.network} on {self.suite}, from the start of Python to all scores", self.cold_start
            ),
        ]
        benchmark = self.benchmark()
        for seed in benchmark.seeds:
            for row in benchmark.rows:
                act = lambda name=row.name, seed=seed: self.run_of_benchmark(name, seed)  # noqa: E731
                steps.append(Step(f"{benchmark.name} {row.name} {seed}".replace(" + ", "+"), "a run", act))
        return steps

    def benchmark(self) -> Any:
        """Return the benchmark, whose rows stand in order of interest."""
        from oodles.benchmarking.description import Benchmark

        whole = Benchmark.load("cifar10")
        options = {**whole.options, "device": self.device}
        if not self.tiny:
            return replace(whole, options=options)
        rows = [row for row in whole.rows if row.name in ("cross-entropy", "outlier-exposure")]
        short = tuple(replace(row, recipe=replace(row.recipe, epochs=1)) for row in rows)
        return replace(whole, rows=short, suites={"digits": "digits"}, seeds=(0,), options={"device": self.device})

    def about(self) -> dict[str, Any]:
        import torch

        import oodles

        versions = {"oodles": oodles.__version__, "torch": torch.__version__, "python": platform.python_version()}
        if self.device == "cpu":
            return {**versions, "device": "cpu"}
        gpu = torch.cuda.get_device_properties(0)
        return {**versions, "device": gpu.name, "memory": gpu.total_memory, "cuda": torch.version.cuda}

    def tests(self) -> dict[str, Any]:
        marked = [path for path in sorted((REPOSITORY / "tests").rglob("test_*.py")) if "mark.gpu" in path.read_text()]
        run([sys.executable, "-m", "pytest", "-q", "-rs", "-m", "gpu", "-p", "no:cacheprovider", *map(str, marked)])
        return {"files": [str(path.relative_to(REPOSITORY)) for path in marked]}

    def waits(self) -> dict[str, Any]:
        """Profile the third step of each method: calls for which the host waited, and operations that read values."""
        import torch
        from torch.profiler import ProfilerActivity, profile, record_function

        found: dict[str, Any] = {}
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if self.device == "cuda" else [])]
        for name in self.methods:
            train = self.training(name, rows=16)
            for _ in range(2):  # the first batch is read, to look at its labels
                train()
            self.wait()
            with profile(activities=activities) as profiler:
                with record_function("one step"):
                    train()
                self.wait()
            events = list(profiler.events())
            whole = next(event.time_range for event in events if event.name == "one step")
            inside = [event.name for event in events if whole.start <= event.time_range.start < whole.end]
            found[name] = {kind: inside.count(kind) for kind in (*WAITS, *READS) if kind in inside}
            print(name, found[name] or "waits for nothing", flush=True)
        waiting = [name for name, kinds in found.items() if set(kinds) & set(WAITS)]
        assert not waiting, f"The host waits in a step of {', '.join(waiting)}."
        return {"torch": torch.__version__, "methods": found}

    def costs(self, *, half: bool = False, compiled: bool = False) -> dict[str, Any]:
        """Time steps in turn, in milliseconds: medians, and their ratios to a plain step and to a bare loop."""
        import torch
        from timing import ratios

        torch.backends.cudnn.benchmark = True
        rows, rounds = (8, 2) if self.tiny else (128, 12)
        bare, plain = self.bare_loop(rows, half), self.training("cross-entropy", rows, half, compiled)
        table = {}
        for name in [name for name in self.methods if name in COMPILED or not compiled]:
            functions = {"bare": bare, "plain": plain, name: self.training(name, rows, half, compiled)}
            timed = {key: self.finished(function) for key, function in functions.items()}
            over = ratios(timed, "bare", rounds=rounds, repeats=1)
            own = over[name]
            table[name] = {
                "ms": own["ms"],
                "over bare": own["ratio"],
                "over plain": round(own["ms"] / over["plain"]["ms"], 3),
            }
            print(name, table[name], flush=True)
        return {"torch": torch.__version__, "rows": rows, "network": self.network, "methods": table}

    def loop(self) -> None:
        short = ["--rounds", "1", "--rows", "300"] if self.tiny else ["--channels-last", "--rounds", "3"]
        root = ["--root", *self.root] if self.root else []
        where = {"OODLES_BENCHMARK_RESULTS": str(self.to / "results")}
        script = str(HERE.with_name("training.py"))
        run([sys.executable, script, self.suite, self.network, "--device", self.device, *root, *short], where)

    def cold_start(self) -> dict[str, Any]:
        folder = self.to / "cold-start"
        shutil.rmtree(folder, ignore_errors=True)  # half a run is no cold start
        flags = ["--recipe", "fast", "--data", self.suite, "--network", self.network, "--device", self.device]
        flags += [*(["--root", *self.root] if self.root else []), *(["--epochs", "1"] if self.tiny else [])]
        begin = time.perf_counter()
        run([sys.executable, "-m", "oodles", "train", "cross-entropy", "--to", str(folder), *flags])
        result = json.loads((folder / "result.json").read_text())
        return {
            "network": self.network,
            "suite": self.suite,
            "accuracy": result["test_accuracy"],
            "seconds of training": round(result["seconds"], 3),
            "seconds from cold start": round(time.perf_counter() - begin, 1),
            "metrics": result["metrics"],
        }

    def run_of_benchmark(self, row: str, seed: int) -> None:
        """Train one row, and those that it starts from; then write the results of all runs that have ended."""
        from oodles.benchmarking.running import benchmark
        from oodles.comparing.comparison import compare
        from oodles.comparing.results import result_of, write_results
        from oodles.runs.folder import RESULT
        from oodles.runs.opened import open_run

        whole, folder = self.benchmark(), self.to / "benchmark"
        by_name = {entry.name: entry for entry in whole.rows}
        wanted = [by_name[row]]
        while wanted[0].after:
            wanted.insert(0, by_name[wanted[0].after])
        done = benchmark(
            replace(whole, rows=tuple(wanted)), folder, seeds=[seed], jobs=1, root=self.root, progress=False
        )
        results = [
            replace(result_of(open_run(task.folder)), label=task.row)
            for task in whole.tasks(folder)
            if (task.folder / RESULT).is_file()
        ]
        write_results(self.to / "results" / f"{whole.name}.jsonl", results)
        if results:
            compare(results).write(self.to / "results" / f"{whole.name}.md")
        assert not done.failed, done.failures

    # what is timed and profiled

    def data(self, rows: int) -> tuple[Any, Any, Any]:
        import torch

        side = 16 if self.tiny else 32
        x, outliers = (torch.rand(rows, 3, side, side, device=self.device) for _ in range(2))
        return x, torch.arange(rows, device=self.device) % 10, outliers

    def classifier(self) -> Any:
        import torch

        from oodles.networks import build_network

        torch.manual_seed(0)
        shape = (3, 16, 16) if self.tiny else (3, 32, 32)
        about = {"mean": (0.5,) * 3, "std": (0.25,) * 3}
        network = build_network(self.network, num_classes=10, input_shape=shape, **about).to(self.device)
        return network.to(memory_format=torch.channels_last)

    def training(self, name: str, rows: int, half: bool = False, compiled: bool = False) -> Callable[[], None]:
        """Return a function that trains on one batch by a method."""
        import torch

        from oodles import OutlierExposure, TrainingStep
        from oodles.facts import trains_on
        from oodles.methods import method_class

        cls = method_class(name)
        prepares = "outliers" in (*cls.needs, *cls.adds) and not trains_on("outliers", cls)
        beside = [OutlierExposure()] if prepares else []  # refused alone
        step = TrainingStep(self.classifier(), cls(), *beside).to(self.device)
        if compiled:
            step.compile(**({"backend": "eager"} if self.tiny else {}))
        optimizer = torch.optim.SGD(step.parameter_groups(0.001), momentum=0.9)
        x, y, outliers = self.data(rows)
        given = outliers if "outliers" in cls.needs else None

        def train() -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=half):
                terms = step((x, y), given)
            optimizer.zero_grad()
            torch.stack(list(terms.values())).sum().backward()
            optimizer.step()
            step.after_update()

        return train

    def bare_loop(self, rows: int, half: bool) -> Callable[[], None]:
        import torch

        model = self.classifier()
        optimizer = torch.optim.SGD(model.parameters(), 0.001, momentum=0.9)
        x, y, _ = self.data(rows)

        def train() -> None:
            with torch.autocast(self.device, torch.bfloat16, enabled=half):
                logits = model(x)
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(logits.float(), y).backward()
            optimizer.step()

        return train

    def finished(self, function: Callable[[], None]) -> Callable[[], None]:
        """Return the function with a wait for what it has begun."""

        def whole() -> None:
            function()
            self.wait()

        return whole

    def wait(self) -> None:
        import torch

        if self.device == "cuda":
            torch.cuda.synchronize()


def run(command: Sequence[str], more: dict[str, str] | None = None) -> None:
    """Run a command that must end well."""
    subprocess.run(command, check=True, cwd=REPOSITORY, env={**os.environ, **(more or {})})


def go(work: Work, flags: argparse.Namespace) -> int:
    """Do the steps that are left; return how many failed."""
    steps, file = work.steps(), work.to / "state.json"
    state: dict[str, Any] = json.loads(file.read_text()) if file.is_file() else {}
    if flags.list:
        width = max(len(step.name) for step in steps)
        for step in steps:
            print(f"{step.name:<{width}}  {state.get(step.name, {}).get('status', 'to do'):<8}  {step.about}")
        return 0
    if work.device == "cuda" and not has_gpu():
        print("There is no GPU here: say --device cpu --tiny to try the steps without one.")
        return 1
    if flags.only:
        steps = [step for step in steps if any(step.name.startswith(name) for name in flags.only)]
    else:
        steps = [step for step in steps if state.get(step.name, {}).get("status") != "done"]
    begin, failed = time.monotonic(), 0
    for step in steps:
        limit = LIMIT
        if flags.minutes is not None:
            left = 60 * flags.minutes - (time.monotonic() - begin)
            usual = state.get(step.name, {}).get("seconds", 0)
            if left < max(60, usual):
                break
            limit = min(limit, int(left))
        status, seconds = do(step, flags, work.to, limit)
        failed += status == "failed"
        state[step.name] = {"status": status, "seconds": round(seconds, 1)}
        part = file.with_suffix(".part")
        part.write_text(json.dumps(state, indent=1) + "\n")
        part.replace(file)
        print(f"{step.name}: {status}, {seconds:.0f} s", flush=True)
    shutil.copy(file, work.to / "results") if file.is_file() else None
    return failed


def do(step: Step, flags: argparse.Namespace, to: Path, limit: float) -> tuple[str, float]:
    """Run a step in a process of its own; return how it ended and the seconds it took."""
    for name in ("logs", "results"):
        (to / name).mkdir(parents=True, exist_ok=True)
    command = [sys.executable, str(HERE), "--to", str(to), "--device", flags.device, "--inside", step.name]
    command += [*(["--tiny"] if flags.tiny else []), *(["--root", *flags.root] if flags.root else [])]
    begin = time.monotonic()
    with (to / "logs" / f"{step.name}.txt").open("w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        try:
            status = "failed" if process.wait(limit) else "done"
        except subprocess.TimeoutExpired:
            status = "stopped"
        finally:
            if process.poll() is None:  # with all that it has started
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    return status, time.monotonic() - begin


def has_gpu() -> bool:
    import torch

    return torch.cuda.is_available()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", default="on-a-gpu", metavar="FOLDER")
    parser.add_argument("--root", nargs="*", default=(), metavar="FOLDER", help="where the images are")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="*", metavar="STEP")
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    work = Work(flags)
    if not flags.inside:
        return min(go(work, flags), 1)
    (step,) = [step for step in work.steps() if step.name == flags.inside]
    found = step.act()
    if found is not None:
        (work.to / "results" / f"{step.name}.json").write_text(json.dumps(found, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
