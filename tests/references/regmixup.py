"""RegMixup (Pinto et al., 2022), in plain float64."""

from collections.abc import Sequence

from .equations import Rows, cross_entropy
from .mixup import mixed


def loss(clean: Rows, labels: Rows, logits: Rows, partners: Sequence[int], lam: float, weight: float) -> float:
    """CE(clean rows, their labels) + η·CE(mixed rows, mixed labels) (equation 4), given both logits."""
    mixture = mixed(labels, partners, [lam] * len(labels))
    return cross_entropy(clean, labels) + weight * cross_entropy(logits, mixture)
