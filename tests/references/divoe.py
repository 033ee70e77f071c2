"""DivOE (Zhu et al., NeurIPS 2023) and the attack of ATOM (Chen et al., ECML 2021) on a linear classifier, whose
gradient is written down, one row at a time."""

import numpy as np

from .equations import log_sum_exp

Row = list[float]


def logits_of(x: Row, weight: np.ndarray, bias: np.ndarray) -> Row:
    """W·x + b, those of the background class last."""
    return [sum(w * value for w, value in zip(row, x, strict=True)) + b for row, b in zip(weight, bias, strict=True)]


def loss(x: Row, weight: np.ndarray, bias: np.ndarray, objective: str) -> float:
    """The cross-entropy to uniform and −E of the first K classes, or that to the last of K + 1."""
    z = logits_of(x, weight, bias)
    if objective == "background":
        return log_sum_exp(z) - z[-1]
    return log_sum_exp(z[:-1]) - (sum(z[:-1]) / len(z[:-1]) if objective == "uniform" else 0.0)


def slope(x: Row, weight: np.ndarray, bias: np.ndarray, objective: str) -> Row:
    """Its gradient: Σ_c p_c·w_c, minus the mean of the w_c, or minus w_K."""
    z = logits_of(x, weight, bias)
    z = z if objective == "background" else z[:-1]
    mean = [sum(row[i] for row in weight[:-1]) / len(weight[:-1]) for i in range(len(x))]
    p = [np.exp(value - log_sum_exp(z)) for value in z]
    found = []
    for i in range(len(x)):
        pull = sum(share * weight[c][i] for c, share in enumerate(p))
        away = {"background": weight[-1][i], "energy": 0.0, "uniform": mean[i]}
        found.append(float(pull - away[objective]))
    return found


def moved(  # type: ignore[no-untyped-def]
    x: np.ndarray,
    start: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray,
    objective: str,
    epsilon: float,
    step: float,
    steps: int,
    best: bool = False,
):
    """The last of so many steps along the sign of the gradient, or the highest point on the way."""

    def inside(u: Row) -> Row:
        return [min(max(value, x[i] - epsilon, 0.0), x[i] + epsilon, 1.0) for i, value in enumerate(u)]

    u = inside(list(start))
    seen = [list(x), u]
    for _ in range(steps):
        rise = slope(u, weight, bias, objective)
        u = inside([value + step * float(np.sign(rise[i])) for i, value in enumerate(u)])
        seen.append(u)
    return np.array(max(seen, key=lambda each: loss(each, weight, bias, objective)) if best else u)
