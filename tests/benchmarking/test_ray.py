"""A Ray cluster of two machines, one of which is lost in the middle: the same table, and nothing counted twice."""

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from oodles import benchmark
from oodles.runs.opened import open_run
from tests.benchmarking.small import (
    BUILT,
    EPOCHS,
    HOLD,
    RUNS,
    begun,
    ended,
    hold,
    recorded,
    wait_until,
    write_benchmark,
)

pytestmark = [
    # what Ray 2.60 itself leaves open or announces when it starts and stops; nothing of ours warns so
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*accelerator:FutureWarning"),
]
SOON = {
    "health_check_initial_delay_ms": 0,
    "health_check_period_ms": 500,
    "health_check_timeout_ms": 500,
    "health_check_failure_threshold": 6,
    "worker_niceness": 0,
}
"""A lost machine is missed within seconds, and workers do not give way to the tests beside them."""


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Start two machines of one core, and a third that only coordinates."""
    pytest.importorskip("ray", reason="Ray is not installed: pip install 'oodles[cluster]'")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv(BUILT, str(tmp_path / "built"))
    monkeypatch.setenv(HOLD, str(tmp_path / "hold"))
    hold(tmp_path / "hold")
    small = {"object_store_memory": 80_000_000}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": SOON, **small}
    made = Cluster(initialize_head=True, head_node_args=head)
    yield made
    made.shutdown()


def test_a_lost_machine_changes_nothing(tmp_path: Path, cluster: Any) -> None:
    first, _ = [cluster.add_node(num_cpus=1, object_store_memory=80_000_000) for _ in range(2)]
    file, folder = write_benchmark(tmp_path), tmp_path / "ray"
    lost: list[set[str]] = []

    def lose() -> None:
        wait_until(lambda: len(begun(folder)) == 2)  # so both machines are at work
        lost.append(begun(folder))
        raylet = psutil.Process(first.all_processes["raylet"][0].process.pid)
        for process in (raylet, *raylet.children(recursive=True)):
            process.kill()
        cluster.remove_node(first, allow_graceful=False)
        (tmp_path / "hold").unlink()

    loser = threading.Thread(target=lose)
    loser.start()
    done = benchmark(file, folder, engine="ray", address=cluster.address)
    loser.join()
    assert not done.failed
    assert len(lost) == 1 and len(cluster.list_all_nodes()) == 2
    built = [int(line) for line in (tmp_path / "built").read_text().split() if int(line) != os.getpid()]
    assert len(built) == RUNS + 1, f"a machine was lost while it trained one of {lost[0]}, and another took over"
    assert len(set(built)) >= 2

    assert len(ended(folder)) == RUNS
    for run in (folder / "runs" / "small").iterdir():
        assert [entry["epoch"] for entry in open_run(run).log] == list(range(EPOCHS)), run
    benchmark(file, tmp_path / "local", jobs=2, progress=False)
    assert recorded(folder) == recorded(tmp_path / "local") and len(recorded(folder)) == RUNS
