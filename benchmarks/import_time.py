"""What ``import oodles`` adds to ``import torch``, all public names included: python benchmarks/import_time.py"""

import statistics
import subprocess
import sys

from timing import record

PROGRAM = """
import time, torch, numpy
start = time.perf_counter()
import oodles
lazy = time.perf_counter() - start
for name in set(oodles.__all__) - {"train"}:  # which brings Accelerate along
    getattr(oodles, name)
print(lazy, time.perf_counter() - start)
"""

if __name__ == "__main__":
    runs = [
        [float(word) for word in subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split()]
        for _ in range(9)
    ]
    lazy, names = (round(1e3 * statistics.median(column), 1) for column in zip(*runs[1:], strict=True))
    print(f"import oodles adds {lazy} ms to torch's; with every public name used, {names} ms")
    record("import_time", {"import_ms": lazy, "every_name_ms": names})
