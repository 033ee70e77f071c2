"""Show what families of methods bring over training without them, under one score for both."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial

from recorded import KINDS, as_table, over_sets, verdict

from oodles.cards import card
from oodles.comparing.figures import Seeds, in_points
from oodles.comparing.groups import Group
from oodles.comparing.markdown import escape
from oodles.comparing.tables import Table
from oodles.facts import prepares_outliers

SHAPING = {
    *("supcon", "cider", "palm", "reweight-ood", "vos", "npos", "duq", "sngp", "elogit-norm", "mos", "siren"),
    *("pascl", "cocl", "pfs", "distillation"),
}
"""Methods that act on features: by contrast, prototypes, virtual outliers, kernels or a teacher."""
SCORES = ("energy", "knn", "mahalanobis")
FEATURES = """Their papers read them by scores of features, and compare with plain training read by others. Here both
are read by the same one: the difference of the AUROC to plain cross-entropy in points, averaged over the near or the
far sets of a suite. *Better* and *worse* are differences whose 95 % interval excludes 0, with no correction for how
many there are. A row that ends in `alone` trains without cross-entropy, as its paper does. The networks are small and
the trainings short, see each suite's page."""

WITH_OUTLIERS = """What is done with outliers is compared with the same loss on the outliers as they come, and a loss of
its own with Outlier Exposure from the same initial weights: the difference of the AUROC in points, under the score of
the loss that it is compared with, averaged over the near or the far sets of a suite. *Better* and *worse* are as
above."""
Told = tuple[str, ...]
"""A line: where, the rows that are better and worse, and how many of all are not told apart."""
OF_THEIR_OWN = ("dal", "doe", "hopfield-boosting")
"""Methods with losses of their own on outliers, which their papers compare with Outlier Exposure."""


def on_features(tables: Sequence[Table]) -> list[str]:
    """Show which methods that shape features bring something under a score that plain training has, too."""
    lines: list[Told] = []
    for table in tables:
        pairs = shaping(table)
        for score in SCORES:
            for kind in KINDS:
                lines += told_apart((table.suite, kind, score), pairs, kind, partial(_always, score))
    return _section("Methods that shape features", FEATURES, ("suite", "sets", "score"), lines)


def on_outliers(tables: Sequence[Table]) -> list[str]:
    """Show what making, choosing and changing outliers brings over the same loss, and other losses over one."""
    lines: list[Told] = []
    for table in tables:
        pairs = preparing(table)
        for kind in KINDS:
            lines += told_apart((table.suite, kind), pairs, kind, lambda base: base.own_score)
    return _section("Outliers that are made, chosen or changed", WITH_OUTLIERS, ("suite", "sets"), lines)


def _section(title: str, words: str, where: Iterable[str], lines: Sequence[Told]) -> list[str]:
    heads = (*where, "better", "worse", "not told apart")
    return [f"## {title}", "", words, "", *as_table(heads, lines), ""] if lines else []


def _always(score: str, _: Group) -> str:
    return score


def shaping(table: Table) -> list[tuple[Group, Group]]:
    """Return the rows of methods that act on features, each with plain training."""
    groups = [group for group in table.groups if SHAPING & {name for name, _ in group.runs[0].methods}]
    return [(group, group.plain) for group in groups if group.plain]


def preparing(table: Table) -> list[tuple[Group, Group]]:
    """Return the rows that make, choose or change outliers or have losses of their own, each with the one without."""
    return [(group, base) for group in table.groups if (base := without_preparing(group, table.groups))]


def beside(
    pairs: Iterable[tuple[Group, Group]], kind: str, under: Callable[[Group], str]
) -> Iterator[tuple[Group, Seeds]]:
    """Yield rows with their difference to those beside them, under a score that the latter decide."""
    for group, base in pairs:
        value, other = (over_sets(rows, kind, under(base)) for rows in (group, base))
        if value and other and (difference := value.minus(other)):
            yield group, difference


def told_apart(
    where: Iterable[str], pairs: Sequence[tuple[Group, Group]], kind: str, under: Callable[[Group], str]
) -> Iterator[Told]:
    """Name the rows that are better or worse than the one beside them, under a score that this one decides."""
    told: dict[str, list[str]] = {"better": [], "worse": [], "": []}
    for group, difference in beside(pairs, kind, under):
        told[verdict(difference)].append(f"{group.label} {in_points(difference.mean)}")
    if count := sum(map(len, told.values())):
        named = (escape(", ".join(told[name])) or "none" for name in ("better", "worse"))
        yield (*map(escape, where), *named, f"{len(told[''])} of {count}")


def without_preparing(group: Group, groups: Sequence[Group]) -> Group | None:
    """Return the rows of the same loss on the outliers as they come, from the same initial weights; none of others."""
    run = group.runs[0]
    names = [name for name, _ in run.methods]
    losses = [name for name in names if not prepares_outliers(card(name))]
    if set(names) & set(OF_THEIR_OWN):
        losses = ["outlier-exposure"]
    elif len(losses) == len(names) and run.settings.get("max_outliers") is None:
        return None
    for other in groups:
        first = other.runs[0]
        alike = first.initial_weights == run.initial_weights and first.settings.get("max_outliers") is None
        if alike and [name for name, _ in first.methods] == losses:
            return other
    return None
