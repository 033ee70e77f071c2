"""Say what choosing a run's score without training has brought on the recorded runs, and where it lost."""

from collections.abc import Iterator, Sequence
from statistics import fmean

from recorded import KINDS, as_table, over_sets

from oodles.comparing.figures import in_points
from oodles.comparing.groups import Group
from oodles.comparing.markdown import escape
from oodles.comparing.results import CHOSEN
from oodles.comparing.tables import Table
from oodles.runs.recipe import active_methods, needs_outliers, own_score

LOSS = 0.01
"""In AUROC: a choice that loses more to the own score counts as one that harmed."""
PAGE = """# Choosing the score

What the score that was [chosen without training](../scores.md) brings over the score of the method's paper, for every
recorded run of every method, in points of AUROC, averaged over the near or the far sets. *Regret* is what is missing to
the best of the run's scores in hindsight.

{table}

{notes}

## With outliers and without

The same by rows: a row is a method's mean over its seeds on a suite. A run that has trained on outliers is judged by
unknowns that are made of its validation images alone; where its deployed score must not fall behind the paper's, take
`--score own` for such a run.

{by_outliers}
"""
NETWORKS = """
## Other networks

The rule was found with the small networks above. These runs saw it afterwards: on digits plain training, LogitNorm and
Outlier Exposure from scratch, on cifar10-10k plain training of three epochs.

{table}

{notes}
"""
BY_OUTLIERS = ("trained on outliers", "sets", "rows", "gain", "lost more than a point", "worst")
HEADS = ("suite", "sets", "runs", "gain", "regret", "lost more than a point", "worst")


def page(tables: Sequence[Table], networks: Sequence[Table] = ()) -> str:
    """Write the page, of all suites whose results say what was chosen, and of those with other networks."""
    shown, told = "\n".join(as_table(HEADS, _lines(tables))), "\n".join(_notes(tables))
    by_outliers = "\n".join(as_table(BY_OUTLIERS, _by_outliers(tables)))
    parts = [PAGE.format(table=shown, notes=told, by_outliers=by_outliers)]
    if networks:
        shown = "\n".join(as_table(HEADS, _lines(networks)))
        parts.append(NETWORKS.format(table=shown, notes="\n".join(_notes(networks))))
    return "".join(parts)


def _lines(tables: Sequence[Table]) -> Iterator[tuple[str, ...]]:
    for table in tables:
        runs = [run for group in table.groups for run in group.finished if run.chosen]
        moved = sum(run.chosen != own_score(run.methods) for run in runs)
        for kind in KINDS:
            changes = [change for group in table.groups for change in changes_of(group, kind)]
            if changes:
                gains = [gain for gain, _ in changes]
                yield (
                    escape(table.suite),
                    kind,
                    f"{len(gains)}, of which {moved} with another score",
                    in_points(fmean(gains)),
                    in_points(fmean(regret for _, regret in changes)),
                    f"{sum(gain < -LOSS for gain in gains)} of {len(gains)}",
                    in_points(min(gains)),
                )


def _notes(tables: Sequence[Table]) -> Iterator[str]:
    """Name the rows of each suite that lose more than a point in the mean over their seeds."""
    for table in tables:
        words = []
        for group in table.groups:
            for kind in KINDS:
                if (mean := mean_gain(group, kind)) is not None and mean < -LOSS:
                    words.append(f"{group.label} {in_points(mean)} ({kind})")
        told = f"in the mean over seeds these rows lose more than a point: {', '.join(words)}" if words else None
        yield f"* {escape(table.suite)}: {told or 'no row loses more than a point in the mean over its seeds'}."


def _by_outliers(tables: Sequence[Table]) -> Iterator[tuple[str, ...]]:
    """Give what choosing brought to the rows of methods that train on outliers, and to the others."""
    groups = [group for table in tables for group in table.groups]
    for trained in (False, True):
        for kind in KINDS:
            rows = (group for group in groups if needs_outliers(active_methods(group.runs[0].methods)) == trained)
            gains = {group: mean for group in rows if (mean := mean_gain(group, kind)) is not None}
            if gains:
                worst = min(gains, key=lambda group: gains[group])
                yield (
                    "yes" if trained else "no",
                    kind,
                    f"{len(gains)}",
                    in_points(fmean(gains.values())),
                    f"{sum(gain < -LOSS for gain in gains.values())}",
                    f"{in_points(gains[worst])} ({escape(worst.label)})",
                )


def mean_gain(group: Group, kind: str) -> float | None:
    """Return what the chosen score gains over the own one in the mean over a row's seeds."""
    gains = [gain for gain, _ in changes_of(group, kind)]
    return fmean(gains) if gains else None


def changes_of(group: Group, kind: str) -> list[tuple[float, float]]:
    """Return, for each run, what the chosen score gains over the own one, and over the best one in hindsight."""
    chosen, own = (over_sets(group, kind, score) for score in (CHOSEN, group.own_score))
    if chosen is None or own is None:
        return []
    every = [seeds for score in group.scores if score != CHOSEN and (seeds := over_sets(group, kind, score))]
    return [
        (value - own.by_seed[seed], value - max(seeds.by_seed[seed] for seeds in every))
        for seed, value in chosen.by_seed.items()
    ]
