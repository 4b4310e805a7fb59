"""One worker works; a second one waits for its lease and takes over when it dies."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mainspring.core import Config, to_iso
from mainspring.core.run import read_door
from mainspring.events.client import IntakeClient
from mainspring.features import OnlineStore
from mainspring.loop.supervisor import Supervisor

pytestmark = pytest.mark.processes
T0 = 1_700_000_000_000_000


def until(holds: Callable[[], bool], timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.01)


@contextmanager
def worker(config: Config, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as out:
        process = subprocess.Popen([sys.executable, "-m", "mainspring", "worker", "-C", str(config.root)], stderr=out)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def holder(config: Config) -> int:
    try:
        return int((config.run / "worker.lock").read_text() or 0)
    except FileNotFoundError:
        return 0


def send(config: Config, first: int, n: int) -> int:
    """Send ``n`` payments; returns the offset of the last."""
    rows = [
        {"ride_id": f"r{i}", "driver": "ann", "tip": float(i), "paid_at": to_iso(T0 + i)}
        for i in range(first, first + n)
    ]
    with IntakeClient(str(read_door(config.run, "intake"))) as client:
        answer = client.post_events("paid", rows)
    assert answer["accepted"] == n
    return int(answer["last_offset"])


def test_a_second_worker_waits_and_takes_over_where_the_first_was_killed(config: Config, tmp_path: Path) -> None:
    with Supervisor(config, ("intake",)), worker(config, tmp_path / "first.log") as first:
        until(lambda: holder(config) == first.pid)
        store = OnlineStore.open(config.state_path, config.limits.state_map_bytes)
        assert store.wait_for(send(config, 0, 20), 60.0)
        with worker(config, tmp_path / "second.log") as second:
            assert store.wait_for(send(config, 20, 20), 30.0)
            assert holder(config) == first.pid
            first.kill()
            until(lambda: holder(config) == second.pid)
            last = send(config, 40, 20)
            assert store.wait_for(last, 60.0)
            assert store.folded_offset() == last
        store.close()
