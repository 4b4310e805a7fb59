"""The real worker and the real gateway compile nothing once they are warm, whatever views and requests come."""

import contextlib
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest
import rides
import telling_compiles
from rides import World, ride

from mainspring.core import to_iso
from mainspring.core.exchange import Exchange
from mainspring.core.run import read_door
from mainspring.events.client import IntakeClient
from mainspring.features import OnlineStore
from mainspring.loop.supervisor import Supervisor

HOUR_US = 3_600_000_000
DRIVERS = ("ann", "driver4", None, "nobody")
VIEWS = """
@ms.feature_view(Done, entity="driver")
class Driver:
    late_mean_1h = ms.mean("late_min", window="1h")
    rides_24h = ms.count(window="24h")
    zone = ms.last("zone")
    rides = ms.count()
    late_five = ms.last_k("late_min", k=5)
    late_p90_30d = ms.quantile("late_min", q=0.9, window="30d")
    zones_7d = ms.distinct("zone", window="7d")

@ms.feature_view(Done, entity="driver", hop="5m")
class Sawtooth:
    late_std_24h = ms.std("late_min", window="24h")
    late_max_30d = ms.max("late_min", window="30d")
    late_ewma = ms.ewma("late_min", half_life="6h")
    zones_30d = ms.approx_distinct("zone", window="30d")
    rides = ms.count()

@ms.feature_view(Done, entity="zone", hop="1h")
class Zone:
    late_trend_7d = ms.trend("late_min", window="7d", per="1d")
    driver = ms.last("driver")
"""


def until(holds, process, timeout_s=240.0):
    """Wait until something holds, which is not before it is true and not after the process has ended."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert process.poll() is None, "the process has ended"
        assert time.monotonic() < deadline, "it never held"
        time.sleep(0.02)


@contextlib.contextmanager
def telling(config, log, *arguments):
    """A process of the project; its output, and beside it what it has compiled."""
    program = [sys.executable, telling_compiles.__file__, str(log), *arguments, "-C", str(config.root)]
    with log.with_suffix(".err").open("wb") as errors:
        process = subprocess.Popen(program, stderr=errors)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def is_serving(config):
    url = read_door(config.run, "gateway")
    if url is None:
        return False
    with contextlib.closing(Exchange(url, 10.0)) as exchange, contextlib.suppress(OSError):
        return exchange.ask("GET", "/ready", b"", {}).status == 200
    return False


def project(root, monkeypatch):
    """Rides with views that take hops, texts and scans, and a released model that reads them all."""
    begin, end = rides.DEFINITIONS.index("@ms.feature_view"), rides.DEFINITIONS.index("late = ms.label")
    text = rides.DEFINITIONS[:begin] + VIEWS + rides.DEFINITIONS[end:]
    text = text.replace("    late_min: float\n", "    late_min: float\n    zone: str\n")
    monkeypatch.setattr(rides, "DEFINITIONS", text.replace("features=[Driver,", "features=[Driver, Sawtooth, Zone,"))
    root.mkdir()
    with World(root) as world:
        world.live()
        return world.config


def asked(name, driver):
    """A request of now."""
    return {column: value for column, value in ride(ride_id=name, driver=driver).items() if column != "asked_at"}


def done(first, n, now_us):
    """Finished rides of the last two days, of a few drivers, one of them busy; some are late."""
    moments = [now_us - 48 * HOUR_US + (first + i) * 40_000_000 - (i % 7 == 0) * HOUR_US for i in range(n)]
    return [
        {
            "ride_id": f"d{first + i}",
            "driver": "ann" if i % 2 else f"driver{i % 12}",
            "late_min": float(i % 23),
            "zone": ("north", "south")[i % 3 == 0],
            "done_at": to_iso(moment),
        }
        for i, moment in enumerate(moments)
    ]


@pytest.mark.processes
@pytest.mark.slow
def test_worker_and_gateway_compile_nothing_after_they_are_warm_with_hops_texts_and_scans(tmp_path, monkeypatch):
    config = project(tmp_path / "rides", monkeypatch)
    logs = {name: tmp_path / name for name in ("worker", "serve")}
    now_us = time.time_ns() // 1_000
    with (
        Supervisor(config, ("intake",)),
        telling(config, logs["worker"], "worker") as worker,
        telling(config, logs["serve"], "serve") as gateway,
        OnlineStore.open(config.state_path, config.limits.state_map_bytes) as store,
    ):
        until(lambda: read_door(config.run, "worker") is not None, worker)
        until(lambda: is_serving(config), gateway)
        warm = {name: log.read_text().splitlines() for name, log in logs.items()}
        assert all(lines[0] == telling_compiles.CANARY for lines in warm.values())
        for first in range(0, 4_000, 1_000):
            with IntakeClient(str(read_door(config.run, "intake"))) as client:
                answer = client.post_events("done", done(first, 1_000, now_us))
            assert answer["accepted"] == 1_000
            until(lambda last=answer["last_offset"]: store.folded_offset() >= last, worker)
            with contextlib.closing(Exchange(str(read_door(config.run, "gateway")), 60.0)) as exchange:
                for size in (1, 2, 40):
                    rows = [asked(f"{first}-{size}-{i}", DRIVERS[i % 4]) for i in range(size)]
                    answered = exchange.ask("POST", "/predict/late_ride", msgspec.json.encode(rows), {})
                    assert answered.status == 200
                    assert len(answered.json()) == size
        assert {name: log.read_text().splitlines() for name, log in logs.items()} == warm


def test_a_compilation_is_told(tmp_path):
    log = tmp_path / "compiled"
    program = [sys.executable, str(Path(telling_compiles.__file__)), str(log), "--version"]
    assert subprocess.run(program, capture_output=True, check=False).returncode == 0
    assert log.read_text() == f"{telling_compiles.CANARY}\n"
