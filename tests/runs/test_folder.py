"""Run folders: one process at a time, mistakes get a sentence, nothing is unpickled."""

import multiprocessing
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from torch import nn

from oodles.files import UNFINISHED, in_one_piece, write_arrays
from oodles.runs.folder import LOG, check_output, locked
from oodles.runs.opened import open_run
from oodles.runs.saved_state import load_weights


def _try_to_lock(folder: Path, answers: "multiprocessing.Queue[str]") -> None:
    try:
        with locked(folder):
            answers.put("locked")
    except ValueError as error:
        answers.put(str(error))


def test_a_folder_belongs_to_one_process_at_a_time(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def other() -> str:
        process = context.Process(target=_try_to_lock, args=(tmp_path, answers))
        process.start()
        process.join()
        return str(answers.get(timeout=5))

    with locked(tmp_path):
        assert "is in use by another process" in other()
    assert other() == "locked"


def test_a_folder_belongs_to_one_training_of_a_process(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(ValueError, match="is in use by another process or training"),
        locked(tmp_path),
    ):
        pytest.fail("it was locked twice")
    with locked(tmp_path):
        pass


def _wait(seconds: float) -> None:
    time.sleep(seconds)


def test_a_worker_that_outlives_its_parent_keeps_no_lock(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    with locked(tmp_path):
        worker = context.Process(target=_wait, args=(30,))
        worker.start()
    try:
        with locked(tmp_path):
            assert worker.is_alive()
    finally:
        worker.kill()
        worker.join()


def test_a_link_in_a_run_folder_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine", encoding="utf-8")
    for name in (".lock", LOG, "weights.safetensors"):
        (tmp_path / "run").mkdir()
        (tmp_path / "run" / name).symlink_to(tmp_path / "mine")
        with pytest.raises(ValueError, match=rf"{name} must be a file of its own"), locked(tmp_path / "run"):
            pytest.fail("it was locked")
        (tmp_path / "run" / name).unlink()
        (tmp_path / "run").rmdir()
    assert (tmp_path / "mine").read_text(encoding="utf-8") == "mine"


def test_what_a_killed_writer_left_is_cleared_away(tmp_path: Path) -> None:
    (tmp_path / f".abc{UNFINISHED}").write_bytes(b"half")
    with locked(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]


def test_folders_that_are_no_runs_get_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"is no run folder, it has no run\.json"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json is not JSON \(line 1, column 2\): it was cut short"):
        open_run(tmp_path)
    (tmp_path / "run.json").write_text("[]", encoding="utf-8")
    with pytest.raises(ValueError, match=r"run\.json: its content must be a table of keys and values, got \[\]; take"):
        open_run(tmp_path)


def test_a_file_that_could_not_be_written_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    for path, sentence in (
        (tmp_path, "must be a file to write, and it is a folder"),
        (tmp_path / "run.json" / "x.csv", "run.json is a file: choose another place"),
        (tmp_path / "weights.safetensors", "weights.safetensors belongs to a run: choose another name"),
    ):
        with pytest.raises(ValueError, match=sentence):
            check_output(path)
    check_output(tmp_path / "scores.csv")
    with pytest.raises(ZeroDivisionError), in_one_piece(tmp_path / "scores.csv"):
        raise ZeroDivisionError
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_nothing_is_unpickled(tmp_path: Path) -> None:
    class Attack:
        def __reduce__(self) -> tuple[type[BaseException], tuple[str]]:
            return SystemExit, ("unpickled",)

    (tmp_path / "weights").write_bytes(pickle.dumps(Attack()))
    with pytest.raises(ValueError, match="must hold tensors alone, and it cannot be read as such"):
        load_weights(nn.Linear(2, 2), tmp_path / "weights")
    with pytest.raises(ValueError, match="allow_pickle"):
        write_arrays(tmp_path / "scores.npz", {"a": np.array([Attack()], dtype=object)})
