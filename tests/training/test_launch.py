"""``accelerate launch`` with two processes trains the same recipe."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import torch

from oodles.run_folder import open_run
from tests.training.launched import train_in


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def test_two_processes_train_like_one(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    launch = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1"]
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no", "--main_process_port", str(_free_port())]
    subprocess.run(
        [*launch, "--module", "tests.training.launched", str(tmp_path / "two")],
        cwd=root,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)},
        check=True,
        timeout=120,
    )
    one, two = train_in(tmp_path / "one"), open_run(tmp_path / "two" / "run")
    assert two.record["environment"]["processes"] == 2
    assert two.initial_weights == one.initial_weights == "mixup"
    assert [entry["step"] for entry in two.log] == [entry["step"] for entry in one.log]
