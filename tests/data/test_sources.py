"""Where images come from: values of every kind of source, and one sentence for every mistake."""

import gzip
import os
import pickle
import struct
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from oodles.data import from_dataset, read_images
from oodles.data.arrays import read_idx
from oodles.data.raw import RawImages
from oodles.data.sources import files_of, holds_vectors, read_source

RANDOM = np.random.default_rng(0)


def idx(values: np.ndarray, code: int = 0x08) -> bytes:
    """An idx file of an array."""
    big = values.astype(values.dtype.newbyteorder(">"))
    return struct.pack(f">HBB{values.ndim}I", 0, code, values.ndim, *values.shape) + big.tobytes()


def write(path: Path, content: bytes) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return str(path)


def pixels(found: RawImages) -> list[np.ndarray]:
    return [found.images[row] for row in range(len(found.images))]


# idx


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_idx_images_and_labels(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    x, y = RANDOM.integers(0, 256, (5, 4, 3), dtype=np.uint8), np.array([3, 1, 4, 1, 5], dtype=np.uint8)
    images, labels = write(tmp_path / "a", pack(idx(x))), write(tmp_path / "b", pack(idx(y)))
    found = read_source({"images": images, "labels": labels})
    assert np.array_equal(found.images, x[..., None]) and found.labels is not None
    assert found.labels.tolist() == [3, 1, 4, 1, 5] and found.names == tuple("01234")
    assert np.array_equal(read_images(images).images, x[:, None])  # told by its first bytes
    assert read_images(images).labels.tolist() == [-1] * 5


def test_idx_numbers_of_several_bytes_are_turned_round(tmp_path: Path) -> None:
    x = RANDOM.random((2, 3, 3), dtype=np.float32)
    labels = np.array([70000, 2], dtype=np.int32)
    found = read_source(
        {"images": write(tmp_path / "a", idx(x, 0x0D)), "labels": write(tmp_path / "b", idx(labels, 0x0C))}
    )
    assert np.array_equal(found.images[..., 0], x) and found.labels is not None
    assert found.labels.tolist() == [70000, 2]


def test_an_idx_file_cut_off_anywhere_is_refused(tmp_path: Path) -> None:
    for content in (idx(np.ones((2, 3, 3), np.uint8)), gzip.compress(idx(np.ones((2, 3, 3), np.uint8)))):
        for length in range(len(content)):
            path = write(tmp_path / "cut-ubyte", content[:length])
            with pytest.raises(ValueError, match=r"cut-ubyte cannot be read as an idx file: "):
                read_source({"images": path})


def test_a_damaged_gzip_file_is_told_by_its_name(tmp_path: Path) -> None:
    damaged = write(tmp_path / "images-idx3-ubyte.gz", gzip.compress(idx(np.ones((2, 3, 3), np.uint8)))[:12])
    with pytest.raises(ValueError, match=r"ubyte\.gz cannot be read as an idx file: "):
        read_images(damaged)


IDX = {
    "too long": (idx(np.ones((2, 3, 3), np.uint8)) + b"x", "it goes on after the 18 bytes that it announces"),
    "too short": (idx(np.ones((2, 3, 3), np.uint8))[:-1], "it should go on for 18 bytes and ends after 17"),
    "immense": (struct.pack(">HBB3I", 0, 8, 3, *[2**32 - 1] * 3), "and ends after 0"),
    "another format": (b"GIF89a...", "it does not begin like one"),
    "labels": (idx(np.ones(4, np.uint8)), r"must have shape \(N, H, W\), .* got \(4,\)"),
    "empty": (idx(np.ones((0, 3, 3), np.uint8)), r"must hold at least one image, got shape \(0, 3, 3, 1\)"),
    "whole numbers": (
        idx(np.ones((1, 3, 3), np.int32), 0x0C),
        "must be uint8, uint16 or floating .*, got int32",
    ),
}


@pytest.mark.parametrize(("content", "sentence"), IDX.values(), ids=IDX)
def test_wrong_idx_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence) as refused:
        read_source({"images": write(tmp_path / "wrong", content)})
    assert str(tmp_path / "wrong") in str(refused.value)


def test_labels_of_another_length_are_refused(tmp_path: Path) -> None:
    images = write(tmp_path / "a", idx(np.ones((2, 3, 3), np.uint8)))
    with pytest.raises(ValueError, match=r"must be 2 whole numbers, got uint8 of shape \(3,\)"):
        read_source({"images": images, "labels": write(tmp_path / "b", idx(np.ones(3, np.uint8)))})


# CIFAR's batches


def cifar_pixels(rows: int) -> np.ndarray:
    return RANDOM.integers(0, 256, (rows, 3072), dtype=np.uint8)


PYTHON_2 = (  # a batch as Python 2 with NumPy 1 wrote it: {'data': two rows, 'labels': [6, 9]}
    b"\x80\x02}q\x01(U\x04dataq\x02cnumpy.core.multiarray\n_reconstruct\nq\x03cnumpy\nndarray\nq\x04K\x00\x85U\x01b\x87Rq"
    b"\x05(K\x01K\x02M\x00\x0c\x86cnumpy\ndtype\nq\x06U\x02u1K\x00K\x01\x87Rq\x07(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff"
    b"\xff\xffK\x00tb\x89T\x00\x18\x00\x00" + bytes(range(256)) * 24 + b"tbU\x06labelsq\x08]q\t(K\x06K\teu."
)


def test_batches_of_python_2(tmp_path: Path) -> None:
    found = read_source({"cifar": write(tmp_path / "batch", PYTHON_2)})
    assert found.labels is not None and found.labels.tolist() == [6, 9]
    assert found.images[0, 0, :2].tolist() == [[0, 0, 0], [1, 1, 1]]  # a plane of 1024 is 4 × 256
    assert found.images[1, 31, 31].tolist() == [255, 255, 255]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_batches_of_every_protocol(tmp_path: Path, protocol: int) -> None:
    x = cifar_pixels(3)
    for order in (np.ascontiguousarray, np.asfortranarray):
        path = write(tmp_path / "batch", pickle.dumps({"data": order(x), "fine_labels": [7, 0, 99]}, protocol))
        found = read_source({"cifar": path})
        assert np.array_equal(found.images, x.reshape(3, 3, 32, 32).transpose(0, 2, 3, 1))
        assert found.labels is not None and found.labels.tolist() == [7, 0, 99]


def test_a_folder_of_batches_with_the_names_of_classes(tmp_path: Path) -> None:
    x = cifar_pixels(6)
    for number in range(1, 6):
        content = {b"data": x[number - 1 : number], b"labels": [number]}
        write(tmp_path / f"data_batch_{number}", pickle.dumps(content, 2))
    write(tmp_path / "test_batch", pickle.dumps({b"data": x[5:], b"labels": [0]}, 2))
    write(tmp_path / "batches.meta", pickle.dumps({b"label_names": [b"plane", *[b"x%d" % n for n in range(9)]]}, 2))
    train = read_source({"cifar": str(tmp_path), "part": "train"})
    test = read_source({"cifar": str(tmp_path), "part": "test"})
    assert np.array_equal(train.images, x[:5].reshape(5, 3, 32, 32).transpose(0, 2, 3, 1))
    assert train.labels is not None and train.labels.tolist() == [1, 2, 3, 4, 5]
    assert train.classes[:2] == ("plane", "x0") and len(test.images) == 1
    some = read_source({"cifar": [str(tmp_path / "data_batch_2"), str(tmp_path / "data_batch_1")]})
    assert some.labels is not None and some.labels.tolist() == [2, 1]


class Touch:
    """Pickled, it wants to make a folder."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable, tuple]:
        return (os.mkdir, (str(self.path),))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("place", ["key", "array", "labels", "beside"])
def test_a_pickle_that_wants_to_run_something_is_refused_and_does_not_run_it(
    tmp_path: Path, protocol: int, place: str
) -> None:
    trap = Touch(tmp_path / "ran")
    content = {
        "key": {trap: 1},
        "array": {"data": np.array([trap, None]), "labels": [1, 2]},
        "labels": {"data": cifar_pixels(1), "labels": [trap]},
        "beside": {"data": cifar_pixels(1), "labels": [1], "filenames": trap},
    }[place]
    path = write(tmp_path / "batch", pickle.dumps(content, protocol))
    with pytest.raises(ValueError, match=r"batch cannot be read as a batch of CIFAR: .* asks for (posix|nt)"):
        read_source({"cifar": path})
    assert not (tmp_path / "ran").exists()
    pickle.loads(Path(path).read_bytes())
    assert (tmp_path / "ran").exists()  # the trap works


def run(module: str, name: str, argument: bytes) -> bytes:
    """A pickle that calls a function with a text."""
    return f"c{module}\n{name}\n(S'".encode() + argument + b"'\ntR."


TRAPS = {
    "os.system": run("os", "system", b"true"),
    "eval": run("builtins", "eval", b"1"),
    "an inner attribute": b"\x80\x04\x8c\x05numpy\x8c\x0cndarray.base\x93.",
    "another codec": run("codecs", "encode", b"x"),
    "NumPy's loader": run("numpy", "load", b"x"),
    "a saved object": b"Pobject\n.",
    "an extension": b"\x82\x01.",
    "object arrays": pickle.dumps({"data": np.array([None, {}]), "labels": [1, 2]}),
    "records": pickle.dumps({"data": np.zeros(2, "u1,i4"), "labels": [1, 2]}),
    "dates": pickle.dumps({"data": np.zeros(2, "M8[s]"), "labels": [1, 2]}),
    "NumPy's scalars": pickle.dumps({"data": np.zeros((1, 3072), np.uint8), "labels": [np.int64(1)]}),
    "a list": pickle.dumps([1, 2]),
    "cut off": PYTHON_2[:-20],
    "no pickle": b"hello",
    "nothing": b"",
}


@pytest.mark.parametrize("content", TRAPS.values(), ids=TRAPS)
def test_other_pickles_are_refused(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match="batch cannot be read as a batch of CIFAR: "):
        read_source({"cifar": write(tmp_path / "batch", content)})


BATCHES = {
    "other data": ({"data": np.zeros((2, 100), np.uint8), "labels": [1, 2]}, r"data of shape \(N, 3072\) in bytes"),
    "floats": ({"data": np.zeros((2, 3072)), "labels": [1, 2]}, r"data of shape \(N, 3072\) in bytes"),
    "no data": ({"labels": [1, 2]}, r"data of shape \(N, 3072\) in bytes"),
    "no labels": ({"data": np.zeros((2, 3072), np.uint8)}, "must hold 2 labels or fine_labels"),
    "few labels": ({"data": np.zeros((2, 3072), np.uint8), "labels": [1]}, "must hold 2 labels or fine_labels"),
    "words": ({"data": np.zeros((1, 3072), np.uint8), "labels": ["cat"]}, "must hold 1 labels or fine_labels"),
}


@pytest.mark.parametrize(("content", "sentence"), BATCHES.values(), ids=BATCHES)
def test_batches_with_other_content_are_refused(tmp_path: Path, content: dict, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_source({"cifar": write(tmp_path / "batch", pickle.dumps(content))})


def test_a_folder_without_batches_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="must hold test_batch or test, but has none of them"):
        read_source({"cifar": str(tmp_path), "part": "test"})
    with pytest.raises(ValueError, match='is a folder: say part = "train" or part = "test" as well'):
        read_source({"cifar": str(tmp_path)})


def test_batches_that_are_missing_are_not_passed_over(tmp_path: Path) -> None:
    content = pickle.dumps({b"data": cifar_pixels(1), b"labels": [1]}, 2)
    for number in (1, 2, 4, 5):
        write(tmp_path / f"data_batch_{number}", content)
    with pytest.raises(ValueError, match=r"or train alone, but holds data_batch_1, data_batch_2, data_batch_4, data_"):
        read_source({"cifar": str(tmp_path), "part": "train"})
    write(tmp_path / "data_batch_3", content)
    assert len(read_source({"cifar": str(tmp_path), "part": "train"}).images) == 5
    write(tmp_path / "train", pickle.dumps({b"data": cifar_pixels(1), b"fine_labels": [1]}, 2))
    with pytest.raises(ValueError, match="or train alone, but holds data_batch_1, "):
        read_source({"cifar": str(tmp_path), "part": "train"})


# lists


def listed(folder: Path, text: str) -> dict[str, str]:
    """A list, beside three grey images a.png, b/c.png and 'd e.png' of brightness 1, 2 and 3."""
    (folder / "images" / "b").mkdir(parents=True, exist_ok=True)
    for value, name in enumerate(("a.png", "b/c.png", "d e.png"), start=1):
        Image.fromarray(np.full((4, 4), value, np.uint8)).save(folder / "images" / name)
    (folder / "list.txt").write_text(text)
    return {"list": str(folder / "list.txt"), "images": str(folder / "images")}


def test_a_list_gives_its_images_in_its_order_with_their_labels(tmp_path: Path) -> None:
    found = read_source(listed(tmp_path, "b/c.png 1\n\nd e.png 0\nb/c.png -1\n"))
    assert [image[0, 0, 0] for image in pixels(found)] == [2, 3, 2]
    assert found.labels is not None and found.labels.tolist() == [1, 0, -1]
    assert found.names == ("b/c.png", "d e.png", "b/c.png")


def test_a_list_may_have_tabs_and_more_blanks_and_a_mark_at_its_start(tmp_path: Path) -> None:
    found = read_source(listed(tmp_path, "\ufeffb/c.png\t1  \nd e.png \t  0\n"))
    assert found.names == ("b/c.png", "d e.png")
    assert found.labels is not None and found.labels.tolist() == [1, 0]


def test_a_list_without_class_ids_has_no_labels(tmp_path: Path) -> None:
    found = read_source(listed(tmp_path, "b/c.png {'kind': 'strange thing'}\nd e.png\na.png\n"))
    assert [image[0, 0, 0] for image in pixels(found)] == [2, 3, 1] and found.labels is None


LISTS = {
    "no label": (
        "a.png 0\nb/c.png\n",
        r"line 2 of .*list\.txt must be a path, a blank and a class id, .* got 'b/c\.png'",
    ),
    "a word": ("d e.png cat\na.png 0\n", "line 1 of .* must be a path, a blank and a class id, .* got 'd e.png cat'"),
    "fraction": ("a.png 0.0\n", r"line 1 of .* must end on a class id, a whole number, got '0\.0'"),
    "immense": (
        "a.png 1\na.png 99999999999999999999",
        "line 2 of .* must end on a class id, .* got '99999999999999999999'",
    ),
    "comma": ("a.png,0\n", "names a.png,0, but nothing is at .*: path and class id are separated by a blank"),
    "comma and blank": ("a.png, 0\n", "names a.png,, but .*: path and class id are separated by a blank"),
    "missing": ("a.png 0\n\nb/d.png 1\n", r"line 3 of .*list\.txt names b/d\.png, but nothing is at .*images/b/d\.png"),
    "many missing": (
        "a.png 0\nx.png 0\nd e.png 1\ny.png 1\nz.png 1",
        r"line 2 of .* names x\.png, but nothing is at .*x\.png; 2 more of its lines name no file\.$",
    ),
    "folder": ("b 0\n", r"names b, but no file is at .*images/b\.$"),
    "long": ("x" * 5000, r"names x+, but nothing is at"),
    "empty": ("\n\n", r"list\.txt must list images, but is empty"),
    "bytes": ("\x00\n", r"line 1 of .* names \x00, but nothing is at"),
}


@pytest.mark.parametrize(("text", "sentence"), LISTS.values(), ids=LISTS)
def test_broken_lists_are_refused(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises((ValueError, FileNotFoundError), match=sentence):
        read_source(listed(tmp_path, text))


def test_a_list_that_is_no_text_is_refused(tmp_path: Path) -> None:
    source = listed(tmp_path, "")
    Path(source["list"]).write_bytes(b"\xff\xfe\xff")
    with pytest.raises(ValueError, match=r"list\.txt cannot be read as a list of images: "):
        read_source(source)


@pytest.mark.parametrize("ending", ["npz", "npy"])
@pytest.mark.parametrize("vectors", [False, True])
def test_a_list_beside_a_file_gives_its_rows(tmp_path: Path, ending: str, vectors: bool) -> None:
    rows = RANDOM.random((5, 4)).astype(np.float32) if vectors else RANDOM.integers(0, 256, (5, 4, 4, 1), np.uint8)
    file, text = tmp_path / f"rows.{ending}", tmp_path / "list.txt"
    np.save(file, rows) if ending == "npy" else np.savez(file, **{"features" if vectors else "images": rows})
    text.write_text("3\n\n0\n 4 \n")
    source = {"list": str(text), "images": str(file)}
    found = read_source(source)
    assert np.array_equal(found.images, rows[[3, 0, 4]]) and found.names == ("3", "0", "4")
    assert holds_vectors(source) == vectors
    for line in ("5", "-1", "a.png", "1 0", "9" * 5000):
        text.write_text(f"0\n{line}\n")
        with pytest.raises(
            ValueError, match=rf"line 2 of .*list\.txt must be the number of a row of .*{ending}, 0 to 4, got"
        ):
            read_source(source)


def test_only_folders_and_lists_in_them_have_image_files(tmp_path: Path) -> None:
    source = listed(tmp_path, "b/c.png\nd e.png")
    files = [files_of(source), files_of(source["images"]), files_of({"path": source["images"]})]
    assert [one and one.names for one in files] == [("b/c.png", "d e.png"), *[("a.png", "b/c.png", "d e.png")] * 2]
    np.save(tmp_path / "rows.npy", np.zeros((2, 4, 4), np.uint8))
    for other in (
        str(tmp_path / "rows.npy"),
        {"images": str(tmp_path / "rows.npy")},
        {"list": source["list"], "images": str(tmp_path / "rows.npy")},
        {"dataset": "tests.gone:nothing"},
        f"{source['images']}/a.png",
    ):
        assert files_of(other) is None


# data sets


PICTURE = RANDOM.integers(0, 256, (5, 4, 3), dtype=np.uint8)


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.fromarray(PICTURE), PICTURE),
        (Image.fromarray(PICTURE[..., 0]), PICTURE[..., :1]),
        (Image.fromarray(PICTURE[..., 0]).convert("LA"), PICTURE[..., :1]),
        (PICTURE, PICTURE),
        (PICTURE[..., 0], PICTURE[..., :1]),
        (torch.from_numpy(PICTURE).permute(2, 0, 1), PICTURE),
        (torch.from_numpy(PICTURE).permute(2, 0, 1) / 255, PICTURE / np.float32(255)),
        (PICTURE / 255, (PICTURE / 255).astype(np.float32)),
    ],
    ids=["colour", "grey", "transparent", "array", "flat array", "tensor", "floating tensor", "floating array"],
)
def test_items_of_data_sets_in_every_form(image: object, expected: np.ndarray) -> None:
    data = from_dataset([(image, 3), (image, torch.tensor(1))])
    assert data.images.dtype == expected.dtype
    assert np.array_equal(data.images[1], expected.transpose(2, 0, 1)) and data.labels.tolist() == [3, 1]


def test_data_sets_are_brought_to_a_size() -> None:
    data = from_dataset([(np.full((9, 5), value, np.uint8), 0) for value in (7, 8)], (3, 2, 2))
    assert np.array_equal(data.images, np.array([[[[7]]], [[[8]]]], np.uint8) * np.ones((1, 3, 2, 2), np.uint8))


DATASETS = {
    "no pair": ([PICTURE], r"items of the list must be \(image, class id\), got ndarray at 0"),
    "three": ([(PICTURE, 1, 2)], r"must be \(image, class id\), got tuple at 0"),
    "no class": ([(PICTURE, 0), (PICTURE, "cat")], "got 'cat' for a class at 1"),
    "soft class": ([(PICTURE, np.ones(3))], r"got array\(.*\) for a class at 0"),
    "immense class": ([(PICTURE, 2**63)], "got 9223372036854775808 for a class at 0"),
    "several classes": ([(PICTURE, np.ones(3, int))], r"got array\(.*\) for a class at 0"),
    "no image": ([("cat.png", 0)], "got str of shape"),
    "channels": ([(torch.zeros(3, 4, 4), 0), (torch.zeros(4, 4, 4), 0)], r"at 1, must .*got Tensor of shape .*4, 4, 4"),
    "NaN": ([(np.full((2, 2), np.nan), 0)], "the list, at 0, holds NaN in 1 of 1 images"),
    "normalised": ([(torch.randn(3, 4, 4), 0)], r"at 0, must be in \[0, 1\], got -.* to .*: divide them"),
    "sizes": ([(PICTURE, 0), (PICTURE[1:], 0)], "must have one size, got 4 × 4 and 5 × 4"),
    "deep": ([(Image.fromarray(np.zeros((4, 4), np.int32)), 0)], "more than 8 bits"),
    "empty": ([], "must hold at least one image, but has length 0"),
    "types": ([(PICTURE, 0), (PICTURE / 255, 0)], "must all be uint8, but row 1 is float32"),
}


@pytest.mark.parametrize(("dataset", "sentence"), DATASETS.values(), ids=DATASETS)
def test_wrong_data_sets_are_refused(dataset: list, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        from_dataset(dataset)


def test_a_stream_is_no_data_set() -> None:
    with pytest.raises(TypeError, match="must be a map-style data set, with a length and rows, got generator"):
        from_dataset(item for item in [(PICTURE, 0)])


def test_a_function_that_gives_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_images_for_a_test.py").write_text(
        "import numpy as np\n"
        "def two(): return [(np.full((2, 2), value, np.uint8), value) for value in (5, 6)]\n"
        "number = 3\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    found = read_source({"dataset": "my_images_for_a_test:two"})
    assert [image[0, 0, 0] for image in pixels(found)] == [5, 6] and found.labels is not None
    assert found.labels.tolist() == [5, 6]
    for place, sentence in {
        "my_images_for_a_test:twoo": "must hold a function 'twoo', but does not: did you mean 'two'",
        "my_images_for_a_test:number": "my_images_for_a_test:number must be a function, got",
        "my_images_for_a_test": "dataset must be package.module:function, got",
        "nowhere_to_be_found:two": "cannot be imported: No module named",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            read_source({"dataset": place})


def test_what_breaks_in_a_users_own_code_is_told_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, text in {
        "typo_for_a_test": "def two(:",
        "crash_for_a_test": "1 / 0",
        "script_for_a_test": "raise SystemExit(0)",
        "broken_for_a_test": """
import numpy as np
class Late:
    def __len__(self): return 60
    def __getitem__(self, row): return np.zeros((2, 2)), 1 / 0 if row == 50 else 0
def late(): return Late()
def crash(): raise RuntimeError("two\\nlines.")
def needs(path): return []
""",
    }.items():
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for place, sentence in {
        "typo_for_a_test:two": r"dataset 'typo_for_a_test:two' cannot be imported: SyntaxError: .*, line 1\)\.$",
        "crash_for_a_test:two": "cannot be imported: ZeroDivisionError: division by zero\\.$",
        "script_for_a_test:two": "cannot be imported: SystemExit: 0\\.$",
        "broken_for_a_test:crash": r"crash' broke when called without arguments: RuntimeError: two lines\.$",
        "broken_for_a_test:late": "^dataset 'broken_for_a_test:late' broke at row 50: ZeroDivisionError: division by",
        "broken_for_a_test:needs": r"broke when called without arguments: TypeError: needs\(\) missing 1 required",
    }.items():
        with pytest.raises(ValueError, match=sentence) as refused:
            read_source({"dataset": place})
        assert "\n" not in str(refused.value)


def test_a_row_that_breaks_is_named() -> None:
    class Late(list[tuple[np.ndarray, int]]):
        def __getitem__(self, row):  # type: ignore[no-untyped-def]
            return PICTURE, 1 // (3 - row)

    with pytest.raises(
        ValueError, match=r"^the Late broke at row 3: ZeroDivisionError: integer division or modulo by zero"
    ):
        from_dataset(Late([(PICTURE, 0)] * 5))


def test_a_damaged_image_that_pillow_opens_later_is_named(tmp_path: Path) -> None:
    Image.fromarray(RANDOM.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes((tmp_path / "a.png").read_bytes()[:-400])
    with Image.open(tmp_path / "b.png") as late, pytest.raises(ValueError, match="images in the list, at 0, cannot be"):
        from_dataset([(late, 0)])


@pytest.mark.parametrize(("code", "number"), [(8, "u1"), (9, "i1"), (11, "i2"), (12, "i4"), (13, "f4"), (14, "f8")])
def test_numbers_of_idx_files_are_those_of_their_codes(code: int, number: str, tmp_path: Path) -> None:
    pixels, labels = np.arange(12, dtype=np.uint8).reshape(3, 2, 2), np.array([1, 0, 100], np.uint8)
    images, ids = idx(pixels), idx(labels.astype(number), code)
    if number.startswith("f"):
        pixels, images, ids = pixels / 16, idx((pixels / 16).astype(number), code), idx(labels)
    raw = read_idx(Path(write(tmp_path / "images", images)), Path(write(tmp_path / "labels", ids)))
    assert raw.labels is not None and raw.labels.tolist() == [1, 0, 100]
    assert isinstance(raw.images, np.ndarray) and raw.images[..., 0].tolist() == pixels.tolist()
