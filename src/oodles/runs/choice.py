"""The outlier score that a run is deployed with: chosen once, without training, and kept in ``choice.json``."""

import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from oodles.classifier import Classifier, device_of
from oodles.contract import Part
from oodles.data import Suite
from oodles.data.decoded import sample
from oodles.detection.choosing import OUTLIERS, Choice, choose_on_half, most_rows, score_unknowns
from oodles.files import sha256_of, write_json
from oodles.methods import METHODS
from oodles.runs.folder import CHOICE, RUN, SCORES, RunFolder, read_run
from oodles.runs.recipe import Methods, needs_outliers, own_score, roles_used, scores_brought
from oodles.runs.testing import possible_scores, ready_scores, unchanged_suite_of
from oodles.scores import Score


def choose_score(
    run: RunFolder | str | Path,
    *,
    root: str | Path | Sequence[str | Path] = (),
    network: str | None = None,
    data: str | Path | None = None,
) -> Choice:
    """Say which outlier score a finished run should be deployed with, and keep it in the run's folder.

    Nothing is trained, and no test row is read. The scores that the run was tested with tell one half of the validation
    rows from unknowns made of these, where they are images, see :mod:`oodles.detection.choosing`, and from the suite's
    validation outliers, or its auxiliary ones, where nothing was trained on outliers. The score of the run's methods
    stays unless another one has an AUROC at least two points higher, all together, and none two points lower on any
    kind of unknowns. What was chosen before, also when training ended, is read from the folder.

    Args:
        run: a finished run, or its folder.
        root: where the files of the run's suite are now, if they have moved.
        network: of a folder, see :func:`open_run`.
        data: likewise.

    Raises:
        FileNotFoundError: for a folder that is no run or is not finished, and where its data are needed and not there.
        ValueError: for damaged files.

    Example:
        >>> print(choose_score("runs/mixup-digits-0"))  # doctest: +SKIP
    """
    run = run if isinstance(run, RunFolder) else read_run(run, network=network, data=data)
    if not run.scores:
        raise FileNotFoundError(f"{run.folder} has no scores of validation rows: {run.why_not(SCORES)}")
    if kept := run.choice:
        return Choice.from_dict(kept)
    try:
        suite = unchanged_suite_of(run, root)
    except (FileNotFoundError, ValueError) as error:
        why = str(error).rstrip(".")
        raise FileNotFoundError(
            f"{run.folder} keeps no choice of a score, which needs the run's data once: {why}, or name a score."
        ) from error
    classifier = run.classifier("auto")
    names = possible_scores(classifier, suite, scores_brought(run.methods))
    ready, _ = ready_scores(run, classifier, suite, names, leave_out=True)
    choice = choose_on(run, classifier, suite, ready, run.scores)
    keep_choice(run, choice)
    return choice


def keep_choice(run: RunFolder, choice: Choice) -> None:
    """Write a choice into the run's folder; one that may only be read stays as it is, with a warning."""
    try:
        write_json(run.folder / CHOICE, choice.as_dict())
    except OSError as error:
        warnings.warn(f"{run.folder} cannot keep its choice of a score: {error}.", stacklevel=3)


def choose_on(
    run: RunFolder, classifier: Classifier, suite: Suite, scores: Sequence[Score], values: Mapping[str, NDArray[Any]]
) -> Choice:
    """Choose a run's score on its validation rows and on unknowns made of these; see :func:`oodles.choose_score`.

    Args:
        run: what was trained, and how.
        classifier: the trained one.
        suite: its data, of which the validation rows are read.
        scores: those to choose from, fitted where they have to be.
        values: what the run keeps of every set, by ``SET/SCORE``.
    """
    sets = {key.partition("/")[0] for key in values}
    used = trained_on_outliers(run)
    said = "The outliers were trained on, so what they say of scores is worth nothing: they did not choose."
    outliers = next((name for name in ("validation-outliers", OUTLIERS) if name in sets and not used), None)

    def unknown(may: NDArray[np.bool_]) -> dict[str, Mapping[str, NDArray[Any]]]:
        places = np.flatnonzero(may)
        places = places[sample(len(places), most_rows(suite.input_shape))]
        rows, _ = suite.validation.rows(places).__getitems__(range(len(places)))
        classes = torch.from_numpy(values["validation/predictions"][places].astype(np.int64))
        part = Part(rows.to(device_of(classifier)), classes.to(device_of(classifier)))
        found: dict[str, Mapping[str, NDArray[Any]]] = dict(score_unknowns(classifier, part, scores))
        if outliers is not None:
            found[OUTLIERS] = of(outliers)
        return found

    def of(name: str) -> dict[str, NDArray[Any]]:
        return {score.name: values[key] for score in scores if (key := f"{name}/{score.name}") in values}

    return choose_on_half(
        of("validation"), own_score(run.methods), unknown, [said] if used and OUTLIERS in sets else []
    )


def trained_on_outliers(run: RunFolder) -> bool:
    """Say whether outliers trained or measured anything of a run, of those that its weights come from, or a teacher."""
    if OUTLIERS in roles_used(run.recipe) or run.suggested:
        return True
    return any(_know_outliers(run.record.get(what, {})) for what in ("initial", "teacher"))


def _know_outliers(weights: Mapping[str, str]) -> bool:
    """Say it of weights: by the run whose folder still has them, or else by the methods that their label names."""
    file = Path(weights.get("file", ""))
    if (file.parent / RUN).is_file() and file.is_file() and sha256_of(file) == weights.get("sha256"):
        with suppress(ValueError):  # it has been damaged since
            return trained_on_outliers(read_run(file.parent))
    label, _, _ = weights.get("label", "").partition(" (")  # of a teacher, it ends with its network
    said: Methods = tuple((name, {}) for name in label.split(" + ") if name in METHODS)
    return needs_outliers(said)
