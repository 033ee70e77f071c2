"""Write docs/results from the rows in benchmarks/results and the figures in benchmarks/published.toml:

python docs/results.py. With --check it writes nothing and fails where a page is out of date.
"""

import sys
import tomllib
from collections.abc import Callable, Sequence
from pathlib import Path

import choices
import compositions
from families import on_features, on_outliers
from protocols import protocol
from published import beside_published
from recorded import (
    KINDS,
    MARKS,
    RESULTS,
    ROOT,
    as_table,
    changes,
    differences,
    keep,
    over_sets,
    points,
    read_table,
    title,
    verdict,
)

from oodles.comparing.figures import Figure, Seeds, in_points
from oodles.comparing.groups import Group
from oodles.comparing.markdown import READING, escape, grid, ranks_table
from oodles.comparing.ranking import ranking
from oodles.comparing.results import CHOSEN
from oodles.comparing.tables import Table
from oodles.comparing.words import heading, overview, sentences
from oodles.spelling import set_name

FOLDER = ROOT / "docs" / "results"
PUBLISHED = ROOT / "benchmarks" / "published.toml"
ABOUT = {
    "digits": """Handwritten digits of 8 × 8 pixels: six digits are known, two others near. The photograph is of the
same kind as some of the auxiliary outliers. How hard the suite is (its share of training rows) was set so that plain
cross-entropy leaves headroom on near-OOD, over seeds that include these. Training settings were chosen on its
validation accuracy, the network's width on cost and headroom too, and the fine-tunes' schedule by judgement.""",
    "fashion-12k": """Fashion-MNIST, with shapes of animals near and letters far. Learning rate and batch size were
chosen on plain cross-entropy's accuracy on held-out training rows, the fine-tunes' schedule by judgement.""",
    "cifar10-10k": """CIFAR-10, with animals and vehicles of other kinds near, and street characters and textures far.
The outliers are of the same collection as the near set, and of no class of it.""",
    "cifar10-10k-factorial": """[The suite before](cifar10-10k.md) in trainings half as long, with every combination of
four methods: one that learns from outliers, one that mixes pictures, one that normalises and one with a further task.
Which four, and how long they train, was settled before any of them ran.""",
    "fashion-12k-lt": """Fashion-MNIST with a long tail: of the first class 100 times as many rows as of the last.""",
    "digits-wild": """The digits with wild rows to train with, a tenth of which are of digits that are not known.""",
    "fashion-12k-wild": """Fashion-MNIST with wild rows to train with, a tenth of which are silhouettes of animals,
as are the near ones that are tested.""",
    "scenes": """Photos of six kinds of scenes, and a network with weights from ImageNet-1K whose last block trains.
Near are skies, far things and animals, of which the outliers are others. The photos are not published with the package:
`benchmarks/scenes.toml` says what trains.""",
    "clinc150": """Requests to an assistant, of 150 intents, as features of a frozen encoder; far are requests of no
known intent.""",
}
"""What must be known of each suite; one that is not here comes last."""
FIRST = {
    "digits": "8 × 8 digits",
    "fashion-12k": "28 × 28 clothes",
    "cifar10-10k": "32 × 32 photos",
    "cifar10-10k-factorial": "32 × 32 photos, four methods with and without each other",
    "fashion-12k-lt": "28 × 28 clothes, a long tail",
    "digits-wild": "8 × 8 digits, wild rows",
    "fashion-12k-wild": "28 × 28 clothes, wild rows",
    "scenes": "128 × 128 photos, a pretrained network",
    "clinc150": "sentences",
}
"""What each suite is, in few words."""
SIDE_BY_SIDE = ("digits", "fashion-12k")
"""Suites on which nearly every method is recorded."""
FOREMOST = 3
"""As many methods are named in the overview."""
RANKED = (*SIDE_BY_SIDE, "cifar10-10k", "cifar10")
"""Suites whose rows are many enough to be ranked together."""
RANKS = "Over the sets of {}; protocols of very different sizes count alike."
FPR = ("fpr95_id_positive", "fpr95_ood_positive")

Under = Callable[[Table, Group, str | None, str], Figure | None]
"""Gives the figure of a group in one metric on one set, under a score that it decides."""

INDEX = """# Recorded results

[Which method](../which-method.md) says what to take. Here is what was recorded: a line for each suite, with a page
behind it.

{table}

AUROC in per cent, near / far: the mean over the near and the far sets. The *chosen score* is the one that was [chosen
for each run](choosing.md) without training and without test rows. *Gain most* are the methods with the largest mean
difference to plain training, either under its chosen score; ▲ and ▼ mark differences whose 95 % interval (Student's t)
excludes zero, with no correction for multiple comparisons, which the suites' pages have. A protocol is a suite, a
network and a schedule: figures of two protocols do not compare.

The rows are in `benchmarks/results/`: one line of JSON for every run, with its settings, versions, device, seed and
every metric. `oodles compare benchmarks/results/digits.jsonl --to report.html` shows all metrics under all scores.

```{{toctree}}
:maxdepth: 1

{names}
```
"""

SUITE = """# {suite}

{about}

<details><summary>How the runs were made</summary>

{protocol}

</details>

{chosen}## Under the score of each method's paper

Mean ± standard deviation over seeds; below it the difference to plain cross-entropy under the same score, paired by
seed, and on how many of the seeds the method is better. ▲▲ and ▼▼ hold with Holm's correction, for all differences in
one metric of the suite. Where plain training cannot give a method's score, it has the one in brackets, its best on
validation data. [How to read the tables](reading.md) says more.

{main}

<details><summary>Both FPR95s</summary>

{fpr}

</details>

<details><summary>AUROC under every score that all can have</summary>

Near / far: the mean over the near and the far sets, with marks against plain training under the same score.

{shared}

</details>

## What got worse

Accuracy and AUROC that are lower beyond the noise, the largest losses first.

{worse}

<details><summary>Remarks</summary>

{remarks}

</details>

Everything else, under every score and with every metric and test, is in the rows:

```sh
oodles compare benchmarks/results/{file} --to report.html
```
"""


WITH_CHOICE = """## With the score chosen

What a method adds where every run has the score that was [chosen for it](choosing.md) without training and without test
rows, and plain cross-entropy the one that was chosen for it.

{table}

"""


def pages(files: Sequence[Path], published: Path = PUBLISHED, networks: Sequence[Path] = ()) -> dict[str, str]:
    """Return the text of every page by its name: a suite's for every file, the overview, and those over all suites.

    Results with other networks only say whether the choice of a score holds there.
    """
    order = list(ABOUT)
    tables = [read_table(path) for path in files]
    every = sorted(tables, key=lambda table: order.index(table.suite) if table.suite in order else len(order))
    texts = {f"{table.suite}.md": suite_page(table) for table in every}
    families = [*on_features(every), *on_outliers(every)]
    if families:
        texts["families.md"] = "\n".join(["# Families of methods", "", *families])
    if together := compositions.page(every):
        texts["compositions.md"] = together
    if any(CHOSEN in group.scores for table in every for group in table.groups):
        texts["choosing.md"] = choices.page(every, [read_table(path) for path in networks])
    beside = {table.suite: table for table in every if table.suite in SIDE_BY_SIDE}
    if len(beside) > 1:
        texts["side-by-side.md"] = side_by_side(beside)
    if ranks := ranking([table for table in every if table.suite in RANKED]):
        over = RANKS.format(", ".join(dict.fromkeys(suite for suite, _ in ranks.sets)))
        texts["ranks.md"] = "\n".join(["# Ranks", "", over, "", *ranks_table(ranks)])
    beside_ours = beside_published(every, tomllib.loads(published.read_text("utf-8")))
    texts["published.md"] = "\n".join(["# Published numbers", "", *beside_ours])
    texts["reading.md"] = "\n".join(["# How to read the tables", "", *(f"* {words}" for words in READING)])
    names = "\n".join(name.removesuffix(".md") for name in texts)
    texts["index.md"] = INDEX.format(table="\n".join(overview_table(every)), names=names)
    return {name: text.rstrip() + "\n" for name, text in texts.items()}


def own(table: Table, group: Group, ood_set: str | None, metric: str) -> Figure | None:
    """Return a figure under the score of the method's paper, beside plain training under the same if it has it."""
    return table.figure(group, ood_set, metric, *group.versus[-1])


def chosen(table: Table, group: Group, ood_set: str | None, metric: str) -> Figure | None:
    """Return a figure under the score that was chosen for each run, beside plain training under its own choice."""
    return table.figure(group, ood_set, metric, CHOSEN, CHOSEN)


def overview_table(tables: Sequence[Table]) -> list[str]:
    """Write a line for every suite."""
    heads = ["suite", "what it is", "rows, seeds", "plain: accuracy", "by msp", "by its chosen score"]
    heads += ["gain most (near / far)", "lose accuracy"]
    lines = []
    for table in tables:
        plain = table.groups[0]
        right = plain.measured(None, plain.own_score, "accuracy")
        seeds = sorted({len(group.runs) for group in table.groups}, reverse=True)
        lines.append(
            [
                f"[{escape(table.suite)}]({table.suite}.md)",
                FIRST.get(table.suite, ""),
                f"{len(table.groups)}, n = {' or '.join(map(str, seeds))}",
                f"{right or '–'}",
                near_and_far(plain, plain.own_score),
                near_and_far(plain, plain.deployed_score),
                "<br>".join(foremost(table)) or "none",
                losing(table),
            ]
        )
    head, _, *rows = as_table(heads, lines)
    return [head, f"| {' | '.join(['---'] * 2 + ['---:'] * 4 + ['---'] * 2)} |", *rows]  # figures stay on one line


def near_and_far(group: Group, score: str) -> str:
    """Write the mean AUROC over the near and over the far sets; a dash where there are none."""
    means = (over_sets(group, kind, score) for kind in KINDS)
    return " / ".join(f"{100 * seeds.mean:.1f}" if seeds else "–" for seeds in means)


def foremost(table: Table) -> list[str]:
    """Name the methods with the largest mean difference to plain training, as they are deployed."""
    gains = [(group.label, differences(group, group.deployed_score)) for group in table.groups if group.plain]
    ranked = sorted((gain for gain in gains if gain[1]), key=lambda gain: -mean_of(gain[1]))
    return [
        f"{escape(label)} {' / '.join(points(kinds[kind]) if kind in kinds else '–' for kind in KINDS)}"
        for label, kinds in ranked[:FOREMOST]
        if mean_of(kinds) > 0
    ]


def mean_of(kinds: dict[str, Seeds]) -> float:
    return sum(difference.mean for difference in kinds.values()) / len(kinds)


def losing(table: Table) -> str:
    """Say how many rows lose accuracy beyond the noise, and which most."""
    lost = worst(table, None, "accuracy")
    methods = sum(not group.is_plain for group in table.groups)
    return "<br>".join([f"{len(lost)} of {methods}{':' if lost else ''}", *lost[:FOREMOST]])


def worst(table: Table, ood_set: str | None, metric: str) -> list[str]:
    """Name the methods that are worse beyond the noise, with the difference; the largest first."""
    figures = [own(table, group, ood_set, metric) for group in table.groups if not group.is_plain]
    marked = [(f.difference.mean, f.label) for f in figures if f and f.difference and f.verdict == "worse"]
    return [f"{escape(label)} {in_points(mean)}" for mean, label in sorted(marked)]


def suite_page(table: Table) -> str:
    """Write the page of one file of results."""
    facts = [f"* {name}: {escape(value)}" for name, value in protocol(table).items()]
    worse = [
        f"* **{title(*column)}**: {', '.join(lost)}." for column in overview(table) if (lost := worst(table, *column))
    ]
    fpr = [(name, metric) for name in table.ood_sets for metric in FPR]
    return SUITE.format(
        suite=escape(table.suite),
        about="\n\n".join(filter(None, (ABOUT.get(table.suite), f"Plain cross-entropy has {plain_figures(table)}."))),
        protocol="\n".join(facts),
        chosen=with_choice(table),
        main="\n".join(by_row(table, own, overview(table))),
        fpr="\n".join(by_row(table, own, fpr)),
        shared="\n".join(shared_scores(table)),
        worse="\n".join(worse or ["Nothing."]),
        remarks="\n".join(f"* {escape(sentence)}" for sentence in sentences(table)),
        file=f"{table.suite}.jsonl",
    )


def with_choice(table: Table) -> str:
    """Write the table of chosen scores; nothing where the results of a suite do not say what was chosen."""
    if not any(CHOSEN in group.scores for group in table.groups if group.is_plain):
        return ""
    return WITH_CHOICE.format(table="\n".join(by_row(table, chosen, overview(table))))


def plain_figures(table: Table) -> str:
    """State the figures of plain training under its own score, and the AUROC under the one best on validation data."""
    plain = table.groups[0]
    figures = [(title(*column), own(table, plain, *column)) for column in overview(table)]
    words = ", ".join(f"{name} {figure.value}" for name, figure in figures if figure) + f" by {plain.own_score}"
    best = plain.best_on_validation
    return words if best in (None, plain.own_score) else f"{words}; near / far {near_and_far(plain, best)} by {best}"


def by_row(table: Table, under: Under, columns: Sequence[tuple[str | None, str]]) -> list[str]:
    """Write a line for every group: its figures and what they are beside plain training."""
    several = len({name for name, _ in columns if name}) > 1
    heads = [heading(m) if name is None else f"{title(name, m, several)} {heading(m)[-1]}" for name, m in columns]
    lines = []
    for group in table.groups:
        figures = [under(table, group, *column) for column in columns]
        lines.append([group.label, scores_of(figures, group), *map(cell, figures)])
    return grid(["method", "score, seeds", *heads], lines, words=2)


def scores_of(figures: Sequence[Figure | None], group: Group) -> str:
    """Return the score of a row's figures, plain training's in brackets if it is another, and how many seeds."""
    figure = next((figure for figure in reversed(figures) if figure), None)
    if figure is None:
        return group.seeds
    beside = "" if figure.plain is None or figure.plain_score == figure.score else f" ({figure.plain_score})"
    return f"{figure.score}{beside}, n = {group.seeds}"


def cell(figure: Figure | None) -> str:
    if figure is None:
        return "–"
    difference = f"**{figure.against_plain}**" if figure.verdict else figure.against_plain
    return "<br>".join(part for part in (str(figure.value), difference) if part)


def shared_scores(table: Table) -> list[str]:
    """Write the mean AUROC of every group under every score that plain training has, with marks."""
    every = (score for group in table.groups if group.is_plain for score in group.scores)
    scores = [score for score in dict.fromkeys(every) if score != CHOSEN]
    return grid(
        ["method", *scores], [[group.label, *(marked(group, score) for score in scores)] for group in table.groups], 1
    )


def marked(group: Group, score: str) -> str:
    found, cells = differences(group, score), []
    for kind in KINDS:
        seeds = over_sets(group, kind, score)
        mark = MARKS[verdict(found[kind])] if kind in found else ""
        cells.append(f"{100 * seeds.mean:.1f}{mark}" if seeds else "–")
    return " / ".join(cells)


def side_by_side(tables: dict[str, Table]) -> str:
    """Write what every method changes on the suites where nearly all are recorded."""
    heads = ["method", "score"]
    for name, table in tables.items():
        heads += [f"{name}: {set_name(ood_set) if ood_set else 'accuracy'}" for ood_set, _ in overview(table)]
    labels = dict.fromkeys(group.label for table in tables.values() for group in table.groups if not group.is_plain)
    lines = [changes(label, tables) for label in labels]
    return "\n".join(["# Side by side", "", BESIDE, "", *grid(heads, lines, words=2)])


BESIDE = """What a method changes, in points: the mean difference to plain cross-entropy over seeds, paired by seed, in
accuracy and in AUROC under the score of the method's paper, for plain training too. Where plain training cannot give
that score, it has the one in brackets, its best on validation data. ▲ and ▼ mark differences whose 95 % interval
(Student's t) excludes zero, with no correction for multiple comparisons, and ▲▲ and ▼▼ those that hold with Holm's, for
all differences in one metric of a suite. Fine-tuned methods are compared with plain training that was fine-tuned as
long."""


def write(texts: dict[str, str], folder: Path = FOLDER) -> None:
    """Write the pages, and remove those that are no longer made; with --check fail where something would change."""
    folder.mkdir(exist_ok=True)
    for name, text in texts.items():
        keep(folder / name, text)
    for path in folder.glob("*.md"):
        if path.name not in texts:
            if "--check" in sys.argv:
                raise SystemExit(f"{path.name} is no longer made: run python docs/results.py")
            path.unlink()


if __name__ == "__main__":
    write(pages(sorted(RESULTS.glob("*.jsonl")), networks=sorted(RESULTS.glob("networks/*.jsonl"))))
