"""Files are whole or not there; what exists and is no file is written to, links and modes stay."""

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from oodles.files import csv_text, in_one_piece, write_json, write_text


def test_a_file_is_replaced_as_a_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    write_json(path, {"old": 1})
    old = path.read_bytes()
    with pytest.raises(RuntimeError), in_one_piece(path) as file:
        file.write(b"half of it")
        file.flush()
        assert path.read_bytes() == old
        raise RuntimeError
    assert path.read_bytes() == old
    write_json(path, {"new": 2})
    assert path.read_text(encoding="utf-8") == '{\n "new": 2\n}\n'
    assert [file.name for file in tmp_path.iterdir()] == ["run.json"]


def test_two_writers_do_not_get_into_each_others_way(tmp_path: Path) -> None:
    with in_one_piece(tmp_path / "a") as first, in_one_piece(tmp_path / "a") as second:
        first.write(b"first")
        second.write(b"second")
    assert (tmp_path / "a").read_bytes() == b"first", "the one that ended last"
    assert [file.name for file in tmp_path.iterdir()] == ["a"]


def test_links_stay_and_their_targets_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    write_text(tmp_path / "there" / "target", "old")
    for link, target in (("link", "../there/target"), ("to-link", "link"), ("dangling", "../there/none-yet")):
        (tmp_path / "here" / link).symlink_to(target)
        write_text(tmp_path / "here" / link, link)
        assert (tmp_path / "here" / link).is_symlink()
        assert (tmp_path / "here" / target).read_text() == link
    assert sorted(file.name for file in (tmp_path / "there").iterdir()) == ["none-yet", "target"]


@pytest.mark.parametrize("mode", [0o600, 0o640, 0o755])
def test_a_file_that_is_replaced_keeps_its_mode(mode: int, tmp_path: Path) -> None:
    write_text(tmp_path / "a", "old")
    (tmp_path / "a").chmod(mode)
    write_text(tmp_path / "a", "new")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == mode and (tmp_path / "a").read_text() == "new"


def test_a_new_file_has_the_mode_that_the_system_gives(tmp_path: Path) -> None:
    (tmp_path / "other").touch()
    write_text(tmp_path / "a", "new")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_pipes_and_devices_are_written_to(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "null").symlink_to(os.devnull)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()), daemon=True)
    reader.start()
    write_text(tmp_path / "pipe", "through it")
    reader.join(timeout=10)
    assert read == [b"through it"] and stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)
    for path in (tmp_path / "null", Path(os.devnull)):
        before = Path(os.devnull).stat()
        write_text(path, "nothing")
        after = Path(os.devnull).stat()
        assert stat.S_ISCHR(after.st_mode) and (after.st_ino, after.st_rdev) == (before.st_ino, before.st_rdev)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no full device")
def test_a_full_disk_is_a_sentence_with_the_path() -> None:
    with pytest.raises(OSError, match=r"^/dev/full cannot be written, no space left on device: .*\.$"):
        write_text(Path("/dev/full"), "more than fits")


def test_a_disk_that_fills_up_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    write_text(tmp_path / "a", "old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="a cannot be written, no space left on device: choose another place"):
        write_text(tmp_path / "a", "new")
    assert [file.name for file in tmp_path.iterdir()] == ["a"] and (tmp_path / "a").read_text() == "old"


def test_what_cannot_be_written_is_a_sentence_with_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_text(tmp_path / "a", "old")
    (tmp_path / "folder").mkdir()
    (tmp_path / "circle").symlink_to("circle")
    for path in (tmp_path / "a" / "b", tmp_path / "folder", tmp_path / "circle", tmp_path / ("long" * 100)):
        with pytest.raises(OSError, match=rf"^{path} cannot be written, [a-z ]*: .*\.$"):
            write_text(path, "new")
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write whatever the mode says
    with pytest.raises(OSError, match="a cannot be written, it is read-only: choose another place"):
        write_text(tmp_path / "a", "new")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a", "circle", "folder"]


def test_text_that_is_no_unicode_is_written_escaped(tmp_path: Path) -> None:
    write_json(tmp_path / "a", {"name": os.fsdecode(b"caf\xe9")})
    assert (tmp_path / "a").read_bytes() == b'{\n "name": "caf\\udce9"\n}\n'


def test_cells_that_a_spreadsheet_would_compute_are_defused() -> None:
    rows = [("=1+1", "+a", "-b", "@c", "\td", "\re"), ("a=b", "-1.5", "", -2.0, None, "ä")]
    assert csv_text(rows) == "'=1+1,'+a,'-b,'@c,'\td,\\re\na=b,-1.5,,-2.0,,ä\n"
