"""Time ``import oodles``, and then its methods, over ``import torch``: python benchmarks/import_time.py"""

import statistics
import subprocess
import sys

from timing import record

PROGRAM = """
import time, torch, numpy
start = time.perf_counter()
import oodles
lazy = time.perf_counter() - start
from oodles import (
    Classifier, CrossEntropy, CutMix, EnergyBounded, EnergyGap, LogitNorm, Mixup, OutlierExposure, RegMixup,
    TrainingStep, evaluate, pair,
)
print(lazy, time.perf_counter() - start)
"""

if __name__ == "__main__":
    runs = [
        [float(word) for word in subprocess.check_output([sys.executable, "-c", PROGRAM], text=True).split()]
        for _ in range(9)
    ]
    lazy, names = (round(1e3 * statistics.median(column), 1) for column in zip(*runs[1:], strict=True))
    print(f"import oodles adds {lazy} ms to torch's; with the methods imported, {names} ms")
    record("import_time", {"import_ms": lazy, "methods_ms": names})
