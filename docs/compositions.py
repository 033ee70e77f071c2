"""Say what methods bring together, from recorded runs of every subset of a few of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from statistics import fmean

from recorded import KINDS, MARKS, as_table, differences, over_sets, points, verdict

from oodles.comparing.figures import LEVEL, Seeds, holm, in_points
from oodles.comparing.groups import Group
from oodles.comparing.markdown import escape
from oodles.comparing.results import CHOSEN
from oodles.comparing.tables import Table
from oodles.runs.recipe import active_methods, recipes

SCORES = (CHOSEN, "msp", "knn")
"""The scores under which effects are told, the first of them also between compositions."""

COLUMNS = ((None, CHOSEN), *((kind, score) for score in SCORES for kind in KINDS))
"""What effects are told on: accuracy, which no score decides, and AUROC on a kind of sets under a score."""

Subset = frozenset[str]
Values = Mapping[Subset, Seeds]
"""A figure of every subset of the factors, by seed."""
Added = Mapping[Subset, Mapping[str | None, Seeds]]
"""What every composition adds to plain training, to accuracy and to AUROC by kind."""


@dataclass(frozen=True)
class Effect:
    """What some methods do together, beyond what fewer of them do; of one method its main effect."""

    of: Subset
    kind: str | None
    """The near or the far sets; none for accuracy."""
    score: str
    seeds: Seeds
    p_holm: float = 1.0

    @property
    def mark(self) -> str:
        """Its mark, twice where it holds with Holm's correction; nothing where it is not told apart from zero."""
        return MARKS[verdict(self.seeds)].strip() * (2 if self.p_holm < LEVEL else 1)

    def __str__(self) -> str:
        return f"{in_points(self.seeds.mean)} ± {100 * (self.seeds.std or 0):.1f} {self.mark}".rstrip()


PAGE = """# Compositions

{sections}
"""

SECTION = """## {suite}

{factors} were trained with and without each other, {rows} compositions of {seeds} seeds.
[Their page]({suite}.md) has the protocol and every figure.

### What each adds, and what changes beside another

In points. A line with one method is its main effect: the difference that it makes, averaged over all compositions of
the others. A line with several is their interaction: how much larger the effect of one is where the other is there,
and so on; zero means that they simply add up. Every effect is computed within a seed, then mean ± standard deviation
over seeds; ▲ and ▼ mark those whose 95 % interval (Student's t) excludes zero, ▲▲ and ▼▼ those that hold with Holm's
correction, for all effects in one metric. AUROC is near / far, the mean over the near and the far sets,
under one score for all compositions; *{chosen}* is the one that was [chosen for each run](choosing.md) without
training.

{effects}

{told}

### Which composition

What each composition adds to plain training, either under the score chosen for it, the highest mean of near and far
first; and what the sum of its parts would be, of those that are trained alone.

{compositions}

{best}
"""


def page(tables: Sequence[Table]) -> str | None:
    """Write the page, of all tables that hold every subset of some methods; nothing where none does."""
    sections = [section(table, tables) for table in tables if factors(table)]
    return PAGE.format(sections="\n".join(sections)) if sections else None


def factors(table: Table) -> tuple[str, ...]:
    """Return the methods of which every subset was trained; none where a subset is missing or stands there twice."""
    subsets = [subset_of(group) for group in table.groups]
    every = tuple(dict.fromkeys(name for group in table.groups for name in _names(group)))
    whole = len(every) > 1 and len(subsets) == len({*subsets}) == 2 ** len(every)
    return every if whole else ()


def subsets_of(names: Sequence[str]) -> list[Subset]:
    return [frozenset(chosen) for size in range(len(names) + 1) for chosen in combinations(names, size)]


def subset_of(group: Group) -> Subset:
    return frozenset(_names(group))


def _names(group: Group) -> list[str]:
    return [name for name, _ in active_methods(group.runs[0].methods)]


def by_seed(values: Values, of: Subset, names: Sequence[str]) -> Seeds | None:
    """Return the main effect of one factor, or the interaction of several, by seed.

    An effect of m of k factors is the sum over all subsets of their figure, negative where an odd number of the m is
    missing, over 2 ** (k - m): of one factor the mean difference, of two the difference of that difference, and so on.
    None where a subset has no figure or no seed has all.
    """
    subsets = subsets_of(names)
    if any(subset not in values for subset in subsets):
        return None
    shared = set.intersection(*({*values[subset].by_seed} for subset in subsets))
    sums = {
        seed: sum((-1) ** len(of - subset) * values[subset].by_seed[seed] for subset in subsets)
        for seed in sorted(shared)
    }
    return Seeds({seed: value / 2 ** (len(names) - len(of)) for seed, value in sums.items()}) if sums else None


def measured(table: Table, kind: str | None, score: str) -> Values:
    """Return accuracy, or the mean AUROC over the sets of a kind under one score, of every subset that has it."""
    found = {}
    for group in table.groups:
        seeds = over_sets(group, kind, score) if kind else group.measured(None, group.own_score, "accuracy")
        if seeds:
            found[subset_of(group)] = seeds
    return found


def effects(table: Table) -> list[Effect]:
    """Return every effect on accuracy, and on AUROC under each score; p corrected for all that are in one metric."""
    names = factors(table)
    found = [
        Effect(of, kind, score, seeds)
        for kind, score in COLUMNS
        for values in [measured(table, kind, score)]
        for of in subsets_of(names)[1:]
        if (seeds := by_seed(values, of, names))
    ]
    corrected = []
    for of_accuracy in (True, False):
        family = [one for one in found if (one.kind is None) is of_accuracy]
        p_values = holm([1.0 if one.seeds.p is None else one.seeds.p for one in family])
        corrected += [replace(one, p_holm=p) for one, p in zip(family, p_values, strict=True)]
    return corrected


def section(table: Table, others: Sequence[Table] = ()) -> str:
    """Write what one table says, and what others say of the composition that is best there."""
    names, found, added = factors(table), effects(table), additions(table)
    by_place = {(one.of, one.kind, one.score): str(one) for one in found}
    lines = []
    for of in subsets_of(names)[1:]:
        pairs = [" / ".join(by_place.get((of, kind, score), "–") for kind in KINDS) for score in SCORES]
        lines.append((joined(of, names, " × "), by_place.get((of, None, CHOSEN), "–"), *pairs))
    aurocs = [f"AUROC, {score}" for score in SCORES]
    return SECTION.format(
        suite=escape(table.suite),
        factors=", ".join(f"[`{name}`](../methods/{name}.md)" for name in names),
        rows=len(table.groups),
        seeds=" or ".join(dict.fromkeys(group.seeds for group in table.groups)),
        chosen=CHOSEN,
        effects="\n".join(as_table(("effect", "accuracy", *aurocs), lines)),
        told="\n".join(_told(found, names)),
        compositions="\n".join(
            as_table(("composition", "accuracy", aurocs[0], "sum of its parts"), _added_by_each(added, names))
        ),
        best=_best(added, names, [other for other in others if other is not table]),
    )


def joined(of: Subset, names: Sequence[str], by: str = " + ") -> str:
    return by.join(name for name in names if name in of)


def _told(found: Sequence[Effect], names: Sequence[str]) -> Iterator[str]:
    """Count the interactions that are told apart from zero under the chosen scores, and name them, largest first."""
    for size in range(2, len(names) + 1):
        several = [one for one in found if len(one.of) == size and one.score == CHOSEN]
        apart = sorted((one for one in several if one.mark), key=lambda one: -abs(one.seeds.mean))
        words = [
            f"{joined(one.of, names, ' × ')} {in_points(one.seeds.mean)} ({one.kind or 'accuracy'})" for one in apart
        ]
        told = f"{len(apart)} of {len(several)}"
        yield f"* Interactions of {size} that are told apart from zero: {', '.join([told, *words])}."


def additions(table: Table) -> Added:
    """Return what every composition adds to plain training: to accuracy, and to AUROC by kind with scores chosen."""
    found: dict[Subset, dict[str | None, Seeds]] = {}
    for kind in (None, *KINDS):
        values = measured(table, kind, CHOSEN)
        for subset, seeds in values.items():
            if subset and (difference := seeds.minus(values[frozenset()])):
                found.setdefault(subset, {})[kind] = difference
    return found


def ranked(added: Added) -> list[Subset]:
    """Return the compositions, the highest mean of near and far AUROC first."""
    return sorted(added, key=lambda subset: -fmean(added[subset][kind].mean for kind in KINDS))


def _added_by_each(added: Added, names: Sequence[str]) -> Iterator[tuple[str, ...]]:
    for subset in ranked(added):
        parts = [added[frozenset({name})] for name in subset]
        sums = [in_points(sum(part[kind].mean for part in parts)) for kind in KINDS]
        yield (
            joined(subset, names),
            points(added[subset][None]),
            " / ".join(points(added[subset][kind]) for kind in KINDS),
            " / ".join(sums) if len(subset) > 1 else "–",
        )


def _best(added: Added, names: Sequence[str], others: Sequence[Table]) -> str:
    """Say in words how the best composition, and all methods together, stand to the best method alone."""
    order = ranked(added)

    def words(subset: Subset) -> str:
        return f"{joined(subset, names)} {' / '.join(in_points(added[subset][kind].mean) for kind in KINDS)}"

    alone = next(subset for subset in order if len(subset) == 1)
    sentences = [
        f"The best is {words(order[0])}; the best alone {words(alone)}; all together {words(frozenset(names))}."
    ]
    elsewhere = [
        f"{other.suite} {' / '.join(in_points(found[kind].mean) for kind in KINDS)}"
        for other in others
        if (found := _added_elsewhere(other, order[0]))
    ]
    if elsewhere:
        sentences.append(f"It was found on these test sets. Recorded afterwards, it adds {', '.join(elsewhere)}.")
    recipe = "-".join(name for name in names if name in order[0])
    if recipe in recipes():
        sentences.append(f"It is the recipe `{recipe}`.")
    return " ".join(sentences)


def _added_elsewhere(table: Table, subset: Subset) -> dict[str, Seeds]:
    """Return what a composition from random initial weights adds on the near and the far sets; nothing without both."""
    rows = (group for group in table.groups if subset_of(group) == subset and group.plain)
    group = next((group for group in rows if group.runs[0].initial_weights == "random"), None)
    found = differences(group, CHOSEN) if group else {}
    return found if len(found) == len(KINDS) else {}
