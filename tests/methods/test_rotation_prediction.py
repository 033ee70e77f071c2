"""Rotation prediction: against the equations, and against the score of the authors' program (hendrycks/ss-ood)."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from oodles import Classifier, Mixup, RotationPrediction, TrainingStep, evaluate
from oodles.methods.rotation_prediction import Rotation, rotated, rotation_loss

from ..contract.networks import batch, classifier, inputs, labels
from ..contract.steps import is_one_sentence
from ..references import rotation_prediction as reference

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]
RECORDED = json.loads((Path(__file__).parents[1] / "recorded" / "values.json").read_text(encoding="utf-8"))


def said(rows: int, dtype: torch.dtype = torch.float64, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [3 * torch.randn(rows, 4, generator=generator, dtype=torch.float64).to(dtype) for _ in range(4)]


def numpy(values: list[Tensor]) -> list[np.ndarray]:
    return [value.detach().double().numpy() for value in values]


@pytest.mark.parametrize("quarters", range(4))
def test_images_are_turned_counter_clockwise(quarters: int) -> None:
    images = torch.rand(3, 2, 5, 5)
    expected = np.stack([reference.turned(image, quarters) for image in images.numpy()])
    assert np.array_equal(rotated(images, quarters).numpy(), expected)


def test_one_image_by_eye() -> None:
    image = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]])
    assert rotated(image, 1).flatten().tolist() == [2, 4, 1, 3]
    assert rotated(image, 2).flatten().tolist() == [4, 3, 2, 1]
    assert rotated(image, 3).flatten().tolist() == [3, 1, 4, 2]


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_term_is_that_of_the_paper(dtype: torch.dtype, accuracy: float) -> None:
    values = said(5, dtype)
    found = RotationPrediction(weight=0.7)(*values)
    assert found.dtype == dtype
    assert found.item() == pytest.approx(0.7 * reference.term(numpy(values)), rel=accuracy)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_term_of_a_step(dtype: torch.dtype, accuracy: float) -> None:
    net = classifier("images", dtype=dtype)
    given = batch("images", dtype=dtype)
    terms = TrainingStep(net, RotationPrediction(weight=0.7))(given)
    head = net.heads["rotation"]
    images = given["id"].inputs.numpy()
    with torch.no_grad():
        values = [
            head(net.features(torch.from_numpy(np.stack([reference.turned(image, k) for image in images]))))
            for k in range(4)
        ]
    assert terms["rotation_prediction"].item() == pytest.approx(0.7 * reference.term(numpy(values)), rel=accuracy)


def test_a_head_that_knows_nothing_costs_log_four() -> None:
    assert RotationPrediction()(*[torch.zeros(3, 4)] * 4).item() == pytest.approx(math.log(4))
    assert rotation_loss(torch.tensor([[0.0, 0.0, 50.0, 0.0]]), 2).item() == pytest.approx(0, abs=1e-20)


def test_no_images_are_a_zero_with_a_graph() -> None:
    step = TrainingStep(classifier("images"), RotationPrediction())
    term = step((torch.rand(0, 2, 8, 8), torch.zeros(0, dtype=torch.long)))["rotation_prediction"]
    assert term.item() == 0 and term.requires_grad


def test_what_others_make_of_the_images_is_turned() -> None:
    prepared = TrainingStep(classifier("images"), Mixup(), RotationPrediction()).prepare(batch("images"))
    assert torch.equal(prepared["rotated_90"].inputs, rotated(prepared["id"].inputs, 1))
    assert prepared["rotated_90"].targets is None


@pytest.mark.parametrize("dtype, accuracy", [(torch.float32, 1e-5), (torch.float64, 1e-12)])
def test_the_score_is_that_of_the_paper(dtype: torch.dtype, accuracy: float) -> None:
    values, z = said(6, dtype), 3 * torch.randn(6, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found = Rotation()(z.to(dtype), z.to(dtype), *values)
    expected = reference.score(z.to(dtype).double().numpy(), numpy(values))
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=accuracy, atol=accuracy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_score_of_the_authors_program(dtype: torch.dtype) -> None:
    """hendrycks/ss-ood, multiclass_ood/test_auxiliary_ood.py; recorded with the sign turned, so high is known."""
    x, w = (torch.tensor(RECORDED["inputs"][name], dtype=dtype) for name in ("Xin", "W"))
    logits = x.reshape(4, 6) @ w.reshape(5, 6).T + torch.tensor(RECORDED["inputs"]["b"], dtype=dtype)
    rotations = torch.tensor(RECORDED["rotation_prediction"]["rot_logits"], dtype=dtype).reshape(16, 4).split(4)
    found = Rotation()(logits, logits, *rotations)
    np.testing.assert_allclose(-found.numpy(), RECORDED["rotation_prediction"]["score_id_high"], rtol=1e-5)


def test_a_confident_upright_image_scores_lower_than_one_of_which_nothing_is_known() -> None:
    sure = Rotation()(torch.zeros(1), torch.tensor([[30.0, 0.0]]), *[30 * torch.eye(4)[k : k + 1] for k in range(4)])
    unsure = Rotation()(torch.zeros(1), torch.zeros(1, 2), *[torch.zeros(1, 4)] * 4)
    assert unsure.item() == pytest.approx(2)  # log₂ 4 bits, and a divergence of zero
    assert sure.item() < -20
    assert Rotation()(torch.zeros(1), torch.tensor([[1e30, -1e30]]), *[torch.full((1, 4), 1e30)] * 4).isfinite().all()


def test_an_evaluation_forwards_the_turned_images() -> None:
    net = classifier("images", noisy=True).train()
    TrainingStep(net, RotationPrediction())
    known, unknown = inputs("images", 7), inputs("images", 4, seed=5)
    found = evaluate(net, [(known, labels("images", 7))], {"unknown": [unknown]}, ["rotation", "msp"])
    head = net.heads["rotation"]
    net.eval()
    with torch.no_grad():
        z = net(unknown)
        values = [head(net.features(torch.rot90(unknown, k, (2, 3)))) for k in range(4)]
    expected = reference.score(z.double().numpy(), numpy(values))
    np.testing.assert_allclose(found.scores["unknown"]["rotation"], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("given", [torch.rand(2, 2, 8, 6), torch.rand(2, 8, 8)])
def test_images_that_are_not_square_are_refused(given: Tensor) -> None:
    net = classifier("images")
    step = TrainingStep(net, RotationPrediction())
    with pytest.raises(ValueError, match=r"rotation-prediction needs (square )?images of shape .*, got") as no:
        step((given, torch.zeros(2, dtype=torch.long)))
    assert is_one_sentence(str(no.value))


def test_the_score_needs_square_images_and_its_head() -> None:
    net = classifier("images")
    with pytest.raises(ValueError, match="rotation looks at a head 'rotation' that this classifier lacks") as no:
        evaluate(net, [torch.rand(2, 2, 8, 8)], {}, ["rotation"])
    assert is_one_sentence(str(no.value))
    TrainingStep(net, RotationPrediction())
    with pytest.raises(ValueError, match=r"The score rotation needs square images .*, got \(2, 2, 8, 6\)") as no:
        evaluate(net, [torch.rand(2, 2, 8, 6)], {}, ["rotation"])
    assert is_one_sentence(str(no.value))
    with pytest.raises(TypeError, match="rotation-prediction needs one tensor of images, floating point, got"):
        step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(4, 2)), RotationPrediction())
        step((torch.zeros(2, 1, 2, 2, dtype=torch.uint8), torch.zeros(2, dtype=torch.long)))
