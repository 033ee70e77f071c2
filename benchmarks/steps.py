"""Time a training step of each method over a plain step with as many rows: python benchmarks/steps.py

As many rows as the method forwards, also while it prepares the batch. The optimizer's step is not timed.

Time methods that make, choose, change or learn from outliers over Outlier Exposure that keeps as many.

Time each loss term, forward and backward, over ``F.cross_entropy`` on the same rows.

Time in microseconds what the engine adds to a step of a tiny network, over a loop that does the same by hand.
"""

import math
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from timing import keep_freed_memory, ratios, record, show
from torch import nn

from oodles import (
    Classifier,
    LogitNorm,
    Method,
    Mixup,
    OutlierExposure,
    OutlierExposureLoss,
    TrainingStep,
    mixup_criterion,
    mixup_data,
)
from oodles.facts import CHOICE, ROLES, prepares_outliers
from oodles.methods import METHODS, method_class
from oodles.methods.energy_bounded import energy_hinge
from oodles.methods.energy_gap import energy_gap
from oodles.methods.logit_norm import normalized
from oodles.methods.outlier_exposure import cross_entropy_to_uniform
from oodles.targets import cross_entropy


def classifier() -> Classifier:
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for width_in, width_out in ((3, 32), (32, 64), (64, 64)):
        layers += [nn.Conv2d(width_in, width_out, 3, padding=1), nn.BatchNorm2d(width_out), nn.ReLU(), nn.MaxPool2d(2)]
    return Classifier(nn.Sequential(*layers, nn.Flatten()), nn.Linear(64 * 16, 10))


ROWS, ROUNDS = 64, 9


def step_costs() -> dict[str, dict[str, float]]:
    """Time each method against plain training on as many rows as the method forwards."""
    x, y, outliers = torch.rand(ROWS, 3, 32, 32), torch.arange(ROWS) % 10, torch.rand(ROWS, 3, 32, 32)
    table = {}
    for name in METHODS:
        cls = method_class(name)
        taught = {"teacher": classifier()} if "teacher" in cls.needs else {}
        method = cls(**taught) if name != "cross-entropy" else cls(label_smoothing=0.1)
        beside = [OutlierExposure()] if prepares_outliers(cls) else []  # refused alone
        step, plain = TrainingStep(classifier(), method, *beside), TrainingStep(classifier())
        given = {role: outliers for role in ROLES if role in method.needs}

        def run(step: TrainingStep = step, given: dict[str, torch.Tensor] = given) -> None:
            step.zero_grad()
            torch.stack([*step((x, y), **given).values()]).sum().backward()

        times = count_forwarded(step, run) / ROWS
        count = round(times * ROWS)  # there may be half as many outliers as known rows
        plain_batch = tuple(rows.repeat(math.ceil(times), *[1] * (rows.ndim - 1))[:count] for rows in (x, y))

        def run_plain(plain: TrainingStep = plain, batch: tuple[torch.Tensor, ...] = plain_batch) -> None:
            plain.zero_grad()
            plain(batch)["cross_entropy"].backward()

        rounds = ROUNDS if times < 8 else 5
        cost = ratios({"plain": run_plain, name: run}, "plain", rounds=rounds, repeats=1)[name]
        table[name] = {"rows": times, **cost}
    return table


CANDIDATES = 4
"""Outliers that a method which chooses gets for each one that it keeps."""


def outlier_costs() -> dict[str, dict[str, float]]:
    """Time methods that make, choose, change or learn from outliers over Outlier Exposure with as many of them kept."""
    x, y, outliers = torch.rand(ROWS, 3, 32, 32), torch.arange(ROWS) % 10, torch.rand(CANDIDATES * ROWS, 3, 32, 32)
    exposed = TrainingStep(classifier(), OutlierExposure())

    def run(step: TrainingStep, given: torch.Tensor | None) -> None:
        step.zero_grad()
        torch.stack([*step((x, y), given).values()]).sum().backward()

    table = {}
    for name in METHODS:
        cls = method_class(name)
        if "outliers" not in (*cls.needs, *cls.adds) or name == "outlier-exposure":
            continue
        chooses = CHOICE in cls.replaces
        makes = "outliers" in cls.adds
        method = cls(**({"kept": ROWS} if chooses else {"share": 1.0} if makes else {}))
        step = TrainingStep(classifier(), method, *([OutlierExposure()] if prepares_outliers(cls) else []))
        given = None if makes else outliers if chooses else outliers[:ROWS]
        timed = {"plain": partial(run, exposed, outliers[:ROWS]), name: partial(run, step, given)}
        table[name] = {
            "candidates": CANDIDATES if chooses else 1,
            **ratios(timed, "plain", rounds=ROUNDS, repeats=1)[name],
        }
    return table


def count_forwarded(step: TrainingStep, run: Callable[[], None]) -> int:
    """Count the rows that go through the backbone in one step."""
    sizes: list[int] = []
    hook = step.classifier.backbone.register_forward_hook(lambda module, inputs, features: sizes.append(len(features)))
    run()
    hook.remove()
    return sum(sizes)


def term_costs() -> dict[str, dict[str, float]]:
    """Time forward and backward of each term, on 256 rows of 100 classes."""
    logits, y = torch.randn(256, 100, requires_grad=True), torch.arange(256) % 100
    logits_in, logits_out = (torch.randn(128, 100, requires_grad=True) for _ in range(2))

    def both_ways(term: Callable[[], torch.Tensor]) -> Callable[[], None]:
        return lambda: term().backward()

    terms = {
        "F.cross_entropy": lambda: F.cross_entropy(logits, y),
        "cross_entropy": lambda: cross_entropy(logits, y),
        "outlier_exposure": lambda: cross_entropy_to_uniform(logits),
        "energy_bounded": lambda: energy_hinge(logits_in, logits_out, -25.0, -7.0),
        "energy_gap": lambda: energy_gap(logits_in, logits_out, 10.0),
        "logit_norm": lambda: cross_entropy(normalized(logits, 0.04), y),
    }
    return ratios({name: both_ways(term) for name, term in terms.items()}, "F.cross_entropy", rounds=100, repeats=20)


Loop = Callable[[nn.Module], torch.Tensor]


def overheads(rounds: int = 200, repeats: int = 20) -> dict[str, dict[str, float]]:
    """Time steps of a network that costs next to nothing, plain and with methods, over the same written by hand."""
    x, y, outliers = torch.rand(8, 8), torch.arange(8) % 3, torch.rand(8, 8)
    norm, exposure = LogitNorm(), OutlierExposureLoss()

    def mixed(model: nn.Module, loss: Callable[[torch.Tensor, torch.Tensor], torch.Tensor]) -> torch.Tensor:
        mixed_x, y_a, y_b, lam = mixup_data(x, y)
        return mixup_criterion(loss, model(mixed_x), y_a, y_b, lam)

    def exposed(model: nn.Module) -> torch.Tensor:
        logits_in, logits_out = model(torch.cat([x, outliers])).split([len(x), len(outliers)])
        return exposure(logits_in, y, logits_out)

    by_hand: dict[str, tuple[Loop, tuple[Method, ...]]] = {
        "cross-entropy": (lambda model: F.cross_entropy(model(x), y), ()),
        "outlier-exposure": (exposed, (OutlierExposure(),)),
        "logit-norm": (lambda model: norm(model(x), y), (LogitNorm(),)),
        "mixup": (lambda model: mixed(model, F.cross_entropy), (Mixup(),)),
        "mixup + logit-norm": (lambda model: mixed(model, norm), (Mixup(), LogitNorm())),
    }
    table = {}
    for name, (loop, methods) in by_hand.items():
        torch.manual_seed(0)
        model, tiny = (Classifier(nn.Linear(8, 16), nn.Linear(16, 3)) for _ in range(2))
        step = TrainingStep(tiny, *methods)
        given = outliers if any(method.needs for method in methods) else None

        def bare(model: nn.Module = model, loop: Loop = loop) -> torch.Tensor:
            return loop(model)

        def ours(step: TrainingStep = step, given: torch.Tensor | None = given) -> torch.Tensor:
            return sum(step((x, y), given).values())  # type: ignore[return-value]

        table[name] = added({"by hand": bare, "step": ours}, [*model.parameters(), *step.parameters()], rounds, repeats)
    return table


def added(
    losses: dict[str, Callable[[], torch.Tensor]], parameters: list[nn.Parameter], rounds: int, repeats: int
) -> dict[str, float]:
    """Return the microseconds of two losses, forward and backward, in the least disturbed round, and what differs.

    Seconds of this process, since others may run beside it."""
    least = dict.fromkeys(losses, math.inf)
    for _ in range(rounds):
        for name, loss in losses.items():
            start = time.process_time()
            for _ in range(repeats):
                loss().backward()
                for parameter in parameters:
                    parameter.grad = None
            least[name] = min(least[name], 1e6 * (time.process_time() - start) / repeats)
    hand, step = least.values()
    return {"by hand": round(hand, 1), "step": round(step, 1), "overhead": round(step - hand, 1)}


if __name__ == "__main__":
    keep_freed_memory()
    torch.set_num_threads(1)
    overhead = overheads()
    print("\na step of a tiny network over the same by hand (microseconds)")
    for name, row in overhead.items():
        print(f"  {name:<20}  {row['step']:7.1f} over {row['by hand']:7.1f}: {row['overhead']:7.1f}")
    steps, terms, exposed = step_costs(), term_costs(), outlier_costs()
    show("a step of each method", "a plain step with as many rows", steps)
    show("a loss term, forward and backward, 256 × 100", "F.cross_entropy", terms)
    show("a step with outliers", "one of Outlier Exposure that keeps as many", exposed)
    record("steps", {"steps": steps, "terms": terms, "outliers": exposed, "overhead": overhead})
