"""Networks by name, from a function of one's own, or modules that are there, as classifiers."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from oodles.classifier import Classifier, Normalize, check_whole_model, frozen, is_pointwise
from oodles.importing import function_at
from oodles.networks.libraries import Guest, build_guest, library_of
from oodles.spelling import suggestion

__all__ = [
    "NETWORKS",
    "Network",
    "brings_weights",
    "build_network",
    "is_own_code",
    "network_name",
    "share_of_own_weights",
]

Network = str | nn.Module | Callable[..., Any]
"""The name of a network, a module or classifier, or a function that builds one; see :func:`build_network`."""

NETWORKS = {
    "small-cnn": "oodles.networks.small_cnn:small_cnn",
    "cnn-6": "oodles.networks.cnn_6:cnn_6",
    "resnet-18": "oodles.networks.resnet_18:resnet_18",
    "wrn-40-2": "oodles.networks.wrn_40_2:wrn_40_2",
    "efficientnet-lite0": "oodles.networks.efficientnet_lite0:efficientnet_lite0",
    "mlp": "oodles.networks.mlp:mlp",
}
"""Name -> function of ``num_classes`` and ``input_shape``."""
FOR_IMAGES, FOR_VECTORS = "small-cnn", "mlp"
"""Those that are taken where none is named."""
PRETRAINED = ("efficientnet-lite0",)
"""Those that have trained weights."""


def network_name(network: Network) -> str:
    """Return the name under which a run remembers its network: for what was given from Python, its class or function.

    Functions that can be imported have the name by which they are.
    """
    if isinstance(network, str):
        match library_of(network):
            case "hf":
                return f"hf:{Path(network.removeprefix('hf:')).resolve()}"
            case "onnx":
                return str(Path(network).resolve())
        return network
    if isinstance(network, nn.Module):
        return f"module {type(network).__name__}"
    return f"{getattr(network, '__module__', '')}:{getattr(network, '__qualname__', type(network).__name__)}"


def is_own_code(name: str) -> bool:
    """Say whether a network's name stands for code of a user's own, which is imported only if the user names it."""
    return name not in NETWORKS and library_of(name) is None


def brings_weights(network: Network) -> bool:
    """Say whether a network has trained weights when it is built, its last layer perhaps aside."""
    if not isinstance(network, str):
        return isinstance(network, nn.Module)
    return network in PRETRAINED or library_of(network) in ("hf", "onnx")


def share_of_own_weights(network: Network, *, num_classes: int, input_shape: tuple[int, ...]) -> float:
    """Return which share of a network's weights are there when it is built, and do not follow torch's seed."""
    built = []
    with torch.random.fork_rng(devices=[]):
        for seed in (1, 2):
            torch.default_generator.manual_seed(seed)
            built.append(dict(_built(network, num_classes, input_shape).model.named_parameters()))
    pairs = [(value, built[1][name]) for name, value in built[0].items() if value.ndim > 1 and name in built[1]]
    same = sum(first.numel() for first, second in pairs if torch.equal(first, second))
    return same / max(sum(first.numel() for first, _ in pairs), 1)


def build_network(
    network: Network,
    *,
    num_classes: int,
    input_shape: tuple[int, ...],
    mean: Sequence[float],
    std: Sequence[float],
    head: str | None = None,
    stated: bool = False,
) -> Classifier:
    """Build a classifier; new weights are drawn by torch's own seed.

    Args:
        network: a name in ``NETWORKS``; ``timm:NAME``, ``torchvision:NAME``, ``hf:FOLDER`` or ``FILE.onnx``, where
            these libraries are installed; ``package.module:function`` (the current folder counts), or such a function
            itself, which is called with ``num_classes=`` and ``input_shape=`` and gives a module, or a ready
            :class:`Classifier`; or a module or classifier, of which a copy is taken.
        num_classes: how many logits there must be.
        input_shape: (C, H, W) of the images, which travel in [0, 1]; or (F,) of feature vectors.
        mean: per channel; a module sees images normalised by it. A ready classifier sees them as they are, and a
            network of a library as its published weights were trained, where that is known.
        std: per channel, likewise.
        head: dotted name of the module's last layer; by default the ``nn.Linear`` or 1×1 convolution that runs last.
        stated: ``mean`` and ``std`` are those of this network, and no library knows better.

    Raises:
        ImportError: for a network of a library that is not installed.
        ValueError: for a network that is not found, cannot be called so, or is no classifier of these classes.
    """
    name = network_name(network)
    guest = _built(network, num_classes, input_shape)
    if isinstance(guest.model, Classifier):
        if head is not None:
            raise ValueError(f"{name} gives a Classifier, which has a head already: leave out head={head!r}.")
        if stated:
            raise ValueError(
                f"{name} gives a Classifier, which normalises images itself if it needs to, and another normalisation "
                "is given besides: leave out mean and std, or give the module inside."
            )
        classifier = guest.model
    else:
        if not stated and guest.mean and guest.std and len(guest.mean) == len(guest.std) == input_shape[0]:
            mean, std = guest.mean, guest.std
        classifier = _split(guest, name, head, Normalize(mean, std), input_shape)
    if classifier.num_classes != num_classes:
        raise ValueError(f"{name} must give {num_classes} logits, one per class, got {classifier.num_classes}.")
    sizes = {"num_classes": num_classes, "input_shape": list(input_shape), "mean": list(mean), "std": list(std)}
    if not isinstance(network, nn.Module):
        classifier.origin = {"network": name, **sizes, "head": head}
    return classifier


def _built(network: Network, num_classes: int, input_shape: tuple[int, ...]) -> Guest:
    """Build a network, or copy one that is there, so that it stays as it is."""
    if isinstance(network, nn.Module):
        return Guest(deepcopy(network))
    if isinstance(network, str) and library_of(network):
        return build_guest(network, num_classes, input_shape)
    function = _function(network) if isinstance(network, str) else network
    name = network_name(network)
    try:
        inspect.signature(function).bind(num_classes=num_classes, input_shape=input_shape)
    except TypeError as error:
        raise ValueError(f"{name} must accept num_classes= and input_shape=, but: {error}.") from None
    model = function(num_classes=num_classes, input_shape=input_shape)
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} must give an nn.Module or a Classifier, got {type(model).__name__}.")
    return Guest(model)


def _split(
    guest: Guest, network: str, head: str | None, normalize: Normalize, input_shape: tuple[int, ...]
) -> Classifier:
    images = normalize(torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)))
    last = head if head is not None else _last_layer(guest.model, images)
    if not last:
        check_whole_model(guest.model)
        raise ValueError(
            f"{network} has no nn.Linear and no 1×1 convolution to take for its last layer: name it with head=…."
        )
    try:
        classifier = Classifier.split(guest.model, last, example=images, output=guest.output)
        return classifier.normalized_by(normalize)
    except ValueError as error:
        hint = "" if head is not None else " Name another layer with head=… if this is not the last one."
        raise ValueError(f"{network} cannot be split: {error}{hint}") from error


def _last_layer(model: nn.Module, images: Tensor) -> str | None:
    """Return the name of the linear layer or 1×1 convolution that runs last; of a model that fails, of the last one."""
    layers = [(name, module) for name, module in model.named_modules() if is_pointwise(module)]
    ran = [name for name, _ in layers]
    hooks = [layer.register_forward_hook(lambda *_, name=name: ran.append(name)) for name, layer in layers]
    try:
        with frozen(model), torch.no_grad(), suppress(Exception):  # splitting it says what is wrong
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return ran[-1] if ran else None


def _function(network: str) -> Callable[..., Any]:
    if network not in NETWORKS and ":" not in network:
        hint = suggestion(network, NETWORKS, "for example my_networks:resnet.")
        raise ValueError(
            f"network must be one of {', '.join(NETWORKS)}, timm:…, torchvision:…, hf:…, ….onnx or "
            f"package.module:function, got {network!r}{hint}"
        )
    return function_at(NETWORKS.get(network, network), "network")
