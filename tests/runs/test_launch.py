"""``accelerate launch`` with two processes trains the same recipe."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from oodles.runs.opened import open_run
from tests.runs.launched import train_in


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    launch = [
        sys.executable,
        "-m",
        "accelerate.commands.launch",
        "--multi_gpu",
        "--num_processes",
        "2",
        "--num_machines",
        "1",
    ]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(_free_port())]
    subprocess.run(
        [*launch, "--module", "tests.runs.launched", str(tmp_path / "two")],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
        check=True,
        timeout=120,
    )
    for rank in range(2):
        assert json.loads((tmp_path / "two" / f"threads-{rank}.json").read_text()) == [], "the group is left whole"
    single, two = train_in(tmp_path / "one"), open_run(tmp_path / "two" / "run", network="tests.runs.small:with_pooler")
    assert two.record["environment"]["processes"] == 2
    assert two.initial_weights == single.initial_weights == "cross-entropy"
    for entry, alone in zip(two.log, single.log, strict=True):
        assert entry["step"] == alone["step"]
        assert entry["terms"] == pytest.approx(alone["terms"], rel=1e-4)
    assert single.log[0]["terms"]["energy_gap"] > 0, "a hinge that is not active says nothing"
    weights = single.classifier().state_dict()
    for name, value in two.classifier().state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-5)
