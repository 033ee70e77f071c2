"""PixMix: its two ways of mixing, the draws, and whole images against loops."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from oodles import Classifier, Part, PixMix, TrainingStep
from oodles import augmentations as operations
from oodles.augmentations import draw_operations
from oodles.data.mixing_pictures import mixing_pictures
from oodles.methods.pixmix import add, draw_coefficients, multiply

from ..contract.steps import is_one_sentence
from ..references import pixmix as reference
from ..references.augmentations import NINE, augmented

VALUES = [0.0, 1 / 255, 0.2, 0.5, 0.9, 1.0]
COEFFICIENTS = [(0.7, 0.4), (1e-30, 0.0), (1.0, 1.0), (1.4, -0.3), (2.0, -1.0), (1.0, 0.0)]


def images(rows: int, dtype: torch.dtype = torch.float64) -> Tensor:
    drawn = torch.rand(rows, 2, 7, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return ((drawn * 255).round() / 255).to(dtype)


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-5), (torch.float64, 1e-12)])
@pytest.mark.parametrize(("a", "b"), COEFFICIENTS)
@pytest.mark.parametrize("mix", [add, multiply])
def test_every_pair_of_values(mix, a: float, b: float, dtype: torch.dtype, accuracy: float) -> None:  # type: ignore[no-untyped-def]
    x, picture = (torch.tensor(each, dtype=dtype) for each in np.array([(p, q) for p in VALUES for q in VALUES]).T)
    before = x.clone(), picture.clone()
    found = mix(x, picture, torch.tensor(a, dtype=dtype), torch.tensor(b, dtype=dtype))
    assert torch.equal(x, before[0]) and torch.equal(picture, before[1])
    expected = [getattr(reference, mix.__name__)(p, q, a, b) for p in VALUES for q in VALUES]
    np.testing.assert_allclose(found.double().numpy(), expected, atol=accuracy)


def test_black_pictures_to_a_negative_power() -> None:
    """White where the image shows anything, and black where it does not: no infinity, and no 0 · ∞."""
    found = multiply(torch.tensor([0.0, 0.1, 1.0]), torch.zeros(3), torch.tensor(1.5), torch.tensor(-1.0))
    assert found.tolist() == [0.0, 1.0, 1.0]


def test_black_that_rounding_has_made_a_trifle_negative() -> None:
    """Inputs that are accepted as being in [0, 1] give numbers, and the same ones as black and white."""
    x = torch.tensor([-1e-3, -1e-9, 1 + 1e-3]).repeat(3, 1, 1, 1)
    found = multiply(x, x, torch.tensor(0.7), torch.tensor(0.4))
    assert torch.equal(found[..., :2], torch.zeros_like(found[..., :2])) and (found[..., 2] > 0.99).all()
    generator = torch.Generator().manual_seed(0)
    assert all(PixMix()(x, generator=generator).isfinite().all() for _ in range(20))


def test_coefficients_are_drawn_as_published() -> None:
    a, b = draw_coefficients((20000,), 3.0, torch.Generator().manual_seed(0))
    first = b >= 0
    assert first.mean() == pytest.approx(0.5, abs=0.02)
    assert ((a[first] > 0) & (a[first] <= 1)).all() and (b[first] <= 1).all()
    assert ((a[~first] >= 1) & (a[~first] <= 2)).all() and (b[~first] >= -1).all()
    for values, mean in ((a[first], 3 / 4), (b[first], 1 / 4), (a[~first], 5 / 4), (b[~first], -1 / 4)):
        assert values.mean() == pytest.approx(mean, abs=0.01)
        assert values.var() == pytest.approx(3 / 80, rel=0.05), "that of Beta(3, 1)"
    tiny, _ = draw_coefficients((1000,), 1e-4, torch.Generator().manual_seed(0))
    assert (tiny > 0).all()


@pytest.mark.parametrize(("dtype", "accuracy"), [(torch.float32, 2e-4), (torch.float64, 1e-10)])
@pytest.mark.parametrize("rounds", [0, 1, 4])
def test_whole_images_against_loops(dtype: torch.dtype, accuracy: float, rounds: int) -> None:
    x, slots, count = images(12), rounds + 1, 12
    found = PixMix(rounds=rounds, beta=2.0, severity=6.0)(x.to(dtype), generator=torch.Generator().manual_seed(5))
    pictures = mixing_pictures("", (2, 7, 6))
    generator = torch.Generator().manual_seed(5)  # the same draws, in the same order
    uses_copy, multiplies = (torch.rand(2, slots, count, dtype=torch.float64, generator=generator) < 0.5).numpy()
    last = torch.randint(slots, (count,), generator=generator).tolist()
    number = torch.randint(len(pictures), (count,), generator=generator).numpy()
    a, b = draw_coefficients((slots, count), 2.0, generator)
    drawn = draw_operations(slots * count, 6.0, generator)
    picture = pictures.rows(number, x).numpy()
    assert rounds == 0 or set(last) == set(range(slots))
    for row in range(count):

        def copy(slot: int, row: int = row) -> np.ndarray:
            which = slot * count + row
            name = next(name for name in NINE if getattr(operations, name.upper()) == drawn.kind[which])
            return augmented(x[row].numpy(), name, drawn.level[which], drawn.sign[which])

        begin = copy(0) if uses_copy[0, row] else x[row].numpy()
        mixings = [
            (
                "multiply" if multiplies[slot, row] else "add",
                copy(slot) if uses_copy[slot, row] else picture[row],
                a[slot, row],
                b[slot, row],
            )
            for slot in range(1, last[row] + 1)
        ]
        np.testing.assert_allclose(found[row].double().numpy(), reference.mixed(begin, mixings), atol=accuracy)


def test_without_rounds_half_of_the_images_stay() -> None:
    x = images(400)
    found = PixMix(rounds=0)(x, generator=torch.Generator().manual_seed(0))
    untouched = (found == x).flatten(1).all(1).double().mean()
    assert 0.45 < untouched < 0.65, "half, and those that an augmentation leaves as they are"


def test_labels_are_kept_and_images_are_not() -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(84, 3)), PixMix())
    for y in (torch.arange(6) % 3, torch.rand(6, 3).softmax(1)):
        given = Part(images(6, torch.float32), y)
        prepared = step.prepare((given.inputs, y))
        assert prepared["id"].targets is y
        assert (prepared["id"].inputs != given.inputs).flatten(1).any(1).double().mean() > 0.5
    assert list(step((images(6, torch.float32), torch.arange(6) % 3))) == ["cross_entropy"]


def test_pictures_of_a_folder_are_mixed_in(tmp_path: Path) -> None:
    Image.new("RGB", (20, 20), (255, 0, 0)).save(tmp_path / "red.png")
    grey = torch.full((200, 3, 8, 8), 0.5)
    found = PixMix(pictures=str(tmp_path))(grey, generator=torch.Generator().manual_seed(0))
    red, green, blue = found.mean((0, 2, 3)).tolist()
    assert green == pytest.approx(blue, abs=1e-6) and red > green + 0.02
    with pytest.raises(ValueError, match="1 or 3 channels"):
        PixMix(pictures=str(tmp_path))(images(2))


@pytest.mark.parametrize("bad", [images(4) * 2, images(4) - 0.5, images(4) * float("nan")])
def test_images_that_are_normalised_already_are_refused(bad: Tensor) -> None:
    step = TrainingStep(Classifier(nn.Flatten(), nn.Linear(84, 3).double()), PixMix())
    with pytest.raises(ValueError, match=r"pixmix needs images in \[0, 1\], got .* let Normalize be") as refusal:
        step((bad, torch.arange(4) % 3))
    assert is_one_sentence(str(refusal.value))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("rows", [0, 1, 33])
def test_any_type_and_number_of_rows(dtype: torch.dtype, rows: int) -> None:
    found = PixMix()(images(rows, dtype), generator=torch.Generator().manual_seed(1))
    assert found.shape == (rows, 2, 7, 6) and found.dtype == dtype
    assert ((found >= 0) & (found <= 1)).all()


def test_the_generator_alone_decides() -> None:
    first, again, other = (PixMix()(images(6), generator=torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_pictures_that_are_not_there_are_missed_when_they_are_needed() -> None:
    method = PixMix(pictures="/no/such/folder")  # a run that has ended is opened without them
    with pytest.raises(ValueError, match=r"pictures must be a folder or \.npz file of pictures, but nothing is at"):
        method(images(2))


def test_a_number_is_no_place_of_pictures() -> None:
    with pytest.raises(TypeError, match=r"pictures must be the path of a folder or \.npz file, got 3") as refusal:
        PixMix(pictures=3)  # type: ignore[arg-type]
    assert is_one_sentence(str(refusal.value))
