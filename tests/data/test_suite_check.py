"""Looking at a suite: counts, images that are in two sets, the contact sheet, the list of suites."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodles import cli
from oodles.data import SUITES, ImageSet, Suite
from oodles.data.suite_check import check_suite, suite_list, write_sheet

RANDOM = np.random.default_rng(0)


def images(rows: int, labels: object = None, names: tuple[str, ...] = ()) -> ImageSet:
    pixels = RANDOM.integers(0, 256, (rows, 3, 4, 4), dtype=np.uint8)
    return ImageSet(pixels, np.full(rows, -1) if labels is None else np.array(labels), names=names)


def suite() -> Suite:
    return Suite(
        "mine",
        train=images(5, [0, 0, 1, 0, 1], tuple("abcde")),
        validation=images(2, [0, 1]),
        test=images(3, [1, 1, 1]),
        classes=("cat", "dog"),
        outliers=images(8, names=tuple("ABCDEFGH")),
        validation_outliers=images(2),
        near={"x": images(4)},
        far={"y": images(4)},
    )


def copied(one: Suite, source: str, target: str, rows: list[int]) -> Suite:
    """A suite in which the first images of a set are rows of another."""
    one.sets()[target].images[: len(rows)] = one.sets()[source].images[rows]
    return one


def test_nothing_in_common() -> None:
    checked = check_suite(suite())
    assert not checked.overlaps and not any(checked.twice.values())
    text = str(checked)
    assert "No image is in two sets." in text
    assert [line.split()[:4] for line in text.splitlines() if line.startswith(("cat", "dog", "near"))] == [
        ["near:x", "4", *checked.measured.cells("near:x")[0].split()],
        ["cat", "3", "1", "0"],
        ["dog", "2", "1", "3"],
    ]


@pytest.mark.parametrize(
    ("source", "target"),
    [
        ("train", "test"),
        ("train", "validation"),
        ("outliers", "near:x"),
        ("outliers", "far:y"),
        ("outliers", "test"),
        ("outliers", "validation-outliers"),
        ("test", "near:x"),
        ("near:x", "far:y"),
    ],
)
def test_images_in_two_sets_are_found_by_content(source: str, target: str) -> None:
    checked = check_suite(copied(suite(), source, target, [2, 0]))
    (overlap,) = checked.overlaps
    assert {overlap.one, overlap.other} == {source, target} and overlap.count == 2
    of = dict(zip((overlap.one, overlap.other), zip(*overlap.names, strict=True), strict=True))
    first = {"train": ("c", "a"), "outliers": ("C", "A")}.get(source, ("2", "0"))
    expected = {frozenset(pair) for pair in zip(first, ("A", "B") if target == "outliers" else ("0", "1"), strict=True)}
    assert {frozenset(pair) for pair in zip(of[source], of[target], strict=True)} == expected
    assert f"share 2 images: {overlap.names[0][0]} = {overlap.names[0][1]}" in str(checked)


def test_images_that_are_in_one_set_twice_are_counted_and_named() -> None:
    checked = check_suite(copied(suite(), "outliers", "outliers", [7, 7, 7]))
    assert check_suite(copied(checked.suite, "outliers", "test", [0])).overlaps[0].names == (("0", "A"),)
    assert checked.twice == {**dict.fromkeys(checked.suite.sets(), 0), "outliers": 3}
    assert "outliers holds 3 images more than once: B = A, C = A, H = A\n" in str(checked) and not checked.overlaps
    assert checked.as_dict()["repeats"] == {"outliers": [["B", "A"], ["C", "A"], ["H", "A"]]}


def test_only_some_of_many_are_named() -> None:
    one = suite()
    same = replace(one, far={"again": one.sets()["outliers"]})
    (overlap,) = check_suite(same).overlaps
    assert overlap.count == 8 and overlap.names == tuple((name, name) for name in "ABCDE")
    assert str(overlap).endswith("E = E, …")


def write_suite(folder: Path) -> Path:
    train = RANDOM.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    test = RANDOM.integers(0, 256, (20, 4, 4, 3), dtype=np.uint8)
    test[:7] = train[:7]
    for name, pixels in (("train", train), ("test", test)):
        np.savez(folder / f"{name}.npz", images=pixels, labels=np.arange(20) % 2)
    return folder


def test_the_command_prints_draws_and_says_by_its_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, sheet = write_suite(tmp_path), tmp_path / "sheet.png"
    assert cli.main(["suite", "check", str(folder), "--to", str(sheet)]) == 1
    printed = capsys.readouterr().out
    assert "share" in printed and " = " in printed
    assert sheet.read_bytes().startswith(b"\x89PNG")
    assert cli.main(["suite", "check", str(folder), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["sets"] == {"train": 18, "validation": 2, "test": 20}
    assert sum(overlap["count"] for overlap in document["overlaps"]) == 7
    assert document["classes"]["0"] == {"train": 9, "validation": 1, "test": 10}
    np.savez(folder / "test.npz", images=np.zeros((2, 4, 4, 3), np.uint8), labels=np.array([0, 1]))
    assert cli.main(["suite", "check", str(folder)]) == 0
    capsys.readouterr()
    assert cli.main(["suite", "check", "digits"]) == 0
    assert "No image is in two sets." in capsys.readouterr().out
    assert cli.main(["suite", "check", str(folder / "none.toml")]) == 1
    assert "data must be a suite" in capsys.readouterr().err


def test_what_tells_a_set_from_test_rows_without_any_class_is_printed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for part, rows in (("train/cat", 30), ("train/dog", 30), ("test/cat", 40), ("test/dog", 40), ("near/x", 60)):
        (tmp_path / part).mkdir(parents=True)
        for row in range(rows):
            pixels = RANDOM.integers(0, 256, (6, 6, 3), dtype=np.uint8) // (2 if part == "near/x" else 1)
            wide = Image.fromarray(pixels).resize((12, 6)) if part == "near/x" else Image.fromarray(pixels)
            wide.save(tmp_path / part / f"{row}.png")
    (tmp_path / "suite.toml").write_text(
        'train = "train"\ntest = "test"\ninput_shape = [3, 6, 6]\nnear = { x = "near/x" }'
    )
    assert cli.main(["suite", "check", str(tmp_path / "suite.toml")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[2].split() == ["set", "images", "sharpness", "spectrum", "aspect", "compression"]
    (near,) = (line.split() for line in lines if line.startswith("near:x"))
    assert near[1] == "60" and near[3] == "(1.00)" and near[6:8] == ["2", "(1.00)"]
    (told,) = (line for line in lines if "from near:x at" in line)
    assert re.match(r"\w.* alone tells test from near:x at 1\.00, ", told) and "aspect ratio" in told
    assert cli.main(["suite", "check", str(tmp_path / "suite.toml"), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)["figures"]
    assert figures["medians"]["near:x"]["aspect"] == 2 and "aspect" not in figures["medians"]["validation"]
    assert {"one": "test", "other": "near:x", "figure": "aspect", "auroc": 0.0} in figures["apart"]


def test_what_was_left_out_is_printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for part in ("train", "test"):
        for name in ("cat", "dog"):
            (tmp_path / part / name).mkdir(parents=True)
            for row in range(3):
                pixels = RANDOM.integers(0, 256, (4, 4, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / part / name / f"{row}.png")
    (tmp_path / "train" / "cat" / "x.heic").touch()
    (tmp_path / "outliers.zip").touch()
    sentences = [
        f"{tmp_path} holds more than sets, and this is left out: outliers.zip.",
        f"{tmp_path / 'train'} holds more than images, and this is left out: 1 × .heic.",
    ]
    assert cli.main(["suite", "check", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if "left out" in line] == sentences and lines[-1] == "No image is in two sets."
    assert cli.main(["suite", "check", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["remarks"] == sentences


def test_the_list_says_what_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OODLES_DATA", raising=False)
    assert cli.main(["suite", "list", "--json"]) == 0
    listed = {one["name"]: one for one in json.loads(capsys.readouterr().out)}
    assert list(listed) == list(SUITES) and listed["digits"]["missing"] == ""
    assert "cifar10_train.npz" in listed["cifar10"]["missing"]
    for name in ("cifar10_train", "cifar10_test", "outliers_tinyimagenet", "near_tinyimagenet"):
        (tmp_path / f"{name}.npz").touch()
    assert "far_street_characters.npz" in {it["name"]: it for it in suite_list(tmp_path)}["cifar10"]["missing"]
    for name in ("far_street_characters", "far_textures"):
        (tmp_path / f"{name}.npz").touch()
    assert cli.main(["suite", "list", "--root", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    (line,) = (number for number, text in enumerate(lines) if text.startswith("cifar10 "))
    assert lines[line + 1].strip() == "All is there."


def test_a_sub_command_that_is_none_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.main(["suite", "chek"])
    assert stop.value.code == 2 and "did you mean 'suite check'?" in capsys.readouterr().err
    assert cli.main(["suite"]) == cli.main(["suite", "--help"]) == 0


def opened(path: Path) -> np.ndarray:
    with Image.open(path) as picture:
        return np.asarray(picture)


def test_the_sheet_shows_every_set_and_classes_in_turn(tmp_path: Path) -> None:
    one = suite()
    write_sheet(one, tmp_path / "sheet.png")
    sheet = opened(tmp_path / "sheet.png")
    tile, margin, line = 64, 4, 20
    assert sheet.shape == (7 * (tile + margin + line) + margin, 16 * (tile + margin) + margin, 3)

    def shown(place: int, column: int) -> np.ndarray:
        top, left = margin + place * (tile + margin + line) + line, margin + column * (tile + margin)
        return sheet[top : top + tile, left : left + tile][::16, ::16].transpose(2, 0, 1)

    for column, row in enumerate([0, 2, 1, 4, 3]):  # cat, dog, cat, dog, cat
        assert np.array_equal(shown(0, column), one.train.images[row])
    assert np.array_equal(shown(3, 7), one.sets()["outliers"].images[7])
    assert (shown(0, 5) == 255).all()
    with pytest.raises(ValueError, match=r"sheet\.xyz must end on \.png or another ending of images"):
        write_sheet(one, tmp_path / "sheet.xyz")


def test_the_sheet_shows_large_and_grey_and_floating_images(tmp_path: Path) -> None:
    half = ImageSet(np.full((2, 1, 100, 200), 0.5), np.array([0, 1]))
    write_sheet(Suite("large", half, half, half, ("a", "b")), tmp_path / "sheet.png")
    sheet = opened(tmp_path / "sheet.png")
    assert (sheet[24:88, 4:68] == 128).all()
