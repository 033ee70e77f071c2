"""The public surface: one page, three lists that agree, and a docstring for every name."""

import ast
import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import oodles

PAGE = ast.parse(Path(oodles.__file__).read_text(encoding="utf-8"))


def for_type_checkers() -> dict[str, str]:
    """The names that are imported under ``if TYPE_CHECKING``, and their modules."""
    block = next(node for node in PAGE.body if isinstance(node, ast.If))
    assert isinstance(block.test, ast.Name) and block.test.id == "TYPE_CHECKING"
    found = {}
    for node in block.body:
        assert isinstance(node, ast.ImportFrom) and node.module is not None
        for alias in node.names:
            found[alias.asname or alias.name] = node.module
    return found


def test_the_three_lists_agree() -> None:
    assert set(oodles.__all__) == set(oodles._HOME) == set(for_type_checkers())
    assert len(oodles.__all__) == len(set(oodles.__all__))
    assert {name: f"oodles.{home}" for name, home in oodles._HOME.items()} == for_type_checkers()


@pytest.mark.parametrize("name", oodles.__all__)
def test_public_names_come_from_where_they_are_made(name: str) -> None:
    value = getattr(oodles, name)
    assert value is getattr(importlib.import_module(f"oodles.{oodles._HOME[name]}"), name)
    module = getattr(value, "__module__", None)
    assert module is None or module == f"oodles.{oodles._HOME[name]}"


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
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["False", "False"]
