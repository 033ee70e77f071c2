"""Runs that tests of several modules compare."""

import pytest

from oodles.comparing.comparison import Comparison, compare
from tests.comparing.synthetic_runs import runs_of


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    folder = tmp_path_factory.mktemp("runs")
    folders = runs_of(folder, "cross-entropy", "mixup", "cutmix", "energy-bounded", notes={"letters": "a remark"})
    return compare(folders)
