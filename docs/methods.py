"""Write the generated pages of the documentation into docs/methods: a page for every method with pictures of it at
work, the index of methods, and the tables that other pages include.

python docs/methods.py; `make docs` does it too.
"""

import re
from collections.abc import Iterable
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import pictures
from pictures import AtWork, at_work, beside, diagram, sheet, tile, timeline
from recorded import as_table, changes, prose, read_record, recorded_table

import oodles
from oodles.cards import Card, cards
from oodles.comparing.figures import Figure, in_points
from oodles.comparing.markdown import figures_table
from oodles.comparing.tables import Table
from oodles.comparing.words import overview
from oodles.evaluation import score_named
from oodles.facts import CHOICE
from oodles.methods import METHOD_SCORES, METHODS
from oodles.runs.recipe import Recipe, recipes
from oodles.scores import FURTHER_SCORES, SCORES
from oodles.spelling import set_name

HERE = Path(__file__).parent
FOLDER = HERE / "methods"
SUITES = ("digits", "fashion-12k")
"""Recorded benchmarks whose rows stand on the methods' pages."""
JOURNALS = ("TPAMI", "Neurocomputing", "CVIU", "arXiv")

INDEX = """# Methods

Every method is a difference from plain cross-entropy training. This table and the pages behind it are generated from
the methods' own files, from runs of the methods, and from recorded results. [Which method](../which-method.md) says
what to take.

{table}

A step is so many times as long as a plain one; [what things cost](../costs.md) says more.

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

These are its defaults. It goes into a [training step](../timeline.md), {company}. {recipes}

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
    """Write the index: the table of all methods with links to their pages."""
    differences, changes = [], []
    for method in cards():
        link = f"[`{method.name}`]({method.name}.md)"
        source = f"[{method.reference}]({method.paper['link']})"
        time = f"{method.step_time:.1f} ×" if method.step_time else "–"
        cost = f"{time}, fine-tunes" if method.fine_tunes else time
        differences.append([link, prose(method.summary), ", ".join(method.needs) or "–", cost, source])
        named = [codes(names) for names in (method.moments, method.adds, method.terms)]
        changes.append([link, *named, ", ".join(method.replaces) or "–", f"`{method.score}`"])
    return INDEX.format(
        table=grid(("method", "difference from plain training", "needs", "step", "paper"), differences),
        facts=grid(("method", "moments", "parts it adds", "terms it adds", "replaces", "score"), changes),
        names="\n".join(METHODS),
    )


def page(method: Card) -> str:
    """Write the page of one method."""
    return PAGE.format(
        name=method.name,
        class_name=method.class_name,
        summary=prose(method.summary),
        pictures=show(method),
        facts=facts(method),
        call=call(method),
        command=command(method),
        recipes=schedules(method),
        company=company(method),
        parameters=parameters(method),
        results=results(method.name),
        source=prose(method.source),
        paper=paper(method),
        citation=citation(method),
    )


def command(method: Card) -> str:
    """Write the command that trains with a method at its defaults, where it can: beside another, from a recipe."""
    first = f"{'--recipe ' if 'weights' in method.needs else ''}{method.name}"
    words = ["oodles train", " + ".join([first, *beside(method)])]
    for parameter in method.parameters:
        if parameter.name == "kept" and CHOICE in method.replaces:
            words.append(f"--outlier-batch-size {4 * int(str(parameter.default))}")
    words.append(f"--data {'digits-wild' if 'wild' in method.needs else 'digits'}")
    return " ".join([*words, *(["--teacher path/to/run"] if "teacher" in method.needs else [])])


def company(method: Card) -> str:
    """Say what a method goes into a step with."""
    if beside(method):
        return "beside a method that trains on outliers: `TrainingStep(classifier, method, OutlierExposure())`"
    return "alone or with others: `TrainingStep(classifier, method)`"


def call(method: Card) -> str:
    """Write the call of the class with its defaults, on one line where it fits."""
    arguments = [f"{parameter.name}={parameter.default!r}" for parameter in method.parameters]
    line = f"method = {method.class_name}({', '.join(arguments)})"
    if len(line) <= 80:
        return line
    return "\n".join([f"method = {method.class_name}(", *(f"    {argument}," for argument in arguments), ")"])


def show(method: Card) -> str:
    """Write the pictures of a method at work and what they show, or why there are none."""
    try:
        work = at_work(method.name)
    except ValueError as error:
        return prose(str(error))
    settings = ", ".join(f"`{name}={value!r}`" for name, value in work.settings.items()) or "no settings"
    size = "8 × 8 pixels" if work.side == 8 else f"8 × 8 pixels, enlarged to {work.side} × {work.side}"
    lines = [
        figure(f"{method.name}.svg"),
        "",
        f"A step of training with {method.name}, {settings}, as it ran: `small-cnn` on the suite `digits` "
        f"({size}), after {pictures.STEPS} steps. {explain_marks(work)}",
    ]
    if sheet(work):
        lines += [
            "",
            figure(f"{method.name}-batch.svg"),
            "",
            f"The first {pictures.SHOWN} rows of the parts of that batch. Below each image is its target: a class, or "
            "the largest shares of a distribution.",
        ]
    if drawn := [f"`{name}` {tuple(value.shape)}" for name, value in work.prepared.draws.items()]:
        lines += ["", f"With the batch it hands on: {', '.join(drawn)}."]
    return "\n".join(lines)


def gallery() -> str:
    """Write pictures of what methods make of images, with links to the pages of the methods that make the same."""
    tiles: dict[str, list[str]] = {}
    for method in cards():
        try:
            drawn = tile(at_work(method.name))
        except ValueError:
            continue
        if drawn:
            images = re.sub(r' aria-label="[^"]*"', "", drawn)
            shown = "" if images in tiles else drawn
            link = f'<a href="methods/{method.name}.html">{shown}<code>{method.name}</code></a>'
            tiles.setdefault(images, []).append(link)
    lines = [f"<div>{' '.join(links)}</div>" for links in tiles.values()]
    return "\n".join(["```{raw} html", '<div class="gallery">', *lines, "</div>", "```"])


def explain_marks(work: AtWork) -> str:
    """Say what the colour in a diagram means."""
    if 'class="box changed"' in diagram(work) or 'class="line changed"' in diagram(work):
        return "What it adds, changes or replaces is marked."
    if work.card.moments and not work.step.methods[0].active:
        return "Nothing is marked: with these settings it is plain training."
    return "Nothing is marked: no part, head or term is another than in plain training."


def figure(name: str) -> str:
    """Include a drawing in the page, so that it has the page's colours."""
    return f"```{{raw}} html\n:file: {name}\n```"


def facts(method: Card) -> str:
    """Write a method's facts as a table."""
    rows = {
        "when to use": prose(method.when_to_use),
        "cost": " ".join(filter(None, (prose(method.cost), measured_cost(method.name)))),
        "caveat": prose(method.caveat),
        "needs": "; ".join(NEEDS.get(need, need) for need in method.needs),
        "moments": codes(method.moments),
        "reads the parts": codes(method.reads),
        "adds the parts": codes(method.adds),
        "adds the terms": codes(method.terms),
        "measures": codes(method.measures),
        "adds the heads": codes(method.heads),
        "replaces": ", ".join(method.replaces),
        "forwards apart": codes(method.separate),
        "score of the paper": f"[`{method.score}`](../scores.md)",
        "brings the scores": codes(method.brings),
        "switched off by": f"`{method.strength}=0`" if method.strength else "",
        "trains away what these scores see": codes(method.trains_away),
        "measured": f"{codes(method.suggests)}, on trained weights, where they are not given"
        if method.suggests
        else "",
    }
    return grid(("fact", f"`{method.name}`"), [[name, words] for name, words in rows.items() if words not in ("", "–")])


NEEDS = {
    "outliers": "[outliers](../outliers.md) to train with",
    "wild": "[wild rows](../suites.md) to train with",
    "images": "inputs that are images",
    "unit-range": "inputs in [0, 1]",
    "vectors": "features that are vectors, one label per row",
    "linear-head": "a linear last layer",
    "weights": "weights of a trained classifier to start from",
    "teacher": "a trained classifier of the same classes, `teacher=…`",
}


def measured_cost(name: str) -> str:
    """Say how long a step takes over a plain one, where that was measured."""
    record = read_record("steps.json")
    told = []
    if cost := record["steps"].get(name):
        whole = cost["rows"] * cost["ratio"]
        told.append(
            f"A step takes {whole:.1f} × a plain one, and {cost['ratio']:.2f} × one with as many rows, measured."
        )
    if cost := record.get("outliers", {}).get(name):
        among = f" of {cost['candidates']} times as many" if cost["candidates"] > 1 else ""
        told.append(f"It takes {cost['ratio']:.2f} × one of `outlier-exposure` that keeps as many outliers{among}.")
    return " ".join(told)


def schedules(method: Card) -> str:
    """Name the recipes of the package that train with the method."""
    names = [name for name in recipes() if method.name in dict(Recipe.load(name).methods)]
    if not names:
        return "No recipe of the package has it yet: a schedule is yours to choose."
    named = ", ".join(f"`{name}`" for name in names)
    return (
        f"A published schedule comes with the package: `--recipe {names[0]}`."
        if len(names) == 1
        else (f"Schedules that come with the package: the recipes {named}.")
    )


def parameters(method: Card) -> str:
    """Write the hyper-parameters as a table."""
    if not method.parameters:
        return "It has no settings."
    lines = [[f"`{p.name}`", f"`{p.flag}`", f"`{p.default!r}`", prose(p.help)] for p in method.parameters]
    return grid(("setting", "flag", "default", "what it does"), lines)


def results(name: str) -> str:
    """Write the method's recorded rows beside plain cross-entropy's under the same score."""
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
(Student's t) excludes zero, with no correction for multiple comparisons, and ▲▲ and ▼▼ those that hold with Holm's, for
all methods of the suite. [All results](../results/index.md) say how the runs were made."""


def with_plain(table: Table, name: str) -> Table | None:
    """Return the table with one method and its plain runs alone; return nothing where the method has none."""
    mine = {group for group in table.groups if name in dict(group.runs[0].methods)}
    beside = {group.plain for group in mine}
    kept = replace(table, groups=tuple(group for group in table.groups if group in mine | beside))
    blocks = tuple(block for block in kept.blocks if mine.intersection(block[2]))
    vars(kept)["blocks"] = blocks  # without those in which plain cross-entropy stands alone
    vars(kept)["holm"] = table.holm  # over all methods of the suite
    return kept if mine else None


def paper(method: Card) -> str:
    """Write the reference with its links."""
    code = f" The authors' program: <{method.paper['code']}>." if method.paper["code"] else ""
    authors, title = prose(str(method.paper["authors"])), prose(str(method.paper["title"]))
    return f"{authors}: *{title}*. {method.paper['venue']} {method.paper['year']}, <{method.paper['link']}>.{code}"


def citation(method: Card) -> str:
    """Write the BibTeX entry, with the family names that the card has."""
    authors = str(method.paper["authors"]).split(", ")
    first_word = re.sub(r"\W", "", str(method.paper["title"]).split()[0].split("-")[0]).lower()
    key = f"{re.sub(r'[^a-z]', '', authors[0].lower())}{method.paper['year']}{first_word}"
    kind, where = ("article", "journal") if method.paper["venue"] in JOURNALS else ("inproceedings", "booktitle")
    fields = {
        "title": f"{{{method.paper['title']}}}",
        "author": " and ".join(authors),
        where: method.paper["venue"],
        "year": method.paper["year"],
        "url": method.paper["link"],
    }
    return "\n".join([f"@{kind}{{{key},", *(f"  {name} = {{{value}}}," for name, value in fields.items()), "}"])


def method_scores() -> str:
    """Write the table of the scores that methods bring."""
    lines = []
    for name in METHOD_SCORES:
        score = score_named(name)
        owners = [f"[`{method.name}`](methods/{method.name}.md)" for method in cards() if name in method.brings]
        uses = [f"a head `{head}`" for head in score.needs_heads]
        uses += ["training rows"] * score.needs_fit + ["a gradient in the inputs"] * score.differentiates
        lines.append([f"`{name}`", prose(score.summary), ", ".join(uses) or "–", ", ".join(owners) or "–"])
    return grid(("score", "what it is", "looks at", "brought by"), lines)


def outlier_methods() -> str:
    """Write the table of the methods that train with outliers, and what they do with them."""
    lines = [
        [
            f"[`{method.name}`](methods/{method.name}.md)",
            "changes them first" if "change_batch" in method.moments else "as they come",
            codes(method.terms),
            prose(method.caveat),
        ]
        for method in cards()
        if "outliers" in method.needs
    ]
    return grid(("method", "outliers", "terms", "caveat"), lines)


def methods_without_outliers() -> str:
    """Write the table of the methods that train without outliers, with what each has changed in recorded runs."""
    tables = {suite: recorded_table(suite) for suite in SUITES}
    heads = ["method", "score"]
    for suite, table in tables.items():
        heads += [f"{suite}: {set_name(ood_set) if ood_set else 'accuracy'}" for ood_set, _ in overview(table)]
    names = [card.name for card in cards() if "outliers" not in card.needs and card.name != "cross-entropy"]
    lines = [changes(name, tables) for name in names]
    return grid(heads, [[f"[`{name}`](../methods/{name}.md)", score, *cells] for name, score, *cells in lines if score])


MADE = {"outlier-exposure": "msp", "energy-bounded": "energy"}
"""Losses on outliers of which rows with few and with generated ones are recorded, and their scores."""
AT_HAND = {"": "all", "-100": "100", "-generated": "none", "-100-generated": "100", "-all-generated": "all"}
"""How many of a suite's outliers a row trains on, by the end of its name."""


def generated_outliers() -> str:
    """Write a table of each suite whose rows train on all of its outliers, on 100 or none, and on generated ones."""
    tables = []
    for suite in ("digits", "fashion-12k", "cifar10-10k"):
        table = recorded_table(suite)
        groups = {group.label: group for group in table.groups}
        lines = []
        for loss, score in MADE.items():
            rows = {end: groups[loss + end] for end in AT_HAND if loss + end in groups}
            if len(rows) < len(AT_HAND):
                continue
            (plain,) = {group.plain for group in rows.values()}
            beside = [(plain, "–", "–")]
            beside += [(group, AT_HAND[end], "yes" if "generated" in end else "no") for end, group in rows.items()]
            for group, real, made in beside:
                figures = [table.figure(group, ood_set, metric, score, score) for ood_set, metric in overview(table)]
                lines.append([f"`{group.label}`", real, made, score, *map(_beside_plain, figures)])
        heads = ["row", "outliers at hand", "generated", "score"]
        heads += [set_name(ood_set) if ood_set else "accuracy" for ood_set, _ in overview(table)]
        if lines:
            tables += [f"{suite}:", "", grid(heads, lines), ""]
    return "\n".join(tables).rstrip() or "No such runs are recorded yet."


def _beside_plain(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    difference = f"{in_points(figure.difference.mean)} {figure.mark}".rstrip() if figure.difference else ""
    return f"{figure.value}" + (f" ({difference})" if difference else "")


FIRST = ("TrainingStep", "Classifier", "pair", "Method", "Batch", "Part", "Outputs", "Now")
"""The names that begin a section."""
STEP, RUNS, OWN = "The training step", "Training, evaluating, comparing", "Methods"
DEPLOYED = "Deployed"
OF_THE_STEP = ("contract", "step", "processes", "classifier", "outliers", "targets")
SECTIONS = {**dict.fromkeys(OF_THE_STEP, STEP), "methods": OWN, "detection": DEPLOYED}
"""The sections of the page of the API, by the module that a name comes from; all other names are about runs."""


def api() -> str:
    """Write directives of autodoc for all public names, by section."""
    homes = oodles._homes()
    order = [*FIRST, *homes]
    sections: dict[str, list[str]] = {STEP: [], RUNS: [], DEPLOYED: [], OWN: []}
    for name in sorted(homes, key=order.index):
        sections[SECTIONS.get(homes[name].split(".")[1], RUNS)].append(name)
    lines = []
    for title, names in sections.items():
        lines += [f"## {title}", "", *entries("oodles", names)]
    functions = ["msp", "max_logit", "energy", "entropy", "generalized_entropy"]
    classes = ["Score", "HeadScore", *(cls.__name__ for cls in {**SCORES, **FURTHER_SCORES}.values())]
    lines += ["## Scores", "", *entries("oodles.scores", [*functions, *classes])]
    lines += entries("oodles.evaluation", ["score_named"])
    for method, cls in METHOD_SCORES.values():
        lines += entries(f"oodles.methods.{method.replace('-', '_')}", [cls])
    metrics = ["auroc", "aupr_in", "aupr_out", "fpr95_id_positive", "fpr95_ood_positive", "ood_metrics"]
    metrics += ["accuracy", "best_threshold", "decided"]
    lines += ["## Metrics", "", *entries("oodles.metrics", metrics)]
    lines += ["## Data and networks", "", *entries("oodles.data", import_module("oodles.data").__all__)]
    lines += entries("oodles.networks", import_module("oodles.networks").__all__)
    return "\n".join(lines)


def entries(module: str, names: Iterable[str]) -> list[str]:
    """Write directives of autodoc for names of a module."""
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
    """Write a table in Markdown; cells stay as they are."""
    return "\n".join(as_table(heads, lines))


def codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "–"


def pages() -> dict[str, str]:
    """Return the text of every generated file, by its name."""
    files = {
        "index.md": index(),
        "_gallery.md": gallery(),
        "_timeline.svg": timeline(),
        "_scores.md": method_scores(),
        "_outliers.md": outlier_methods(),
        "_without_outliers.md": methods_without_outliers(),
        "_generated_outliers.md": generated_outliers(),
        "_api.md": api(),
    }
    for method in cards():
        files[f"{method.name}.md"] = page(method)
        try:
            work = at_work(method.name)
        except ValueError:
            continue
        files[f"{method.name}.svg"] = diagram(work)
        if images := sheet(work):
            files[f"{method.name}-batch.svg"] = images
    return files


def write(folder: Path = FOLDER) -> None:
    """Write files that have changed, and remove those that are no longer generated."""
    folder.mkdir(exist_ok=True)
    files = pages()
    for path in folder.iterdir():
        if path.name not in files:
            path.unlink()
    for name, text in files.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()
