"""One worker works; a second one waits for its lease and takes over when it dies."""

import json
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from mainspring.cli.app import run
from mainspring.core import Config, load_config, to_iso
from mainspring.core.run import read_door
from mainspring.events.client import IntakeClient
from mainspring.features import OnlineStore
from mainspring.loop.supervisor import Supervisor
from mainspring.loop.telling import ask_worker

from collector import Collector  # isort: skip

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


def test_a_running_worker_builds_a_version_that_is_asked_for_and_tells_of_itself(
    config: Config, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)

    def cli(*argv: str) -> dict[str, Any]:
        capsys.readouterr()
        code = run([*argv, "--json", "-C", str(config.root)])
        shown = capsys.readouterr()
        assert code == 0, shown.err
        return dict(json.loads(shown.out))

    cli("apply")
    with Supervisor(config, ("intake", "worker")):
        send(config, 0, 20)
        text = config.definitions.read_text()
        config.definitions.write_text(
            text.replace('tips_1d = ms.mean("tip", window="1d")', 'top = ms.max("tip", window="9d")')
        )
        built = cli("features", "backfill", "driver")
        assert (built["is_built"], built["events"]) == (True, 20)
        (view,) = cli("features", "list")["views"]
        assert (view["version"], view["state"], len(view["older_versions"])) == (built["version"], "serves", 1)
        fold = cli("status")["fold"]
        assert (fold["not_serving"], len(fold["views"])) == ([], 2)
        until(lambda: cli("status")["fold"]["lag_records"] == 0)
        until(lambda: ask_worker(config, "/features") is not None)  # a busy machine may not answer at once
        health = ask_worker(config, "/features") or {"builds": ()}
        assert [(b["version"], b["is_built"]) for b in health["builds"]] == [(built["version"], True)]
        samples = {s.name: s for family in metrics(config) for s in family.samples}
        assert samples["mainspring_fold_lag_records"].value == 0
        assert samples["mainspring_view_serves"].labels["view"] == "driver"
        assert samples["mainspring_view_events"].value == 20
        assert samples["mainspring_view_newest_event_age_seconds"].value > 0
        refused = urllib.request.Request(f"{read_door(config.run, 'worker')}/metrics", method="POST", data=b"")
        with pytest.raises(urllib.error.HTTPError, match="403"):
            urllib.request.urlopen(refused)


def test_each_batch_that_is_folded_has_a_span_where_spans_are_declared(config: Config) -> None:
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="make setup: the extra [traces]")
    with Collector() as collector:
        settings = config.root / "mainspring.toml"
        settings.write_text(settings.read_text() + f'[traces]\nendpoint = "{collector.url}"\nshare = 1.0\n')
        with Supervisor(load_config(config.root), ("intake", "worker")):
            last = send(config, 0, 20)
            until(lambda: any(span.attributes["mainspring.offset"] >= last for span in collector.named("fold")))
        assert {(span.service, span.parent) for span in collector.named("fold")} == {("mainspring-worker", "")}
        assert {span.service for span in collector.named("POST /events")} == {"mainspring-intake"}


def metrics(config: Config) -> list[Any]:
    """What Prometheus reads at the worker's door."""
    with urllib.request.urlopen(f"{read_door(config.run, 'worker')}/metrics") as answer:
        return list(text_string_to_metric_families(answer.read().decode()))
