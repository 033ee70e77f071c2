"""DiverseMix: outliers mixed with one another, the more of the one that looks more like a known row."""

import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Generator, Tensor

from oodles.checks import check_number, check_same_length
from oodles.contract import Batch, Method, Now, Paper, Part, valid_in_both
from oodles.precision import at_least_float32
from oodles.randomness import draw_betas, draw_permutation
from oodles.targets import mean_per_row

LEAST = 0.01
"""What is added to both parameters of the distribution of shares, so that they are above 0."""


def share_parameters(
    logits: Float[Tensor, "n c *space"],
    others: Int64[Tensor, " n"],
    *,
    alpha: float,
    temperature: float,
    valid: Bool[Tensor, " n *counted"] | None = None,
) -> Float64[Tensor, "2 n"]:
    """Return the parameters a and b of each row's share λ ~ Beta(a, b) in its mixture with another row.

    With e = log Σ_c exp z_c of both and c = softmax([e_i, e_π(i)] / T) they are α·c_1 + 0.01 and α·c_2 + 0.01.

    Args:
        logits: z.
        others: π, the number of the row that each one is mixed with.
        alpha: α.
        temperature: T.
        valid: the rows or pixels that count; e is a mean over pixels.
    """
    negative_energy = mean_per_row(at_least_float32(logits).logsumexp(1), valid).double()
    pairs = torch.stack([negative_energy, negative_energy.index_select(0, others)])
    return alpha * (pairs / temperature).softmax(0) + LEAST


class DiverseMix(Method):
    """Replaces each outlier o by λ·o + (1 − λ)·o', with another outlier o' and λ larger where o has the lower energy.

    When to use: there are few kinds of outliers; beside a method that learns from them, as energy-bounded.
    Cost: a forward pass over the outliers, without gradients.
    Caveat: no outlier is shown as it is, and what two vectors or tables mean together is for whoever made them to say.

    Args:
        alpha: α, above 0: the larger, the closer λ is to the classifier's preference of the two.
        temperature: T, above 0: the larger, the less the energies matter.

    Raises:
        ValueError: for an α or temperature that is not above 0, NaN or infinite.

    Source: Yao et al., section 4.2; α, T and the 0.01 that is added to both parameters are those of the authors'
    program. It looks at the outliers in eval mode, as is done here.
    """

    name = "diversemix"
    paper = Paper(
        title="Out-Of-Distribution Detection with Diversification (Provably)",
        authors="Yao, Han, Fu, Peng, Hu, Zhang",
        venue="NeurIPS",
        year=2024,
        link="https://arxiv.org/abs/2411.14049",
        code="https://github.com/HaiyunYao/diverseMix",
    )
    score = "energy"
    needs = ("outliers",)
    consumes = ("outliers",)
    replaces = ("outliers",)

    def __init__(self, *, alpha: float = 4.0, temperature: float = 10.0):
        super().__init__()
        check_number("alpha", alpha, above=0)
        check_number("temperature", temperature, above=0)
        self.alpha = alpha
        self.temperature = temperature

    def forward(
        self,
        outliers: Float[Tensor, " m *shape"],
        logits_out: Float[Tensor, "m c *space"],
        *,
        valid: Bool[Tensor, " m *counted"] | None = None,
        generator: Generator | None = None,
    ) -> tuple[Float[Tensor, " m *shape"], Int64[Tensor, " m"]]:
        """Mixed outliers, and the numbers of those that were mixed in."""
        check_same_length(outliers=outliers, logits_out=logits_out)
        others = draw_permutation(len(outliers), outliers.device, generator)
        parameters = share_parameters(
            logits_out.detach(), others, alpha=self.alpha, temperature=self.temperature, valid=valid
        )
        share = draw_betas(parameters, generator).to(outliers.dtype).reshape(-1, *[1] * (outliers.ndim - 1))
        return torch.lerp(outliers.index_select(0, others), outliers, share), others

    def change_batch(self, batch: Batch, now: Now) -> Batch:
        part = batch["outliers"]
        rows = part.rows
        mixed, others = self(rows, now.seen(rows).logits, valid=part.valid, generator=now.generator)
        return batch.with_part("outliers", Part(mixed, valid=valid_in_both(part, None, part, others)))
