"""Evaluation of a trained classifier: its accuracy, and how well scores tell the unknown from the known."""

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from oodles.checks import check_index, check_targets, differs
from oodles.classifier import device_of
from oodles.inference import BatchSeen, Collected, all_or_none, batches_seen, collect, finite_rows, in_eval_mode
from oodles.methods import score_named
from oodles.metrics import METRICS, Histogram, accuracy, doubts, ood_metrics
from oodles.scores import Score


@dataclass(frozen=True)
class Evaluation:
    """Scores of every row of every set, and the metrics that follow from them; the in-distribution set is ``id``."""

    accuracy: float | None
    """The share of right predictions on the in-distribution set, or None without labels."""
    scores: dict[str, dict[str, Any]]
    """By set and score: one number per row (or pixel), as arrays or histograms; higher is more out-of-distribution."""
    predictions: dict[str, NDArray[np.int64]]
    """By set: the predicted class ids; none beside histograms."""
    labels: NDArray[Any] | None
    """The class ids of the in-distribution set."""
    remarks: Mapping[str, str] = field(default_factory=dict)
    """By score: what it has chosen when it was fitted, such as ``k = 2``."""
    known: dict[str, dict[str, Any]] = field(default_factory=dict)
    """By set and score: the scores of known pixels in the set's own pictures, which its unknown ones are told from."""
    warnings: tuple[str, ...] = ()
    """What is wrong with the classifier, or with a score of it."""
    deployed: str = ""
    """The score that a run is deployed with unless told otherwise."""

    @cached_property
    def metrics(self) -> dict[str, dict[str, dict[str, float]]]:
        """By out-of-distribution set, score and metric; the known are ``id``, or those of a set's own pictures."""
        known = {name: self.known.get(name, self.scores["id"]) for name in self.scores}
        return {
            name: {score: ood_metrics(known[name][score], values) for score, values in by_score.items()}
            for name, by_score in self.scores.items()
            if name != "id"
        }

    def __str__(self) -> str:
        """Return the accuracy and a table of the metrics, in percent."""
        known = "unknown, since the rows have no labels" if self.accuracy is None else f"{self.accuracy:.2%}"
        lines = [f"accuracy {known}", *table_of(self.metrics, self.deployed)]
        lines += [f"{score}: {remark}" for score, remark in self.remarks.items()]
        return "\n".join([*lines, *self.warnings])


def table_of(metrics: Mapping[str, Mapping[str, Mapping[str, float]]], deployed: str = "") -> list[str]:
    """Return the lines of a table, in percent, or none without metrics.

    Args:
        metrics: by out-of-distribution set, score and metric.
        deployed: the score that a run is deployed with, which is marked.
    """
    rows: list[tuple[str, ...]] = [("set", "score", *METRICS)]
    for name, by_score in metrics.items():
        for score, values in by_score.items():
            shown = f"{score} *" if score == deployed else score
            rows.append((name, shown, *(f"{100 * values[metric]:.2f}" for metric in METRICS)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for name, score, *numbers in rows if metrics else []:
        cells = [name.ljust(widths[0]), score.ljust(widths[1])]
        cells += [number.rjust(width) for number, width in zip(numbers, widths[2:], strict=True)]
        lines.append("  ".join(cells))
    if any(deployed in by_score for by_score in metrics.values()):
        lines.append("* is what score and export use unless told otherwise.")
    return lines


def evaluate(
    classifier: nn.Module,
    id_loader: Iterable[Any],
    ood_loaders: Mapping[str, Iterable[Any]],
    scores: Sequence[str | Score] = ("msp",),
    train_loader: Iterable[Any] | None = None,
    *,
    ignore_index: int | None = None,
    ood_index: int | None = None,
    keep: bool = True,
) -> Evaluation:
    """Measure the accuracy on the known set, and how well each score tells every unknown set from it.

    The classifier runs once over every set, in eval mode and without gradients; afterwards its modes and the
    global random state are what they were.

    Args:
        classifier: a :class:`~oodles.Classifier`; for scores of logits any module that gives logits will do.
        id_loader: in-distribution batches, see :func:`collect`.
        ood_loaders: loaders of out-of-distribution batches by name of the set; their labels do not matter, but for
            pixels: truth values (N, H, W) say which are unknown, class ids do with ``ood_index``, and the known ones of
            the same pictures are then those that a set is told from.
        scores: names, such as ``energy`` or ``knn(k=5)``, or score objects, which stay as they are.
        train_loader: training batches with labels, to fit the scores that compare with them.
        ignore_index: the label of rows or pixels that are left out of everything, in all sets.
        ood_index: the label of what is unknown in the sets of ``ood_loaders``, all else being known; in the
            in-distribution set it is left out, unless it is one of the classes.
        keep: hold every row's scores and prediction; otherwise scores are counted in a
            :class:`~oodles.metrics.Histogram` each, which is for pixels by the hundred million.

    Raises:
        TypeError: for batches of other kinds, models that return no tensor, and labels that are no class ids.
        ValueError: for unknown or repeated scores, empty loaders, labels outside the classes, scores that
            lack training rows or features, sets of which nothing is left, and logits or scores that are NaN or
            infinite.

    Example:
        >>> loader = [(torch.eye(3), torch.arange(3))]
        >>> evaluation = evaluate(nn.Linear(3, 3), loader, {"ones": [torch.ones(4, 3)]}, ["msp", "energy"])
        >>> sorted(evaluation.metrics["ones"])
        ['energy', 'msp']
    """
    chosen = resolve(scores, classifier)
    if train_loader is None:
        _check_fitted(chosen)
    if "id" in ood_loaders:
        raise ValueError("ood_loaders must not name a set 'id', which the in-distribution one is: rename it.")
    check_index("ignore_index", ignore_index)
    check_index("ood_index", ood_index)
    sides = _Sides(ignore_index, ood_index)
    if train_loader is not None:
        chosen = fit_scores(classifier, train_loader, chosen, ignore_index=ignore_index)
    sets = {
        name: _score(classifier, loader, chosen, f"The loader of {name!r}", name, sides, keep)
        for name, loader in {"id": id_loader, **ood_loaders}.items()
    }
    return Evaluation(
        accuracy=sets["id"].accuracy,
        warnings=sets["id"].doubts,
        scores={name: rows.scores for name, rows in sets.items()},
        predictions={name: rows.predictions for name, rows in sets.items()} if keep else {},
        labels=sets["id"].labels,
        known={name: rows.known for name, rows in sets.items() if rows.known},
        remarks={score.name: score.remark for score in chosen if score.remark},
    )


def fit_scores(
    classifier: nn.Module,
    train_loader: Iterable[Any],
    scores: Sequence[Score],
    *,
    leave_out: bool = False,
    ignore_index: int | None = None,
) -> list[Score]:
    """Return the scores, fitted to training rows where they have to be, in one pass; those given stay as they are.

    Args:
        classifier: as :func:`evaluate` takes it.
        train_loader: training batches with labels.
        scores: fitted ones are fitted anew.
        leave_out: leave scores out that cannot be fitted to these rows, with a warning, instead of raising.
        ignore_index: the label of rows that are left out.

    Raises:
        ValueError: for rows that a score cannot be fitted to.
    """
    if not any(score.needs_fit for score in scores):
        return list(scores)
    train = collect(classifier, train_loader, name="train_loader", to=device_of(classifier), labelled=True)
    train = _labelled(train, ignore_index)
    fitted = []
    for score in scores:
        try:
            fitted.append(copy(score).fit_of(classifier, *train) if score.needs_fit else score)
        except ValueError as error:
            if not leave_out:
                raise
            warnings.warn(f"{error} The score {score.name} is left out.", stacklevel=2)
    return fitted


class Scored(NamedTuple):
    """Scores and predictions of the rows of a loader."""

    scores: dict[str, Any]
    """By score: one number per row (or pixel), or a histogram of them."""
    predictions: NDArray[np.int64]
    labels: NDArray[Any] | None
    """Class ids, or None where a batch has none."""
    accuracy: float | None
    """The share of right predictions, of the in-distribution set."""
    known: dict[str, Any]
    """By score: the numbers of known rows among unknown ones."""
    doubts: tuple[str, ...] = ()
    """What is wrong with the classifier, by the labels of the in-distribution set."""


def score_rows(
    classifier: nn.Module,
    loader: Iterable[Any],
    scores: Sequence[Score],
    *,
    name: str = "loader",
    strict: bool = True,
) -> Scored:
    """Score and classify every row of a loader, in eval mode; modes and the global random state stay.

    Args:
        classifier: as :func:`evaluate` takes it.
        loader: as :func:`collect` takes it.
        scores: fitted where they have to be.
        name: of the loader, for errors.
        strict: refuse all rows where the logits or a score of one are NaN or infinite; otherwise a row whose inputs,
            logits or score are scores infinity, also where its score would look sure.

    Raises:
        ValueError: for a loader that gives no rows, and for what is refused.
    """
    chosen = resolve(scores, classifier)
    _check_fitted(chosen)
    return _score(classifier, loader, chosen, name, "", _Sides(None, None), True, strict=strict)


class _Sides(NamedTuple):
    """Which rows or pixels of a batch belong to a set, and which are known ones beside it."""

    ignore_index: int | None
    ood_index: int | None

    def of(self, name: str, batch: BatchSeen) -> tuple[Tensor | None, Tensor | None]:
        """Return truth values for both; none for all rows, and for no known ones beside the set."""
        labels, classes = batch.labels, batch.logits.shape[1]
        if labels is None or labels.is_floating_point() or labels.is_complex():
            return None, None
        if name == "id":
            if self == (None, None) or labels.dtype == torch.bool:
                return None, None
            check_index("ignore_index", self.ignore_index, classes)
            unknown = self.ood_index if self.ood_index not in range(classes) else None
            own, known = differs(labels, self.ignore_index) & differs(labels, unknown), None
        elif labels.dtype == torch.bool and labels.ndim > 1:
            own, known = labels, ~labels
        elif labels.dtype != torch.bool and self.ood_index is not None:
            known = differs(labels, self.ood_index)
            own, known = ~known, known & differs(labels, self.ignore_index)
        elif labels.dtype != torch.bool and self.ignore_index is not None and labels.ndim > 1:
            own, known = differs(labels, self.ignore_index), None
        elif labels.dtype != torch.bool and labels.ndim > 1 and batch.logits.ndim > 2:
            raise ValueError(
                f"Labels of pixels in {name!r} are whole numbers, and nothing says which of them are unknown: say "
                "ood_index=…, give truth values, or leave the labels out where all pixels are."
            )
        else:
            return None, None
        predicted = (len(batch.logits), *batch.logits.shape[2:])
        if tuple(labels.shape) != predicted:
            raise ValueError(
                f"Labels of {name!r} must have the shape {predicted} of the predictions, got {tuple(labels.shape)}."
            )
        return own.flatten(), None if known is None else known.flatten()


class _Gathered:
    """Numbers of all batches: kept, or counted in a histogram."""

    def __init__(self, keep: bool):
        self.kept: list[Tensor] = []
        self.histogram = None if keep else Histogram()

    def add(self, values: Tensor) -> None:
        if self.histogram is None:
            self.kept.append(values)
        else:
            self.histogram.add(values)

    def all(self) -> Any:
        return torch.cat(self.kept).cpu().numpy() if self.histogram is None else self.histogram


class _Answers:
    """How many predictions are right, and how many rows each class has and is predicted for."""

    def __init__(self) -> None:
        self.right = 0
        self.named = self.sizes = np.zeros(0, dtype=np.int64)

    def add(self, predicted: Tensor, given: Tensor, classes: int) -> None:
        check_targets("labels of the in-distribution set", given.cpu(), classes)
        self.right += round(accuracy(predicted, given) * given.numel()) if given.numel() else 0
        self.named = _counted(self.named, predicted, classes)
        self.sizes = _counted(self.sizes, given, classes)


def _score(
    classifier: nn.Module,
    loader: Iterable[Any],
    scores: Sequence[Score],
    what: str,
    name: str,
    sides: _Sides,
    keep: bool,
    *,
    strict: bool = True,
) -> Scored:
    values, beside = ({score.name: _Gathered(keep) for score in scores} for _ in range(2))
    finite: dict[str, list[Tensor]] = {result: [] for result in ("logits", *values)}
    predictions: list[Tensor] = []
    labels: list[Tensor | None] = []
    rows, known_rows, classes = 0, 0, 0
    answers = _Answers()
    with in_eval_mode(classifier):
        for batch in batches_seen(classifier, loader, what, labelled=name == "id"):
            own, known = sides.of(name, batch)
            either = own if own is None or known is None else own | known
            for score in scores:
                value = score.of(classifier, batch.inputs, batch.features, batch.logits)  # type: ignore[arg-type]  # checked
                if not strict:
                    usable = finite_rows(batch.inputs, batch.logits, value)
                    value = value.where(usable, math.inf)
                finite[score.name].append(finite_rows(value) if own is None else _taken(value.isfinite(), either))
                if not keep:  # at once, and nothing is held
                    _check_finite(score.name, finite[score.name].pop(), name)
                values[score.name].add(_taken(value.flatten(), own))
                if known is not None:
                    beside[score.name].add(_taken(value.flatten(), known))
            whole = batch.logits
            finite["logits"].append(finite_rows(whole) if own is None else _taken(whole.isfinite().all(1), either))
            if not keep:
                _check_finite("logits", finite["logits"].pop(), name)
            known_rows += 0 if known is None else int(known.sum())
            predicted = _taken(batch.logits.argmax(1), own)
            given = None if batch.labels is None else _taken(batch.labels, own)
            rows += predicted.numel()
            classes = batch.logits.shape[1]
            if keep:
                predictions.append(predicted)
                labels.append(given)
            else:
                labels.append(None if given is None else given.flatten()[:0])
                if given is not None and name == "id":
                    answers.add(predicted, given, classes)
    if keep and name == "id":  # after the last batch, since reading labels waits for a GPU
        for predicted, given in zip(predictions, labels, strict=True):
            if given is not None:
                answers.add(predicted, given, classes)
    for result, flags in finite.items():
        if flags and strict:
            _check_finite(result, torch.cat(flags), name)
    if not rows:
        side = f"none with the label {sides.ood_index}" if known_rows and sides.ood_index is not None else "none"
        raise ValueError(
            f"{what} must give {'unknown' if known_rows else 'other than void'} rows or pixels, got {side}."
        )
    given = all_or_none(labels)
    share = None if given is None or name != "id" else answers.right / rows
    return Scored(
        {score: gathered.all() for score, gathered in values.items()},
        torch.cat(predictions).cpu().numpy() if keep else np.empty(0, dtype=np.int64),
        None if given is None or not keep else given.cpu().numpy(),
        share,
        {score: gathered.all() for score, gathered in beside.items()} if known_rows else {},
        () if share is None else tuple(doubts(answers.named, answers.sizes, share, "in-distribution rows")),
    )


def _counted(counts: NDArray[np.int64], ids: Tensor, classes: int) -> NDArray[np.int64]:
    """Add how many class ids of each class there are."""
    more = np.bincount(ids.flatten().long().cpu().numpy(), minlength=classes)
    return more + counts if counts.size else more


def _taken(values: Tensor, own: Tensor | None) -> Tensor:
    return values if own is None else values.flatten()[own.to(values.device)]


def _labelled(rows: Collected, ignore_index: int | None) -> Collected:
    """Return training rows without those that have no label; pixels stay, since no score compares with them."""
    if ignore_index is None or rows.labels is None or rows.labels.ndim != 1 or rows.labels.is_floating_point():
        return rows
    places = differs(rows.labels, ignore_index)
    return Collected(*(values[places] for values in rows if values is not None))


def is_named(score: Score) -> bool:
    """Say whether a score is what its name means, and not one of the caller's own."""
    try:
        named = score_named(score.name)
    except (ValueError, TypeError):
        return False
    return type(named) is type(score) and bool(score.learns or not score.needs_fit)


def resolve(scores: str | Sequence[str | Score], classifier: nn.Module) -> list[Score]:
    """Return scores as objects; refuse two of one name, and what the classifier cannot have."""
    names = [scores] if isinstance(scores, str) else scores
    chosen = [score_named(score) if isinstance(score, str) else score for score in names]
    for index, score in enumerate(chosen):
        if not isinstance(score, Score):
            raise TypeError(f"scores must be names or scores, got {type(score).__name__}.")
        if score.name in [other.name for other in chosen[:index]]:
            raise ValueError(f"scores must differ by name, got {score.name!r} twice: leave one out.")
        score.check(classifier)
    return chosen


def _check_fitted(scores: Sequence[Score]) -> None:
    for score in scores:
        if score.needs_fit and not score.fitted:
            raise ValueError(f"{score.name} compares with training rows: give them as train_loader=….")


def _check_finite(result: str, finite: Tensor, name: str) -> None:
    """Refuse logits or scores of a set where those of some rows are not finite, which no order means anything for."""
    if bad := int((~finite).sum()):
        of_set = f" of the set {name!r}" if name else ""
        raise ValueError(
            f"{result}{of_set} must be finite, got NaN or infinity for {bad} of {len(finite)} rows: "
            "did training diverge, or are there numbers beyond the range of the inputs' precision?"
        )
