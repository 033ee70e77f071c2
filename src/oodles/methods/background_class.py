"""Background class: one more class, for whatever is none of the known ones."""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import softplus

from oodles.checks import check_number, shapes_checked
from oodles.classifier import Classifier
from oodles.contract import Batch, Method, Now, Outputs, Paper, Terms
from oodles.methods.shared_discriminator import no_s1, no_s2, no_s3
from oodles.precision import at_least_float32
from oodles.scores import HeadScore
from oodles.targets import mean_over_rows

BACKGROUND = "background"


@shapes_checked
def known_logit(logits: Float[Tensor, "n c *space"], background: Float[Tensor, "n 1 *space"]) -> Tensor:
    """Return d = log Σ_c exp z_c − z_K, so that σ(d) is the probability of the K known classes among all K + 1."""
    return at_least_float32(logits).logsumexp(1) - at_least_float32(background).squeeze(1)


def background_term(outputs: Outputs) -> Tensor:
    """Return what cross-entropy over K + 1 classes adds to that over K on in-distribution rows: mean −log σ(d)."""
    known = known_logit(outputs.logits["id"], outputs.heads[BACKGROUND]["id"])
    return mean_over_rows(softplus(-known))


class BackgroundClass(Method):
    """Adds a class for outliers and trains them into it: CE(z(x), y) + β·CE(z(o), K) over K + 1 classes.

    When to use: you have outliers, and want a probability of being known beside those of the classes.
    Cost: the outliers' rows in the forward pass.
    Caveat: unlike Outlier Exposure it says nothing about the known classes' shares on outliers, so score it with its
    own scores and not with the maximum softmax probability.

    Args:
        weight: β; 0 switches off.

    Raises:
        ValueError: for a weight that is negative, NaN or infinite.

    Source: Thulasidasan et al., section 2, and as "BGC" Bitterwolf et al., ICML 2022, equation 8. With
    d = logsumexp(z_1 … z_K) − z_K+1, cross-entropy over K + 1 classes is that over K plus −log σ(d), and that of an
    outlier −log σ(−d); in this form targets may be probabilities, and the logits stay those of the known classes.
    """

    name = "background-class"
    paper = Paper(
        title="An Effective Baseline for Robustness to Distributional Shift",
        authors="Thulasidasan, Thapa, Dhaubhadel, Chennupati, Bhattacharya, Bilmes",
        venue="ICMLA",
        year=2021,
        link="https://arxiv.org/abs/2105.07107",
    )
    score = "background"
    strength = "weight"
    needs = ("outliers",)
    terms = ("background", "background_class")
    heads = ("background",)

    def __init__(self, *, weight: float = 1.0):
        super().__init__()
        check_number("weight", weight, low=0)
        self.weight = weight

    def forward(
        self, logits_out: Float[Tensor, "m c *space"], background_out: Float[Tensor, "m 1 *space"]
    ) -> Float[Tensor, ""]:
        """Term for the outliers' logits and that of their background class."""
        return self.weight * mean_over_rows(softplus(known_logit(logits_out, background_out)))

    def change_classifier(self, classifier: Classifier) -> None:
        classifier.add_head(BACKGROUND, 1)

    def loss_terms(self, outputs: Outputs, batch: Batch, now: Now) -> Terms:
        term = self(outputs.logits["outliers"], outputs.heads[BACKGROUND]["outliers"])
        return {BACKGROUND: background_term(outputs), "background_class": term}


class Background(HeadScore):
    """The probability of the background class, which is 1 − s₁ of Bitterwolf et al."""

    name = "background"
    needs_heads = (BACKGROUND,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (background,) = heads
        return no_s1(known_logit(logits, background))


class BackgroundS2(HeadScore):
    """1 − s₂, with s₂ the probability of the likeliest known class among all K + 1."""

    name = "background-s2"
    needs_heads = (BACKGROUND,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (background,) = heads
        return no_s2(logits, known_logit(logits, background))


class BackgroundS3(HeadScore):
    """1 − s₃, with s₃ the highest class probability where that of the background is spread evenly over the classes."""

    name = "background-s3"
    needs_heads = (BACKGROUND,)

    def __call__(self, features: Tensor, logits: Tensor, *heads: Float[Tensor, "n 1 *space"]) -> Tensor:
        (background,) = heads
        return no_s3(logits, known_logit(logits, background))
