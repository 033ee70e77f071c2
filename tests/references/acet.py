"""ACET (Hein et al., CVPR 2019) on a linear classifier, whose gradient is written down, one image at a time."""

import numpy as np

from .ceda import log_confidence
from .equations import log_sum_exp


def _clipped(value: float, x: float, epsilon: float) -> float:
    """The nearest number within ε of x and in [0, 1]."""
    return min(max(value, x - epsilon, 0.0), x + epsilon, 1.0)


def worst(x: np.ndarray, start: np.ndarray, weight: np.ndarray, bias: np.ndarray, epsilon: float, steps: int):  # type: ignore[no-untyped-def]
    """The most confident of x, ``start`` and what each of so many steps of ε / steps along the sign reaches."""
    pixels = len(x)

    def logits(u: list[float]) -> list[float]:
        return [sum(w[i] * u[i] for i in range(pixels)) + b for w, b in zip(weight, bias, strict=True)]

    u = [_clipped(start[i], x[i], epsilon) for i in range(pixels)]
    seen = [list(x), u]
    for _ in range(steps):
        z = logits(u)
        p = [np.exp(value - log_sum_exp(z)) for value in z]
        top = int(np.argmax(z))
        slope = [weight[top][i] - sum(p[c] * weight[c][i] for c in range(len(z))) for i in range(pixels)]
        u = [_clipped(u[i] + epsilon / steps * float(np.sign(slope[i])), x[i], epsilon) for i in range(pixels)]
        seen.append(u)
    return np.array(max(seen, key=lambda each: log_confidence(logits(each))))
