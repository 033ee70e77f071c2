"""Freed memory is kept by the process that trains, and handed back by a loader's worker."""

import platform
import subprocess
import sys

import pytest

PAGES = """
import resource
import sys
from oodles.memory import hand_back_memory, keep_freed_memory

def fetched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(200 * 2**20)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if "keep" in sys.argv:
    keep_freed_memory()
if "back" in sys.argv:
    hand_back_memory(0)
fetched()
print(fetched())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other C libraries decide for themselves")
@pytest.mark.parametrize(
    ("settings", "kept"), [((), False), (("keep",), True), (("keep", "back"), False)], ids=("untold", "kept", "worker")
)
def test_the_pages_of_freed_memory_are_used_again_where_they_are_kept(settings, kept):
    run = subprocess.run([sys.executable, "-c", PAGES, *settings], capture_output=True, text=True, check=True)
    pages = 200 * 2**20 // 2**12
    assert int(run.stdout) < pages / 100 if kept else int(run.stdout) > pages / 100, run.stdout
