"""MixOE: mix in-distribution rows with outliers, and make the prediction as uncertain as the mixture."""

import torch
from jaxtyping import Float, Shaped
from torch import Generator, Tensor

from oodles.checks import check_alike, check_images, check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms, valid_in_both
from oodles.methods.cutmix import cutmix_box
from oodles.outliers import in_pairs
from oodles.randomness import draw_beta
from oodles.targets import cross_entropy, smoothed

FORMS = ("mixup", "cutmix")


def paste(
    x: Float[Tensor, "n c h w"], outliers: Float[Tensor, "n c h w"], lam: float, generator: Generator | None = None
) -> tuple[Float[Tensor, "n c h w"], float]:
    """Paste a box of relative area 1 − λ from the outliers; return the images, and λ once the box is clipped."""
    height, width = x.shape[2:]
    centre = torch.rand(2, 1, dtype=torch.float64, generator=generator)
    box = cutmix_box(torch.tensor([lam], dtype=torch.float64), centre, height, width)
    top, bottom, left, right = box.flatten().tolist()
    outside = x.new_ones(height, width)
    outside[top:bottom, left:right] = 0
    return torch.lerp(outliers, x, outside), 1 - (bottom - top) * (right - left) / (height * width)


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
        if form not in FORMS:
            raise ValueError(f"form must be one of {', '.join(FORMS)}, got {form!r}.")
        check_number("alpha", alpha, above=0)
        check_number("weight", weight, low=0)
        self.form = form
        self.alpha = alpha
        self.weight = weight

    def forward(
        self,
        x: Float[Tensor, "n c h w"],
        y: Shaped[Tensor, " n *rest"],
        outliers: Float[Tensor, "m c h w"],
        num_classes: int,
        *,
        generator: Generator | None = None,
    ) -> tuple[Float[Tensor, "p c h w"], Float[Tensor, "p classes *space"]]:
        """Rows mixed with outliers, and their targets; multiply their cross-entropy by ``weight``."""
        x, outliers = check_images(self.name, x), check_images(self.name, outliers)
        check_alike(self.name, x, outliers)
        if self.form == "cutmix" and y.ndim > 1 + y.is_floating_point():
            raise ValueError(
                f"mixoe needs one label per image to paste boxes, got targets of shape {tuple(y.shape)}: "
                "use form='mixup'."
            )
        rows, others = in_pairs(len(x), len(outliers), x.device)
        x, y, outliers = x.index_select(0, rows), y.index_select(0, rows), outliers.index_select(0, others)
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
