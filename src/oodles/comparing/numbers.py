"""Every number of a comparison for other programs: a line per seed in CSV, seeds and summaries in JSON."""

from collections.abc import Sequence
from typing import Any

from oodles.comparing.advice import more_seeds, next_steps
from oodles.comparing.figures import CAUTION, METRICS, OOD_METRICS, Figure, Seeds
from oodles.comparing.groups import Group
from oodles.comparing.tables import Table
from oodles.files import csv_text

TESTED = ("student_low", "student_high", "p", "bootstrap_low", "bootstrap_high", "sign_test_p")
"""Columns about a difference over all seeds."""
COLUMNS = (
    *("suite", "method", "seed", "status", "score", "compared", "ood_set", "metric", "value"),
    *("cross_entropy_score", "cross_entropy", "difference", *TESTED, "p_holm"),
    *("best_score", "difference_to_best", *(f"best_{name}" for name in TESTED)),
    "caution",
)


def as_csv(tables: Sequence[Table]) -> str:
    """Write a line per suite, method, score, set, metric and seed."""
    lines: list[Sequence[object]] = [COLUMNS]
    for table in tables:
        for group in table.groups:
            for run in group.runs:
                if run.status != "finished":
                    about = [table.suite, group.label, run.seed, run.status]
                    lines.append([*about, *[""] * (len(COLUMNS) - len(about))])
            for figure, compared in every_figure(table, group):
                lines += _lines(table.suite, figure, compared)
    return csv_text(lines)


def as_dict(tables: Sequence[Table]) -> dict[str, Any]:
    """Return every figure, per seed and in summary."""
    metrics = {name: metric._asdict() for name, metric in METRICS.items()}
    suites = [_table_dict(table) for table in tables]
    return {"metrics": metrics, "statistics": CAUTION, "suites": suites}


def every_figure(table: Table, group: Group) -> list[tuple[Figure, bool]]:
    """Return the figures of a group under every score that it has, and whether the tables show them."""
    pairs = dict.fromkeys([*group.versus, *((score, score) for score in group.scores)])
    figures = [(table.figure(group, None, "accuracy", *group.versus[-1]), True)]
    figures += [
        (table.figure(group, ood_set, metric, *pair), pair in group.versus)
        for pair in pairs
        for ood_set in table.ood_sets
        for metric in OOD_METRICS
    ]
    return [(figure, shown) for figure, shown in figures if figure]


def _table_dict(table: Table) -> dict[str, Any]:
    methods = []
    for group in table.groups:
        figures = [{**_figure_dict(figure), "compared": shown} for figure, shown in every_figure(table, group)]
        runs = [
            {"seed": r.seed, "folder": r.folder and str(r.folder), "status": r.status, "reason": r.reason}
            for r in group.runs
        ]
        beside = group.plain.label if group.plain else None
        about = {"label": group.label, "own_score": group.own_score, "plain": beside, **group.runs[0].settings}
        methods.append({**about, "runs": runs, "figures": figures})
    sets = [{"name": name, "remark": remark} for name, remark in table.ood_sets.items()]
    remarks = [*table.remarks, table.chance]
    steps = [step._asdict() for step in (*next_steps(table), *more_seeds(table))]
    return {"suite": table.suite, "ood_sets": sets, "remarks": remarks, "methods": methods, "next_steps": steps}


def _figure_dict(figure: Figure) -> dict[str, Any]:
    plain = figure.plain and {"score": figure.plain_score, **_seeds_dict(figure.plain)}
    difference = figure.difference and _difference_dict(figure, figure.difference)
    to_best = figure.difference_to_best and _difference_dict(figure, figure.difference_to_best)
    where = {"score": figure.score, "ood_set": figure.ood_set, "metric": figure.metric}
    return {
        **where,
        **_seeds_dict(figure.value),
        "plain": plain,
        "difference": difference and {**difference, "p_holm": figure.p_holm, "verdict": figure.verdict_in_words},
        "difference_to_best": to_best and {"score": figure.best_score, **to_best},
    }


def _tests(difference: Seeds | None) -> tuple[float | None, ...]:
    """Return the values of the columns :data:`TESTED`."""
    if difference is None:
        return (None,) * len(TESTED)
    intervals = difference.interval or (None, None), difference.bootstrap or (None, None)
    return *intervals[0], difference.p, *intervals[1], difference.sign_test


def _difference_dict(figure: Figure, difference: Seeds) -> dict[str, Any]:
    about = {"half_interval": difference.half_interval, "wins": figure.better_on(difference)}
    tests = dict(zip(TESTED, _tests(difference), strict=True))
    return {**_seeds_dict(difference), **about, **tests, "smallest_p": difference.smallest_p}


def _lines(suite: str, figure: Figure, compared: bool) -> list[list[object]]:
    """Return a line for every seed of a figure."""
    plain = figure.plain.by_seed if figure.plain else {}
    difference = figure.difference.by_seed if figure.difference else {}
    to_best = figure.difference_to_best.by_seed if figure.difference_to_best else {}
    return [
        [
            *(suite, figure.label, seed, "finished"),
            *(figure.score, "yes" if compared else "no", figure.ood_set or "test", figure.metric, value),
            *(figure.plain_score if seed in plain else "", plain.get(seed, ""), difference.get(seed, "")),
            *_tests(figure.difference),
            figure.p_holm,
            *(figure.best_score if seed in to_best else "", to_best.get(seed, "")),
            *_tests(figure.difference_to_best),
            figure.difference.caution if figure.difference else "",
        ]
        for seed, value in figure.value.by_seed.items()
    ]


def _seeds_dict(seeds: Seeds) -> dict[str, Any]:
    by_seed = {str(seed): value for seed, value in seeds.by_seed.items()}
    return {"mean": seeds.mean, "std": seeds.std, "n": seeds.n, "by_seed": by_seed}
