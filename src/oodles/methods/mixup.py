"""Mixup: train on convex combinations of pairs of rows and of their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor
from torch.utils.data import default_collate

from oodles.checks import check_flag, check_mixing, check_number, shapes_checked
from oodles.classifier import Inputs
from oodles.contract import Batch, Method, Now, Paper, Part
from oodles.inference import read_batch
from oodles.randomness import draw_beta, draw_permutation
from oodles.targets import indexable, soft_targets

Mixed = tuple[Tensor, Tensor, Tensor, float | Tensor]
"""Mixed inputs, targets, targets of the rows mixed in, and the share λ of the former."""


@shapes_checked
def mixup_data(
    x: Float[Tensor, " n *rest"],
    y: Shaped[Tensor, " n *labels"],
    alpha: float = 1.0,
    *,
    per_sample: bool = False,
    generator: Generator | None = None,
) -> Mixed:
    """Mix each row with another one: λ·x + (1 − λ)·x[permutation], λ ~ Beta(α, α).

    Args:
        x: inputs (N, …) of any rank, floating point; not changed.
        y: class ids (N,) or probabilities (N, C).
        alpha: α ≥ 0; at 0, λ is 1 and the very same tensors come back.
        per_sample: draw one λ per row instead of one per batch.
        generator: a CPU generator; by default torch's own, so that ``torch.manual_seed`` alone reproduces a call.

    Returns:
        ``(mixed_x, y_a, y_b, lam)`` with ``y_a = y``, ``y_b = y[permutation]`` and λ as a Python float, or for
        ``per_sample`` a tensor (N,).

    Raises:
        TypeError: for ``x`` that is not floating point.
        ValueError: for an α that is negative, NaN or infinite, or different lengths.

    Example:
        >>> import torch
        >>> x, y = torch.rand(8, 3, 32, 32), torch.arange(8)
        >>> mixed_x, y_a, y_b, lam = mixup_data(x, y, alpha=0.2)
        >>> 0 <= lam <= 1
        True

    Source: Zhang et al., ICLR 2018, section 2.
    """
    check_number("alpha", alpha, low=0)
    if alpha == 0 or len(x) == 0:
        return x, y, y, torch.ones(len(x)) if per_sample else 1.0
    permutation = draw_permutation(len(x), x.device, generator)
    if per_sample:
        lam = draw_beta(alpha, len(x), generator).to(x.dtype).to(x.device, non_blocking=True)
        mixed = x.index_select(0, permutation).lerp_(x, lam.reshape(-1, *[1] * (x.ndim - 1)))
        return mixed, y, indexable(y).index_select(0, permutation), lam
    share = draw_beta(alpha, 1, generator).item()  # drawn on the CPU: nothing waits for a device
    return x.index_select(0, permutation).lerp_(x, share), y, indexable(y).index_select(0, permutation), share


@shapes_checked
def mixup_criterion(
    criterion: Callable[[Tensor, Tensor], Tensor],
    pred: Tensor,
    y_a: Tensor,
    y_b: Tensor,
    lam: float | Float[Tensor, "*rows"],
) -> Tensor:
    """Return the loss of mixed rows, λ·criterion(pred, y_a) + (1 − λ)·criterion(pred, y_b).

    Args:
        criterion: any loss of predictions and targets; for one λ per row, one that gives a value per row.
        pred: what the network gives for the mixed rows.
        y_a: targets.
        y_b: targets of the rows mixed in.
        lam: λ, the share of ``y_a``.

    Example:
        >>> import torch
        >>> criterion = torch.nn.CrossEntropyLoss()
        >>> pred, y_a, y_b = torch.zeros(2, 4), torch.tensor([0, 1]), torch.tensor([1, 0])
        >>> round(float(mixup_criterion(criterion, pred, y_a, y_b, 0.3)), 4)
        1.3863
    """
    check_mixing("lam", lam)
    loss_a, loss_b = criterion(pred, y_a), criterion(pred, y_b)
    if isinstance(lam, Tensor) and lam.ndim:
        if loss_a.shape[:1] != lam.shape:
            raise ValueError(
                f"criterion must give one value per row for a lam per row, got shape {tuple(loss_a.shape)} "
                f"for {len(lam)} rows: use reduction='none' and average, or soft_targets(y_a, y_b, lam, num_classes)."
            )
        lam = lam.reshape(-1, *[1] * (loss_a.ndim - 1))
    return lam * loss_a + (1 - lam) * loss_b


class Mixer(Protocol):
    """Anything that is called on (x, y) and gives mixed rows."""

    def __call__(self, x: Tensor, y: Tensor, /) -> Mixed: ...


@dataclass(frozen=True)
class MixingCollate:
    """A ``collate_fn`` for a ``DataLoader`` that gives ``(mixed_x, soft targets)``.

    Of samples that are dictionaries ``mixed_x`` is a dictionary, too, of the only tensor that they have beside labels.
    """

    mixer: Mixer
    num_classes: int

    def __call__(self, samples: Sequence[Any]) -> tuple[Inputs, Tensor]:
        inputs, labels = read_batch(default_collate(list(samples)), "The data set")
        names = list(inputs) if isinstance(inputs, dict) else []
        if len(names) > 1:
            raise TypeError(f"A mixer needs one tensor of inputs, got a dictionary of {', '.join(names)}.")
        x = inputs[names[0]] if isinstance(inputs, dict) else inputs
        mixed_x, y_a, y_b, lam = self.mixer(x, labels)
        targets = soft_targets(y_a, y_b, lam, self.num_classes)
        return ({names[0]: mixed_x} if names else mixed_x), targets


class Mixup(Method):
    """Trains on λ·x + (1 − λ)·x′ with the labels mixed likewise, λ ~ Beta(α, α), instead of on the rows themselves.

    When to use: no outliers at hand, any floating-point input.
    Cost: one pass over the inputs.
    Caveat: the network never sees a clean row; a large α can make in- and out-of-distribution rows harder to separate.

    Args:
        alpha: α of the Beta distribution; 0 switches off. The paper uses 1 on CIFAR-10 and 0.2 on ImageNet.
        per_sample: one λ per row; by default one per batch, as in the authors' code.

    Raises:
        ValueError: for an α that is negative, NaN or infinite.

    Source: Zhang et al., section 2. Labels are mixed; the authors' code mixes two losses, which is the same for
    cross-entropy.
    """

    name = "mixup"
    paper = Paper(
        title="mixup: Beyond Empirical Risk Minimization",
        authors="Zhang, Cisse, Dauphin, Lopez-Paz",
        venue="ICLR",
        year=2018,
        link="https://arxiv.org/abs/1710.09412",
        code="https://github.com/facebookresearch/mixup-cifar10",
    )
    strength = "alpha"
    replaces = ("in-distribution inputs",)

    def __init__(self, *, alpha: float = 1.0, per_sample: bool = False):
        super().__init__()
        check_number("alpha", alpha, low=0)
        check_flag("per_sample", per_sample)
        self.alpha = alpha
        self.per_sample = per_sample

    def forward(
        self, x: Float[Tensor, " n *rest"], y: Shaped[Tensor, " n *labels"], *, generator: Generator | None = None
    ) -> Mixed:
        """Rows mixed with one another, see :func:`mixup_data`."""
        return mixup_data(x, y, self.alpha, per_sample=self.per_sample, generator=generator)

    def collate(self, num_classes: int) -> MixingCollate:
        """Make a ``collate_fn`` that gives ``(mixed_x, soft targets)``."""
        return MixingCollate(self, num_classes)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        return batch.with_part("id", mix_part(self, batch["id"], now))


def mix_part(mixer: Callable[..., Mixed], part: Part, now: Now) -> Part:
    """Mix a part's rows with one another; their targets become probabilities."""
    mixed_x, y_a, y_b, lam = mixer(part.rows, part.labels, generator=now.generator)
    if mixed_x is part.inputs:
        return part
    return Part(mixed_x, soft_targets(y_a, y_b, lam, now.classifier.num_classes))
