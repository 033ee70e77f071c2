"""Take the picture of a report that the README shows, docs/_static/report.png.

``python docs/report.py`` trains a part of the benchmark demo, which takes some minutes, and photographs the upper part
of its report with Chromium, which has to be installed. ``python docs/report.py FOLDER`` goes on in ``FOLDER``.
"""

import os
import shutil
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from oodles import benchmark
from oodles.benchmarking.description import Benchmark

PICTURE = Path(__file__).parent / "_static" / "report.png"
ROWS = ("cross-entropy", "regmixup", "cross-entropy-fine-tuned", "outlier-exposure", "energy-bounded")
WIDTH, HEIGHT, COLORS = 1000, 1472, 128
BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def train(folder: Path) -> Path:
    """Train what is missing in a folder, and return the report."""
    spec = Benchmark.load("demo")
    with chdir(folder):  # the report names folders from there
        done = benchmark(replace(spec, rows=tuple(row for row in spec.rows if row.name in ROWS)))
    return done.folder / "report.html"


def photograph(report: Path, to: Path) -> None:
    """Write a picture of the upper part of a report, with few colors."""
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        sys.exit(f"A browser must be installed, one of {', '.join(BROWSERS)}.")
    with TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        flags = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars"]
        flags += ["--no-sandbox"] if os.geteuid() == 0 else []
        flags += [f"--user-data-dir={folder}/profile", f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={shot}"]
        subprocess.run([browser, *flags, report.as_uri()], check=True, capture_output=True)
        with Image.open(shot) as image:
            image.convert("RGB").quantize(COLORS).save(to, optimize=True)


if __name__ == "__main__":
    with TemporaryDirectory() as temporary:
        photograph(train(Path(sys.argv[1] if len(sys.argv) > 1 else temporary).resolve()), PICTURE)
