"""MixOE: mix in-distribution rows with outliers, and make the prediction as uncertain as the mixture."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor

from oodles.checks import check_alike, check_choice, check_number, check_whole
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms, valid_in_both
from oodles.methods.cutmix import outside_of_box
from oodles.outliers.pairs import in_pairs
from oodles.randomness import draw_beta
from oodles.targets import Targets, cross_entropy, indexable, smoothed

FORMS = ("mixup", "cutmix")


def paste(
    x: Float[Tensor, "n c h w"], outliers: Float[Tensor, "n c h w"], lam: float, generator: Generator | None = None
) -> tuple[Float[Tensor, "n c h w"], float]:
    """Paste a box of relative area 1 − λ from the outliers; return the images, and λ once the box is clipped."""
    centre = torch.rand(2, 1, dtype=torch.float64, generator=generator)
    outside, share = outside_of_box(lam, centre, x)
    return torch.lerp(outliers, x, outside), share


class MixOE(Method):
    """Adds β × the cross-entropy of rows mixed with outliers to their labels mixed with the uniform distribution.

    When to use: outliers at hand, and the unknown may look much like the known, as among kinds of birds; to fine-tune.
    Cost: as many further rows as in-distribution ones or outliers, whichever are more, in a forward pass of their own.
    Caveat: for fine-tuning a trained classifier, on which the weight is chosen.

    Args:
        form: ``mixup`` mixes whole images; ``cutmix`` pastes a box of the outlier into the image.
        alpha: α of λ ~ Beta(α, α), one λ per batch. The authors use 1 for mixup and 2 for cutmix.
        weight: β; 0 switches off.

    Raises:
        ValueError: for another form, an α that is not above 0, or a negative weight.

    Source: Zhang et al., section 3.2: the label is λ·y + (1 − λ)·U; β and α are those of the authors' scripts. Their
    batches hold as many outliers as rows; here the fewer come again, in order. Boxes are those of :class:`CutMix`.
    """

    name = "mixoe"
    paper = Paper(
        title="Mixture Outlier Exposure: Towards Out-of-Distribution Detection in Fine-grained Environments",
        authors="Zhang, Inkawhich, Linderman, Chen, Li",
        venue="WACV",
        year=2023,
        link="https://arxiv.org/abs/2106.03917",
        code="https://github.com/zjysteven/MixOE",
    )
    strength = "weight"
    needs = ("outliers", "images", "weights")
    consumes = ("outliers",)
    adds = ("mixed_outliers",)
    terms = ("mixoe",)
    separate = ("mixed_outliers",)

    def __init__(self, *, form: str = "mixup", alpha: float = 1.0, weight: float = 5.0):
        super().__init__()
        check_choice("form", form, FORMS)
        check_number("alpha", alpha, above=0)
        check_number("weight", weight, low=0)
        self.form = form
        self.alpha = alpha
        self.weight = weight

    def forward(
        self,
        x: Float[Tensor, "n channels h w"],
        y: Targets,
        outliers: Float[Tensor, "m channels h w"],
        num_classes: int,
        *,
        generator: Generator | None = None,
    ) -> tuple[Float[Tensor, "p channels h w"], Float[Tensor, "p c *space"]]:
        """Rows mixed with outliers, and their targets; multiply their cross-entropy by ``weight``."""
        check_whole("num_classes", num_classes, low=1)
        check_alike(self.name, x, outliers)
        if self.form == "cutmix" and y.ndim > 1 + y.is_floating_point():
            raise ValueError(
                f"mixoe needs one label per image to paste boxes, got targets of shape {tuple(y.shape)}: "
                "use form='mixup'."
            )
        rows, others = in_pairs(len(x), len(outliers), x.device)
        x, y, outliers = x.index_select(0, rows), indexable(y).index_select(0, rows), outliers.index_select(0, others)
        lam = draw_beta(self.alpha, 1, generator).item()  # drawn on the CPU: nothing waits for a device
        if self.form == "cutmix":
            mixed, lam = paste(x, outliers, lam, generator)
        else:
            mixed = torch.lerp(outliers, x, lam)
        return mixed, smoothed(y, 1 - lam, num_classes)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        known, outliers = batch["id"], batch["outliers"]
        classes = now.classifier.num_classes
        mixed, targets = self(known.rows, known.labels, outliers.rows, classes, generator=now.generator)
        rows, others = in_pairs(len(known), len(outliers), mixed.device)
        part = Part(mixed, targets, valid=valid_in_both(known, rows, outliers, others))
        return batch.with_part("mixed_outliers", part)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        loss = cross_entropy(outputs.logits["mixed_outliers"], batch["mixed_outliers"].labels)
        return {"mixoe": self.weight * loss}
