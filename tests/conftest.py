"""Settings of every test: one thread, its own cache, and property-based tests with the same examples every time."""

import os

import pytest
import torch
from hypothesis import settings

torch.set_num_threads(1)
settings.register_profile("oodles", deadline=None, derandomize=True, database=None, max_examples=40)
settings.load_profile("oodles")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skipped = pytest.mark.skip(reason="It needs a GPU: where there is one, python benchmarks/on_a_gpu.py runs it.")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skipped)


@pytest.fixture(scope="session", autouse=True)
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
