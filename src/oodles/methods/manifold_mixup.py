"""Manifold mixup: mix rows at a hidden layer, and their labels."""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Generator, Tensor, nn

from oodles.checks import check_number
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Paper, Part, Rows
from oodles.methods.mixup import Mixed, mixup_data
from oodles.randomness import draw_beta
from oodles.spelling import shown
from oodles.targets import soft_targets

BLOCKS = 2
"""The paper mixes at the input and after the first two blocks."""


def mixed(
    hidden: Float[Tensor, " n *rest"], partners: Int64[Tensor, " n"], lam: Float[Tensor, ""]
) -> Float[Tensor, " n *rest"]:
    """Return λ·h + (1 − λ)·h[partners]; at λ = 1 it is h itself, bit for bit."""
    return torch.lerp(hidden.index_select(0, partners), hidden, lam.to(hidden.dtype))


def partners_of(keys: Float[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """Return the order of random keys, a permutation of whichever rows are forwarded together."""
    return keys.argsort(stable=True)


def share_at(layer: str) -> str:
    """Name the draw that holds the share λ at a layer."""
    return f"manifold_mixup at {layer}"


def first_blocks(backbone: nn.Module) -> tuple[str, ...]:
    """Name the layers at which a backbone's first blocks end.

    Going down from the backbone through whatever holds all of its weights, the first module is taken that has them in
    several children. Of these children, those with weight matrices and children of their own begin a block
    (stages of a residual network), or if there are none, those with weight matrices (layers in a row). In an
    ``nn.Sequential`` a block goes on up to the next child with weight matrices, elsewhere it is one child.
    """
    name, module = "", backbone
    while len(holders := [key for key, child in module.named_children() if _has_matrices(child)]) == 1:
        if not list(module.get_submodule(holders[0]).children()):
            break
        name, module = f"{name}{holders[0]}.", module.get_submodule(holders[0])
    children = dict(module.named_children())
    stages = [key for key in holders if list(children[key].children())]
    starts = (stages or holders)[:BLOCKS]
    if isinstance(module, nn.Sequential):
        return tuple(name + _last_before(list(children), holders, start) for start in starts)
    return tuple(name + start for start in starts)


def _last_before(children: list[str], holders: list[str], start: str) -> str:
    """Name the last child before the next of ``holders`` after ``start``."""
    later = [children.index(key) for key in holders if children.index(key) > children.index(start)]
    return children[(later or [len(children)])[0] - 1]


def _has_matrices(module: nn.Module) -> bool:
    return any(parameter.ndim > 1 for parameter in module.parameters())


class ManifoldMixup(Method):
    """Mixes in-distribution rows at a layer drawn for each batch, the input or a hidden one, and their labels likewise.

    When to use: no outliers at hand, any floating-point input.
    Cost: one more pass over the results of these layers.
    Caveat: a layer must give one tensor with a row for each input and run once in a forward pass; where the layers
    taken by default do not, name others.

    Args:
        alpha: α of λ ~ Beta(α, α), one per batch; 0 switches off.
        at: names of the backbone's layers after which rows are mixed, besides at the input; by default after its first
            two blocks.

    Raises:
        ValueError: for a negative α, or, when the step is built, a layer that the backbone does not have.

    Source: Verma et al., sections 2 and 5.1: k is drawn from the input and the results of the first two residual
    blocks, and α = 2. The loss is the paper's cross-entropy, where the authors' code takes a binary one of each
    class's probability. Where a network has no such blocks, its first layers with what follows them take their place.
    """

    name = "manifold-mixup"
    paper = Paper(
        title="Manifold Mixup: Better Representations by Interpolating Hidden States",
        authors="Verma, Lamb, Beckham, Najafi, Mitliagkas, Lopez-Paz, Bengio",
        venue="ICML",
        year=2019,
        link="https://arxiv.org/abs/1806.05236",
        code="https://github.com/vikasverma1077/manifold_mixup",
    )
    strength = "alpha"
    replaces = ("in-distribution inputs",)

    def __init__(self, *, alpha: float = 2.0, at: tuple[str, ...] = ()):
        super().__init__()
        check_number("alpha", alpha, low=0)
        if not isinstance(at, tuple | list) or not all(isinstance(name, str) and name for name in at):
            raise ValueError(f"at must be names of layers, got {shown(at)}.")
        if len(set(at)) < len(at):
            raise ValueError(f"at must name each layer once, got {at!r}.")
        self.alpha = alpha
        self.at = tuple(at)

    def forward(
        self, x: Float[Tensor, " n *rest"], y: Shaped[Tensor, " n *labels"], *, generator: Generator | None = None
    ) -> Mixed:
        """Rows mixed at the input, see :func:`mixup_data`; only in a training step are rows mixed at hidden layers."""
        return mixup_data(x, y, self.alpha, generator=generator)

    def layers(self, classifier: Classifier) -> tuple[str, ...]:
        """Name the hidden layers of a classifier after which rows are mixed; refuse those that it does not have."""
        names = dict(classifier.backbone.named_modules())
        for name in self.at:
            if name not in names:
                known = ", ".join(list(names)[1:9])
                hint = f"its first ones are {known}" if known else "it has no layers with names"
                raise ValueError(f"at must name layers of the backbone, got {name!r}: {hint}.")
        return self.at or first_blocks(classifier.backbone)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part, names = batch["id"], self.layers(now.classifier)
        x, y = part.rows, part.labels
        keys = torch.rand(len(part), generator=now.generator).to(x.device, non_blocking=True)
        place = torch.randint(len(names) + 1, (1,), generator=now.generator)
        lam = draw_beta(self.alpha, 1, now.generator).to(torch.promote_types(x.dtype, torch.float32))
        # a share for each place, 1 where nothing is mixed, so that every batch runs the same operations
        shares = torch.where(torch.arange(len(names) + 1) == place, lam, 1.0).to(x.device, non_blocking=True)
        partners, lam = partners_of(keys), lam.to(x.device, non_blocking=True)
        targets = soft_targets(y, y.index_select(0, partners), lam[0], now.classifier.num_classes)
        draws = {share_at(name): share for name, share in zip(names, shares[1:], strict=True)}
        inputs = mixed(x, partners, shares[0])
        return batch.with_part("id", Part(inputs, targets)).with_draws(manifold_mixup_keys=keys, **draws)

    def change_hidden(self, hidden: Tensor, layer: str, rows: Rows, batch: Batch) -> Tensor:
        if "id" not in rows:
            return hidden
        if not isinstance(hidden, Tensor) or hidden.shape[0] != max(part.stop for part in rows.values()):
            got = tuple(hidden.shape) if isinstance(hidden, Tensor) else type(hidden).__name__
            raise TypeError(
                "manifold-mixup needs layers that give one tensor with a row for each input, "
                f"and {layer!r} gives {got}: name others, with at=…."
            )
        own, partners = rows["id"], partners_of(batch.draws["manifold_mixup_keys"])
        known = mixed(hidden[own], partners, batch.draws[share_at(layer)])
        return torch.cat([hidden[: own.start], known, hidden[own.stop :]]) if len(rows) > 1 else known
