"""The wheel and the source archive hold the package whole: every file of it is there, and can be opened."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

from tests.wheel import BESIDE, ROOT, SOURCES, check_source_archive, check_wheel, files_of_package

FILES = files_of_package(SOURCES)
DATA = {name for name in FILES if not name.endswith(".py")}


BUILD = """
import sys
from setuptools.build_meta import build_sdist, build_wheel

folder = sys.argv[1]  # which a build replaces
for build in (build_wheel, build_sdist):
    print(f"built {build(folder)}")
"""


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Build a wheel and a source archive of a copy of the sources, without a network."""
    folder = tmp_path_factory.mktemp("sources")
    shutil.copytree(SOURCES, folder / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in (*BESIDE, "MANIFEST.in"):
        shutil.copy(ROOT / name, folder / name)
    made = folder / "made"
    made.mkdir()
    command = [sys.executable, "-c", BUILD, made]
    out = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    return [made / line.removeprefix("built ") for line in out.splitlines() if line.startswith("built ")]


def test_wheel_and_source_archive_hold_the_package_and_no_more(built: list[Path]) -> None:
    assert {"oodles/py.typed", "oodles/__init__.pyi", "oodles/recipes/mixup.toml"} < DATA and "oodles/step.py" in FILES
    check_wheel(built[0], FILES)
    check_source_archive(built[1], FILES)


def test_every_file_that_is_no_module_is_opened_from_the_wheel(built: list[Path], tmp_path: Path) -> None:
    ZipFile(built[0]).extractall(tmp_path)
    opened = subprocess.run(
        [sys.executable, "-P", ROOT / "tests" / "installed.py"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert sorted(f"oodles/{name}" for name in opened) == sorted(DATA)


@pytest.mark.parametrize(
    ("left_out", "put_in", "problem"),
    [
        (tuple(DATA), {}, f"lacks oodles/__init__.pyi and {len(DATA) - 1} more: see package-data"),
        (("recipes/mixup.toml",), {}, "lacks oodles/recipes/mixup.toml: see package-data"),
        ((), {"oodles/notes.txt": ""}, "holds, and should not, oodles/notes.txt: see package-data"),
        (("METADATA",), {"oodles-0.dist-info/METADATA": "Requires-Dist: torch==2.13.0\n"}, "needs 'torch==2.13.0'"),
        (("METADATA",), {"oodles-0.dist-info/METADATA": "Requires-Dist: torch<3,>=2.6\n"}, "needs 'torch<3,>=2.6'"),
    ],
)
def test_a_wheel_that_is_not_whole_or_pins_versions_is_refused(
    built: list[Path], tmp_path: Path, left_out: tuple[str, ...], put_in: dict[str, str], problem: str
) -> None:
    other = tmp_path / built[0].name
    with ZipFile(built[0]) as whole, ZipFile(other, "w") as archive:
        for name in whole.namelist():
            if not name.endswith(left_out):
                archive.writestr(name, whole.read(name))
        for name, text in put_in.items():
            archive.writestr(name, text)
    with pytest.raises(ValueError, match=re.escape(f"{other.name} {problem}")):
        check_wheel(other, FILES)
