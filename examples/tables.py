"""Tables: the examples of docs/guides/tables.md, from which docs/scripts.py makes this file.

All that it writes goes into a new folder.
"""

import os
import shlex
import sys
import tempfile

os.chdir(tempfile.mkdtemp(prefix="oodles-"))
sys.path[0] = os.getcwd()  # modules are looked for there
print("In", os.getcwd())

from oodles.cli import main


def shell(command):
    """Run a command as in a shell, and stop where it fails."""
    print("$", command)
    if code := main(shlex.split(command)[1:]):
        sys.exit(code)


import csv
from pathlib import Path

import numpy as np
from sklearn.datasets import load_wine

wine = load_wine()
columns = [name.split("/")[0] for name in wine.feature_names]
random = np.random.default_rng(0)


def save(name, rows, label=True):
    with open(name, "w", newline="") as file:
        table = csv.writer(file)
        table.writerow([*columns, *(["cultivar"] if label else [])])
        for row in rows:
            table.writerow([*wine.data[row], *([f"cultivar {wine.target[row]}"] if label else [])])


known = random.permutation(np.flatnonzero(wine.target < 2))
unknown = random.permutation(np.flatnonzero(wine.target == 2))
save("train.csv", known[:90])
save("test.csv", known[90:])
save("others.csv", unknown[:8], label=False)
save("strange.csv", unknown[8:], label=False)
Path("wines.toml").write_text("""
train = { features = "train.csv", label = "cultivar" }
test = "test.csv"
validation = 0.35
outliers = "others.csv"
[far]
strange = "strange.csv"
""")

shell('oodles suite check wines.toml')

shell('oodles train outlier-exposure --recipe vectors --data wines.toml --batch-size 16 --outlier-batch-size 8 --to runs/wines')
shell('oodles evaluate runs/wines --score msp --score energy --score "mahalanobis"')
shell('oodles score runs/wines strange.csv --false-alarms 0.1 --to verdicts.csv')

from oodles import open_run

detector = open_run("runs/wines").detector(false_alarms=0.1)
print(f"{detector('test.csv').accepted.mean():.0%} of known wines are accepted")
print(f"{detector('strange.csv').accepted.mean():.0%} of the third cultivar")
