"""The layers of a network by name: those that train, and those that stay as they are."""

from collections.abc import Collection, Iterator, Mapping, Sequence

from torch import nn

from oodles.spelling import nearest, shown

LAST_BLOCK = "last-block"


def chain(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a network one behind another, with their names in it.

    They are its children, with those of an ``nn.Sequential`` or ``nn.ModuleList`` in the container's place. Of a
    network that has parameters in one child alone, such as a model behind a layer that normalises, they are its.
    """
    start = ""
    while len(inner := [(name, child) for name, child in network.named_children() if _learns(child)]) == 1:
        ((name, child),) = inner
        if not _learns_inside(child):
            break
        start, network = f"{start}{name}.", child
    for name, layer in _spread(network):
        yield start + name, layer


def last_block(network: nn.Module) -> list[str]:
    """Return the names of the layers of :func:`chain` from the last block on.

    A block is a layer that has several layers with weights inside, as residual ones do. Where there is none, the last
    layer with weights (a convolution or a linear layer) takes its place.
    """
    layers = list(chain(network))
    weighted = [
        place for place, (_, layer) in enumerate(layers) if any(weight.ndim > 1 for weight in layer.parameters())
    ]
    blocks = [place for place in weighted if len(_weighted_inside(layers[place][1])) > 1]
    first = max(blocks or weighted, default=len(layers))
    return [name for name, _ in layers[first:]]


def layers_that_train(network: nn.Module, wanted: str | Sequence[str], names: Mapping[str, str]) -> list[str]:
    """Return the names of the layers of a backbone that train, of a wish.

    Args:
        network: the backbone.
        wanted: ``all``, ``head`` (no layer of the backbone), ``last-block``, or names.
        names: of all layers in the network, by those that people know them by.

    Raises:
        ValueError: for a name that no layer has, and layers without parameters.
    """
    if wanted in ("all", "head"):
        return [""] if wanted == "all" else []
    chosen = last_block(network) if wanted == LAST_BLOCK else []
    for name in () if wanted == LAST_BLOCK else (wanted,) if isinstance(wanted, str) else wanted:
        if name not in names:
            near = nearest(name, names)
            raise ValueError(
                f"train_layers must be all, head, last-block or names of layers, got {shown(name)}: "
                + (f"did you mean {near!r}?" if near else f"there are {_listed(network, names)}.")
            )
        chosen.append(names[name])
    learning = [name for name in chosen if any(p.requires_grad for p in network.get_submodule(name).parameters())]
    if not learning:
        raise ValueError(
            f"train_layers leaves nothing to train, since {shown(wanted if isinstance(wanted, str) else wanted[0])} "
            f"has no parameters that learn: name others, there are {_listed(network, names)}."
        )
    return [name for name, _ in network.named_modules() if name in chosen]


def layers_that_stay(network: nn.Module, training: Collection[str]) -> tuple[list[str], list[str]]:
    """Return the names of the largest layers none of which trains, and of those that lie before the first that does.

    Layers in a list count one by one, since a list does not run itself. Behind the first layer that trains, those
    without parameters and buffers, such as a dropout before the head, do not count.
    """
    learning = {id(module) for name in training for module in network.get_submodule(name).modules()}
    stay: list[str] = []
    before: list[str] = []
    begun = False

    def walk(name: str, layer: nn.Module) -> None:
        nonlocal begun
        if id(layer) in learning:
            begun = True
        elif isinstance(layer, nn.ModuleList | nn.ModuleDict) or any(id(m) in learning for m in layer.modules()):
            for child_name, child in layer.named_children():
                walk(f"{name}.{child_name}".lstrip("."), child)
        else:
            if not begun:
                before.append(name)
            if not begun or any(True for _ in (*layer.parameters(), *layer.buffers())):
                stay.append(name)

    walk("", network)
    return stay, before


def _spread(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, child in network.named_children():
        if isinstance(child, nn.Sequential | nn.ModuleList):
            yield from ((f"{name}.{inner}", layer) for inner, layer in _spread(child))
        else:
            yield name, child


def _learns(layer: nn.Module) -> bool:
    return next(layer.parameters(), None) is not None


def _learns_inside(layer: nn.Module) -> bool:
    return any(_learns(child) for child in layer.children())


def _weighted_inside(layer: nn.Module) -> list[nn.Module]:
    """Return the layers inside that have weights of their own, and itself."""
    return [inner for inner in layer.modules() if any(weight.ndim > 1 for weight in inner.parameters(recurse=False))]


def _listed(network: nn.Module, names: Mapping[str, str]) -> str:
    """List the layers of the network that have parameters, by the names that people know."""
    known = {own: name for name, own in names.items()}
    learning = [known.get(name, name) for name, layer in chain(network) if _learns(layer)]
    return ", ".join(learning) or "none"
