"""Random changes of images: against loops and other conversions, and as functions of (seed, epoch, row) alone."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from oodles.data import Augment, ImageSet
from oodles.data.augment import Changes, draw, enlarge, ready
from oodles.data.image_set import Resident

ALL = Augment(shift=1, flip=True, crop=(0.3, 0.9), brightness=0.4, contrast=0.3, saturation=0.2, hue=0.1)
NOISE = """
import random
import numpy as np
import torch

def noise(image):
    return (image + 0.2 * torch.rand(()) + 0.2 * random.random() + 0.2 * np.random.rand()).clamp(0, 1)

def turned(image):
    return image.transpose(1, 2)[:, :3]

def listed(image):
    return image.tolist()

def normalised(image):
    return image - 0.5

def broken(image):
    raise RuntimeError("no such thing")
"""


def images(rows: int = 6, channels: int = 3, height: int = 8, width: int = 10) -> np.ndarray:
    return np.random.default_rng(0).integers(1, 256, (rows, channels, height, width), dtype=np.uint8)


def image_set(augment: Augment = ALL, seed: int = 3, rows: int = 6) -> ImageSet:
    return ImageSet(images(rows), np.arange(rows) % 3, augment, seed)


@pytest.fixture
def own_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "transforms_of_ones_own.py").write_text(NOISE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "transforms_of_ones_own"


def test_a_crop_is_enlarged_as_torch_enlarges_it() -> None:
    pixels = torch.rand(5, 3, 7, 9)
    boxes = torch.tensor([[1, 2, 3, 4], [0, 0, 7, 9], [2, 1, 5, 5], [6, 8, 1, 1], [3, 0, 4, 9]])
    enlarged = enlarge(pixels, boxes)
    assert torch.equal(enlarged[1], pixels[1]), "all of an image stays as it is"
    for row, (top, left, height, width) in enumerate(boxes.tolist()):
        cut = pixels[row : row + 1, :, top : top + height, left : left + width]
        torch.testing.assert_close(enlarged[row], F.interpolate(cut, (7, 9), mode="bilinear")[0], atol=1e-6, rtol=0)


def boxes_of(crop: tuple[float, float], side: tuple[int, int], rows: int = 4000) -> np.ndarray:
    changes = draw(Augment(crop=crop), 0, np.zeros(rows, dtype=np.int64), np.arange(rows), (rows, 3, *side))
    assert changes is not None and changes.boxes is not None and changes.colours is None
    return changes.boxes.numpy()


def test_crops_have_the_areas_and_aspect_ratios_that_were_asked_for() -> None:
    top, left, height, width = boxes_of((0.3, 0.6), (60, 80)).T
    assert ((top >= 0) & (left >= 0) & (top + height <= 60) & (left + width <= 80)).all()
    area = height * width / 4800
    assert 0.28 < area.min() < 0.32 and 0.58 < area.max() < 0.62 and abs(area.mean() - 0.45) < 0.01
    ratio = np.log(width / height)
    assert ratio.min() > np.log(0.72) and ratio.max() < np.log(1.4) and abs(ratio.mean()) < 0.02
    for corner, side, length in ((top, 60, height), (left, 80, width)):
        assert abs((corner / np.maximum(side - length, 1)).mean() - 0.5) < 0.03, "crops lie everywhere"
    assert (boxes_of((1.0, 1.0), (10, 60), 50) == [0, 0, 10, 60]).all(), "what cannot be, is not cropped"


def test_colours_are_multiplied_by_what_is_drawn() -> None:
    rows = np.arange(2000)
    changes = draw(ALL, 0, np.zeros(2000, dtype=np.int64), rows, (2000, 3, 8, 10))
    assert changes is not None and changes.colours is not None
    low, high = changes.colours.numpy().min(0), changes.colours.numpy().max(0)
    np.testing.assert_allclose(low, [0.6, 0.7, 0.8, -0.1], atol=3e-3)
    np.testing.assert_allclose(high, [1.4, 1.3, 1.2, 0.1], atol=3e-3)
    pixels, moves = torch.rand(1, 3, 4, 4) / 2, torch.zeros(1, 3, dtype=torch.int64)
    brighter = ready(pixels, Changes(moves, None, torch.tensor([[1.5, 1.0, 1.0, 0.0]])), 0)
    torch.testing.assert_close(brighter, pixels * 1.5)
    grey = ready(pixels, Changes(moves, None, torch.tensor([[1.0, 1.0, 0.0, 0.0]])), 0)
    torch.testing.assert_close(grey[:, 0], (pixels * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1))
    turned = ready(pixels, Changes(moves, None, torch.tensor([[1.0, 1.0, 1.0, 1 / 3]])), 0)
    torch.testing.assert_close(turned, pixels.roll(1, 1), msg="a third of a turn makes red green, green blue, blue red")


def test_shifts_and_mirrorings_do_not_depend_on_other_changes() -> None:
    old, new = (draw(it, 3, np.array([0, 5]), np.array([1, 2]), (6, 3, 8, 10)) for it in (Augment(1, True), ALL))
    assert old is not None and new is not None and torch.equal(old.moves, new.moves)
    assert old.moves.tolist() == [[0, 0, 0], [2, 2, 1]], "those of earlier versions"


def test_all_changes_are_a_function_of_seed_epoch_and_row() -> None:
    data = image_set()
    indices = [(0, 1), (1, 1), 1, (0, 5), (7, 0), (1, 2)]
    batch, _ = data.__getitems__(indices)
    assert torch.equal(batch, torch.stack([data[index][0] for index in indices]))
    assert torch.equal(batch[2], torch.from_numpy(images()[1]) / 255), "rows without an epoch are plain"
    assert len({tuple(image.flatten().tolist()) for image in (batch[0], batch[1], image_set(seed=4)[0, 1][0])}) == 3
    assert batch.min() >= 0 and batch.max() <= 1


def test_the_device_and_a_loader_make_the_same_batches() -> None:
    data = image_set()
    epochs, rows = np.array([0, 4, 4]), np.array([2, 2, 0])
    resident, _ = Resident(data, torch.device("cpu")).batch(epochs, rows)
    assert torch.equal(resident, data.batch(epochs, rows)[0])


def test_transforms_draw_from_global_generators_as_seed_epoch_and_row_say(own_module: str) -> None:
    augment = Augment(transforms=f"{own_module}:noise")
    data = ImageSet(np.zeros((6, 3, 4, 4), np.uint8), np.zeros(6, dtype=np.int64), augment, 3)
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    expected = torch.rand(1), np.random.rand(), random.random()
    batch, _ = data.__getitems__([(0, 1), (1, 1), 1, (0, 2)])
    torch.manual_seed(0), np.random.seed(0), random.seed(0)
    again, _ = data.__getitems__([(0, 2), (0, 1)])
    assert torch.equal(again, batch[[3, 0]])
    assert (torch.rand(1), np.random.rand(), random.random()) == expected, "no trace is left"
    assert batch[2].max() == 0, "rows without an epoch are plain"
    assert len(set(batch[[0, 1, 3], 0, 0, 0].tolist())) == 3 and batch[0].min() > 0
    with pytest.raises(TypeError, match="changed by transforms cannot stay on a device: let a loader stream them"):
        Resident(data, torch.device("cpu"))


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("turned", r"must give a floating-point tensor of the shape \(3, 8, 10\) .*, got torch.float32 of shape"),
        ("listed", "must give a floating-point tensor .*, got list"),
        ("normalised", r"must give images in \[0, 1\], got -0\.\d+ to .*: leave out normalisation"),
        ("broken", "broke on an image: RuntimeError: no such thing"),
        ("nothing", "must hold a function 'nothing', but does not"),
    ],
)
def test_transforms_that_cannot_be_used_are_refused_before_training(own_module: str, name: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        image_set(Augment(transforms=f"{own_module}:{name}"))


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"crop": (0.7,)}, "crop must be the least and the largest share of the area"),
        ({"crop": (0.7, 1)}, ""),
        ({"crop": (0.8, 0.7)}, r"crop must be two shares above 0 and at most 1, the lesser first, got \(0\.8, 0\.7\)"),
        ({"crop": (0, 0.7)}, "crop must be two shares above 0"),
        ({"crop": (True, 1)}, "crop must be the least and the largest"),
        ({"brightness": 1.5}, "brightness must be at most 1, got 1.5"),
        ({"contrast": -1}, "contrast must be a finite number >= 0"),
        ({"hue": 0.6}, "hue must be at most 0.5, got 0.6"),
        ({"transforms": "noise"}, "transforms must be the text package.module:function, got 'noise'"),
    ],
)
def test_wrong_settings_are_refused(settings: dict[str, object], sentence: str) -> None:
    if not sentence:
        assert Augment(**settings).as_dict() == {"shift": 0, "flip": False, "crop": [0.7, 1.0]}  # type: ignore[arg-type]
        return
    with pytest.raises(ValueError, match=sentence):
        Augment(**settings)  # type: ignore[arg-type]


def test_grey_images_have_no_hue() -> None:
    with pytest.raises(ValueError, match="hue are for images of 3 channels, and these have 1: leave them"):
        ImageSet(images(channels=1), np.zeros(6, dtype=np.int64), Augment(hue=0.1))


def test_torchvision_s_transforms_are_welcome(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torchvision", reason="transforms of torchvision need it", exc_type=ImportError)
    module = "from torchvision.transforms import v2\nrandom = v2.Compose([v2.RandomCrop(8), v2.RandomGrayscale(0.5)])\n"
    (tmp_path / "of_torchvision.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    data = ImageSet(images(width=8), np.zeros(6, dtype=np.int64), Augment(transforms="of_torchvision:random"), 3)
    assert torch.equal(data[2, 1][0], data[2, 1][0])
    assert len({torch.equal(data[epoch, 1][0][0], data[epoch, 1][0][1]) for epoch in range(20)}) == 2
