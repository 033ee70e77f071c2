"""Say how the runs of a table were made."""

from collections.abc import Callable, Sequence
from typing import Any

from oodles.comparing.groups import Group
from oodles.comparing.results import Result
from oodles.comparing.tables import Table
from oodles.runs.folder import augment_in_words


def protocol(table: Table) -> dict[str, str]:
    """Say how the runs of a table were made; where rows differ, name them."""

    def state(of: Callable[[Result], Any]) -> str:
        return by_row(table.groups, of)

    runs = [run for group in table.groups for run in group.runs]
    diverged = sum(run.status == "diverged" for run in runs)
    seconds = [run.seconds for run in runs if run.seconds is not None]
    took = f"; {sum(seconds) / len(seconds):.3g} s of training each on average" if seconds else ""
    return {
        "training rows": state(lambda run: _rows(run, "train")),
        "test rows": state(lambda run: _rows(run, "test")),
        "validation rows": state(lambda run: _rows(run, "validation")),
        "augmentation": state(lambda run: augment_in_words(run.augment)),
        "network": state(lambda run: run.settings["network"]),
        "epochs": state(lambda run: run.settings["epochs"]),
        "batch size": state(lambda run: run.settings["batch_size"]),
        "optimizer": state(_optimizer),
        "schedule": state(lambda run: run.settings["schedule"]),
        "precision": state(_precision),
        "initial weights": state(lambda run: run.initial_weights),
        "seeds": by_group(table.groups, lambda group: ", ".join(str(run.seed) for run in group.runs)),
        "near-OOD": _names(table, "near"),
        "far-OOD": _names(table, "far"),
        "auxiliary outliers": state(lambda run: _rows(run, "outliers")),
        "device": state(lambda run: run.environment.get("device", "not recorded")),
        "versions": state(_versions),
        "runs": f"{len(runs)}, of which {diverged} diverged{took}",
    }


def by_row(groups: Sequence[Group], of: Callable[[Result], Any]) -> str:
    """State a fact of all runs, or each variant of it with the rows that have it."""
    by_seed: dict[int, set[str]] = {}
    for run in (run for group in groups for run in group.runs):
        by_seed.setdefault(run.seed, set()).add(str(of(run)))
    if all(len(values) == 1 for values in by_seed.values()):  # the seed alone decides
        return " or ".join(sorted(set().union(*by_seed.values())))
    return by_group(groups, lambda group: " or ".join(dict.fromkeys(str(of(run)) for run in group.runs)))


def by_group(groups: Sequence[Group], of: Callable[[Group], str]) -> str:
    rows: dict[str, list[str]] = {}
    for group in groups:
        rows.setdefault(of(group), []).append(group.label)
    return "; ".join(f"{words} ({', '.join(labels)})" if len(rows) > 1 else words for words, labels in rows.items())


def _rows(run: Result, name: str) -> str:
    return f"{run.sizes[name]:,}" if name in run.sizes else "none"


def _optimizer(run: Result) -> str:
    settings = run.settings
    momentum = f"{' with Nesterov momentum' if settings['nesterov'] else ' with momentum'} {settings['momentum']:g}"
    name = settings["optimizer"] + (momentum if settings["optimizer"] == "sgd" else "")
    return f"{name}, {settings['learning_rate']:g}, weight decay {settings['weight_decay']:g}"


def _precision(run: Result) -> str:
    """Return the precision in use, where the run recorded it, or as it was asked for."""
    return str(run.environment.get("mixed_precision", run.settings["mixed_precision"]))


def _versions(run: Result) -> str:
    names = ("oodles", "torch", "numpy", "python")
    return ", ".join(f"{name} {run.environment[name]}" for name in names if name in run.environment) or "not recorded"


def _names(table: Table, kind: str) -> str:
    return ", ".join(name.partition(":")[2] for name in table.ood_sets if name.startswith(kind)) or "none"
