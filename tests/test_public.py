"""The public surface: one page that says each name once, and a docstring for every name."""

import ast
import importlib
import inspect
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import oodles

PAGE = Path(oodles.__file__).with_suffix(".pyi")
HOMES = [
    (name.asname, node.module)
    for node in ast.parse(PAGE.read_text(encoding="utf-8")).body
    if isinstance(node, ast.ImportFrom)
    for name in node.names
]
"""The public names, as type checkers see them, and their modules."""


def test_the_page_says_each_name_once() -> None:
    assert sorted(oodles.__all__) == sorted(name for name, _ in HOMES)
    assert len(set(HOMES)) == len(dict(HOMES)) == len(HOMES) > 50
    assert not [name for name, _ in HOMES if name in Path(oodles.__file__).read_text(encoding="utf-8").split()]


def test_all_names_can_be_imported_at_once() -> None:
    names: dict[str, object] = {}
    exec("from oodles import *", names)
    assert set(oodles.__all__) == set(names) - {"__builtins__"}
    assert names["Mixup"] is oodles.Mixup


@pytest.mark.parametrize(("name", "home"), HOMES)
def test_public_names_come_from_where_they_are_made(name: str, home: str) -> None:
    value = getattr(oodles, name)
    assert value is getattr(importlib.import_module(home), name)
    assert getattr(value, "__module__", home) == home


def test_a_public_name_is_pickled_by_its_home() -> None:
    assert pickle.loads(pickle.dumps(oodles.Recipe)) is oodles.Recipe


@pytest.mark.parametrize("name", oodles.__all__)
def test_public_names_have_a_docstring(name: str) -> None:
    value = getattr(oodles, name)
    if not (inspect.isclass(value) or callable(value)):
        return
    text = vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__
    assert text and text.strip().splitlines()[0].rstrip().endswith((".", ":")), "one sentence first"
    if inspect.isclass(value):
        for attribute, member in vars(value).items():
            if inspect.isfunction(member) and not attribute.startswith("_"):
                assert inspect.getdoc(getattr(value, attribute)), f"{name}.{attribute} has no docstring"


def test_the_five_standalone_pieces_are_public() -> None:
    pieces = {"mixup_data", "mixup_criterion", "OutlierExposureLoss", "EnergyRegularizedLoss", "CutMix"}
    assert pieces <= set(oodles.__all__) <= set(dir(oodles))


def test_every_method_is_public() -> None:
    from oodles.methods import METHODS

    assert set(METHODS.values()) <= set(oodles.__all__)


def test_unknown_names_are_refused_as_by_any_module() -> None:
    with pytest.raises(AttributeError, match="module 'oodles' has no attribute 'Mixupp'"):
        _ = oodles.Mixupp


def test_importing_oodles_does_not_import_torch() -> None:
    code = "import sys, oodles, oodles.methods; dir(oodles); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
