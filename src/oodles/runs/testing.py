"""Test a trained run on all sets of its suite, and on further ones."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from oodles.classifier import Classifier, device_of
from oodles.data import ImageSet, Suite, load_suite, read_images
from oodles.evaluation import Evaluation, evaluate
from oodles.inference import collect
from oodles.runs.folder import Run, open_run
from oodles.runs.recipe import Recipe, scores_brought, trained_away
from oodles.scores import SCORES, Score

SCORED_OUTLIERS = 5000
"""The most training outliers that are scored: they only help to choose a score without test rows."""


def evaluate_run(
    run: Run | str | Path,
    scores: Sequence[str | Score] | None = None,
    ood: Mapping[str, str | Path] | None = None,
    *,
    suite: Suite | None = None,
    root: str | Path | Sequence[str | Path] = (),
) -> Evaluation:
    """Measure a run's accuracy and out-of-distribution detection, on its suite's test sets and further images.

    Args:
        run: a run, or its folder.
        scores: names or score objects; by default all that the classifier can have.
        ood: further out-of-distribution images by name: a folder, an ``.npz`` file or an image, brought to the
            suite's size as :func:`oodles.data.read_images` says.
        suite: the data, where the run was trained on a suite of one's own making.
        root: where the files of the suite are now, if they have moved.

    Raises:
        FileNotFoundError: for a folder that is no run or has no trained weights, and for images that are not there.
        ValueError: for unknown scores, unreadable images, and a name that a set of the suite already has.
    """
    run = run if isinstance(run, Run) else open_run(run)
    classifier = run.classifier("auto")
    suite = suite or suite_of(run, root)
    sets = suite.ood_sets()
    for name, path in (ood or {}).items():
        if name in sets or name == "id":
            raise ValueError(f"There is a set {name!r} already: give the images at {path} another name.")
        sets[name] = read_images(path, suite.input_shape, suite.resize)
    if scores is None:
        scores = _possible_scores(classifier, suite, scores_brought(run.methods))
    evaluation = _evaluate_on(sets, classifier, suite, scores)
    remarks = trained_away(run.methods, evaluation.scores["id"])
    return replace(evaluation, remarks=(*evaluation.remarks, *remarks, *run.result.get("warnings", ())))


def suite_of(run: Run, root: str | Path | Sequence[str | Path] = ()) -> Suite:
    """Load the data that a run was trained on, or what is in its place by now.

    Args:
        run: the run.
        root: where its files are, if they have moved: the folder with the suite's files, or with its folder or TOML
            file, or that folder itself.

    Raises:
        FileNotFoundError: where the files are not there.
    """
    roots = [Path(folder) for folder in ([root] if isinstance(root, str | Path) else root)]
    data = Path(run.data)
    if not data.is_absolute() or data.exists():
        return load_suite(run.data, run.seed, root=roots or run.arguments.get("root", ()))
    moved = [place for folder in roots for place in (folder / data.name, folder) if _is_suite(place)]
    if not moved:
        raise FileNotFoundError(f"The data of {run.folder} is not at {data} any more: say where it is with --root.")
    return load_suite(moved[0], run.seed, root=roots)


def _is_suite(path: Path) -> bool:
    return path.is_file() if path.suffix == ".toml" else (path / "train").is_dir() or (path / "train.npz").is_file()


def score_arrays(classifier: Classifier, suite: Suite, recipe: Recipe) -> dict[str, NDArray[Any]]:
    """Compute every score, also those that methods bring, and the predictions, of all sets but the training rows.

    The keys are ``SET/SCORE``, ``SET/predictions`` and, of known classes, ``SET/labels``, for the sets ``validation``,
    ``test``, ``validation-outliers``, ``outliers`` (at most some thousand), ``near:NAME`` and ``far:NAME``.
    """
    others = {"validation": suite.validation, **suite.ood_sets()}
    if suite.validation_outliers is not None:
        others["validation-outliers"] = suite.validation_outliers
    if suite.outliers is not None:
        others["outliers"] = suite.outliers.evenly(SCORED_OUTLIERS)
    scores = _possible_scores(classifier, suite, scores_brought(recipe.methods))
    evaluation = _evaluate_on(others, classifier, suite, scores)
    arrays: dict[str, NDArray[Any]] = {"test/labels": suite.test.labels, "validation/labels": suite.validation.labels}
    for name, by_score in evaluation.scores.items():
        key = "test" if name == "id" else name
        arrays[f"{key}/predictions"] = evaluation.predictions[name]
        arrays |= {f"{key}/{score}": values for score, values in by_score.items()}
    return arrays


def _evaluate_on(
    sets: Mapping[str, ImageSet], classifier: Classifier, suite: Suite, scores: Sequence[str | Score]
) -> Evaluation:
    device = device_of(classifier)
    return evaluate(
        classifier,
        suite.test.in_order(device),
        {name: images.in_order(device) for name, images in sets.items()},
        scores=scores,
        train_loader=suite.train.in_order(device),
    )


def _possible_scores(classifier: Classifier, suite: Suite, further: Sequence[str]) -> list[str]:
    """Return the scores that a classifier can have, some of which need features that are vectors, then ``further``."""
    images, _ = suite.test.__getitems__([0])
    vectors = collect(classifier, [images]).features.ndim == 2
    return [*(name for name, score in SCORES.items() if vectors or not score.needs_vectors), *further]
