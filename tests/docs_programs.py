"""Import the programs in docs, which are no package: they find one another as scripts do."""

import importlib
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

DOCS = Path(__file__).parent.parent / "docs"
RESULTS = DOCS.parent / "benchmarks" / "results"


@contextmanager
def docs_programs(*names: str) -> Iterator[dict[str, ModuleType]]:
    """Give programs by name; afterwards nothing of docs is imported any more."""
    sys.path.insert(0, str(DOCS))
    try:
        yield {name: importlib.import_module(name) for name in names}
    finally:
        sys.path.remove(str(DOCS))
        for name, module in list(sys.modules.items()):
            if (file := getattr(module, "__file__", None)) and Path(file).parent == DOCS:
                del sys.modules[name]
