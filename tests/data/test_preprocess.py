"""The file that feeds exported classifiers: the package's own way from an image file to an input, by itself."""

import ast
import math
import runpy
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodles.data import from_images, preprocess, read_images

SOURCE = Path(preprocess.__file__)
SHAPES = [((3, 24, 24), 30), ((1, 24, 20), 30), ((3, 24, 20), None), ((1, 9, 24), None)]


def photos(folder: Path) -> list[Path]:
    """Write images of several kinds: colour, grey, transparent, turned, with a palette, small."""
    random = np.random.default_rng(0)
    colour = random.integers(0, 256, (60, 40, 3), np.uint8)
    turned = Image.fromarray(colour)
    turned.getexif()[0x0112] = 6
    kinds = {
        "colour.png": Image.fromarray(colour),
        "grey.png": Image.fromarray(colour[..., 0]),
        "clear.png": Image.fromarray(random.integers(0, 256, (33, 50, 4), np.uint8), "RGBA"),
        "palette.gif": Image.fromarray(colour).quantize(16),
        "small.bmp": Image.fromarray(colour[:11, :13]),
        "photo.jpg": Image.fromarray(colour),
    }
    for name, image in kinds.items():
        image.save(folder / name)
    turned.save(folder / "turned.jpg", exif=turned.getexif())
    return sorted(folder.iterdir())


def test_it_needs_nothing_but_numpy_and_pillow() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"))
    froms = {
        node.module.partition(".")[0] for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) if node.module
    }
    plain = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    assert froms | plain == {"re", "collections", "pathlib", "typing", "numpy", "PIL"}


@pytest.mark.parametrize(("shape", "resize"), SHAPES)
def test_it_gives_what_a_suite_gives(shape: tuple[int, int, int], resize: int | None, tmp_path: Path) -> None:
    files = photos(tmp_path)
    alone = runpy.run_path(str(SOURCE))["as_input"]
    read = read_images(tmp_path, shape, resize)
    listed = from_images([files[0], *map(str, files[1:])], shape, resize)
    for row, file in enumerate(files):
        given = alone(file, shape, resize)
        assert given.dtype == np.float32 and given.shape == (1, *shape)
        for images in (read, listed):
            assert torch.equal(torch.from_numpy(given[0]), images[row][0])
        with Image.open(file) as opened:
            assert np.array_equal(alone(opened, shape, resize), given)
    assert listed.names == tuple(map(str, files))


@pytest.mark.parametrize(("shape", "resize", "part"), [((3, 24, 40), None, 4), ((1, 20, 20), 40, 2)])
@pytest.mark.parametrize("turned", [False, True])
def test_drafts_are_the_least_that_need_not_be_enlarged(
    shape: tuple[int, int, int], resize: int | None, part: int, turned: bool, tmp_path: Path
) -> None:
    height, width = (200, 150) if turned else (150, 200)
    smooth = np.add.outer(np.linspace(0, 120, height), np.linspace(0, 120, width))
    image = Image.fromarray(np.stack([smooth, 255 - smooth, smooth / 2], 2).astype(np.uint8))
    image.getexif()[0x0112] = 6 if turned else 1
    image.save(tmp_path / "photo.jpg", quality=95, exif=image.getexif())
    with Image.open(tmp_path / "photo.jpg") as opened:
        preprocess.draft_file(opened, shape, resize)
        upright = preprocess.upright(opened)
    assert (upright.height, upright.width) == (math.ceil(150 / part), 200 // part)
    given = preprocess.as_input(tmp_path / "photo.jpg", shape, resize, draft=True)
    whole = preprocess.as_input(tmp_path / "photo.jpg", shape, resize)
    assert not np.array_equal(given, whole) and np.abs(given - whole).max() < 0.05
    for images in (
        read_images(tmp_path, shape, resize, draft=True),
        from_images([tmp_path / "photo.jpg"], shape, resize, draft=True),
    ):
        assert torch.equal(torch.from_numpy(given[0]), images[0][0])


def test_what_is_no_jpeg_file_is_read_whole(tmp_path: Path) -> None:
    for file in photos(tmp_path):
        if file.suffix != ".jpg":
            whole = read_images(file, (3, 9, 9)).images
            assert np.array_equal(read_images(file, (3, 9, 9), draft=True).images[:], whole[:])
    with pytest.raises(ValueError, match="draft needs input_shape: say what size is wanted"):
        read_images(tmp_path / "photo.jpg", draft=True)


def test_a_list_holds_images_of_any_kind(tmp_path: Path) -> None:
    grey = np.arange(35, dtype=np.uint8).reshape(5, 7)
    Image.fromarray(grey).save(tmp_path / "grey.png")
    kinds = [tmp_path / "grey.png", Image.fromarray(grey), grey, grey[..., None], torch.from_numpy(grey)[None]]
    images = from_images(kinds)
    assert images.images.tolist() == np.tile(grey[None], (5, 1, 1, 1)).tolist() and set(images.labels) == {-1}
    assert images.names == (str(tmp_path / "grey.png"), "1", "2", "3", "4")


def test_what_is_no_image_gets_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"these are not: .*none\.png"):
        from_images([tmp_path / "none.png"])
    with pytest.raises(ValueError, match="at least one, got an empty list"):
        from_images([])
    with pytest.raises(ValueError, match=r"the list, at 1, must be Pillow's, .*got ndarray of shape \(2, 2, 2, 2\)"):
        from_images([np.zeros((2, 2), np.uint8), np.zeros((2, 2, 2, 2), np.uint8)])
    with pytest.raises(ValueError, match=r"must be in \[0, 1\], got 0 to 3"):
        from_images([np.full((2, 2), 3.0) * np.eye(2)])
