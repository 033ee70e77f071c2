"""One step of training: the engine that calls the moments of methods in their order."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from types import FunctionType
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor, nn

from oodles.checks import (
    check_index,
    check_same_length,
    check_targets,
    check_whole,
    readable,
)
from oodles.classifier import Classifier, device_of
from oodles.contract import Batch, Data, Method, Now, Outputs, Terms, WrongPart
from oodles.facts import HOOKS, PLAIN_TERM, ROLES, check_composition, order, trains_on
from oodles.forward_pass import ForwardPass, Reading, valid_rows
from oodles.given import as_batch, check_runs, checked, describe, with_places
from oodles.heads import linear_head
from oodles.processes import process_count, rank, sum_over_processes
from oodles.randomness import NEW_EPOCH, NEW_HEADS, random_seed
from oodles.remarks import warn
from oodles.spelling import shown, suggestion

Given = TypeVar("Given")
_EAGER = {"change_batch", "change_weights"}
"""The hooks that every step calls before the forward pass."""
FIRST_STEPS = 20
"""The steps in which terms are compared with the cross-entropy."""
TOO_HEAVY = 50
"""So many times the cross-entropy is more than any method wants."""
LEAST = 1.0
"""The cross-entropy counts as this where it is less: that of a trained classifier is next to nothing, and any term of a
method that fine-tunes it is many times as large."""
_Losses = tuple[dict[str, Tensor], dict[str, Tensor], Outputs | None]
"""Terms, measures, and the outputs without their graph, if a method overrides ``after_update``."""


@dataclass(frozen=True)
class _Acting:
    """The methods that act, in the order of their turns, and what follows from which they are."""

    places: list[int]
    """Theirs among all methods: while these stay, so does the rest."""
    methods: tuple[Method, ...]
    names: tuple[str, ...]
    """On which their draws depend."""
    eager: tuple[tuple[Method, str], ...]
    """Those that change the batch or weights, with their names."""
    hooks: Mapping[str, tuple[Method, ...]]
    """By hook, those that override it."""
    reading: Reading
    made: frozenset[str]
    """The roles that they make."""
    plain: bool
    """Whether the cross-entropy is the step's own."""
    alone: bool
    """Whether it reaches the last layer alone."""
    slopes: tuple[tuple[Method, str], ...]
    """The roles in whose inputs they differentiate."""
    scores: Mapping[str, str]
    """By role, the score of the first one that trains on it."""

    @classmethod
    def of(cls, in_order: Sequence[tuple[Method, str]], places: list[int]) -> "_Acting":
        methods = tuple(in_order[place][0] for place in places)
        return cls(
            places,
            methods,
            tuple(in_order[place][1] for place in places),
            tuple(in_order[place] for place in places if _EAGER & set(in_order[place][0].moments)),
            {hook: tuple(method for method in methods if hook in method.moments) for hook in HOOKS},
            Reading.of(methods),
            frozenset(role for method in methods for role in method.adds),
            all("cross-entropy" not in method.replaces for method in methods),
            any(method.alone for method in methods),
            tuple((method, role) for method in methods for role in method.differentiates),
            {role: method.score for role in ROLES for method in reversed(methods) if trains_on(role, method)},
        )


class TrainingStep(nn.Module):
    """One step of training: cross-entropy on the in-distribution part, changed by methods.

    Calling it gives the named scalar terms of the loss; the loss is their sum. It is one module, so
    ``parameters()``, ``state_dict()``, ``DistributedDataParallel`` and ``torch.compile`` cover what methods own. Some
    methods replace or add heads, so make the optimizer after the step. The order in which methods are written has no
    meaning.

    Args:
        classifier: the network to train, see :class:`Classifier`.
        methods: differences from plain training; none at all is plain cross-entropy.
        seed: every random number of a step depends on (seed, step, rank, name of the method) alone.
        ignore_index: the class id of rows or pixels without a label, which no term sees: void pixels, say. What is made
            of the inputs without their labels, such as noise, has none of these.
        ood_index: the class id of unknown pixels in the in-distribution pictures: they are the outliers of a batch that
            is given without.
        class_weights: a positive number w for each class. The cross-entropy of known rows is then the weighted mean
            Σ Σ_c w_c·t_c·(−log p_c) / Σ Σ_c w_c·t_c, for targets t that are class ids or probabilities.

    Raises:
        TypeError: for a classifier, method or index of another type.
        ValueError: for methods that contradict themselves or cannot be combined, a seed below 0, or an index that is
            one of the classes.

    Example:
        >>> import torch
        >>> from oodles import Classifier, Mixup, OutlierExposure
        >>> classifier = Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> step = TrainingStep(classifier, Mixup(alpha=0.2), OutlierExposure(weight=0.5))
        >>> x, y, o = torch.rand(8, 1, 4, 4), torch.arange(8) % 3, torch.rand(4, 1, 4, 4)
        >>> list(step((x, y), outliers=o))
        ['cross_entropy', 'outlier_exposure']
    """

    class_weights: Tensor | None
    _prepare: ClassVar[Any]
    """The eager half, kept out of compiled graphs from the first step on."""

    def __init__(
        self,
        classifier: Classifier,
        *methods: Method,
        seed: int = 0,
        ignore_index: int | None = None,
        ood_index: int | None = None,
        class_weights: Sequence[float] | Tensor | None = None,
    ):
        super().__init__()
        if not isinstance(classifier, Classifier):
            raise TypeError(
                f"classifier must be a Classifier, got {type(classifier).__name__}: "
                "make one with Classifier.split(model, 'name.of.last.layer', example=inputs)."
            )
        if not isinstance(seed, int) or seed < 0:
            raise ValueError(f"seed must be a whole number of at least 0, got {seed!r}.")
        if any(nn.parameter.is_lazy(parameter) for parameter in classifier.parameters()):
            raise ValueError("The classifier has layers whose sizes are not known yet: call it on a batch first.")
        for method in methods:
            if not isinstance(method, Method):
                raise TypeError(f"methods must be instances of Method, got {describe(method)}.")
        check_composition(methods)
        check_index("ignore_index", ignore_index, classifier.num_classes)
        check_index("ood_index", ood_index, classifier.num_classes)
        self.classifier = classifier
        self.methods = nn.ModuleList(methods)
        self.seed = seed
        self.ignore_index, self.ood_index = ignore_index, ood_index
        # not among what is saved: it is a setting
        self.register_buffer("class_weights", _weights(class_weights, classifier, methods), persistent=False)
        self.steps = 0
        self.epoch, self.epochs = 0, 1
        self.measures: dict[str, Tensor] = {}
        """The measures of the last batch, by name."""
        names = _number_repeated([method.name for method in methods])
        self._in_order = tuple((methods[index], names[index]) for index in order(methods))
        self._checked = False
        self._heavy: set[str] = set()  # terms of which it was said that they outweigh the cross-entropy
        self._started = self._restored = -1  # epochs: the last one started, and the one in which loaded state was saved
        self._losses: Callable[[TrainingStep, Batch], _Losses] = _losses
        self._last: tuple[Outputs, Batch] | None = None
        self._known: _Acting | None = None
        self._forward = ForwardPass(classifier, self._active())
        with _restored_on_error(classifier), torch.random.fork_rng(devices=[]):
            classifier.heads_seed = seed
            # who moves weights comes last, since it may make tensors like those of a head that another one replaces
            for method, name in sorted(self._active_with_names(), key=lambda acting: "weights" in acting[0].replaces):
                torch.default_generator.manual_seed(random_seed(seed, name, NEW_HEADS))
                _check_needs(method, classifier)
                head = classifier.head
                method.change_classifier(classifier)
                if classifier.head is not head and "head" not in method.replaces:
                    raise ValueError(
                        f"{method.name} puts {type(classifier.head).__name__} in the place of the last layer and does "
                        "not say so: declare replaces = ('head',), or leave that layer as it is."
                    )
                if missing := [head for head in method.heads if head not in classifier.heads]:
                    raise ValueError(
                        f"{method.name} declares the head {missing[0]!r}, and its change_classifier adds none of that "
                        "name: call classifier.add_head(name, outputs)."
                    )
        self._forward.watch()
        if TrainingStep._prepare is _prepare:
            disable: Any = torch.compiler.disable  # only now: on import it would import all of the compiler
            TrainingStep._prepare = staticmethod(disable(_prepare))

    def forward(self, batch: Any, outliers: Any = None, wild: Any = None) -> dict[str, Tensor]:
        """Return the named terms for one batch.

        Args:
            batch: ``(inputs, targets)``, a dictionary of inputs and ``labels`` or ``label``, or a :class:`Batch`;
                inputs are a tensor or a dictionary of tensors, targets class ids (N,), probabilities (N, C), or both
                with further dimensions for dense prediction.
            outliers: inputs of outliers, or ``(inputs, anything)`` as a labelled loader gives them. In dense prediction
                ``(inputs, pixels)`` says which pixels are outliers, the others being left out: truth values (N, H, W),
                or class ids of which those of ``ood_index`` are, or else all but those of ``ignore_index``.
            wild: likewise, inputs some of which are outliers, unmarked.

        Raises:
            TypeError: for inputs of another kind than a method needs.
            ValueError: for labels outside the classes, different lengths, or a part that a method needs and lacks.
        """
        return self.losses(self.prepare(batch, outliers, wild))

    def prepare(self, batch: Any, outliers: Any = None, wild: Any = None) -> Batch:
        """Check a batch and let the methods change it: the eager half, where all random numbers are drawn."""
        prepared: Batch = self._prepare(self, batch, {"outliers": outliers, "wild": wild})
        return prepared

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Run one forward pass over the parts that are read and return the terms: no host sync, no draws, traced."""
        try:
            terms, measures, kept = self._losses(self, batch)
        except Exception:
            if self._losses is not _losses:
                _losses(self, batch)  # a refusal says its sentence, which a compiler hides
            check_runs(self.classifier, batch)
            raise
        if measures or self.measures:
            self.measures = measures
        if kept is not None:
            self._last = replace(kept, measures=self.measures), valid_rows(batch)
        self._weigh(terms)
        return terms

    def _weigh(self, terms: Mapping[str, Tensor]) -> None:
        """Warn of terms that outweigh the cross-entropy in the first steps; on a GPU, in the first one alone."""
        if torch.compiler.is_compiling() or self.steps > FIRST_STEPS or PLAIN_TERM not in terms:
            return
        if not readable(terms[PLAIN_TERM], read_gpu=self.steps == 1):
            return
        limit = TOO_HEAVY * max(float(terms[PLAIN_TERM].detach()), LEAST)
        for name, term in terms.items():
            if name not in self._heavy and float(term.detach()) > limit:
                self._heavy.add(name)
                owner = next((method for method in self._active() if name in method.terms), None)
                hint = (
                    f", or measure its settings with {type(owner).__name__}.suggest" if owner and owner.suggests else ""
                )
                warn(
                    f"The term {name!r} was more than {TOO_HEAVY} times the cross-entropy in the first steps of "
                    f"training: lower its weight{hint}."
                )

    def after_update(self) -> None:
        """Call the methods' ``after_update`` for the last batch, once; without this call, the next batch does it."""
        if self._last is not None:
            outputs, batch = self._last
            self._last = None
            with torch.no_grad(), torch.autocast(outputs.logits["id"].device.type, enabled=False):
                for method in self._acting().hooks["after_update"]:
                    method.after_update(outputs, batch, self._now(step=self.steps - 1))

    def start_epoch(self, epoch: int, epochs: int, data: Data | None = None) -> None:
        """Begin an epoch: note its number, and let methods look back at the last batch and pass over data.

        In an epoch in whose middle the loaded state was saved, methods keep what they computed when it began.

        Args:
            epoch: its number, from 0.
            epochs: how many there will be.
            data: batches in a fixed order, for methods that pass over them.

        Raises:
            TypeError: for data of another type.
            ValueError: for numbers that are not whole, or an epoch that is not below ``epochs``.
        """
        check_whole("epoch", epoch, low=0)
        check_whole("epochs", epochs, low=epoch + 1)
        if data is not None and not isinstance(data, Data):
            raise TypeError(f"data must be Data(train=…, outliers=…, wild=…), got {describe(data)}.")
        self.after_update()
        self.epoch, self.epochs = epoch, epochs
        resumed, self._restored, self._started = epoch == self._restored, -1, epoch
        for method, name in self._active_with_names():
            if not resumed:
                now = self._now(step=self.steps, seed=(self.seed, NEW_EPOCH), name=name, rank=rank())
                method.start_epoch(data or Data(), now)

    def parameter_groups(
        self, learning_rate: float, *, backbone: float = 1.0, head: float = 1.0, decay_exempt: bool = False
    ) -> list[dict[str, Any]]:
        """Return all parameters in groups for an optimizer: those with settings of a method's own are groups of theirs.

        Args:
            learning_rate: of all parameters for which nothing else is said.
            backbone: the learning rate of the backbone's parameters, as a multiple of this one.
            head: that of all others, likewise.
            decay_exempt: leave vectors and single numbers, which are biases and the parameters of norms, out of weight
                decay.

        Raises:
            ValueError: where two methods set the same parameter.

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
                        raise ValueError(
                            f"{other} and {method.name} both have settings for one parameter: use one of them."
                        )
                own["lr"] = learning_rate * own.pop("learning_rate", 1.0)
                groups.append(own)
        rest = [parameter for parameter in self.parameters() if id(parameter) not in taken]
        inside = {id(parameter) for parameter in self.classifier.backbone.parameters()}
        divided: list[dict[str, Any]] = []
        for group in ({"params": rest, "lr": learning_rate}, *groups):
            pieces: dict[tuple[float, bool], list[nn.Parameter]] = {}
            for parameter in group["params"]:
                multiple = backbone if id(parameter) in inside else head
                pieces.setdefault((multiple, decay_exempt and parameter.ndim <= 1), []).append(parameter)
            for (multiple, exempt), parameters in pieces.items():
                decay = {"weight_decay": 0.0} if exempt else {}
                divided.append({**group, "params": parameters, "lr": group["lr"] * multiple, **decay})
        return divided

    def compile(self, **options: Any) -> None:
        """Compile the traced half in one graph; ``options`` go to ``torch.compile``.

        Raises:
            ValueError: for a method that differentiates in its inputs, with a torch that cannot compile that.
        """
        # a copy, since torch limits how often one function is compiled, and steps differ
        losses = FunctionType(_losses.__code__.replace(), globals(), "losses")
        settings: Any = torch._dynamo.config
        slopes = self._acting().slopes
        if slopes and not hasattr(settings, "trace_autograd_ops"):
            raise ValueError(
                f"{slopes[0][0].name} differentiates in its inputs, which torch {torch.__version__} cannot compile: "
                "leave compile out, or take a newer torch."
            )
        compiled = torch.compile(losses, **{"fullgraph": True, **options})

        def tracing_slopes(step: TrainingStep, batch: Batch) -> _Losses:
            with settings.patch(trace_autograd_ops=True):
                result: _Losses = compiled(step, batch)
            return result

        self._losses = tracing_slopes if slopes else compiled

    def get_extra_state(self) -> Tensor:
        """Return the counters: with the seed, all that random numbers depend on."""
        if self._last is not None and process_count() > 1:
            raise RuntimeError("Call step.after_update() in every process before one of them saves the step's state.")
        self.after_update()  # before the methods' own state is read
        return torch.tensor([self.steps, self._started])

    def set_extra_state(self, state: Tensor) -> None:
        """Restore the counters."""
        self.steps, *started = state.flatten().tolist()
        self._started = self._restored = started[0] if started else -1  # earlier states know no epochs
        self._last = None

    def _acting(self) -> _Acting:
        """Return the active methods and what follows from them, worked out anew only when others are active."""
        places = [place for place, (method, _) in enumerate(self._in_order) if method.active]
        known = self._known
        if known is None or known.places != places:
            self._known = known = _Acting.of(self._in_order, places)
        return known

    def _active(self) -> tuple[Method, ...]:
        return self._acting().methods

    def _active_with_names(self) -> list[tuple[Method, str]]:
        """Return the active methods in the order of their turns, and the names on which their draws depend."""
        acting = self._acting()
        return list(zip(acting.methods, acting.names, strict=True))

    def _now(self, **known: Any) -> Now:
        return Now(self.classifier, epoch=self.epoch, epochs=self.epochs, scores=self._acting().scores, **known)


def _prepare(step: TrainingStep, batch: Any, others: Mapping[str, Any]) -> Batch:
    step.after_update()
    acting = step._acting()
    indices = {"ignore_index": step.ignore_index, "ood_index": step.ood_index}
    whole = as_batch(step.classifier, batch, others, **indices)
    given = whole = checked(whole, step.classifier.num_classes, acting.methods, acting.made, first=not step._checked)
    nows = {
        method: step._now(step=step.steps, seed=(step.seed,), name=name, rank=rank()) for method, name in acting.eager
    }
    for method in acting.hooks["change_batch"]:
        now = nows[method]
        with _naming(method):
            changed = _given(method, "change_batch", Batch, method.change_batch(whole, now))
        if taken := [name for name, draw in whole.draws.items() if changed.draws.get(name) is not draw]:
            raise ValueError(
                f"{method.name} replaces the draw {taken[0]!r} of another method: give its own another name."
            )
        whole = changed
    _check_made(step.classifier, whole, given, first=not step._checked)
    whole = with_places(whole, acting.methods, acting.reading.roles)
    if acting.slopes:
        whole = _with_slopes(whole, acting.slopes)
    for method in acting.hooks["change_weights"]:
        with _naming(method):
            changed = method.change_weights(whole, partial(_gradient, step), nows[method])
        whole = _given(method, "change_weights", Batch, changed)
    _check_weights(step.classifier, whole)
    step.steps += 1
    if not step._checked:
        step._checked = True
    return whole


TrainingStep._prepare = staticmethod(_prepare)


@contextmanager
def _naming(method: Method) -> Iterator[None]:
    """Name the method that asks of a part what it lacks."""
    try:
        yield
    except WrongPart as error:
        raise _named(method, error) from error


def _named(method: Method, error: WrongPart) -> WrongPart:
    return WrongPart(f"{method.name} cannot act on this batch: {error}")


def _given(method: Method, hook: str, kind: type[Given], value: Given) -> Given:
    """Return what a hook gave, where it is of the right kind; refuse others."""
    if not isinstance(value, kind):
        raise TypeError(f"{hook} of {method.name} must return a {kind.__name__}, got {describe(value)}.")
    return value


def _with_slopes(batch: Batch, slopes: Sequence[tuple[Method, str]]) -> Batch:
    """Return a batch in which inputs record gradients where a method differentiates in them."""
    parts = dict(batch.parts)
    for method, role in slopes:
        if role in parts:
            with _naming(method):
                parts[role] = replace(parts[role], inputs=parts[role].rows.detach().requires_grad_())
    return replace(batch, parts=parts)


def _check_made(classifier: Classifier, batch: Batch, given: Batch, *, first: bool) -> None:
    """Refuse parts that methods made with targets of other rows or, looked at in the ``first`` step alone, of no class;
    and features that fit no backbone's.
    """
    for role, part in batch.parts.items():
        if part.targets is not None and part is not given.parts.get(role):
            check_same_length(**{role: part.first, "targets": part.targets})
            if first:
                check_targets(f"targets of {role!r}", part.targets, classifier.num_classes, read_gpu=True)
            came_whole = role in given and given[role].valid is None
            if part.valid is None and given["id"].valid is not None and not came_whole:
                raise ValueError(
                    f"A method made the part {role!r} of rows or pixels some of which are void, and does not say which "
                    "of them count: give the part valid=…, see valid_in_both."
                )
        if part.features is not None and (classifier.dense or part.features.shape[1:] != (classifier.num_features,)):
            fits = "none where the head predicts pixels" if classifier.dense else f"(N, {classifier.num_features})"
            raise ValueError(f"Features of {role!r} must have shape {fits}, got {tuple(part.features.shape)}.")


def _check_weights(classifier: Classifier, batch: Batch) -> None:
    """Refuse changes of weights that the forward pass could not carry out."""
    if not batch.weights:
        return
    roles = [role for names, _ in batch.weights for role in sorted(names)]
    for role in roles:
        if role not in batch or roles.count(role) > 1:
            what = "has none of that name" if role not in batch else "has other weights for it already"
            raise ValueError(f"with_weights must name each role once, got {role!r}, and the batch {what}.")
    shapes = {name: parameter.shape for name, parameter in classifier.named_parameters(remove_duplicate=False)}
    for _, change in batch.weights:
        for name, more in change.items():
            if name not in shapes:
                raise ValueError(f"The classifier has no parameter {name!r} to change{suggestion(name, shapes)}")
            if more.shape != shapes[name]:
                raise ValueError(
                    f"A change of {name!r} must have shape {tuple(shapes[name])}, got {tuple(more.shape)}."
                )


def _outputs(step: TrainingStep, batch: Batch, now: Now) -> Outputs:
    """Run the forward pass, and let methods change its outputs."""
    acting = step._acting()
    outputs = step._forward(batch, acting.reading)
    if acting.hooks["change_outputs"]:
        valid, tested = valid_rows(batch), {role: outputs.logits[role] for role in acting.reading.tested}
        with torch.autocast(outputs.logits["id"].device.type, enabled=False):
            for method in acting.hooks["change_outputs"]:
                outputs = method.change_outputs(outputs, valid, now)
        if tested:
            outputs = replace(outputs, logits={**outputs.logits, **tested})
    return outputs


def _losses(step: TrainingStep, batch: Batch) -> _Losses:
    acting = step._acting()
    methods, hooks = acting.methods, acting.hooks
    now = Now(step.classifier, class_weights=step.class_weights, changers=hooks["change_outputs"])
    outputs = _outputs(step, batch, now)
    batch = valid_rows(batch)
    with torch.autocast(outputs.logits["id"].device.type, enabled=False):
        terms: Terms = {}
        if acting.plain:
            logits = now.probe(outputs.features["id"]) if acting.alone else outputs.logits["id"]
            terms = {PLAIN_TERM: now.cross_entropy(logits, batch["id"].labels)}
        measures: dict[str, Tensor] = {}
        for method in hooks["loss_terms"]:
            try:
                own = method.loss_terms(outputs, batch, now)
            except WrongPart as error:  # by hand, since not every compiler traces a context of our own
                raise _named(method, error) from error
            if not isinstance(own, Mapping):
                raise TypeError(f"loss_terms of {method.name} must return its terms by name, got {describe(own)}.")
            _check_declared(method, own, methods)
            measures |= {name: value.detach() for name, value in own.items() if name in method.measures}
            # methods that share a head share its term, and each of them gives it
            new = {name: value for name, value in own.items() if name in method.terms and name not in terms}
            terms = {**terms, **new}
        for method in hooks["change_sum"]:
            changed = method.change_sum(terms, now)
            _check_declared(method, {name: term for name, term in changed.items() if name not in terms}, methods)
            if any(changed.get(name) is not term for name, term in terms.items()):
                raise ValueError(f"change_sum of {method.name} must leave all terms as they are, and add its own.")
            terms = changed
    if not terms:
        raise ValueError("The loss has no terms: a method that replaces the cross-entropy must give one.")
    if not hooks["after_update"]:
        return dict(terms), measures, None
    heads = {name: _detach(by_role) for name, by_role in outputs.heads.items()}
    return dict(terms), measures, Outputs(_detach(outputs.features), _detach(outputs.logits), heads)


def _check_declared(method: Method, own: Terms, methods: Sequence[Method]) -> None:
    """Refuse a term or measure that a method does not declare, or that is no scalar."""
    known = (*method.terms, *method.measures)
    for name, value in own.items():
        if not isinstance(value, Tensor) or value.ndim:
            got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
            raise TypeError(f"{name} of {method.name} must be a tensor with a single number, got {got}: take its mean.")
        if name not in known:
            owners = [other.name for other in methods if name in (*other.terms, *other.measures)]
            whose = f"a term of {owners[0]}" if owners else "not among the terms that it declares"
            raise ValueError(f"{method.name} gives {name!r}, which is {whose}{suggestion(name, known, 'rename it.')}")


def _detach(by_role: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {role: value.detach() for role, value in by_role.items()}


def _gradient(step: TrainingStep, batch: Batch, of: Callable[[Outputs], Tensor] | None = None) -> dict[str, Tensor]:
    """Return a gradient in the classifier's parameters, the mean over processes; change nothing else."""
    parameters = {name: value for name, value in step.classifier.named_parameters() if value.requires_grad}
    buffers = [(buffer, buffer.clone()) for buffer in step.buffers()]
    device = device_of(step.classifier)
    try:
        with torch.enable_grad(), torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            if of is None:
                terms, _, _ = _losses(step, batch)
                loss = torch.stack(list(terms.values())).sum()
            else:
                outputs = _outputs(step, batch, Now(step.classifier))
                with torch.autocast(device.type, enabled=False):
                    loss = of(outputs)
            slopes = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
    finally:
        for buffer, before in buffers:
            buffer.data.copy_(before)  # by data, since a graph of an earlier batch may still hold the buffer
    with torch.no_grad():
        return {
            name: sum_over_processes(torch.zeros_like(value) if slope is None else slope) / process_count()
            for (name, value), slope in zip(parameters.items(), slopes, strict=True)
        }


def _weights(
    given: Sequence[float] | Tensor | None, classifier: Classifier, methods: Sequence[Method]
) -> Tensor | None:
    """Return the weights of classes as a tensor on the classifier's device; refuse those that no loss could use."""
    if given is None:
        return None
    weights = torch.as_tensor(given, dtype=torch.float32, device=device_of(classifier))
    if weights.shape != (classifier.num_classes,):
        raise ValueError(
            f"class_weights must be a number for each of the {classifier.num_classes} classes, "
            f"got {tuple(weights.shape) if weights.ndim != 1 else len(weights)}."
        )
    if not bool((weights.isfinite() & (weights > 0)).all()):
        raise ValueError(f"class_weights must be finite and above 0, got {shown(weights.tolist())}.")
    if replacing := [method.name for method in methods if method.active and "cross-entropy" in method.replaces]:
        raise ValueError(
            f"class_weights weigh the cross-entropy, and {replacing[0]} has another loss in its place: leave the "
            "weights out, or draw as many rows of each class (balanced_sampling)."
        )
    return weights


@contextmanager
def _restored_on_error(classifier: Classifier) -> Iterator[None]:
    """Restore the heads of a classifier that is refused."""
    head, heads, seed = classifier.head, dict(classifier.heads.items()), classifier.heads_seed
    try:
        yield
    except Exception:
        classifier.head, classifier.heads, classifier.heads_seed = head, nn.ModuleDict(heads), seed
        raise


def _check_needs(method: Method, classifier: Classifier) -> None:
    """Refuse a classifier whose head is for dense prediction, or not linear, where a method needs another, and a method
    that has no teacher and needs one.
    """
    if "vectors" in method.needs and classifier.dense:
        raise ValueError(
            f"{method.name} needs features of shape (N, F) and one label per row, got a head for dense prediction: "
            "leave the method out."
        )
    if "linear-head" in method.needs:
        linear_head(classifier, method.name)
    if "teacher" in method.needs and getattr(method, "teacher", None) is None:
        raise ValueError(
            f"{method.name} needs a teacher, got none: say {type(method).__name__}(teacher=…), a classifier that was "
            "trained on the same classes."
        )


def _number_repeated(names: Sequence[str]) -> list[str]:
    """Return the names, with a number behind every repeated one."""
    before = [names[:index].count(name) for index, name in enumerate(names)]
    return [f"{name} {count + 1}" if count else name for name, count in zip(names, before, strict=True)]
