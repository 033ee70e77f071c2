"""Choose the outlier score of a trained classifier, without training: on unknowns made of its own validation rows.

Of images these are the mean of two rows of different classes, the shuffled pieces of a row, and its shuffled pixels; of
other rows none are made. Outliers that nothing was trained on count as much as all of these together, and choose alone
where none are made. No test row is read.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Generator, Tensor, nn

from oodles.classifier import Inputs
from oodles.contract import Part
from oodles.detection.calibration import choosing_rows
from oodles.evaluation import score_rows
from oodles.inference import read_batch
from oodles.methods.ceda import permuted_pixels
from oodles.methods.generated_outliers import KINDS, Kind, draw_partners, draw_places
from oodles.scores import Score

BEST, OWN = "best", "own"
"""In the place of a score's name: the chosen one, and that of the methods' papers."""
FEWEST = 100
"""Validation rows, below which nothing can be told."""
MARGIN = 0.02
"""In AUROC: another score takes the own one's place if it is so much better, and on no kind so much worse."""
EQUAL = 0.01
"""In AUROC: scores so close to the best one are named as equal."""
APART = 0.05
"""In AUROC: a kind of unknowns that a score nearly as good tells so much better is named."""
MADE, BYTES = 2000, 2**28
"""The most unknowns of a kind, and the most room that they take."""
OUTLIERS = "outliers"
"""The kind of unknowns that were not made."""
RESAMPLES = 200
BATCH = 256
SEED = 0

Values = Mapping[str, NDArray[Any]]
"""One number for each row, by score."""


def blends(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Return the means of two rows (N, …) of different classes."""
    x, places = known.rows, draw_places(len(known), count, generator)
    partners = draw_partners(known, places, generator)
    return (x[places.to(x.device)] + x[partners]) / 2


def shuffled(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Shuffle the pixels of images (N, C, H, W), see :func:`oodles.methods.ceda.permuted_pixels`."""
    return permuted_pixels(known.take(draw_places(len(known), count, generator)).rows, generator=generator)


OF_IMAGES: Mapping[str, Kind] = {"blends": blends, "jigsaw": KINDS["jigsaw"], "shuffled": shuffled}


def kinds_of(inputs: Inputs) -> Mapping[str, Kind]:
    """Return the kinds of unknowns that are made of rows: none of those that are no images, or one pixel high or wide.

    Of vectors, blends and rows whose numbers come from different rows were tried on encoded sentences: they took the
    worst scores for the best.
    """
    if not (isinstance(inputs, Tensor) and inputs.is_floating_point() and inputs.ndim == 4):
        return {}
    return OF_IMAGES if min(inputs.shape[2:]) > 1 else {}


def made_unknowns(known: Part) -> Iterator[tuple[str, Tensor]]:
    """Make unknowns of known rows with their classes, as many of each kind as there are rows; always the same ones."""
    kinds = {} if known.inputs is None or not len(known) else kinds_of(known.inputs)
    for name, kind in kinds.items():
        yield name, Part(kind(known, len(known), torch.Generator().manual_seed(SEED))).rows


@dataclass(frozen=True)
class Choice:
    """Which score was chosen, and on what; see :func:`choose` and :func:`oodles.choose_score`."""

    own: str
    """The score that would be used otherwise: that of the methods' papers."""
    chosen: str
    rows: int
    """Validation rows that were compared with the unknowns."""
    aurocs: Mapping[str, Mapping[str, float]]
    """By score and kind of unknowns: the chance that an unknown scores above a validation row."""
    interval: tuple[float, float] | None = None
    """By how much the chosen score, or where the own one stays the best other one that could be chosen, is better than
    the own one, all kinds together: 95 % of resamples of the validation rows lie between. None without another."""
    remarks: tuple[str, ...] = ()
    """What a reader must know."""

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of unknowns."""
        return tuple(next(iter(self.aurocs.values()), {}))

    @property
    def together(self) -> dict[str, float]:
        """Return the mean over kinds of each score, the best first; outliers count as much as all that were made."""
        weights = weights_of(self.kinds)
        means = {score: sum(weights[kind] * by[kind] for kind in weights) for score, by in self.aurocs.items()}
        return dict(sorted(means.items(), key=lambda item: (-item[1], item[0])))

    @property
    def equal(self) -> tuple[str, ...]:
        """Return the scores that are as good as the chosen one, within a point."""
        means = self.together
        if self.chosen not in means:
            return ()
        return tuple(s for s in means if s != self.chosen and abs(means[s] - means[self.chosen]) <= EQUAL)

    @property
    def reason(self) -> str:
        """Say in a clause what was chosen, and why."""
        means = self.together
        if not means:
            return f"{self.own} stays: nothing could be compared"
        if self.chosen == self.own:
            better = f"no score is {100 * MARGIN:g} points better and nowhere as much worse"
            return f"{self.own} stays: {better} on {self._unknowns}"
        if self.own not in means:
            return f"{self.chosen}, the best on {self._unknowns}, where {self.own} has no figure"
        ahead = 100 * (means[self.chosen] - means[self.own])
        return f"{self.chosen}, {ahead:.0f} points above {self.own} on {self._unknowns}"

    @property
    def _unknowns(self) -> str:
        made = [kind for kind in self.kinds if kind != OUTLIERS]
        words = ["unknowns made of validation rows"] if made else []
        return " and on ".join([*words, *(["outliers"] if OUTLIERS in self.kinds else [])])

    def __str__(self) -> str:
        lines = []
        if self.aurocs:
            head = ("score", *self.kinds, "together")
            means = self.together
            names = {score: f"{score} (own)" if score == self.own else score for score in means}
            wide = max(map(len, [head[0], *names.values()]))
            lines.append("  ".join([head[0].ljust(wide), *(word.rjust(8) for word in head[1:])]))
            for score, mean in means.items():
                cells = [*(self.aurocs[score][kind] for kind in self.kinds), mean]
                numbers = "  ".join(
                    f"{100 * cell:.1f}".rjust(max(8, len(word))) for cell, word in zip(cells, head[1:], strict=True)
                )
                lines.append(f"{names[score].ljust(wide)}  {numbers}{'  chosen' if score == self.chosen else ''}")
        lines.append(f"Score: {self.reason}.")
        return "\n".join([*lines, *self._more()])

    def _more(self) -> Iterator[str]:
        if self.interval is not None:
            low, high = (f"{100 * bound:+.1f}".replace("-", "−") for bound in self.interval)
            ahead = f"{self.chosen} over {self.own}" if self.chosen != self.own else f"the best other over {self.own}"
            yield f"Over resamples of {self.rows} validation rows, {ahead} is {low} to {high} points (95 %)."
        if self.equal:
            yield f"Equal, within {100 * EQUAL:g} point: {', '.join(self.equal)}."
        means, chosen = self.together, self.aurocs.get(self.chosen, {})
        rivals = [score for score in means if means[score] > means[self.chosen] - APART]
        for kind in chosen:
            best = max(rivals, key=lambda score: self.aurocs[score][kind])
            if self.aurocs[best][kind] - chosen[kind] > APART:
                yield (
                    f"They disagree on {kind} ({best} {100 * self.aurocs[best][kind]:.1f}, {self.chosen} "
                    f"{100 * chosen[kind]:.1f}): the more your unknowns look like these, the more so."
                )
        yield from self.remarks
        if self.aurocs:
            yield "Not tested: new classes of the same kind; this order may not hold for them."

    def as_dict(self) -> dict[str, Any]:
        """Return all of it as plain values, for JSON."""
        interval = None if self.interval is None else list(self.interval)
        aurocs = {score: dict(by_kind) for score, by_kind in self.aurocs.items()}
        about = {"own": self.own, "chosen": self.chosen, "rows": self.rows, "aurocs": aurocs}
        return {**about, "interval": interval, "remarks": list(self.remarks), "reason": self.reason}

    @classmethod
    def from_dict(cls, given: Mapping[str, Any]) -> "Choice":
        """Return the choice that :meth:`as_dict` has written."""
        interval = None if given["interval"] is None else (given["interval"][0], given["interval"][1])
        return cls(given["own"], given["chosen"], given["rows"], given["aurocs"], interval, tuple(given["remarks"]))


def weights_of(kinds: Iterable[str]) -> dict[str, float]:
    """Return how much each kind of unknowns counts: outliers as much as all others together."""
    names = tuple(kinds)
    made = [kind for kind in names if kind != OUTLIERS]
    share = 1.0 if OUTLIERS not in names else 0.5
    return {kind: share / len(made) if kind != OUTLIERS else (share if made else 1.0) for kind in names}


def choose_on_half(
    known: Values, own: str, unknown: Callable[[NDArray[np.bool_]], Mapping[str, Values]], remarks: Sequence[str] = ()
) -> Choice:
    """Choose on the half of the validation rows that may choose something, see :func:`choose`; the own score stays
    where there are too few rows, or no unknowns.

    Args:
        known: scores (n,) of all validation rows, by name.
        own: the score that stays.
        unknown: gives the scores of unknowns, by kind and name, where it is told which rows (n,) may choose.
        remarks: what a reader must know.
    """
    rows = max(map(len, known.values()), default=0)
    if rows < FEWEST:
        few = f"{rows} validation rows are too few to tell which score is best: {FEWEST} are needed."
        return Choice(own, own, rows, {}, None, (few,))
    may = choosing_rows(rows)
    found = unknown(may)
    if not found:
        none = "There are no outliers to choose on, and no unknowns are made of rows that are no images."
        return Choice(own, own, rows, {}, None, (*remarks, none))
    finite = {score: values for score, values in known.items() if np.isfinite(values).all()}  # also where it calibrates
    return choose({score: values[may] for score, values in finite.items()}, found, own, remarks)


def choose(known: Values, unknown: Mapping[str, Values], own: str, remarks: Sequence[str] = ()) -> Choice:
    """Choose the score that tells unknowns best, of those that are on no kind two points worse than the own one.

    The own one stays unless the best is two points better, all together. Without the first condition, unknowns that are
    easily told by one score would decide against a score that tells all others better.

    Args:
        known: scores (n,) of validation rows, by name.
        unknown: those of unknowns (m,), by kind and name.
        own: the score that stays.
        remarks: what a reader must know.

    A score that is not finite on all rows, or that some kind lacks, is not compared.
    """
    rows = max((len(values) for values in known.values()), default=0)
    places = {
        score: {kind: above(values, by_score[score]) for kind, by_score in unknown.items()}
        for score, values in known.items()
        if all(score in by_score and np.isfinite(by_score[score]).all() for by_score in unknown.values())
        and np.isfinite(values).all()
    }
    if not unknown:
        return Choice(own, own, rows, {}, None, tuple(remarks))
    if not places:
        return Choice(own, own, rows, {}, None, (*remarks, "No score is finite on all rows."))
    aurocs = {score: {kind: float(rows.mean()) for kind, rows in by.items()} for score, by in places.items()}
    means = Choice(own, own, rows, aurocs).together
    safe = [s for s in means if own not in means or all(aurocs[s][k] >= aurocs[own][k] - MARGIN for k in unknown)]
    best = safe[0]
    chosen = best if own not in means or means[best] >= means[own] + MARGIN else own
    other = chosen if chosen != own else next((score for score in safe if score != own), None)
    interval = None
    if own in means and other is not None:
        weights = weights_of(unknown)
        ahead = sum(weights[kind] * (places[other][kind] - places[own][kind]) for kind in weights)
        interval = _interval(np.asarray(ahead))
    return Choice(own, chosen, rows, aurocs, interval, tuple(remarks))


def above(known: NDArray[Any], unknown: NDArray[Any]) -> NDArray[np.float64]:
    """Return for each known row the share of unknown ones that score higher, ties half; the mean is the AUROC."""
    ordered = np.sort(unknown)
    first, last = (np.searchsorted(ordered, known, side) for side in ("left", "right"))
    return 1 - (first + last) / (2 * len(ordered))


def _interval(ahead: NDArray[np.float64]) -> tuple[float, float]:
    counts = np.random.default_rng(SEED).multinomial(len(ahead), np.full(len(ahead), 1 / len(ahead)), size=RESAMPLES)
    low, high = np.quantile(counts @ ahead / len(ahead), [0.025, 0.975]).tolist()
    return low, high


def score_unknowns(classifier: nn.Module, rows: Part, scores: Sequence[Score]) -> dict[str, dict[str, NDArray[Any]]]:
    """Make unknowns of validation rows (n, …) with their classes, and score them: by kind and score."""
    scored = {}
    for kind, made in made_unknowns(rows):
        batches = [made[start : start + BATCH] for start in range(0, len(made), BATCH)]
        scored[kind] = score_rows(classifier, batches, scores, name=kind, strict=False).scores
    return scored


def most_rows(shape: Sequence[int]) -> int:
    """Return of how many float32 rows of a shape unknowns are made at most."""
    return max(1, min(MADE, BYTES // max(4 * math.prod(shape), 1)))


class Sample:
    """Batches of a loader that are passed on, while some rows are kept, each as likely as any other.

    One pass is enough, and a loader that is sorted by class does no harm.
    """

    def __init__(self, loader: Iterable[Any]):
        self.loader = loader
        self.kept: dict[int, Tensor] = {}
        """Rows (…) by their numbers."""
        self._slots: list[int] = []
        self._random = np.random.default_rng(SEED)

    def __iter__(self) -> Iterator[Any]:
        number = 0
        for batch in self.loader:
            inputs, _ = read_batch(batch, "A batch of the validation loader")
            if isinstance(inputs, Tensor) and kinds_of(inputs) and len(inputs):
                most = 2 * most_rows(inputs.shape[1:])  # one half of the rows chooses
                for row in inputs:
                    place = number if number < most else int(self._random.integers(number + 1))
                    if place < most:
                        if place < len(self._slots):
                            del self.kept[self._slots[place]]
                            self._slots[place] = number
                        else:
                            self._slots.append(number)
                        self.kept[number] = row.clone()
                    number += 1
            yield batch

    def part(self, choose: NDArray[np.bool_], predictions: NDArray[np.int64]) -> Part | None:
        """Return the kept rows that may choose, with their predicted classes; none where none was kept."""
        rows = [number for number in sorted(self.kept) if choose[number]]
        if not rows or len({self.kept[number].shape for number in rows}) > 1:
            return None
        inputs = torch.stack([self.kept[number] for number in rows])
        return Part(inputs, torch.from_numpy(predictions[rows]).to(inputs.device))
