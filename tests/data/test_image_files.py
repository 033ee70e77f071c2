"""Folders and files of images: nothing vanishes, one rule for every format, and limits before memory is taken."""

import io
import os
import socket
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodles.data import Decoded, image_files, load_suite, preprocess, read_images
from oodles.data.image_files import ENDINGS, FORMATS

RANDOM = np.random.default_rng(0)


def picture(side: int = 8, channels: int = 3) -> Image.Image:
    return Image.fromarray(RANDOM.integers(0, 256, (side, side, channels), dtype=np.uint8).squeeze())


def fill(folder: Path, rows: int = 4, ending: str = "png", kind: str = "PNG") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row in range(rows):
        picture().save(folder / f"{row}.{ending}", kind)


def animals(root: Path, *names: str) -> Path:
    """A suite with these classes in train and test."""
    for part in ("train", "test"):
        for name in names:
            fill(root / part / name)
    return root


def read_one(path: Path) -> np.ndarray:
    """The one image at a path, (H, W, C)."""
    return np.moveaxis(read_images(path).images[0], 0, 2)


# folders: every class is read or named


def test_class_folders_and_files_that_are_links_are_read(tmp_path: Path) -> None:
    root = animals(tmp_path / "suite", "cat", "dog")
    for part in ("train", "test"):
        fill(tmp_path / "store" / part / "bee")
        (root / part / "bee").symlink_to(tmp_path / "store" / part / "bee")
        picture().save(tmp_path / "store" / f"{part}.png")
        (root / part / "dog" / "link.png").symlink_to(tmp_path / "store" / f"{part}.png")
    suite = load_suite(root)
    assert suite.classes == ("bee", "cat", "dog")
    assert np.bincount(suite.test.labels).tolist() == [4, 4, 5]
    assert suite.test.names[:5] == ("bee/0.png", "bee/1.png", "bee/2.png", "bee/3.png", "cat/0.png")


@pytest.mark.parametrize("target", [".", "..", "../dog", "a/../../cat"])
def test_a_folder_that_is_reached_twice_is_refused(tmp_path: Path, target: str) -> None:
    root = animals(tmp_path, "cat", "dog")
    (root / "train" / "cat" / "a").mkdir()
    (root / "train" / "cat" / "link").symlink_to(target)
    with pytest.raises(ValueError, match=r" are one folder, by a link: keep one of them\.$") as refused:
        load_suite(root)
    assert str(root / "train" / "cat" / "link") in str(refused.value)


def test_links_to_nothing_are_named_and_are_no_way_for_a_class_to_vanish(tmp_path: Path) -> None:
    root = animals(tmp_path, "cat", "dog")
    (root / "train" / "cat" / "self").symlink_to("self")
    (root / "train" / "cat" / "gone").symlink_to("nowhere")
    with pytest.warns(UserWarning, match=r"train holds .* left out: cat/gone, cat/self \(a link to nothing\)\.$"):
        assert load_suite(root).classes == ("cat", "dog")
    for name in ("self", "gone"):
        (root / "train" / "cat" / name).rename(root / "train" / "cat" / f"{name}.png")
    with pytest.raises(
        ValueError, match=r"^2 files cannot be used as images: .*cat/gone\.png \(No such file or directory"
    ):
        load_suite(root)
    for name in ("self", "gone"):
        (root / "train" / "cat" / f"{name}.png").unlink()
    (root / "train" / "ant").symlink_to("nowhere")
    with (
        pytest.warns(UserWarning, match=r"left out: ant \(a link to nothing\)\.$"),
        pytest.raises(
            ValueError, match=r"every class folder in .* unlike ant \(ant \(a link to nothing\)\): add images"
        ),
    ):
        load_suite(root)


@pytest.mark.parametrize("ending", ["jfif", "JPEG", "jpe", "Jpg"])
def test_further_endings_of_jpeg_are_read(tmp_path: Path, ending: str) -> None:
    root = animals(tmp_path, "cat", "dog")
    for part in ("train", "test"):
        fill(root / part / "bee", ending=ending, kind="JPEG")
    assert load_suite(root).classes == ("bee", "cat", "dog")


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_is_read_by_each_of_its_endings(tmp_path: Path, format: str) -> None:
    content = io.BytesIO()
    grey = picture(16, 1)
    grey.save(content, format, **({"lossless": True} if format == "WEBP" else {}))
    for number, ending in enumerate(FORMATS[format]):
        (tmp_path / f"{number}{ending}").write_bytes(content.getvalue())
        (tmp_path / f"{number + 10}{ending.upper()}").write_bytes(content.getvalue())
    images = read_images(tmp_path).images
    assert len(images) == 2 * len(FORMATS[format])
    if format not in ("JPEG", "AVIF"):  # these lose something
        assert all(np.array_equal(image[0], np.asarray(grey)) for image in images)


@pytest.mark.parametrize(
    ("names", "held"),
    [
        ((), "ant (empty)"),
        (("a.heic", "b.HEIC", "c.svg"), "ant (2 × .heic, 1 × .svg)"),
        (("noending",), "ant (1 × without ending)"),
        ((".DS_Store", "Thumbs.db"), "ant (empty)"),
    ],
)
@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.filterwarnings("ignore:.* holds more than images")
def test_a_class_folder_without_images_is_refused_by_name(
    tmp_path: Path, names: tuple[str, ...], held: str, part: str
) -> None:
    root = animals(tmp_path, "cat", "dog")
    (root / part / "ant").mkdir()
    for name in names:
        (root / part / "ant" / name).touch()
    with pytest.raises(ValueError, match=r"every class folder in .* must hold images, unlike ant \(") as refused:
        load_suite(root)
    assert f"{root / part} must hold images, unlike {held}: add images (.bmp" in str(refused.value)


def test_empty_folders_among_images_without_classes_do_no_harm(tmp_path: Path) -> None:
    fill(tmp_path / "some")
    (tmp_path / "none").mkdir()
    assert len(read_images(tmp_path)) == 4


def test_what_systems_leave_behind_is_no_class(tmp_path: Path) -> None:
    root = animals(tmp_path, "cat", "dog")
    for place in ("train/__MACOSX/cat", "train/.ipynb_checkpoints", "__MACOSX/train"):
        (root / place).mkdir(parents=True)
    for name in (".DS_Store", "Thumbs.db", "desktop.ini", "cat/._0.png", "__MACOSX/cat/._0.png"):
        (root / "train" / name).touch()
    assert load_suite(root).classes == ("cat", "dog")


def test_a_class_that_another_part_lacks_is_told(tmp_path: Path) -> None:
    root = animals(tmp_path, "cat", "dog")
    fill(root / "train" / "bee")
    with pytest.warns(UserWarning, match=r"test has no images of bee, which train has\.$"):
        assert np.bincount(load_suite(root).test.labels, minlength=3).tolist() == [0, 4, 4]
    fill(root / "test" / "cow")
    with pytest.raises(ValueError, match=r"classes in .*test must be those of train, got 'cow': train has bee, cat"):
        load_suite(root)


def test_an_image_beside_class_folders_is_named(tmp_path: Path) -> None:
    root = animals(tmp_path, "cat", "dog")
    picture().save(root / "train" / "stray.png")
    with pytest.raises(ValueError, match=r"one folder per class, while stray\.png lies beside them\.$"):
        load_suite(root)


def test_both_unicode_forms_are_one_class(tmp_path: Path) -> None:
    words = {form: [unicodedata.normalize(form, word) for word in ("Löwe", "Bär")] for form in ("NFC", "NFD")}
    for part, form in (("train", "NFD"), ("validation", "NFC"), ("test", "NFC")):
        for word in words[form]:
            fill(tmp_path / part / word)
    suite = load_suite(tmp_path)
    assert suite.classes == ("Bär", "Löwe")
    assert suite.test.labels.tolist() == suite.train.labels.tolist() == [0] * 4 + [1] * 4
    fill(tmp_path / "train" / words["NFC"][0])
    assert np.bincount(load_suite(tmp_path).train.labels).tolist() == [4, 8]
    for form, listed in words.items():
        file = tmp_path / f"{form}.toml"
        file.write_text(
            f'train = "train"\ntest = "test"\nvalidation = "validation"\nclasses = {listed!r}', encoding="utf-8"
        )
        assert (
            load_suite(file).classes == ("Löwe", "Bär") and load_suite(file).test.labels.tolist() == [1] * 4 + [0] * 4
        )
    (tmp_path / "twice.toml").write_text(
        f'train = "train"\ntest = "test"\nclasses = {[words["NFC"][0], words["NFD"][0]]!r}', encoding="utf-8"
    )
    with pytest.raises(ValueError, match="must be a list of at least 2 different names"):
        load_suite(tmp_path / "twice.toml")


@pytest.mark.parametrize("stored", ["NFC", "NFD"])
@pytest.mark.parametrize("written", ["NFC", "NFD"])
def test_a_suite_file_names_paths_and_sets_in_either_unicode_form(tmp_path: Path, stored: str, written: str) -> None:
    animals(tmp_path, "cat", "dog")
    fill(tmp_path / unicodedata.normalize(stored, "Bär"))
    path = unicodedata.normalize(written, "Bär")
    text = f"train = 'train'\ntest = 'test'\n[near]\n'{path}' = '{path}'\n[notes]\n'{path}' = 'new'"
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    suite = load_suite(tmp_path / "mine.toml")
    assert list(suite.near) == list(suite.notes) == ["Bär"] and len(suite.near["Bär"]) == 4
    assert read_images(tmp_path / path).labels.tolist() == [-1] * 4


def test_a_list_names_files_in_either_unicode_form(tmp_path: Path) -> None:
    fill(tmp_path / unicodedata.normalize("NFD", "Bär"), rows=1)
    (tmp_path / "list.txt").write_text("Bär/0.png 3\n", encoding="utf-8")
    found = image_files.read_list(tmp_path / "list.txt", tmp_path)
    assert found.images[0].shape == (8, 8, 3) and found.labels is not None and found.labels.tolist() == [3]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
def test_pipes_and_sockets_are_left_out_by_name_and_never_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "a")
    os.mkfifo(tmp_path / "a" / "pipe.png")
    (tmp_path / "a" / "zero.png").symlink_to("/dev/zero")
    monkeypatch.chdir(tmp_path)  # names of sockets are short
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("s")
        with pytest.warns(UserWarning, match=r"left out: a/pipe\.png, a/zero\.png, s \(no regular file\)\.$"):
            assert len(read_images(tmp_path)) == 4


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes")
@pytest.mark.parametrize(
    "source",
    [
        *("'pipe.npz'", "{ path = 'pipe.npz' }", "{ images = 'pipe.npz' }", "{ cifar = 'pipe.npz' }"),
        *("{ list = 'pipe.npz', images = '.' }", "{ images = 'x.npz', labels = 'pipe.npz' }"),
    ],
)
def test_a_pipe_in_place_of_a_file_is_refused(tmp_path: Path, source: str) -> None:
    os.mkfifo(tmp_path / "pipe.npz")
    np.savez(tmp_path / "x.npz", images=np.zeros((4, 2, 2)), labels=[0, 1, 0, 1])
    (tmp_path / "mine.toml").write_text(f"train = {source}\ntest = 'x.npz'")
    with pytest.raises(ValueError, match=r"must be in a folder or a regular file, which .*pipe\.npz is not\.$"):
        load_suite(tmp_path / "mine.toml")
    with pytest.raises(ValueError, match="a regular file"):
        read_images(tmp_path / "pipe.npz")


def test_other_files_are_counted_once(tmp_path: Path) -> None:
    fill(tmp_path / "a")
    for name in ("notes.txt", "a/b.TXT", "a/c.heic", "LICENSE", ".hidden", "a/.hidden.heic"):
        (tmp_path / name).touch()
    with pytest.warns(UserWarning) as told:
        read_images(tmp_path)
    assert [str(one.message) for one in told] == [
        f"{tmp_path} holds more than images, and this is left out: 2 × .txt, 1 × .heic, 1 × without ending."
    ]
    for path in (tmp_path / "a").glob("*.png"):
        path.unlink()
    with pytest.raises(ValueError, match=r"but has none: it holds 2 × \.txt, 1 × \.heic, 1 × without ending\.$"):
        read_images(tmp_path)


def test_rows_are_in_the_order_of_folders_and_then_of_files(tmp_path: Path) -> None:
    for name in ("a.b/0.png", "a/0.png", "a/b/0.png", "a-/0.png", "a/B.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture().save(tmp_path / name)
    assert read_images(tmp_path).names == ("a/0.png", "a/B.png", "a/b/0.png", "a-/0.png", "a.b/0.png")


def test_strange_names_are_names(tmp_path: Path) -> None:
    root = animals(tmp_path, "x.png", "Cat", "cat", " dog ", "n" * 200)
    picture().save(root / "train" / "cat" / f"{'y' * 250}.png")
    assert load_suite(root).classes == (" dog ", "Cat", "cat", "n" * 200, "x.png")
    (root / "test" / "Cat").rename(root / "test" / "Cats")
    with pytest.raises(ValueError, match=r"got 'Cats': did you mean 'Cat'\?$"):
        load_suite(root)


def test_names_that_are_no_utf_8_are_written_as_escapes(tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xe9t\xe9"
    try:
        os.mkdir(folder)
    except OSError:
        pytest.skip("this system has no such names")
    picture().save(os.fsdecode(folder + b"/\xff.png"))
    images = read_images(tmp_path)
    assert images.names == ("\\xe9t\\xe9/\\xff.png",)
    listed = image_files.read_folder(tmp_path).images
    assert len(Decoded(listed, (1, 3, 8, 8), np.dtype(np.uint8)).fingerprint()) == 64  # type: ignore[arg-type]
    assert read_images(Path(os.fsdecode(folder + b"/\xff.png"))).names == ("\\xff.png",)
    Path(os.fsdecode(folder + b"/\xfe.png")).touch()
    with pytest.raises(ValueError, match=r"\\xe9t\\xe9/\\xfe\.png cannot be used as an image: it is empty\.$"):
        read_images(tmp_path)


# what an image is


def saved(image: Image.Image, path: Path, **settings: object) -> Path:
    image.save(path, **settings)
    return path


def test_colours_under_transparent_pixels_do_not_matter_and_paper_is_white(tmp_path: Path) -> None:
    seen = []
    for hidden in (0, 90, 255):
        colour = np.full((4, 4, 4), hidden, np.uint8)
        colour[..., 3] = 0
        colour[1:3, 1:3] = (10, 20, 30, 255)
        colour[0, 0] = (10, 20, 30, 127)
        seen.append(read_one(saved(Image.fromarray(colour), tmp_path / f"{hidden}.png")))
        grey = Image.fromarray(np.ascontiguousarray(colour[..., [0, 3]]), "LA")
        assert read_one(saved(grey, tmp_path / "grey.png"))[..., 0].tolist() == seen[-1][..., 0].tolist()
        assert read_one(tmp_path / "grey.png").shape == (4, 4, 1)
    assert all(np.array_equal(image, seen[0]) for image in seen)
    assert seen[0][1, 1].tolist() == [10, 20, 30] and seen[0][3, 3].tolist() == [255, 255, 255]
    assert np.abs(seen[0][0, 0] - (255 + (np.array([10, 20, 30]) - 255) * 127 / 255)).max() <= 1


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "P"])
def test_a_colour_that_stands_for_transparent_is_white(tmp_path: Path, mode: str) -> None:
    image = Image.new(mode, (2, 1))
    image.putpixel((1, 0), {"1": 1, "L": 40, "RGB": (40, 40, 40), "P": 1}[mode])
    if mode == "P":
        image.putpalette([0, 0, 0, 40, 40, 40])
    path = saved(image, tmp_path / "a.png", transparency=(0, 0, 0) if mode == "RGB" else 0)
    shown = 255 if mode == "1" else 40
    assert read_one(path)[0].tolist() == [[value] * (1 if mode in "1L" else 3) for value in (255, shown)]


def test_opaque_pixels_stay_as_they_are(tmp_path: Path) -> None:
    colour = RANDOM.integers(0, 256, (64, 64, 4), dtype=np.uint8)
    colour[..., 3] = 255
    assert np.array_equal(read_one(saved(Image.fromarray(colour), tmp_path / "a.png")), colour[..., :3])


@pytest.mark.parametrize("ending", ["gif", "webp", "png", "tif"])
def test_the_first_of_several_frames_counts(tmp_path: Path, ending: str) -> None:
    frames = [Image.new("L", (4, 4), value) for value in (50, 200)]
    settings: dict = {"lossless": True} if ending == "webp" else {}
    path = saved(frames[0], tmp_path / f"a.{ending}", save_all=True, append_images=frames[1:], **settings)
    assert set(read_one(path).ravel()) == {50}


def test_palettes_and_four_inks_become_colour(tmp_path: Path) -> None:
    image = Image.new("P", (1, 1))
    image.putpalette([7, 7, 7])
    assert read_one(saved(image, tmp_path / "a.png")).tolist() == [[[7, 7, 7]]]
    ink = Image.new("CMYK", (8, 8), (255, 0, 0, 51))
    assert read_one(saved(ink, tmp_path / "a.tif"))[0, 0].tolist() == [0, 204, 204]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_undone_in_files_and_data_sets(tmp_path: Path, orientation: int) -> None:
    upright = RANDOM.integers(0, 256, (3, 5), dtype=np.uint8)
    undo: list[Callable] = [
        *(lambda x: x, np.fliplr, lambda x: np.rot90(x, 2), np.flipud),
        *(np.transpose, lambda x: np.rot90(x, -1), lambda x: np.rot90(x, 2).T, np.rot90),
    ]
    image = Image.fromarray(upright)
    exif = image.getexif()
    exif[0x0112] = orientation
    path = saved(image, tmp_path / "a.png", exif=exif)
    expected = undo[orientation - 1](upright)
    assert np.array_equal(read_one(path)[..., 0], expected)
    with Image.open(path) as opened:
        assert np.array_equal(preprocess.pixels(opened)[..., 0], expected)
        assert opened.size == (5, 3)  # the caller's stays as it is


def png(colour_type: int, depth: int, width: int, height: int, content: bytes) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


DEEP = {
    "grey with alpha.png": png(4, 16, 1, 1, zlib.compress(b"\0\1\2\3\4")),
    "colour.png": png(2, 16, 1, 1, zlib.compress(b"\0\1\2\3\4\5\6")),
    "colour with alpha.png": png(6, 16, 1, 1, zlib.compress(b"\0\1\2\3\4\5\6\7\x08")),
    "grey.pgm": b"P5 1 1 65535\n\1\2",
    "colour.ppm": b"P6 1 1 1023\n\1\2\1\2\1\2",
    "text.ppm": b"P3 1 1 1023\n1 2 3\n",
}


def test_grey_of_16_bits_becomes_numbers(tmp_path: Path) -> None:
    deep = np.random.default_rng(0).integers(0, 2**16, (12, 8), np.uint16)
    for name in ("a.png", "b.tif"):
        Image.fromarray(deep).save(tmp_path / name)
    images = read_images(tmp_path)
    assert images.images.dtype == np.float32
    assert images.images[:, 0] == pytest.approx(np.stack([deep, deep]) / 65535, abs=1e-7)
    colour = read_images(tmp_path / "a.png", (3, 6, 4)).images[0]
    box = deep.reshape(6, 2, 4, 2).mean((1, 3)) / 65535
    assert np.abs(colour - box).max() < 0.25 and np.array_equal(colour[0], colour[2])
    assert preprocess.as_input(tmp_path / "b.tif", (1, 12, 8))[0, 0] == pytest.approx(deep / 65535, abs=1e-7)
    Image.fromarray(np.zeros((12, 8), np.uint8)).save(tmp_path / "c.png")
    with pytest.raises(ValueError, match="images must all be float32, but row 2 is uint8"):
        read_images(tmp_path)


@pytest.mark.parametrize("name", DEEP)
def test_more_than_8_bits_per_channel_are_refused_but_in_grey(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(DEEP[name])
    with pytest.raises(ValueError, match=r"it has more than 8 bits per channel \(mode .*\): convert it to 8 bits\.$"):
        read_images(tmp_path / name)


def test_at_most_8_bits_are_read(tmp_path: Path) -> None:
    (tmp_path / "a.ppm").write_bytes(b"P6 1 1 100\n\0\x32\x64")
    assert read_one(tmp_path / "a.ppm").tolist() == [[[0, 128, 255]]]
    bitmap = b"BM" + struct.pack("<IHHI", 70, 0, 0, 66) + struct.pack("<IiiHHIIiiII", 40, 1, 1, 1, 16, 3, 4, 0, 0, 0, 0)
    bitmap += struct.pack("<III", 0xF800, 0x07E0, 0x001F) + struct.pack("<HH", 0xF800, 0)  # 16 bits, of all channels
    (tmp_path / "a.bmp").write_bytes(bitmap)
    assert read_one(tmp_path / "a.bmp").tolist() == [[[255, 0, 0]]]


# decoders and limits


@pytest.mark.parametrize("format", ["EPS", "PDF", "TGA", "ICO", "PCX", "JPEG2000"])
def test_other_formats_are_refused_whatever_their_name(tmp_path: Path, format: str) -> None:
    try:
        picture(32).save(tmp_path / "x.png", format)
    except OSError:
        pytest.skip("Pillow does not write it here")
    with pytest.raises(
        ValueError, match=r"x\.png cannot be used as an image: cannot identify its format as one of BMP"
    ):
        read_images(tmp_path / "x.png")


def test_no_program_is_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    marker = tmp_path / "ran"
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "gs").write_text(f"#!/bin/sh\ntouch {marker}\n")
    (tmp_path / "bin" / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    picture().save(tmp_path / "x.png", "EPS")
    with pytest.raises(ValueError, match="cannot identify"):
        read_images(tmp_path / "x.png")
    assert not marker.exists()


@pytest.mark.parametrize("side", [12000, 20000, 60000])
def test_immense_images_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    (tmp_path / "bomb.png").write_bytes(png(2, 8, side, side, b""))
    with pytest.raises(
        ValueError, match=r"bomb\.png cannot be used as an image: it has .* pixels, and at most 89,478,485"
    ):
        read_images(tmp_path / "bomb.png", (3, 8, 8))


def test_the_limit_is_pillows_own_and_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    picture(10).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 99)
    with pytest.raises(
        ValueError, match=r"it has 100 pixels, and at most 99 .* or raise PIL\.Image\.MAX_IMAGE_PIXELS\.$"
    ):
        read_images(tmp_path / "a.png")
    for most in (100, None):
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", most)
        assert len(read_images(tmp_path / "a.png")) == 1


# broken images


def break_some(root: Path) -> list[str]:
    """Three broken images in two sets, and the sentences on them."""
    whole = io.BytesIO()
    picture(32).save(whole, "PNG")
    (root / "train" / "cat" / "8.png").write_bytes(whole.getvalue()[:-300])
    (root / "train" / "dog" / "8.png").write_text("hello")
    (root / "test" / "dog" / "9.png").touch()
    return [
        "train/cat/8.png (image file is truncated",
        "train/dog/8.png (cannot identify",
        "test/dog/9.png (it is empty)",
    ]


@pytest.mark.parametrize("sized", [False, True])
def test_all_broken_images_of_a_suite_are_named_at_once(tmp_path: Path, sized: bool) -> None:
    root = animals(tmp_path, "cat", "dog")
    sentences = break_some(root)
    if sized:
        (root / "mine.toml").write_text("train = 'train'\ntest = 'test'\ninput_shape = [3, 8, 8]")
    with pytest.raises(ValueError, match=r"^3 files cannot be used as images: ") as refused:
        load_suite(root / "mine.toml" if sized else root)
    assert all(f"{root}/{sentence}" in str(refused.value) for sentence in sentences)
    assert "\n" not in str(refused.value)


def test_ten_broken_images_are_named_and_all_are_counted(tmp_path: Path) -> None:
    fill(tmp_path, rows=2)
    for row in range(30):
        (tmp_path / f"broken {row:02}.png").touch()
    with pytest.raises(
        ValueError, match=r"^30 files cannot be used as images: .*09\.png \(it is empty\) and 20 more\.$"
    ):
        read_images(tmp_path)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1)])
def test_the_smallest_images_are_images(tmp_path: Path, size: tuple[int, int]) -> None:
    for row in range(2):
        Image.new("RGB", size, (row, 2, 3)).save(tmp_path / f"{row}.png")
    assert read_images(tmp_path).images.shape == (2, 3, *size[::-1])
    assert read_images(tmp_path, (1, 4, 4), resize=5).images.shape == (2, 1, 4, 4)


def test_grey_among_colour_is_colour(tmp_path: Path) -> None:
    Image.new("L", (2, 2), 9).save(tmp_path / "a.png")
    Image.new("RGB", (2, 2), (1, 2, 3)).save(tmp_path / "b.png")
    assert read_images(tmp_path).images[:, :, 0, 0].tolist() == [[9, 9, 9], [1, 2, 3]]


def test_endings_tell_formats_without_doubt() -> None:
    assert len(set(ENDINGS)) == len(ENDINGS) and all(ending == ending.lower() for ending in ENDINGS)
