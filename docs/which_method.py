"""Write docs/which-method.md from the rows in benchmarks/results: python docs/which_method.py

Methods are named by rules on the recorded figures, and what is said in words of its own is checked against them: where
rows no longer bear it out, nothing is written. With --check it fails where the page is out of date.
"""

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import cache

from recorded import KINDS, ROOT, as_table, group_of, keep, over_sets, points, recorded_table, require

from oodles.cards import LOGIT_SCORES, card
from oodles.comparing.figures import Seeds, in_points
from oodles.comparing.groups import Group
from oodles.comparing.results import CHOSEN
from oodles.facts import ROLES

SUITES = ("digits", "fashion-12k", "cifar10-10k")
RELATED, UNLIKE = "cifar10-10k", "fashion-12k"
"""Suites whose outliers are like, and unlike, what they are tested with."""
NEW_CLASSES = ("digits", "cifar10-10k")
"""Suites whose near sets are other classes of the same kind of things."""
SCRATCH = "outlier-exposure-from-scratch"
MADE = "outlier-exposure-generated"
"""Outlier Exposure as a fine-tune with outliers that training makes alone."""
LONG_TAIL = "fashion-12k-lt"
"""The suite with few rows of some classes."""
BY_CHOICE = (CHOSEN,)
"""Each run with the score that was chosen for it without training."""
LITTLE = 0.01
"""In AUROC: a smaller gain is not worth a training."""
WORST = 6
"""As many methods are named that lose accuracy."""

PAGE = """# Which method

First the score, then related outliers, then the method: in this order they decide how well unknown inputs are found.
The table says what to do, and what it brought in the [recorded runs](results/index.md).

*Choose the score* means: leave it to `oodles train`, `oodles adopt` and `Detector.fit`, which
[choose it](scores.md#which-score) without further training and use it unless told otherwise. Figures are
[AUROC](scores.md#metrics) in points more than plain training has, near / far: *near* unknowns look like the classes,
*far* ones do not. The suites are handwritten digits (digits), clothes (fashion-12k, and fashion-12k-lt with a long
tail) and photos (cifar10-10k).

{table}

A figure is the mean over the near or the far sets of a suite; either side has the score that was
[chosen for it](results/choosing.md) without training and without test rows. Brackets name the scores that were chosen
for plain training, which differ by seed. ▲ and ▼ mark differences whose 95 % interval (Student's t, {seeds})
excludes zero. *Accuracy* is the difference in points, suite by suite. Cost is the time of a training step over a plain
one; [what things cost](costs.md#a-step-with-each-method) has it for every method.

## The commands

```sh
{commands}
```

The [suite](suites.md) names your data, outliers too. `--network` names another network than `small-cnn`, such as a
[pretrained one](guides/pretrained-network.md) for photos.

`oodles methods --for "no outliers"`, or `outliers`, `pretrained`, `only logits`, lists the methods of a situation.

## How the methods were chosen

* Without outliers: of the {free} methods that need none, lose no accuracy beyond the noise and are recorded on
  {suites}, the one with the highest mean gain; plain training alone where that is below {little} point.
* With outliers: the highest mean gain on {related}, whose outliers are like its near set, of the rows that train anew,
  and of those that fine-tune the trained network.
* Only logits: the same without and with outliers, by scores of logits alone ({logits}), of the rows that are recorded
  on all three suites.
* {hindsight}
* Accuracy: the rows with the largest losses beyond the noise.
* The networks are small and the trainings short: take three seeds of your own before you rely on a point or two.
"""


@dataclass(frozen=True)
class Gain:
    """What one row gains over plain training, each under the score that is best for it."""

    suite: str
    group: Group
    kinds: dict[str, Seeds]
    accuracy: Seeds

    @property
    def mean(self) -> float:
        return sum(difference.mean for difference in self.kinds.values()) / len(self.kinds)

    @property
    def keeps_accuracy(self) -> bool:
        """Tell whether accuracy is not lower beyond the noise."""
        return "▼" not in points(self.accuracy)

    def __str__(self) -> str:
        return " / ".join(points(self.kinds[kind]) if kind in self.kinds else "–" for kind in KINDS)


def best(group: Group, kind: str, scores: Collection[str] = BY_CHOICE) -> tuple[str, Seeds] | None:
    """Return the score of these under which a group has the highest mean AUROC over the sets of a kind."""
    named = [score for score in group.scores if score in scores]
    measured = [(score, over_sets(group, kind, score)) for score in named]
    found = [(score, seeds) for score, seeds in measured if seeds]
    return max(found, key=lambda pair: pair[1].mean) if found else None


@cache
def gains(suite: str, scores: tuple[str, ...] = BY_CHOICE) -> tuple[Gain, ...]:
    """Return what every row of a suite gains over plain training; the highest mean first."""
    found = []
    for group in (group for group in recorded_table(suite).groups if group.plain and group.finished):
        kinds = {}
        for kind in KINDS:
            mine, beside = best(group, kind, scores), best(group.plain, kind, scores)
            if mine and beside and (difference := mine[1].minus(beside[1])):
                kinds[kind] = difference
        right, beside_right = (rows.measured(None, rows.own_score, "accuracy") for rows in (group, group.plain))
        accuracy = right.minus(beside_right) if right and beside_right else None
        if kinds and accuracy:
            found.append(Gain(suite, group, kinds, accuracy))
    return tuple(sorted(found, key=lambda gain: -gain.mean))


def gain(suite: str, label: str, scores: tuple[str, ...] = BY_CHOICE) -> Gain | None:
    return next((one for one in gains(suite, scores) if one.group.label == label), None)


def on_suites(label: str, scores: tuple[str, ...] = BY_CHOICE, suites: Iterable[str] = SUITES) -> list[Gain]:
    """Return a row's gains on the suites that have it."""
    return [found for suite in suites if (found := gain(suite, label, scores))]


def takes_outliers(group: Group) -> bool:
    """Tell whether a row trains on outliers that somebody has to have."""
    needs = {need for name, _ in group.runs[0].methods for need in card(name).needs}
    return bool(needs & set(ROLES)) and group.runs[0].settings.get("max_outliers") != 0


def without_outliers(scores: tuple[str, ...] = BY_CHOICE) -> list[tuple[str, list[Gain]]]:
    """Return the rows that need no outliers, lose no accuracy and are recorded on all suites; the best first."""
    labels = [one.group.label for one in gains(SUITES[-1], scores) if not takes_outliers(one.group)]
    found = [(label, on_suites(label, scores)) for label in labels]
    kept = [
        (label, rows) for label, rows in found if len(rows) == len(SUITES) and all(row.keeps_accuracy for row in rows)
    ]
    return sorted(kept, key=lambda pair: -mean(pair[1]))


def mean(rows: Sequence[Gain]) -> float:
    return sum(row.mean for row in rows) / len(rows)


def with_outliers(tuned: bool, scores: tuple[str, ...] = BY_CHOICE) -> Gain:
    """Return the row that gains most from related outliers: trained anew, or from the trained network."""
    rows = [one for one in gains(RELATED, scores) if takes_outliers(one.group) and one.keeps_accuracy]
    return next(one for one in rows if (one.group.runs[0].initial_weights != "random") is tuned)


def of_the_score(suite: str) -> dict[str, float]:
    """Return what the chosen score brings plain training over its own, by kind."""
    plain = recorded_table(suite).groups[0]
    pairs = {kind: [over_sets(plain, kind, score) for score in (CHOSEN, plain.own_score)] for kind in KINDS}
    return {kind: chosen.minus(own).mean for kind, (chosen, own) in pairs.items() if chosen and own}


def said(rows: Sequence[Gain]) -> str:
    """Write a row's gains, and what it does to accuracy."""
    words = ", ".join(f"{row.suite} {row}" for row in rows)
    return f"{words}; accuracy {', '.join(points(row.accuracy) for row in rows)}"


def scores_said(suites: Iterable[str] = SUITES) -> str:
    """Write what the chosen score brings plain training on every suite, and which it was."""
    words = []
    for suite in suites:
        brought = " / ".join(in_points(more) for more in of_the_score(suite).values())
        names = Counter(run.chosen for run in recorded_table(suite).groups[0].finished if run.chosen)
        words.append(f"{suite} {brought} ({' or '.join(name for name, _ in names.most_common())})")
    return ", ".join(words)


def losing_accuracy() -> list[tuple[str, str, Seeds]]:
    """Return the rows that lose accuracy beyond the noise, with the suite on which each loses most; the worst first."""
    lost: dict[str, tuple[str, str, Seeds]] = {}
    for suite in SUITES:
        for one in gains(suite):
            known = lost.get(one.group.label)
            if not one.keeps_accuracy and (known is None or one.accuracy.mean < known[2].mean):
                lost[one.group.label] = (one.group.label, suite, one.accuracy)
    return sorted(lost.values(), key=lambda row: row[2].mean)


def name_of(group: Group) -> str:
    """Link the methods of a row."""
    links = " + ".join(f"[`{name}`](methods/{name}.md)" for name, _ in group.runs[0].methods)
    return f"{links}{' from scratch' if group.label.endswith('from-scratch') else ''}"


def cost_of(group: Group) -> str:
    """Write the time of a step over a plain one, where it was measured for the methods of a row."""
    names = [name for name, _ in group.runs[0].methods]
    times = [time for name in names if (time := card(name).step_time)]
    return f"{times[0]:.1f} × a step" if len(times) == len(names) == 1 else "–"


def page() -> str:
    """Write the page."""
    free = without_outliers()
    top = free[0][1] if mean(free[0][1]) >= LITTLE else []
    anew, tuned = with_outliers(tuned=False), with_outliers(tuned=True)
    logits = logits_alone()
    unlike = [found for label in (SCRATCH, "outlier-exposure", "energy-bounded") if (found := gain(UNLIKE, label))]
    lost = losing_accuracy()
    tail = [one for one in gains(LONG_TAIL) if one.keeps_accuracy]
    require(not any("▲" in str(one) for one in tail), f"no row is better on {LONG_TAIL}.")
    for suite in (*SUITES, LONG_TAIL):
        score = mean_of_score(suite)
        require(score > 0, f"the score brings something on {suite}.")
        require(suite == RELATED or score > gains(suite)[0].mean, f"the score brings more than any method on {suite}.")
    require(min(anew.mean, tuned.mean) >= LITTLE, "related outliers bring something.")
    require(all(one.mean < LITTLE for one in unlike), f"outliers unlike what is met bring nothing on {UNLIKE}.")
    require(anew.mean > mean_of(RELATED, free[0][0]), "related outliers bring more than methods without any.")
    made = on_suites(MADE)
    require(len(made) == len(SUITES), f"{MADE} is recorded on all suites.")
    helped = [one.suite for one in made if one.mean >= LITTLE]
    require(0 < len(helped) < len(made), "outliers that training makes bring something on some suites alone.")
    lines = [
        [
            "no outliers at hand",
            "train plain cross-entropy and choose the score"
            + (f"; where you train anew, {name_of(top[0].group)} costs no accuracy" if top else ""),
            f"the score: {scores_said()}<br>of {len(free)} methods, {name_of(free[0][1][0].group)} adds most: "
            f"{said(free[0][1])}",
            f"1.0 × a step; {name_of(free[0][1][0].group)} {cost_of(free[0][1][0].group)}",
        ],
        [
            "outliers of the sort that you will meet, and you train anew",
            f"{name_of(anew.group)}, and choose the score",
            said([anew]),
            cost_of(anew.group),
        ],
        [
            "the same, and a trained network is there",
            f"fine-tune it with {name_of(tuned.group)}, and choose the score",
            said([tuned]),
            tuned_epochs(tuned),
        ],
        [
            "a trained network, and no outliers",
            "train nothing: [`oodles adopt`](guides/your-own-model.md), and choose the score; "
            f"[outliers that training makes](guides/no-outliers.md) helped on {' and '.join(helped)} alone",
            f"the score: {scores_said()}<br>fine-tuned with {name_of(made[0].group)}, made ones alone: {said(made)}",
            f"none; made outliers {tuned_epochs(made[-1])}",
        ],
        [
            "outliers unlike what you will meet",
            "do not train with them; choose the score on them",
            "<br>".join(f"{name_of(one.group)}: {said([one])}" for one in unlike),
            "none",
        ],
        [
            "in production there are only logits: no features, no training rows",
            "here the method counts: " + " or ".join(name_of(rows[0].group) for rows in logits),
            "by scores of logits<br>" + "<br>".join(f"{name_of(rows[0].group)}: {said(rows)}" for rows in logits),
            " or ".join(cost_of(rows[0].group) for rows in logits),
        ],
        [
            "few rows of some classes (a long tail)",
            "choose the score; then measure, for no row that costs no accuracy is told apart from plain training",
            f"the score: {scores_said([LONG_TAIL])}<br>of {len(tail)} rows that cost no accuracy, "
            f"{name_of(tail[0].group)} adds most: {said(tail[:1])}",
            f"none; {name_of(tail[0].group)} {cost_of(tail[0].group)}",
        ],
        [
            "accuracy must not fall",
            f"leave out {', '.join(f'`{label}`' for label, _, _ in lost[:WORST])}, and look at each method's page",
            f"{', '.join(f'`{label}` {in_points(down.mean)} ({suite})' for label, suite, down in lost[:WORST])}; "
            f"{len(lost)} of {len(all_labels())} rows lose accuracy beyond the noise somewhere",
            "–",
        ],
        [
            "new classes of the same kind are feared",
            "expect the figure of near unknowns and not that of far ones; "
            "[`oodles evaluate RUN --new-classes 3`](deploying.md) estimates it",
            "AUROC of plain training by the chosen score, on new classes / far: "
            + ", ".join(near_beside_far(suite) for suite in NEW_CLASSES),
            "–",
        ],
    ]
    seeds = " or ".join(
        f"n = {n}" for n in sorted({len(recorded_table(suite).groups[0].finished) for suite in SUITES}, reverse=True)
    )
    return PAGE.format(
        table="\n".join(as_table(["your situation", "do", "measured", "cost"], lines)),
        seeds=seeds,
        free=len(free),
        suites=f"{', '.join(SUITES[:-1])} and {SUITES[-1]}",
        little=f"{100 * LITTLE:.0f}",
        related=RELATED,
        logits=", ".join(LOGIT_SCORES),
        commands=commands(free[0][1][0].group, anew.group, tuned.group),
        hindsight=careful([anew, next(row for row in free[0][1] if row.suite == RELATED)]),
    )


def logits_alone() -> list[list[Gain]]:
    """Return the best row without outliers under scores of logits, and the best one with them; on all its suites."""
    best_free = without_outliers(LOGIT_SCORES)[0][1]
    exposed = dict.fromkeys(one.group.label for one in gains(RELATED, LOGIT_SCORES) if takes_outliers(one.group))
    rows = [on_suites(label, LOGIT_SCORES) for label in exposed]
    kept = [row for row in rows if len(row) == len(SUITES) and all(one.keeps_accuracy for one in row)]
    best_exposed = max(kept, key=mean)
    for row in (best_free, best_exposed):
        require(mean(row) >= LITTLE, f"{row[0].group.label} brings something under scores of logits.")
    return [best_free, best_exposed]


def scores_of_plain(suite: str) -> tuple[str, ...]:
    """Return the scores that plain training has on a suite, without the choice among them."""
    return tuple(score for score in recorded_table(suite).groups[0].scores if score != CHOSEN)


def in_hindsight(one: Gain) -> Gain:
    """Return what a row gains if either side has the best of plain training's scores, as only test rows can tell."""
    found = gain(one.suite, one.group.label, scores_of_plain(one.suite))
    assert found is not None
    return found


def careful(rows: Sequence[Gain]) -> str:
    """Say what the choice leaves plain training short of on the suite of some rows, and what they gain in hindsight."""
    plain = recorded_table(rows[0].suite).groups[0]
    every = scores_of_plain(rows[0].suite)
    short = [best(plain, kind, every)[1].minus(best(plain, kind)[1]).mean for kind in KINDS]
    words = " and ".join(f"{name_of(one.group)} {in_hindsight(one)}" for one in rows)
    missing = " / ".join(f"{100 * more:.1f}" for more in short)
    return (
        f"The choice is careful: on {rows[0].suite} it leaves plain training {missing} points short of its best score "
        f"there. With the best score in hindsight on either side the gains are {words}."
    )


def mean_of_score(suite: str) -> float:
    brought = of_the_score(suite)
    return sum(brought.values()) / len(brought)


def mean_of(suite: str, label: str) -> float:
    found = gain(suite, label)
    return found.mean if found else 0.0


def commands(free: Group, anew: Group, tuned: Group) -> str:
    """Write what trains the rows that are advised, a line for each situation."""
    settings = tuned.runs[0].settings
    schedule = f"--epochs {settings['epochs']} --learning-rate {settings['learning_rate']:g}"
    names = {group: " + ".join(name for name, _ in group.runs[0].methods) for group in (free, anew, tuned)}
    data = "--data path/to/suite.toml"
    lines = [
        ("no outliers", f"oodles train cross-entropy {data} --to path/to/plain"),
        ("no outliers, and you train anew", f"oodles train {names[free]} {data}"),
        ("outliers, and you train anew", f"oodles train {names[anew]} {data}"),
        (
            "outliers, and a trained network",
            f"oodles train {names[tuned]} {data} \\\n  --weights path/to/plain {schedule}",
        ),
        ("a trained network, and no outliers", f"oodles adopt package.module:function --weights mine.pt {data}"),
        ("which score was chosen, and why", "oodles evaluate path/to/run --choose-score"),
    ]
    return "\n".join(f"# {words}\n{line}" for words, line in lines)


def tuned_epochs(one: Gain) -> str:
    """Say how much longer the training of a fine-tune is."""
    epochs = one.group.runs[0].settings["epochs"]
    first = group_of(recorded_table(one.suite), "cross-entropy").runs[0].settings["epochs"]
    return f"{epochs} epochs after the network's {first}"


def near_beside_far(suite: str) -> str:
    """Write the AUROC of plain training by the chosen score, near and far."""
    plain = recorded_table(suite).groups[0]
    found = [best(plain, kind) for kind in KINDS]
    return f"{suite} {' / '.join(f'{100 * one[1].mean:.1f}' for one in found if one)}"


def all_labels() -> set[str]:
    return {one.group.label for suite in SUITES for one in gains(suite)}


if __name__ == "__main__":
    keep(ROOT / "docs" / "which-method.md", page())
