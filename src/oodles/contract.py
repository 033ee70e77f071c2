"""The words of training, and the contract: a method is a difference from plain cross-entropy training."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar, Protocol

from torch import Generator, Tensor, nn
from torch.func import functional_call

from oodles.checks import check_places, shapes_checked
from oodles.classifier import Classifier, Inputs, first_of, frozen
from oodles.facts import HOOKS, REPLACED_ALONE, roles_read, things_replaced
from oodles.inference import Seen, see
from oodles.precision import at_least_float32
from oodles.randomness import generator_for
from oodles.targets import cross_entropy_of_checked, indexable


@dataclass(frozen=True)
class Paper:
    """Where a method comes from."""

    title: str
    authors: str
    venue: str
    year: int
    link: str
    code: str = ""


class WrongPart(TypeError):
    """A part lacks what a method takes from it; the step adds the method's name."""


@dataclass(frozen=True)
class Part:
    """Rows of one role: inputs, or features (N, F) that join those of ``id`` behind the backbone.

    Targets are class ids (N,), probabilities (N, C), or none; for dense prediction with the pixels' dimensions behind.
    """

    inputs: Inputs | None = None
    targets: Tensor | None = None
    features: Tensor | None = None
    valid: Tensor | None = None
    """Truth values, (N,) or (N, H, W), of the rows or pixels that count, none where all do: no term sees the others.

    What is made of these rows has to say it too, see :func:`valid_in_both`; targets of the others are arbitrary ones.
    """

    def __post_init__(self) -> None:
        if (self.inputs is None) == (self.features is None):
            got = "neither" if self.inputs is None else "both"
            raise ValueError(f"A part must have inputs or features, got {got}: give one of them.")
        inputs: Any = self.inputs
        if isinstance(inputs, Mapping) and not isinstance(inputs, dict):
            object.__setattr__(self, "inputs", dict(inputs))

    def __len__(self) -> int:
        return len(self.first)

    @property
    def first(self) -> Tensor:
        """Return the features, or else the first tensor of the inputs: its length is the number of rows."""
        if self.features is not None:
            return self.features
        return first_of(self.inputs)  # type: ignore[arg-type]  # without features there are inputs

    @property
    def rows(self) -> Tensor:
        """Return the inputs, if they are one floating-point tensor; raise ``WrongPart`` for others."""
        match self.inputs:
            case Tensor() as rows if rows.is_floating_point():
                return rows
            case Tensor() as rows:
                got = str(rows.dtype)
            case None:
                got = "features"
            case names:
                got = f"a dictionary of {', '.join(names)}"
        raise WrongPart(f"inputs must be one floating-point tensor, got {got}.")

    @property
    def labels(self) -> Tensor:
        """Return the targets; raise ``WrongPart`` where there are none."""
        if self.targets is None:
            raise WrongPart("targets must be class ids or probabilities, got none.")
        return self.targets

    def take(self, places: Tensor) -> "Part":
        """Return the rows at these places, whole numbers (N,), with their targets."""
        check_places(places, len(self))

        def taken(rows: Tensor | None) -> Tensor | None:
            if rows is None:
                return None
            there = places.to(rows.device, non_blocking=True)  # they may have been drawn on the CPU
            return indexable(rows).index_select(0, there).to(rows.dtype)

        given = self.inputs
        inputs: Any = {name: taken(rows) for name, rows in given.items()} if isinstance(given, dict) else taken(given)
        return Part(inputs, taken(self.targets), taken(self.features), taken(self.valid))


def valid_in_both(part: Part, places: Tensor | None, other: Part, places_of_other: Tensor) -> Tensor | None:
    """Return the rows or pixels that count in a mixture: those that count in what is mixed, and in what is mixed in.

    Args:
        part: rows that are mixed.
        places: the numbers (M,) of those taken from it; none for all in their order.
        other: rows that are mixed in.
        places_of_other: likewise, numbers (M,).
    """
    if part.valid is None and other.valid is None:
        return None
    if places is not None:
        check_places(places, len(part))
    check_places(places_of_other, len(other))
    if len(places_of_other) != (count := len(part) if places is None else len(places)):
        raise ValueError(f"places_of_other must be one for each of the {count} rows, got {len(places_of_other)}.")
    valid = part.valid if part.valid is None or places is None else part.valid.index_select(0, places)
    if other.valid is None:
        return valid
    mixed_in = other.valid.index_select(0, places_of_other)
    return mixed_in if valid is None else valid & mixed_in


@dataclass(frozen=True)
class Batch:
    """Parts by role (``id`` always, ``outliers`` if there are some, and those that methods add), and draws by name.

    Draws are random numbers; those with as many rows as the part ``id`` belong to its rows.
    """

    parts: Mapping[str, Part]
    draws: Mapping[str, Tensor] = field(default_factory=dict)
    weights: tuple[tuple[frozenset[str], Mapping[str, Tensor]], ...] = ()
    """For some roles, what their forward pass adds to the classifier's parameters, by name."""
    places: Mapping[str, Tensor] = field(default_factory=dict)
    """The numbers (M,) of the rows or pixels that count, by role, where some do not: a step finds them."""

    def __getitem__(self, role: str) -> Part:
        return self.parts[role]

    def __contains__(self, role: str) -> bool:
        return role in self.parts

    def counted(self, role: str, rows: Tensor) -> Tensor:
        """Return, of one thing for each row of a part's inputs, those of the rows that count, as targets are."""
        return rows.index_select(0, self.places[role]) if role in self.places else rows

    def with_part(self, role: str, part: Part) -> "Batch":
        """Return a batch in which ``role`` is ``part``; this one stays as it was."""
        return Batch({**self.parts, role: part}, self.draws, self.weights)

    def with_draws(self, **draws: Tensor) -> "Batch":
        """Return a batch with further random numbers, drawn before the forward pass for use after it."""
        return replace(self, draws={**self.draws, **draws})

    def with_weights(self, roles: Iterable[str], change: Mapping[str, Tensor]) -> "Batch":
        """Return a batch that forwards ``roles`` with ``change`` added to the classifier's parameters, by name."""
        names = frozenset([roles] if isinstance(roles, str) else roles)
        return replace(self, weights=(*self.weights, (names, change)))


@dataclass(frozen=True)
class Outputs:
    """Features and logits by role, outputs of further heads by head and role, and measures; in float32 at least."""

    features: Mapping[str, Tensor]
    logits: Mapping[str, Tensor]
    heads: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    measures: Mapping[str, Tensor] = field(default_factory=dict)
    """The measures that ``loss_terms`` gave; in ``after_update`` alone."""


@dataclass(frozen=True)
class Data:
    """The data of an epoch in batches of a fixed order, for methods that pass over them before it begins."""

    train: Iterable[Any] | None = None
    outliers: Iterable[Any] | None = None
    wild: Iterable[Any] | None = None


class Now:
    """All that a moment of training may know: the unwrapped classifier and, if eager, counters and generators.

    Args:
        classifier: the network that is trained.
        step: how many steps came before this one.
        epoch: the current epoch, from 0.
        epochs: how many there will be.
        seed: numbers and names on which, with ``step``, all random numbers depend.
        name: of the method, on which its own random numbers depend, too.
        rank: of the process, on which all random numbers but those of ``shared`` depend.
        class_weights: (C,), by which cross-entropies are weighted; the same for all classes unless given.
        scores: by role, the outlier score of the method that trains on this part.
        changers: methods that change outputs, in their order.
    """

    def __init__(
        self,
        classifier: Classifier,
        *,
        step: int | None = None,
        epoch: int | None = None,
        epochs: int | None = None,
        seed: Sequence[int | str] | None = None,
        name: str = "",
        rank: int = 0,
        class_weights: Tensor | None = None,
        scores: Mapping[str, str] | None = None,
        changers: "Sequence[Method]" = (),
    ):
        self.classifier = classifier
        self._class_weights = class_weights
        self._counters = {"step": step, "epoch": epoch, "epochs": epochs}
        self._seed = seed
        self._name = name
        self._rank = rank
        self._scores = scores or {}
        self._changers = changers

    @cached_property
    def generator(self) -> Generator:
        """Return a CPU generator of (seed, step, rank, method); from the forward pass on there is none."""
        return self.generator_of(self._name)

    @cached_property
    def shared(self) -> Generator:
        """Return a CPU generator of (seed, step, method), the same in every process, as for changes of weights."""
        return generator_for(*self._seeds(), self._name, "shared")

    def generator_of(self, what: str) -> Generator:
        """Make a CPU generator of (seed, step, rank, ``what``), for draws that several methods share."""
        return generator_for(*self._seeds(), self._rank, what)

    def _seeds(self) -> tuple[int | str, ...]:
        if self._seed is None:
            raise RuntimeError("Random numbers are drawn in change_batch; hand them on with batch.with_draws(…).")
        return (*self._seed, self.step)

    @property
    def step(self) -> int:
        """Return how many steps came before this one; like the epochs, unknown in the traced half."""
        return self._counter("step")

    @property
    def epoch(self) -> int:
        """Return the current epoch, from 0."""
        return self._counter("epoch")

    @property
    def epochs(self) -> int:
        """Return how many epochs there will be."""
        return self._counter("epochs")

    def over(self, share: float) -> bool:
        """Tell whether this share of the epochs is over, below 1, in whole ones: so the last epoch comes after it."""
        return self.epoch >= int(share * self.epochs)

    def _counter(self, which: str) -> int:
        count = self._counters[which]
        if count is None:  # traced, where a number that changes would be compiled anew every time
            raise RuntimeError("Steps and epochs are counted in change_batch; hand them on with batch.with_draws(…).")
        return count

    def score_of(self, role: str) -> str:
        """Name the outlier score of the method that trains on a part: of several, of the first one to act."""
        return self._scores.get(role, Method.score)

    def cross_entropy(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Return the mean cross-entropy of logits (N, C, …) to targets, weighted by class where the step says so.

        For terms of known classes, whose targets a step has checked.
        """
        return cross_entropy_of_checked(logits, targets, self._class_weights)

    def probe(self, features: Tensor) -> Tensor:
        """Return the last layer's logits of features (N, F) whose gradient ends there."""
        precision = next(self.classifier.parameters()).dtype
        return at_least_float32(self.classifier.head(features.detach().to(precision)))

    def logits(self, role: str, features: Tensor, outputs: Outputs, batch: Batch) -> Tensor:
        """Return the logits of other features (N, F) of a part, made as those of its own are: traced."""
        head = self.classifier.head
        precision = next(self.classifier.parameters()).dtype
        weights = {
            name.removeprefix("head."): head.get_parameter(name.removeprefix("head.")) + more
            for roles, change in batch.weights
            for name, more in change.items()
            if role in roles and name.startswith("head.")
        }
        rows = features.to(precision)
        z = at_least_float32(functional_call(head, weights, (rows,)) if weights else head(rows))
        others = replace(outputs, features={**outputs.features, role: features}, logits={**outputs.logits, role: z})
        for method in self._changers:
            others = method.change_outputs(others, batch, self)
        return others.logits[role]

    def frozen(self) -> Any:
        """Return a context in which the classifier is in eval mode and its statistics stay as they are."""
        return frozen(self.classifier)

    def seen(self, inputs: Inputs, rows: int = 1024) -> Seen:
        """Return features, logits and heads of inputs, as float32: in eval mode, no gradients, ``rows`` at once."""
        return see(self.classifier, inputs, rows)


Terms = Mapping[str, Tensor]
Rows = Mapping[str, slice]
"""The place of each part among the rows that are forwarded together."""


class Gradient(Protocol):
    """Computes gradients in the classifier's parameters, by name, as means over processes."""

    def __call__(self, batch: Batch, of: Callable[[Outputs], Tensor] | None = None) -> dict[str, Tensor]:
        """Return the gradient of a batch's loss, or ``of`` another number that is made of its outputs."""
        ...


class Method(nn.Module):
    """A difference from plain cross-entropy training: override the moments that change, and nothing else.

    The facts are literals in the class body; the command line, the tables and the documentation come from them.
    """

    name: ClassVar[str]
    """The name on the command line and in recipes."""
    paper: ClassVar[Paper]
    score: ClassVar[str] = "msp"
    """The outlier score that the paper uses."""
    strength: ClassVar[str | None] = None
    """The hyper-parameter that switches the method off at zero."""
    needs: ClassVar[tuple[str, ...]] = ()
    """What must be there: the parts ``outliers`` or ``wild``, ``images`` (floating point, (N, C, H, W)),
    ``unit-range`` (inputs in [0, 1]), ``vectors`` (features (N, F), one label a row), ``linear-head`` (a last layer
    that gives W·h + b), ``weights`` (of a trained classifier, which a run has to start from), or ``teacher`` (a trained
    classifier, which is no setting but an argument of that name)."""
    adds: ClassVar[tuple[str, ...]] = ()
    """Roles that it adds to a batch; to a part that is there, such as ``outliers``, it may add rows."""
    shares: ClassVar[tuple[str, ...]] = ()
    """Of these roles, those that several methods may add and only the first one makes."""
    views: ClassVar[tuple[str, ...]] = ()
    """Of these roles, those whose rows are other views of the rows of ``id``, compared with them one by one."""
    consumes: ClassVar[tuple[str, ...]] = ()
    """Of the roles that it needs, those from which it makes parts and whose outputs it does not read."""
    terms: ClassVar[tuple[str, ...]] = ()
    """Named terms that it adds to the loss."""
    measures: ClassVar[tuple[str, ...]] = ()
    """Named numbers that it gives with the terms: logged, and not added to the loss."""
    heads: ClassVar[tuple[str, ...]] = ()
    """Further heads that the classifier gets, shared with other methods, as is a term of the same name."""
    replaces: ClassVar[tuple[str, ...]] = ()
    """Things that it replaces, which no second method may; those that follow from its hooks are added."""
    trains_away: ClassVar[tuple[str, ...]] = ()
    """Scores that it leaves nothing to see: they stand in tables with a remark."""
    separate: ClassVar[tuple[str, ...]] = ()
    """Roles that are forwarded apart from the others."""
    as_tested: ClassVar[tuple[str, ...]] = ()
    """Roles that are forwarded as at test time, together: in eval mode and without autocast, and no method changes
    their outputs."""
    differentiates: ClassVar[tuple[str, ...]] = ()
    """Roles in whose inputs, one floating-point tensor, its terms differentiate: in ``loss_terms`` these record
    gradients, whatever other methods have made of them."""
    suggests: ClassVar[tuple[str, ...]] = ()
    """The hyper-parameters that :meth:`suggest` measures."""
    measured_on: ClassVar[tuple[str, ...]] = ("train", "validation")
    """The sets of a suite whose rows :meth:`suggest` gets as in-distribution rows."""
    reads: ClassVar[tuple[str, ...]] = ("id",)
    """Derived: roles whose outputs it reads; a part that no method reads is not forwarded."""
    moments: ClassVar[tuple[str, ...]] = ()
    """Derived: the hooks that it overrides."""

    alone: bool = False
    """A setting of methods whose papers train without cross-entropy: where it is true, the step's cross-entropy reaches
    the last layer alone, as an online probe, and the features learn from the methods' terms."""

    _declared: ClassVar[tuple[str, ...]]
    """What it replaces by its own word."""

    def __init_subclass__(cls, **settings: Any) -> None:
        super().__init_subclass__(**settings)
        if "forward" in vars(cls):
            cls.forward = shapes_checked(cls.forward)
        cls.moments = tuple(hook for hook in HOOKS if getattr(cls, hook) is not getattr(Method, hook))
        cls._declared = vars(cls).get("replaces", getattr(cls, "_declared", ()))
        facts = cls._declared, cls.needs, cls.adds, cls.consumes
        if all(isinstance(fact, tuple | list) for fact in facts):  # others are refused when a step is built
            cls.replaces = things_replaced(cls._declared, cls.moments)
            if "reads" not in vars(cls):
                cls.reads = roles_read(cls.needs, cls.adds, cls.consumes)

    @property
    def active(self) -> bool:
        """Tell whether the method acts: at strength zero, the run is plain training bit for bit."""
        return self.strength is None or getattr(self, self.strength) != 0

    @property
    def replaced(self) -> tuple[str, ...]:
        """Return what it replaces with its settings; where it trains alone, whoever changes the loss would be idle."""
        return tuple(dict.fromkeys((*self.replaces, *(REPLACED_ALONE if self.alone else ()))))

    @classmethod
    def suggest(
        cls, classifier: Classifier, id_loader: Any, outlier_loader: Any, *, ignore_index: int | None = None
    ) -> dict[str, Any]:
        """Measure hyper-parameters on a trained classifier, for methods whose defaults depend on its scale."""
        return {}

    def change_classifier(self, classifier: Classifier) -> None:
        """Replace the head, add heads, make the method's own tensors, now that shapes are known: before training.

        What the trained classifier keeps goes into the classifier, what only training needs into the method. A second
        call changes nothing. New weights are drawn from torch's generator, which the step seeds.
        """

    def parameter_groups(self, classifier: Classifier) -> Sequence[Mapping[str, Any]]:
        """Name parameters with a ``weight_decay`` of their own, or a ``learning_rate`` as a multiple of the others'."""
        return ()

    def start_epoch(self, data: Data, now: Now) -> None:
        """Pass over data and keep the results in buffers, which are saved: eager, before each epoch."""

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        """Make new inputs, targets, parts or draws: eager, before the forward pass.

        Methods take turns that follow from their facts, see :func:`oodles.facts.turn`.
        """
        return batch

    def change_weights(self, batch: Batch, gradient: Gradient, now: Now) -> Batch:
        """Forward some roles with other weights, by ``batch.with_weights(…)``: eager, when the batch is complete."""
        return batch

    def layers(self, classifier: Classifier) -> tuple[str, ...]:
        """Name the backbone's layers whose results :meth:`change_hidden` changes."""
        return ()

    def change_hidden(self, hidden: Tensor, layer: str, rows: Rows, batch: Batch) -> Tensor:
        """Change a layer's result for all rows that are forwarded together: traced, inside the forward pass."""
        return hidden

    def change_outputs(self, outputs: Outputs, batch: Batch, now: Now) -> Outputs:
        """Change the features or logits of every part: traced, after the forward pass."""
        return outputs

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        """Return the method's own terms and measures, scalars by name: traced; a term left out counts as zero."""
        return {}

    def change_sum(self, terms: Terms, now: Now) -> Terms:
        """Add the term that turns the sum of all terms into another function of it: traced."""
        return terms

    def after_update(self, outputs: Outputs, batch: Batch, now: Now) -> None:
        """Update moving averages and controllers: eager, after the optimizer; outputs have no graph."""
