"""The rooms of the package: what a module imports lies on a lower floor, and stands at the top of its file."""

import ast
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

import oodles

SOURCES = Path(oodles.__file__).parent
PAGE = "__init__"
"""The public page. It imports what is used, hence everything; what imports from it does so, too."""
FLOORS = (
    ("remarks", "spelling"),
    ("checks",),
    ("files", "layers", "memory", "metrics", "precision", "processes", "randomness"),
    ("classifier", "facts", "importing"),
    ("augmentations", "heads", "inference", "targets"),
    ("contract", "data", "networks", "scores"),
    ("forward_pass", "given", "outliers", "views"),
    ("methods",),
    ("cards", "evaluation", "step"),
    ("detection",),
    ("runs",),
    ("comparing",),
    ("screening",),
    ("benchmarking",),
    (PAGE,),
    ("cli",),
    ("__main__",),
)
"""From the ground up; a room imports from lower floors only, and a package is one room."""
FLAT = 25
"""So many modules may lie outside packages, with the page and the two that start the program."""
LATE = {
    "__init__.py:ast": "start-up time, of import oodles",
    "__init__.py:pathlib": "start-up time, of import oodles",
    "benchmarking/cluster.py:ray": "optional",
    "benchmarking/local.py:torch": "start-up time; in a worker, torch must be imported after its GPU is chosen",
    "benchmarking/running.py:oodles.runs.training": "start-up time: only workers train",
    "cli/benchmarks.py:oodles.benchmarking.running": "start-up time, of other commands",
    "cli/deploying.py:oodles.runs.deployment": "start-up time, of other commands",
    "cli/measuring.py:oodles.comparing.comparison": "start-up time, of other commands",
    "cli/measuring.py:oodles.runs.choice": "start-up time, of other commands",
    "cli/measuring.py:oodles.runs.fits": "start-up time, of other commands",
    "cli/measuring.py:oodles.runs.new_classes": "start-up time, of other commands",
    "cli/measuring.py:oodles.runs.opened": "start-up time, of other commands",
    "cli/measuring.py:oodles.runs.testing": "start-up time, of other commands",
    "cli/pools.py:oodles.screening.check": "start-up time, of other commands",
    "cli/suites.py:oodles.data.suite_check": "start-up time, of other commands",
    "cli/training.py:oodles.networks": "start-up time, of other commands",
    "cli/training.py:oodles.runs.fits": "start-up time, of other commands",
    "cli/training.py:oodles.runs.folder": "start-up time, of other commands",
    "cli/training.py:oodles.runs.testing": "start-up time, of other commands",
    "cli/training.py:oodles.runs.training": "start-up time, of other commands",
    "comparing/comparison.py:oodles.comparing.page": "start-up time: only reports draw",
    "comparing/pictures.py:oodles.runs.testing": "start-up time: only reports with images need torch",
    "data/texts.py:sentence_transformers": "optional",
    "detection/exporting.py:onnxruntime": "optional",
    "methods/mos.py:sklearn": "start-up time: only what is measured is clustered",
    "runs/folder.py:fcntl": "optional: not every system has it",
    "runs/folder.py:oodles.classifier": "start-up time: a comparison needs no torch",
    "runs/folder.py:oodles.networks": "start-up time: a comparison needs no torch",
    "runs/folder.py:oodles.runs.saved_state": "start-up time: a comparison needs no torch",
    "runs/opened.py:oodles.runs.deployment": "start-up time: a comparison needs no torch",
    "runs/folder.py:torch": "start-up time: a comparison needs no torch",
    "screening/check.py:oodles.screening.page": "start-up time: only reports draw",
    "scores/scatter.py:rich": "start-up time, of import oodles",
}
"""The imports inside functions, and why they are not at the top."""


Modules = Mapping[str, ast.Module]
"""Parsed modules by their path in the package."""


def read_modules(sources: Path) -> Modules:
    paths = sorted(sources.rglob("*.py"))
    return {path.relative_to(sources).as_posix(): ast.parse(path.read_text(encoding="utf-8")) for path in paths}


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield the full names that are imported: also inside functions, and for type checkers alone."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=module, names=names, level=level):
                yield from (f"{module}.{name.name}" if level == 0 else "oodles.relative" for name in names)


def imports_by_string(tree: ast.AST) -> Iterator[str]:
    """Yield what ``import_module`` is called with, up to the first variable."""
    for node in ast.walk(tree):
        match node:
            case ast.Call(func=ast.Name("import_module"), args=[ast.Constant(str(text)), *_]):
                yield text
            case ast.Call(func=ast.Name("import_module"), args=[ast.JoinedStr([ast.Constant(str(text)), *_]), *_]):
                yield text.rstrip(".")


def module_of(name: str, modules: Modules) -> str | None:
    """Return the path of the module that an imported name is or is in; none for another package's."""
    first, *words = name.split(".")
    paths = ["/".join(words[:end]) for end in range(len(words), -1, -1)] if first == "oodles" else []
    places = [place for path in paths for place in (f"{path}.py", f"{path}/__init__.py".lstrip("/"))]
    return next((place for place in places if place in modules), None)


def arrows(modules: Modules) -> dict[str, set[str]]:
    """Return the other modules that each module imports; the page imports when it is asked to, which is no arrow."""
    return {
        path: {
            target
            for name in (*imports(tree), *imports_by_string(tree))
            if (target := module_of(name, modules)) not in (None, path)
            and name != "oodles.__version__"  # a literal, there at once
        }
        for path, tree in modules.items()
        if path != f"{PAGE}.py"
    }


def room_of(path: str) -> str:
    return path.partition("/")[0].removesuffix(".py")


def wrong_arrows(sources: Path, floors: Sequence[Sequence[str]]) -> set[tuple[str, str]]:
    """Return the arrows between rooms that do not lead down; a room on no floor may have none."""
    floor = {room: number for number, rooms in enumerate(floors) for room in rooms}
    pairs = {
        (room_of(path), room_of(target))
        for path, targets in arrows(read_modules(sources)).items()
        for target in targets
        if room_of(path) != room_of(target)
    }
    return {(here, there) for here, there in pairs if not floor.get(there, len(floors)) < floor.get(here, -1)}


def circles(sources: Path) -> set[str]:
    """Return the modules that import one another in circles, also within a room, and those between two circles."""
    left = arrows(read_modules(sources))
    while ends := {
        path for path, targets in left.items() if not targets & set(left) or path not in set().union(*left.values())
    }:
        left = {path: targets for path, targets in left.items() if path not in ends}
    return set(left)


def late_imports(sources: Path) -> set[str]:
    """Return what is imported inside functions: our modules by their full names, others by their packages'."""
    modules = read_modules(sources)
    late = set()
    for path, tree in modules.items():
        for function in ast.walk(tree):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in imports(function):
                    module = module_of(name, modules)
                    ours = module and f"oodles.{module.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}"
                    late.add(f"{path}:{ours or name.partition('.')[0]}")
    return late


def test_rooms_import_from_lower_floors_only() -> None:
    assert wrong_arrows(SOURCES, FLOORS) == set()


def test_every_room_is_on_one_floor() -> None:
    rooms = {room_of(path) for path in read_modules(SOURCES)}
    assert sorted(room for floor in FLOORS for room in floor) == sorted(rooms)


def test_modules_import_without_circles() -> None:
    assert circles(SOURCES) == set()


def test_imports_inside_functions_are_optional_or_save_start_up_time() -> None:
    assert late_imports(SOURCES) == set(LATE)


def test_few_modules_lie_flat() -> None:
    assert len(list(SOURCES.glob("*.py"))) <= FLAT


def written(folder: Path, modules: Mapping[str, str]) -> Path:
    for path, text in modules.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return folder


RIGHT = {
    "__init__.py": "from importlib import import_module\nimport_module('oodles.top')",
    "low.py": "import json\nfrom oodles import __version__",
    "room/__init__.py": "from oodles.room.one import a",
    "room/one.py": "from oodles.room.two import b",
    "room/two.py": "from oodles.low import c",
    "top.py": "import oodles.room\ndef f():\n    import optional.part\n    from oodles import low",
}
THREE_FLOORS = (("low",), ("room",), ("top",))


def test_the_rules_let_a_right_package_pass(tmp_path: Path) -> None:
    sources = written(tmp_path, RIGHT)
    assert (wrong_arrows(sources, THREE_FLOORS), circles(sources)) == (set(), set())
    assert late_imports(sources) == {"top.py:optional", "top.py:oodles.low"}


@pytest.mark.parametrize(
    "line",
    [
        "from oodles.top import d",
        "import oodles.top",
        "from oodles import top",
        "def f():\n    import oodles.top",
        "if TYPE_CHECKING:\n    from oodles.top import d",
        "import_module('oodles.top')",
        "import_module(f'oodles.top.{name}')",
    ],
)
def test_the_rules_see_an_arrow_upwards(line: str, tmp_path: Path) -> None:
    sources = written(tmp_path, {**RIGHT, "room/two.py": line})
    assert wrong_arrows(sources, THREE_FLOORS) == {("room", "top")}
    assert circles(sources) == {"room/__init__.py", "room/one.py", "room/two.py", "top.py"}


def test_the_rules_see_what_is_imported_from_the_page_or_without_a_full_name(tmp_path: Path) -> None:
    for line in ("from oodles import d", "from . import one", "from .one import a"):
        sources = written(tmp_path, {**RIGHT, "room/two.py": line})
        assert wrong_arrows(sources, THREE_FLOORS) == {("room", PAGE)}


def test_the_rules_see_a_circle_in_a_room_and_an_arrow_on_a_floor(tmp_path: Path) -> None:
    sources = written(tmp_path, {**RIGHT, "room/two.py": "from oodles.room.one import a"})
    assert (wrong_arrows(sources, THREE_FLOORS), circles(sources)) == (set(), {"room/one.py", "room/two.py"})
    assert wrong_arrows(written(tmp_path, RIGHT), (("low",), ("room", "top"))) == {("top", "room")}


def test_the_rules_see_a_late_import_and_a_room_on_no_floor(tmp_path: Path) -> None:
    sources = written(
        tmp_path, {**RIGHT, "low.py": "class A:\n    async def f(self):\n        from oodles.room.one import a"}
    )
    assert late_imports(sources) - {"top.py:optional", "top.py:oodles.low"} == {"low.py:oodles.room.one"}
    assert wrong_arrows(written(tmp_path, RIGHT), THREE_FLOORS[1:]) == {("room", "low"), ("top", "low")}
