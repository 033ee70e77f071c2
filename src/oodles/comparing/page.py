"""A comparison as one HTML file with pictures, which needs no network."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from oodles import __version__
from oodles.cards import card
from oodles.comparing import pictures
from oodles.comparing.advice import more_seeds, next_steps
from oodles.comparing.figures import CAUTION, METRICS
from oodles.comparing.groups import Group
from oodles.comparing.ranking import WORTH, ranking
from oodles.comparing.results import Result
from oodles.comparing.tables import Table
from oodles.comparing.words import (
    HOW_TO_READ,
    JUDGEMENT_HEADS,
    details,
    heading,
    judgements,
    overview,
    rows,
    scores_in_words,
    setting,
)
from oodles.runs.folder import RUN
from oodles.runs.opened import Run, open_run
from oodles.spelling import set_name

MANY = 12
"""So many names stand in a line; more are folded."""


def render(tables: Sequence[Table]) -> str:
    """Write the page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"set_name": set_name, "heading": _unbroken}
    template = environment.from_string(Path(__file__).with_name("page.html.jinja").read_text(encoding="utf-8"))
    ranks = ranking(tables)
    return template.render(
        suites=[_suite(table) for table in tables],
        ranks=ranks,
        ranks_picture=pictures.ranks(ranks) if ranks else "",
        worth=WORTH,
        many=MANY,
        scores=dict(pair for table in tables for pair in scores_in_words(table)),
        judgement_heads=JUDGEMENT_HEADS,
        caution=CAUTION,
        metrics=METRICS,
        how_to_read=HOW_TO_READ,
        version=__version__,
    )


def _unbroken(metric: str) -> str:
    """Return a heading that breaks only where a reader would: not before its arrow, and not at a hyphen."""
    name, _, arrow = heading(metric).rpartition(" ")
    return f"{name}\xa0{arrow}".replace("-", "\u2011")


def _suite(table: Table) -> dict[str, Any]:
    """Return what the template shows of one suite."""
    return {
        "table": table,
        "setting": [*setting(table), *_date(table)],
        "next_steps": next_steps(table),
        "more_seeds": more_seeds(table),
        "verdicts": [(name, _verdicts(table, name)) for name in table.ood_sets],
        "overview": overview(table),
        "overview_rows": rows(table, overview(table)),
        "details": [
            (name, details(name), rows(table, details(name)), judgements(table, name)) for name in table.ood_sets
        ],
        "differences": [(name, pictures.differences(table, name)) for name in table.ood_sets],
        "methods": [_method(table, group) for group in table.groups],
    }


def _date(table: Table) -> list[tuple[str, str]]:
    """Return the day on which the newest of the runs at hand began; recorded results do not tell theirs."""
    opened = [run for group in table.groups for result in group.runs if (run := _open(result))]
    days = [str(run.record["environment"]["started"])[:10] for run in opened if "environment" in run.record]
    return [("newest run", max(days))] if days else []


def _verdicts(table: Table, ood_set: str) -> list[tuple[str, list[str]]]:
    """Return which methods are better in AUROC than plain cross-entropy, which worse, and which inside the noise."""
    figures = [figure for row in rows(table, [(ood_set, "auroc")]) for figure in row.figures if figure]
    named: dict[str, list[str]] = {"better": [], "worse": []}
    for figure in figures:
        if figure.difference:
            shared = sum(other.label == figure.label for other in figures) > 1
            named.setdefault(figure.verdict_in_words, []).append(
                f"{figure.label} ({figure.score})" if shared else figure.label
            )
    return [(words, labels) for words, labels in named.items() if labels]


def _method(table: Table, group: Group) -> dict[str, Any]:
    """Return what the template shows of one method: its pictures, and the commands that repeat its runs."""
    opened = {run.seed: _open(run) for run in group.runs}
    at_hand = [run for run in opened.values() if run]
    about = {"group": group, "cards": [card(name) for name, _ in group.runs[0].methods]}
    about["curves"] = pictures.curves(at_hand)
    about["commands"] = {run.seed: run.record.get("command", run.folder) for run in at_hand}
    shown = next((run for run in at_hand if run.status == "finished"), None)
    if shown:
        score, plain_score = group.versus[-1]
        beside = next((r for r in group.plain.finished if r.seed == shown.seed), None) if group.plain else None
        plain = _open(beside) if beside else None
        sets = list(table.ood_sets)
        about |= {
            "seed": shown.seed,
            "histogram": pictures.histogram(shown, group.own_score, sets),
            "roc": pictures.roc(shown, score, plain, plain_score, sets),
            "judged": pictures.judged(shown, group.own_score),
            "misjudged": pictures.misjudged(shown, group.own_score, sets),
        }
    return about


def _open(result: Result) -> Run | None:
    """Open the run itself, if its folder is there: pictures need its rows."""
    at_hand = result.folder and (result.folder / RUN).is_file()
    return open_run(result.folder, data=result.suite) if result.folder and at_hand else None
