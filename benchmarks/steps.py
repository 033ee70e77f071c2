"""Time a training step of each method over a plain step with as many rows: python benchmarks/steps.py

As many rows as the method forwards, also while it prepares the batch. The optimizer's step is not timed.

Time each loss term, forward and backward, over ``F.cross_entropy`` on the same rows.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from timing import ratios, record, show
from torch import nn

from oodles import Classifier, TrainingStep
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


ROWS = 64


def step_costs() -> dict[str, dict[str, float]]:
    """Time each method against plain training on as many rows as the method forwards."""
    x, y, outliers = torch.rand(ROWS, 3, 32, 32), torch.arange(ROWS) % 10, torch.rand(ROWS, 3, 32, 32)
    table = {}
    for name in METHODS:
        cls = method_class(name)
        method = cls() if name != "cross-entropy" else cls(label_smoothing=0.1)
        step, plain = TrainingStep(classifier(), method), TrainingStep(classifier())
        given = outliers if "outliers" in method.needs else None

        def run(step: TrainingStep = step, given: torch.Tensor | None = given) -> None:
            step.zero_grad()
            torch.stack([*step((x, y), given).values()]).sum().backward()

        times = count_forwarded(step, run) / ROWS
        plain_batch = (torch.cat([x] * round(times)), torch.cat([y] * round(times)))

        def run_plain(plain: TrainingStep = plain, batch: tuple[torch.Tensor, torch.Tensor] = plain_batch) -> None:
            plain.zero_grad()
            plain(batch)["cross_entropy"].backward()

        rounds = 15 if times < 8 else 5
        cost = ratios({"plain": run_plain, name: run}, "plain", rounds=rounds, repeats=1)[name]
        table[name] = {"rows": times, **cost}
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


if __name__ == "__main__":
    torch.set_num_threads(1)
    steps, terms = step_costs(), term_costs()
    show("a step of each method", "a plain step with as many rows", steps)
    show("a loss term, forward and backward, 256 × 100", "F.cross_entropy", terms)
    record("steps", {"steps": steps, "terms": terms})
