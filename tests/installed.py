"""Opens every file of the installed package that is no module, each as the package does, and prints their names.

``tests/wheel.py`` runs it in an environment that knows nothing of the repository, and ``tests/test_wheel.py`` on an
unpacked wheel.
"""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment

import oodles
from oodles.benchmarking.description import Benchmark, benchmarks
from oodles.data import SUITES
from oodles.data.description import read_description
from oodles.runs.recipe import Recipe, recipes


def open_all() -> Iterator[str]:
    """Open the files, and yield the path of each inside the package."""
    for name in benchmarks():
        Benchmark.load(name)
        yield f"benchmarks/{name}.toml"
    for name in recipes():
        Recipe.load(name)
        yield f"recipes/{name}.toml"
    for name, suite in SUITES.items():
        if isinstance(suite, Path):
            read_description(suite)
            yield f"data/suites/{name}.toml"
    for room in ("comparing", "screening"):
        page = files("oodles").joinpath(room, "page.html.jinja")
        Environment().parse(page.read_text(encoding="utf-8"))
        yield f"{room}/{page.name}"
    dir(oodles)  # read from the public page
    yield "__init__.pyi"
    files("oodles").joinpath("py.typed").read_bytes()
    yield "py.typed"


if __name__ == "__main__":
    print(*open_all(), sep="\n")
