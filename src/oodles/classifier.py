"""A classifier is a backbone that gives features and a head that turns them into logits."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import pairwise
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from oodles.checks import check_whole, shapes_checked
from oodles.randomness import NEW_HEADS, random_seed
from oodles.spelling import shown

Inputs = Tensor | dict[str, Tensor]
Placed = TypeVar("Placed", bound=nn.Module)


def apply(module: nn.Module, inputs: Inputs) -> Tensor:
    """Run a module on inputs; a dictionary of them becomes keyword arguments."""
    result: Tensor = module(**inputs) if isinstance(inputs, dict) else module(inputs)
    return result


def first_of(inputs: Inputs) -> Tensor:
    """Return the inputs, or of a dictionary the tensor whose name comes first: all have as many rows."""
    return inputs[min(inputs)] if isinstance(inputs, dict) else inputs


def pieces_of(inputs: Inputs, rows: int) -> list[Inputs]:
    """Split inputs into pieces of so many rows, the last of which may have fewer; no rows are one piece."""
    if not isinstance(inputs, dict):
        return list(torch.split(inputs, rows))
    split = {name: torch.split(value, rows) for name, value in inputs.items()}
    return [dict(zip(split, piece, strict=True)) for piece in zip(*split.values(), strict=True)]


def without_labels(inputs: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], Tensor | None]:
    """Split a dictionary batch into its inputs and what stands under ``labels``."""
    return {key: value for key, value in inputs.items() if key != "labels"}, inputs.get("labels")


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's tensors; the CPU where it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


@contextmanager
def frozen(module: nn.Module) -> Iterator[None]:
    """Set eval mode inside; afterwards every submodule is in its own mode again, also after an exception.

    Unlike ``module.eval(); …; module.train()`` this keeps a submodule that was already in eval mode, such as a
    frozen batch norm, in eval mode.
    """
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.eval()
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation per channel: the first layer of a classifier.

    Inputs travel in [0, 1], so that a trained classifier is complete by itself.

    Args:
        mean: one number per channel, in the inputs' units.
        std: one positive number per channel.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, mean: Sequence[float], std: Sequence[float]):
        super().__init__()
        finite = all(math.isfinite(value) for value in (*mean, *std))
        if len(mean) != len(std) or not finite or not all(value > 0 for value in std):
            raise ValueError(f"mean and std must be as many, std positive, got {tuple(mean)} and {tuple(std)}.")
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32).reshape(-1, 1, 1))

    def forward(self, inputs: Float[Tensor, "n c h w"]) -> Float[Tensor, "n c h w"]:
        return (inputs - self.mean) / self.std


class Classifier(nn.Module):
    """A network in two halves: ``head(backbone(inputs))`` are its logits.

    Dictionaries of inputs (token ids and a mask, say) are handed to the backbone as keyword arguments.

    Args:
        backbone: gives features, (N, F) or (N, F, H, W), from inputs.
        head: gives logits, (N, C) or (N, C, H, W), from features.
        num_classes: C; by default the head's ``out_features`` or ``out_channels``.
        num_features: F; by default the head's ``in_features`` or ``in_channels``. Only methods that add heads need it.

    Raises:
        ValueError: where the number of classes is neither given nor known to the head.

    Example:
        >>> import torch
        >>> classifier = Classifier(torch.nn.Flatten(), torch.nn.Linear(16, 3))
        >>> classifier(torch.zeros(2, 1, 4, 4)).shape, classifier.features(torch.zeros(2, 1, 4, 4)).shape
        (torch.Size([2, 3]), torch.Size([2, 16]))
    """

    def __init__(
        self, backbone: nn.Module, head: nn.Module, num_classes: int | None = None, num_features: int | None = None
    ):
        super().__init__()
        if num_classes is None:
            num_classes = _outputs(head)
        if num_features is not None:
            check_whole("num_features", num_features, low=1)
        if not isinstance(num_classes, int) or num_classes < 1:
            raise ValueError(
                f"num_classes must be a whole number of at least 1, got {shown(num_classes)}: "
                f"say Classifier(backbone, head, num_classes=…), since {type(head).__name__} does not tell."
            )
        self.backbone = backbone
        self.head = head
        self.heads = nn.ModuleDict()
        """Further heads, which methods have added: each reads the features, and scores read their outputs."""
        self.heads_seed: int | None = None
        """With a head's name, the seed of its weights; where there is none, torch's generator draws them."""
        self.num_classes = num_classes
        self._num_features = num_features or getattr(head, "in_features", None) or getattr(head, "in_channels", None)
        self.dense = isinstance(head, nn.Conv1d | nn.Conv2d | nn.Conv3d)
        """True where it was made with a head that predicts for each pixel."""
        self._split_at: str | None = None
        self._watched: list[RemovableHandle] = []

    @property
    def num_features(self) -> int:
        """F, the number of features.

        Raises:
            ValueError: where it was not given and the head does not tell.
        """
        if not isinstance(self._num_features, int):
            raise ValueError(
                f"num_features must be known to add or replace a head, and {type(self.head).__name__} does not tell: "
                "say Classifier(backbone, head, num_features=…)."
            )
        return self._num_features

    def watch(self, layer: str, hook: Callable[..., Tensor | None]) -> None:
        """Call ``hook(module, args, result)`` after a layer of the backbone, until :meth:`join`."""
        self._watched.append(self.backbone.get_submodule(layer).register_forward_hook(hook))

    def placed(self, module: Placed) -> Placed:
        """Move a new module, drawn on the CPU, to the device and precision of this classifier."""
        there = next(self.parameters(), None)
        tensors = [tensor for tensor in (*module.parameters(), *module.buffers()) if tensor.is_floating_point()]
        if there is None or all((new.device, new.dtype) == (there.device, there.dtype) for new in tensors):
            return module
        return module.to(there.device, there.dtype)

    def add_head(self, name: str, outputs: int, hidden: int | None = None) -> nn.Module:
        """Add a further head on the features, in ``heads``, beside the logits; one of that name stays.

        A head with buffers of its own is added by ``classifier.heads[name] = classifier.placed(module)``.

        Args:
            name: of the head. In a training step its weights depend on the seed and on this name alone.
            outputs: how many numbers it gives for each row.
            hidden: the width of a hidden layer with ReLU; a linear head has none.

        Raises:
            ValueError: for a name or sizes that no head can have, where the number of features is not known, or where
                the head of that name has other sizes.
        """
        if not name or "." in name:
            raise ValueError(f"The name of a head must be one word without dots, got {name!r}.")
        check_whole("outputs", outputs, low=1)
        check_whole("hidden", 1 if hidden is None else hidden, low=1)
        sizes = [self.num_features, *([] if hidden is None else [hidden]), outputs]
        if name not in self.heads:
            with self._drawing_head(name):
                self.heads[name] = self.placed(_layers(sizes, dense=self.dense))
        head = self.heads[name]
        there = _sizes(head)
        if there != sizes and not (there[0] is None and there[1] == outputs and hidden is None):
            raise ValueError(
                f"The classifier has a head {name!r} of sizes {there}, and {sizes} are wanted: give it another name."
            )
        return head

    @contextmanager
    def _drawing_head(self, name: str) -> Iterator[None]:
        """Draw weights inside that do not depend on which head is added first, where a seed is known."""
        if self.heads_seed is None:
            yield
            return
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(random_seed(self.heads_seed, name, NEW_HEADS))
            yield

    def features(self, inputs: Inputs) -> Tensor:
        """Return features, the input of the head: (N, F) or (N, F, H, W)."""
        return apply(self.backbone, inputs)

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits, (N, C) or (N, C, H, W)."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    @classmethod
    @shapes_checked
    def split(cls, model: nn.Module, head: str, *, example: Inputs, output: str | None = None) -> "Classifier":
        """Make a classifier of any model, by naming its last layer; it takes the model over until :meth:`join`.

        The named layer is moved out of the model and becomes the head. That the two halves together still give the
        model's logits is checked on ``example``, in eval mode; a model that fails is handed back unchanged.

        Args:
            model: gives logits, or an object or dictionary with the logits under ``output``.
            head: the dotted name of the last layer, as in ``model.get_submodule(head)``.
            example: a small batch of inputs on the model's device.
            output: the field that holds the logits, for models that return several things.

        Raises:
            ValueError: where no such layer exists, it runs more than once or not at all, or something after it
                changes its result (a softmax or a dropout, say).

        Example:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
            >>> Classifier.split(model, "1", example=torch.zeros(2, 1, 4, 4)).num_classes
            3
        """
        try:
            layer = model.get_submodule(head) if head else None
        except AttributeError:
            layer = None
        if layer is None:
            names = [name for name, _ in model.named_modules() if name]
            raise ValueError(f"head must name a layer of the model, got {head!r}: its last ones are {names[-3:]}.")
        if not isinstance(example, Tensor | dict) or (isinstance(example, dict) and not example):
            raise TypeError(f"example must be a tensor of inputs, or a dictionary of them, got {shown(example)}.")
        backbone = _Field(model, output) if output else model
        calls: list[None] = []
        late: list[str] = []
        hooks = [layer.register_forward_hook(lambda *_: calls.append(None))]
        for name, module in model.named_modules():
            if isinstance(module, nn.modules.dropout._DropoutNd) and not name.startswith(f"{head}."):
                hooks.append(module.register_forward_hook(lambda *_, name=name: late.append(name) if calls else None))
        with frozen(model), torch.no_grad():
            try:
                expected = apply(backbone, example)
            finally:
                for hook in hooks:
                    hook.remove()
            try:
                model.set_submodule(head, nn.Identity())
                features = _run_without(head, backbone, example)
                _check_last(head, layer, features, expected, len(calls), late)
            except BaseException:
                model.set_submodule(head, layer)
                raise
        classifier = cls(backbone, layer, num_classes=expected.shape[1], num_features=features.shape[1])
        classifier._split_at = head
        return classifier

    def join(self) -> nn.Module:
        """Put the head back and return the model that :meth:`split` took over, now trained.

        The classifier is of no use afterwards; split the model again to train on. A head that a method has put in the
        place of the model's goes with the model, further heads do not: scores that look at them need the classifier.

        Raises:
            ValueError: for a classifier that :meth:`split` did not make.
        """
        if self._split_at is None:
            raise ValueError("Only a classifier made by Classifier.split can be joined; use it as it is.")
        for hook in self._watched:
            hook.remove()
        model = self.backbone.model if isinstance(self.backbone, _Field) else self.backbone
        model.set_submodule(self._split_at, self.head)
        return model


def _layers(sizes: Sequence[int], *, dense: bool) -> nn.Module:
    """Make linear layers of these sizes with ReLU between them; for each pixel where the classifier is dense."""
    layers: list[nn.Module] = []
    for size in pairwise(sizes):
        layers += [nn.ReLU()] * bool(layers)
        layers.append(nn.Conv2d(*size, kernel_size=1) if dense else nn.Linear(*size))
    return layers[0] if len(layers) == 1 else nn.Sequential(*layers)


def _outputs(head: nn.Module) -> int | None:
    """Return how many numbers a layer gives, where it tells."""
    return getattr(head, "out_features", None) or getattr(head, "out_channels", None)


def _sizes(head: nn.Module) -> Sequence[int | None]:
    """Return how many numbers each layer of a head reads and how many the last one gives, as far as it tells."""
    layers = [layer for layer in head.modules() if isinstance(layer, nn.Linear | nn.Conv2d)]
    if not (layers and isinstance(head, nn.Sequential)):
        return [getattr(head, "in_features", None) or getattr(head, "in_channels", None), _outputs(head)]
    return [layer.weight.shape[1] for layer in layers] + [layer.weight.shape[0] for layer in layers[-1:]]


class _Field(nn.Module):
    """One field of what a model returns."""

    def __init__(self, model: nn.Module, field: str):
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, *args: Tensor, **inputs: Tensor) -> Tensor:
        result = self.model(*args, **inputs)
        value = result.get(self.field) if isinstance(result, dict) else getattr(result, self.field, None)
        if not isinstance(value, Tensor):
            raise ValueError(f"output must name a field of what the model returns, got {self.field!r}.")
        return value


def _run_without(head: str, backbone: nn.Module, inputs: Inputs) -> Tensor:
    try:
        return apply(backbone, inputs)
    except Exception as error:
        raise ValueError(f"The layer {head!r} must be the last one, but the model does not run without it.") from error


def _check_last(head: str, layer: nn.Module, features: object, expected: object, calls: int, late: list[str]) -> None:
    """Refuse a head after which something else happens."""
    if calls != 1:
        raise ValueError(f"The layer {head!r} must run once in a forward pass, it ran {calls} times.")
    try:
        same = isinstance(features, Tensor) and isinstance(expected, Tensor) and _same(layer(features), expected)
    except RuntimeError:  # these are no features that it could read
        same = False
    if not same:
        raise ValueError(
            f"The layer {head!r} must be the last one, but its result differs from the model's logits: remove "
            "what follows it (a softmax?), or name the field of the model's result that holds logits (output=…)."
        )
    if late:
        raise ValueError(f"The layer {head!r} must be the last one, but dropout {late[0]!r} follows: remove it.")


def _same(logits: Tensor, expected: Tensor) -> bool:
    return logits.shape == expected.shape and torch.allclose(logits, expected, rtol=1e-4, atol=1e-5, equal_nan=True)
