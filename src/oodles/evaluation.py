"""Evaluation of a trained classifier: its accuracy, and how well scores tell the unknown from the known."""

from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oodles.checks import check_targets
from oodles.classifier import device_of
from oodles.inference import all_or_none, batches_seen, collect, in_eval_mode
from oodles.methods import METHOD_SCORES, method_score
from oodles.metrics import METRICS, accuracy, doubts, ood_metrics
from oodles.scores import SCORES, Score
from oodles.spelling import suggestion


@dataclass(frozen=True)
class Evaluation:
    """Scores of every row of every set, and the metrics that follow from them; the in-distribution set is ``id``."""

    accuracy: float | None
    """The share of right predictions on the in-distribution set, or None without labels."""
    scores: dict[str, dict[str, NDArray[Any]]]
    """By set and score: one number per row (or pixel); higher is more out-of-distribution."""
    predictions: dict[str, NDArray[np.int64]]
    """By set: the predicted class ids."""
    labels: NDArray[Any] | None
    """The class ids of the in-distribution set."""
    remarks: tuple[str, ...] = ()
    """What is wrong with the classifier, or with a score of it."""

    @cached_property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """By out-of-distribution set, score and metric."""
        known = self.scores["id"]
        return {
            name: {score: ood_metrics(known[score], values) for score, values in by_score.items()}
            for name, by_score in self.scores.items()
            if name != "id"
        }

    def __str__(self) -> str:
        """Return the accuracy and a table of the metrics, in percent."""
        known = "unknown, since the rows have no labels" if self.accuracy is None else f"{self.accuracy:.2%}"
        rows: list[tuple[str, ...]] = [("set", "score", *METRICS)]
        for name, by_score in self.metrics.items():
            for score, values in by_score.items():
                rows.append((name, score, *(f"{100 * values[metric]:.2f}" for metric in METRICS)))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [f"accuracy {known}"]
        for name, score, *numbers in rows if self.metrics else []:
            cells = [name.ljust(widths[0]), score.ljust(widths[1])]
            cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
            lines.append("  ".join(cells))
        return "\n".join([*lines, *self.remarks])


def evaluate(
    classifier: nn.Module,
    id_loader: Iterable[Any],
    ood_loaders: Mapping[str, Iterable[Any]],
    scores: Sequence[str | Score] = ("msp",),
    train_loader: Iterable[Any] | None = None,
) -> Evaluation:
    """Measure the accuracy on the known set, and how well each score tells every unknown set from it.

    The classifier runs once over every set, in eval mode and without gradients; afterwards its modes and the
    global random state are what they were.

    Args:
        classifier: a :class:`~oodles.Classifier`; for scores of logits any module that gives logits will do.
        id_loader: in-distribution batches, see :func:`collect`.
        ood_loaders: loaders of out-of-distribution batches by name of the set; their labels do not matter.
        scores: names from ``oodles.scores.SCORES`` or score objects, which stay as they are.
        train_loader: training batches with labels, to fit the scores that compare with them.

    Raises:
        TypeError: for batches of other kinds, models that return no tensor, and labels that are no class ids.
        ValueError: for unknown or repeated scores, empty loaders, labels outside the classes, scores that
            lack training rows or features, and results that are NaN.

    Example:
        >>> loader = [(torch.eye(3), torch.arange(3))]
        >>> evaluation = evaluate(nn.Linear(3, 3), loader, {"ones": [torch.ones(4, 3)]}, ["msp", "energy"])
        >>> sorted(evaluation.metrics["ones"])
        ['energy', 'msp']
    """
    chosen = _resolve(scores, classifier, train_loader is not None)
    if "id" in ood_loaders:
        raise ValueError("ood_loaders must not name a set 'id', which the in-distribution one is: rename it.")
    if train_loader is not None and any(score.needs_fit for score in chosen):
        train = collect(classifier, train_loader, name="train_loader", to=device_of(classifier))
        chosen = [copy(score).fit(*train) if score.needs_fit else score for score in chosen]
    sets = {
        name: _score(classifier, loader, chosen, f"The loader of {name!r}", name)
        for name, loader in {"id": id_loader, **ood_loaders}.items()
    }
    labels = sets["id"].labels
    return Evaluation(
        accuracy=None if labels is None else accuracy(sets["id"].predictions, labels),
        remarks=() if labels is None else tuple(doubts(sets["id"].predictions, labels, "in-distribution rows")),
        scores={name: rows.scores for name, rows in sets.items()},
        predictions={name: rows.predictions for name, rows in sets.items()},
        labels=labels,
    )


class Scored(NamedTuple):
    """Scores and predictions of the rows of a loader."""

    scores: dict[str, NDArray[Any]]
    """By score: one number per row (or pixel)."""
    predictions: NDArray[np.int64]
    labels: NDArray[Any] | None
    """Class ids, or None where a batch has none."""


def score_rows(classifier: nn.Module, loader: Iterable[Any], scores: Sequence[Score]) -> Scored:
    """Score and classify every row of a loader, in eval mode; modes and the global random state stay.

    Args:
        classifier: as :func:`evaluate` takes it.
        loader: as :func:`collect` takes it.
        scores: fitted where they have to be.

    Raises:
        ValueError: for a loader that gives no rows, and scores that are NaN.
    """
    return _score(classifier, loader, _resolve(scores, classifier, False), "loader", "")


def _score(classifier: nn.Module, loader: Iterable[Any], scores: Sequence[Score], what: str, name: str) -> Scored:
    values: dict[str, list[Tensor]] = {score.name: [] for score in scores}
    predictions: list[Tensor] = []
    labels: list[Tensor | None] = []
    classes = 0
    with in_eval_mode(classifier):
        for batch in batches_seen(classifier, loader, what):
            for score in scores:
                value = score.of(classifier, batch.inputs, batch.features, batch.logits)  # type: ignore[arg-type]  # checked
                values[score.name].append(value.flatten())
            predictions.append(batch.logits.argmax(1))
            labels.append(batch.labels)
            classes = batch.logits.shape[1]
    known = all_or_none(labels)
    if known is not None and name == "id":
        check_targets("labels of the in-distribution set", known.cpu(), classes)
    return Scored(
        {score: _without_nan(torch.cat(parts).cpu().numpy(), score, name) for score, parts in values.items()},
        torch.cat(predictions).cpu().numpy(),
        None if known is None else known.cpu().numpy(),
    )


def score_named(name: str) -> Score:
    """Make a score with its default settings.

    Raises:
        ValueError: for a name that neither ``SCORES`` nor ``METHOD_SCORES`` has.
    """
    if name in SCORES:
        return SCORES[name]()
    if name in METHOD_SCORES:
        return method_score(name)
    known = [*SCORES, *METHOD_SCORES]
    hint = suggestion(name, known, "choose one of them.")
    raise ValueError(f"score must be one of {', '.join(known)}, got {name!r}{hint}")


def _resolve(scores: Sequence[str | Score], classifier: nn.Module, can_fit: bool) -> list[Score]:
    names = [scores] if isinstance(scores, str) else scores
    chosen = [score_named(score) if isinstance(score, str) else score for score in names]
    for index, score in enumerate(chosen):
        if score.name in [other.name for other in chosen[:index]]:
            raise ValueError(f"scores must differ by name, got {score.name!r} twice: leave one out.")
        score.check(classifier)
        if score.needs_fit and not score.fitted and not can_fit:
            raise ValueError(f"{score.name} compares with training rows: give them as train_loader=….")
    return chosen


def _without_nan(values: NDArray[Any], score: str, name: str) -> NDArray[Any]:
    if missing := int(np.isnan(values).sum()):
        of_set = f" of the set {name!r}" if name else ""
        raise ValueError(
            f"{score}{of_set} is NaN for {missing} of {len(values)} rows: "
            "the classifier's logits or features are not finite, did training diverge?"
        )
    return values
