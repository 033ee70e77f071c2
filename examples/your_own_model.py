"""Your own trained model: the examples of docs/guides/your-own-model.md, from which docs/scripts.py makes this file.

It needs onnx, onnxscript, onnxruntime. All that it writes goes into a new folder.
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

Path("mine.py").write_text("""
from torch import nn

def network(num_classes, input_shape):
    layers = [nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 16, 3, padding=1), nn.ReLU()]
    return nn.Sequential(*layers, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(256, num_classes))
""")

import torch
from mine import network
from oodles.data import load_suite

suite = load_suite("digits")  # stands for your data: train, validation, test
torch.manual_seed(0)
model = network(len(suite.classes), suite.input_shape)
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for epoch in range(40):
    for images, labels in suite.train.loader(32, shuffle=True):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(images), labels).backward()
        optimizer.step()
torch.save(model.state_dict(), "model.pt")

from oodles import Classifier, Detector, Preprocessing

classifier = Classifier.split(model, "6", example=images)
detector = Detector.fit(
    classifier,
    suite.validation.loader(),
    train=suite.train.loader(),
    score="knn(k=5)",
    classes=suite.classes,
    preprocessing=Preprocessing(suite.input_shape),
)
print(detector)
for name, images in {"test": suite.test, **suite.ood_sets()}.items():
    print(f"{name:15} {1 - detector(images).accepted.mean():.0%} refused")

detector.save("detector")
exported = detector.export("model.onnx")
print(exported)

shell('oodles adopt mine:network --weights model.pt --data digits --mean 0 --std 1 --to runs/mine')
shell('oodles evaluate runs/mine --network mine:network --score "knn(k=5)"')
shell('oodles export runs/mine --network mine:network --score "knn(k=5)" --to adopted.onnx')

import onnxruntime
from model_preprocess import preprocess
from PIL import Image

for number in range(3):
    Image.fromarray((suite.test.images[number, 0] * 255).round().astype("uint8")).save(f"digit-{number}.png")
session = onnxruntime.InferenceSession("model.onnx")
verdicts = detector([f"digit-{number}.png" for number in range(3)])
for number in range(3):
    logits, score, accept = session.run(None, {"images": preprocess(f"digit-{number}.png")})
    print(
        suite.classes[logits[0].argmax()],
        float(score[0]).__round__(3),
        bool(accept[0]),
        bool(verdicts.accepted[number]),
    )
