"""A detector: a classifier, an outlier score, a threshold with a promise, and how inputs are made."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain, islice
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from torch import nn

from oodles.classifier import Classifier, device_named
from oodles.data.features import Features
from oodles.detection.calibration import (
    Calibration,
    choosing_rows,
    enough_rows,
    refused_by_fdr,
    refused_rank,
    rows_needed,
)
from oodles.detection.choosing import BEST, OUTLIERS, OWN, Choice, Sample, choose_on_half, score_unknowns
from oodles.detection.exporting import MEASURED, Exported, write_graph
from oodles.detection.inputs import Expected, Observed, Preprocessing, Reading, as_batches
from oodles.detection.saved import Parts, read_detector, write_detector
from oodles.detection.verdicts import Verdicts
from oodles.detection.watching import Evidence, Watch
from oodles.evaluation import Scored, fit_scores, resolve, score_rows
from oodles.inference import collect
from oodles.scores import SCORES, Score

PLAIN = "msp"
"""The score that stays unless another is better."""


@dataclass(frozen=True, eq=False)
class Detector(Parts):
    """What is deployed: tells which inputs a classifier should refuse.

    Made by :meth:`fit` from a classifier of one's own, by ``open_run(folder).detector()`` from a run, and by
    :meth:`load`. Calling it scores inputs.

    Args:
        classifier: stays as it is.
        score: an outlier score, fitted where it has to be.
        calibration: scores of held-out known rows, and the promise that is read from them.
        expected: what the rows of inputs look like.
        preprocessing: how images, tables or texts become rows, where they do.
        about: where it comes from, for its file.

    Example:
        >>> import torch
        >>> from oodles import Classifier
        >>> classifier = Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> known = [(torch.rand(300, 1, 4, 4), torch.arange(300) % 3)]
        >>> detector = Detector.fit(classifier, known, score="energy", false_alarms=0.05)
        >>> verdicts = detector(torch.rand(5, 1, 4, 4))
        >>> len(verdicts.classes), verdicts.scores.shape, bool((verdicts.p_values[verdicts.accepted] > 0.05).all())
        (5, (5,), True)
    """

    @classmethod
    def fit(
        cls,
        classifier: nn.Module,
        validation: Iterable[Any],
        *,
        train: Iterable[Any] | None = None,
        score: str | Score | None = None,
        false_alarms: float = 0.05,
        per_class: bool = False,
        classes: Sequence[str] | None = None,
        outliers: Iterable[Any] | None = None,
        preprocessing: Reading | None = None,
    ) -> "Detector":
        """Make a detector of a trained classifier.

        The threshold is set so that a new known input is refused with a probability of at most ``false_alarms``. That
        needs validation rows that were neither trained on nor chose anything, such as the checkpoint.

        Args:
            classifier: a :class:`Classifier`; for scores of logits any module that gives logits (N, C) will do.
            validation: batches of held-out known rows, see :func:`collect`; labels do not matter.
            train: training batches with labels, for scores that compare with them.
            score: a name, such as ``energy`` or ``knn(k=5)``, or a score object; ``own`` is ``msp``. By default it is
                chosen: the one that tells one half of the validation rows best from unknowns that are made of these,
                and from ``outliers`` where there are any; ``msp`` stays unless another is two points of AUROC better
                and on no kind of unknowns two points worse. The other half is left for the threshold. It is ``msp``
                where nothing can be chosen, or where half of the rows are too few for the rate; ``best`` refuses that.
            false_alarms: α, in (0, 1).
            per_class: keep the promise for each predicted class by itself.
            classes: names of the classes; their numbers unless given.
            outliers: batches of other rows that nothing was trained on, to choose a score on.
            preprocessing: how images become the rows that the classifier reads, so that images, paths and folders can
                be scored; without it, images must have the rows' size. For tables and texts, see :class:`Features`.

        Raises:
            TypeError: for batches of other kinds.
            ValueError: for fewer validation rows than the rate needs, an unknown score, one that lacks training rows,
                and validation rows that are not finite, or not what ``preprocessing`` gives.
        """
        if not isinstance(classifier, nn.Module):
            raise TypeError(
                f"classifier must be a Classifier or a module that gives logits, got {type(classifier).__name__}."
            )
        if not isinstance(validation, Iterable):
            raise TypeError(f"validation must be a loader of known rows, got {type(validation).__name__}.")
        seen = Observed(validation)
        batches: Iterable[Any] = seen
        choosing = score is None or score == BEST
        named: list[str | Score] = [PLAIN if score is None or score == OWN else score]
        if choosing:
            kept = Sample(seen)
            first = list(islice(passed := iter(kept), 1))
            batches = chain(first, passed)
            named = _candidates(classifier, first, fitted=train is not None) if first else [PLAIN]
        chosen = resolve(named, classifier)
        if train is not None:
            chosen = fit_scores(classifier, train, chosen, leave_out=choosing)
        known = score_rows(classifier, batches, chosen, name="validation")
        if known.predictions.shape != (seen.rows,):
            raise ValueError(
                f"A detector gives one verdict for each row, and this classifier gives {known.predictions.size} "
                f"predictions for {seen.rows}: evaluate measures dense prediction."
            )
        names = _class_names(classes, _count_classes(classifier, seen.example))
        choice, best, left = None, chosen[0], np.ones(seen.rows, bool)
        if choosing:
            half = ~choosing_rows(seen.rows)
            spare = enough_rows(known.predictions[half], len(names), false_alarms, per_class=per_class)
            choice = _choose(classifier, kept, known, chosen, outliers) if spare or score == BEST else None
            if score == BEST and choice is not None and not choice.aurocs:
                raise ValueError(f"score={BEST!r} cannot be told: {choice.remarks[0]} Name a score, or leave it out.")
            left = half if choice is not None and choice.aurocs else left
            name = PLAIN if choice is None else choice.chosen
            best = next(one for one in chosen if one.name == name)
        expected = seen.expected()
        if isinstance(preprocessing, Preprocessing):
            _check_preprocessing(preprocessing, expected)
        calibration = Calibration(
            known.scores[best.name][left].astype(np.float64), known.predictions[left], names, false_alarms, per_class
        )
        about = {"choice": choice.reason} if choice is not None and choice.aurocs else {}
        return cls(classifier, best, calibration, expected, preprocessing, about)

    @property
    def classes(self) -> tuple[str, ...]:
        """Return the names of the classes."""
        return self.calibration.classes

    @property
    def threshold(self) -> float:
        """Return the highest score that is accepted.

        Raises:
            ValueError: where classes have thresholds of their own, see ``calibration.thresholds``.
        """
        if self.calibration.per_class:
            raise ValueError("The threshold must be one for all, and classes have their own: read thresholds.")
        return float(self.calibration.thresholds[0])

    def __str__(self) -> str:
        return f"{self.rule}; {100 * self.calibration.false_alarms:g} % false alarms"

    @property
    def rule(self) -> str:
        """Say what is accepted."""
        if self.calibration.per_class:
            return f"{self.score.name} of at most the predicted class's threshold"
        return f"{self.score.name} of at most {self.threshold:.6g}"

    def at(self, false_alarms: float, *, per_class: bool | None = None) -> "Detector":
        """Return the same detector with another rate of false alarms, about which nothing was measured yet.

        Raises:
            ValueError: for a rate that needs more calibration rows.
        """
        chosen = self.calibration.per_class if per_class is None else per_class
        if (false_alarms, chosen) == (self.calibration.false_alarms, self.calibration.per_class):
            return self
        calibration = replace(self.calibration, false_alarms=false_alarms, per_class=chosen)
        about = {key: value for key, value in self.about.items() if key not in MEASURED}
        return replace(self, calibration=calibration, about=about)

    def __call__(self, inputs: Any, *, fdr: float | None = None) -> Verdicts:
        """Score inputs and say which to accept.

        A row that is not finite, in its inputs, logits or score, is never accepted: it scores infinity, which gives it
        the lowest p-value, and no other row's verdict depends on it.

        Args:
            inputs: the path of an image, a folder or an array; an image of Pillow's, an array in bytes or in [0, 1], or
                a list of images and paths; a table, or texts in a file or a list, where ``preprocessing`` reads them; a
                tensor or dictionary as the classifier reads it; or a loader.
            fdr: refuse by Benjamini and Hochberg's rule over these inputs instead: in expectation at most this share of
                the refused ones is known.

        Raises:
            TypeError: for what is none of these.
            ValueError: for inputs of another shape or range, images that cannot be read, and a share that so few
                calibration rows cannot promise.
        """
        if fdr is not None:
            self._check_fdr(fdr)
        batches, names = as_batches(inputs, self.expected, self.preprocessing)
        scored = score_rows(self.classifier, batches, [self.score], name="inputs", strict=False)
        scores, predictions = scored.scores[self.score.name].astype(np.float64), scored.predictions
        p_values = self.calibration.p_values(scores, predictions)
        thresholds = self.calibration.threshold_of(predictions)
        rule = self.rule
        accepted = scores <= thresholds
        if fdr is not None:
            finite = np.isfinite(scores)
            accepted[finite] = ~refused_by_fdr(p_values[finite], fdr)
            rule = f"{self.score.name}, at most {100 * fdr:g} % of the refused being known, in expectation"
        return Verdicts(
            names=tuple(names) or tuple(str(row) for row in range(len(scores))),
            classes=tuple(self.classes[number] for number in predictions.tolist()),
            predictions=predictions,
            scores=scores,
            p_values=p_values,
            thresholds=thresholds,
            accepted=accepted,
            score=self.score.name,
            rule=rule,
            choice=self.about.get("choice", ""),
        )

    def naming(self, encoder: str | None) -> "Detector":
        """Return this detector with the encoder of its texts trusted, since the caller names it too."""
        preprocessing = self.preprocessing
        if encoder is None or not isinstance(preprocessing, Features):
            return self
        return replace(self, preprocessing=preprocessing.naming(encoder))

    def _check_fdr(self, fdr: float) -> None:
        refused_by_fdr(np.ones(1), fdr)  # whether it is a share
        rows = min(len(known) for _, known in self.calibration.groups(np.zeros(0, np.int64)))
        if rows < (needed := rows_needed(fdr)):
            raise ValueError(
                f"fdr={fdr:g} needs {needed} calibration rows, got {rows}: none could be refused; allow more."
            )

    def watch(self, *, window: int = 1000, level: float = 0.01, to: str | Path | None = None) -> Watch:
        """Return a watch that counts refusals, and raises an alarm where they are more than was promised.

        Args:
            window: inputs per window.
            level: the probability of an alarm without a cause, in (0, 1), however long it watches.
            to: a file to which a JSON line per full window is appended, or none.

        Example:
            >>> watch = detector.watch(window=500, to="watch.jsonl")  # doctest: +SKIP
            >>> for images in camera:  # doctest: +SKIP
            ...     verdicts = watch(images)
            ...     if watch.alarm:
            ...         print(f"{watch.refused} of {watch.rows} refused: look at what comes in")
        """
        alpha = self.calibration.false_alarms
        sizes = [len(known) for _, known in self.calibration.groups(np.zeros(0, np.int64))]
        evidence = [Evidence(refused_rank(alpha, rows), rows) for rows in sizes]
        return Watch(self, evidence, alpha, window=window, level=level, to=to)

    def save(self, folder: str | Path) -> Path:
        """Write the detector into a folder of its own, nothing of it pickled; return the folder.

        A detector that is there already is replaced when all of the new one is written.

        Raises:
            ValueError: for a folder that holds something else, and a score object that no name describes.
        """
        return write_detector(self, Path(folder))

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        classifier: nn.Module | None = None,
        network: str | None = None,
        device: Literal["auto", "cpu", "cuda"] = "cpu",
        encoder: str | None = None,
    ) -> "Detector":
        """Read a detector that :meth:`save` has written.

        Args:
            folder: where it is.
            classifier: one like that which was saved, whose weights are replaced; needed for networks that the package
                cannot build again.
            network: the detector's network, where that is a function of your own, ``package.module:function``: what a
                folder names is imported only if you name it too.
            device: ``auto`` takes a GPU where there is one.
            encoder: that of its texts, likewise.

        Raises:
            FileNotFoundError: for a folder without a detector.
            ValueError: for a file that is damaged or of another version, another network or encoder than was saved,
                and a device that is not there.
        """
        there = device_named(device)
        parts = read_detector(Path(folder), classifier, network)
        parts.classifier.to(there).eval()
        return cls(**vars(parts)).naming(encoder)

    def export(self, to: str | Path) -> Exported:
        """Write one graph for other programs: inputs to ``logits``, ``score`` and ``accept``, for any batch size.

        The file describes itself, as JSON under ``oodles.json``: the classes, the shape of a row, the score, its
        threshold, the stated rate of false alarms, and how images become inputs. Of images, a Python file that does
        that with NumPy and Pillow alone is written beside it, ``NAME_preprocess.py``. It gets its name only when it was
        loaded again and gave the classifier's numbers. Inputs outside [0, 1] are never accepted, where that is the
        range.

        Args:
            to: a file that ends in ``.onnx``, or in ``.pt2`` for ``torch.export.load``.

        Raises:
            ImportError: for ONNX without the packages that write it.
            ValueError: for another ending, a classifier that reads a dictionary, and a score that no graph can hold.
        """
        return write_graph(self, Path(to))


def _choose(
    classifier: nn.Module, kept: Sample, known: Scored, scores: Sequence[Score], outliers: Iterable[Any] | None
) -> Choice:
    """Choose a score on the half of the validation rows that may choose something."""

    def unknown(may: NDArray[np.bool_]) -> dict[str, Any]:
        part = kept.part(may, known.predictions)
        found: dict[str, Any] = {} if part is None else dict(score_unknowns(classifier, part, scores))
        if outliers is not None:
            found[OUTLIERS] = score_rows(classifier, outliers, scores, name="outliers").scores
        return found

    return choose_on_half(known.scores, PLAIN, unknown)


def _candidates(classifier: nn.Module, batches: Iterable[Any], *, fitted: bool) -> list[str | Score]:
    """Return the names of the scores that a classifier can have, with or without those that compare with rows."""
    vectors = not isinstance(classifier, Classifier) or collect(classifier, batches).features.ndim == 2
    names = [name for name in SCORES if (fitted or not SCORES[name].needs_fit) and _suits(name, classifier)]
    return [name for name in names if vectors or not SCORES[name].needs_vectors]


def _suits(name: str, classifier: nn.Module) -> bool:
    try:
        SCORES[name]().check(classifier)
    except ValueError:
        return False
    return True


def _check_preprocessing(preprocessing: Preprocessing, expected: Expected) -> None:
    """Refuse validation rows that are not what the preprocessing gives."""
    if expected.shape != preprocessing.input_shape or not expected.unit_range:
        got = f"rows of shape {expected.shape}" if expected.shape != preprocessing.input_shape else "another range"
        raise ValueError(
            f"preprocessing gives images {preprocessing.input_shape} in [0, 1], and the validation rows have {got}: "
            "let Normalize be the classifier's first layer, and give the shape that it reads."
        )


def _count_classes(classifier: nn.Module, example: Any) -> int:
    """Return how many logits a classifier gives for each row."""
    if isinstance(classifier, Classifier):
        return classifier.num_classes
    return collect(classifier, [example]).logits.shape[1]


def _class_names(classes: Sequence[str] | None, count: int) -> tuple[str, ...]:
    """Return the names of the classes, by default their numbers."""
    names = tuple(map(str, range(count) if classes is None else classes))
    if len(names) != count or len(set(names)) != count:
        raise ValueError(f"classes must be {count} different names, one for each logit, got {len(set(names))}.")
    return names
