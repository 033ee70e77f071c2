"""The contract: a method is a difference from plain cross-entropy training, and a training step composes several."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from types import FunctionType
from typing import Any, ClassVar

import torch
import torch.distributed as dist
from torch import Generator, Tensor, nn
from torch.distributed import _functional_collectives as collectives

from oodles.checks import check_same_length, check_targets
from oodles.classifier import Classifier, Inputs, frozen, without_labels
from oodles.precision import at_least_float32
from oodles.randomness import generator_for, random_seed
from oodles.targets import cross_entropy

NEW_HEADS = 201
"""What random numbers are for, besides steps."""


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    authors: str
    venue: str
    year: int
    link: str
    code: str = ""


@dataclass(frozen=True)
class Part:
    """Rows of one role: inputs, and targets as class ids (N,), probabilities (N, C), or none."""

    inputs: Inputs
    targets: Tensor | None = None

    def __len__(self) -> int:
        return len(_first(self.inputs))


@dataclass(frozen=True)
class Batch:
    """Parts by role (``id`` always, ``outliers`` when there are some, what methods add) and random draws by name.

    Draws with as many rows as the part ``id`` belong to its rows.
    """

    parts: Mapping[str, Part]
    draws: Mapping[str, Tensor] = field(default_factory=dict)

    def __getitem__(self, role: str) -> Part:
        return self.parts[role]

    def __contains__(self, role: str) -> bool:
        return role in self.parts

    def with_part(self, role: str, part: Part) -> "Batch":
        """A batch in which ``role`` is ``part``; this one stays as it was."""
        return replace(self, parts={**self.parts, role: part})

    def with_draws(self, **draws: Tensor) -> "Batch":
        """A batch with further random numbers, drawn here for use after the forward."""
        return replace(self, draws={**self.draws, **draws})


@dataclass(frozen=True)
class Outputs:
    """Features and logits by role, and what further heads say by head and role; in float32 at least."""

    features: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)


class Now:
    """What a moment of training may know."""

    def __init__(self, step: "TrainingStep", generator: Generator | None = None, *, traced: bool = False):
        self._step = step
        self._generator = generator
        self._traced = traced

    @property
    def classifier(self) -> Classifier:
        """The classifier itself, never wrapped."""
        return self._step.classifier

    @property
    def generator(self) -> Generator:
        """A CPU generator that depends on (seed, step, rank) alone; there is none after the forward pass."""
        if self._generator is None:
            raise RuntimeError("Random numbers are drawn in change_batch; hand them on with batch.with_draws(…).")
        return self._generator

    @property
    def step(self) -> int:
        """How many steps came before this one; not known in the traced half, nor are the epochs."""
        self._check_eager()
        return self._step.steps - (self._generator is None)  # once a batch is prepared, the counter has moved on

    @property
    def epoch(self) -> int:
        """The current epoch, from 0."""
        self._check_eager()
        return self._step.epoch

    @property
    def epochs(self) -> int:
        """How many epochs there will be."""
        self._check_eager()
        return self._step.epochs

    def _check_eager(self) -> None:
        if self._traced:  # a number that changes would be compiled anew every time
            raise RuntimeError("Steps and epochs are counted in change_batch; hand them on with batch.with_draws(…).")

    def frozen(self) -> Any:
        """A context in which the classifier is in eval mode and its statistics stay untouched."""
        return frozen(self.classifier)


Terms = Mapping[str, Tensor]
Rows = Mapping[str, slice]
"""Where each part is among rows that are forwarded together."""


class Method(nn.Module):
    """A difference from plain cross-entropy training: override the moments that change, and nothing else.

    The facts are literals in the class body; the command line, the tables and the documentation come from them.
    """

    name: ClassVar[str]
    """The name on the command line and in recipes."""
    paper: ClassVar[Paper]
    score: ClassVar[str] = "msp"
    """The outlier score that the paper uses."""
    brings: ClassVar[tuple[str, ...]] = ()
    """Scores that need what this method leaves in the classifier."""
    strength: ClassVar[str | None] = None
    """The hyper-parameter that switches the method off at zero."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What must be there: ``outliers``, ``images``, ``vectors`` (features of shape (N, F), one label per row), or
    ``weights`` (of a trained classifier, which a run has to start from)."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Roles whose outputs the loss looks at; a part that nobody reads is not forwarded."""
    adds: ClassVar[tuple[str, ...]] = ()
    """Roles that the method adds to a batch."""
    terms: ClassVar[tuple[str, ...]] = ()
    """Named terms that it adds to the loss."""
    asks: ClassVar[tuple[str, ...]] = ()
    """Heads that the classifier gets, shared with other methods that ask for them, as is a term of the same name."""
    replaces: ClassVar[tuple[str, ...]] = ()
    """What it puts something else in place of; two methods may not replace the same thing."""
    separate: ClassVar[tuple[str, ...]] = ()
    """Roles that get a forward pass of their own."""
    measured_on: ClassVar[tuple[str, ...]] = ("train", "validation")
    """The sets of a suite that :meth:`suggest` is shown as in-distribution rows."""

    @property
    def active(self) -> bool:
        """False where the strength is zero: then the run is plain training, bit for bit."""
        return self.strength is None or getattr(self, self.strength) != 0

    @classmethod
    def suggest(cls, classifier: Classifier, id_loader: Any, outlier_loader: Any) -> dict[str, Any]:
        """Hyper-parameters measured on a trained classifier, for methods whose defaults depend on its scale."""
        return {}

    def change_classifier(self, classifier: Classifier) -> None:
        """Before training: other heads, further ones, and what the method owns, now that shapes are known.

        What the trained classifier keeps goes into the classifier, what only training needs into the method. Doing it
        twice is doing it once. New weights are drawn from torch's generator, which the step seeds.
        """

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        """Parameters with a ``weight_decay`` of their own or a ``learning_rate`` as a multiple of everybody's."""
        return ()

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        """Eager, before the forward pass: new inputs, targets, parts or draws."""
        return batch

    def layers(self, classifier: Classifier) -> tuple[str, ...]:
        """The backbone's layers, by name, whose results :meth:`change_hidden` changes."""
        return ()

    def change_hidden(self, hidden: Tensor, layer: str, rows: Rows, batch: Batch) -> Tensor:
        """Traced, inside the forward pass: another result of a layer, all rows that are forwarded together."""
        return hidden

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        """Traced, after the forward pass: new features or logits, of every part."""
        return outputs

    def change_loss(self, terms: Terms, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        """Traced: add, replace or wrap named scalar terms."""
        return terms

    def change_sum(self, terms: Terms, now: Now) -> Terms:
        """Traced, when all terms are there: add what makes of their sum another function of it."""
        return terms

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        """Eager, after the optimizer: moving averages, controllers. Outputs have no graph."""


class TrainingStep(nn.Module):
    """One step of training: cross-entropy on the in-distribution part, changed by the methods in the given order.

    Calling it gives the named scalar terms of the loss; the loss is their sum. It is one module, so
    ``parameters()``, ``state_dict()``, ``DistributedDataParallel`` and ``torch.compile`` cover what methods own. Some
    methods give the classifier other heads, so make the optimizer after the step.

    Args:
        classifier: the network to train, see :class:`Classifier`.
        methods: differences from plain training; none at all is plain cross-entropy.
        seed: every random number of a step depends on (seed, step, rank) alone.

    Raises:
        TypeError: for a classifier or method of another type.
        ValueError: for methods that cannot be combined, or a seed below 0.

    Example:
        >>> import torch
        >>> from oodles import Classifier, Mixup, OutlierExposure
        >>> classifier = Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> step = TrainingStep(classifier, Mixup(alpha=0.2), OutlierExposure(weight=0.5))
        >>> x, y, o = torch.rand(8, 1, 4, 4), torch.arange(8) % 3, torch.rand(4, 1, 4, 4)
        >>> list(step((x, y), outliers=o))
        ['cross_entropy', 'outlier_exposure']
    """

    _prepare: ClassVar[Any]
    """The eager half, kept out of compiled graphs from the first step on."""

    def __init__(self, classifier: Classifier, *methods: Method, seed: int = 0):
        super().__init__()
        if not isinstance(classifier, Classifier):
            raise TypeError(
                f"classifier must be a Classifier, got {type(classifier).__name__}: "
                "make one with Classifier.split(model, 'name.of.last.layer', example=inputs)."
            )
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
        check_composition(methods)
        self.classifier = classifier
        self.methods = nn.ModuleList(methods)
        self.seed = seed
        self.steps = 0
        self.epoch, self.epochs = 0, 1
        self._checked = False
        self._losses: Callable[[TrainingStep, Batch], tuple[dict[str, Tensor], _Seen]] = _losses
        self._last: tuple[Outputs, Batch] | None = None
        self._inside = _Inside()
        layers = [(method, layer) for method in self._active() for layer in method.layers(classifier)]
        head, heads = classifier.head, dict(classifier.heads.items())
        try:
            with torch.random.fork_rng(devices=[]):
                for index, method in enumerate(self._active()):
                    torch.default_generator.manual_seed(random_seed(seed, index, 0, NEW_HEADS))
                    check_head(method, classifier)
                    method.change_classifier(classifier)
        except Exception:  # a classifier that is refused is handed back as it was
            classifier.head, classifier.heads = head, nn.ModuleDict(heads)
            raise
        for method, layer in layers:
            classifier.watch(layer, partial(_change_hidden, self._inside, method, layer))
        if TrainingStep._prepare is _prepare:
            disable: Any = torch.compiler.disable  # only now: on import it would bring all of the compiler along
            TrainingStep._prepare = staticmethod(disable(_prepare))

    def forward(self, batch: Any, outliers: Any = None) -> dict[str, Tensor]:
        """The named terms for one batch.

        Args:
            batch: ``(inputs, targets)``, a dictionary of inputs and ``labels``, or a :class:`Batch`; inputs are a
                tensor or a dictionary of tensors, targets class ids (N,), probabilities (N, C), or both with further
                dimensions for dense prediction.
            outliers: inputs of outliers, or ``(inputs, anything)`` as a labelled loader gives them.

        Raises:
            ValueError: for labels outside the classes, different lengths, or a part that a method needs and lacks.
        """
        return self.losses(self.prepare(batch, outliers))

    def prepare(self, batch: Any, outliers: Any = None) -> Batch:
        """The eager half: checks, and what the methods change in the batch; random numbers are drawn here only."""
        prepared: Batch = self._prepare(self, batch, outliers)
        return prepared

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """The traced half: one forward pass over the parts that are read, and the terms; no host sync, no draws."""
        terms, seen = self._losses(self, batch)
        if seen:
            self._last = Outputs(*seen), batch
        return terms

    def after_update(self) -> None:
        """Lets methods look back at the last batch, once; the next batch does so too if nobody else did."""
        if self._last is not None:
            outputs, batch = self._last
            self._last = None
            with torch.no_grad(), torch.autocast(outputs.logits["id"].device.type, enabled=False):
                for method in self._active():
                    method.after_update(outputs, batch, Now(self))

    def parameter_groups(self, learning_rate: float) -> list[dict[str, Any]]:
        """All parameters for an optimizer, those apart that a method wants with other settings.

        Raises:
            ValueError: where two methods want other settings for the same parameter.

        Example:
            >>> import torch
            >>> classifier = Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 3))
            >>> step = TrainingStep(classifier)
            >>> optimizer = torch.optim.SGD(step.parameter_groups(0.1), momentum=0.9, weight_decay=5e-4)
        """
        groups: list[dict[str, Any]] = []
        taken: dict[int, str] = {}
        for method in self._active():
            for group in method.parameter_groups(self.classifier):
                own = {**group, "params": list(group["params"])}
                for parameter in own["params"]:
                    other = taken.setdefault(id(parameter), method.name)
                    if other != method.name:
                        raise ValueError(f"{other} and {method.name} both want settings of their own: use one of them.")
                own["lr"] = learning_rate * own.pop("learning_rate", 1.0)
                groups.append(own)
        rest = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        return [{"params": rest, "lr": learning_rate}, *groups]

    def compile(self, **options: Any) -> None:
        """Compiles the traced half in one graph; ``options`` go to ``torch.compile``."""
        # a copy, since torch limits how often one function is compiled, and steps differ
        losses = FunctionType(_losses.__code__.replace(), globals(), "losses")
        self._losses = torch.compile(losses, **{"fullgraph": True, **options})

    def get_extra_state(self) -> Tensor:
        """The step counter: with the seed all that resuming needs of the random numbers."""
        if self._last is not None and _processes() > 1:
            raise RuntimeError("Call step.after_update() in every process before one of them saves the step's state.")
        self.after_update()  # before the methods' own state is read
        return torch.tensor(self.steps)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores the step counter."""
        self.steps = int(state)
        self._last = None

    def _active(self) -> list[Method]:
        return [method for method in self.methods if isinstance(method, Method) and method.active]

    def _as_batch(self, batch: Any, outliers: Any) -> Batch:
        if isinstance(batch, dict) and "labels" in batch:
            batch = without_labels(batch)
        if isinstance(batch, Batch):
            whole = batch
        elif isinstance(batch, Sequence) and len(batch) == 2:
            whole = Batch({"id": Part(*batch)})
        else:
            raise TypeError(f"batch must be (inputs, targets) or a Batch, got {_describe(batch)}.")
        if "id" not in whole or whole["id"].targets is None:
            raise ValueError("A batch must have a part 'id' with targets, got none.")
        if outliers is not None:
            whole = whole.with_part("outliers", _as_outliers(outliers))
        for role, part in whole.parts.items():
            if part.targets is not None:
                check_same_length(inputs=_first(part.inputs), targets=part.targets)
                num_classes = self.classifier.num_classes
                check_targets(f"targets of {role!r}", part.targets, num_classes, read_gpu=not self._checked)
        for method in self._active():
            if "outliers" in method.needs and "outliers" not in whole:
                raise ValueError(f"{method.name} needs outliers, got none: call step(batch, outliers=inputs).")
        return whole


def _prepare(step: TrainingStep, batch: Any, outliers: Any) -> Batch:
    step.after_update()
    whole = step._as_batch(batch, outliers)
    now = Now(step, generator_for(step.seed, step.steps, _rank()))
    for method in step._active():
        whole = method.change_batch(whole, now)
    step.steps += 1
    step._checked = True
    return whole


TrainingStep._prepare = staticmethod(_prepare)

_Seen = tuple[Mapping[str, Any], ...]
"""The outputs without their graph, or nothing where no method looks back at them."""


def _losses(step: TrainingStep, batch: Batch) -> tuple[dict[str, Tensor], _Seen]:
    methods, now = step._active(), Now(step, traced=True)
    outputs = _forward(step.classifier, batch, methods, step._inside)
    with torch.autocast(outputs.logits["id"].device.type, enabled=False):
        for method in methods:
            outputs = method.change_outputs(outputs, batch, now)
        targets = batch["id"].targets
        terms: Terms = {} if targets is None else {"cross_entropy": cross_entropy(outputs.logits["id"], targets)}
        for method in methods:
            terms = method.change_loss(terms, outputs, batch, now)
        for method in methods:
            terms = method.change_sum(terms, now)
    if all(type(method).after_update is Method.after_update for method in methods):
        return dict(terms), ()
    heads = {name: _detached(said) for name, said in outputs.heads.items()}
    return dict(terms), (_detached(outputs.features), _detached(outputs.logits), heads)


def _detached(by_role: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {role: value.detach() for role, value in by_role.items()}


class _Inside:
    """What a forward pass of a training step holds; at other times, nothing."""

    rows: Rows | None = None
    batch: Batch | None = None


def _change_hidden(inside: _Inside, method: Method, layer: str, module: nn.Module, args: Any, hidden: Tensor) -> Tensor:
    if inside.rows is None or inside.batch is None:
        return hidden
    return method.change_hidden(hidden, layer, inside.rows, inside.batch)


def _forward(classifier: Classifier, batch: Batch, methods: Sequence[Method], inside: _Inside) -> Outputs:
    """One forward pass for all parts of one shape, ``id`` first, so that batch norm sees them together."""
    read = {"id", *(role for method in methods for role in method.reads)}
    asked = {name: classifier.heads[name] for method in methods for name in method.asks}
    apart = {role for method in methods for role in method.separate}
    groups: dict[Any, list[str]] = {}
    for role in sorted(batch.parts, key=lambda role: role != "id"):
        if role in read:
            layout = [(key, value.shape[1:], value.dtype) for key, value in _items(batch[role].inputs)]
            groups.setdefault((tuple(layout), role if role in apart else None), []).append(role)
    features: dict[str, Tensor] = {}
    logits: dict[str, Tensor] = {}
    heads: dict[str, dict[str, Tensor]] = {name: {} for name in asked}
    for roles in groups.values():
        sizes = [len(batch[role]) for role in roles]
        starts = [sum(sizes[:index]) for index in range(len(sizes))]
        inside.rows = {r: slice(start, start + size) for r, start, size in zip(roles, starts, sizes, strict=True)}
        inside.batch = batch
        try:
            seen = classifier.features(_concatenated([batch[role].inputs for role in roles]))
        finally:
            inside.rows = inside.batch = None
        _split_among(roles, sizes, seen, features)
        _split_among(roles, sizes, classifier.head(seen), logits)
        for name, head in asked.items():
            _split_among(roles, sizes, head(seen), heads[name])
    return Outputs(features, logits, heads)


def _split_among(roles: list[str], sizes: list[int], rows: Tensor, found: dict[str, Tensor]) -> None:
    found.update(zip(roles, torch.split(at_least_float32(rows), sizes), strict=True))


def mean_over_processes(values: Tensor) -> tuple[Tensor, Tensor | int]:
    """The mean of ``values`` over all processes, differentiable in each, and how many values there are.

    A non-linear function of a batch mean has to go through here: then several processes give the gradients of one.
    The mean of no values is zero.
    """
    total, count = values.sum(), values.numel()
    if _processes() == 1:
        return total / max(count, 1), count
    both = torch.stack([total, torch.full_like(total, count)])
    both = collectives.all_reduce(both, "sum", list(range(dist.get_world_size())))
    return both[0] / both[1].clamp(min=1), both[1]


def without_cross_entropy(terms: Terms) -> dict[str, Tensor]:
    """The other terms, for methods that put something in the place of the cross-entropy."""
    return {name: term for name, term in terms.items() if name != "cross_entropy"}


def check_head(method: Method, classifier: Classifier) -> None:
    """Refuses a classifier for dense prediction where a method needs features that are vectors."""
    if "vectors" in method.needs and classifier.dense:
        raise ValueError(
            f"{method.name} needs features of shape (N, F) and one label per row, got a head for dense prediction: "
            "leave the method out."
        )


def check_composition(methods: Sequence[Method]) -> None:
    """Refuses methods that cannot be combined, with a sentence that names them."""
    for method in methods:
        if not isinstance(method, Method):
            raise TypeError(f"methods must be instances of Method, got {_describe(method)}.")
    for index, method in enumerate(methods):
        for other in methods[:index]:
            if type(method) is type(other):
                raise ValueError(f"{method.name} is given twice: give it once.")
            for what, mine, theirs in (
                ("replace", method.replaces, other.replaces),
                ("add the part", method.adds, other.adds),
                ("add the term", method.terms, other.terms),
            ):
                shared = set(method.asks) & set(other.asks)
                if clash := sorted((set(mine) & set(theirs)) - shared):
                    raise ValueError(f"{other.name} and {method.name} both {what} {clash[0]!r}: use one of them.")


def _as_outliers(outliers: Any) -> Part:
    if isinstance(outliers, Part):
        return outliers
    if isinstance(outliers, Sequence) and len(outliers) and isinstance(outliers[0], Tensor | dict):
        outliers = outliers[0]
    if not isinstance(outliers, Tensor | dict):
        raise TypeError(f"outliers must be inputs or (inputs, labels), got {_describe(outliers)}.")
    if isinstance(outliers, dict):
        outliers, _ = without_labels(outliers)
    return Part(outliers)


def _items(inputs: Inputs) -> list[tuple[str, Tensor]]:
    return [(key, inputs[key]) for key in sorted(inputs)] if isinstance(inputs, dict) else [("", inputs)]


def _first(inputs: Inputs) -> Tensor:
    return _items(inputs)[0][1]


def _concatenated(inputs: Sequence[Inputs]) -> Inputs:
    if len(inputs) == 1:
        return inputs[0]
    if isinstance(inputs[0], dict):
        return {key: torch.cat([dict(_items(one))[key] for one in inputs]) for key in inputs[0]}
    return torch.cat([one for one in inputs if isinstance(one, Tensor)])


def _rank() -> int:
    return dist.get_rank() if dist.is_available() and dist.is_initialized() else 0


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def _describe(value: object) -> str:
    if isinstance(value, type):
        return f"the class {value.__name__}, which has to be called"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return f"{type(value).__name__} of {len(value)}"
    return type(value).__name__
