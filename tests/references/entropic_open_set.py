"""The Entropic Open-Set loss with a weight for every row (Dhamija et al., 2018)."""

from collections.abc import Sequence

from .equations import Rows, cross_entropy_of_row


def entropic(z: Sequence[float]) -> float:
    """J_E of an unknown: −1/C Σ_c log S_c."""
    return cross_entropy_of_row(z, [1 / len(z)] * len(z))


def balanced(logits_in: Rows, labels: Sequence[int], logits_out: Rows) -> float:
    """Σ of weighted J_E: the rows of each class weigh 1 together, all unknowns do, and everything is divided by C."""
    classes = logits_in.shape[1]
    total = 0.0
    for z, label in zip(logits_in, labels, strict=True):
        one_hot = [float(c == label) for c in range(classes)]
        total += cross_entropy_of_row(z, one_hot) / list(labels).count(label)
    for z in logits_out:
        total += entropic(z) / len(logits_out)
    return total / classes
