"""``mainspring demo``: a year of real flights through real processes, from raw events to a model that renews itself.

The driver owns the clock. It advances in half-hour ticks: the tick's events in one batch, a barrier until the fold has
passed the last acknowledged one, then the tick's predictions, each at its own moment. At midnight it waits for the
worker to have done everything that was due: pipelines hold the clock.
"""

from __future__ import annotations

import http.client
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec
import polars as pl

from mainspring.catalog import Catalog
from mainspring.core import SharedClock, UnavailableError, from_datetime, load_config, to_iso
from mainspring.core.run import internal_token
from mainspring.definitions import load_project
from mainspring.demo import flights as data
from mainspring.demo.display import Display
from mainspring.demo.mischief import FLIPPED, MEND, Mischief, break_feed, flip_labels
from mainspring.demo.record import STREAM, Demo
from mainspring.demo.stream import ID_COLUMNS, TICK_US, Batch, Tick, ticks
from mainspring.demo.traffic import Sender
from mainspring.events.client import IntakeClient
from mainspring.events.files import ingest_file
from mainspring.features import OnlineStore
from mainspring.loop.apply import apply_project
from mainspring.loop.supervisor import Supervisor
from mainspring.loop.workshop import Workshop
from mainspring.training import relabelled

MODEL = "late_flight"
START_US = from_datetime(data.STREAM_STARTS)
END_US = from_datetime(datetime(2014, 1, 1, 6, tzinfo=UTC))
QUICK_END_US = START_US + 50 * 86_400_000_000
AFTER_US = 2 * 86_400_000_000
HOUR_US = 3_600_000_000
DAY_US = 86_400_000_000
SETTLE_TIMEOUT_S = 300.0
FOLD_TIMEOUT_S = 60.0
START_TIMEOUT_S = 90.0
SLOW_TICKS = 2
"""After midnight the driver waits for the worker at this many ticks: what midnight's judging started is released
then."""


class Driver:
    """Drives one run of the demo.

    Args:
        folder: Project folder, prepared.
        quick: Seven weeks rather than nine months.
        display: Where to show it.
    """

    def __init__(self, folder: Path, display: Display, *, quick: bool) -> None:
        self.config = load_config(folder)
        self.display = display
        self.end_us = QUICK_END_US if quick else END_US
        self.demo = Demo(folder, self.config)
        self.mischief = Mischief.planned(START_US)
        self.config.run.mkdir(parents=True, exist_ok=True)
        self.clock_path = self.config.run / "clock"
        self.clock = SharedClock(self.clock_path)
        self.clock.set(START_US)
        self.supervisor = Supervisor(
            self.config,
            ("intake", "worker", "gateway"),
            clock_file=self.clock_path,
            free_ports=True,
            on_slow=self.display.say,
        )
        self._definitions = self.config.definitions.read_text(encoding="utf-8")
        self._pending = {"broken", "mended", "killed", "resent", "corrupted", "restored"}

    def run(self) -> Demo:
        """The whole demo, up to where its report begins."""
        with self.demo.step("read the flights"):
            self.display.stage("reading a year of flights")
            flights = data.load()
        with self.demo.step("start the processes"):
            self.display.stage("starting intake, worker, gateway")
            self.supervisor.start()
        self._first_release()
        self._wait_ready()
        with self.demo.step(STREAM):
            self._stream(flights)
        return self.demo

    # 1. history, first release

    def _first_release(self) -> None:
        with self.demo.step("apply the definitions"):
            self.display.stage("applying the definitions")
            plan = apply_project(self.config, now_us=START_US, actor="demo")
            self.display.say(str(plan))
        with self.demo.step("load January to March"):
            self.display.stage("loading January to March through the batch connector")
            self._load_history()
        with Workshop.open(self.config) as workshop:
            with self.demo.step("build the first training set"):
                self.display.stage("building the training set: a replay of three months")
                dataset = workshop.build(MODEL, START_US, actor="demo")
                self.display.say(f"training set {dataset.hash}: {dataset.meta.counts.rows:,} rows", START_US)
            with self.demo.step("train, package and register the first model"):
                self.display.stage("training, packaging, registering")
                candidate = workshop.train(MODEL, dataset.path, START_US, actor="demo", reason="first training")
                self._say_candidate(candidate, START_US)
            workshop.release(MODEL, candidate.version, START_US, actor="demo", reason="first release")
        self.demo.first_version, self.demo.first_dataset = candidate.version, str(dataset.path)

    def _load_history(self) -> None:
        files = data.write_month_files(self.demo.folder / "history", through=data.STREAM_STARTS)
        project = load_project(self.config.definitions)
        last = 0
        for name, path in files.items():
            counts = ingest_file(self.config, project, path, name, self.clock)
            self.demo.account.sent[name] += counts.rows
            self.demo.account.loaded += counts.rows
            self.demo.account.accepted[name] += counts.accepted
            self.demo.account.quarantined[name] += counts.quarantined
            self.demo.account.duplicate[name] += counts.duplicate
            last = max(last, counts.last_offset)
            self.display.say(f"{counts.accepted:,} events of {name} from {path.name}", START_US)
        self._account_history(files)
        self._wait_folded(last)

    def _account_history(self, files: dict[str, Path]) -> None:
        for name, path in files.items():
            self.demo.account.ids.setdefault(name, set()).update(pl.read_parquet(path)[ID_COLUMNS[name]].to_list())

    def _say_candidate(self, candidate: Any, at_us: int) -> None:
        metrics = candidate.metrics
        shown = ", ".join(f"{name} {metrics[name]:.3f}" for name in ("roc_auc", "log_loss") if name in metrics)
        gates = "passes its gates" if candidate.passed else "FAILS its gates"
        self.display.say(f"version {candidate.version} {gates}: {shown}", at_us)

    # 2. the stream

    def _stream(self, flights: data.Flights) -> None:
        self.display.stage("from April on, half an hour a tick", total=float(self.end_us - START_US))
        self._intake, self._gateway = (
            Sender(self.supervisor.urls()["intake"], 2),
            Sender(self.supervisor.urls()["gateway"], 4),
        )
        self._store = OnlineStore.open(self.config.state_path, self.config.limits.state_map_bytes)
        self._catalog = Catalog.open(self.config.catalog_url)
        self._told = max((d.offset for d in self._catalog.decisions(limit=1)), default=0)
        try:
            for tick in ticks(flights, START_US, self.end_us):
                self._tick(tick)
            # outcomes of the last flights go on arriving after the last request
            for tick in ticks(flights, self.end_us, self.end_us + AFTER_US):
                self._tick(Tick(tick.start_us, tick.end_us, tick.events, None))
        finally:
            self._intake.close()
            self._gateway.close()
            self._store.close()
            self._catalog.close()

    def _tick(self, tick: Tick) -> None:
        self.clock.set(tick.end_us)
        self._do_mischief_before(tick)
        offset = self._send_events(tick)
        if self._due("killed", self.mischief.killed_us, tick):
            self._kill_worker(tick)
        if offset:
            self._wait_folded(offset)
        if tick.requests is not None:
            self._send_requests(tick.requests)
        if tick.end_us % DAY_US < SLOW_TICKS * TICK_US:
            self._wait_settled(tick.end_us)
            self._tell(tick.end_us)
        self._do_mischief_after(tick)

    def _send_events(self, tick: Tick) -> int:
        if not tick.events:
            return 0
        broken = self.mischief.broken_from_us <= tick.start_us < self.mischief.broken_until_us
        requests, ids = [], []
        for source, batch in tick.events.items():
            body = break_feed(batch.body) if broken and source == "arrived" else batch.body
            requests.append((f"/events/{source}", "application/x-ndjson", body))
            ids.append((source, batch.ids))
        if self._due("resent", self.mischief.resent_us, tick):
            requests, ids = requests * 2, ids * 2
            self._note(
                tick.end_us,
                "resent",
                f"a sender that saw no answer sends {sum(len(i) for _, i in ids) // 2} events again",
            )
        last = 0
        for (source, sent), answer in zip(ids, self._intake.send(requests), strict=True):
            if answer.status not in (200, 422):
                raise UnavailableError(
                    "MS-L131", f"the intake answered {answer.status}", why=answer.body.decode(errors="replace")[:300]
                )
            book = msgspec.json.decode(answer.body, type=dict[str, Any])
            self.demo.account.take(source, sent, book)
            last = max(last, int(book.get("last_offset") or 0))
        return last

    def _send_requests(self, batch: Batch) -> None:
        path = f"/predict/{MODEL}"
        answers = self._gateway.send([(path, "application/json", line) for line in batch.lines])
        account = self.demo.account
        account.sent["scheduled"] += len(answers)
        account.ids.setdefault("scheduled", set()).update(batch.ids)
        for answer in answers:
            account.latencies_ms.append(answer.latency_ms)
            if answer.status == 200:
                account.predictions += 1
                account.accepted["scheduled"] += 1
            else:
                account.failed_requests += 1
                self.display.say(f"the gateway answered {answer.status}: {answer.body[:200]!r}")

    # 3. what goes wrong, on purpose

    def _due(self, name: str, at_us: int, tick: Tick) -> bool:
        if name in self._pending and tick.end_us > at_us and tick.events:
            self._pending.discard(name)
            return True
        return False

    def _note(self, at_us: int, kind: str, text: str) -> None:
        self.demo.happenings.append((at_us, kind, text))
        self.display.say(text, at_us)

    def _do_mischief_before(self, tick: Tick) -> None:
        if self._due("broken", self.mischief.broken_from_us, tick):
            self._note(tick.end_us, "broken", "the feed of arrivals renames a column for a day, without a word")
        if self._due("mended", self.mischief.mended_us, tick):
            self._mend(tick)

    def _do_mischief_after(self, tick: Tick) -> None:
        if tick.end_us % DAY_US != SLOW_TICKS * TICK_US:
            return
        if (
            "corrupted" in self._pending
            and tick.end_us > self.mischief.corrupted_us
            and self._catalog.rollout(MODEL) is None
        ):
            self._pending.discard("corrupted")
            self._push_corrupted(tick.end_us)
        elif "restored" in self._pending and self.demo.corrupted_version and self._catalog.rollout(MODEL) is None:
            self._pending.discard("restored")
            self._restore_definitions(tick.end_us)

    def _mend(self, tick: Tick) -> None:
        with IntakeClient(self.supervisor.urls()["intake"], internal_token(self.config.run)) as client:
            answer = client.post_json("/quarantine/arrived/replay", MEND)
        self.demo.account.mended += int(answer["accepted"])
        counts = f"{answer['accepted']} accepted, {answer['quarantined']} left"
        text = f"somebody mends the feed and replays its quarantine: {counts}"
        self._note(tick.end_us, "mended", text)
        self._wait_folded(int(answer["last_offset"]))

    def _kill_worker(self, tick: Tick) -> None:
        """``kill -9`` while it folds what was just acknowledged; the supervisor starts another."""
        self.demo.worker_killed_at_offset = self._store.folded_offset()
        self.supervisor.kill("worker")
        self._note(tick.end_us, "killed", f"kill -9 of the worker at offset {self.demo.worker_killed_at_offset}")

    def _push_corrupted(self, at_us: int) -> None:
        """A release with a changed feature view, trained on flipped labels, forced past its gates."""
        with self.demo.step("train the corrupted model"):
            text = self._definitions
            self.config.definitions.write_text(text.replace('window="3h"', 'window="2h"'), encoding="utf-8")
            apply_project(self.config, now_us=at_us, actor="somebody")
            with Workshop.open(self.config) as workshop:
                dataset = workshop.build(MODEL, at_us, actor="somebody")
                wrong = relabelled(dataset, flip_labels(dataset.y, seed=7), self.config.datasets, FLIPPED)
                workshop.record(wrong, at_us, "somebody")
                candidate = workshop.train(
                    MODEL, wrong.path, at_us, actor="somebody", reason="trained on corrupted labels"
                )
                self._say_candidate(candidate, at_us)
                workshop.release(
                    MODEL,
                    candidate.version,
                    at_us,
                    actor="somebody",
                    reason="pushed past its gates by hand",
                    force=True,
                )
        self.demo.corrupted_version = candidate.version
        before = self._catalog.version(MODEL, self.demo.first_version).views
        after = self._catalog.version(MODEL, candidate.version).views
        changed = ", ".join(sorted(name for name, version in after.items() if before.get(name) != version))
        text = f"version {candidate.version}, trained on corrupted labels and with a changed feature view ({changed}), "
        self._note(at_us, "corrupted", text + "is pushed past its gates")

    def _restore_definitions(self, at_us: int) -> None:
        self.config.definitions.write_text(self._definitions, encoding="utf-8")
        apply_project(self.config, now_us=at_us, actor="somebody")
        self._note(at_us, "restored", "the definitions are put back; the feature versions went back with the release")

    # the clock's brakes

    def _wait_folded(self, offset: int) -> None:
        if not hasattr(self, "_store"):
            deadline = time.monotonic() + START_TIMEOUT_S
            while not (self.config.state_path / "data.mdb").exists():
                self._check(deadline, "the worker has made no online store")
            self._store = OnlineStore.open(self.config.state_path, self.config.limits.state_map_bytes)
        deadline = time.monotonic() + FOLD_TIMEOUT_S
        while not self._store.wait_for(offset, 1.0):
            self._check(deadline, f"the fold has not passed offset {offset}")

    def _wait_settled(self, at_us: int) -> None:
        deadline = time.monotonic() + SETTLE_TIMEOUT_S
        started = time.perf_counter()
        while self.clock.settled_us() < at_us:
            self._check(deadline, f"the worker has not done what was due at {to_iso(at_us)}")
        self.demo.steps_s["held by pipelines and the judge"] = (
            self.demo.steps_s.get("held by pipelines and the judge", 0.0) + time.perf_counter() - started
        )

    def _wait_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers("gateway", "/ready"):
            self._check(deadline, "the gateway does not become ready")

    def _answers(self, name: str, path: str) -> bool:
        parts = urlsplit(self.supervisor.urls().get(name, ""))
        connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port or 80, timeout=5.0)
        try:
            connection.request("GET", path)
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _check(self, deadline: float, what: str) -> None:
        """One turn of waiting: look after the processes, give up at the deadline."""
        self.supervisor.poll()
        if time.monotonic() > deadline:
            raise UnavailableError("MS-L132", what, where=str(self.config.run), hint="look at the logs in that folder")
        time.sleep(0.002)

    def _tell(self, at_us: int) -> None:
        """Say what the system decided since the last look, and show where it stands."""
        told = {
            "release",
            "stage",
            "promote",
            "rollback",
            "pause",
            "retrain",
            "incident_open",
            "incident_widen",
            "incident_close",
            "version",
        }
        for decision in self._catalog.decisions(limit=60):
            if decision.offset > self._told:
                self._told = decision.offset
                if decision.kind in told and decision.actor == "controller":
                    self.display.say(f"{decision.kind.replace('_', ' ')}: {decision.reason}", decision.at_us)
        champion, rollout = self._catalog.champion(MODEL), self._catalog.rollout(MODEL)
        account = self.demo.account
        facts = {
            "day": to_iso(at_us)[:10],
            "serving": champion.version if champion else "-",
            "on its way": f"{rollout.challenger} {rollout.stage} {rollout.weight:.0%}" if rollout else "-",
            "events sent": f"{sum(account.sent.values()):,}",
            "quarantined": f"{sum(account.quarantined.values()):,}",
            "duplicate": f"{sum(account.duplicate.values()):,}",
            "predictions": f"{account.predictions:,}",
            "latency p50/p99": f"{account.latency(0.5):.1f}/{account.latency(0.99):.1f} ms",
        }
        self.display.state(float(at_us - START_US), facts)
