"""What to do next after a comparison: put a run to use, choose its score, train more seeds."""

import json
import shlex
from collections.abc import Iterator
from itertools import count, islice, pairwise
from pathlib import Path
from typing import NamedTuple

from oodles.comparing.groups import Group
from oodles.comparing.results import CHOSEN, RESULTS
from oodles.comparing.tables import Table
from oodles.comparing.words import named
from oodles.runs.folder import RUN
from oodles.runs.recipe import active_methods, needs_outliers

ENOUGH_SEEDS = 5
"""Fewer find only large differences."""
NAME_RUNS = ("--weights", "--teacher")
"""Flags that may name another run, which has to be of the same seed."""


class Step(NamedTuple):
    """Something to do, and the command that does it, if it is one."""

    words: str
    command: str = ""


class Best(NamedTuple):
    """The row to go on with, and by which figure it was chosen."""

    group: Group
    auroc: float
    flattered: bool
    """Whether it was chosen on the sets that it is measured on."""


def next_steps(table: Table) -> list[Step]:
    """Return what to do next with the runs on one suite; nothing where none has finished."""
    steps = []
    if best := best_row(table):
        seed, folder = next(_at_hand(best.group), (0, None))
        words = _why(table, best)
        if folder is None:
            steps.append(Step(f"{words} To use it, train it: these are figures without runs."))
        else:
            where = _quoted(folder)
            steps.append(Step(f"{words} To use its seed {seed}:", f"oodles export {where} --to model.onnx"))
            steps.append(Step(_score_of(best.group, seed), f"oodles evaluate {where} --choose-score"))
    if few := _few(table):
        all_of_them = len(few) == len([group for group in table.groups if group.finished])
        which = "every row" if all_of_them and len(few) > 1 else named([group.label for group in few])
        benchmarks = (_benchmark(folder) for group in few for _, folder in _at_hand(group))
        benchmark = next(filter(None, benchmarks), None)
        command = f"oodles benchmark FILE --seeds {ENOUGH_SEEDS} --to {_quoted(benchmark)}" if benchmark else ""
        words = f"Fewer than {ENOUGH_SEEDS} seeds find only large differences. Train more of {which}"
        steps.append(Step(f"{words}{':' if command else '.'}", command))
    return steps


def best_row(table: Table) -> Best | None:
    """Return the row with the highest AUROC, each under the score that its runs are exported with.

    That is the AUROC of validation rows against outliers, where no row was trained on any: a row that was tells these
    apart under nearly every score. Else it is the mean over the test sets.
    """
    groups = [group for group in table.groups if group.finished]
    on_validation = {group: seeds.mean for group in groups if (seeds := group.on_outliers(group.deployed_score))}
    trained = any(needs_outliers(active_methods(group.runs[0].methods)) for group in groups)
    flattered = trained or len(on_validation) < len(groups)
    means = _on_test(table, groups) if flattered else on_validation
    if not means:
        return None
    group = max(means, key=lambda group: means[group])
    return Best(group, means[group], flattered)


def more_seeds(table: Table) -> list[Step]:
    """Return, for each row with few seeds whose runs are at hand, the command that trains more of it."""
    steps = []
    for group in _few(table):
        seed, folder = next(_at_hand(group), (0, None))
        if folder is not None and not _benchmark(folder) and (command := _again(group, seed, folder)):
            steps.append(Step(f"{group.label}:", command))
    return steps


def _why(table: Table, best: Best) -> str:
    """Say why a row was chosen, and whether it is more than plain cross-entropy."""
    group, score = best.group, best.group.deployed_score
    under = f"{100 * best.auroc:.1f} %{{}} under {'its chosen score' if score == CHOSEN else score}"
    if not best.flattered:
        words = (
            f"{group.label} tells validation rows from outliers best ({under.format(' AUROC')}); "
            "the test sets had no say."
        )
    else:
        words = (
            f"{group.label} has the highest mean AUROC of these sets ({under.format('')}). "
            "It was chosen on them, so this figure flatters it."
        )
    if group.plain is None:
        return words
    pair = (score, score) if (score, score) in group.versus else group.versus[-1]
    figures = [table.figure(group, name, "auroc", *pair) for name in table.ood_sets]
    if not any(figure.verdict == "better" for figure in figures if figure):
        words += " On no set is it better than cross-entropy beyond the noise."
    accuracy = table.figure(group, None, "accuracy", *pair)
    if accuracy and accuracy.verdict == "worse":
        words += " Its accuracy is lower than that of cross-entropy beyond the noise."
    return words


def _score_of(group: Group, seed: int) -> str:
    """Say which score a run is exported with, and what the command that chooses it tells."""
    chosen = next(run.chosen for run in group.finished if run.seed == seed)
    if not chosen:
        return "Its score is not chosen yet, which export does, too. To choose it, without any test row:"
    instead = "" if chosen == group.own_score else f" in place of {group.own_score}"
    return f"It is exported with the score {chosen}{instead}, chosen without any test row. To see on what:"


def _on_test(table: Table, groups: list[Group]) -> dict[Group, float]:
    """Return the mean AUROC over all sets, of the groups that have one on each."""
    means = {}
    for group in groups:
        aurocs = [group.measured(name, group.deployed_score, "auroc") for name in table.ood_sets]
        values = [seeds.mean for seeds in aurocs if seeds]
        if values and len(values) == len(aurocs):
            means[group] = sum(values) / len(values)
    return means


def _few(table: Table) -> list[Group]:
    return [group for group in table.groups if 0 < len(group.finished) < ENOUGH_SEEDS]


def _at_hand(group: Group) -> Iterator[tuple[int, Path]]:
    """Yield seeds and folders of the finished runs whose folders are there."""
    for run in group.finished:
        if run.folder is not None and (run.folder / RUN).is_file():
            yield run.seed, run.folder


def _benchmark(folder: Path) -> Path | None:
    """Return the folder of the benchmark that the run in a folder is part of."""
    above = folder.parents[2:3]
    return next((benchmark for benchmark in above if (benchmark / RESULTS).is_file()), None)


def _again(group: Group, seed: int, folder: Path) -> str:
    """Write the command that trains further seeds, in a loop; nothing where each has to start from another run."""
    words = shlex.split(json.loads((folder / RUN).read_text(encoding="utf-8")).get("command", ""))
    if not words or any(Path(word, RUN).is_file() for flag, word in pairwise(words) if flag in NAME_RUNS):
        return ""
    taken = {run.seed for run in group.runs}
    seeds = islice((seed for seed in count() if seed not in taken), ENOUGH_SEEDS - len(group.finished))
    begin = folder.with_name(folder.name.removesuffix(f"-{seed}"))
    given = {"--seed": "$seed", "--to": f"{_quoted(begin)}-$seed"}
    line = [given.get(before, shlex.quote(word)) for before, word in pairwise(["", *words])]
    return f"for seed in {' '.join(map(str, seeds))}; do {' '.join(line)}; done"


def _quoted(folder: Path) -> str:
    """Write a folder for a command line, from the current folder on if it lies in that."""
    here = Path.cwd()
    return shlex.quote(str(folder.relative_to(here) if folder.is_relative_to(here) else folder))
