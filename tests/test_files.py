"""Files are whole or not there."""

from pathlib import Path

import pytest

from oodles.files import in_one_piece, write_json


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
