"""A small real project for the gateway's tests: definitions, packaged models, a folded store, a catalog, clients."""

import asyncio
import contextlib
import json
import shutil
import threading

import numpy as np
import uvloop
from lightgbm import LGBMClassifier, LGBMRegressor
from sklearn.linear_model import LinearRegression

from mainspring.catalog import Catalog
from mainspring.core.clock import ManualClock
from mainspring.core.config import load_config
from mainspring.core.times import parse_time
from mainspring.definitions import load_project
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.intake import Intake
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.record import Record
from mainspring.events.system import SYSTEM_SOURCES
from mainspring.features import Folder, OnlineStore
from mainspring.models import Meta, convert, features_of, signature_of, to_frame, write
from mainspring.serving.gateway import Gateway

DEFINITIONS = """
from datetime import datetime
from typing import Annotated
import mainspring as ms
from mainspring import col

class Ride(ms.Source, id="ride_id", time="asked_at"):
    ride_id: str
    driver: str | None
    zone: Annotated[str, ms.one_of("north", "south")]
    distance_km: Annotated[float, ms.between(0, 1e300)]
    passengers: int | None
    asked_at: datetime

class Done(ms.Source, id="ride_id", time="done_at"):
    ride_id: str
    driver: str
    late_min: float
    done_at: datetime

@ms.feature_view(Done, entity="driver")
class Driver:
    late_mean_1h = ms.mean("late_min", window="1h")
    rides_24h = ms.count(window="24h")

late = ms.label(Done, on="ride_id", value=col("late_min") > 5, within="1h", otherwise=ms.exclude)
minutes_late = ms.label(Done, on="ride_id", value="late_min", within="1h", otherwise=ms.exclude)
ROLLOUT = ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)], veto=[ms.guard("errors")])
MONITOR = ms.Monitor(every="1d", retrain=ms.every("30d"))

@ms.model(request=Ride, label=late, task="binary_classification", gates=[], rollout=ROLLOUT, monitor=MONITOR,
          features=[Driver, "distance_km", "zone", "passengers", col("asked_at").dt.hour().alias("hour"),
                    (col("zone") + col("driver")).alias("place")])
def late_ride(train): ...

@ms.model(request=Ride, label=minutes_late, task="regression", gates=[], monitor=MONITOR,
          rollout=ms.Rollout(prove=[ms.guard("absolute_error", margin=1, bound=60)], veto=[ms.guard("errors")]),
          features=["distance_km", "passengers"])
def minutes(train): ...
"""
NOW = parse_time("2026-03-01T12:00:00")
MINUTE = 60_000_000


class World:
    """A project in a folder: ``train`` a version, ``decide`` on routes, ``run`` a story against a gateway."""

    def __init__(self, root):
        self.root = root
        (root / "mainspring.toml").write_text(
            '[project]\nname = "rides"\n[gateway]\nport = 0\nmax_body_bytes = 200000\nmax_rows = 500\n'
            "[intake]\nport = 0\n[limits]\nlog_map_bytes = 67108864\nstate_map_bytes = 67108864\n"
        )
        (root / "definitions.py").write_text(DEFINITIONS)
        self.config = load_config(root)
        self.project = load_project(self.config.definitions)
        self.clock = ManualClock(NOW)
        self.catalog = Catalog.open(self.config.catalog_url)
        self.store = OnlineStore.open(self.config.state_path, self.config.limits.state_map_bytes, writable=True)
        self.folder = Folder(self.project.views.values(), self.store)
        self._offset = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.catalog.close()
        self.store.close()

    # --- what exists

    def train(self, model="late_ride", seed=1, estimator=None):
        """A packaged version of a model, known to the catalog; returns its version."""
        definition = self.project.models[model]
        random = np.random.default_rng(seed)
        rows = 200
        columns = {
            "driver__late_mean_1h": random.normal(3, 4, rows),
            "driver__rides_24h": random.integers(0, 20, rows).astype(float),
            "distance_km": random.gamma(2, 5, rows),
            "zone": random.choice(["north", "south"], rows).astype(object),
            "passengers": random.integers(1, 5, rows).astype(float),
            "hour": random.integers(0, 24, rows).astype(float),
            "place": random.choice(["northann", "southbob"], rows).astype(object),
        }
        texts = {f.name: ["north", "south"] for f in definition.features if f.kind == "str"}
        texts["place"] = ["northann", "southbob"]
        for name in sorted({feature.name for feature in features_of(definition)} - columns.keys()):
            known = texts.get(name)
            columns[name] = random.normal(size=rows) if known is None else random.choice(known, rows).astype(object)
        signature = signature_of(definition, texts)
        frame = to_frame(columns, signature)
        y = random.normal(size=rows) + columns["distance_km"] / 5
        if estimator is None:
            kind = LGBMRegressor if definition.task == "regression" else LGBMClassifier
            estimator = kind(n_estimators=5, num_leaves=7, random_state=seed, verbose=-1)
        estimator.fit(frame, y if definition.task == "regression" else y > 2)
        graph = convert(estimator, signature, model).SerializeToString()
        examples = signature.numbers_matrix(columns)[:20], signature.texts_matrix(columns)[:20]
        package = write(
            self.config.packages,
            Meta(
                model=model,
                task=definition.task,
                definition_version=definition.version,
                features=features_of(definition),
                views=tuple(view.describe() for view in definition.views),
                label=definition.label.describe(),
                dataset="d",
                dataset_rows=rows,
                trained_rows=rows,
                trained_from_us=0,
                trained_until_us=1,
                known_until_us=1,
                created_at_us=1,
                refitted=False,
                seed=seed,
                estimator=type(estimator).__name__,
                baseline="none",
                metrics={},
                gates=(),
                check={},
                libraries={},
            ),
            (graph, graph),
            (signature, signature),
            examples,
        )
        known = {"path": str(package.path), "definition": definition.version}
        self.decide("version", model, version=package.version, **known)
        return package.version

    def redefine(self, old, new):
        """Edit the definitions and read them, and the settings, again."""
        text = self.config.definitions.read_text()
        assert old in text
        self.config.definitions.write_text(text.replace(old, new))
        self.reload()

    def reload(self):
        """Read settings and definitions again."""
        self.config = load_config(self.root)
        self.project = load_project(self.config.definitions)

    def straight(self, seed=1):
        """A version of ``minutes`` that has no finite answer when ``passengers`` is null."""
        return self.train("minutes", seed, LinearRegression())

    def decide(self, kind, model="late_ride", subject=None, **numbers):
        """A decision, projected."""
        self._offset = self.catalog.projected_offset() + 1
        row = {
            "decision_id": f"d{self._offset}",
            "decided_at": self.clock.now_us(),
            "kind": kind,
            "model": model,
            "subject": subject,
            "actor": "test",
            "reason": "",
            "numbers": numbers,
        }
        self.catalog.project([(self._offset, row)])

    def live(self, model="late_ride", seed=1):
        """Train and release a first champion; returns its version."""
        version = self.train(model, seed)
        self.decide("release", model, version=version)
        return version

    def damage(self, model, version):
        """Change a byte of a package's graph."""
        path = self.config.packages / model / version / "model.onnx"
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)

    def remove(self, model, version):
        """Delete a package."""
        shutil.rmtree(self.config.packages / model / version)

    def fold(self, *events):
        """Fold finished rides ``(driver, late_min, minutes ago)`` into the online store; returns the offset."""
        source = self.project.sources["done"]
        contract = Contract(source)
        records = []
        first = self.store.folded_offset()
        for i, (driver, late_min, ago) in enumerate(events, first + 1):
            at = NOW - ago * MINUTE
            row = contract.check({"ride_id": f"done{i}", "driver": driver, "late_min": late_min, "done_at": at})
            records.append(
                Record(
                    offset=i,
                    source=source.name,
                    version=source.version,
                    id=f"done{i}",
                    time_us=at,
                    known_at_us=at,
                    ingested_at_us=at,
                    values=row,
                    columns=tuple(source.columns),
                )
            )
        return self.folder.fold(records)

    def arrive(self, *events):
        """Finished rides ``(driver, late_min, minutes ago)`` that come through the log, and are folded from it."""
        source, now_us = self.project.sources["done"], self.clock.now_us()
        contract = Contract(source)
        with Log.open(self.config.log_path, self.config.limits.log_map_bytes, writable=True) as log:
            for i, (driver, late_min, ago) in enumerate(events):
                at = now_us - ago * MINUTE
                self.clock.set(at)
                row = contract.check({"ride_id": f"a{i}", "driver": driver, "late_min": late_min, "done_at": at})
                (ack,) = log.append([Draft(source, row)], self.clock)
                assert ack.status == "accepted", ack.reason
            self.clock.set(now_us)
            self.folder.fold(list(log.read(self.store.folded_offset())))

    @contextlib.contextmanager
    def history(self):
        """Everything that was logged, to replay from."""
        with Log.open(self.config.log_path, self.config.limits.log_map_bytes) as log:
            found = History(self.project, log, Lake(self.config.lake_path))
            found.catch_up()
            yield found

    # --- stories

    async def start_intake(self, stack):
        """The real intake on this loop, stopped with ``stack``."""
        intake = Intake(self.config, self.project, self.clock)
        await intake.start()
        stack.push_async_callback(intake.stop)
        return intake

    def logged(self, source="_prediction"):
        """Rows of a source in the log, by name of column."""
        with Log.open(self.config.log_path, self.config.limits.log_map_bytes) as log:
            records = [r for r in log.read(0, log.last_offset()) if r.source == source]
        known = self.project.sources | SYSTEM_SOURCES
        return [dict(zip([f.name for f in known[source].fields], r.values, strict=True)) for r in records]

    def run(self, story, limits=None, intake=False, seconds=60):
        """Tell ``story(gateway, client)`` to a gateway on the loop that production uses."""

        async def main():
            async with contextlib.AsyncExitStack() as stack:
                if intake:
                    await self.start_intake(stack)
                gateway = Gateway(self.config, self.project, self.clock, limits)
                await gateway.start()
                stack.push_async_callback(gateway.stop, 5)
                client = await stack.enter_async_context(Client(gateway.url))
                return await asyncio.wait_for(story(gateway, client), seconds)

        return uvloop.run(main())


def ride(number=1, **changes):
    """A good request."""
    row = {
        "ride_id": f"r{number}",
        "driver": "ann",
        "zone": "north",
        "distance_km": 7.5,
        "passengers": 2,
        "asked_at": "2026-03-01T12:00:00Z",
    } | changes
    return {name: value for name, value in row.items() if value is not ...}


class Answer:
    """Status, headers and JSON of an answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def json(self):
        return json.loads(self.body)


class Client:
    """One kept-alive connection."""

    def __init__(self, url):
        self.port = int(url.rpartition(":")[2])

    async def __aenter__(self):
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        return self

    async def __aexit__(self, *_):
        self.writer.close()
        with contextlib.suppress(ConnectionError):
            await self.writer.wait_closed()

    def send(self, method, path, body=b"", **headers):
        lines = [f"{method} {path} HTTP/1.1", "Host: localhost", f"Content-Length: {len(body)}"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def receive(self):
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.strip().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
        return Answer(int(first.split()[1]), headers, await self.reader.readexactly(int(headers["content-length"])))

    async def ask(self, method, path, body=b"", **headers):
        self.send(method, path, body, **headers)
        return await self.receive()

    async def get(self, path):
        return await self.ask("GET", path)

    async def predict(self, rows, model="late_ride", query="", **headers):
        body = rows if isinstance(rows, bytes) else json.dumps(rows).encode()
        return await self.ask("POST", f"/predict/{model}{query}", body, **headers)


async def until(condition):
    """Wait for what can only be seen from outside."""
    while not condition():
        await asyncio.sleep(0.001)


def metric(text, name, **labels):
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    for line in text.splitlines():
        if line.startswith((name + "{", name + " ")) and all(label in line for label in wanted):
            return float(line.rpartition(" ")[2])
    raise AssertionError(f"no {name} with {labels}")


def logged(world, story, **options):
    """The prediction log after a story, by number of prediction."""
    world.run(story, intake=True, **options)
    return sorted(world.logged(), key=lambda row: int(row["prediction_id"].rpartition("-")[2]))


class Held:
    """A runtime that answers when it is let go: how long a model takes is the test's to say."""

    def __init__(self, scorer):
        self.runtime, self.go, self.asked = scorer.runtime, threading.Event(), 0
        object.__setattr__(scorer, "runtime", self)

    def predict_matrix(self, numbers, texts):
        self.asked += 1
        assert self.go.wait(30)
        return self.runtime.predict_matrix(numbers, texts)


def columns_of(*rows):
    """Rides as the inputs of the Open Inference Protocol."""
    kinds = {"distance_km": "FP64", "passengers": "INT64"}
    return [
        {"name": n, "datatype": kinds.get(n, "BYTES"), "shape": [len(rows)], "data": [r[n] for r in rows]}
        for n in rows[0]
        if n != "asked_at"
    ]


def held(scorer, expects_us=50_000):
    """Hold a model that is known to take so long, until it is let go."""
    for rows in (1, 32):
        for _ in range(60):
            scorer.pace.observe(rows, expects_us)
    return Held(scorer)
