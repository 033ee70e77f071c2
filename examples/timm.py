"""timm: the examples of docs/guides/timm.md, from which docs/scripts.py makes this file.

It needs timm. All that it writes goes into a new folder.
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
import timm
import torch
from oodles import Classifier, OutlierExposure, TrainingStep, pair
from oodles.classifier import Normalize
from oodles.data import load_suite
from sklearn.datasets import load_digits
from timm.optim import create_optimizer_v2
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

digits = load_digits()
enlarged = np.kron(digits.images * 255 / 16, np.ones((4, 4))).round().astype(np.uint8)
rows = np.random.default_rng(0).permutation(np.flatnonzero(digits.target < 6))
unknown = np.random.default_rng(1).permutation(np.flatnonzero(digits.target > 5))
parts = {"train": rows[:500], "test": rows[500:], "outliers": unknown[:100], "near": unknown[100:]}
for name, part in parts.items():
    np.savez(f"{name}.npz", images=enlarged[part], labels=digits.target[part])
Path("digits.toml").write_text("""
train = "train.npz"
test = "test.npz"
validation = 0.3
outliers = { path = "outliers.npz" }
[near]
digits = "near.npz"
""")
suite = load_suite("digits.toml")
known, outliers = suite.train.loader(32, shuffle=True), suite.outliers.loader(32, shuffle=True)
example = torch.rand(4, *suite.input_shape)

torch.manual_seed(0)
model = timm.create_model("test_resnet", num_classes=len(suite.classes), in_chans=1)
classifier = Classifier.split(model, model.default_cfg["classifier"], example=example)
classifier = classifier.normalized_by(Normalize(suite.mean, suite.std))
step = TrainingStep(classifier, OutlierExposure())
optimizer = create_optimizer_v2(step, opt="adamw", lr=3e-3, weight_decay=0.05)
EPOCHS = 20
schedule = CosineLRScheduler(optimizer, t_initial=EPOCHS, warmup_t=1, warmup_lr_init=1e-4)
average = ModelEmaV3(classifier, decay=0.95)
for epoch in range(EPOCHS):
    schedule.step(epoch)
    step.start_epoch(epoch, EPOCHS)
    for batch, others in pair(known, outliers):
        loss = sum(step(batch, others).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step.after_update()
        average.update(classifier)

from oodles import Detector, Preprocessing, evaluate

averaged = average.module.eval()
ood_sets = {name: images.loader() for name, images in suite.ood_sets().items()}
print(evaluate(averaged, suite.test.loader(), ood_sets, ["msp", "energy"]))
detector = Detector.fit(
    averaged,
    suite.validation.loader(),
    score="msp",
    classes=suite.classes,
    preprocessing=Preprocessing(suite.input_shape),
)
print(detector)
detector.save("detector")

from oodles import adopt

run = adopt(averaged, data="digits.toml", folder="runs/averaged")
print(f"{run.label}, accuracy {run.result['test_accuracy']:.1%}")

shell('oodles train outlier-exposure --network timm:test_resnet --data digits.toml --optimizer adamw --learning-rate 3e-3 --batch-size 32 --outlier-batch-size 32 --epochs 20 --to runs/timm')
shell('oodles evaluate runs/timm --score msp --score "knn(k=5)"')

model = timm.create_model("test_resnet", num_classes=len(suite.classes), in_chans=1)
classifier = Classifier.split(model, model.default_cfg["classifier"], example=example)
step = TrainingStep(classifier, OutlierExposure())
optimizer = create_optimizer_v2(step, opt="adamw", lr=3e-3, weight_decay=0.05)
for batch, others in pair(known, outliers):
    loss = sum(step(batch, others).values())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
