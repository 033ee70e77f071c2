"""Use a trained run on new inputs: class, outlier score, and whether to accept."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.data import read_images
from oodles.evaluation import score_named, score_rows
from oodles.files import csv_text, write_text
from oodles.runs.folder import SCORES, Run, check_output, open_run
from oodles.runs.recipe import own_score
from oodles.runs.testing import ready_score
from oodles.scores import Score


@dataclass(frozen=True)
class Verdicts:
    """The class, score and verdict of new inputs, row by row."""

    names: tuple[str, ...]
    """File names, or row numbers."""
    classes: tuple[str, ...]
    """The predicted classes; meaningless for inputs that are not accepted."""
    scores: NDArray[Any]
    """Higher is more out-of-distribution."""
    threshold: float
    """Inputs that score at most this are accepted."""
    score: str
    """The outlier score's name."""

    @property
    def accepted(self) -> NDArray[np.bool_]:
        """Say for each input whether to accept it: its score is at most the threshold."""
        accepted: NDArray[np.bool_] = (self.scores <= self.threshold) & np.isfinite(self.scores)
        return accepted

    def __str__(self) -> str:
        return f"{int(self.accepted.sum())} of {len(self.names)} accepted: {self.score} of at most {self.threshold:.6g}"

    def to_csv(self) -> str:
        """Write one line per input: its name, class, score and ``accept`` or ``reject``."""
        verdicts = ["accept" if accepted else "reject" for accepted in self.accepted.tolist()]
        rows = zip(self.names, self.classes, self.scores.tolist(), verdicts, strict=True)
        return csv_text([("input", "class", "score", "verdict"), *rows])


def score_inputs(
    run: Run | str | Path,
    inputs: str | Path,
    *,
    score: str | None = None,
    accept: float = 0.95,
    to: str | Path | None = "scores.csv",
    root: str | Path | Sequence[str | Path] = (),
) -> Verdicts:
    """Classify new images and say which of them look out-of-distribution.

    The threshold is the smallest that accepts at least the share ``accept`` of the run's validation rows, so it is set
    without any out-of-distribution inputs.

    Args:
        run: a finished run, or its folder.
        inputs: an image, a folder of images or an ``.npz`` file, brought to the size of the training images.
        score: an outlier score, such as ``knn(k=5)``; by default the one that the run's methods ask for. One that the
            run has not been tested with needs the run's data at hand, once.
        accept: in (0, 1].
        to: a CSV file to write, or none.
        root: where the files of the run's suite are now, if they have moved; for scores that it was not tested with.

    Raises:
        FileNotFoundError: for a folder that is no run or is not finished, and for inputs that are not there.
        ValueError: for an unknown score, unreadable images, or a share outside (0, 1].
    """
    check_number("accept", accept, above=0)
    if accept > 1:
        raise ValueError(f"accept must be at most 1, got {accept}: 0.95 accepts 95 % of the validation rows.")
    if to is not None:
        check_output(Path(to))
    run = run if isinstance(run, Run) else open_run(run)
    named_score(run, score)
    channels, height, width = run.record["suite"]["input_shape"]
    images = read_images(inputs, (channels, height, width), run.record["suite"].get("resize"))
    classifier = run.classifier("auto")
    chosen, values = choose_score(run, score, classifier, root)
    scored = score_rows(classifier, images.loader(), [chosen])
    verdicts = Verdicts(
        names=images.names or tuple(str(row) for row in range(len(images))),
        classes=tuple(run.classes[index] for index in scored.predictions.tolist()),
        scores=scored.scores[chosen.name],
        threshold=threshold_accepting(accept, values["validation"]),
        score=chosen.name,
    )
    if to is not None:
        write_text(Path(to), verdicts.to_csv())
    return verdicts


def choose_score(
    run: Run, score: str | None, classifier: Classifier, root: str | Path | Sequence[str | Path] = ()
) -> tuple[Score, Mapping[str, NDArray[Any]]]:
    """Return a score, by default the one that the run's methods ask for, ready to be used, and the run's values of it.

    Raises:
        FileNotFoundError: for a run that is not finished, and where the run's data are needed and not there.
        ValueError: for an unknown score, or one that the classifier cannot have.
    """
    return ready_score(run, named_score(run, score), classifier, root)


def named_score(run: Run, score: str | None) -> Score:
    """Return a score as it is named, by default the one that the run's methods ask for.

    Raises:
        FileNotFoundError: for a run that is not finished.
        ValueError: for an unknown score.
    """
    chosen = score_named(score or own_score(run.methods))
    if not run.scores:
        raise FileNotFoundError(f"{run.folder} has no {chosen.name} scores of validation rows: {run.why_not(SCORES)}")
    return chosen


def threshold_accepting(share: float, scores: NDArray[Any]) -> float:
    """Return the smallest threshold at which at least a share of these scores, and at least one, are accepted."""
    accepted = math.ceil(round(share * len(scores), 9))  # 0.07 · 100 is a little more than 7
    return float(np.sort(scores)[max(accepted, 1) - 1])
