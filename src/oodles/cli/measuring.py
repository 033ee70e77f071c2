"""What runs are worth: ``oodles evaluate`` and ``oodles compare``."""

import shlex
import shutil
import sys
from pathlib import Path
from typing import Annotated

from tyro.conf import Positional, UseAppendAction, arg

from oodles.cli.flags import (
    Folders,
    OptionalCount,
    OptionalName,
    OptionalPath,
    Runs,
)
from oodles.cli.shown import print_json, print_result, refuse, say


def evaluate(
    run: Annotated[Path, Positional, arg(metavar="RUN")],
    /,
    *,
    score: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME", help_behavior_hint="(repeatable)")] = (),
    ood: Annotated[UseAppendAction[tuple[str, ...]], arg(metavar="NAME=PATH", help_behavior_hint="(repeatable)")] = (),
    root: Folders = (),
    network: OptionalName = None,
    data: OptionalPath = None,
    new_classes: OptionalCount = None,
    choose_score: bool = False,
    json: bool = False,
) -> None:
    """Measure accuracy and out-of-distribution detection of a run, on its suite or on rows of your own.

    Args:
        run: a run folder.
        score: outlier scores; unless given, all that every run is tested with. By name alone, and kept in the run
            from then on, also vim, gen, react, odin, dice, she, kl-matching, cosine, and any score with settings, such
            as "knn(k=5)" or "mahalanobis(normalize=True)".
        ood: further out-of-distribution rows, a folder or file under a name of your choice.
        root: folder that holds the files of the suite, if they have moved.
        network: the run's, if it is package.module:function; code is imported only if you name it.
        data: the run's suite file, if it names functions of your own, or has moved.
        new_classes: estimate instead how well a new class would be told, by so many plain trainings with a fifth of the
            classes held out of each; what they found is kept in the run.
        choose_score: say instead which score the run should be deployed with, by unknowns made of its validation rows.
        json: print one JSON document.
    """
    if new_classes is not None:
        if choose_score:
            refuse("--new-classes estimates and --choose-score chooses, each by itself: leave one of them out.")
        if score or ood:
            refuse("--new-classes trains anew, and tells held-out classes by every score: leave --score and --ood out.")
        from oodles.runs.new_classes import new_class_estimate

        estimate = new_class_estimate(run, new_classes, root=root, network=network, data=data)
        if json:
            print_json(estimate.as_dict())
        else:
            print_result(estimate)
        return
    if choose_score:
        if score or ood:
            refuse("--choose-score chooses among the scores that the run was tested with: leave --score and --ood out.")
        from oodles.runs.choice import choose_score as choose

        choice = choose(run, root=root, network=network, data=data)
        if json:
            print_json(choice.as_dict())
        else:
            # without --score, or the rows that have chosen would set the threshold, too
            print_result(f"{choice}\nUse it: oodles score {shlex.quote(str(run))} INPUTS")
        return
    further: dict[str, str] = {}
    for pair in ood:
        name, _, path = pair.partition("=")
        if not name or not path or name in further:
            refuse(f"--ood must be NAME=PATH, got {pair!r}: each name once.")
        further[name] = path
    from oodles.runs.fits import size_of_fits
    from oodles.runs.opened import open_run
    from oodles.runs.testing import evaluate_run

    before = size_of_fits(run)
    evaluation = evaluate_run(open_run(run, network=network, data=data), scores=score or None, ood=further, root=root)
    if (size := size_of_fits(run)) != before:
        say(f"{run} keeps what the scores have learnt, {size}")
    if json:
        warned = list(evaluation.warnings)
        print_json({"accuracy": evaluation.accuracy, "metrics": evaluation.metrics, "warnings": warned})
    else:
        print_result(evaluation)


def compare(
    runs: Runs,
    /,
    *,
    score: OptionalName = None,
    to: OptionalPath = None,
    data: OptionalPath = None,
    json: bool = False,
) -> None:
    """Compare runs: mean and deviation over seeds, beside plain cross-entropy under the same score.

    Args:
        runs: run folders, folders of benchmarks, and files of recorded results (.jsonl).
        score: one outlier score for all, also one that evaluate has kept in them; each method's own unless given.
        to: also write a report: .html, .md, .csv or .json.
        data: the runs' suite file, if it names functions of your own, or has moved; a report shows rows of it.
        json: print one JSON document.
    """
    from oodles.comparing.comparison import compare as compare_runs

    comparison = compare_runs(runs, score, data=data)
    if to is not None:
        comparison.write(to)
    if json:
        print_json(comparison.as_dict())
    else:
        print(comparison.to_text(width=shutil.get_terminal_size((100, 24)).columns, color=sys.stdout.isatty()))
