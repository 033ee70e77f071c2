"""CEDA: the noise and the term, against the equations."""

import math

import numpy as np
import pytest
import torch

from oodles import CEDA, Part, TrainingStep
from oodles.methods.ceda import full_range, log_confidence, low_pass, noise_images, permuted_pixels

from ..contract.networks import batch, classifier
from ..references import ceda as reference

DTYPES = [(torch.float32, 1e-5), (torch.float64, 1e-12)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def images(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 3) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=generator(seed)).to(dtype)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_term_is_that_of_the_paper(dtype: torch.dtype, accuracy: float) -> None:
    z = 3 * torch.randn(7, 5, dtype=torch.float64, generator=generator()).to(dtype)
    found = CEDA(weight=0.8)(z)
    assert found.dtype == dtype
    assert found.item() == pytest.approx(0.8 * reference.term(z.double().numpy()), rel=accuracy)
    net = classifier("images", dtype=dtype)
    step = TrainingStep(net, CEDA(weight=0.8))
    prepared = step.prepare(batch("images", dtype=dtype))
    with torch.no_grad():
        z = net(prepared["noise"].inputs)
    expected = 0.8 * reference.term(z.double().numpy())
    assert step.losses(prepared)["ceda"].item() == pytest.approx(expected, rel=accuracy)
    assert len(prepared["noise"]) == len(prepared["id"]) and prepared["noise"].targets is None


def test_uniform_sure_and_single_class_predictions() -> None:
    assert CEDA()(torch.zeros(3, 8)).item() == pytest.approx(-math.log(8))
    assert log_confidence(torch.tensor([[200.0, 0.0]])).item() == 0
    assert log_confidence(torch.randn(3, 1)).tolist() == [0, 0, 0]
    z = torch.randn(2, 4, 3, 3, dtype=torch.float64, generator=generator())
    torch.testing.assert_close(CEDA()(z), CEDA()(z.movedim(1, -1).reshape(-1, 4)))
    nothing = CEDA()(torch.zeros(0, 3, requires_grad=True))
    assert nothing.item() == 0 and nothing.requires_grad


@pytest.mark.parametrize("sigma", [1.0, 1.7, 2.5])
@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 2, 3), (2, 8, 8), (1, 5, 20)])
def test_the_filter_is_a_window_on_a_mirrored_image(shape: tuple[int, int, int], sigma: float) -> None:
    x = images(2, *shape)
    found = low_pass(x, torch.tensor(sigma, dtype=torch.float64)).numpy()
    np.testing.assert_allclose(found, np.stack([reference.low_pass(one, sigma) for one in x.numpy()]), rtol=1e-12)
    single = low_pass(x.float(), torch.tensor(sigma, dtype=torch.float64))
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single.numpy(), found, rtol=1e-5)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
@pytest.mark.parametrize("shape", [(3, 8, 8), (1, 6, 9)])
def test_the_noise_is_what_its_draws_make(shape: tuple[int, int, int], dtype: torch.dtype, accuracy: float) -> None:
    x = images(5, *shape, dtype=dtype)
    found = noise_images(x, generator=generator(7))
    draws = generator(7)
    keys = torch.rand(2, 1, shape[1] * shape[2], generator=draws).double().numpy()
    noise = [reference.permuted(x[row].double().numpy(), keys[row, 0]) for row in range(2)]
    noise += list(torch.rand(3, *shape, generator=draws).double().numpy())
    sigma = 1 + 1.5 * float(torch.rand((), dtype=torch.float64, generator=draws))
    expected = np.stack([reference.full_range(reference.low_pass(one, sigma)) for one in noise])
    assert found.dtype == dtype
    np.testing.assert_allclose(found.double().numpy(), expected, rtol=0, atol=accuracy)


@pytest.mark.parametrize("dtype, accuracy", DTYPES)
def test_the_filter_gets_a_width_between_one_and_two_and_a_half(dtype: torch.dtype, accuracy: float) -> None:
    """A single bright pixel in the middle: what is beside it, in units of its own, is exp(−1 / 2σ²)."""
    point = torch.zeros(2, 1, 31, 31, dtype=dtype)
    point[:, :, 15, 15] = 1
    widths = []
    for sigma in (1.0, 1.8, 2.5):
        seen = low_pass(point, torch.tensor(sigma, dtype=torch.float64))[0, 0]
        widths.append((-0.5 / math.log(float(seen[15, 16] / seen[15, 15]))) ** 0.5)
    assert widths == pytest.approx([1.0, 1.8, 2.5], rel=10 * accuracy)


def test_pixels_are_permuted_image_by_image_and_keep_their_colours() -> None:
    x = images(6, 3, 7, 5)[:1].expand(6, 3, 7, 5)
    found = permuted_pixels(x, generator=generator())
    for one in found:
        assert sorted(one.flatten(1).T.tolist()) == sorted(x[0].flatten(1).T.tolist())
    assert len({tuple(one.flatten().tolist()) for one in found}) == 6
    assert torch.equal(permuted_pixels(x, generator=generator()), found)


def test_noise_fills_the_unit_range_and_images_of_one_value_are_no_nan() -> None:
    for shape in [(8, 1, 8, 8), (3, 3, 28, 28), (1, 5, 4, 3)]:
        noise = noise_images(images(*shape, dtype=torch.float32), generator=generator())
        assert noise.shape == shape
        assert noise.amin((1, 2, 3)).tolist() == [0] * shape[0] and noise.amax((1, 2, 3)).tolist() == [1] * shape[0]
    black = noise_images(torch.zeros(4, 1, 8, 8), generator=generator())
    assert black[:2].tolist() == torch.zeros(2, 1, 8, 8).tolist() and black[2:].amax((1, 2, 3)).tolist() == [1, 1]
    assert full_range(torch.full((1, 1, 2, 2), 0.3)).tolist() == torch.zeros(1, 1, 2, 2).tolist()
    assert noise_images(torch.rand(2, 1, 1, 1)).isfinite().all()
    assert noise_images(torch.rand(0, 3, 8, 8)).shape == (0, 3, 8, 8)


def test_half_of_it_is_made_of_the_images_and_half_is_not() -> None:
    """Images with one bright pixel: permuted they still have one, so that most of the filtered noise is dark."""
    x = torch.zeros(8, 1, 28, 28)
    x[:, :, 3, 3] = 1
    dark = (noise_images(x, generator=generator()) < 1e-6).float().mean((1, 2, 3))
    assert (dark[:4] > 0.6).all() and (dark[4:] < 0.01).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_is_that_of_the_inputs_alone(dtype: torch.dtype) -> None:
    x = images(4, 2, 8, 8, dtype=dtype)
    found = noise_images(x, generator=generator())
    assert found.dtype == dtype
    assert torch.equal(found, noise_images(x.float(), generator=generator()).to(dtype))
    given = batch("images")
    expected = TrainingStep(classifier("images"), CEDA()).prepare(given)["noise"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        under_autocast = TrainingStep(classifier("images"), CEDA()).prepare(given)["noise"]
    assert isinstance(under_autocast, Part) and torch.equal(under_autocast.inputs, expected.inputs)
