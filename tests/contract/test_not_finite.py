"""What methods keep stays finite when one batch is not: as half precision gives now and then, and scalers skip."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from oodles import TrainingStep

from .networks import batch, classifier
from .rows import KINDS_OF_ROWS, ROWS

KEEP = [(name, kind) for name, kind in KINDS_OF_ROWS if kind != "tokens" and "after_update" in ROWS[name].cls.moments]


def kept(step: TrainingStep) -> dict[str, Tensor]:
    """Return what methods keep, in themselves and in heads, and is finite; the backbone's is the network's."""
    return {
        name: value
        for name, value in step.named_buffers()
        if not name.startswith("classifier.backbone") and bool(value.isfinite().all())
    }


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name, kind", KEEP)
def test_one_batch_that_is_not_finite_spoils_nothing_for_good(name: str, kind: str, value: float) -> None:
    step = TrainingStep(classifier(kind), *ROWS[name].methods())
    step(batch(kind))
    step.after_update()
    prepared, before = step.prepare(batch(kind, seed=1)), kept(step)
    part = prepared["id"]
    broken = torch.full_like(part.rows, value).requires_grad_(part.rows.requires_grad)
    step.losses(prepared.with_part("id", replace(part, inputs=broken)))
    step.after_update()
    assert before and kept(step).keys() == before.keys()
