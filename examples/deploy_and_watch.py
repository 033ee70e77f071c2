"""Deploy and watch: the examples of docs/guides/deploy-and-watch.md, from which docs/scripts.py makes this file.

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


import json
import subprocess
import sys
from pathlib import Path

import numpy as np
from oodles import Detector, Recipe, train
from oodles.data import load_suite
from PIL import Image

run = train(Recipe(epochs=20), "digits", folder="runs/digits", progress=False)
detector = run.detector("knn(k=5)", false_alarms=0.05)
exported = detector.export("model.onnx")
np.save("calibration.npy", detector.calibration.scores)
detector.save("detector")
print(exported)

Path("service.py").write_text("""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from model_preprocess import preprocess

session = onnxruntime.InferenceSession("model.onnx")
about = json.loads(session.get_modelmeta().custom_metadata_map["oodles.json"])
known = np.load("calibration.npy")
files = sorted(Path(sys.argv[1]).iterdir())
logits, scores, accepted = session.run(None, {"images": np.concatenate([preprocess(file) for file in files])})
p_values = (1 + (known >= scores[:, None]).sum(1)) / (len(known) + 1)
for file, number, p_value, accept in zip(files, logits.argmax(1), p_values, accepted):
    answer = about["classes"][number] if accept else "unknown"
    print(json.dumps({"file": str(file), "answer": answer, "p_value": float(p_value)}))
assert "torch" not in sys.modules
""")

suite = load_suite("digits")
digits = iter(suite.test.images[np.random.default_rng(0).permutation(len(suite.test))])
letters = iter(suite.ood_sets()["far:letters"].images[::5])
for day in range(1, 9):
    Path(f"day-{day}").mkdir()
    for number in range(60):
        image = next(letters if day > 5 and number % 3 == 0 else digits)
        Image.fromarray((image[0] * 255).round().astype(np.uint8)).save(f"day-{day}/{number:03}.png")

answers = {}
for day in range(1, 9):
    served = subprocess.run([sys.executable, "service.py", f"day-{day}"], capture_output=True, text=True, check=True)
    answers[day] = [json.loads(line) for line in served.stdout.splitlines()]
    refused = sum(answer["answer"] == "unknown" for answer in answers[day])
    print(f"day {day}: {refused / len(answers[day]):.0%} refused")

def strange(p_values, fdr):
    ordered = np.sort(p_values)
    low = np.flatnonzero(ordered <= fdr * np.arange(1, len(ordered) + 1) / len(ordered))
    return p_values <= (ordered[low[-1]] if len(low) else -1)


for day in (1, 8):
    chosen = strange(np.array([answer["p_value"] for answer in answers[day]]), fdr=0.2)
    print(f"day {day}: look at {chosen.sum()}")
    assert (chosen == ~Detector.load("detector")(f"day-{day}", fdr=0.2).accepted).all()

watch = Detector.load("detector").watch(window=60, to="watch.jsonl")
for day in range(1, 9):
    watch(f"day-{day}")
    print(f"day {day}: {watch.refused} of {watch.rows} refused, alarm: {watch.alarm}")

import onnxruntime
from model_preprocess import preprocess

session = onnxruntime.InferenceSession("model.onnx")
about = json.loads(session.get_modelmeta().custom_metadata_map["oodles.json"])
known = np.load("calibration.npy")  # scores of held-out known rows
logits, score, accept = session.run(None, {"images": preprocess("day-1/000.png")})
p_value = (1 + (known >= score[0]).sum()) / (len(known) + 1)
print(about["classes"][logits[0].argmax()] if accept[0] else "unknown", round(float(p_value), 3))
