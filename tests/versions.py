"""Tests the wheel in ``dist`` with versions of torch, each in an environment of its own, which is deleted behind it.

``python tests/versions.py 2.6.0 2.13.0`` prints a row for each, for the Python that runs it; ``make versions`` builds
the wheel before. What is run depends on torch most: tracing, compiling, exporting, training and what it saves.
"""

import os
import platform
import subprocess
import sys
import tempfile
import time
import venv
from pathlib import Path

ROOT = Path(__file__).parent.parent
TESTED_WITH = ["pytest>=8.3", "hypothesis>=6.115"]
ONNX = ["onnx", "onnxscript", "onnxruntime"]
TESTS = (
    "tests/contract/test_strength.py",
    "tests/contract/test_tracing.py",
    "tests/runs/test_export.py",
    "tests/runs/test_saved_state.py",
    "tests/runs/test_training.py",
    "tests/test_precision.py",
)


def try_version(wheel: Path, version: str, folder: Path) -> tuple[bool, list[str]]:
    """Test the wheel with a version of torch, and say whether all passed, and in lines what came of it."""
    venv.create(folder, with_pip=True)
    python = [str(folder / "bin" / "python"), "-m"]
    needed = [f"torch=={version}", str(wheel), *TESTED_WITH, *(ONNX if not version.startswith("2.6.") else ())]
    if subprocess.run([*python, "pip", "install", "--quiet", "--no-cache-dir", *needed]).returncode:
        return False, ["cannot be installed"]
    tests = [*python, "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--basetemp", str(folder / "tests")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([*tests, *TESTS], cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
    *before, last = done.stdout.strip().splitlines() or ["no test was run"]
    return done.returncode == 0, [last, *(line for line in before if line.startswith(("FAILED", "ERROR")))]


def main() -> None:
    (wheel,) = ROOT.joinpath("dist").glob("*.whl")
    print("python   torch    minutes  tests", flush=True)
    all_passed = True
    for version in sys.argv[1:]:
        start = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            passed, lines = try_version(wheel, version, Path(folder))
        minutes = (time.monotonic() - start) / 60
        print(f"{platform.python_version():<8} {version:<8} {minutes:7.1f}  " + f"\n{'':<27}".join(lines), flush=True)
        all_passed = all_passed and passed
    sys.exit(not all_passed)


if __name__ == "__main__":
    main()
