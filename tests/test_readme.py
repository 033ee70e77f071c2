"""The README says what is so: its examples run, and its tables are those that the recorded facts and runs give."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from oodles.benchmarking.description import Benchmark
from oodles.data.description import read_description

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_python_examples_run_as_shown(capsys, monkeypatch, tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential()
    for name, layer in {"conv": nn.Conv2d(3, 4, 3), "flat": nn.Flatten(), "fc": nn.Linear(4 * 36, 5)}.items():
        model.add_module(name, layer)
    before = model.fc.weight.detach().clone()

    def loader(rows):
        return DataLoader(TensorDataset(torch.rand(rows, 3, 8, 8), torch.arange(rows) % 5), batch_size=8)

    names = {
        "torch": torch,
        "model": model,
        "images": torch.rand(4, 3, 8, 8),
        "labels": torch.arange(4),
        "loader": loader(24),
        "outlier_loader": loader(16),
        "test_loader": loader(16),
        "svhn_loader": loader(12),
        "validation_loader": loader(200),
        "names": list("abcde"),
        "new_images": torch.rand(7, 3, 8, 8),
    }
    monkeypatch.chdir(tmp_path)
    examples = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    assert len(examples) >= 3
    for example in examples:
        exec(example, names)
    assert names["model"] is model
    assert not torch.equal(model.fc.weight, before)
    assert "svhn" in capsys.readouterr().out


def test_generated_blocks_are_current():
    done = subprocess.run([sys.executable, ROOT / "docs" / "readme.py", "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_toml_examples_are_what_they_are_shown_as(tmp_path):
    suite, benchmark = re.findall(r"```toml\n(.*?)```", README, flags=re.DOTALL)
    (tmp_path / "flowers.toml").write_text(suite, encoding="utf-8")
    description = read_description(tmp_path / "flowers.toml")
    assert description["name"] == "flowers" and list(description["near"]) == ["weeds"]
    shown = Benchmark.from_dict(tomllib.loads(benchmark), name="shown", at=tmp_path)
    assert [row.name for row in shown.rows] == ["cross-entropy", "mixup", "outlier-exposure"]
    assert len(shown.tasks(tmp_path)) == 3 * 2 * 5


def test_the_two_commands_come_first():
    first_code = README.split("```")[1]
    assert "make demo" in first_code and "make test" in first_code
