"""AOE: outliers that are moved one step to where the classifier's loss on them is higher."""

from dataclasses import replace

from jaxtyping import Bool, Float
from torch import Tensor

from oodles.checks import check_choice, check_number, check_unit_range
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Paper
from oodles.methods.divoe import OBJECTIVES, raised


class AOE(Method):
    """Moves every outlier o to o + ε · sign ∇_o of the loss on it, within [0, 1].

    When to use: outliers that are generated or of few kinds, inputs in [0, 1]; beside a method that learns from them.
    Cost: a forward and backward pass over the outliers.
    Caveat: no outlier is shown as it is; :class:`DivOE` leaves a share of them, and takes smaller steps.

    Args:
        epsilon: ε, the length of the step in each number; 0 switches off.
        objective: what is raised: ``uniform`` the cross-entropy to uniform, ``energy`` the negative energy,
            ``background`` the cross-entropy to the background class.

    Raises:
        ValueError: for a step that is negative, NaN or infinite, and another objective.

    Source: Botschen et al., with the gradient's sign (FGSM) as in the authors' configuration, which is for outliers in
    [0, 1]. Their program takes the step in training mode, so that the outliers' gradients and the statistics depend on
    all rows, and leaves [0, 1]; its attacks of several steps take the gradient at other rows, the known ones.
    """

    name = "aoe"
    paper = Paper(
        title="Out-of-Distribution Detection with Adversarial Outlier Exposure",
        authors="Botschen, Kirchheim, Ortmeier",
        venue="CVPR workshop",
        year=2025,
        link="https://www.kkirchheim.de/papers/aoe",
        code="https://github.com/2mey10/Adversarial-Outlier-Exposure",
    )
    strength = "epsilon"
    needs = ("outliers", "unit-range")
    consumes = ("outliers",)
    replaces = ("outliers",)

    def __init__(self, *, epsilon: float = 0.07, objective: str = "uniform"):
        super().__init__()
        check_number("epsilon", epsilon, low=0)
        check_choice("objective", objective, OBJECTIVES)
        self.epsilon = epsilon
        self.objective = objective

    def forward(
        self,
        classifier: Classifier,
        outliers: Float[Tensor, " m *shape"],
        *,
        valid: Bool[Tensor, " m *counted"] | None = None,
    ) -> Float[Tensor, " m *shape"]:
        """Outliers that have been moved."""
        check_unit_range(self.name, outliers)
        return raised(
            classifier,
            outliers,
            outliers.detach(),
            objective=self.objective,
            epsilon=self.epsilon,
            step=self.epsilon,
            steps=1,
            valid=valid,
        )

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part = batch["outliers"]
        check_unit_range(self.name, part.rows, read_gpu=now.step == 0)
        return batch.with_part("outliers", replace(part, inputs=self(now.classifier, part.rows, valid=part.valid)))
