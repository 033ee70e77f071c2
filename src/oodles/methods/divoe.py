"""DivOE: outliers that are moved to where the classifier's loss on them is higher."""

from dataclasses import replace

import torch
from jaxtyping import Bool, Float
from torch import Generator, Tensor
from torch.nn.functional import softplus

from oodles.checks import check_choice, check_flag, check_number, check_unit_range, check_whole
from oodles.classifier import Classifier, frozen
from oodles.contract import Batch, Method, Now, Paper
from oodles.methods.background_class import BACKGROUND, known_logit
from oodles.outliers.ascent import climb
from oodles.precision import at_least_float32
from oodles.randomness import draw_permutation
from oodles.targets import mean_per_row

OBJECTIVES = ("uniform", "energy", "background")


def losses_of(classifier: Classifier, x: Float[Tensor, " n *shape"], objective: str) -> Float[Tensor, " n *space"]:
    """Return of each row (or pixel) the loss that outliers are moved to raise.

    Args:
        classifier: gives logits z, and z_K of its background class.
        x: outliers.
        objective: ``uniform`` is H(U, p) = log Σ_c exp z_c − mean_c z_c, ``energy`` −E = log Σ_c exp z_c, and
            ``background`` the cross-entropy over K + 1 classes to class K.

    Raises:
        ValueError: for ``background``, where the classifier has no such head.
    """
    if objective == "background" and BACKGROUND not in classifier.heads:
        raise ValueError(
            "The objective 'background' needs the head of a background class, and the classifier has none: train with "
            "background-class, or take another objective."
        )
    features = classifier.features(x)
    logits = at_least_float32(classifier.head(features))
    if objective == "background":
        return softplus(known_logit(logits, classifier.heads[BACKGROUND](features)))
    total = logits.logsumexp(1)
    return total if objective == "energy" else total - logits.mean(1)


def raised(
    classifier: Classifier,
    x: Float[Tensor, " n *shape"],
    start: Float[Tensor, " n *shape"],
    *,
    objective: str,
    epsilon: float,
    step: float,
    steps: int,
    best: bool = False,
    valid: Bool[Tensor, " n *counted"] | None = None,
) -> Float[Tensor, " n *shape"]:
    """Climb the losses of outliers with the classifier in eval mode, see :func:`oodles.outliers.ascent.climb`.

    Args:
        classifier: stays as it is, with its statistics and the gradients of its parameters.
        x: outliers in [0, 1].
        start: where the ascent begins.
        objective: of :func:`losses_of`.
        epsilon: the radius of the ball.
        step: the length of a step.
        steps: how many there are.
        best: return the highest point of each row and not the last one.
        valid: the rows or pixels that count.
    """
    with frozen(classifier):
        return climb(
            lambda u: mean_per_row(losses_of(classifier, u, objective), valid),
            x,
            start,
            epsilon=epsilon,
            step=step,
            steps=steps,
            best=best,
        )


class DivOE(Method):
    """Moves a share of the outliers to where the loss on them is higher, in an ℓ∞ ball around each, within [0, 1].

    When to use: there are few kinds of outliers, and inputs are in [0, 1]; beside a method that learns from them.
    Cost: ``steps`` forward and backward passes over the share of outliers that is moved.
    Caveat: the objective should be that of the method that learns from them, as ``energy`` for energy-bounded.

    Args:
        share: r, the part of the outliers that is moved; 0 switches off.
        epsilon: ε, the radius of the ball in each number, above 0.
        relative_step: the length of a step, as a multiple of ε, above 0.
        steps: k, of projected gradient ascent.
        objective: what is raised: ``uniform`` the cross-entropy to uniform, ``energy`` the negative energy,
            ``background`` the cross-entropy to the background class.
        best: keep the highest point on the way, the outlier itself included, and not the last one: one pass more.

    Raises:
        ValueError: for a share that is negative or above 1, a radius, step or number of steps not above 0, and another
            objective.

    Source: Zhu et al., section 3.2; ε, r, k and the step are those of the authors' README. The ascent starts at a
    random point of the ball. Which outliers are moved is drawn in each step: the authors take the first of a batch, and
    chosen ones may come in an order. For energies they climb the squared hinge, which has the same sign where it is
    active; here no margin stops the ascent. With ``background`` and ``best`` it is the attack of ATOM (Chen et al.,
    ECML 2021), whose start is rounded to whole multiples of 1 / 255.
    """

    name = "divoe"
    paper = Paper(
        title="Diversified Outlier Exposure for Out-of-Distribution Detection via Informative Extrapolation",
        authors="Zhu, Yu, Yao, Liu, Niu, Sugiyama, Han",
        venue="NeurIPS",
        year=2023,
        link="https://arxiv.org/abs/2310.13923",
        code="https://github.com/tmlr-group/DivOE",
    )
    strength = "share"
    needs = ("outliers", "unit-range")
    consumes = ("outliers",)
    replaces = ("outliers",)

    def __init__(
        self,
        *,
        share: float = 0.5,
        epsilon: float = 0.05,
        relative_step: float = 0.25,
        steps: int = 5,
        objective: str = "uniform",
        best: bool = False,
    ):
        super().__init__()
        check_number("share", share, low=0, high=1)
        check_number("epsilon", epsilon, above=0)
        check_number("relative_step", relative_step, above=0)
        check_whole("steps", steps, low=1)
        check_choice("objective", objective, OBJECTIVES)
        check_flag("best", best)
        self.share = share
        self.epsilon = epsilon
        self.relative_step = relative_step
        self.steps = steps
        self.objective = objective
        self.best = best

    def forward(
        self,
        classifier: Classifier,
        outliers: Float[Tensor, " m *shape"],
        *,
        valid: Bool[Tensor, " m *counted"] | None = None,
        generator: Generator | None = None,
    ) -> Float[Tensor, " m *shape"]:
        """Outliers of which a share has been moved, in the order in which they came."""
        check_unit_range(self.name, outliers)
        count = int(self.share * len(outliers))
        moved = draw_permutation(len(outliers), outliers.device, generator)[:count]
        x = outliers.detach().index_select(0, moved)
        noise = self.epsilon * (2 * torch.rand(x.shape, generator=generator) - 1)
        found = raised(
            classifier,
            x,
            at_least_float32(x) + noise.to(x.device, non_blocking=True),
            objective=self.objective,
            epsilon=self.epsilon,
            step=self.relative_step * self.epsilon,
            steps=self.steps,
            best=self.best,
            valid=None if valid is None else valid.index_select(0, moved),
        )
        return outliers.index_copy(0, moved, found)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part = batch["outliers"]
        check_unit_range(self.name, part.rows, read_gpu=now.step == 0)
        changed = self(now.classifier, part.rows, valid=part.valid, generator=now.generator)
        return batch.with_part("outliers", replace(part, inputs=changed))
