"""The promises of ``docs/safety.md`` and their tests; those about the code of strangers are here."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from oodles.cli import main
from oodles.comparing.comparison import compare
from oodles.data import describe_suite, load_suite
from oodles.data.description import functions
from oodles.files import write_json
from oodles.runs.deployment import score_inputs
from oodles.runs.folder import RUN
from oodles.runs.opened import open_run
from oodles.runs.recipe import Recipe
from oodles.runs.testing import evaluate_run
from oodles.runs.training import train

ROOT = Path(__file__).parents[1]
PROMISES = {
    "Reading a run folder imports no code that it names.": (
        "test_safety.py::test_a_network_that_a_folder_names_is_not_imported",
        "test_safety.py::test_a_network_that_is_named_again_is_used",
    ),
    "Data that a run folder leads to runs no functions.": (
        "test_safety.py::test_functions_of_a_suite_that_a_folder_names_are_not_run",
    ),
    "An encoder of one's own is imported only if you name it.": (
        "runs/test_vectors.py::test_an_encoder_of_ones_own_is_imported_only_where_it_is_named",
    ),
    "Code that lies in a run folder is never imported": (
        "test_safety.py::test_code_in_a_run_folder_is_never_imported",
        "test_safety.py::test_the_module_imports_nothing_from_the_current_folder",
    ),
    "Nothing but tensors is unpickled.": (
        "runs/test_folder.py::test_nothing_is_unpickled",
        "runs/test_saved_state.py::test_a_pickle_of_more_than_tensors_is_refused",
        "runs/test_saved_state.py::test_programs_are_not_opened_as_weights",
    ),
    "A small file cannot take all memory.": (
        "data/test_arrays.py::test_an_archive_that_unpacks_to_too_much_is_refused_before_it_does",
        "data/test_arrays.py::test_a_gzipped_file_that_unpacks_to_too_much_is_refused_before_it_does",
        "data/test_image_files.py::test_the_limit_is_pillows_own_and_can_be_raised",
    ),
    "Names cannot control a terminal.": (
        "comparing/test_terminal.py::test_names_do_not_control_the_terminal",
        "test_cli.py::test_what_is_printed_does_not_control_the_terminal",
    ),
    "Names are no formulas of a spreadsheet.": (
        "test_files.py::test_cells_that_a_spreadsheet_would_compute_are_defused",
    ),
    "Training writes through no link in a run folder.": (
        "runs/test_folder.py::test_a_link_in_a_run_folder_is_not_written_through",
    ),
    "A damaged file is named, with the key and what to do.": (
        "runs/test_damage.py::test_every_command_works_or_names_the_damaged_file",
        "runs/test_damage.py::test_damage_is_described",
        "runs/test_old_runs.py::test_the_weights_give_the_same_figures",
    ),
    "Changed weights and scores are found.": ("runs/test_damage.py::test_two_flipped_bits_are_found",),
    "A refused folder is left as it is.": ("runs/test_damage.py::test_every_command_works_or_names_the_damaged_file",),
    "A file is whole or not there.": ("test_files.py::test_a_file_is_replaced_as_a_whole_or_not_at_all",),
    "Outputs keep what was there": (
        "test_files.py::test_links_stay_and_their_targets_are_replaced",
        "test_files.py::test_a_file_that_is_replaced_keeps_its_mode",
        "test_files.py::test_pipes_and_devices_are_written_to",
        "runs/test_folder.py::test_a_file_that_could_not_be_written_is_refused_before_any_work",
    ),
    "A full disk is one sentence with the path": (
        "test_files.py::test_a_full_disk_is_a_sentence_with_the_path",
        "test_files.py::test_a_disk_that_fills_up_leaves_the_old_file",
        "test_cli.py::test_output_that_cannot_be_written_is_a_sentence",
    ),
    "A run that was killed ends with the weights of one that was not": (
        "runs/test_kills.py::test_killed_runs_end_like_undisturbed_ones",
    ),
    "Two trainings never share a folder": (
        "runs/test_folder.py::test_a_folder_belongs_to_one_process_at_a_time",
        "runs/test_folder.py::test_a_folder_belongs_to_one_training_of_a_process",
    ),
}
"""Each promise as the page has it, and its tests."""


def test_every_promise_of_the_page_has_its_tests() -> None:
    page = " ".join((ROOT / "docs" / "safety.md").read_text(encoding="utf-8").split())
    assert page.split("**")[1::2] == list(PROMISES)
    for tests in PROMISES.values():
        for test in tests:
            file, _, name = test.partition("::")
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(encoding="utf-8"), test


EVIL = "from pathlib import Path\nPath({mark!r}).touch()\ndef build(*given, **named):\n    raise SystemExit('it ran')\n"


@pytest.fixture
def stranger(tmp_path: Path) -> Path:
    """Copy a run that names a network of its own, which marks that it was imported."""
    folder = shutil.copytree(ROOT / "tests" / "runs" / "old_run", tmp_path / "stranger")
    record = json.loads((folder / RUN).read_text(encoding="utf-8"))
    record["arguments"]["network"] = "strangers_code:build"
    write_json(folder / RUN, record)
    (folder / "strangers_code.py").write_text(EVIL.format(mark=str(tmp_path / "imported")), encoding="utf-8")
    np.savez(tmp_path / "rows.npz", images=load_suite("digits").test.images[:4])
    return folder


def reading(run: Path, *more: str) -> dict[str, list[str]]:
    """Return the commands that read a run."""
    rows, to = run.parent / "rows.npz", run.parent
    return {
        "evaluate": ["evaluate", str(run), *more],
        "score": ["score", str(run), str(rows), "--to", str(to / "scores.csv"), *more],
        "export": ["export", str(run), "--to", str(to / "model.pt2"), *more],
    }


def test_a_network_that_a_folder_names_is_not_imported(
    stranger: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(shutil.copytree(stranger, stranger.parent / "elsewhere", dirs_exist_ok=True)))
    for name, words in reading(stranger).items():
        assert main(words) == 1, name
        err = capsys.readouterr().err
        assert "names a network of one's own, 'strangers_code:build'" in err and err.count("\n") == 1
        assert "add --network strangers_code:build, or open_run(…, network='strangers_code:build')" in err
    assert main(["compare", str(stranger), "--to", str(stranger.parent / "report.html")]) == 0
    assert not (stranger.parent / "imported").exists()


def in_the_folder(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stranger)


def first_on_the_path(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(stranger))


def by_an_empty_entry(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stranger)
    monkeypatch.syspath_prepend("")


def behind_a_link(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (stranger.parent / "link").mkdir()
    (stranger.parent / "link" / "strangers_code.py").symlink_to(stranger / "strangers_code.py")
    monkeypatch.chdir(stranger.parent / "link")


def in_a_package(stranger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(stranger.parent)


@pytest.mark.parametrize(
    "how", [in_the_folder, first_on_the_path, by_an_empty_entry, behind_a_link, in_a_package], ids=lambda f: f.__name__
)
def test_code_in_a_run_folder_is_never_imported(
    how: Callable[[Path, pytest.MonkeyPatch], None],
    stranger: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = "stranger.strangers_code:build" if how is in_a_package else "strangers_code:build"
    record = json.loads((stranger / RUN).read_text(encoding="utf-8"))
    record["arguments"]["network"] = name
    write_json(stranger / RUN, record)
    how(stranger, monkeypatch)
    sentence = "where no code is looked for" if how is in_the_folder else "no code in run folders is imported"
    for words in reading(stranger, "--network", name).values():
        assert main(words) == 1
        assert sentence in capsys.readouterr().err
    fresh = ["train", "mixup", "--epochs", "1", "--network", name, "--to", str(stranger.parent / "fresh")]
    assert main(fresh) == 1 and sentence in capsys.readouterr().err
    assert not (stranger.parent / "imported").exists()


def test_the_module_imports_nothing_from_the_current_folder(stranger: Path) -> None:
    """``python -m`` looks into the current folder first, where modules may be called like any other."""
    for name in ("ast", "difflib", "json", "numpy", "pathlib", "shutil", "torch", "tyro", "unicodedata"):
        shutil.copyfile(stranger / "strangers_code.py", stranger / f"{name}.py")
    environment = {**os.environ, "PYTHONPATH": str(Path(sys.modules["oodles"].__file__ or "").parents[1])}
    done = subprocess.run(
        [sys.executable, "-m", "oodles", "compare", "."], cwd=stranger, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0 and "mixup" in done.stdout, done.stderr
    assert not (stranger.parent / "imported").exists()


def test_a_network_that_is_named_again_is_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = shutil.copytree(ROOT / "tests" / "runs" / "old_run", tmp_path / "run")
    np.savez(tmp_path / "rows.npz", images=load_suite("digits").test.images[:4])
    own = ["--network", "tests.runs.small:linear"]
    assert main(["score", str(folder), str(tmp_path / "rows.npz"), "--to", str(tmp_path / "a.csv"), *own]) == 0
    assert len((tmp_path / "a.csv").read_text(encoding="utf-8").splitlines()) == 5
    capsys.readouterr()
    assert main(["evaluate", str(folder), "--network", "tests.runs.small:with_dropout"]) == 1
    assert "was trained with the network 'tests.runs.small:linear', got 'tests.runs" in capsys.readouterr().err
    assert open_run(folder, network="tests.runs.small:linear").classifier().num_classes == 6


SUITE = """
train = {{ dataset = "{module}:train" }}
test = {{ dataset = "{module}:test" }}
validation = 10
input_shape = [1, 8, 8]
[far]
noise = {{ dataset = "{module}:noise" }}
"""
ROWS = """
import numpy as np
from pathlib import Path
count = Path(__file__).with_name("count")
def rows(labels, seed):
    count.write_text(str(int(count.read_text()) + 1 if count.exists() else 1))
    random = np.random.default_rng(seed)
    return [(random.random((8, 8)).astype(np.float32), label) for label in labels]
def train(): return rows([0, 1] * 20, 0)
def test(): return rows([0, 1] * 10, 1)
def noise(): return rows([0] * 10, 2)
"""


@pytest.mark.filterwarnings("ignore::oodles.TrainingWarning")
def test_functions_of_a_suite_that_a_folder_names_are_not_run(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    module = "rows_of_ones_own"
    (tmp_path / f"{module}.py").write_text(ROWS, encoding="utf-8")
    (tmp_path / "own.toml").write_text(SUITE.format(module=module), encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    recipe = Recipe(epochs=1, batch_size=20)
    run = train(recipe, tmp_path / "own.toml", folder=tmp_path / "run", device="cpu", progress=False)
    assert evaluate_run(run, ["msp"]).metrics["far:noise"], "its data was said when it was trained"
    assert compare([run]).to_html().count("data:image/png") > compare([run.folder]).to_html().count("data:image/png")
    np.savez(tmp_path / "rows.npz", images=np.zeros((2, 8, 8), dtype=np.float32))
    calls = (tmp_path / "count").read_text()
    words = ["evaluate", str(run.folder), "--score", "msp"]
    capsys.readouterr()
    assert main(words) == 1
    err = capsys.readouterr().err
    assert f"names a function of one's own, '{module}:train' for train" in err and "add --data /" in err
    kept = score_inputs(run.folder, tmp_path / "rows.npz", score="knn", false_alarms=0.2, to=None)
    assert kept.score == "knn", "its fit is kept"
    with pytest.raises(FileNotFoundError, match="no code is imported because a folder leads to it"):
        score_inputs(run.folder, tmp_path / "rows.npz", score="knn(k=3)", to=None)
    assert (tmp_path / "count").read_text() == calls
    assert main([*words, "--data", str(tmp_path / "own.toml")]) == 0
    assert int((tmp_path / "count").read_text()) > int(calls)
    (tmp_path / "moved").mkdir()
    (tmp_path / "own.toml").rename(tmp_path / "moved" / "own.toml")
    assert main([*words, "--data", str(tmp_path / "moved" / "own.toml")]) == 0
    changed = SUITE.format(module=module).replace("[far]", f'augment = {{ transforms = "{module}:same" }}\n[far]')
    (tmp_path / "plain.toml").write_text(changed, encoding="utf-8")
    named = list(functions(describe_suite(tmp_path / "plain.toml")))
    assert named[-1] == ("transforms", f"{module}:same") and len(named) == 4
    capsys.readouterr()
    assert main([*words, "--data", "digits"]) == 1
    assert "was trained with the data 'own.toml', got 'digits': leave --data out" in capsys.readouterr().err
