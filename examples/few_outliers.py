"""A handful of outliers: the examples of docs/guides/few-outliers.md, from which docs/scripts.py makes this file.

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


from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits, load_sample_image

random = np.random.default_rng(0)
digits = load_digits()
images = (digits.images * 255 / 16).round().astype(np.uint8)
known, others = (random.permutation(np.flatnonzero(rows)) for rows in (digits.target < 6, digits.target > 5))
photo = load_sample_image("flower.jpg").mean(2).astype(np.uint8)[::4, ::4]
places = [(top, left) for top in range(len(photo) - 8) for left in range(len(photo[0]) - 8)]
places = random.choice(places, 600, replace=False)
np.savez("train.npz", images=images[known[:300]], labels=digits.target[known[:300]])
np.savez("test.npz", images=images[known[300:]], labels=digits.target[known[300:]])
np.savez("many.npz", images=np.stack([photo[top : top + 8, left : left + 8] for top, left in places]))
np.savez("handful.npz", images=images[others[:20]])
np.savez("others.npz", images=images[others[20:]])
SUITE = """
train = "train.npz"
test = "test.npz"
validation = 0.4
validation_outliers = 0.3
augment = {{ shift = 1, flip = false }}
outliers = {outliers}
[near]
others = "others.npz"
"""
Path("many.toml").write_text(SUITE.format(outliers='"many.npz"'))
Path("both.toml").write_text(SUITE.format(outliers='["many.npz", { path = "handful.npz", share = 0.5 }]'))

shell('oodles train cross-entropy --data both.toml --epochs 30 --to runs/plain')
shell('oodles train background-class --data many.toml --epochs 30 --to runs/many')
shell('oodles train background-class --data both.toml --epochs 30 --to runs/both')
shell('oodles evaluate runs/both --score background --score msp')

from oodles import open_run

for name in ("plain", "many", "both"):
    detector = open_run(f"runs/{name}").detector()
    print(
        f"{name:6} {1 - detector('others.npz').accepted.mean():.0%} of other digits refused, by {detector.score.name}"
    )

shell('oodles evaluate runs/plain --choose-score')
shell('oodles score runs/plain others.npz --score own --to verdicts.csv')

for score in (None, "own"):
    detector = open_run("runs/plain").detector(score)
    print(f"{detector}: {1 - detector('others.npz').accepted.mean():.0%} of other digits refused")
