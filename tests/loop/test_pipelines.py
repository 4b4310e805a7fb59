"""A training that is killed half-way goes on where it was, and what it had written is not written again."""

import time
from collections.abc import Callable

import numpy as np
import pytest

from mainspring.catalog import Catalog
from mainspring.core import Config, SharedClock, to_iso
from mainspring.core.run import internal_token, read_door
from mainspring.events.client import IntakeClient
from mainspring.loop.apply import apply_project
from mainspring.loop.pipelines import PIPELINE_US
from mainspring.loop.supervisor import Supervisor
from mainspring.loop.workshop import Workshop

pytestmark = [pytest.mark.processes, pytest.mark.slow]
DAY = 86_400_000_000
NOW = 19_700 * DAY
RIDES = 600


def load_history(config: Config) -> None:
    """Ten days of rides whose tip depends on the distance; the outcomes of the last ones are not mature yet."""
    km = np.random.default_rng(3).uniform(0.5, 20.0, RIDES)
    rows: list[tuple[str, dict[str, object]]] = []
    for i in range(RIDES):
        at = NOW - 10 * DAY + i * (10 * DAY // RIDES)
        rows.append(("ride", {"ride_id": f"r{i}", "driver": f"d{i % 7}", "km": float(km[i]), "started_at": to_iso(at)}))
        if at + 1_800_000_000 > NOW:
            continue
        paid = to_iso(at + 1_800_000_000)
        rows.append(("paid", {"ride_id": f"r{i}", "driver": f"d{i % 7}", "tip": float(km[i] / 5), "paid_at": paid}))
    with IntakeClient(str(read_door(config.run, "intake")), internal_token(config.run)) as client:
        answer = client.post_internal(rows, history=True)
    assert set(answer["statuses"]) == {"accepted"}


def until(holds: Callable[[], bool], supervisor: Supervisor, timeout_s: float = 120.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, supervisor.tail("worker")
        supervisor.poll()
        time.sleep(0.01)


def test_a_worker_killed_in_the_middle_of_a_training_leaves_it_to_the_next(config: Config) -> None:
    config.run.mkdir(parents=True)
    clock = SharedClock(config.run / "clock")
    clock.set(NOW)
    with Supervisor(config, ("intake", "worker"), clock_file=config.run / "clock") as supervisor:
        load_history(config)
        apply_project(config, now_us=NOW, actor="test")
        with Workshop.open(config) as workshop:
            first = workshop.train("tipping", workshop.build("tipping", NOW).path, NOW, actor="test")
            workshop.release("tipping", first.version, NOW, actor="test")
        with Catalog.open(config.catalog_url) as catalog:
            until(lambda: clock.settled_us() >= NOW, supervisor)
            clock.set(NOW + DAY)  # the schedule asks for a training each day
            until(lambda: bool(catalog.decisions("retrain")), supervisor)
            supervisor.kill("worker")
            until(lambda: clock.settled_us() >= NOW + DAY, supervisor)
            assert len(catalog.decisions("retrain")) == 1
            (version,) = [v for v in catalog.versions("tipping") if v.at_us == NOW + DAY]
            assert version.version != first.version
            assert version.numbers["release_at_us"] == NOW + DAY + PIPELINE_US
            assert [d.subject for d in catalog.decisions("dataset")] == [first.dataset, version.dataset]
