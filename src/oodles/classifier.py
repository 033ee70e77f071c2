"""A classifier is a backbone that gives features and a head that turns them into logits."""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import pairwise
from typing import Any, Literal, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.hooks import RemovableHandle

from oodles.checks import check_whole, readable
from oodles.layers import layers_that_stay, layers_that_train
from oodles.randomness import NEW_HEADS, random_seed
from oodles.spelling import shown

Inputs = Tensor | dict[str, Tensor]
Placed = TypeVar("Placed", bound=nn.Module)


def apply(module: nn.Module, inputs: Inputs) -> Tensor:
    """Run a module on inputs; a dictionary of them becomes keyword arguments."""
    result: Tensor = module(**inputs) if isinstance(inputs, Mapping) else module(inputs)
    return result


def first_of(inputs: Inputs) -> Tensor:
    """Return the inputs, or of a dictionary the tensor whose name comes first: all have as many rows."""
    return inputs[min(inputs)] if isinstance(inputs, Mapping) else inputs


def pieces_of(inputs: Inputs, rows: int) -> list[Inputs]:
    """Split inputs into pieces of so many rows, the last of which may have fewer; no rows are one piece."""
    if not isinstance(inputs, Mapping):
        return list(torch.split(inputs, rows))
    split = {name: torch.split(value, rows) for name, value in inputs.items()}
    return [dict(zip(split, piece, strict=True)) for piece in zip(*split.values(), strict=True)]


def device_of(module: nn.Module) -> torch.device:
    """Return the device of a module's tensors; the CPU where it has none."""
    tensors = [*module.parameters(), *module.buffers()]
    return tensors[0].device if tensors else torch.device("cpu")


def device_named(name: str) -> torch.device:
    """Return a device by its name; ``auto`` is a GPU where there is one.

    Raises:
        ValueError: for a device that is not there.
    """
    there = name if name != "auto" else "cuda" if torch.cuda.is_available() else "cpu"
    try:
        return torch.empty(0, device=there).device
    except (RuntimeError, AssertionError) as error:  # torch without a part asserts it
        raise ValueError(f"device must be auto, cpu or cuda, got {shown(name)}, which is not here.") from error


def frozen(module: nn.Module) -> AbstractContextManager[None]:
    """Set eval mode inside; afterwards every submodule is in its own mode again, also after an exception.

    Unlike ``module.eval(); …; module.train()`` this keeps a submodule that was already in eval mode, such as a
    frozen batch norm, in eval mode.
    """
    return in_mode(module, training=False)


@contextmanager
def in_mode(module: nn.Module, *, training: bool) -> Iterator[None]:
    """Set training or eval mode inside; afterwards every submodule is in its own mode again."""
    modes = [(submodule, submodule.training) for submodule in module.modules()]
    module.train(training)
    try:
        yield
    finally:
        for submodule, training in modes:
            submodule.training = training


class Normalize(nn.Module):
    """Subtracts a mean and divides by a standard deviation per channel or feature: the first layer of a classifier.

    Images travel in [0, 1] and vectors as they are, so that a trained classifier is complete by itself.

    Args:
        mean: one number per channel, or per feature, in the inputs' units.
        std: one positive number per channel or feature.
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

    def forward(self, inputs: Float[Tensor, "n c *sides"]) -> Float[Tensor, "n c *sides"]:
        if inputs.ndim == 2:
            return (inputs - self.mean.flatten()) / self.std.flatten()
        return (inputs - self.mean) / self.std


def unit_of_inputs(classifier: nn.Module, inputs: Tensor) -> Tensor | float:
    """Return one unit of what the network sees, in units of its inputs: the std of its ``Normalize``, or else 1."""
    std = next((module.std for module in classifier.modules() if isinstance(module, Normalize)), None)
    return 1.0 if std is None else std.flatten() if inputs.ndim == 2 else std


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
        self.origin: Mapping[str, Any] | None = None
        """How its network is built, where :func:`oodles.networks.build_network` has built it: its arguments."""
        self.input_name: str | None = None
        """The argument of the backbone that gets inputs which are one tensor; by default the first one."""
        self._split_at: str | None = None
        self._convolution: _Convolution | None = None
        self._watched: list[RemovableHandle] = []
        self.trains: list[str] = [""]
        """The layers of the backbone that train, all unless :meth:`train_only` was called, in their order."""
        self.stays: list[str] = []
        """The largest layers of the backbone in which nothing trains."""
        self.before: list[str] = []
        """Those of them before the first layer that trains."""
        self.batch_norm: Literal["training", "frozen"] = "training"
        """What batch norms of the backbone normalise by in training mode, see :meth:`train_only`."""
        self._frozen: list[nn.Parameter] = []

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

    def train_only(
        self, layers: str | Sequence[str], *, batch_norm: Literal["training", "frozen"] = "training"
    ) -> "Classifier":
        """Freeze all of the backbone but some layers, and return this classifier; a further call begins anew.

        Frozen layers have parameters that need no gradient, and stay in eval mode whatever :meth:`train` says: batch
        norms keep their statistics, dropout does nothing. The head, and those that methods add, always train.

        Args:
            layers: ``all``; ``head``, which freezes the whole backbone; ``last-block``, see
                :func:`oodles.layers.last_block`; or dotted names of layers, as the network itself has them.
            batch_norm: of the layers that train: in ``training`` they normalise by each batch; ``frozen`` they keep
                the means and variances that they have and normalise by these, while scales and shifts train.

        Raises:
            ValueError: for a name that no layer has, where nothing of the backbone would train, and another word.

        Example:
            >>> import torch
            >>> backbone = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.BatchNorm1d(4), torch.nn.Linear(4, 2))
            >>> classifier = Classifier(backbone, torch.nn.Linear(2, 3)).train_only("last-block")
            >>> [name for name, parameter in classifier.named_parameters() if parameter.requires_grad]
            ['backbone.2.weight', 'backbone.2.bias', 'head.weight', 'head.bias']
        """
        if batch_norm not in ("training", "frozen"):
            raise ValueError(f"batch_norm must be 'training' or 'frozen', got {shown(batch_norm)}.")
        self.batch_norm = batch_norm
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self.trains, self.stays, self.before, self._frozen = [""], [], [], []
        self.trains = layers_that_train(self.backbone, layers, self.layer_names())
        self.stays, self.before = layers_that_stay(self.backbone, self.trains)
        kept = {id(parameter) for name in self.trains for parameter in self.backbone.get_submodule(name).parameters()}
        self._frozen = [p for p in self.backbone.parameters() if p.requires_grad and id(p) not in kept]
        for parameter in self._frozen:
            parameter.requires_grad_(False)
        return self.train(self.training)

    def train(self, mode: bool = True) -> "Classifier":
        """Set training or eval mode; what :meth:`train_only` froze stays in eval mode."""
        super().train(mode)
        for name in self.stays:
            self.backbone.get_submodule(name).eval()
        if self.batch_norm == "frozen":
            for layer in self.backbone.modules():
                if getattr(layer, "running_mean", None) is not None:
                    layer.eval()
        return self

    def layer_names(self) -> dict[str, str]:
        """Return the names of the backbone's layers in it, by their names in the network that was made a classifier."""
        start, network = "", self.backbone
        if isinstance(network, nn.Sequential) and len(network) == 2 and isinstance(network[0], Normalize):
            _, (name, network) = network.named_children()
            start = f"{name}."
        start += "model." if isinstance(network, _Field) else ""
        names = [name for name, _ in self.backbone.named_modules() if name]
        return {name.removeprefix(start): name for name in names if name.startswith(start)}

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
        if self.input_name is not None and isinstance(inputs, Tensor):
            return apply(self.backbone, {self.input_name: inputs})
        return apply(self.backbone, inputs)

    def unnamed(self, inputs: Inputs) -> Inputs:
        """Return the only tensor of a dictionary, if it is floating point; the backbone gets it by that name.

        So methods and scores that change rows find them, and need not know how they are called.
        """
        if isinstance(inputs, Tensor) or len(inputs) != 1:
            return inputs
        ((name, only),) = inputs.items()
        if not only.is_floating_point():
            return inputs
        self.input_name = name
        return only

    def forward(self, inputs: Inputs) -> Tensor:
        """Return logits, (N, C) or (N, C, H, W)."""
        logits: Tensor = self.head(self.features(inputs))
        return logits

    @classmethod
    def split(cls, model: nn.Module, head: str, *, example: Inputs, output: str | int | None = None) -> "Classifier":
        """Make a classifier of any model, by naming its last layer; it takes the model over until :meth:`join`.

        The named layer is moved out of the model and becomes the head. That the two halves together still give the
        model's logits is checked on ``example``, in eval and in training mode; a model that fails is handed back
        unchanged. A 1×1 convolution whose result the model makes one row of, by pooling or flattening, becomes the
        linear layer that it is: features are (N, F) then.

        Args:
            model: gives logits, or an object, dictionary or tuple with the logits under ``output``.
            head: the dotted name of the last layer, as in ``model.get_submodule(head)``.
            example: a small batch of inputs on the model's device.
            output: the field, key or position that holds the logits, for models that return several things.

        Raises:
            TypeError: for an example that is no tensor and no dictionary.
            ValueError: where no such layer exists, it has no weights, runs more than once or not at all, or something
                after it changes its result (a softmax or a dropout, say); for a model that does not run on the
                example, has been split already, or is wrapped or compiled.

        Example:
            >>> import torch
            >>> model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 3))
            >>> Classifier.split(model, "1", example=torch.zeros(2, 1, 4, 4)).num_classes
            3
        """
        check_whole_model(model)
        layer = _layer(model, head)
        if not isinstance(example, Tensor | Mapping):
            raise TypeError(
                f"example must be a tensor of inputs, or a dictionary of them, got {type(example).__name__}: "
                "torch.as_tensor makes one of an array or a list."
            )
        if isinstance(output, bool) or not isinstance(output, str | int | None):
            raise TypeError(f"output must be a name or position in what the model returns, got {shown(output)}.")
        backbone = model if output is None else _Field(model, output)
        logits = _logits(model, example, output, training=False)
        with _drawn(layer, where=readable(logits, read_gpu=True) and not bool(logits.any())):
            logits, seen, late = _rehearsed(model, head, layer, example, output)
            several = _several(example)
            in_training = [_logits(model, several, output, training=True) for _ in range(2)]
            pools = isinstance(layer, _CONVOLUTIONS) and logits.ndim == 2
            convolution = _Convolution(layer, seen.shape[2:].numel()) if pools else None
            last = layer if convolution is None else convolution.head
            try:
                model.set_submodule(head, _Taken())
                halves = _Halves(backbone, last, head)
                features, joined = _run(halves, example, training=False)
                _check_same(head, joined, logits, "")
                if late:
                    raise ValueError(
                        f"The layer {head!r} must be the last one, but dropout {late[0]!r} follows: remove it."
                    )
                if same_logits(*in_training):  # or it draws random numbers that no seed of torch's repeats
                    joined = _run(halves, several, training=True)[1]
                    _check_same(head, joined, in_training[0], " in training mode")
            except BaseException:
                model.set_submodule(head, layer)
                raise
        classifier = cls(backbone, last, num_classes=logits.shape[1], num_features=features.shape[1])
        classifier._split_at = head
        classifier._convolution = convolution
        return classifier

    def normalized_by(self, normalize: nn.Module) -> "Classifier":
        """Run a layer before the backbone, and return this classifier; they are its ``normalize`` and ``network``."""
        inside = "network.model." if isinstance(self.backbone, _Field) else "network."
        self.backbone = nn.Sequential(OrderedDict(normalize=normalize, network=self.backbone))
        self._split_at = None if self._split_at is None else inside + self._split_at
        return self

    def own_names(self) -> dict[str, str]:
        """Return, by their names in this state, the names of tensors in the model that :meth:`split` took over."""
        if self._split_at is None:
            return {}
        behind = isinstance(self.backbone, nn.Sequential) and isinstance(self.backbone[0], Normalize)
        model = self.backbone.get_submodule("network") if behind else self.backbone
        around = ("network." if behind else "") + ("model." if isinstance(model, _Field) else "")
        head = self._split_at.removeprefix(around) if behind else self._split_at
        own = {}
        for name in self.state_dict():
            half, _, rest = name.partition(".")
            if half == "head":
                own[name] = f"{head}.{rest}"
            elif half != "heads" and not (behind and rest.startswith("normalize.")):
                own[name] = rest.removeprefix(around)
        return own

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
        head = self.head if self._convolution is None else self._convolution.of(self.head)
        model.set_submodule(self._split_at, head)
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

    def __init__(self, model: nn.Module, field: str | int):
        super().__init__()
        self.model = model
        self.field = field

    def forward(self, *args: Tensor, **inputs: Tensor) -> Tensor:
        return _picked(self.model(*args, **inputs), self.field)


class _Taken(nn.Identity):
    """Stands in a model where :meth:`Classifier.split` took the head out."""


class _Halves(nn.Module):
    """Features of a backbone, and what a head makes of them."""

    def __init__(self, backbone: nn.Module, head: nn.Module, name: str):
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.name = name

    def forward(self, *args: Tensor, **inputs: Tensor) -> tuple[Tensor, Tensor | None]:
        try:
            features = self.backbone(*args, **inputs)
        except Exception as error:
            raise ValueError(
                f"The layer {self.name!r} must be the last one, but the model does not run without it."
            ) from error
        try:
            logits: Tensor | None = self.head(features)
        except Exception:  # these are no features that it could read
            logits = None
        return features, logits


_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


class _Convolution:
    """A convolution at the end of a model that makes one row of its result, and the head that takes its place."""

    def __init__(self, layer: Any, places: int):
        self.layer: nn.Conv1d | nn.Conv2d | nn.Conv3d = layer
        self.places = places
        self.head: nn.Module = _as_linear(layer) if _is_plain(layer) and is_pointwise(layer) else _OnePlace(layer)

    def of(self, head: nn.Module) -> nn.Module:
        """Return the convolution, with the weights of the linear layer, or another head at every place."""
        if head is not self.head:
            if self.places > 1 and not isinstance(head, nn.Linear):
                raise ValueError(
                    f"The model pools what its last layer gives at {self.places} places, and {type(head).__name__} "
                    "gives something else there than of pooled features: use the classifier as it is."
                )
            return _EveryPlace(head)
        if isinstance(head, nn.Linear):
            weight = head.weight.detach().reshape(self.layer.weight.shape)
            self.layer.weight = nn.Parameter(weight, requires_grad=head.weight.requires_grad)
            self.layer.register_parameter("bias", head.bias)
            self.layer.train(head.training)
        return self.layer


def is_pointwise(layer: nn.Module) -> bool:
    """Tell whether a layer is linear, or a 1×1 convolution, which is one linear layer for every place."""
    if not isinstance(layer, _CONVOLUTIONS):
        return isinstance(layer, nn.Linear)
    padded = not isinstance(layer.padding, str) and any(layer.padding)  # by name, none where one pixel is read
    return layer.groups == 1 and {*layer.kernel_size, *layer.stride} == {1} and not padded


def _is_plain(layer: nn.Module) -> bool:
    """Tell whether a convolution is torch's own, so that its weights are all that there is to it."""
    return type(layer) in _CONVOLUTIONS and not layer._forward_pre_hooks and not layer._forward_hooks


def _as_linear(layer: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> nn.Linear:
    """Return the linear layer that a 1×1 convolution is, with its weights."""
    linear = nn.Linear(layer.in_channels, layer.out_channels, bias=layer.bias is not None, device="meta")
    linear.weight = nn.Parameter(layer.weight.detach().flatten(1), requires_grad=layer.weight.requires_grad)
    linear.bias = layer.bias  # type: ignore[assignment]  # a parameter, which stubs do not know
    return linear.train(layer.training)


class _OnePlace(nn.Module):
    """A convolution of features at one place, (N, F), with logits (N, C)."""

    def __init__(self, layer: nn.Conv1d | nn.Conv2d | nn.Conv3d):
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.layer(features.reshape(*features.shape, *(1 for _ in self.layer.kernel_size)))
        return logits.flatten(1)


class _EveryPlace(nn.Module):
    """A head that reads the channels at every place, (N, F) or (N, F, H, W)."""

    def __init__(self, head: nn.Module):
        super().__init__()
        self.head = head

    def forward(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features.movedim(1, -1)).movedim(-1, 1)
        return logits


def check_whole_model(model: nn.Module) -> None:
    """Refuse what is no module, or cannot be taken apart."""
    if not isinstance(model, nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}.")
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError("model must be an ordinary module, got TorchScript, which is compiled: split it before.")
    if isinstance(model, nn.DataParallel | nn.parallel.DistributedDataParallel):
        raise ValueError(
            f"model must be the network itself, got {type(model).__name__}: "
            "split model.module, and wrap the training step instead."
        )
    if isinstance(getattr(model, "_orig_mod", None), nn.Module):
        raise ValueError(
            "model must be the network itself, got what torch.compile made of it: split it before, and compile the "
            "training step instead."
        )
    if taken := [name for name, module in model.named_modules() if isinstance(module, _Taken)]:
        raise ValueError(
            f"model has been split already, and a classifier has its layer {taken[0]!r}: go on with that classifier, "
            "or call its join() first."
        )


def _layer(model: nn.Module, name: str) -> nn.Module:
    """Return the layer of that name, which must have weights."""
    try:
        layer = model.get_submodule(name) if isinstance(name, str) and name else None
    except (AttributeError, TypeError):
        layer = None
    if layer is None:
        names = [name for name, _ in model.named_modules() if name]
        raise ValueError(f"head must name a layer of the model, got {shown(name)}: its last ones are {names[-3:]}.")
    if next(layer.parameters(), None) is None and next(layer.buffers(), None) is None:
        quantized = "quantized" in type(layer).__module__
        raise ValueError(
            f"The layer {name!r} must have weights to be a head, and {type(layer).__name__} has none: "
            + ("it is quantised, so split the model before that." if quantized else "name the last one that has some.")
        )
    return layer


@contextmanager
def _drawn(layer: nn.Module, *, where: bool) -> Iterator[None]:
    """Give a layer random weights inside, where those that it has give zeros, which much of what follows would keep."""
    before = [(parameter, parameter.detach().clone()) for parameter in layer.parameters()] if where else []
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter, _ in before:
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in before:
                parameter.copy_(value)


def _rehearsed(
    model: nn.Module, head: str, layer: nn.Module, example: Inputs, output: str | int | None
) -> tuple[Tensor, Tensor, list[str]]:
    """Return a model's logits in eval mode, what a layer reads, which must run once, and the dropouts after it."""
    calls: list[Tensor] = []
    late: list[str] = []
    hooks = [layer.register_forward_hook(lambda _, args, result: calls.append(args[0] if args else result))]
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.dropout._DropoutNd) and not name.startswith(f"{head}."):
            hooks.append(module.register_forward_hook(lambda *_, name=name: late.append(name) if calls else None))
    try:
        logits = _logits(model, example, output, training=False)
    finally:
        for hook in hooks:
            hook.remove()
    if len(calls) != 1:
        raise ValueError(f"The layer {head!r} must run once in a forward pass, it ran {len(calls)} times.")
    return logits, calls[0], late


def _logits(model: nn.Module, example: Inputs, output: str | int | None, *, training: bool) -> Tensor:
    """Run a model on an example and return its logits, which must be some."""
    mode = " in training mode" if training else ""
    try:
        result = _run(model, example, training=training)
    except Exception as error:
        single = isinstance(example, Tensor) and example.ndim == 3
        hint = " (a single image needs another dimension, example[None])" if single else ""
        said = str(error).partition("\n")[0].rstrip(".")
        raise ValueError(f"The model must run on the example{mode}, {_shapes(example)}{hint}, but: {said}.") from error
    logits = result if output is None else _picked(result, output)
    if not isinstance(logits, Tensor):
        raise ValueError(f"The model must return a tensor of logits{mode}, got {_contents(logits)}.")
    if logits.ndim < 2 or logits.shape[:1] != first_of(example).shape[:1]:
        raise ValueError(
            f"The model must return logits of shape (N, C) or (N, C, H, W) for a batch of N rows, got "
            f"{tuple(logits.shape)} for {_shapes(example)}: the first dimension of both counts the rows."
        )
    if readable(logits, read_gpu=True) and not bool(logits.isfinite().all()):
        raise ValueError(
            f"The model's logits must be finite, got NaN or infinity{mode}: {_not_finite(model, example)}."
        )
    return logits


def _run(module: nn.Module, inputs: Inputs, *, training: bool) -> Any:
    """Run a module, with the same random numbers every time; modes, buffers and torch's generators stay as they are."""
    device = device_of(module)
    devices = [device] if device.type == "cuda" else []
    args, named = ((), dict(inputs)) if isinstance(inputs, Mapping) else ((inputs,), {})
    with in_mode(module, training=training), torch.no_grad(), torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(0)
        if devices:
            torch.cuda.default_generators[device.index].manual_seed(0)
        if any(nn.parameter.is_lazy(value) for value in (*module.parameters(), *module.buffers())):
            return apply(module, inputs)  # which makes them
        buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}
        return functional_call(module, buffers, args, named)


def _several(inputs: Inputs) -> Inputs:
    """Return at least two rows, as batch norm needs them in training mode."""
    if len(first_of(inputs)) != 1:
        return inputs
    if isinstance(inputs, Mapping):
        return {
            name: torch.cat([value, value]) if isinstance(value, Tensor) else value for name, value in inputs.items()
        }
    return torch.cat([inputs, inputs])


def _picked(result: object, field: str | int) -> Tensor:
    """Return the field, key or position of what a model returns."""
    value = None
    if isinstance(field, int):
        if isinstance(result, Sequence) and -len(result) <= field < len(result):
            value = result[field]
    else:
        value = result.get(field) if isinstance(result, Mapping) else getattr(result, field, None)
    if not isinstance(value, Tensor):
        raise ValueError(
            f"output must name a field of what the model returns, got {field!r}, and it returns {_contents(result)}."
        )
    return value


def _contents(result: object) -> str:
    """Say what a model returns besides a tensor, and how its logits are named."""
    kind = type(result).__name__
    names = list(result) if isinstance(result, Mapping) else getattr(result, "_fields", None)
    if names is None and not isinstance(result, Sequence):
        names = [name for name, value in getattr(result, "__dict__", {}).items() if isinstance(value, Tensor)]
    if names:
        likely = "logits" if "logits" in names else names[0]
        return f"{kind} with {', '.join(map(repr, names))}: name the one that holds logits, as in output={likely!r}"
    if isinstance(result, Sequence) and not isinstance(result, str):
        return f"a {kind} of {len(result)}: name the position of the logits, as in output=0"
    return kind


def _shapes(inputs: Inputs) -> str:
    """Say what an example is."""
    if isinstance(inputs, Mapping):
        return "{" + ", ".join(f"{name!r}: {_shapes(value)}" for name, value in inputs.items()) + "}"
    return (
        f"a tensor of shape {tuple(inputs.shape)} and type {inputs.dtype}"
        if isinstance(inputs, Tensor)
        else repr(inputs)
    )


def _not_finite(model: nn.Module, example: Inputs) -> str:
    """Say where numbers are not finite that make a model's logits so."""
    if isinstance(example, Tensor) and not bool(example.isfinite().all()):
        return "the example holds such numbers itself"
    for name, value in model.named_parameters():
        if not bool(value.isfinite().all()):
            return f"its weight {name!r} holds such numbers"
    return "do the inputs have the right scale"


def _check_same(head: str, logits: object, expected: object, mode: str) -> None:
    """Refuse a head after which something else happens."""
    if not (isinstance(logits, Tensor) and isinstance(expected, Tensor) and same_logits(logits, expected)):
        raise ValueError(
            f"The layer {head!r} must be the last one, but its result differs from the model's logits{mode}: remove "
            "what follows it (a softmax?), or name the field of the model's result that holds logits (output=…)."
        )


def same_logits(logits: object, expected: object) -> bool:
    """Tell whether logits are the same but for rounding; of those on the device ``meta``, whether shapes are."""
    if not (isinstance(logits, Tensor) and isinstance(expected, Tensor) and logits.shape == expected.shape):
        return False
    if not (logits.is_floating_point() and expected.is_floating_point()):
        return False
    if not readable(expected, read_gpu=True):
        return True
    step = max(torch.finfo(tensor.dtype).eps for tensor in (logits, expected) if tensor.is_floating_point())
    return torch.allclose(
        logits.double(), expected.double(), rtol=max(1e-4, 4 * step), atol=max(1e-5, step), equal_nan=True
    )
