"""Checks the wheel and the source archive in ``dist`` as somebody meets them who has nothing else of the project.

``python tests/wheel.py`` compares what they hold with the sources, installs the wheel into an environment of its own,
with whatever versions ``pip`` finds, and runs it there. Further arguments go to the same ``pip install``, such as
``torch==2.13.0``; ``--tag v0.2.0`` refuses another version. ``make wheel`` builds and checks.
"""

import argparse
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import venv
from collections.abc import Iterable, Sequence
from email import message_from_string
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
DIST = ROOT / "dist"
SOURCES = ROOT / "src"
BESIDE = ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "CITATION.cff")
"""Files that the source archive holds besides the package."""
PIECES = "from oodles import CutMix, EnergyRegularizedLoss, OutlierExposureLoss, mixup_criterion, mixup_data"
COMMANDS = (
    ["oodles", "--help"],
    ["oodles", "methods"],
    ["oodles", "methods", "mixup"],
    ["oodles", "suite", "list"],
    ["python", "-c", PIECES],
    ["oodles", "demo", "--seeds", "1"],
)
"""What is run in the empty environment, the last of which writes ``oodles-demo/report.html``."""


def files_of_package(sources: Path) -> set[str]:
    """Return the paths of the package's files, as ``oodles/py.typed``."""
    found = (path for path in sources.joinpath("oodles").rglob("*") if path.is_file() and path.suffix != ".pyc")
    return {path.relative_to(sources).as_posix() for path in found}


def check_wheel(wheel: Path, expected: Iterable[str]) -> None:
    """Refuse a wheel that holds other files than these and its own notes, or that pins what it needs."""
    with ZipFile(wheel) as archive:
        _check_names(wheel, (name for name in archive.namelist() if ".dist-info/" not in name), expected)
        notes = next(name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        needs = message_from_string(archive.read(notes).decode()).get_all("Requires-Dist", [])
    if pinned := [need for need in needs if "extra ==" not in need and not re.fullmatch(r"[\w-]+>=[\d.]+", need)]:
        raise ValueError(f"{wheel.name} needs {pinned[0]!r}: give a lowest version alone, and pins to constraints.txt.")


def check_source_archive(archive: Path, expected: Iterable[str]) -> None:
    """Refuse a source archive that holds other files of ours than these and those beside the package."""
    with tarfile.open(archive) as opened:
        held = {entry.name.partition("/")[2] for entry in opened.getmembers() if entry.isfile()}
    made = {name for name in held if ".egg-info/" in name} | {"PKG-INFO", "setup.cfg", "MANIFEST.in"}
    _check_names(archive, held - made, [*BESIDE, *(f"src/{name}" for name in expected)])


def _check_names(archive: Path, held: Iterable[str], expected: Iterable[str]) -> None:
    held, expected = set(held), set(expected)
    for problem, names in (("lacks", expected - held), ("holds, and should not,", held - expected)):
        if names:
            more = f" and {len(names) - 1} more" if len(names) > 1 else ""
            raise ValueError(f"{archive.name} {problem} {min(names)}{more}: see package-data in pyproject.toml.")


def check_installed(wheel: Path, requirements: Sequence[str], folder: Path) -> None:
    """Install a wheel into an empty environment in the folder, and run there what a newcomer runs.

    Raises:
        subprocess.CalledProcessError: where a command fails.
        ValueError: where a file of the package cannot be found, or the demo writes no report.
    """
    venv.create(folder / "environment", with_pip=True)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}

    def run(program: str, *arguments: str) -> str:
        print("$", program, *arguments, flush=True)
        done = subprocess.run(
            [folder / "environment" / "bin" / program, *arguments],
            cwd=folder,
            env=clean,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        )
        return done.stdout

    run("python", "-m", "pip", "install", "--quiet", str(wheel), *requirements)
    data = {name for name in files_of_package(SOURCES) if not name.endswith(".py")}
    opened = {f"oodles/{name}" for name in run("python", "-P", str(ROOT / "tests" / "installed.py")).split()}
    _check_names(wheel, opened, data)
    for program, *arguments in COMMANDS:
        run(program, *arguments)
    if not (report := folder / "oodles-demo" / "report.html").is_file():
        raise ValueError(f"oodles demo wrote no {report}.")


def main() -> None:
    parser = argparse.ArgumentParser(description="Check the wheel and the source archive in dist.")
    parser.add_argument("--tag", help="what the version must be, behind a v")
    parser.add_argument("requirements", nargs="*", help="further arguments of pip install, such as torch==2.13.0")
    given = parser.parse_args()
    version = re.search(r'^__version__ = "(.+)"$', (SOURCES / "oodles/__init__.py").read_text(), re.MULTILINE)[1]
    if given.tag and given.tag != f"v{version}":
        raise ValueError(f"The tag is {given.tag} and oodles.__version__ is {version}: make them one.")
    wheel, archive = DIST / f"oodles-{version}-py3-none-any.whl", DIST / f"oodles-{version}.tar.gz"
    if sorted(DIST.glob("*")) != sorted((wheel, archive)):
        raise ValueError(f"{DIST} should hold {wheel.name} and {archive.name} alone: build them with make dist.")
    expected = files_of_package(SOURCES)
    check_wheel(wheel, expected)
    check_source_archive(archive, expected)
    with tempfile.TemporaryDirectory() as folder:
        check_installed(wheel, given.requirements, Path(folder))
    print(f"{wheel.name} and {archive.name} are whole and run.")


if __name__ == "__main__":
    try:
        main()
    except (ValueError, subprocess.CalledProcessError) as error:
        sys.exit(f"{error}")
