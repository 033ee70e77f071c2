"""OpenMix: mix rows with outliers, and share their label between the class and one more class for outliers."""

import torch
from jaxtyping import Float
from torch import Generator, Tensor
from torch.nn.functional import softplus

from oodles.checks import check_alike, check_mixing, check_number, shapes_checked
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Part, Terms, valid_in_both
from oodles.methods.background_class import BACKGROUND, background_term, known_logit
from oodles.outliers.pairs import in_pairs
from oodles.randomness import draw_beta
from oodles.targets import Targets, cross_entropy, mean_over_rows


def mixed_cross_entropy(
    logits: Float[Tensor, "n c *space"],
    background: Float[Tensor, "n 1 *space"],
    targets: Targets,
    lam: float | Float[Tensor, ""],
) -> Float[Tensor, ""]:
    """Return λ·CE(z, y) + (1 − λ)·CE(z, K) over K + 1 classes, averaged over rows.

    Args:
        logits: of the K known classes.
        background: the logit of the further class.
        targets: over the known classes, class ids or probabilities.
        lam: λ, the known classes' share.
    """
    known = known_logit(logits, background)
    to_class = cross_entropy(logits, targets) + mean_over_rows(softplus(-known))
    return lam * to_class + (1 - lam) * mean_over_rows(softplus(known))


class OpenMix(Method):
    """Adds γ × the cross-entropy over K + 1 classes of l·x + (1 − l)·o to l of x's label and 1 − l of class K + 1.

    When to use: outliers at hand, and the classifier's own mistakes are to be found too, not the unknown alone.
    Cost: as many further rows as in-distribution ones or outliers, whichever are more.
    Caveat: made to find misclassified rows; how it does on unknown ones depends on the outliers that it is given.

    Args:
        alpha: α of l ~ Beta(α, α), one l per batch.
        weight: γ; 0 switches off.

    Raises:
        ValueError: for an α that is not above 0, or a negative weight.

    Source: Zhu et al., equations 4 and 5; the score is the maximum softmax probability over the K classes. With
    d = logsumexp(z_1 … z_K) − z_K+1 the further class costs −log σ(d) where it is not meant and −log σ(−d) where it is.
    The authors stop at the shorter of the two batches; here its rows come again, in order. Unless told
    ``--method OpenMix``, their program mixes at the input or one of two hidden layers.
    """

    name = "openmix"
    paper = Paper(
        title="OpenMix: Exploring Outlier Samples for Misclassification Detection",
        authors="Zhu, Cheng, Zhang, Liu",
        venue="CVPR",
        year=2023,
        link="https://arxiv.org/abs/2303.17093",
        code="https://github.com/Impression2805/OpenMix",
    )
    strength = "weight"
    needs = ("outliers",)
    consumes = ("outliers",)
    adds = ("openmixed",)
    terms = ("background", "openmix")
    heads = ("background",)

    def __init__(self, *, alpha: float = 10.0, weight: float = 1.0):
        super().__init__()
        check_number("alpha", alpha, above=0)
        check_number("weight", weight, low=0)
        self.alpha = alpha
        self.weight = weight

    def forward(
        self,
        logits: Float[Tensor, "n c *space"],
        background: Float[Tensor, "n 1 *space"],
        targets: Targets,
        lam: float | Float[Tensor, ""],
    ) -> Float[Tensor, ""]:
        """Term for mixed rows, see :func:`mixed_cross_entropy`."""
        check_mixing("lam", lam)
        return self.weight * mixed_cross_entropy(logits, background, targets, lam)

    @shapes_checked
    def mixed(
        self, x: Float[Tensor, " n *shape"], outliers: Float[Tensor, " m *shape"], generator: Generator | None = None
    ) -> tuple[Float[Tensor, " p *shape"], Tensor, Tensor]:
        """Return mixed rows, the numbers of the rows in ``x`` that they were made of, and l."""
        check_alike(self.name, x, outliers)
        rows, others = in_pairs(len(x), len(outliers), x.device)
        lam = draw_beta(self.alpha, 1, generator)[0].to(torch.promote_types(x.dtype, torch.float32))
        return torch.lerp(outliers.index_select(0, others), x.index_select(0, rows), lam.item()), rows, lam

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(BACKGROUND, 1)

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        known, outliers = batch["id"], batch["outliers"]
        mixed, rows, lam = self.mixed(known.rows, outliers.rows, now.generator)
        _, others = in_pairs(len(known), len(outliers), mixed.device)
        valid = valid_in_both(known, rows, outliers, others)
        part = Part(mixed, known.labels.index_select(0, rows), valid=valid)
        return batch.with_part("openmixed", part).with_draws(openmix_share=lam.to(mixed.device, non_blocking=True))

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        logits, background = outputs.logits["openmixed"], outputs.heads[BACKGROUND]["openmixed"]
        lam = batch.draws["openmix_share"].to(logits.dtype)
        term = self(logits, background, batch["openmixed"].labels, lam)
        return {BACKGROUND: background_term(outputs), "openmix": term}
