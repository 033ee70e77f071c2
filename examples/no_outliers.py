"""No outliers at hand: the examples of docs/guides/no-outliers.md, from which docs/scripts.py makes this file.

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
known, others = random.permutation(np.flatnonzero(digits.target < 6)), np.flatnonzero(digits.target > 5)
photo = load_sample_image("flower.jpg").mean(2).astype(np.uint8)[::8, ::8]
places = [(top, left) for top in range(len(photo) - 8) for left in range(len(photo[0]) - 8)]
places = random.choice(places, 300, replace=False)
train = images[known[:500]]
np.savez("train.npz", images=train, labels=digits.target[known[:500]])
np.savez("test.npz", images=images[known[500:]], labels=digits.target[known[500:]])
np.savez("others.npz", images=images[others])
np.savez("photo.npz", images=np.stack([photo[top : top + 8, left : left + 8] for top, left in places]))

quarters = np.roll(train, (4, 4), (1, 2))
halves = np.concatenate([train[:, :, :4], random.permutation(train)[:, :, 4:]], 2)
stand_ins = np.concatenate([quarters, halves, 255 - train])
np.savez("stand-ins.npz", images=stand_ins[random.permutation(len(stand_ins))[:300]])
Path("six.toml").write_text("""
train = "train.npz"
test = "test.npz"
validation = 0.4
validation_outliers = "stand-ins.npz"
augment = { shift = 1, flip = false }
[near]
others = "others.npz"
[far]
photo = "photo.npz"
""")

shell('oodles train cross-entropy --data six.toml --epochs 30 --to runs/plain')

from oodles import evaluate, open_run
from oodles.data import load_suite

suite, run = load_suite("six.toml"), open_run("runs/plain")
scores = ["msp", "energy", "knn(k=5)", "mahalanobis"]
stand_ins = {"stand-ins": suite.validation_outliers.loader()}
table = evaluate(run.classifier(), suite.validation.loader(), stand_ins, scores, train_loader=suite.train.loader())
print(table)
print(run.detector())

shell('oodles evaluate runs/plain --score msp --score energy --score "knn(k=5)" --score mahalanobis')

shell('oodles train generated-outliers + outlier-exposure --data six.toml --weights runs/plain --epochs 10 --to runs/exposed')
shell('oodles train cross-entropy --data six.toml --weights runs/plain --epochs 10 --to runs/longer')
shell('oodles compare runs/longer runs/exposed')

import torch

from oodles import GeneratedOutliers, OutlierExposure, TrainingStep

classifier = open_run("runs/plain").classifier()
step = TrainingStep(classifier, GeneratedOutliers(kinds=("pictures", "jigsaw")), OutlierExposure())
optimizer = torch.optim.SGD(step.parameter_groups(0.001), momentum=0.9)
for batch in suite.train.loader(64, shuffle=True):
    terms = step(batch)
    optimizer.zero_grad()
    sum(terms.values()).backward()
    optimizer.step()
print({name: round(term.item(), 3) for name, term in terms.items()})

from oodles import Recipe, compare, train

runs = []
for method in ("cross-entropy", "t2fnorm", "rotation-prediction"):
    for seed in range(3):
        recipe = Recipe(methods=((method, {}),), epochs=10, seed=seed)
        runs.append(train(recipe, "six.toml", folder=f"runs/{method}-{seed}", progress=False).folder)
print(compare(runs))
