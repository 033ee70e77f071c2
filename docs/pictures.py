"""Pictures of methods at work: each is trained for a few steps, and what it changes in a batch is drawn."""

import inspect
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from types import FunctionType
from typing import Any

import numpy as np
import torch
from drawing import LINE, Drawing, shorten, wrap_words
from torch import Tensor, nn

from oodles import Batch, Method, Part, TrainingStep, TrainingWarning
from oodles.benchmarking.description import Benchmark
from oodles.cards import Card, card, cards
from oodles.classifier import Classifier
from oodles.data import ImageSet, Suite, load_suite
from oodles.facts import ROLES, prepares_outliers
from oodles.methods import build_methods
from oodles.networks import build_network

ROWS, SHOWN, TILE = 64, 8, 4
"""Rows of each kind in a batch, in a picture, and in a small one."""
STEPS, EPOCHS = 10, 60
"""Steps of training before the batch that is shown, in the last of so many epochs."""
SIDES = (8, 24)
"""Sides of the digits as they are, and enlarged for methods that cannot take so few pixels."""

BEFORE, EPOCH, EAGER, TRACED, AFTER = (
    "once, when the step is built",
    "every epoch, eager",
    "every batch, eager",
    "every batch, traced",
    "after the optimizer, eager",
)
PHASES = {
    "change_classifier": BEFORE,
    "parameter_groups": BEFORE,
    "layers": BEFORE,
    "start_epoch": EPOCH,
    "change_batch": EAGER,
    "change_weights": EAGER,
    "change_hidden": TRACED,
    "change_outputs": TRACED,
    "loss_terms": TRACED,
    "change_sum": TRACED,
    "after_update": AFTER,
}
"""The phase of each moment of the contract."""


@dataclass(frozen=True)
class AtWork:
    """One method in a training step on digits, and plain training to compare with."""

    card: Card
    settings: Mapping[str, Any]
    side: int
    classes: tuple[str, ...]
    step: TrainingStep
    given: Batch
    prepared: Batch
    terms: tuple[str, ...]
    plain_terms: tuple[str, ...]
    plain_head: nn.Module

    @cached_property
    def changed(self) -> tuple[str, ...]:
        """Return the parts that it adds or changes."""
        before, after = self.given.parts, self.prepared.parts
        return tuple(role for role in after if role not in before or not _same_part(before[role], after[role]))

    @property
    def forwarded(self) -> tuple[str, ...]:
        """Return the parts that go through the network."""
        return tuple(role for role in self.prepared.parts if role == "id" or role in self.card.reads)


def moments() -> dict[str, str]:
    """Return the hooks of the contract in their order, with the first sentences of their docstrings."""
    hooks = {name: inspect.getdoc(f) or "" for name, f in vars(Method).items() if isinstance(f, FunctionType)}
    hooks = {name: in_prose(text.split("\n\n")[0]) for name, text in hooks.items() if not name.startswith("_")}
    order = list(dict.fromkeys(PHASES.values()))
    return dict(sorted(hooks.items(), key=lambda hook: order.index(PHASES[hook[0]])))


def in_prose(text: str) -> str:
    """Return a docstring's words on one line, without its marks for names."""
    return " ".join(re.sub(r"(:\w+:)?`+~?([^`]+)`+", r"\2", text).split())


def settings_of(name: str) -> Mapping[str, Any]:
    """Return a method's settings in the benchmark ``digits``, or its defaults where that has no row for it."""
    for row in Benchmark.load("digits").rows:
        if [method for method, _ in row.recipe.methods] == [name]:
            return row.recipe.methods[0][1]
    return {parameter.name: parameter.default for parameter in card(name).parameters}


@cache
def at_work(name: str) -> AtWork:
    """Train a method for a few steps on digits, and prepare the next batch; the same on every call.

    Raises:
        ValueError: where it takes these images neither as they are nor enlarged.
    """
    refused: Exception | None = None
    for side in SIDES:
        try:
            with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
                warnings.simplefilter("ignore", TrainingWarning)  # a picture shows the paper's settings
                torch.manual_seed(0)
                return _at_work(card(name), settings_of(name), side)
        except (ValueError, RuntimeError) as error:
            refused = error
    raise ValueError(f"{name} cannot be shown at work on digits: {refused}")


def beside(method: Card) -> tuple[str, ...]:
    """Name the methods that act beside one in its examples: one that trains on outliers, if it prepares these alone."""
    return ("outlier-exposure",) if prepares_outliers(method) else ()


def _at_work(method: Card, settings: Mapping[str, Any], side: int) -> AtWork:
    suite = load_suite("digits", 0)
    given = Batch({"id": _part(suite.train, side)})
    for role in ROLES:
        if role in method.needs and suite.outliers is not None:
            given = given.with_part(role, Part(_part(suite.outliers, side).inputs))
    classifier = _classifier(suite, side)
    plain_head, plain_terms = classifier.head, tuple(TrainingStep(classifier)(given))
    # a teacher that has learnt nothing serves for a picture
    chain = [(method.name, settings), *((name, {}) for name in beside(method))]
    step = TrainingStep(classifier, *build_methods(chain, teacher=_classifier(suite, side)))
    step.epoch, step.epochs = EPOCHS - 1, EPOCHS
    optimizer = torch.optim.SGD(step.parameter_groups(0.02), momentum=0.9)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.stack(list(step(given).values())).sum().backward()
        optimizer.step()
        step.after_update()
    prepared = step.prepare(given)
    terms = tuple(step.losses(prepared))
    return AtWork(method, settings, side, suite.classes, step, given, prepared, terms, plain_terms, plain_head)


def _part(images: ImageSet, side: int) -> Part:
    """Take rows of a set, drawn from all of it, with pixels enlarged to fill the side."""
    order = np.random.default_rng(0).permutation(len(images))[:ROWS]
    pixels, labels = images.batch(np.full(ROWS, -1), order)
    scale = side // pixels.shape[-1]
    return Part(pixels.repeat_interleave(scale, 2).repeat_interleave(scale, 3), labels)


def _classifier(suite: Suite, side: int) -> Classifier:
    channels, _, _ = suite.input_shape
    return build_network(
        "small-cnn",
        num_classes=len(suite.classes),
        input_shape=(channels, side, side),
        mean=suite.mean,
        std=suite.std,
    )


def _same_part(first: Part, second: Part) -> bool:
    return _same(first.inputs, second.inputs) and _same(first.targets, second.targets)


def _same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first.shape == second.shape and torch.equal(first, second)
    return first is second


def sheet(work: AtWork) -> str:
    """Draw rows of a batch before and after a method, with their targets; return nothing if it changes no images."""
    rows = list(_rows(work))
    if not rows:
        return ""
    drawing, side, left, top = Drawing(900), 64, 190, 0.0
    gap = (900 - left - SHOWN * side) / (SHOWN - 1)
    for title, part, style in rows:
        drawing.text(0, top + 26, title, style)
        lines = [f"{len(part)} rows", *([] if part.targets is not None else ["no targets"])]
        drawing.lines(0, top + 26 + LINE, lines, "muted", 13)
        assert isinstance(part.inputs, Tensor)
        for column in range(min(SHOWN, len(part))):
            x = left + column * (side + gap)
            drawing.box(x - 1, top - 1 + 2, side + 2, side + 2, "plain" if style != "changed" else "changed")
            drawing.image(x, top + 2, side, part.inputs[column].detach().float().numpy())
            for index, words in enumerate(_target(work, part, column)):
                drawing.text(x + side / 2, top + side + 18 + 15 * index, words, "muted", 13, "middle")
        top = drawing.height + 14
    words = "; ".join(f"{title}, {len(part)} rows" for title, part, _ in rows)
    return drawing.svg(f"Images of a batch. {words}")


def tile(work: AtWork) -> str:
    """Draw a few images as a method changes or makes them; return nothing if it leaves all as they are."""
    before = {role: part.inputs for role, part in work.given.parts.items()}
    roles = [role for role in work.changed if _are_images(work.prepared[role])]
    made = [role for role in roles if not _same(before.get(role), work.prepared[role].inputs)]
    if not made:
        return ""
    side, gap = 64, 6
    drawing = Drawing(TILE * (side + gap) - gap)
    inputs = work.prepared[made[0]].inputs
    assert isinstance(inputs, Tensor)
    for column in range(min(TILE, len(inputs))):
        drawing.image(column * (side + gap), 0, side, inputs[column].detach().float().numpy())
    return drawing.svg(f"Images as {work.card.name} trains on them.")


def _rows(work: AtWork) -> Iterator[tuple[str, Part, str]]:
    """Yield title, part and style of every row of a sheet."""
    images = [role for role in work.changed if _are_images(work.prepared[role])]
    if not images:
        return
    for role, part in work.prepared.parts.items():
        before = work.given.parts.get(role)
        if before is not None:
            yield f"{role}, as it came" if role in images else role, before, ""
        if role in images:
            yield f"{role}, {_name_change(before, part)}", part, "changed"


def _name_change(before: Part | None, after: Part) -> str:
    """Say in a word or two how a part has changed."""
    if before is None:
        return "added"
    return "new targets" if _same(before.inputs, after.inputs) else "changed"


def _are_images(part: Part) -> bool:
    return isinstance(part.inputs, Tensor) and part.inputs.ndim == 4 and len(part) > 0


def _target(work: AtWork, part: Part, row: int) -> list[str]:
    """Write the target of a row in at most two short lines."""
    targets = part.targets
    if targets is None:
        return []
    if not targets.is_floating_point():
        return [_class_name(work, part, int(targets[row]))]
    shares = targets[row].detach().flatten()
    if len(shares) != len(work.classes):
        return [f"{float(shares[0]):.2f}"] if len(shares) == 1 else []
    if float(shares.max() - shares.min()) < 1e-3:
        return ["all alike"]
    values, classes = shares.sort(descending=True)
    if len(values) > 2 and float(values[-1]) > 1e-3 and float(values[1] - values[-1]) < 1e-3:
        return [f"{work.classes[int(classes[0])]}: {float(values[0]):.2f}", "others alike"]
    pairs = zip(values.tolist(), classes.tolist(), strict=True)
    return [f"{work.classes[index]}: {value:.2f}" for value, index in pairs if value >= 0.05][:2]


def _class_name(work: AtWork, part: Part, target: int) -> str:
    """Return the name of a class; for added parts with ids of their own, the number."""
    ids = work.given["id"].targets
    assert ids is not None and part.targets is not None
    times, rest = divmod(len(part), len(ids))
    if part is work.prepared.parts.get("id") or part is work.given["id"]:
        return work.classes[target]
    if times and not rest and torch.equal(part.targets, ids.repeat(times)):
        return work.classes[target]
    return f"target {target}"


def diagram(work: AtWork) -> str:
    """Draw the training step with a method in it: what it adds, changes or replaces is marked."""
    drawing = Drawing(900)
    parts = _parts(work)
    heads = _heads(work)
    terms = _terms(work)
    top, high, gap = 34.0, 46.0, 12.0
    tall = max(len(parts), len(heads), len(terms)) * (high + gap) - gap
    columns = {"batch": (0, 180), "network": (235, 120), "heads": (395, 180), "loss": (660, 240)}
    for title, (x, _) in columns.items():
        drawing.text(x, 16, title, "muted", 13)

    def place(column: str, boxes: Sequence[tuple[str, str, str]]) -> list[float]:
        """Draw the boxes of a column, spread over its height; return their middles."""
        x, width = columns[column]
        start = top + (tall - len(boxes) * (high + gap) + gap) / 2
        middles = []
        for index, (name, about, style) in enumerate(boxes):
            y = start + index * (high + gap)
            drawing.box(x, y, width, high, style)
            struck = "code struck" if style == "faint" and column == "loss" else f"code {style}"
            drawing.text(x + 9, y + 20, shorten(name, width / 1.1), struck)
            drawing.text(x + 9, y + 37, shorten(about, width, 12), "muted", 12)
            middles.append(y + high / 2)
        return middles

    for (_, _, style), y in zip(parts, place("batch", parts), strict=True):
        if style != "faint":
            drawing.arrow(182, y, 233, y, style)
    x, width = columns["network"]
    hidden = "changed" if "change_hidden" in work.card.moments else ""
    drawing.box(x, top, width, tall, hidden)
    drawing.text(x + width / 2, top + tall / 2 + (0 if hidden else 5), "backbone", f"code {hidden}", anchor="middle")
    if hidden:
        drawing.text(x + width / 2, top + tall / 2 + 17, "change_hidden", "muted", 12, "middle")
    outputs = "changed" if "change_outputs" in work.card.moments else ""
    middles = place("heads", heads)
    for (_, _, style), y in zip(heads, middles, strict=True):
        drawing.arrow(357, y, 393, y, style)
        drawing.arrow(577, y, 658, y, outputs)
    if outputs:
        drawing.text(652, top + tall + 14, "change_outputs", "changed", 12, "end")
    place("loss", terms)
    y = top + tall + 28
    summed = "changed" if "change_sum" in work.card.moments else ""
    drawing.arrow(780, top + tall + 2, 780, y + 10, summed)
    drawing.text(770, y + 4, "change_sum" if summed else "+", summed or "muted", 13, "end")
    drawing.box(660, y + 12, 240, 30, "plain")
    drawing.text(780, y + 32, "loss, backward, optimizer", "muted", 13, "middle")
    notes = _notes(work)
    for index, (words, style) in enumerate(notes):
        drawing.text(0, y + 14 + index * LINE, words, style, 13)
    return drawing.svg(_describe(work, heads))


def _parts(work: AtWork) -> list[tuple[str, str, str]]:
    boxes = []
    for role, part in work.prepared.parts.items():
        style = "changed" if role in work.changed else "" if role in work.forwarded else "faint"
        words = [f"{len(part)} rows"]
        if role in work.changed:
            words.append(_name_change(work.given.parts.get(role), part))
        if role not in work.forwarded:
            words.append("not forwarded")
        if role in work.card.separate:
            words.append("apart")
        boxes.append((role, ", ".join(words), style))
    return boxes


def _heads(work: AtWork) -> list[tuple[str, str, str]]:
    classifier = work.step.classifier
    head = classifier.head
    style = "changed" if head is not work.plain_head else ""
    boxes = [("head", f"{type(head).__name__}, {classifier.num_classes} logits", style)]
    for name, further in classifier.heads.items():
        size = getattr(further, "out_features", None) or getattr(further, "out_channels", None)
        about = f"{type(further).__name__}{f', {size} output' + 's' * (size > 1) if size else ''}"
        boxes.append((name, f"{about}, added", "changed"))
    return boxes


def _terms(work: AtWork) -> list[tuple[str, str, str]]:
    dropped = [(name, "replaced", "faint") for name in work.plain_terms if name not in work.terms]
    kept = []
    for name in work.terms:
        added = name not in work.plain_terms
        kept.append((name, "a term it adds" if added else "as in plain training", "changed" if added else ""))
    return dropped + kept


def _notes(work: AtWork) -> list[tuple[str, str]]:
    """Say what the method does at moments that have no box."""
    notes = {
        "parameter_groups": "parameter_groups: some parameters get settings of their own",
        "after_update": "after_update: looks back at the outputs after the optimizer's step",
    }
    return [(words, "changed") for name, words in notes.items() if name in work.card.moments]


def _describe(work: AtWork, heads: Sequence[tuple[str, str, str]]) -> str:
    """Describe the diagram in words."""
    parts = ", ".join(f"{role} ({about})" for role, about, _ in _parts(work))
    return (
        f"A training step with {work.card.name}: parts {parts}; one backbone; "
        f"heads {', '.join(f'{name} ({about})' for name, about, _ in heads)}; terms {', '.join(work.terms)}."
    )


def timeline() -> str:
    """Draw the moments of training in their order, with the methods that change each."""
    drawing, y, phase = Drawing(900), 0.0, ""
    steps: list[tuple[str, str, str]] = []
    for name, about in moments().items():
        users = [method.name for method in cards() if name in method.moments]
        steps.append((name, about, f"Changed by {', '.join(users)}." if users else "Changed by no method yet."))
        steps += [(words, after, "") for moment, words, after in FIXED if moment == name]
    for index, (name, about, users) in enumerate(steps):
        if PHASES.get(name, phase) != phase:
            phase = PHASES[name]
            drawing.text(0, y + 16, phase, "changed")
            y += 26
        y = _moment(drawing, y, name, about, users, last=index == len(steps) - 1)
    return drawing.svg(f"The moments of training in their order: {', '.join(name for name, _, _ in steps)}.")


FIXED = (
    ("change_hidden", "forward", "One pass over all parts that are read: features, logits, outputs of further heads."),
    ("change_sum", "backward, update", "The loss is the sum of the terms; the optimizer takes its step."),
)
"""What no method changes: the moment before it, its name, and its description."""


def _moment(drawing: Drawing, y: float, name: str, about: str, users: str, last: bool) -> float:
    """Draw one box with its words; return where the next one begins."""
    style = "" if users else "faint"
    lines, more = wrap_words(about, 690), wrap_words(users, 690, 13)
    high = 14 + LINE * len(lines) + 17 * len(more)
    drawing.box(0, y, 205, 34, style)
    drawing.text(10, y + 22, name, "code" if users else "muted")
    drawing.lines(225, y + 16, lines, "" if users else "muted")
    drawing.lines(225, y + 14 + LINE * len(lines), more, "muted", 13)
    high = max(high, 34)
    if not last:
        drawing.arrow(102, y + 35, 102, y + high + 12)
    return y + high + 14
