"""Calls of public functions with arguments that are right but for one or two: the answer is a value or a sentence.

Every call is drawn from a number, so that ``draw_and_call("mixup", 7)`` is the same call again. What comes back must
have the annotated shape; what is raised must be a ``TypeError`` or ``ValueError`` of one sentence, in words of the
project's own. As a script it makes many calls and tells what failed: ``python tests/fuzz.py 20000``.
"""

import inspect
import io
import math
import re
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from fractions import Fraction
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import oodles
from oodles import Classifier, Method, Part, TrainingStep, metrics, scores
from oodles.cards import card
from oodles.checks import annotations
from oodles.data import arrays
from oodles.facts import trains_on
from oodles.methods import METHOD_SCORES, METHODS, build_methods, method_class, method_score
from oodles.methods.g_odin import QuotientHead
from oodles.targets import cross_entropy

ROWS, OUTLIERS, CLASSES, FEATURES, CHANNELS, SIDE = 4, 3, 5, 6, 3, 6
WORDS_OF_OTHERS = re.compile(
    r"Expected|expected (m1|scalar|sequence|str|a )|size of tensor|Traceback|mat1|shape '\[|out of bounds|out of range"
    r"|unsupported|not supported between|invalid literal|object (is|has|does|cannot)|has no attribute"
    r"|positional argument|implemented|could not convert|can't|cannot be converted|broadcast|ambiguous"
    r"|dimension specified|unhashable|not iterable"
)


HUGE = (
    *(10**400, -(10**400), 10**5000, 10**30, 2**63, 2**62, 2**31, 1e308, -1e308, 1e300, 1e200, 1e39, -1e39, 1e20),
    *(5e-324, 1e-310, 1e-45, 1e-12, float("nan"), float("inf"), -float("inf")),
)
"""Numbers at the ends of what floats hold, and beyond."""
NO_NUMBERS = (
    "1",
    "",
    "abc",
    "two\nlines",
    None,
    True,
    False,
    [1.0],
    (1,),
    (),
    {},
    1j,
    Fraction(1, 2),
    object(),
    b"1",
    int,
)
ARRAYS = (
    *(np.float32(0.5), np.float64(0.25), np.float16(0.5), np.int64(2), np.uint8(3), np.bool_(True), np.longdouble(0.5)),
    *(
        np.array(0.5),
        np.array([1.0, 2.0]),
        np.float32("nan"),
        np.array("a"),
        torch.tensor(0.5),
        torch.tensor([0.1, 0.2]),
    ),
    *(torch.tensor(float("nan")), torch.tensor(2), torch.tensor(True), torch.zeros(2, 2)),
)
"""What is taken for numbers, or is one of another library."""


def is_sentence(text: str) -> bool:
    """Tell whether a message is one line, one sentence, and not of Python's, torch's or NumPy's."""
    return bool(re.fullmatch(r"\S[^\n]*[^.?][.?]", text)) and not WORDS_OF_OTHERS.search(text)


class AnyShape(nn.Module):
    """A backbone for inputs of any shape and type: a call that fails has failed outside the network."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(FEATURES, FEATURES)

    def forward(self, x: Tensor) -> Tensor:
        x = (x.real if x.is_complex() else x).to_dense().float()
        rows = x.reshape(x.shape[0] if x.ndim else 1, math.prod(x.shape[1:]))
        return self.layer(nn.functional.pad(rows, (0, FEATURES))[:, :FEATURES])


class Draw:
    """One drawn call: right arguments, of which some are then changed."""

    def __init__(self, number: int):
        self.random = Random(number)
        self.torch = torch.Generator().manual_seed(number)
        self.rows = self.random.choice([ROWS, ROWS, ROWS, 1, 2, 0])
        self.space = self.random.choice([(), (), (), (2, 3)])

    def pick(self, *values: Any) -> Any:
        return self.random.choice(values)

    def normal(self, *shape: int) -> Tensor:
        dtype = self.pick(torch.float32, torch.float32, torch.float64, torch.float16, torch.bfloat16)
        return (2 * torch.randn(shape, generator=self.torch)).to(dtype).requires_grad_(self.pick(True, False))

    def images(self, rows: int) -> Tensor:
        dtype = self.pick(torch.float32, torch.float32, torch.float64, torch.float16)
        return torch.rand(rows, CHANNELS, SIDE, SIDE, generator=self.torch).to(dtype)

    def ids(self, *shape: int) -> Tensor:
        dtype = self.pick(torch.int64, torch.int64, torch.int32, torch.uint8, torch.int16, torch.uint16, torch.int8)
        return torch.randint(CLASSES, shape, generator=self.torch).to(dtype)

    def targets(self, rows: int) -> Tensor:
        if self.random.random() < 0.6:
            return self.ids(rows, *self.space)
        dtype = self.pick(torch.float32, torch.float64)
        return torch.rand(rows, CLASSES, *self.space, generator=self.torch).to(dtype).softmax(1)

    def number(self) -> Any:
        """Draw a number, or what somebody may have taken for one."""
        plain = self.pick(0, 1, 2, -1, 0.5, 0.0, -0.0, 1.5, -0.5, 3, 100, 1e-3)
        return self.pick(plain, plain, self.pick(*HUGE), self.pick(*HUGE), self.pick(*NO_NUMBERS), self.pick(*ARRAYS))

    def anything(self) -> Any:
        return self.pick(
            self.number(), "word", None, [], [1, 2], {}, np.zeros((ROWS, CLASSES)), int, nn.Identity(), set()
        )

    def changed_tensor(self, value: Tensor) -> Any:
        """Draw another shape, type or values for a tensor."""
        if value.layout is not torch.strided or value.is_complex():
            return self.anything()
        value = value.detach()
        place = self.random.randrange(max(value.ndim, 1))
        match self.random.randrange(12):
            case 0:
                return self.anything()
            case 1:
                return value[0] if value.ndim and len(value) else value.reshape(1, *value.shape)
            case 2:
                return value.unsqueeze(self.random.randint(0, value.ndim))
            case 3 | 4 if value.ndim:
                size = self.pick(0, 1, 2, value.shape[place] + 1)
                kept = value.narrow(place, 0, min(size, value.shape[place]))
                more = value.new_zeros(
                    [size - kept.shape[place] if i == place else s for i, s in enumerate(value.shape)]
                )
                return torch.cat([kept, more], place)
            case 5 | 6:
                wanted = self.pick(
                    *(torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.int32, torch.int16, torch.int8),
                    *(torch.uint8, torch.uint16, torch.uint32, torch.uint64, torch.bool, torch.complex64),
                )
                return value.to(wanted)
            case 7 | 8 if value.numel():
                odd = self.pick(float("nan"), float("inf"), -float("inf"), 1e30, -1e30, -1.0, 255.0, -100.0, 2.0)
                if not value.is_floating_point():
                    odd = self.pick(-1, -100, 255, CLASSES, 2**31, -(2**63))
                changed = (value.clone() if value.is_floating_point() else value.long()).contiguous()
                number = torch.tensor(odd, dtype=torch.float64 if value.is_floating_point() else torch.int64)
                changed.view(-1)[self.random.randrange(value.numel())] = number.to(changed.dtype)
                return changed if self.pick(True, False) else number.to(changed.dtype).expand(value.shape).clone()
            case 9:
                return torch.zeros_like(value)
            case 10:
                return value.T if value.ndim == 2 else value.transpose(0, -1) if value.ndim else value
            case _:
                kind = self.pick(torch.nn.Parameter, torch.Tensor.numpy, torch.Tensor.tolist, torch.Tensor.to_sparse)
                return kind(value) if value.dtype in (torch.float32, torch.float64) else value

    def changed(self, value: Any) -> Any:
        if isinstance(value, Tensor):
            return self.changed_tensor(value)
        if isinstance(value, np.ndarray) and self.pick(True, True, False):
            return self.changed_array(value)
        return self.anything() if self.pick(True, False) or value is None else self.number()

    def changed_array(self, value: np.ndarray) -> Any:
        match self.random.randrange(6):
            case 0:
                return value.astype(self.pick("f2", "f4", "i4", "u1", "u2", "?", "c8", "O", "U3", "M8[s]"))
            case 1:
                return value[..., None]
            case 2:
                return value[self.pick(slice(0), 0, slice(1))] if value.ndim and len(value) else value
            case 3:
                return np.full(value.shape, self.pick(np.nan, np.inf, -1.0, 300.0, 0.0))
            case 4:
                return value.tolist()
            case _:
                return torch.from_numpy(value.copy()) if value.dtype.kind in "fiu" else value


@cache
def picture_file() -> str:
    """Write few pictures to mix with, so that none are generated."""
    path = Path(tempfile.mkdtemp()) / "pictures.npz"
    np.savez(path, images=np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), np.uint8))
    return str(path)


def argument(draw: Draw, name: str, annotation: Any) -> Any:
    """Return a right argument of a method's ``forward``, by its name."""
    n, m, space = draw.rows, OUTLIERS, draw.space
    match name:
        case "logits" | "logits_in" | "outputs" | "densities":
            return draw.normal(n, CLASSES, *space)
        case "wild_logits" | "logits_out" | "second_out" | "logits_noise" | "logits_jigsaw":
            return draw.normal(m, CLASSES, *space)
        case "background_out" | "discriminator_out":
            return draw.normal(m, 1, *space)
        case "logits_shifted":
            return draw.normal(2 * n, CLASSES)
        case "logits_shifted_out":
            return draw.normal(2 * m, CLASSES)
        case "virtual_logits":
            return draw.normal(m, CLASSES)
        case "log_odds":
            return draw.normal(n, 1)
        case "wild_log_odds":
            return draw.normal(m, 1)
        case "chosen":
            return draw.pick(torch.arange(m) % 2 == 0, torch.zeros(m, dtype=torch.bool))
        case "judged":
            return draw.normal(n)
        case "others":
            return draw.normal(n, 1)
        case "judged_virtual":
            return draw.normal(m)
        case "background" | "confidence":
            return draw.normal(n, 1, *space)
        case "unknown":
            return draw.normal(m)
        case "student" | "teacher":
            return draw.normal(n, CLASSES)
        case "targets" | "targets_in":
            return draw.targets(n)
        case "labels":
            return draw.ids(m, *space)
        case "features" | "features_in":
            return draw.normal(n, FEATURES)
        case "features_out":
            return draw.normal(m, FEATURES)
        case "projections" | "projections_in":
            return draw.normal(n, FEATURES)
        case "projections_out":
            return draw.normal(m, FEATURES)
        case "points" | "weight" | "prototypes" | "centers" | "head_weight":
            return draw.normal(CLASSES, FEATURES)
        case "direction":
            return draw.normal(FEATURES)
        case "slope":
            return draw.normal()
        case "bias":
            return draw.normal(*([] if getattr(annotation, "dim_str", None) == "" else [CLASSES]))
        case "head":
            return QuotientHead(FEATURES, CLASSES, "cosine")
        case "loss":
            return draw.normal()
        case "x":
            return draw.images(n)
        case "y":
            return draw.ids(n)
        case "outliers":
            return draw.images(m).to(torch.float32)
        case "num_classes":
            return CLASSES
        case "lam":
            return draw.pick(0.3, 0, 1, torch.tensor(0.5))
        case "annealing":
            return 0.5
        case "classifier":
            return small_classifier()
        case "valid":
            return None
        case "generator":
            return draw.pick(None, torch.Generator().manual_seed(1))
    raise KeyError(f"tests/fuzz.py has no argument {name!r} of type {annotation}: add one.")


Call = tuple[Callable[..., Any], list[Any], dict[str, Any]]


def standalone(name: str, draw: Draw, settings: Mapping[str, Any]) -> Call:
    """Draw right arguments for a method's standalone form."""
    method = method_class(name)(**{**({"pictures": picture_file()} if name == "pixmix" else {}), **settings})
    if name in ("isomax", "isomax-plus", "arpl"):
        draw.space = ()
    args: list[Any] = []
    named: dict[str, Any] = {}
    for one in inspect.signature(method.forward).parameters.values():
        if one.kind is one.VAR_POSITIONAL:
            count, width = (4, 4) if name == "rotation-prediction" else (3, CLASSES)
            args += [draw.normal(draw.rows, width) for _ in range(count)]
        elif one.kind is one.KEYWORD_ONLY:
            named[one.name] = argument(draw, one.name, one.annotation)
        else:
            args.append(argument(draw, one.name, one.annotation))
    return method, args, named


def of_method(name: str) -> Callable[[Draw], Call]:
    """Draw settings and arguments of a method's standalone form."""

    def call(draw: Draw) -> Call:
        settings = {}
        if card(name).parameters and draw.random.random() < 0.35:
            chosen = draw.random.choice(card(name).parameters)
            settings[chosen.name] = draw.number() if draw.pick(True, True, False) else draw.anything()
        return standalone(name, draw, settings)

    return call


def of_score(make: Callable[..., scores.Score], settings: Sequence[str] = ()) -> Callable[[Draw], Call]:
    """Draw settings, training rows and rows of a score; fitting and scoring are one call."""

    def call(draw: Draw) -> Call:
        given = {}
        if settings and draw.random.random() < 0.35:
            given[draw.random.choice(list(settings))] = draw.number()
        score = make(**given)
        draw.rows, draw.space = max(draw.rows, 1), ()
        heads = [
            draw.normal(draw.rows, CLASSES if head == "second" else 4 if head == "rotation" else 1)
            for head in (score.needs_heads if isinstance(score, scores.HeadScore) else ())
        ]
        if score.name == "rotation":
            heads = [draw.normal(draw.rows, 4) for _ in range(4)]
        fitting = [draw.normal(40, FEATURES), draw.normal(40, CLASSES), torch.arange(40) % CLASSES]

        def fit_and_score(fit: Sequence[Any], *args: Any) -> Any:
            if score.needs_fit and draw.random.random() < 0.9:
                score.fit(*fit)
            return score(*args)

        if score.needs_fit and draw.random.random() < 0.5:
            place = draw.random.randrange(3)
            fitting[place] = draw.changed(fitting[place])
        return fit_and_score, [fitting, draw.normal(draw.rows, FEATURES), draw.normal(draw.rows, CLASSES), *heads], {}

    return call


def plain(function: Callable[..., Any], *names: str) -> Callable[[Draw], Call]:
    """Draw the named arguments of a function."""

    def call(draw: Draw) -> Call:
        return function, [argument(draw, name, None) for name in names], {}

    return call


def of_soft_targets(draw: Draw) -> Call:
    lam = draw.pick(0.3, 0.0, 1, torch.rand(draw.rows, generator=draw.torch), torch.tensor(0.2))
    return oodles.soft_targets, [draw.targets(draw.rows), draw.targets(draw.rows), lam, CLASSES], {}


def of_valid_in_both(draw: Draw) -> Call:
    part = Part(draw.images(2), draw.ids(2), valid=torch.tensor([True, False]))

    def call(places: Any, places_of_other: Any) -> Tensor | None:
        return oodles.valid_in_both(part, places, part, places_of_other)

    return call, [torch.tensor([1, 0]), torch.tensor([0, 1])], {}


def of_mixup_criterion(draw: Draw) -> Call:
    per_row = draw.pick(True, False)
    criterion = nn.CrossEntropyLoss(reduction="none") if per_row else draw.pick(cross_entropy, nn.CrossEntropyLoss())
    lam = torch.rand(draw.rows, generator=draw.torch) if per_row else 0.3
    draw.space = ()
    pred, ids = draw.normal(draw.rows, CLASSES).float(), torch.arange(draw.rows) % CLASSES

    def call(lam: Any) -> Any:  # predictions and targets go to the criterion, which need not be ours
        return oodles.mixup_criterion(criterion, pred, ids, ids.flip(0), lam)

    return call, [lam], {}


def of_metric(function: Callable[..., Any]) -> Callable[[Draw], Call]:
    def values(draw: Draw, rows: int) -> Any:
        drawn = torch.randn(rows, generator=draw.torch)
        return draw.pick(drawn, drawn.numpy(), drawn.double().numpy(), drawn.bfloat16(), drawn.tolist())

    return lambda draw: (function, [values(draw, 5), values(draw, 4)], {})


def of_accuracy(draw: Draw) -> Call:
    return metrics.accuracy, [draw.pick(draw.normal(4, CLASSES), draw.ids(4)), draw.ids(4)], {}


def of_arrays(draw: Draw) -> Call:
    shape = draw.pick((4, 6, 6), (4, 6, 6, 3), (4, 3, 6, 6), (4, 6, 6, 1))
    images = draw.pick(np.zeros(shape, np.uint8), np.full(shape, 0.5), np.full(shape, 0.5, np.float32))
    return partial(arrays.from_arrays, "here"), [images, draw.pick(None, np.arange(4))], {}


def of_npz(draw: Draw) -> Call:
    def call(images: Any, labels: Any, cut: int, flipped: int) -> Any:
        held = io.BytesIO()
        try:
            np.savez(held, images=np.asarray(images), labels=np.asarray(labels))
        except ValueError:  # rows of several lengths are no array
            return None
        data = bytearray(held.getvalue())
        if flipped:
            data[flipped % len(data)] ^= 0x55
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images.npz"
            path.write_bytes(data[: len(data) - cut])
            return arrays.read_npz(path)

    images = np.zeros(draw.pick((4, 6, 6), (4, 6, 6, 3)), np.uint8)
    damage = [draw.pick(0, 0, 1, 40, 400), draw.pick(0, 0, 0, draw.random.randrange(2000))]
    images, labels = draw.pick(
        (images, np.arange(4)), (draw.changed(images), np.arange(4)), (images, draw.changed(np.arange(4)))
    )
    return lambda: call(images, labels, *damage), [], {}


def of_idx(draw: Draw) -> Call:
    kind, sides = (
        draw.pick(0x08, 0x08, 0x09, 0x0C, 0x0D, 0x0E, 0x77),
        draw.pick((2, 3, 3), (0, 3, 3), (2,), (2, 3, 3, 3), ()),
    )
    data = b"\0\0" + bytes([kind, len(sides)]) + b"".join(struct.pack(">I", side) for side in sides)
    data += bytes(draw.random.randrange(2) for _ in range(math.prod(sides) * draw.pick(1, 1, 4, 8)))
    if draw.pick(True, False, False):
        data = data[: draw.random.randrange(len(data) + 1)]

    def call() -> Any:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "images-ubyte"
            path.write_bytes(data)
            return arrays.read_idx(path)

    return call, [], {}


def of_recipe(draw: Draw) -> Call:
    settings: dict[str, Any] = {"methods": (("mixup", {"alpha": 0.2}),)}
    for name in draw.random.sample(sorted(oodles.Recipe.__dataclass_fields__), 2):
        settings[name] = draw.pick(draw.number(), draw.anything())
    if draw.pick(True, False):
        settings["methods"] = draw.pick(
            *(draw.anything(), (draw.anything(),), (("mixup", draw.anything()),), ((draw.anything(), {}),)),
            (("mixup", {"alpha": draw.number()}),),
            (("mixup", {draw.pick("alfa", 3): 1}),),
        )
    return lambda: oodles.Recipe(**settings), [], {}


def of_pair(draw: Draw) -> Call:
    return lambda a, b: list(oodles.pair(a, b)), [draw.pick([], [1, 2], (1,)), draw.pick([], ["a"], ("a", "b"))], {}


def small_classifier() -> Classifier:
    return Classifier(AnyShape(), nn.Linear(FEATURES, CLASSES))


def of_split(draw: Draw) -> Call:
    model = nn.Sequential(AnyShape(), draw.pick(nn.ReLU(), nn.Identity()), nn.Linear(FEATURES, CLASSES))
    if draw.pick(True, False, False):
        model.append(draw.pick(nn.Softmax(1), nn.Identity(), nn.Flatten()))

    def call(model: Any, head: Any, example: Any, output: Any) -> Any:
        try:
            return Classifier.split(model, head, example=example, output=output)
        except ValueError as error:
            if str(error).startswith("The model must run on the example"):  # and quotes the model's own error
                return None
            raise

    head = draw.pick("2", "2", "2", "0", "0.layer", "9", "", "1")
    return call, [model, head, draw.images(max(draw.rows, 1)).float(), draw.pick(None, None, "logits")], {}


STEPS = (
    "",
    "mixup",
    "cutmix",
    "regmixup",
    "outlier-exposure",
    "energy-gap",
    "logit-norm",
    "flooding",
    "mixoe",
    "openmix",
)


def of_step(draw: Draw) -> Call:
    """Draw a batch for a step of plain training or with one method."""
    name = draw.pick(*STEPS, *METHODS)
    settings = {"pictures": picture_file()} if name == "pixmix" else {"steps": 2} if name == "acet" else {}
    torch.manual_seed(0)
    facts = card(name) if name else None
    prepares = facts is not None and "outliers" in (*facts.needs, *facts.adds)
    alone = not prepares or trains_on("outliers", facts)
    chosen = [*([(name, settings)] if name else []), *([] if alone else [("outlier-exposure", {})])]
    step = TrainingStep(small_classifier(), *build_methods(chosen, teacher=small_classifier()))
    needs = facts is not None and {"outliers", "wild"} & set(facts.needs)
    draw.space = ()
    outliers = draw.images(OUTLIERS).float() if needs or draw.pick(True, False) else None

    def call(inputs: Any, targets: Any, outliers: Any) -> Any:
        terms = step((inputs, targets), outliers=outliers, wild=outliers)
        assert all(isinstance(term, Tensor) and term.ndim == 0 for term in terms.values())
        return terms

    return call, [draw.images(draw.rows).float(), draw.targets(draw.rows), outliers], {}


def of_evaluate(draw: Draw) -> Call:
    def call(inputs: Any, labels: Any, unknown: Any, name: Any) -> Any:
        return oodles.evaluate(small_classifier(), [(inputs, labels)], {"far": [unknown]}, [name])

    name = draw.pick("msp", "energy", "entropy", "max-logit", "feature-norm", "scale")
    return call, [draw.images(4).float(), draw.ids(4), draw.images(3).float(), name], {}


def of_collect(draw: Draw) -> Call:
    def call(inputs: Any, labels: Any) -> Any:
        return oodles.collect(small_classifier(), [(inputs, labels)])

    return call, [draw.images(4).float(), draw.ids(4)], {}


def of_collate(draw: Draw) -> Call:
    samples = [(torch.zeros(1, SIDE, SIDE), row % CLASSES) for row in range(3)]
    return lambda num_classes: oodles.Mixup().collate(num_classes)(samples), [CLASSES], {}


def _settings_of(cls: type) -> list[str]:
    return list(inspect.signature(cls).parameters)


def _method_scores() -> Iterator[tuple[str, Callable[[Draw], Call]]]:
    for name in METHOD_SCORES:
        cls = type(method_score(name))
        yield f"score {name}", of_score(cls, _settings_of(cls))


CALLS: Mapping[str, Callable[[Draw], Call]] = {
    **{f"method {name}": of_method(name) for name in METHODS},
    **{f"score {name}": of_score(cls, _settings_of(cls)) for name, cls in scores.SCORES.items()},
    **dict(_method_scores()),
    **{name: of_metric(getattr(metrics, name)) for name in (*metrics.METRICS, "ood_metrics", "counts")},
    "accuracy": of_accuracy,
    "msp": plain(scores.msp, "logits"),
    "max_logit": plain(scores.max_logit, "logits"),
    "entropy": plain(scores.entropy, "logits"),
    "energy": lambda draw: (scores.energy, [draw.normal(draw.rows, CLASSES, *draw.space), 1.5], {}),
    "cross_entropy": plain(cross_entropy, "logits", "targets"),
    "soft_targets": of_soft_targets,
    "mixup_data": lambda draw: (
        oodles.mixup_data,
        [draw.images(draw.rows), draw.ids(draw.rows), 0.5],
        {"per_sample": draw.pick(True, False)},
    ),
    "mixup_criterion": of_mixup_criterion,
    "OutlierExposureLoss": lambda draw: plain(oodles.OutlierExposureLoss(), "logits_in", "targets_in", "logits_out")(
        draw
    ),
    "EnergyRegularizedLoss": lambda draw: plain(
        oodles.EnergyRegularizedLoss(), "logits_in", "targets_in", "logits_out"
    )(draw),
    "mean_over_processes": plain(oodles.mean_over_processes, "logits"),
    "sum_over_processes": plain(oodles.sum_over_processes, "logits"),
    "rows_of_all_processes": plain(oodles.rows_of_all_processes, "logits"),
    "Normalize": lambda draw: (oodles.Normalize, [[0.5, 0.4], [0.1, 0.2]], {}),
    "Part": lambda draw: (Part, [draw.images(2), draw.ids(2)], {}),
    "from_arrays": of_arrays,
    "read_npz": of_npz,
    "read_idx": of_idx,
    "Recipe": of_recipe,
    "pair": of_pair,
    "Classifier.split": of_split,
    "collect": of_collect,
    "Classifier": lambda draw: (Classifier, [nn.Flatten(), nn.Linear(FEATURES, CLASSES), CLASSES, FEATURES], {}),
    "valid_in_both": of_valid_in_both,
    "Part.take": lambda draw: (Part(draw.images(2), draw.ids(2)).take, [torch.tensor([1, 0])], {}),
    "Recipe.from_dict": lambda draw: (
        oodles.Recipe.from_dict,
        [{draw.pick("epochs", "methods", "x"): draw.anything()}],
        {},
    ),
    "start_epoch": lambda draw: (
        TrainingStep(small_classifier()).start_epoch,
        [0, 3, draw.pick(None, oodles.Data())],
        {},
    ),
    "collate": of_collate,
    "TrainingStep": of_step,
    "evaluate": of_evaluate,
}
"""What is called, by name."""


def check_result(function: Callable[..., Any], args: Sequence[Any], named: Mapping[str, Any], result: Any) -> str:
    """Return what is wrong with a result's shape, by the annotations of the function; empty if nothing is."""
    function = function.forward if isinstance(function, Method) else function
    signature = inspect.signature(function)
    sizes: annotations.Sizes = {}
    for name, value in signature.bind(*args, **named).arguments.items():
        many = signature.parameters[name].kind is inspect.Parameter.VAR_POSITIONAL
        for one in value if many else (value,):
            if isinstance(one, Tensor):
                for kind in annotations._kinds(signature.parameters[name].annotation, function):
                    if isinstance(kind, annotations._Tensors) and (kind.dtypes is None or one.dtype in kind.dtypes):
                        kind.fits(name, one.shape, sizes)
    for kind in annotations._kinds(signature.return_annotation, function):
        if isinstance(kind, annotations._Tensors):
            if not isinstance(result, Tensor):
                return f"returned {type(result).__name__}"
            if not kind.fits("the result", result.shape, sizes):
                return f"returned shape {tuple(result.shape)} and not {kind.described(sizes)}"
    if isinstance(result, tuple) and len(result) == 4 and isinstance(args[0], Tensor):  # mixed rows
        mixed, y_a, y_b, _ = result
        if (mixed.shape, mixed.dtype, y_a.shape, y_b.shape) != (
            args[0].shape,
            args[0].dtype,
            args[1].shape,
            args[1].shape,
        ):
            return f"returned shapes {tuple(mixed.shape)}, {tuple(y_a.shape)}, {tuple(y_b.shape)}"
    return ""


def draw_and_call(name: str, number: int) -> tuple[str, str]:
    """Make one call and return whether it was a ``value``, a ``sentence`` or ``wrong``, and what was."""
    draw = Draw(number)
    args: list[Any] = []
    named: dict[str, Any] = {}
    try:
        function, args, named = CALLS[name](draw)
        for _ in range(draw.pick(0, 1, 1, 1, 2)):
            if args or named:
                place = draw.random.choice([*range(len(args)), *named])
                if isinstance(place, str):
                    named[place] = draw.changed(named[place])
                elif not isinstance(args[place], list):
                    args[place] = draw.changed(args[place])
        result = function(*args, **named)
    except (TypeError, ValueError) as error:
        if is_sentence(str(error)):
            return "sentence", ""
        return "wrong", f"{type(error).__name__}: {error} {_where(error)} of {_shown(args, named)}"
    except Exception as error:
        if isinstance(error, UserWarning) and is_sentence(str(error)):  # what the project remarks
            return "sentence", ""
        return "wrong", f"{type(error).__name__}: {error} {_where(error)} of {_shown(args, named)}"
    wrong = check_result(function, args, named, result)
    return ("wrong", f"{wrong} of {_shown(args, named)}") if wrong else ("value", "")


def _where(error: BaseException) -> str:
    """Return the package's line that raised an error."""
    lines = [(frame.tb_frame.f_code.co_filename, frame.tb_lineno) for frame in _frames(error)]
    ours = [
        f"{Path(path).name}:{line}" for path, line in lines if "oodles" in Path(path).parts and "checks" not in path
    ]
    return f"at {ours[-1]}" if ours else ""


def _frames(error: BaseException) -> Iterator[Any]:
    frame = error.__traceback__
    while frame is not None:
        yield frame
        frame = frame.tb_next


def _shown(args: Sequence[Any], named: Mapping[str, Any]) -> str:
    def one(value: Any) -> str:
        if isinstance(value, Tensor | np.ndarray):
            return f"{value.dtype}{tuple(value.shape)}"
        if isinstance(value, list | tuple):
            return f"[{', '.join(map(one, value))}]"
        return (
            type(value).__name__
            if isinstance(value, int) and abs(value) > 10**40
            else " ".join(repr(value).split())[:60]
        )

    return ", ".join([*map(one, args), *(f"{name}={one(value)}" for name, value in named.items())])


def main(calls: int, names: Sequence[str]) -> int:
    """Make so many calls, about as many of each function; print a line for each, and what failed."""
    warnings.simplefilter("error")
    torch.set_num_threads(1)
    begun = time.perf_counter()
    counts: dict[str, Counter[str]] = {name: Counter() for name in names or CALLS}
    failures: dict[str, list[str]] = {name: [] for name in counts}
    for number in range(calls):
        name = list(counts)[number % len(counts)]
        outcome, what = draw_and_call(name, number)
        counts[name][outcome] += 1
        if what:
            failures[name].append(f"  draw_and_call({name!r}, {number}): {' '.join(what.split())[:400]}")
    for name, count in counts.items():
        print(f"{name:36} {count['value']:6} values {count['sentence']:6} sentences {count['wrong']:6} wrong")
        print(*failures[name][:8], sep="\n", end="\n" if failures[name] else "")
    total = sum(counts.values(), Counter())
    print(
        f"{calls} calls of {len(counts)} functions in {time.perf_counter() - begun:.0f} s: {total['value']} values, "
        f"{total['sentence']} sentences, {total['wrong']} wrong"
    )
    return int(total["wrong"] > 0)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 2000, sys.argv[2:]))
