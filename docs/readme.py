"""Write the generated figures of README.md from recorded runs: python docs/readme.py

With --check it writes nothing and fails where they are out of date.
"""

import re

from recorded import ROOT, keep, over_sets, recorded_table, require
from which_method import LITTLE, RELATED, Gain, in_hindsight, with_outliers, without_outliers

from oodles.comparing.figures import in_points
from oodles.comparing.results import CHOSEN

SHOWN = "fashion-12k"
"""The suite of the figure about the score."""
FIGURES = """Three choices decide how well that works, in this order:

1. **The score.** Plain training on Fashion-MNIST tells letters from clothes with an AUROC of {own} by {own_score}, and
   of **{top}** by {top_score}: the chance, in per cent, that a letter scores above a piece of clothing. Oodles
   [chooses it](docs/scores.md) without training, by unknowns that it makes of your validation rows, and your outliers.
2. **Outliers** like those that will come. On 10,000 rows of CIFAR-10 `{exposed}` adds **{near}** points near
   (unknowns that look like the classes) and **{far}** far to plain training, either by its chosen score; accuracy
   {accuracy}.
3. **The method.** Of {count} that need no outliers and cost no accuracy, `{free}` adds most there, **{free_near}** and
   **{free_far}**; on digits {digits}.

Means over {seeds} seeds, and {more} on digits. With the best score in hindsight on either side the far gains on
CIFAR-10 are {exposed_far} and {hindsight_far}: [all results](docs/results/index.md)."""


def figures() -> str:
    """Write the three figures, each from recorded rows."""
    plain = recorded_table(SHOWN).groups[0]
    own, top = (over_sets(plain, "far", score) for score in (plain.own_score, CHOSEN))
    exposed, free = with_outliers(tuned=False), without_outliers()
    rows = {row.suite: row for row in free[0][1]}
    (chosen,) = {run.chosen for run in plain.finished}
    assert own is not None and top is not None
    require(top.mean - own.mean > LITTLE, "the score comes first.")
    require(exposed.mean > rows[RELATED].mean, "outliers come before the method.")
    hindsight = [in_hindsight(one) for one in (exposed, rows[RELATED])]
    return FIGURES.format(
        own=f"{100 * own.mean:.1f}",
        own_score=plain.own_score,
        top=f"{100 * top.mean:.1f}",
        top_score=chosen,
        exposed=exposed.group.runs[0].methods[0][0],
        near=points(exposed, "near"),
        far=points(exposed, "far"),
        accuracy=in_points(exposed.accuracy.mean),
        count=len(free),
        free=free[0][0],
        free_near=points(rows[RELATED], "near"),
        free_far=points(rows[RELATED], "far"),
        digits=f"{points(rows['digits'], 'near')} and {points(rows['digits'], 'far')}",
        exposed_far=points(hindsight[0], "far"),
        hindsight_far=points(hindsight[1], "far"),
        seeds=plain.seeds,
        more=rows["digits"].group.seeds,
    )


def points(gain: Gain, kind: str) -> str:
    return in_points(gain.kinds[kind].mean)


BLOCKS = {"figures": figures}


def fill_blocks(text: str) -> str:
    for name, make in BLOCKS.items():
        start, end = f"<!-- {name}: generated -->", f"<!-- {name}: end -->"
        block = f"{start}\n{make()}\n{end}"
        text, count = re.subn(
            f"{re.escape(start)}.*?{re.escape(end)}", lambda _, block=block: block, text, flags=re.DOTALL
        )
        if count != 1:
            raise SystemExit(f"README.md must hold one block {name!r}, got {count}.")
    return text


if __name__ == "__main__":
    readme = ROOT / "README.md"
    keep(readme, fill_blocks(readme.read_text(encoding="utf-8")))
