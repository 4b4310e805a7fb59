"""A project that stands still: its log is written by hand, its store folded, its predictions served in this process."""

import json
import struct
import threading

import numpy as np

from mainspring.catalog import Catalog
from mainspring.core.clock import ManualClock
from mainspring.definitions import load_project
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.system import DECISION, PREDICTION
from mainspring.features import OnlineStore, Reader
from mainspring.loop.builds import begin
from mainspring.loop.ledger import Ledger, decision_row

HOUR = 3_600_000_000
T0 = 1_700_000_000_000_000


class Standing:
    """Everything that a worker and a gateway share, without their processes."""

    def __init__(self, config):
        self.config = config
        self.clock = ManualClock(T0)
        self.project = load_project(config.definitions)
        with self._writable():
            pass
        self.log = Log.open(config.log_path, config.limits.log_map_bytes)
        self.history = History(self.project, self.log, Lake(config.lake_path))
        self.catalog = Catalog.open(config.catalog_url)
        self.ledger = Ledger(config, self.catalog, self.history, threading.Event(), alone=True, clock=self.clock)
        self.store = OnlineStore.open(config.state_path, config.limits.state_map_bytes, writable=True)
        self.predictions = 0

    def close(self):
        self.store.close()
        self.catalog.close()
        self.log.close()

    @property
    def model(self):
        return self.project.models["tipping"]

    def _writable(self):
        return Log.open(self.config.log_path, self.config.limits.log_map_bytes, writable=True)

    def add(self, source, *rows, at_us):
        """Events that become known at ``at_us`` and on."""
        self.clock.set(at_us)
        contract = Contract(source)
        with self._writable() as log:
            acks = log.append([Draft(source, contract.check(row)) for row in rows], self.clock)
        assert {ack.status for ack in acks} == {"accepted"}, [ack.reason for ack in acks]
        return acks[-1].offset

    def decide(self, kind, at_us, numbers, model="tipping", subject=None):
        row = decision_row(kind, f"{kind}-{at_us}", at_us, model, subject, "ann", "", numbers)
        self.add(DECISION, row, at_us=at_us)
        self.ledger.project()

    def apply(self, at_us):
        """Put the definitions file in force."""
        self.project = load_project(self.config.definitions)
        self.history = History(self.project, self.log, Lake(self.config.lake_path))
        self.ledger.follow(self.history)
        self.decide("apply", at_us, self.project.describe())

    def version(self, name, at_us):
        """A version trained by the definitions in force."""
        numbers = {
            "version": name,
            "path": f"packages/{name}",
            "definition": self.model.version,
            "view_versions": {v.name: v.version for v in self.model.views},
            "gates": [],
        }
        self.decide("version", at_us, numbers)

    def pay(self, driver, tip, at_us, ride=None):
        ride = ride or f"{driver}{at_us}"
        row = {"ride_id": ride, "driver": driver, "tip": tip, "paid_at": at_us}
        return self.add(self.project.sources["paid"], row, at_us=at_us)

    def views(self):
        """A folder for what is needed now, as the worker opens it, with everything built."""
        folder, builds = begin(self.config, self.project, self.catalog, self.store, self.log)
        builds.finish()
        return folder

    def fold(self):
        folder = self.views()
        while records := self.log.read(self.store.folded_offset(), 1_000):
            folder.fold(records)

    def ask(self, driver, at_us, version="v1", km=3.5, **more):
        """A request that is served from the store as it stands, and logged; its prediction's row."""
        self.predictions += 1
        ride = f"ask{self.predictions}"
        with Reader(self.model.views, self.store).snapshot() as snapshot:
            (view,) = self.model.views
            values, status = snapshot.read(view, [(driver,)], np.array([at_us]))
            folded = snapshot.offset
        served = [None if v != v else v for v in values[0].tolist()]
        codes = [*status[0].tolist(), 0]
        row = {
            "prediction_id": f"g-{self.predictions}",
            "predicted_at": at_us,
            "model": "tipping",
            "version": version,
            "variant": "champion",
            "probability": 1.0,
            "unit": ride,
            "request_id": ride,
            "folded": folded,
            "output": 0.25,
            "features": json.dumps([*served, km]),
            "status": json.dumps(codes) if any(codes) else "",
            "latency_us": 900,
        }
        asked = {"ride_id": ride, "driver": driver, "km": km, "started_at": at_us}
        self.add(self.project.sources["ride"], asked, at_us=at_us)
        self.add(PREDICTION, row | more, at_us=at_us)
        self.history.catch_up()
        return row | more

    def corrupt(self, old, new):
        """Change a number somewhere in the state, as a failing disk would; how many times it was there."""
        was, becomes = struct.pack("<d", old), struct.pack("<d", new)
        changed = 0
        for database in (self.store.heads, self.store.parts):
            with self.store.env.begin(write=True) as txn, txn.cursor(database) as cursor:
                found = [(bytes(key), bytes(raw)) for key, raw in cursor]
                for key, raw in found:
                    if was in raw:
                        changed += raw.count(was)
                        txn.put(key, raw.replace(was, becomes), db=database)
        return changed
