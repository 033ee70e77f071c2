"""Test a trained run on all sets of its suite, and on further ones."""

import warnings
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from numpy.typing import NDArray

from oodles.classifier import Classifier, device_of
from oodles.data import SUITES, ImageSet, Suite, describe_suite, load_suite, read_like
from oodles.data.description import functions
from oodles.data.names import some
from oodles.evaluation import Evaluation, evaluate, fit_scores, is_named, resolve, score_rows, table_of
from oodles.inference import collect
from oodles.runs.fits import Fit, keep_fits, kept_fit, write_fits
from oodles.runs.folder import FITS, RunFolder, read_run
from oodles.runs.recipe import Recipe, scores_brought, trained_away
from oodles.scores import SCORES, Score

SCORED_OUTLIERS = 5000
"""The most training outliers that are scored: they only help to choose a score without test rows."""


def evaluate_run(
    run: RunFolder | str | Path,
    scores: Sequence[str | Score] | None = None,
    ood: Mapping[str, str | Path] | None = None,
    *,
    suite: Suite | None = None,
    root: str | Path | Sequence[str | Path] = (),
) -> Evaluation:
    """Measure a run's accuracy and out-of-distribution detection, on its suite's test sets and further images.

    Args:
        run: a run, or its folder.
        scores: names, such as ``vim`` or ``knn(k=5)``, or score objects; by default all that the classifier can have,
            but for those of ``oodles.scores.FURTHER_SCORES``. Of a score with a name, what it has learnt of the
            training rows and its values are kept in the folder of a finished run.
        ood: further out-of-distribution images by name: a folder, an ``.npz`` file or an image, brought to the
            suite's size as :func:`oodles.data.read_images` says.
        suite: the data, where the run was trained on a suite of one's own making.
        root: where the files of the suite are now, if they have moved.

    Raises:
        FileNotFoundError: for a folder that is no run or has no trained weights, and for images that are not there.
        ValueError: for unknown scores, unreadable images, and a name that a set of the suite already has.
    """
    run = run if isinstance(run, RunFolder) else read_run(run)
    classifier = run.classifier("auto")
    suite = suite or suite_of(run, root)
    sets = suite.ood_sets()
    for name, path in (ood or {}).items():
        if name in sets or name == "id":
            raise ValueError(f"There is a set {name!r} already: give what is at {path} another name.")
        sets[name] = read_like(suite, path)
    if scores is None:
        chosen = possible_scores(classifier, suite, scores_brought(run.methods))
        ready, fits = ready_scores(run, classifier, suite, chosen, leave_out=True)
    else:
        ready, fits = ready_scores(run, classifier, suite, [scores] if isinstance(scores, str) else scores)
    evaluation = _evaluate_on(sets, classifier, suite, ready)
    new = [score for score in ready if is_named(score) and not _known_values(run, score, fits[score.name])]
    if new and not changed_rows(run, suite):
        _keep(run, new, _fits(classifier, suite, new, evaluation))
    away = trained_away(run.methods, evaluation.scores["id"])
    warned = (*evaluation.warnings, *away, *run.result.get("warnings", ()))
    return replace(evaluation, warnings=warned, deployed=run.choice.get("chosen", ""))


def figures(run: RunFolder) -> str:
    """Return a table of a finished run's figures under the score that it is deployed with."""
    score = run.deployed_score
    tested = run.result.get("metrics", {}).get("test", {})
    return "\n".join(table_of({name: {score: by[score]} for name, by in tested.items() if score in by}, score))


def ready_score(
    run: RunFolder, score: Score, classifier: Classifier, root: str | Path | Sequence[str | Path] = ()
) -> tuple[Score, Mapping[str, NDArray[Any]]]:
    """Return a score that can score new rows, and its values of the run's sets, ``validation`` and ``test`` among them.

    They come from the run's folder, or, where it keeps none, from the run's data; then they are kept there.

    Raises:
        FileNotFoundError: where the data are needed and not there.
        ValueError: for a damaged folder, and a classifier or rows that cannot have this score.
    """
    score.check(classifier)
    fit = kept_fit(run.folder, score.name)
    values = _known_values(run, score, fit)
    if not values:
        suite = _data_for(score, run, root)
        (score,), _ = ready_scores(run, classifier, suite, [score])
        evaluation = _evaluate_on(suite.ood_sets(), classifier, suite, [score])
        fits = _fits(classifier, suite, [score], evaluation)
        _keep(run, [score], fits)
        return score, fits[score.name].values
    return _with_kept_fit(run, score, classifier, fit), values


def _data_for(score: Score, run: RunFolder, root: str | Path | Sequence[str | Path]) -> Suite:
    try:
        return unchanged_suite_of(run, root)
    except (FileNotFoundError, ValueError) as error:
        raise FileNotFoundError(
            f"{run.folder} keeps nothing of {score.name}, which needs the run's data once: "
            f"{str(error).rstrip('.')}, or call evaluate_run with the suite first."
        ) from error


def _known_values(run: RunFolder, score: Score, fit: Fit | None) -> Mapping[str, NDArray[Any]]:
    """Return the values of a score that the run's folder has, if they are those of the fit that it keeps."""
    if fit is not None and fit.values:
        return fit.values
    if score.needs_fit and fit is None:  # of an earlier version, whose score may have been another one
        return {}
    sets = {key.removesuffix(f"/{score.name}"): key for key in run.scores if key.endswith(f"/{score.name}")}
    return {name: run.scores[key] for name, key in sets.items()}


def _with_kept_fit(run: RunFolder, score: Score, classifier: Classifier, fit: Fit | None) -> Score:
    """Return the score with what the run's folder keeps for it; where it keeps nothing, as it is."""
    if fit is None or not (score.needs_fit and is_named(score)):
        return score
    device = device_of(classifier)
    try:
        return copy(score).load_state({name: value.to(device) for name, value in fit.state.items()})
    except (ValueError, RuntimeError, TypeError) as error:
        raise ValueError(f"{run.folder / FITS} holds another fit of {score.name}: delete it.") from error


def ready_scores(
    run: RunFolder, classifier: Classifier, suite: Suite, scores: Sequence[str | Score], *, leave_out: bool = False
) -> tuple[list[Score], dict[str, Fit | None]]:
    """Fit scores as the run's folder says, and others to the training rows; return what it says, too, by score."""
    chosen = resolve(scores, classifier)
    fits = {score.name: kept_fit(run.folder, score.name) for score in chosen}
    kept = {score.name: _with_kept_fit(run, score, classifier, fits[score.name]) for score in chosen}
    open_ones = [score for score in chosen if score.needs_fit and kept[score.name] is score]
    loader = suite.train.in_order(device_of(classifier))
    kept |= {score.name: score for score in fit_scores(classifier, loader, open_ones, leave_out=leave_out)}
    return [kept[score.name] for score in chosen if kept[score.name].fitted or not score.needs_fit], fits


def _fits(classifier: Classifier, suite: Suite, scores: Sequence[Score], evaluation: Evaluation) -> dict[str, Fit]:
    """Return what the scores have learnt, and their values of the suite's sets, most of which an evaluation has."""
    validation = score_rows(classifier, suite.validation.in_order(device_of(classifier)), scores).scores
    sets = {"test": evaluation.scores["id"], **{name: evaluation.scores[name] for name in suite.ood_sets()}}
    return {
        score.name: Fit(
            score.state() if score.needs_fit else {},
            {"validation": validation[score.name], **{name: values[score.name] for name, values in sets.items()}},
        )
        for score in scores
    }


def _keep(run: RunFolder, scores: Sequence[Score], fits: Mapping[str, Fit]) -> None:
    """Keep the fits of scores in the folder of a finished run, if they can be found again by name."""
    kept = {score.name: fits[score.name] for score in scores if is_named(score)}
    if not kept or run.status != "finished":
        return
    try:
        keep_fits(run.folder, kept)
    except OSError as error:  # a folder that may only be read
        warnings.warn(f"{run.folder} cannot keep {', '.join(kept)}: {error}.", stacklevel=3)


def suite_of(run: RunFolder, root: str | Path | Sequence[str | Path] = ()) -> Suite:
    """Load the data that a run was trained on, or what is in its place by now.

    Args:
        run: the run.
        root: where its files are, if they have moved: the folder with the suite's files, or with its folder or TOML
            file, or that folder itself.

    Raises:
        FileNotFoundError: where the files are not there.
        ValueError: for data that names functions of one's own, where the caller has not named the data.
    """
    roots = [Path(folder) for folder in ([root] if isinstance(root, str | Path) else root)]
    place: str | Path = run.suite or run.data
    if not Path(place).is_absolute() or Path(place).exists():
        roots = roots or [Path(folder) for folder in run.arguments.get("root", ())]
    else:
        moved = [found for folder in roots for found in (folder / Path(place).name, folder) if _is_suite(found)]
        if not moved:
            raise FileNotFoundError(
                f"The data of {run.folder} is not at {place} any more: say where it is with --root."
            )
        place = moved[0]
    if run.suite is None:
        _check_no_code(run, place, roots)
    return load_suite(place, run.seed, root=roots)


def unchanged_suite_of(run: RunFolder, root: str | Path | Sequence[str | Path] = ()) -> Suite:
    """Load the data that a run was trained on, see :func:`suite_of`; refuse what has changed since.

    Raises:
        FileNotFoundError: where the files are not there.
        ValueError: for other rows, and as :func:`suite_of`.
    """
    suite = suite_of(run, root)
    if changed := changed_rows(run, suite):
        raise ValueError(
            f"{some(changed)} of {run.suite or run.data} changed since the run was trained on it: say where the rows "
            "are that it was trained on"
        )
    return suite


def changed_rows(run: RunFolder, suite: Suite) -> list[str]:
    """Return the sets of known rows, and of those that it was tested on, that are not a run's, as far as is known."""
    about, sets = run.record["suite"], suite.sets()
    sizes, known = about["sizes"], about.get("sha256", {})
    names = [name for name in ("train", "validation", "test", *run.ood_sets) if name in sizes]
    return [
        name
        for name in names
        if name not in sets
        or len(sets[name]) != sizes[name]
        or known.get(name, "") not in ("", sets[name].fingerprint())
    ]


def _check_no_code(run: RunFolder, place: str | Path, roots: Sequence[Path]) -> None:
    """Refuse data that names functions: what a folder leads to is imported only if the caller names it, too."""
    if isinstance(SUITES.get(str(place)), str):  # a function of ours
        return
    for name, function in functions(describe_suite(place, roots)):
        raise ValueError(
            f"The data of {run.folder} names a function of one's own, {function!r} for {name}, and no "
            f"code is imported because a folder leads to it: if you trust it, add --data {place}, or "
            f"open_run(…, data={str(place)!r})."
        )


def _is_suite(path: Path) -> bool:
    return path.is_file() if path.suffix == ".toml" else (path / "train").is_dir() or (path / "train.npz").is_file()


class Tested(NamedTuple):
    """What testing a run gives."""

    arrays: dict[str, NDArray[Any]]
    """By ``SET/SCORE``, ``SET/predictions`` and ``SET/labels``."""
    remarks: dict[str, str]
    """By score: what it has chosen when it was fitted."""
    scores: list[Score]
    """Fitted to the training rows."""


def score_arrays(classifier: Classifier, suite: Suite, recipe: Recipe, folder: Path | None = None) -> Tested:
    """Compute every score, also those that methods bring, and the predictions, of all sets but the training rows.

    What the scores have learnt of the training rows is kept in the folder, where one is given.

    The keys are ``SET/SCORE``, ``SET/predictions`` and, of known classes, ``SET/labels``, for the sets ``validation``,
    ``test``, ``validation-outliers``, ``outliers`` (at most some thousand), ``near:NAME`` and ``far:NAME``.
    """
    others = {"validation": suite.validation, **suite.ood_sets()}
    if suite.validation_outliers is not None:
        others["validation-outliers"] = suite.validation_outliers
    if suite.outliers is not None:
        others["outliers"] = suite.outliers.evenly(SCORED_OUTLIERS)
    scores = resolve(possible_scores(classifier, suite, scores_brought(recipe.methods)), classifier)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".* training rows vary in")  # evaluations say it
        scores = fit_scores(classifier, suite.train.in_order(device_of(classifier)), scores, leave_out=True)
    if folder is not None:
        write_fits(folder, {score.name: Fit(score.state()) for score in scores if score.needs_fit})
    evaluation = _evaluate_on(others, classifier, suite, scores)
    arrays: dict[str, NDArray[Any]] = {"test/labels": suite.test.labels, "validation/labels": suite.validation.labels}
    for name, by_score in evaluation.scores.items():
        key = "test" if name == "id" else name
        arrays[f"{key}/predictions"] = evaluation.predictions[name]
        arrays |= {f"{key}/{score}": values for score, values in by_score.items()}
    return Tested(arrays, {score.name: score.remark for score in scores if score.remark}, scores)


def _evaluate_on(
    sets: Mapping[str, ImageSet], classifier: Classifier, suite: Suite, scores: Sequence[Score]
) -> Evaluation:
    device = device_of(classifier)
    return evaluate(
        classifier,
        suite.test.in_order(device),
        {name: images.in_order(device) for name, images in sets.items()},
        scores=scores,
    )


def possible_scores(classifier: Classifier, suite: Suite, further: Sequence[str]) -> list[str]:
    """Return the scores that a classifier can have, some of which need features that are vectors, then ``further``."""
    images, _ = suite.validation.__getitems__([0])  # test rows have no say in what is chosen
    vectors = collect(classifier, [images]).features.ndim == 2
    return [*(name for name, score in SCORES.items() if vectors or not score.needs_vectors), *further]
