"""Tests the wheel in ``dist`` with versions of torch, each in an environment of its own, which is deleted behind it.

``python tests/versions.py 2.6.0 2.13.0`` prints a row for each, for the Python that runs it; ``make versions`` builds the
wheel before. What is run is what depends on torch most: tracing, compiling, exporting, training and what it saves.
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
TESTED_WITH = ("pytest", "hypothesis", "onnx", "onnxscript", "onnxruntime")
TESTS = (
    "tests/contract/test_export.py",
    "tests/contract/test_strength.py",
    "tests/contract/test_tracing.py",
    "tests/runs/test_export.py",
    "tests/runs/test_saved_state.py",
    "tests/runs/test_training.py",
    "tests/test_precision.py",
)


def try_version(wheel: Path, version: str) -> str:
    """Test the wheel with a version of torch, and return the last line of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = [str(Path(folder) / "bin" / "python"), "-m"]
        quiet = [*python, "pip", "install", "--quiet", "--no-cache-dir"]
        subprocess.run([*quiet, f"torch=={version}", str(wheel), *TESTED_WITH], check=True)
        tests = [*python, "pytest", "-q", "-m", "not slow", "-p", "no:cacheprovider", "--basetemp", f"{folder}/tests"]
        out = subprocess.run(
            [*tests, *TESTS], cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True
        ).stdout
        *before, last = out.strip().splitlines() or ["no test ran"]
        return "\n".join([*(line for line in before if line.startswith(("FAILED", "ERROR", "E   "))), last])


if __name__ == "__main__":
    (wheel,) = ROOT.joinpath("dist").glob("*.whl")
    print("python   torch    minutes  tests", flush=True)
    for version in sys.argv[1:]:
        start = time.monotonic()
        try:
            result = try_version(wheel, version)
        except subprocess.CalledProcessError:
            result = "cannot be installed"
        minutes = (time.monotonic() - start) / 60
        print(f"{platform.python_version():<8} {version:<8} {minutes:7.1f}  {result}", flush=True)
