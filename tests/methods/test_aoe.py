"""AOE: one step along the sign of the gradient. What it leaves alone and refuses is tested with DivOE."""

import numpy as np
import pytest
import torch

from oodles import AOE, OutlierExposure, TrainingStep
from oodles.methods.divoe import OBJECTIVES, losses_of

from ..contract.networks import batch, classifier
from ..recorded.linear_layer import VALUES
from ..references import aoe as reference
from .test_divoe import layers, linear, recorded_net, rows


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("epsilon", [0.07, 0.4])
def test_every_outlier_moves_as_in_the_reference(objective: str, epsilon: float) -> None:
    net, x = linear(), rows()
    before = x.clone()
    found = AOE(epsilon=epsilon, objective=objective)(net, x)
    expected = [reference.moved(row, *layers(net), objective, epsilon) for row in x.numpy()]
    np.testing.assert_allclose(found.numpy(), np.array(expected), rtol=0, atol=1e-12)
    assert torch.equal(x, before)


def test_where_no_sign_changes_one_step_is_as_far_as_five_of_the_authors() -> None:
    x = torch.tensor(VALUES["divoe"]["x"]).reshape(8, 6)
    found = AOE(epsilon=0.01)(recorded_net("small", torch.float32), x)
    np.testing.assert_allclose(found.flatten().numpy(), np.array(VALUES["divoe"]["small"]), rtol=0, atol=2e-7)


def test_in_a_step_the_loss_on_every_outlier_is_higher() -> None:
    net, given = classifier("images"), batch("images")
    found = TrainingStep(net, AOE(epsilon=0.1), OutlierExposure()).prepare(given)["outliers"].rows
    x = given["outliers"].rows
    assert (losses_of(net, found, "uniform") > losses_of(net, x, "uniform")).all()
    assert float((found - x).abs().max()) == pytest.approx(0.1, abs=1e-6) and found.min() >= 0 and found.max() <= 1
