"""MixOE: mix in-distribution rows with outliers, and make the prediction as uncertain as the mixture."""

import torch
from jaxtyping import Float, Int64, Shaped
from torch import Generator, Tensor

from oodles.checks import check_images, check_number
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms
from oodles.methods.cutmix import cutmix_box
from oodles.randomness import draw_beta
from oodles.targets import cross_entropy, smoothed

FORMS = ("mixup", "cutmix")


def in_pairs(rows: int, others: int, device: torch.device) -> tuple[Int64[Tensor, " p"], Int64[Tensor, " p"]]:
    """Numbers of rows and of others that go together: every one of both occurs, the fewer again and again in order.

    There are no pairs where there are no rows, or no others.
    """
    pairs = torch.arange(max(rows, others) if rows and others else 0, device=device)
    return pairs % max(rows, 1), pairs % max(others, 1)


def check_alike(method: str, x: Tensor, outliers: Tensor) -> None:
    """Refuse outliers that cannot be mixed with the rows, being of another shape or type."""
    if x.shape[1:] != outliers.shape[1:] or x.dtype != outliers.dtype:
        raise ValueError(
            f"{method} needs outliers of the inputs' shape {tuple(x.shape[1:])} and type {x.dtype}, "
            f"got {tuple(outliers.shape[1:])} and {outliers.dtype}."
        )


def pasted(
    x: Float[Tensor, "n c h w"], outliers: Float[Tensor, "n c h w"], lam: float, generator: Generator | None = None
) -> tuple[Float[Tensor, "n c h w"], float]:
    """Images with a box of relative area 1 − λ from the outliers, and λ as it is once the box is clipped."""
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
    reads = ("id", "mixed_outliers")
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
        """Rows mixed with outliers, and their targets; weigh their cross-entropy with ``weight``."""
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
            mixed, lam = pasted(x, outliers, lam, generator)
        else:
            mixed = torch.lerp(outliers, x, lam)
        return mixed, smoothed(y, 1 - lam, num_classes)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        known, unknown = batch["id"], batch["outliers"].inputs
        x, outliers = check_images(self.name, known.inputs), check_images(self.name, unknown)
        if known.targets is None:
            return batch
        mixed = Part(*self(x, known.targets, outliers, now.classifier.num_classes, generator=now.generator))
        return batch.with_part("mixed_outliers", mixed)

    def change_loss(self, terms: Terms, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        targets = batch["mixed_outliers"].targets
        if targets is None:
            return terms
        return {**terms, "mixoe": self.weight * cross_entropy(outputs.logits["mixed_outliers"], targets)}
