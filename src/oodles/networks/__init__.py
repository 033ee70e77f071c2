"""Networks by name, or from a function of one's own, as classifiers."""

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from oodles.classifier import Classifier, Normalize, frozen, is_pointwise
from oodles.importing import function_at
from oodles.spelling import suggestion

__all__ = ["NETWORKS", "build_network"]

NETWORKS = {
    "small-cnn": "oodles.networks.small_cnn:small_cnn",
    "cnn-6": "oodles.networks.cnn_6:cnn_6",
    "resnet-18": "oodles.networks.resnet_18:resnet_18",
    "wrn-40-2": "oodles.networks.wrn_40_2:wrn_40_2",
    "efficientnet-lite0": "oodles.networks.efficientnet_lite0:efficientnet_lite0",
}
"""Name -> function of ``num_classes`` and ``input_shape``."""


def build_network(
    network: str,
    *,
    num_classes: int,
    input_shape: tuple[int, int, int],
    mean: Sequence[float],
    std: Sequence[float],
    head: str | None = None,
) -> Classifier:
    """Build a classifier with new weights, drawn by torch's own seed.

    Args:
        network: a name in ``NETWORKS``, or ``package.module:function`` (the current folder counts): a function that is
            called with ``num_classes=`` and ``input_shape=`` and gives a module, or a ready :class:`Classifier`.
        num_classes: how many logits there must be.
        input_shape: (C, H, W) of the images, which travel in [0, 1].
        mean: per channel; a module sees images normalised by it. A ready classifier sees them as they are.
        std: per channel, likewise.
        head: dotted name of the module's last layer; by default the ``nn.Linear`` or 1×1 convolution that runs last.

    Raises:
        ValueError: for a network that is not found, cannot be called so, or is no classifier of these classes.
    """
    function = _function(network)
    try:
        inspect.signature(function).bind(num_classes=num_classes, input_shape=input_shape)
    except TypeError as error:
        raise ValueError(f"{network} must accept num_classes= and input_shape=, but: {error}.") from None
    built = function(num_classes=num_classes, input_shape=input_shape)
    if isinstance(built, Classifier):
        if head is not None:
            raise ValueError(f"{network} gives a Classifier, which has a head already: leave out head={head!r}.")
        classifier = built
    elif isinstance(built, nn.Module):
        classifier = _split(built, network, head, Normalize(mean, std), input_shape)
    else:
        raise ValueError(f"{network} must give an nn.Module or a Classifier, got {type(built).__name__}.")
    if classifier.num_classes != num_classes:
        raise ValueError(f"{network} must give {num_classes} logits, one per class, got {classifier.num_classes}.")
    sizes = {"num_classes": num_classes, "input_shape": list(input_shape), "mean": list(mean), "std": list(std)}
    classifier.origin = {"network": network, **sizes, "head": head}
    return classifier


def _split(
    model: nn.Module, network: str, head: str | None, normalize: Normalize, input_shape: tuple[int, int, int]
) -> Classifier:
    images = normalize(torch.rand(2, *input_shape, generator=torch.Generator().manual_seed(0)))
    last = head if head is not None else _last_layer(model, images)
    if not last:
        raise ValueError(
            f"{network} has no nn.Linear and no 1×1 convolution to take for its last layer: name it with head=…."
        )
    try:
        return Classifier.split(model, last, example=images).normalized_by(normalize)
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
            f"network must be one of {', '.join(NETWORKS)} or package.module:function, got {network!r}{hint}"
        )
    return function_at(NETWORKS.get(network, network), "network")
