"""Tests mirror the sources: one file of tests, and one of references, for each method's file."""

import ast
from pathlib import Path

import oodles.methods

SOURCES = {path.stem for path in Path(oodles.methods.__file__).parent.glob("*.py")} - {"__init__"}
HERE = Path(__file__).parent


def test_every_method_has_a_file_of_tests() -> None:
    assert len(SOURCES) == len(oodles.methods.METHODS)
    tests = {path.stem.removeprefix("test_") for path in HERE.glob("test_*.py")} - {"every_method"}
    assert tests == SOURCES, "tests/methods has a test_NAME.py for each src/oodles/methods/NAME.py, and no other"


def test_every_method_has_references() -> None:
    references = {path.stem for path in (HERE.parent / "references").glob("*.py")}
    assert references >= SOURCES, "tests/references has a NAME.py for each src/oodles/methods/NAME.py"


def test_references_import_math_and_numpy_alone() -> None:
    for path in (HERE.parent / "references").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                assert {alias.name for alias in node.names} <= {"math", "numpy"}, path.name
            elif isinstance(node, ast.ImportFrom):
                beside = node.level == 1 and (HERE.parent / "references" / f"{node.module}.py").exists()
                assert beside or node.module == "collections.abc", path.name
