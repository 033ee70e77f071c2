"""Read what is recorded in benchmarks/results, and keep the files that are generated from it."""

import json
import re
import sys
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

from oodles.comparing.comparison import compare
from oodles.comparing.figures import METRICS, Figure, Seeds, in_points
from oodles.comparing.groups import Group
from oodles.comparing.tables import Table
from oodles.comparing.words import overview
from oodles.spelling import set_name

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results"
MARKS = {"better": " ▲", "worse": " ▼", "": ""}
KINDS = ("near", "far")


def read_record(name: str) -> Any:
    return json.loads((RESULTS / name).read_text(encoding="utf-8"))


def recorded_names() -> list[str]:
    """Return the names of the recorded benchmarks."""
    return [path.stem for path in sorted(RESULTS.glob("*.jsonl"))]


def recorded_table(name: str) -> Table:
    """Return the table of a recorded benchmark."""
    return read_table(RESULTS / f"{name}.jsonl")


@cache
def read_table(path: Path) -> Table:
    """Return the table of a file of results under the file's name, since two protocols may have one suite."""
    (table,) = compare([path]).tables
    return replace(table, suite=path.stem)


def group_of(table: Table, label: str) -> Group:
    """Return the rows of this name."""
    return next(group for group in table.groups if group.label == label)


def over_sets(group: Group, kind: str, score: str) -> Seeds | None:
    """Return the average AUROC over the near or the far sets, for each seed that has them all."""
    sets = [name for run in group.finished[:1] for name in run.ood_sets if name.startswith(kind)]
    aurocs = [group.measured(name, score, "auroc") for name in sets]
    if not aurocs or any(seeds is None for seeds in aurocs):
        return None
    measured = [seeds.by_seed for seeds in aurocs if seeds]
    shared = [seed for seed in measured[0] if all(seed in by_seed for by_seed in measured)]
    return (
        Seeds({seed: sum(by_seed[seed] for by_seed in measured) / len(measured) for seed in shared}) if shared else None
    )


def differences(group: Group, score: str) -> dict[str, Seeds]:
    """Return the differences of the mean AUROC to plain training under the same score, near and far, where both are."""
    found = {}
    for kind in KINDS:
        value, plain = (over_sets(rows, kind, score) if rows else None for rows in (group, group.plain))
        if value and plain and (difference := value.minus(plain)):
            found[kind] = difference
    return found


def verdict(difference: Seeds) -> str:
    """Return ``better`` or ``worse`` where the 95 % interval of a difference in accuracy or AUROC excludes zero."""
    low, high = difference.interval or (-1.0, 1.0)
    return "better" if low > 0 else "worse" if high < 0 else ""


def points(difference: Seeds) -> str:
    """Write a difference in points with its mark, ``+1.3 ▲``."""
    return f"{in_points(difference.mean)}{MARKS[verdict(difference)]}"


def changes(label: str, tables: dict[str, Table]) -> list[str]:
    """Write the row of one method: its score, and the difference it makes on every set of every protocol."""
    cells: list[str] = []
    scores: dict[str, None] = {}
    for table in tables.values():
        group = next((group for group in table.groups if group.label == label), None)
        if group is None:
            cells += ["–"] * len(overview(table))
            continue
        score, beside = group.versus[-1]
        words = score if score == beside else f"{score} ({beside})"
        scores[f"{words}, {group.seeds}" if "diverged" in group.seeds else words] = None
        cells += [_change(table.figure(group, *column, score, beside)) for column in overview(table)]
    return [label, " or ".join(scores), *cells]


def _change(figure: Figure | None) -> str:
    if figure is None or figure.difference is None:
        return "–"
    return f"{in_points(figure.difference.mean)} {figure.mark}".rstrip()


def title(ood_set: str | None, metric: str, several: bool = True) -> str:
    """Return the heading of a column."""
    return f"{set_name(ood_set)} {METRICS[metric].heading}" if ood_set and several else METRICS[metric].heading


def as_table(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> list[str]:
    """Write a table in Markdown; cells stay as they are."""
    heads = list(heads)
    return [f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines)]


def prose(text: str) -> str:
    """Write a docstring's words as Markdown: code stays code, other markup is escaped."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    parts = text.split("`")
    plain = [re.sub(r"([\\|*_<\[])", r"\\\1", part) for part in parts[::2]]
    code = [part.replace("|", r"\|") for part in parts[1::2]]
    whole = [piece for pair in zip(plain, [*(f"`{part}`" for part in code), ""], strict=True) for piece in pair]
    return "".join(whole)


def require(true: bool, sentence: str) -> None:
    """Write nothing where recorded rows no longer bear out a sentence of the page."""
    if not true:
        raise SystemExit(f"The page would say what recorded rows do not: {sentence} Rewrite it.")


def keep(path: Path, new: str) -> None:
    """Write the file if it has changed; with --check fail instead."""
    if (path.read_text(encoding="utf-8") if path.is_file() else "") != new:
        if "--check" in sys.argv:
            raise SystemExit(f"{path.name} is out of date: run python docs/{Path(sys.argv[0]).name}")
        path.write_text(new, encoding="utf-8")
