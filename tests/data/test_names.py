"""Names in both Unicode forms, names that are no UTF-8, and many names in a sentence."""

import os
from pathlib import Path

import pytest

from oodles.data.names import composed, find, shown, some

COMPOSED, DECOMPOSED = "caf\u00e9", "cafe\u0301"


def test_both_forms_are_one_name() -> None:
    assert composed(COMPOSED) == composed(DECOMPOSED) == COMPOSED != DECOMPOSED


@pytest.mark.parametrize("asked", [COMPOSED, DECOMPOSED])
@pytest.mark.parametrize("stored", [COMPOSED, DECOMPOSED])
def test_a_file_is_found_whatever_the_form_of_its_name(tmp_path: Path, stored: str, asked: str) -> None:
    (tmp_path / stored / "x").mkdir(parents=True)
    (tmp_path / stored / "x" / f"{stored}.png").touch()
    found = find(tmp_path / asked / "x" / f"{asked}.png")
    assert found is not None and found.samefile(tmp_path / stored / "x" / f"{stored}.png")
    assert find(tmp_path / asked / "x" / "other.png") is find(tmp_path / "no" / asked) is None


def test_a_file_of_the_very_name_comes_first(tmp_path: Path) -> None:
    for name in (COMPOSED, DECOMPOSED):
        (tmp_path / name).touch()
        assert find(tmp_path / name) == tmp_path / name


def test_bytes_that_are_no_utf_8_are_shown_and_all_else_stays() -> None:
    assert shown(os.fsdecode(b"a\xff\xc3\xa9\xe9.png")) == "a\\xffé\\xe9.png"
    assert shown("plain \\ é 猫 \U0001f408") == "plain \\ é 猫 \U0001f408"
    assert shown("\ud800") == "\\ud800"
    shown("".join(map(chr, range(0xD7F0, 0xE010)))).encode()


def test_the_first_ten_of_many_are_named() -> None:
    assert some(list("abc")) == "a, b, c"
    assert some(list("abcdefghij")) == "a, b, c, d, e, f, g, h, i, j"
    assert some(list("abcdefghijkl")) == "a, b, c, d, e, f, g, h, i, j and 2 more"
