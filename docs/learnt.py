"""Write docs/what-we-learnt.md from the rows in benchmarks/results: python docs/learnt.py

Every sentence has its figure, and is checked against it: where rows no longer bear it out, nothing is written. With
--check it fails where the page is out of date.
"""

from collections import Counter
from collections.abc import Iterable
from statistics import fmean

from choices import LOSS, changes_of
from compositions import additions, factors, joined, ranked
from families import SCORES, beside, preparing, shaping
from recorded import KINDS, ROOT, keep, recorded_names, recorded_table, require, verdict
from which_method import (
    LITTLE,
    LONG_TAIL,
    MADE,
    RELATED,
    SCRATCH,
    SUITES,
    UNLIKE,
    gain,
    gains,
    in_hindsight,
    mean_of_score,
    of_the_score,
)

from oodles.comparing.figures import in_points

FACTORIAL = "cifar10-10k-factorial"
FOR_TAILS = ("pascl", "cocl", "pfs")
"""Methods made for long tails."""
PAGE = """# What we learnt

From the [recorded runs](results/index.md): small networks, short trainings, 3 to 10 seeds. Figures are points of
[AUROC](scores.md#metrics) more or less than plain training has, near / far (unknowns that look like the classes, and
unknowns that do not), or of accuracy; the scores are [chosen](scores.md#which-score) without training unless said. Each
figure is computed from the rows, and this page is not written where they no longer say so.

## Against what we expected

{against}

## As we expected

{as_expected}
"""


def page() -> str:
    against = (choice(), together(), shaped(), prepared(), generated(), tails())
    as_expected = (score_first(), related(), marks(), accuracy())
    return PAGE.format(against=_numbered(against, 1), as_expected=_numbered(as_expected, len(against) + 1))


def _numbered(sentences: Iterable[str], first: int) -> str:
    return "\n".join(f"{number}. {sentence}" for number, sentence in enumerate(sentences, first))


def pair(figures: Iterable[float]) -> str:
    return " / ".join(in_points(figure) for figure in figures)


def choice() -> str:
    """A score chosen without training was to cost nowhere more than a point."""
    lost, mixed, every = 0, 0, 0
    for group in (group for suite in recorded_names() for group in recorded_table(suite).groups):
        for kind in KINDS:
            found = [gain for gain, _ in changes_of(group, kind)]
            losses = [gain for gain in found if gain < -LOSS]
            lost, every = lost + len(losses), every + len(found)
            if {"pixmix", "outlier-exposure"} <= {name for name, _ in group.runs[0].methods}:
                mixed += len(losses)
    short = fmean(-regret for group in recorded_table(RELATED).groups for _, regret in changes_of(group, "far"))
    require(0 < lost < every / 50 and short > 0.05, "the choice of a score rarely costs a point and is careful.")
    return (
        "**A score can be chosen without training, but not for nothing.** Beside the score of the method's paper it "
        f"was to cost no run more than a point. It costs more in {lost} of {every:,} cases (runs × near or far), "
        f"{mixed} of them with PixMix beside Outlier Exposure, and on {RELATED} the safe rule leaves "
        f"{100 * short:.1f} points of far AUROC to each run's best score. [Choosing](results/choosing.md)"
    )


def shaped() -> str:
    counts = Counter(
        verdict(difference)
        for suite in SUITES
        for score in SCORES
        for kind in KINDS
        for _, difference in beside(shaping(recorded_table(suite)), kind, lambda _, score=score: score)
    )
    require(counts["better"] < counts["worse"], "methods that shape features are more often worse than better.")
    return (
        f"**Shaped features do not show under scores of features.** Under the score that plain training has too "
        f"({', '.join(SCORES)}), contrast, prototypes, virtual outliers and kernels are better in "
        f"{counts['better']} of {counts.total()} comparisons, worse in {counts['worse']}. "
        "[Families](results/families.md)"
    )


def prepared() -> str:
    pairs = [pair for suite in SUITES for pair in preparing(recorded_table(suite))]
    whole = [pair for pair in pairs if pair[0].runs[0].settings.get("max_outliers") is None]
    counts = Counter(
        verdict(difference) for kind in KINDS for _, difference in beside(whole, kind, lambda base: base.own_score)
    )
    require(counts["better"] < counts.total() / 3, "mining and changing outliers is rarely told apart.")
    return (
        f"**Which of the outliers at hand are taken, and how they are changed, hardly matters.** Miners, mixes, "
        f"perturbed outliers and losses of their own are better than the same loss on the outliers as they come in "
        f"{counts['better']} of {counts.total()} comparisons, worse in {counts['worse']}. "
        "[Families](results/families.md)"
    )


def generated() -> str:
    real, made, there = gain(RELATED, "outlier-exposure"), gain(RELATED, MADE), gain(UNLIKE, MADE)
    assert real is not None and made is not None and there is not None
    require(made.mean > real.mean - LITTLE, "generated outliers do as well as real ones.")
    require(there.mean < 0, f"generated outliers bring nothing on {UNLIKE}.")
    rows = real.group.runs[0].sizes["outliers"]
    return (
        f"**Outliers that training makes of its images can do as well as {rows:,} real ones.** Fine-tuned on "
        f"{RELATED}, made ones alone add {made} and the real ones, of the near set's collection, {real}; on {UNLIKE} "
        f"made ones add {there}. [No outliers](guides/no-outliers.md)"
    )


def together() -> str:
    table = recorded_table(FACTORIAL)
    names, added = factors(table), additions(table)
    order = ranked(added)
    best, alone, whole = order[0], next(one for one in order if len(one) == 1), frozenset(names)

    def both(of: frozenset[str]) -> tuple[str, str]:
        parts = [added[frozenset({name})] for name in of]
        return (
            pair(added[of][kind].mean for kind in KINDS),
            pair(sum(part[kind].mean for part in parts) for kind in KINDS),
        )

    means = {one: fmean(added[one][kind].mean for kind in KINDS) for one in order}
    require(len(best) > 1 and means[best] < sum(means[frozenset({name})] for name in best), "methods do not add up.")
    require(means[whole] < means[alone], "all methods together bring less than one alone.")
    (best_adds, best_sum), (whole_adds, whole_sum) = both(best), both(whole)
    return (
        f"**Methods do not add up.** Of the sixteen compositions of {', '.join(names)} the best, "
        f"{joined(best, names)}, adds {best_adds}, where its parts alone add up to {best_sum}; all four together add "
        f"{whole_adds}, where theirs add up to {whole_sum}, and change accuracy by "
        f"{in_points(added[whole][None].mean)}. "
        "[Compositions](results/compositions.md)"
    )


def tails() -> str:
    found = [one for one in gains(LONG_TAIL) if {name for name, _ in one.group.runs[0].methods} & {*FOR_TAILS}]
    rows = [in_hindsight(one) for one in found]
    require(all(one.mean < LITTLE for one in rows) and len(rows) > 2, "methods for long tails bring nothing.")
    words = ", ".join(f"{one.group.label} {one} (accuracy {in_points(one.accuracy.mean)})" for one in rows)
    return (
        f"**Methods for long tails bring nothing on one.** On {LONG_TAIL}, by the best scores in hindsight: {words}. "
        f"[{LONG_TAIL}](results/{LONG_TAIL}.md)"
    )


def score_first() -> str:
    words = ", ".join(f"{suite} {pair(of_the_score(suite).values())}" for suite in (*SUITES, LONG_TAIL))
    ahead = [suite for suite in (*SUITES, LONG_TAIL) if mean_of_score(suite) > gains(suite)[0].mean]
    require(
        len(ahead) == 3 and RELATED not in ahead, "the score brings more than any method but with related outliers."
    )
    return (
        f"**The score comes first.** The chosen one brings plain training {words}; on {', '.join(ahead[:-1])} and "
        f"{ahead[-1]} that is more than any method adds after it. [Which method](which-method.md)"
    )


def related() -> str:
    near, far = gain(RELATED, SCRATCH), gain(UNLIKE, SCRATCH)
    assert near is not None and far is not None
    require(near.mean > 0.1 and far.mean < 0, "related outliers bring much, others nothing.")
    return (
        f"**Real outliers like those that come bring most, unlike ones nothing.** Outlier Exposure from scratch adds "
        f"{near} on {RELATED}, whose outliers are like its near set, and {far} on {UNLIKE}, whose outliers are not. "
        "[Choosing outliers](outliers.md)"
    )


def marks() -> str:
    counts: Counter[str] = Counter()
    for suite in recorded_names():
        table = recorded_table(suite)
        for one in table.figures():
            if one.difference and one.metric == "auroc" and one.verdict:
                counts["marked"] += 1
                counts["holds"] += len(one.mark) == 2
    require(counts["holds"] < counts["marked"] / 2, "few marks hold with the correction.")
    return (
        f"**Few marks hold once all are counted.** Of {counts['marked']:,} differences in AUROC whose 95 % interval "
        f"excludes zero, {counts['holds']:,} hold with Holm's correction for all of their suite."
    )


def accuracy() -> str:
    one, two = (gain(suite, "logit-norm") for suite in ("digits", RELATED))
    assert one is not None and two is not None
    require(one.accuracy.mean < -0.1 and two.keeps_accuracy, "logit-norm is dangerous on few rows alone.")
    rows = [recorded_table(suite).groups[0].runs[0].sizes["train"] for suite in ("digits", RELATED)]
    return (
        f"**A method that is safe on many rows can ruin a training on few.** LogitNorm changes accuracy by "
        f"{in_points(one.accuracy.mean)} on the {rows[0]:,} rows of digits and by {in_points(two.accuracy.mean)} on "
        f"the {rows[1]:,} of {RELATED}."
    )


if __name__ == "__main__":
    keep(ROOT / "docs" / "what-we-learnt.md", page())
