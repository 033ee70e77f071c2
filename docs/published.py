"""Write published figures beside ours."""

import json
from collections.abc import Sequence
from typing import Any

from protocols import protocol
from recorded import RESULTS, over_sets

from oodles.comparing.figures import Seeds, in_points
from oodles.comparing.groups import Group
from oodles.comparing.markdown import escape, grid
from oodles.comparing.tables import Table
from oodles.runs.recipe import PLAIN, needs_outliers

BESIDE = """Per cent; near and far are averages of AUROC over the sets of a kind, and in brackets stands the difference
to cross-entropy under the same score. The two sides differ in all that the second table lists: compare the order of the
methods and these differences, not a figure with the one beside it. Of a method, the rows that start from the published
initial weights come first."""
RULE = """Per cent. In-scope queries that are refused count as errors; recall is the share of out-of-scope queries that
are refused. A threshold decides most validation rows rightly, with out of scope as one more class. Our figures come
from `python benchmarks/larson.py` and lie in `benchmarks/results/{}`. Our encoder of sentences was trained on a billion
pairs of them and is not fine-tuned; BERT was: compare the orders, not a figure with the one beside it."""
BESIDE_OWN = ("msp", "knn")
"""Scores that stand beside the one that a method asks for."""
DECIDED = ("accuracy", "recall")
TRAINED = {True: "some out of scope", False: "in-scope queries"}
WHAT = {"accuracy": "accuracy", "near AUROC": "near", "far AUROC": "far"}
"""The columns, and their names in the file of published figures."""


def beside_published(tables: Sequence[Table], published: dict[str, Any]) -> list[str]:
    """Write published figures beside ours for the same methods and scores, and how both were made."""
    pairs = [(given, table) for given in published["protocols"] for table in tables if table.suite in given["suites"]]
    lines = [line for given, table in pairs for line in side_by_side(given, table)]
    refused = [(given, table) for given in published["refusals"] for table in tables if table.suite == given["suite"]]
    lines += [line for given, table in refused for line in refusals(given, table)]
    without = [table.suite for table in tables if table not in [beside for _, beside in (*pairs, *refused)]]
    if without:
        lines += [f"Without a published counterpart: {escape(', '.join(dict.fromkeys(without)))}.", ""]
    return lines


def side_by_side(given: dict[str, Any], table: Table) -> list[str]:
    """Write one published protocol beside one of ours; the figures are not expected to be equal."""
    plain = {row["score"]: row for row in given["rows"] if row["method"] == PLAIN}
    lines = []
    for row in given["rows"]:
        theirs = [_published(row, plain.get(row["score"], row), what) for what in WHAT]
        for group in _of_method(row["method"], given["protocol"]["initial weights"], table):
            if row["score"] in group.scores:
                ours_of = [_ours(group, row["score"], what) for what in WHAT]
                lines.append([group.label, row["score"], *theirs, *ours_of, escape(group.runs[0].initial_weights)])
    ours = protocol(table)
    heads = ["method", "score", *(f"{whose} {what}" for whose in ("published", "our") for what in WHAT)]
    remark = given.get("remarks", {}).get(table.suite)
    return [
        f"## {escape(given['title'])}, beside ours on {escape(table.suite)}",
        "",
        f"Published: {given['source']}; {given['paper']}. {BESIDE}",
        "",
        *grid([*heads, "our initial weights"], lines, 2),
        "",
        *grid(["", "published", "ours"], [[name, words, ours[name]] for name, words in given["protocol"].items()], 3),
        "",
        *([remark, ""] if remark else []),
    ]


def refusals(given: dict[str, Any], table: Table) -> list[str]:
    """Write published shares of right decisions beside those of our runs, each under its own score and under some."""
    measured = json.loads((RESULTS / given["figures"]).read_text("utf-8"))
    lines = [
        ["published", row["method"], "", TRAINED[row["trained"]], *(f"{row[name]:.1f}" for name in DECIDED)]
        for row in given["rows"]
    ]
    for group in table.groups:
        own = [row for row in measured if row["label"] == group.label]
        trained = TRAINED[needs_outliers(group.runs[0].methods)]
        for score in dict.fromkeys(row["score"] for row in own if row["own"] or row["score"] in BESIDE_OWN):
            shares = [Seeds({row["seed"]: row[name] for row in own if row["score"] == score}) for name in DECIDED]
            lines.append(["ours", group.label, score, trained, *map(str, shares)])
    return [
        f"## {escape(given['title'])}, beside ours on {escape(table.suite)}",
        "",
        f"Published: {given['source']}. {RULE.format(given['figures'])}",
        "",
        *grid(["", "method", "score", "trained with", "in-scope accuracy", "out-of-scope recall"], lines, 4),
        "",
    ]


def _of_method(method: str, initial: str, table: Table) -> list[Group]:
    """Return the rows of a method, whatever they are called: first those from the published initial weights."""
    groups = [group for group in table.groups if [name for name, _ in group.runs[0].methods] == [method]]
    return sorted(groups, key=lambda group: group.runs[0].initial_weights != initial)


def _published(row: dict[str, Any], plain: dict[str, Any], what: str) -> str:
    value, beside = row[WHAT[what]], plain[WHAT[what]]
    return f"{value:.2f}" + ("" if row is plain else f" ({value - beside:+.2f})".replace("-", "−"))


def _ours(group: Group, score: str, what: str) -> str:
    value, plain = (_measured(rows, score, what) if rows else None for rows in (group, group.plain))
    difference = value.minus(plain) if value and plain else None
    return f"{value or '–'}" + (f" ({in_points(difference.mean)})" if difference else "")


def _measured(group: Group, score: str, what: str) -> Seeds | None:
    return group.measured(None, score, what) if what == "accuracy" else over_sets(group, WHAT[what], score)
