"""What is planted in a pool is found: copies, known rows, a difference in sharpness, broken files."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oodles import check_outliers
from oodles.cli import main
from oodles.data import Augment, ImageSet, Suite, load_suite
from oodles.runs.opened import Run
from oodles.runs.recipe import Recipe
from oodles.runs.training import train
from tests.data.test_likeness import compressed, resized, scenes
from tests.runs.small import small_suite, write_suite

TRAIN, TEST, POOL = scenes(60), scenes(20, seed=1), scenes(40, seed=2)


def save(folder: Path, images: np.ndarray, prefix: str = "", **settings: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for row, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{prefix}{row:02}.png", **settings)


@pytest.fixture
def suite(tmp_path: Path) -> Path:
    """Write a suite of image files, and a clean pool beside it."""
    for name, images in (("train", TRAIN), ("test", TEST)):
        save(tmp_path / "suite" / name / "cat", images[::2])
        save(tmp_path / "suite" / name / "dog", images[1::2])
    save(tmp_path / "pool", POOL)
    return tmp_path / "suite"


def planted(pool: Path) -> None:
    """Add to the pool a test row as it is, a training row compressed and one enlarged, a row twice, broken files."""
    save(pool, TEST[:1], "exact")
    save(pool, np.stack([compressed(TRAIN[0], 40)]), "jpeg")
    Image.fromarray(TRAIN[1]).resize((80, 80), Image.Resampling.BICUBIC).save(pool / "large.jpg", quality=90)
    save(pool, POOL[:1], "twice")
    (pool / "broken.jpg").write_bytes(b"\xff\xd8\xff none")
    (pool / "empty.png").touch()


def test_a_clean_pool_has_nothing(suite: Path) -> None:
    checked = check_outliers(suite.parent / "pool", suite)
    assert checked.kept.tolist() == list(range(40)) and not len(checked.copies) and not checked.measured.told()
    assert checked.sentences() == ["No image is in the suite too, or there twice.", "40 of 40 images remain."]


def test_planted_copies_repeats_and_broken_files_are_found_and_left_out(suite: Path) -> None:
    pool = suite.parent / "pool"
    planted(pool)
    checked = check_outliers(pool, suite, drop=suite.parent / "cleaned.txt")
    names = checked.pool.names
    copies = {names[row]: checked.original(row) for row in checked.copies}
    sets = {name: rows for name, rows in load_suite(suite).sets().items()}
    kinds = {name: of for of in ("train", "validation") for name in sets[of].names}
    assert copies == {
        "exact00.png": ("test", "cat/00.png"),
        "jpeg00.png": (kinds["cat/00.png"], "cat/00.png"),
        "large.jpg": (kinds["dog/00.png"], "dog/00.png"),
    }
    assert [names[row] for row in checked.copies if checked.exact[row]] == ["exact00.png"]
    assert [names[row] for row in np.flatnonzero(checked.repeats)] == ["twice00.png"]
    assert {names[row]: reason for row, reason in checked.broken.items()}["empty.png"] == "it is empty"
    expected = [f"{row:02}.png" for row in range(40)]
    assert [names[row] for row in checked.kept] == expected
    assert (suite.parent / "cleaned.txt").read_text().splitlines() == expected
    assert checked.sentences()[0] == "2 images cannot be read: broken.jpg, empty.png."
    assert "1 image is in test too: exact00.png = cat/00.png." in checked.sentences()
    assert checked.sentences()[-2:] == [
        "1 image is there more than once, of which the first is kept: twice00.png.",
        "40 of 46 images remain.",
    ]


def test_what_is_written_are_the_outliers_of_a_suite(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, folder = suite.parent / "pool", suite.parent
    planted(pool)
    (pool / "a file 7").mkdir()
    save(pool / "a file 7", scenes(1, seed=5), "ü 3 ")
    for given in (pool, folder / "pool.npz", folder / "pool.npy"):
        if not given.exists():
            images = np.concatenate([POOL, TEST[:1], POOL[:1]])
            np.save(given, images) if given.suffix == ".npy" else np.savez(given, images=images)
        command = ["outliers", "check", str(given), "--data", str(suite), "--drop", str(folder / "cleaned.txt")]
        assert main(command) == 1
        said = capsys.readouterr().out.splitlines()[-1].removeprefix("In a suite file: ")
        (folder / "with.toml").write_text(f'train = "suite/train"\ntest = "suite/test"\n{said}')
        outliers = load_suite(folder / "with.toml").outliers
        assert outliers is not None
        more = ["a file 7/ü 3 00.png"] if given == pool else []
        assert len(outliers) == 40 + len(more) and set(more) <= set(outliers.names)
        assert np.array_equal(outliers.images[:40], np.moveaxis(POOL, 3, 1))


def test_a_pool_larger_than_memory_is_read_in_blocks(suite: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(suite.parent / "pool.npy", np.concatenate([POOL, TEST[:1], TRAIN[4:5]]))
    expected = check_outliers(suite.parent / "pool.npy", suite)
    monkeypatch.setattr("oodles.data.decoded.IN_MEMORY", 1000)
    monkeypatch.setattr("oodles.data.likeness.BLOCK", 7)
    checked = check_outliers(suite.parent / "pool.npy", suite)
    assert checked.copies.tolist() == expected.copies.tolist() == [40, 41]
    assert checked.matches.tolist() == expected.matches.tolist()
    assert not isinstance(checked.pool.images, np.ndarray) and [len(rows) for rows in checked.pool.blocks()] == [7] * 6
    one, other = (found.measured.figures["pool"]["sharpness"] for found in (expected, checked))
    np.testing.assert_allclose(one, other)


def test_the_suites_own_outliers_may_be_of_the_pool_and_its_test_sets_may_not(tmp_path: Path) -> None:
    def rows(images: np.ndarray) -> ImageSet:
        return ImageSet(np.moveaxis(images, 3, 1), np.arange(len(images)) % 2)

    suite = Suite("mine", rows(TRAIN), rows(TEST[:10]), rows(TEST[10:]), ("cat", "dog"), outliers=rows(POOL))
    suite = replace(suite, validation_outliers=rows(POOL[:5]), near={"x": rows(POOL[5:7])})
    np.save(tmp_path / "pool.npy", POOL)
    checked = check_outliers(tmp_path / "pool.npy", suite)
    assert {row: checked.original(row) for row in checked.copies.tolist()} == {5: ("near:x", "0"), 6: ("near:x", "1")}


def test_a_planted_difference_in_sharpness_is_told(suite: Path) -> None:
    soft = np.stack([resized(image, 0.5) for image in scenes(60, seed=7)])
    save(suite.parent / "soft", soft)
    checked = check_outliers(suite.parent / "soft", suite)
    told = [line for line in checked.measured.in_words() if "pool" in line]
    assert re.fullmatch(
        r"(Sharpness|The spectrum's tail) alone tells test from pool at 1\.00, .*at (1\.00|\.9\d).*", told[0]
    )
    lines = str(checked).splitlines()
    assert next(line for line in lines if line.startswith("pool ")).split()[1] == "60"


def test_shape_and_compression_of_files_are_told(suite: Path) -> None:
    wide = suite.parent / "wide"
    wide.mkdir()
    for row, image in enumerate(scenes(60, seed=8)):
        Image.fromarray(image).resize((48, 32), Image.Resampling.BICUBIC).save(wide / f"{row}.jpg", quality=50)
    checked = check_outliers(wide, suite)
    assert checked.measured.figures["pool"]["aspect"].tolist() == [1.5] * 60
    (test,) = (pair for pair in checked.measured.told() if {pair[0].one, pair[0].other} == {"test", "pool"})
    assert {"aspect": 1.0, "compression": 1.0}.items() <= {apart.figure: apart.certainty for apart in test}.items()


# of a run


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    recipe = Recipe(methods=(("outlier-exposure", {}),), epochs=20, batch_size=20, outlier_batch_size=20)
    folder = tmp_path_factory.mktemp("runs") / "run"
    return train(recipe, small_suite(), folder=folder, network="tests.runs.small:linear", progress=False)


def known_and_noise(folder: Path) -> Path:
    """Write twenty rows of noise, and behind them ten rows of the classes that no set of the suite has."""
    random = np.random.default_rng(3)
    noise, known = (random.random((20, 1, 8, 8)), random.random((10, 1, 8, 8)) / 2)
    for row in range(10):
        known[row, 0, 3 * (row % 3) : 3 * (row % 3) + 2] += 0.5
    np.save(folder / "pool.npy", np.concatenate([noise, known]).astype(np.float32)[:, 0])
    return folder / "pool.npy"


def test_planted_known_rows_are_taken_for_their_classes_with_neighbours_of_these(run: Run, tmp_path: Path) -> None:
    suite = small_suite()
    checked = check_outliers(known_and_noise(tmp_path), suite, run=run, report=tmp_path / "page.html")
    assert checked.taken is not None
    taken = dict(zip(checked.taken.rows.tolist(), checked.taken.classes, strict=True))
    planted = {row: "abc"[(row - 20) % 3] for row in range(20, 30)}
    assert len(taken.items() & planted.items()) >= 9
    assert len(taken) <= 12 and checked.taken.accepts == 0.95
    assert not set(checked.kept.tolist()) & set(taken) and len(checked.kept) == 30 - len(taken)
    assert (np.diff(checked.taken.scores) >= 0).all()
    for row, numbers in zip(checked.taken.rows, checked.taken.neighbours, strict=True):
        assert row < 20 or set(suite.train.labels[numbers]) == {(row - 20) % 3}
    (sentence,) = (line for line in checked.sentences() if "taken for known" in line)
    assert sentence.startswith(
        f"{len(taken)} images ({100 * len(taken) / 30:.1f} %) are taken for known classes: msp of at"
    )
    assert "which accepts 95 % of known rows" in sentence
    assert [entry["row"] for entry in checked.as_dict()["taken"]["rows"]] == [str(row) for row in checked.taken.rows]
    page = (tmp_path / "page.html").read_text()
    assert page.count("<figure>") == 6 * len(taken) and page.count("data:image/png;base64,") == 6 * len(taken)
    fewer = check_outliers(known_and_noise(tmp_path), suite, run=run, false_alarms=0.5, score="energy").taken
    assert fewer is not None and fewer.rule.startswith("energy") and fewer.accepts == 0.5


def test_copies_are_not_told_again_as_known_rows(run: Run, tmp_path: Path) -> None:
    np.save(tmp_path / "pool.npy", small_suite().test.images[:, 0])
    with pytest.warns(UserWarning, match=r"list\.txt is not written, since no row of .*pool\.npy remains"):
        checked = check_outliers(tmp_path / "pool.npy", small_suite(), run=run, drop=tmp_path / "list.txt")
    assert checked.taken is not None and not len(checked.taken.rows) and len(checked.copies) == 30
    assert not (tmp_path / "list.txt").exists()


def test_a_saved_detector_will_do_and_other_data_will_not(run: Run, tmp_path: Path) -> None:
    run.detector().save(tmp_path / "detector")
    pool, network = known_and_noise(tmp_path), "tests.runs.small:linear"
    checked = check_outliers(pool, small_suite(), run=tmp_path / "detector", network=network)
    assert checked.taken is not None and len({*range(20, 30)} & {*checked.taken.rows}) >= 9
    with pytest.raises(ValueError, match="the run must have the classes of small, a, b, and has a, b, c: name"):
        check_outliers(pool, small_suite(classes=2), run=run)
    with pytest.raises(ValueError, match=r"the run must read rows of the shape \(1, 8, 9\), as wide has them, and"):
        wide = ImageSet(np.zeros((4, 1, 8, 9), np.float32), np.arange(4) % 2)
        check_outliers(pool, Suite("wide", wide, wide, wide, ("a", "b")), run=run)


def test_the_data_of_a_run_are_those_that_a_pool_is_looked_at_beside(tmp_path: Path) -> None:
    write_suite(tmp_path / "data", small_suite())
    network, pool = "tests.runs.small:linear", known_and_noise(tmp_path)
    train(
        Recipe(epochs=10, batch_size=20),
        str(tmp_path / "data"),
        folder=tmp_path / "run",
        network=network,
        progress=False,
    )
    (tmp_path / "moved").mkdir()
    np.save(pool, np.concatenate([np.load(pool), small_suite().test.images[3:4, 0]]))
    for root in ((), tmp_path / "moved"):
        checked = check_outliers(pool, run=tmp_path / "run", network=network, root=root)
        assert checked.suite.name == "data" and checked.original(30) == ("test", "3") and checked.taken is not None
        if not root:
            (tmp_path / "data").rename(tmp_path / "moved" / "data")


# vectors and texts


def test_of_vectors_and_texts_duplicates_are_found(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    vectors = random.random((30, 4), dtype=np.float32)
    for name, rows in (("train", vectors[:20]), ("test", vectors[20:])):
        (tmp_path / "v").mkdir(exist_ok=True)
        np.savez(tmp_path / "v" / f"{name}.npz", features=rows, labels=np.arange(len(rows)) % 2)
    np.save(tmp_path / "pool.npy", np.concatenate([random.random((3, 4), dtype=np.float32), vectors[25:26]]))
    checked = check_outliers(tmp_path / "pool.npy", tmp_path / "v", report=tmp_path / "page.html")
    assert checked.sentences() == ["1 row is in test too: 3 = 5.", "3 of 4 rows remain."]
    assert checked.measured.names == () and str(checked).splitlines()[0].endswith("4 rows, beside v")
    page = (tmp_path / "page.html").read_text()
    assert "<img" not in page and "3 of 4 rows remain." in page


def encode(texts: list[str]) -> np.ndarray:
    return np.array([[len(text), text.count("e")] for text in texts], np.float32)


def test_of_texts_those_are_found_that_differ_by_case(tmp_path: Path) -> None:
    for name in ("train", "test"):
        rows = [f"{name} text {number},{'ab'[number % 2]}" for number in range(20)]
        (tmp_path / f"{name}.csv").write_text("text,label\n" + "\n".join(rows))
    (tmp_path / "suite.toml").write_text(
        'encoder = "tests.screening.test_check:encode"\ntrain = "train.csv"\ntest = "test.csv"\n'
    )
    (tmp_path / "pool.txt").write_text("something else\nTEST text 4!\nanother\n")
    checked = check_outliers(tmp_path / "pool.txt", tmp_path / "suite.toml", drop=tmp_path / "kept.txt")
    assert checked.sentences()[0].startswith("1 row is in test too, 1 of them nearly: ")
    assert (tmp_path / "kept.txt").read_text() == "0\n2\n"
    with (tmp_path / "suite.toml").open("a") as file:
        file.write(checked.usage(tmp_path / "kept.txt").removeprefix("In a suite file: "))
    outliers = load_suite(tmp_path / "suite.toml").outliers
    assert outliers is not None and np.array_equal(outliers.images[:], encode(["something else", "another"]))


# what cannot be checked


def test_what_cannot_be_checked_is_refused_in_a_sentence(suite: Path, tmp_path: Path) -> None:
    pool, vectors = suite.parent / "pool", ImageSet(np.zeros((4, 5), np.float32), np.arange(4) % 2)
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "a.png").write_bytes(b"none")
    np.save(tmp_path / "vectors.npy", np.zeros((4, 5), np.float32))
    refused = [
        (tmp_path / "nowhere", suite, {}, "data must be at an existing path, but nothing is at .*nowhere"),
        (tmp_path / "empty", suite, {}, r"empty must hold images \(.*\), but has none"),
        (tmp_path / "broken", suite, {}, r"a\.png cannot be used as an image: cannot identify its format"),
        (tmp_path / "vectors.npy", suite, {}, r"vectors\.npy must hold images, as train does, got vectors of 5"),
        (
            pool,
            Suite("v", vectors, vectors, vectors, ("a", "b")),
            {},
            "pool must hold feature vectors, and holds images",
        ),
        (pool, None, {}, "outliers are checked beside the rows of a suite: say data, or a run"),
        (pool, suite, {"score": "energy"}, "score and false_alarms are of a run: say which, or leave them out"),
        (pool, suite, {"false_alarms": 0.1}, "score and false_alarms are of a run"),
        (pool, suite, {"report": tmp_path}, "must be a file to write, and it is a folder"),
        (pool, suite, {"drop": tmp_path}, "must be a file to write, and it is a folder"),
        (pool, suite, {"run": tmp_path}, "is no run folder"),
    ]
    for given, data, settings, sentence in refused:
        with pytest.raises((ValueError, FileNotFoundError), match=sentence):
            check_outliers(given, data, **settings)


def test_the_command_prints_writes_and_says_by_its_exit_code(suite: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pool, page = suite.parent / "pool", suite.parent / "page.html"
    command = ["outliers", "check", str(pool), "--data", str(suite)]
    assert main(command) == 0
    assert "No image is in the suite too, or there twice." in capsys.readouterr().out
    planted(pool)
    assert main([*command, "--report", str(page), "--json"]) == 1
    document = json.loads(capsys.readouterr().out)
    assert document["rows"] == 46 and document["kept"] == 40 and document["repeats"] == ["twice00.png"]
    assert {copy["row"]: copy["exact"] for copy in document["copies"]} == {
        "exact00.png": True,
        "jpeg00.png": False,
        "large.jpg": False,
    }
    assert set(document["figures"]["medians"]["pool"]) == {"sharpness", "spectrum", "aspect", "compression"}
    text = page.read_text()
    assert text.count("<figure>") == 6 and text.index(">jpeg00.png</span>") < text.index(">exact00.png</span>")
    assert main(["outliers", "check", str(pool)]) == 1
    assert "say data, or a run that was trained on it" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["outliers", "chek"])
    assert "did you mean 'outliers check'?" in capsys.readouterr().err


def test_names_that_no_list_can_hold_are_left_out_of_it(suite: Path) -> None:
    pool = suite.parent / "pool"
    save(pool, scenes(1, seed=6), "two\nlines")
    with pytest.warns(UserWarning, match=r"cleaned\.txt leaves out 1 files whose names no list can hold: rename them"):
        check_outliers(pool, suite, drop=suite.parent / "cleaned.txt")
    assert len((suite.parent / "cleaned.txt").read_text().splitlines()) == 40


def test_grey_images_of_16_bits_among_others_keep_their_brightness(suite: Path) -> None:
    pool = suite.parent / "deep"
    save(pool, scenes(2, seed=4))
    grey = np.full((32, 32), 2**15, np.uint16)
    Image.fromarray(grey).save(pool / "deep.png")
    block = check_outliers(pool, suite).pool.read([0, 2])
    assert block.pixels.dtype == np.float32 and block.pixels[1].max() == pytest.approx(0.5, abs=1e-4)
    assert np.array_equal(block.pixels[0], np.moveaxis(scenes(2, seed=4)[0], 2, 0) / np.float32(255))


def test_augmentation_of_the_suite_is_not_looked_at(suite: Path) -> None:
    flipped = load_suite(suite, augment=Augment(flip=True))
    np.save(suite.parent / "pool.npy", TEST[:1])
    assert check_outliers(suite.parent / "pool.npy", flipped).exact.tolist() == [True]
