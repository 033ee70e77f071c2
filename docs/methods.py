"""Writes the generated pages of the documentation into docs/methods: a page for every method with pictures of it at
work, the index of methods, and the tables that other pages include.

python docs/methods.py; `make docs` does it too.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

import pictures
from pictures import AtWork, at_work, diagram, in_prose, sheet, timeline
from readme import RESULTS, recorded

import oodles
from oodles.cards import Card, cards
from oodles.comparing.comparison import compare
from oodles.comparing.markdown import figures_table
from oodles.comparing.tables import Table
from oodles.comparing.words import overview
from oodles.evaluation import score_named
from oodles.methods import METHOD_SCORES, METHODS
from oodles.runs.recipe import Recipe, recipes
from oodles.scores import SCORES

HERE = Path(__file__).parent
FOLDER = HERE / "methods"
SUITES = ("digits", "fashion-12k")
"""Recorded benchmarks whose rows stand on the methods' pages."""
JOURNALS = ("TPAMI", "Neurocomputing", "CVIU", "arXiv")

INDEX = """# Methods

Every method is a difference from plain cross-entropy training. This table and the pages behind it are generated from
what each method's file says of itself, from runs of the method, and from recorded results.

{table}

## What each of them changes

[The timeline](../timeline.md) says what the moments are, [scores and metrics](../scores.md) what the scores are. The
score is the one that the paper uses.

{facts}

```{{toctree}}
:hidden:

{names}
```
"""

PAGE = """# {name}

{summary}

{pictures}

{facts}

## Use it

```sh
{command}
```

```python
from oodles import {class_name}

{call}
```

These are its defaults. It goes into a [training step](../timeline.md), alone or with others:
`TrainingStep(classifier, method)`. {recipes}

{parameters}

## Recorded results

{results}

## Where it comes from

{source}

{paper}

```bibtex
{citation}
```
"""


def index() -> str:
    """The table of all methods, each with its page."""
    differences, changes = [], []
    for one in cards():
        link = f"[`{one.name}`]({one.name}.md)"
        source = f"[{one.reference}]({one.paper['link']})"
        differences.append([link, prose(one.summary), ", ".join(one.needs) or "–", source])
        named = [codes(names) for names in (one.moments, one.adds, one.terms)]
        changes.append([link, *named, ", ".join(one.replaces) or "–", f"`{one.score}`"])
    return INDEX.format(
        table=grid(("method", "difference from plain training", "needs", "paper"), differences),
        facts=grid(("method", "moments", "parts it adds", "terms it adds", "replaces", "score"), changes),
        names="\n".join(METHODS),
    )


def page(one: Card) -> str:
    """The page of one method."""
    return PAGE.format(
        name=one.name,
        class_name=one.class_name,
        summary=prose(one.summary),
        pictures=shown(one),
        facts=facts(one),
        call=call(one),
        command=f"oodles train {'--recipe ' if 'weights' in one.needs else ''}{one.name} --data digits",
        recipes=schedules(one),
        parameters=parameters(one),
        results=results(one.name),
        source=prose(one.source),
        paper=paper(one),
        citation=citation(one),
    )


def call(one: Card) -> str:
    """The class with its defaults, on one line where it fits."""
    arguments = [f"{each.name}={each.default!r}" for each in one.parameters]
    line = f"method = {one.class_name}({', '.join(arguments)})"
    if len(line) <= 80:
        return line
    return "\n".join([f"method = {one.class_name}(", *(f"    {each}," for each in arguments), ")"])


def shown(one: Card) -> str:
    """The pictures of a method at work, and what they show; or why there are none."""
    try:
        work = at_work(one.name)
    except ValueError as error:
        return prose(str(error))
    settings = ", ".join(f"`{name}={value!r}`" for name, value in work.settings.items()) or "no settings"
    size = "8 × 8 pixels" if work.side == 8 else f"8 × 8 pixels, enlarged to {work.side} × {work.side}"
    lines = [
        figure(f"{one.name}.svg"),
        "",
        f"A step of training with {one.name}, {settings}, as it came about: `small-cnn` on the suite `digits` "
        f"({size}), after {pictures.STEPS} steps. {marked(work)}",
    ]
    if sheet(work):
        lines += [
            "",
            figure(f"{one.name}-batch.svg"),
            "",
            f"The first {pictures.SHOWN} rows of the parts of that batch. Below each image is its target: a class, or "
            "the largest shares of a distribution.",
        ]
    if drawn := [f"`{name}` {tuple(value.shape)}" for name, value in work.prepared.draws.items()]:
        lines += ["", f"With the batch it hands on: {', '.join(drawn)}."]
    return "\n".join(lines)


def marked(work: AtWork) -> str:
    """What the colour in a diagram means."""
    if 'class="box changed"' in diagram(work) or 'class="line changed"' in diagram(work):
        return "What it adds, changes or replaces is marked."
    if work.card.moments and not work.step.methods[0].active:
        return "Nothing is marked: with these settings it is plain training."
    return "Nothing is marked: no part, head or term is another than in plain training."


def figure(name: str) -> str:
    """A drawing inside the page, so that it has the page's colours."""
    return f"```{{raw}} html\n:file: {name}\n```"


def facts(one: Card) -> str:
    """What a method says of itself, as a table."""
    rows = {
        "when to use": prose(one.when_to_use),
        "cost": " ".join(filter(None, (prose(one.cost), measured_cost(one.name)))),
        "caveat": prose(one.caveat),
        "needs": "; ".join(NEEDS.get(need, need) for need in one.needs),
        "moments": codes(one.moments),
        "reads the parts": codes(one.reads),
        "adds the parts": codes(one.adds),
        "adds the terms": codes(one.terms),
        "measures": codes(one.measures),
        "adds the heads": codes(one.heads),
        "replaces": ", ".join(one.replaces),
        "forwards apart": codes(one.separate),
        "score of the paper": f"[`{one.score}`](../scores.md)",
        "brings the scores": codes(one.brings),
        "switched off by": f"`{one.strength}=0`" if one.strength else "",
        "can be measured": "`suggest` measures settings on trained weights" if one.suggests else "",
    }
    return grid(("fact", f"`{one.name}`"), [[name, words] for name, words in rows.items() if words not in ("", "–")])


NEEDS = {
    "outliers": "[outliers](../outliers.md) to train with",
    "images": "inputs that are images",
    "vectors": "features that are vectors, one label per row",
    "weights": "weights of a trained classifier to start from",
}


def measured_cost(name: str) -> str:
    """The time of a step over that of a plain one, where it was measured."""
    found = recorded("steps.json")["steps"].get(name)
    return f"A step takes {found['ratio']:.2f} × a plain one with as many rows, measured." if found else ""


def schedules(one: Card) -> str:
    """The recipes of the package that hold the method."""
    found = [name for name in recipes() if one.name in dict(Recipe.load(name).methods)]
    if not found:
        return "No recipe of the package holds it yet: a schedule is yours to choose."
    named = " and ".join(f"`{name}`" for name in found)
    return (
        f"A published schedule comes with the package: `--recipe {found[0]}`."
        if len(found) == 1
        else (f"Schedules that come with the package: the recipes {named}.")
    )


def parameters(one: Card) -> str:
    """The hyper-parameters as a table."""
    if not one.parameters:
        return "It has no settings."
    lines = [[f"`{each.name}`", f"`{each.flag}`", f"`{each.default!r}`", prose(each.help)] for each in one.parameters]
    return grid(("setting", "flag", "default", "what it does"), lines)


def results(name: str) -> str:
    """The method's recorded rows, and plain cross-entropy's under the same score beside them."""
    lines, without = [], []
    for suite in SUITES:
        table = with_plain(recorded_table(suite), name)
        if table is None:
            without.append(f"`{suite}`")
        else:
            lines += [f"### {suite}", "", *figures_table(table, overview(table)), ""]
    lines += [READING] if lines else []
    lines += ["", f"No runs of it are recorded on {' and '.join(without)} yet."] if without else []
    return "\n".join(lines)


READING = """Per cent: mean ± standard deviation over n seeds. Below it the difference to plain cross-entropy under the
same score, paired by seed, and on how many seeds the method is better; ▲ and ▼ mark differences whose 95 % interval
(Student's t) leaves out zero, with no correction for looking at many. [All results](../results.md) say how the runs
were made, and have every metric."""


@cache
def recorded_table(suite: str) -> Table:
    (table,) = compare([RESULTS / f"{suite}.jsonl"]).tables
    return table


def with_plain(table: Table, name: str) -> Table | None:
    """The rows of one method and the plain ones beside them; nothing where it has none."""
    mine = {group for group in table.groups if name in dict(group.runs[0].methods)}
    beside = {group.plain for group in mine}
    kept = replace(table, groups=tuple(group for group in table.groups if group in mine | beside))
    blocks = tuple(block for block in kept.blocks if mine.intersection(block[2]))
    vars(kept)["blocks"] = blocks  # without those in which plain cross-entropy stands alone
    return kept if mine else None


def paper(one: Card) -> str:
    """The paper with its links."""
    code = f" The authors' program: <{one.paper['code']}>." if one.paper["code"] else ""
    authors, title = prose(str(one.paper["authors"])), prose(str(one.paper["title"]))
    return f"{authors}: *{title}*. {one.paper['venue']} {one.paper['year']}, <{one.paper['link']}>.{code}"


def citation(one: Card) -> str:
    """An entry for a bibliography, with the family names that the card has."""
    authors = str(one.paper["authors"]).split(", ")
    first_word = re.sub(r"\W", "", str(one.paper["title"]).split()[0].split("-")[0]).lower()
    key = f"{re.sub(r'[^a-z]', '', authors[0].lower())}{one.paper['year']}{first_word}"
    kind, where = ("article", "journal") if one.paper["venue"] in JOURNALS else ("inproceedings", "booktitle")
    fields = {
        "title": f"{{{one.paper['title']}}}",
        "author": " and ".join(authors),
        where: one.paper["venue"],
        "year": one.paper["year"],
        "url": one.paper["link"],
    }
    return "\n".join([f"@{kind}{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


def method_scores() -> str:
    """The scores that methods bring, as a table."""
    lines = []
    for name in METHOD_SCORES:
        score = score_named(name)
        bring = [f"[`{one.name}`](methods/{one.name}.md)" for one in cards() if name in one.brings]
        asks = [f"a head `{head}`" for head in score.needs_heads]
        asks += ["training rows"] * score.needs_fit + ["a gradient in the inputs"] * score.differentiates
        said = in_prose((type(score).__doc__ or "").split("\n\n")[0])
        lines.append([f"`{name}`", prose(said), ", ".join(asks) or "–", ", ".join(bring) or "–"])
    return grid(("score", "what it is", "looks at", "brought by"), lines)


def outlier_methods() -> str:
    """The methods that train with outliers, and what they do with them."""
    lines = [
        [
            f"[`{one.name}`](methods/{one.name}.md)",
            "changes them first" if "change_batch" in one.moments else "as they come",
            codes(one.terms),
            prose(one.caveat),
        ]
        for one in cards()
        if "outliers" in one.needs
    ]
    return grid(("method", "outliers", "terms", "caveat"), lines)


FIRST = ("TrainingStep", "Classifier", "pair", "Method", "Batch", "Part", "Outputs", "Now")
"""What a section begins with."""
STEP, RUNS, OWN = "The training step", "Training, evaluating, comparing", "Methods"
OF_THE_STEP = ("contract", "step", "processes", "classifier", "outliers", "targets")
SECTIONS = {**dict.fromkeys(OF_THE_STEP, STEP), "methods": OWN}
"""Where names stand on the page of the API, by the module that they come from; all others are about runs."""


def api() -> str:
    """Write what autodoc is asked for: all public names, by section."""
    homes = oodles._homes()
    order = [*FIRST, *homes]
    sections: dict[str, list[str]] = {STEP: [], RUNS: [], OWN: []}
    for name in sorted(homes, key=order.index):
        sections[SECTIONS.get(homes[name].split(".")[1], RUNS)].append(name)
    lines = []
    for title, names in sections.items():
        lines += [f"## {title}", "", *entries("oodles", names)]
    functions = ["msp", "max_logit", "energy", "entropy"]
    classes = ["Score", "HeadScore", *(cls.__name__ for cls in SCORES.values())]
    lines += ["## Scores", "", *entries("oodles.scores", [*functions, *classes])]
    lines += entries("oodles.evaluation", ["score_named"])
    for method, cls in METHOD_SCORES.values():
        lines += entries(f"oodles.methods.{method.replace('-', '_')}", [cls])
    metrics = ["auroc", "aupr_in", "aupr_out", "fpr95_id_positive", "fpr95_ood_positive", "ood_metrics", "accuracy"]
    lines += ["## Metrics", "", *entries("oodles.metrics", metrics)]
    lines += ["## Data and networks", "", *entries("oodles.data", import_module("oodles.data").__all__)]
    lines += entries("oodles.networks", import_module("oodles.networks").__all__)
    return "\n".join(lines)


def entries(module: str, names: Iterable[str]) -> list[str]:
    """Directives of autodoc for names of a module."""
    lines = []
    for name in names:
        value: Any = getattr(import_module(module), name)
        kind = "class" if isinstance(value, type) else "function" if callable(value) else "data"
        members = ["   :members:"] if kind == "class" else []
        if name in METHODS.values():  # its moments are on its page
            own = [member for member in ("forward", "collate") if member in vars(value)]
            members = [f"   :members: {', '.join(own)}"] if own else []
        lines += ["```{eval-rst}", f".. auto{kind}:: {module}.{name}", *members, "```", ""]
    return lines


def grid(heads: Iterable[str], lines: Iterable[Iterable[str]]) -> str:
    """A table in Markdown of cells that are written already."""
    heads = list(heads)
    return "\n".join(f"| {' | '.join(line)} |" for line in (heads, ["---"] * len(heads), *lines))


def codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def prose(text: str) -> str:
    """A docstring's words as Markdown: what is code stays code, other signs mean nothing."""
    text = re.sub(r":\w+:`~?([^`]+)`", r"`\1`", text)
    parts = text.split("`")
    plain = [re.sub(r"([\\|*_<\[])", r"\\\1", part) for part in parts[::2]]
    code = [part.replace("|", r"\|") for part in parts[1::2]]
    whole = [piece for pair in zip(plain, [*(f"`{part}`" for part in code), ""], strict=True) for piece in pair]
    return "".join(whole)


def pages() -> dict[str, str]:
    """Every generated file by its name."""
    found = {
        "index.md": index(),
        "_timeline.svg": timeline(),
        "_scores.md": method_scores(),
        "_outliers.md": outlier_methods(),
        "_api.md": api(),
    }
    for one in cards():
        found[f"{one.name}.md"] = page(one)
        try:
            work = at_work(one.name)
        except ValueError:
            continue
        found[f"{one.name}.svg"] = diagram(work)
        if images := sheet(work):
            found[f"{one.name}-batch.svg"] = images
    return found


def write(folder: Path = FOLDER) -> None:
    """Writes what has changed, and removes what is not generated any more."""
    folder.mkdir(exist_ok=True)
    found = pages()
    for path in folder.iterdir():
        if path.name not in found:
            path.unlink()
    for name, text in found.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
