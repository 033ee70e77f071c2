"""What a reader must know about the rows of a table."""

from collections.abc import Mapping, Sequence
from typing import Any

from oodles.comparing.groups import Group
from oodles.comparing.results import CHOSEN, Result
from oodles.metrics import accuracy_at_chance, at_chance
from oodles.runs.recipe import active_methods, needs_outliers, trained_away

FEW = 3
"""As many ways in which a score was fitted are told apart, and as many rows are named in a sentence."""
FAR_WORSE = 0.1
"""In AUROC: a score that tells even the training outliers so much worse than the method's own gets a remark."""
UNREAD = ("suggest", "teacher", "outlier_batch_size", "max_outliers")
"""Settings that change nothing of plain training."""
MACHINE = {"threads": "threads", "device": "device", "precision": "mixed_precision"}
"""Facts of the machine on which figures depend a little: in words, and as keys of a run's environment."""


def remarks_on(groups: Sequence[Group]) -> tuple[str, ...]:
    """Say what a reader must know about the rows of a table."""
    remarks = []
    if not any(group.is_plain for group in groups):
        remarks.append("There are no plain cross-entropy runs to compare the methods with: train cross-entropy.")
    unlike: dict[str, list[str]] = {}
    for group in groups:
        finished = {run.seed for run in group.finished}
        if group.plain:
            if words := _unlike(group.runs[0].settings, group.plain.runs[0].settings):
                unlike.setdefault(f"{words}, unlike the {group.plain.label} beside it", []).append(group.label)
            paired = finished & {run.seed for run in group.plain.finished}
            if len(paired) < len(finished):
                remarks.append(
                    f"{group.label}: {len(paired)} of {len(finished)} seeds have plain cross-entropy to compare with."
                )
        elif not group.is_plain and any(other.is_plain for other in groups):
            remarks.append(f"{group.label}: no plain cross-entropy with this network.")
        reasons: dict[str, list[str]] = {}
        for run in group.runs:
            if run.status == "diverged":
                reasons.setdefault(run.reason or "no reason was recorded.", []).append(str(run.seed))
        for reason, seeds in reasons.items():
            which = _seeds_in_words(seeds)
            remarks.append(f"{group.label}, {which}, diverged: {reason}")
        remarks += _warnings(group, groups)
        remarks += _scores_in_doubt(group)
    remarks += _choices(groups)
    remarks += _chosen_scores(groups)
    if words := _differ([run for group in groups for run in group.runs]):
        remarks.append(f"Runs differ in {words}, on which figures depend a little.")
    single = [group.label for group in groups if len(group.finished) == 1]
    if single:
        remarks.append(f"One seed only, so no deviation: {', '.join(single)}.")
    return (*(f"{', '.join(labels)}: {words}." for words, labels in unlike.items()), *remarks)


def _seeds_in_words(seeds: Sequence[str]) -> str:
    return f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}"


def _warnings(group: Group, groups: Sequence[Group]) -> list[str]:
    """Say of what training warned, and which accuracies are at chance: also those of rows that recorded no warnings."""
    shares = [run.chance for other in groups for run in other.runs if run.chance is not None]
    said: dict[str, list[str]] = {}
    for run in group.runs:
        words = list(run.warnings)
        share = run.chance if run.chance is not None else max(shares, default=None)
        if run.accuracy is not None and share is not None and at_chance(run.accuracy, run.sizes["test"], share):
            words.append(accuracy_at_chance("test rows"))
        for sentence in dict.fromkeys(words):
            said.setdefault(sentence, []).append(str(run.seed))
    return [f"{group.label}, {_seeds_in_words(seeds)}: {sentence}" for sentence, seeds in said.items()]


def _choices(groups: Sequence[Group]) -> list[str]:
    """Say what scores chose when they were fitted, and in which rows where there are few ways of it."""
    chosen: dict[str, dict[str, list[str]]] = {}
    for group in groups:
        for run in group.runs:
            for score, choice in run.remarks.items():
                labels = chosen.setdefault(score, {}).setdefault(choice, [])
                labels += [] if group.label in labels else [group.label]
    remarks = []
    for score, by_choice in chosen.items():
        several = len(by_choice) > 1
        words = [f"{choice} ({', '.join(labels)})" if several else choice for choice, labels in by_choice.items()]
        if len(words) > FEW:
            words = [next(iter(by_choice)), "other numbers in other runs"]
        remarks.append(f"{score}: {'; '.join(words)}.")
    return remarks


def _chosen_scores(groups: Sequence[Group]) -> list[str]:
    """Say which scores were chosen for the runs of each group, without training and without test rows."""
    by_scores: dict[str, list[str]] = {}
    for group in groups:
        if scores := sorted({run.chosen for run in group.finished if run.chosen}):
            by_scores.setdefault(" or ".join(scores), []).append(group.label)
    words = "; ".join(f"{scores} ({', '.join(labels)})" for scores, labels in by_scores.items())
    return [f"{CHOSEN}: the score that tells unknowns made of validation rows best: {words}."] if words else []


def _scores_in_doubt(group: Group) -> list[str]:
    """Name scores that a method trains away, and those that fail on the very outliers that it was trained with."""
    methods = active_methods(group.runs[0].methods)
    remarks = [f"{group.label}: {words}" for words in trained_away(methods, group.scores)]
    if not needs_outliers(methods):
        return remarks
    own = group.on_outliers(group.own_score)
    kind = "validation" if any("validation-outliers" in run.sizes for run in group.runs) else "training"
    worse = {}
    for score in group.scores:
        here, plain = group.on_outliers(score), group.plain.on_outliers(score) if group.plain else None
        if own and here and own.mean - here.mean > FAR_WORSE and (plain is None or here.mean < plain.mean):
            worse[score] = here.mean
    if own and worse:
        words = ", ".join(f"{score} ({100 * mean:.0f} %)" for score, mean in worse.items())
        remarks.append(
            f"{group.label}: even {kind} outliers are told from validation rows far worse by {words} than by "
            f"{group.own_score} ({100 * own.mean:.0f} % AUROC), and worse than by the same score without the method."
        )
    return remarks


def _differ(runs: Sequence[Result]) -> str:
    """Say in which facts of the machine the runs of a table differ; what was not recorded does not count."""
    words = []
    for what, key in MACHINE.items():
        values = {str(run.environment[key]) for run in runs if key in run.environment}
        if len(values) > 1:
            words.append(f"{what} ({' or '.join(sorted(values, key=lambda value: (len(value), value)))})")
    return ", ".join(words)


def _unlike(settings: Mapping[str, Any], plain: Mapping[str, Any]) -> str:
    """Say in which settings of training, methods apart, a row differs from plain cross-entropy."""
    start = settings.get("initial weights")
    words = [] if start == plain.get("initial weights") else [f"starts from {start} weights"]
    words += [f"learns from {settings['teacher']}"] if settings.get("teacher") else []
    return ", ".join(
        words
        + [
            f"{key.replace('_', ' ')} {value} (not {plain[key]})"
            for key, value in settings.items()
            if key in plain and value != plain[key] and key not in ("methods", "initial weights", *UNREAD)
        ]
    )
