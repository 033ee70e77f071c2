"""Use a trained run on new inputs: class, outlier score, and whether to accept."""

import math
from collections.abc import Sequence
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
from oodles.inference import collect
from oodles.runs.folder import SCORES, Run, check_output, open_run
from oodles.runs.recipe import own_score
from oodles.runs.testing import suite_of
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
        accepted: NDArray[np.bool_] = self.scores <= self.threshold
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
        score: an outlier score; by default the one that the run's methods ask for. Scores that compare with training
            rows need the training data at hand.
        accept: in (0, 1].
        to: a CSV file to write, or none.
        root: where the files of the run's suite are now, if they have moved; for scores that compare with its rows.

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
    chosen, known = choose_score(run, score)
    channels, height, width = run.record["suite"]["input_shape"]
    images = read_images(inputs, (channels, height, width), run.record["suite"].get("resize"))
    classifier = run.classifier("auto")
    fit_to_run(chosen, run, classifier, root)
    scored = score_rows(classifier, images.loader(), [chosen])
    verdicts = Verdicts(
        names=images.names or tuple(str(row) for row in range(len(images))),
        classes=tuple(run.classes[index] for index in scored.predictions.tolist()),
        scores=scored.scores[chosen.name],
        threshold=threshold_accepting(accept, known),
        score=chosen.name,
    )
    if to is not None:
        write_text(Path(to), verdicts.to_csv())
    return verdicts


def choose_score(run: Run, score: str | None) -> tuple[Score, NDArray[Any]]:
    """Return a score, by default the one that the run's methods ask for, and the validation rows' values under it.

    Raises:
        FileNotFoundError: for a run without such scores.
        ValueError: for an unknown score.
    """
    name = score or own_score(run.methods)
    chosen = score_named(name)
    known = run.scores.get(f"validation/{name}")
    if known is None:
        there = [key.removeprefix("validation/") for key in run.scores if key.startswith("validation/")]
        there = [name for name in there if name not in ("labels", "predictions")]
        why = f"it has {', '.join(there)}." if there else run.why_not(SCORES)
        raise FileNotFoundError(f"{run.folder} has no {name} scores of validation rows: {why}")
    return chosen, known


def fit_to_run(score: Score, run: Run, classifier: Classifier, root: str | Path | Sequence[str | Path]) -> None:
    """Fit a score that compares with training rows to those of a run."""
    if score.needs_fit:
        score.fit(*collect(classifier, suite_of(run, root).train.loader()))


def threshold_accepting(share: float, scores: NDArray[Any]) -> float:
    """Return the smallest threshold at which at least a share of these scores, and at least one, are accepted."""
    accepted = math.ceil(round(share * len(scores), 9))  # 0.07 · 100 is a little more than 7
    return float(np.sort(scores)[max(accepted, 1) - 1])
