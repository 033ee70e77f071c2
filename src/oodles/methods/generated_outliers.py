"""Generated outliers: made of the batch's own rows and of pictures that mean nothing, where none are at hand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.checks import check_images, check_number, check_unit_range
from oodles.classifier import Inputs, first_of
from oodles.contract import Batch, Method, Now, Paper, Part, WrongPart
from oodles.data.mixing_pictures import mixing_pictures
from oodles.methods.ceda import noise_images
from oodles.methods.jigsaw import jigsaw_puzzles
from oodles.spelling import shown, suggestion
from oodles.targets import Targets, indexable

Kind = Callable[[Part, int, Generator | None], Inputs]
"""Makes so many outliers, as inputs, of known rows; all that is random comes from the generator."""
MOST = 100
FINE = 16
"""Pixels along a side from which puzzles have 4 × 4 pieces; smaller images have 2 × 2."""


def draw_places(rows: int, count: int, generator: Generator | None = None) -> Tensor:
    """Draw the numbers of ``count`` of so many rows: none comes again before all have come."""
    passes = [torch.randperm(rows, generator=generator) for _ in range(1 + count // rows)]
    return torch.cat(passes)[:count]


def draw_partners(known: Part, places: Tensor, generator: Generator | None = None) -> Tensor:
    """Draw for each of these rows another one, of another class where the part has one.

    Of probabilities the likeliest class counts, of a label for each pixel that of the first, and rows without a label
    are a class of their own.
    """
    labels = indexable(known.labels)
    labels = labels.argmax(1) if labels.is_floating_point() else labels
    labels = labels if known.valid is None else torch.where(known.valid, labels, -1)
    labels = labels.flatten(1)[:, 0] if labels.ndim > 1 else labels
    in_order, order = labels.sort(stable=True)
    own = labels.index_select(0, places.to(labels.device, non_blocking=True))
    first, end = torch.searchsorted(in_order, own), torch.searchsorted(in_order, own, right=True)
    share = torch.rand(len(places), dtype=torch.float64, generator=generator).to(labels.device, non_blocking=True)
    others = len(labels) - (end - first)
    drawn = (share * torch.where(others > 0, others, len(labels))).long()  # in float64: always below
    return order[torch.where((drawn >= first) & (others > 0), drawn + end - first, drawn)]


def pictures(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Take pictures that mean nothing, see :mod:`oodles.data.mixing_pictures`, of the shape of images (N, C, H, W)."""
    x = _images("pictures", known)
    made = mixing_pictures("", (x.shape[1], x.shape[2], x.shape[3]))
    return made.rows(torch.randint(len(made), (count,), generator=generator).numpy(), x)


def jigsaw(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Shuffle the 4 × 4 pieces of images (N, C, H, W), or 2 × 2 where these have less than 16 pixels along a side."""
    x = _images("jigsaw", known.take(draw_places(len(known), count, generator)))
    return jigsaw_puzzles(x, 4 if min(x.shape[2:]) >= FINE else 2, generator=generator)


def noise(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Make smooth noise and permute pixels of images (N, C, H, W), see :func:`oodles.methods.ceda.noise_images`."""
    x = _images("noise", known.take(draw_places(len(known), count, generator)))
    return noise_images(x, generator=generator)


def mixtures(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Mix two rows (N, …) of different classes, of which neither has less than a quarter."""
    x, places = known.rows, draw_places(len(known), count, generator)
    partners = draw_partners(known, places, generator)
    share = 0.25 + 0.5 * torch.rand(count, dtype=torch.float64, generator=generator)
    first = x.index_select(0, places.to(x.device, non_blocking=True))
    share = share.to(x.device, x.dtype, non_blocking=True).reshape(-1, *[1] * (x.ndim - 1))
    return torch.lerp(first, x.index_select(0, partners), share)


def columns(known: Part, count: int, generator: Generator | None = None) -> Tensor:
    """Take every number of a row (N, …) from another row: each is as likely as before, but nothing fits together."""
    x = known.rows
    rows = torch.randint(len(x), (count, *x.shape[1:]), generator=generator)
    return x.gather(0, rows.to(x.device, non_blocking=True))


def tokens(known: Part, count: int, generator: Generator | None = None) -> dict[str, Tensor]:
    """Shuffle the tokens of sequences, half of them from a sequence of another class; the first stays in its place.

    Inputs are a dictionary of tensors (N, L, …); those with *mask* in their names stay as they are, and say by 0 where
    there is no token. What is no sequence of L is that of the row.
    """
    if not isinstance(known.inputs, dict) or not (sequences := [x for x in known.inputs.values() if x.ndim > 1]):
        raise WrongPart(f"tokens must be tensors (N, L) in a dictionary, got {type(known.inputs).__name__}.")
    places, device, length = draw_places(len(known), count, generator), known.first.device, sequences[0].shape[1]
    row, other = (known.take(rows.to(device)).inputs for rows in (places, draw_partners(known, places, generator)))
    assert isinstance(row, dict) and isinstance(other, dict)
    moves, there = _tokens_of(row, length), _tokens_of(other, length)
    moves = moves & (torch.arange(length, device=device) > 0)
    order, coin = torch.rand(2, count, length, generator=generator).to(device, non_blocking=True)
    taken = moves & there & (coin < 0.5)
    # places of tokens that move, in random order, and then the others, which go where they were
    sources = torch.where(moves, order, 2.0).argsort(dim=1, stable=True)
    shuffled = torch.empty_like(sources).scatter_(1, (~moves).long().argsort(dim=1, stable=True), sources)
    made = dict(row)
    for name, value in row.items():
        if "mask" not in name and value.shape[1:2] == (length,):
            swap, to = (rows.reshape(count, length, *[1] * (value.ndim - 2)) for rows in (taken, shuffled))
            made[name] = torch.where(swap, other[name], value).gather(1, to.expand_as(value))
    return made


def _tokens_of(inputs: Mapping[str, Tensor], length: int) -> Tensor:
    """Return where sequences (N, L) have tokens, by every mask."""
    rows = first_of(dict(inputs))
    there = torch.ones(len(rows), length, dtype=torch.bool, device=rows.device)
    for name, mask in inputs.items():
        if "mask" in name and mask.shape[1:] == (length,):
            there = there & (mask != 0)
    return there


KINDS: Mapping[str, Kind] = {
    "pictures": pictures,
    "jigsaw": jigsaw,
    "noise": noise,
    "mixtures": mixtures,
    "columns": columns,
    "tokens": tokens,
}
"""The kinds that can be named."""


def kinds_for(known: Part, *, dense: bool) -> tuple[str, ...]:
    """Name the kinds that fit rows: where pixels have labels, no pieces, which are as known as the whole."""
    if isinstance(known.inputs, dict):
        return ("tokens",)
    if isinstance(known.inputs, Tensor) and known.inputs.ndim == 4:
        return ("pictures", "noise") if dense else ("pictures", "jigsaw", "noise")
    return ("mixtures", "columns")


def generate(known: Part, kinds: Sequence[str | Kind], count: int, generator: Generator | None = None) -> Part:
    """Make ``count`` outliers of known rows, as many of each kind as of the others, or one more of the last ones.

    Raises:
        ValueError: for a kind that makes rows of another number, shape or type than the known ones.
    """
    whole = known.take(torch.zeros(0, dtype=torch.long, device=known.first.device))
    made = replace(whole, targets=None, valid=None)
    for place, kind in enumerate(kinds):
        if len(known) and (rows := (count + place) // len(kinds)):
            function = KINDS[kind] if isinstance(kind, str) else kind
            part = Part(function(known, rows, generator))
            if len(part) != rows:
                raise ValueError(f"{function.__name__} must make {rows} outliers, got {len(part)}.")
            made = joined(made, part)
    return made


def joined(part: Part, more: Part) -> Part:
    """Return the rows of two parts of outliers as one.

    Raises:
        ValueError: for rows of other shapes, types or names.
    """
    given, made = _named(part), _named(more)
    a, b = ({name: (x.shape[1:], x.dtype) for name, x in inputs.items()} for inputs in (given, made))
    if a != b:
        raise ValueError(
            f"Generated outliers must have the shape and type of those that they are added to, {_described(a)}, got "
            f"{_described(b)}: prepare outliers as the known rows are."
        )
    rows = {name: torch.cat([given[name], made[name]]) for name in given}
    valid = None
    if part.valid is not None:
        valid = torch.cat([part.valid, part.valid.new_ones(len(more), *part.valid.shape[1:])])
    return Part(rows.get("", rows), valid=valid)


class GeneratedOutliers(Method):
    """Makes outliers of the batch's own rows and of pictures that mean nothing, or adds them to those at hand.

    When to use: no outliers at hand, or few; beside a method that trains on outliers.
    Cost: the made rows in the forward pass.
    Caveat: unknown inputs that look like none of the kinds, and like the known classes, are no easier to tell. Kinds of
    images need these in [0, 1].

    Args:
        kinds: of outliers, as many of each as of the others: ``pictures``, ``jigsaw`` and ``noise`` for images,
            ``mixtures`` and ``columns`` for other tensors, ``tokens`` for dictionaries of tokens, or functions of
            your own that make inputs of (known rows, how many, generator); unless given, those that fit the rows.
        share: how many are made for each known row; 0 switches off.

    Raises:
        ValueError: for a kind of another name, or a share that is negative, NaN or above 100; with the first batch, for
            rows of which a kind cannot be made, or outliers of another shape to add to.
        TypeError: for a kind that is neither a name nor a function.

    Source: no paper has it. Training on outliers is that of Hendrycks et al.; pictures are those of PixMix, noise is
    that of CEDA, puzzles are those of jigsaw training, and these have losses of their own for them. Where nothing else
    is said, a third of the outliers each are pictures, puzzles and noise.
    """

    name = "generated-outliers"
    paper = Paper(
        title="Deep Anomaly Detection with Outlier Exposure",
        authors="Hendrycks, Mazeika, Dietterich",
        venue="ICLR",
        year=2019,
        link="https://arxiv.org/abs/1812.04606",
    )
    strength = "share"
    adds = ("outliers",)

    def __init__(self, *, kinds: tuple[str | Kind, ...] = (), share: float = 0.5):
        super().__init__()
        check_number("share", share, low=0)
        if share > MOST:
            raise ValueError(f"share must be at most {MOST} outliers for each known row, got {shown(share)}.")
        self.kinds = _as_kinds(kinds)
        self.share = share

    def forward(
        self, x: Float[Tensor, " n *shape"], targets: Targets, *, generator: Generator | None = None
    ) -> Float[Tensor, " m *shape"]:
        """Outliers made of rows and their targets: images in [0, 1], or vectors."""
        known = Part(x, targets)
        return generate(known, self._kinds(known), round(self.share * len(x)), generator).rows

    def _kinds(self, known: Part, *, dense: bool = False) -> tuple[str | Kind, ...]:
        return self.kinds or kinds_for(known, dense=dense)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        known = batch["id"]
        if isinstance(known.inputs, Tensor) and known.inputs.ndim == 4:
            check_unit_range(self.name, known.inputs, read_gpu=now.step == 0)
        kinds = self._kinds(known, dense=now.classifier.dense)
        first = now.step % len(kinds)  # another one in each step, since what does not divide evenly goes to the last
        made = generate(known, (*kinds[first:], *kinds[:first]), round(self.share * len(known)), now.generator)
        return batch.with_part("outliers", joined(batch["outliers"], made) if "outliers" in batch else made)


def _named(part: Part) -> dict[str, Tensor]:
    return part.inputs if isinstance(part.inputs, dict) else {"": part.first}


def _images(kind: str, part: Part) -> Tensor:
    return check_images(f"The kind {kind}", part.inputs)


def _as_kinds(given: object) -> tuple[str | Kind, ...]:
    if isinstance(given, str) or not isinstance(given, Sequence):
        raise TypeError(f"kinds must be names of kinds or functions that make outliers, got {shown(given)}.")
    for kind in given:
        if isinstance(kind, str) and kind not in KINDS:
            raise ValueError(f"There is no kind of outliers {kind!r}{suggestion(kind, KINDS)}")
        if not (isinstance(kind, str) or callable(kind)):
            raise TypeError(f"kinds must be names of kinds or functions that make outliers, got {shown(kind)}.")
    return tuple(given)


def _described(layout: Mapping[str, tuple[torch.Size, torch.dtype]]) -> str:
    return ", ".join(
        f"{name} (N, {', '.join(map(str, shape))}) of {dtype}".strip() for name, (shape, dtype) in layout.items()
    )
