"""The gateway under load: a LightGBM of 100 trees x 31 leaves on 30 floats, beside FastAPI + ONNX Runtime.

Three models of the same size: all 30 floats from the request; 22 of them and a view of 8 features; 2 of them and five
views of 28. Gateway and intake are the real processes, checks, metrics and the prediction log on; each request has an
id of its own and so is an event as well. The peer runs the same graph from pydantic in one uvicorn worker (uvloop,
httptools), reads no features and logs nothing. 32 connections wait for their answers, driven by wrk (Debian: apt-get
install wrk) or, where it is missing, by a slower sender of our own: then no figure here is the gateway's limit.

The load generator shares the machine's cores. What the prediction log held back is a row too: what is answered faster
than the intake stores waits in memory and, beyond its bound, is dropped and counted.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from harness import Bench
from lightgbm import LGBMClassifier

from load import Load, Sender, Target, generator
from mainspring.catalog import Catalog
from mainspring.core import Config, load_config
from mainspring.definitions import ModelDef, Project, load_project
from mainspring.events.record import Record
from mainspring.features import Folder, OnlineStore
from mainspring.loop.supervisor import Supervisor
from mainspring.models import Meta, convert, features_of, signature_of, to_frame, write

FLOATS, VIEWS, BATCH = 30, 5, 100
KEYS = 1_000
HOUR_US = 3_600_000_000

DEFINITIONS = """
from datetime import datetime
import mainspring as ms

class Order(ms.Source, id="order_id", time="ordered_at"):
    order_id: str
{keys}
{floats}
    ordered_at: datetime

class Paid(ms.Source, id="order_id", time="paid_at"):
    order_id: str
{keys}
    x: float
    late: bool
    paid_at: datetime
{views}
late = ms.label(Paid, on="order_id", value="late", within="1h", otherwise=ms.exclude)
ROLLOUT = ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)], veto=[ms.guard("errors")])
MONITOR = ms.Monitor(every="1d", retrain=ms.every("30d"))
{models}"""

VIEW = """
@ms.feature_view(Paid, entity="k{i}")
class By{i}:
    n_1h = ms.count(window="1h")
    sum_1h = ms.sum("x", window="1h")
    mean_24h = ms.mean("x", window="24h")
    std_7d = ms.std("x", window="7d")
    max_30d = ms.max("x", window="30d")
"""

MODEL = """
@ms.model(request=Order, label=late, task="binary_classification", gates=[], rollout=ROLLOUT, monitor=MONITOR,
          features=[{features}])
def {name}(train): ...
"""

APP = """
import numpy as np
import onnxruntime
from fastapi import FastAPI
from pydantic import BaseModel, create_model

options = onnxruntime.SessionOptions()
options.intra_op_num_threads = 1
session = onnxruntime.InferenceSession({graph!r}, options, providers=["CPUExecutionProvider"])
NAMES = [f"f{{i}}" for i in range({floats})]
KEYS = dict.fromkeys([f"k{{i}}" for i in range({views})], (str, ...))
Order = create_model("Order", order_id=(str, ...), **KEYS, **dict.fromkeys(NAMES, (float, ...)))
app = FastAPI()

def score(orders):
    rows = np.array([[getattr(order, name) for name in NAMES] for order in orders], np.float32)
    return session.run(["output"], {{"numbers": rows}})[0].tolist()

@app.post("/predict/plain")
async def predict(order: Order):
    return {{"prediction": score([order])[0], "prediction_id": order.order_id}}

@app.post("/batch/plain")
async def batch(orders: list[Order]):
    return [{{"prediction": p, "prediction_id": o.order_id}} for p, o in zip(score(orders), orders)]
"""

# --- the project ------------------------------------------------------------------------------------------------------


def definitions() -> str:
    """One source of requests, five views (the first of 8 features), three models of 30 inputs."""
    first = (
        VIEW.format(i=0)
        + '    mean_1h = ms.mean("x", window="1h")\n    min_7d = ms.min("x", window="7d")\n    x = ms.last("x")\n'
    )
    views = first + "".join(VIEW.format(i=i) for i in range(1, VIEWS))
    inputs = {
        "plain": [f'"f{i}"' for i in range(FLOATS)],
        "one_view": ["By0", *(f'"f{i}"' for i in range(FLOATS - 8))],
        "five_views": [*(f"By{i}" for i in range(VIEWS)), *(f'"f{i}"' for i in range(FLOATS - 28))],
    }
    return DEFINITIONS.format(
        keys="\n".join(f"    k{i}: str" for i in range(VIEWS)),
        floats="\n".join(f"    f{i}: float" for i in range(FLOATS)),
        views=views,
        models="".join(MODEL.format(name=name, features=", ".join(of)) for name, of in inputs.items()),
    )


def train(config: Config, model: ModelDef) -> Path:
    """A packaged version of a model on noise; the folder of the package."""
    rng = np.random.default_rng(5)
    rows = 5_000
    columns = {feature.name: rng.normal(size=rows) for feature in model.features}
    assert len(columns) == FLOATS, sorted(columns)
    signature = signature_of(model, {})
    y = sum(columns.values()) + rng.normal(size=rows) > 0
    estimator = LGBMClassifier(n_estimators=100, num_leaves=31, random_state=5, verbose=-1, n_jobs=1)
    estimator.fit(to_frame(columns, signature), y)
    graph = convert(estimator, signature, model.name).SerializeToString()
    meta = Meta(
        model=model.name,
        task=model.task,
        definition_version=model.version,
        features=features_of(model),
        views=tuple(view.describe() for view in model.views),
        label=model.label.describe(),
        dataset="bench",
        dataset_rows=rows,
        trained_rows=rows,
        trained_from_us=0,
        trained_until_us=1,
        known_until_us=1,
        created_at_us=1,
        refitted=False,
        seed=5,
        estimator="LGBMClassifier",
        baseline="none",
        metrics={},
        gates=(),
        check={},
        libraries={},
    )
    examples = signature.numbers_matrix(columns)[:20], signature.texts_matrix(columns)[:20]
    return write(config.packages, meta, (graph, graph), (signature, signature), examples).path


def release(catalog: Catalog, model: str, path: Path) -> None:
    """Make a package its model's champion."""
    for kind, numbers in (("version", {"version": path.name, "path": str(path)}), ("release", {"version": path.name})):
        offset = catalog.projected_offset() + 1
        row = {
            "decision_id": f"d{offset}",
            "decided_at": 1,
            "kind": kind,
            "model": model,
            "actor": "bench",
            "reason": "",
        }
        catalog.project([(offset, row | {"numbers": numbers})])


def fold(config: Config, project: Project, events: int) -> None:
    """Events of the last thirty days, folded into all views."""
    source, rng = project.sources["paid"], np.random.default_rng(6)
    columns = tuple(f.name for f in source.fields)
    now_us = time.time_ns() // 1_000
    times = np.sort(now_us - 1 - (rng.random(events) ** 3 * 700 * HOUR_US).astype(np.int64)).tolist()
    keys = rng.integers(0, KEYS, (events, VIEWS)).tolist()
    records = [
        Record(
            i,
            source.name,
            source.version,
            f"p{i}",
            t,
            t,
            t,
            (f"p{i}", *map(str, k), float(i % 100), i % 3 == 0, t),
            columns,
        )
        for i, (t, k) in enumerate(zip(times, keys, strict=True), 1)
    ]
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes, writable=True) as store:
        folder = Folder(project.views.values(), store)
        for first in range(0, events, 5_000):
            folder.fold(records[first : first + 5_000])


def requests(n: int) -> list[dict[str, object]]:
    """Rows of the request source, without their ids."""
    rng = np.random.default_rng(8)
    keys, floats = rng.integers(0, KEYS, (n, VIEWS)).tolist(), rng.normal(size=(n, FLOATS)).round(4).tolist()
    return [
        {f"k{i}": str(k) for i, k in enumerate(ks)} | {f"f{i}": x for i, x in enumerate(xs)}
        for ks, xs in zip(keys, floats, strict=True)
    ]


def build(root: Path, events: int) -> tuple[Config, Path]:
    """A project with three champions and folded features; and the graph of the one without features."""
    root.mkdir()
    (root / "mainspring.toml").write_text('[project]\nname = "bench"\n')
    (root / "definitions.py").write_text(definitions())
    config = load_config(root)
    project = load_project(config.definitions)
    paths = {name: train(config, model) for name, model in project.models.items()}
    with Catalog.open(config.catalog_url) as catalog:
        for name, path in paths.items():
            release(catalog, name, path)
    fold(config, project, events)
    return config, paths["plain"] / "model.onnx"


# --- the servers ------------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def fastapi(root: Path, graph: Path) -> Iterator[str]:
    """FastAPI + ONNX Runtime in one worker; its URL."""
    root.mkdir()
    (root / "app.py").write_text(APP.format(graph=str(graph), floats=FLOATS, views=VIEWS))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [
        sys.executable,
        "-m",
        "uvicorn",
        "app:app",
        "--port",
        str(port),
        "--no-access-log",
        "--log-level",
        "warning",
    ]
    argv += ["--loop", "uvloop", "--http", "httptools"]
    server = subprocess.Popen(argv, cwd=root, env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"})
    try:
        wait_for(f"http://127.0.0.1:{port}/openapi.json")
        yield f"http://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def wait_for(url: str, seconds: float = 60.0) -> None:
    """Until ``url`` answers 200."""
    ends_s = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own servers
            return
        if time.monotonic() > ends_s:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.05)


def health(url: str) -> dict[str, Any]:
    """What the gateway's prediction log says."""
    with urllib.request.urlopen(f"{url}/health", timeout=10) as answer:  # noqa: S310  our own server
        log: dict[str, Any] = json.load(answer)["prediction_log"]
        return log


# --- the comparison ---------------------------------------------------------------------------------------------------


def side_by_side(bench: Bench, sender: Sender, targets: list[Target], unit: str, ours: str) -> None:
    """Load the targets in turns."""
    rounds, seconds = (3, 1.0) if bench.quick else (5, 10.0)
    found: dict[str, list[Load]] = {target.name: [] for target in targets}
    for target in targets:
        sender.load(target, 1.0)
    for _ in range(rounds):
        for target in targets:
            load = sender.load(target, seconds)
            bench.require(f"{target.name}: no request fails ({load.errors} did)", holds=load.errors == 0)
            found[target.name].append(load)
    rows = {target.name: target.rows for target in targets}
    mine = [target.name for target in targets if target.name.startswith("mainspring")]
    rates = {name: [load.per_s * rows[name] for load in loads] for name, loads in found.items()}
    bench.compare(rates, unit, ours=ours, floors=mine)
    for name, times in (
        ("p50", {n: [one.p50_ms for one in loads] for n, loads in found.items()}),
        ("p99", {n: [one.p99_ms for one in loads] for n, loads in found.items()}),
    ):
        shown = {f"{target}: {name}": of for target, of in times.items()}
        bench.compare(shown, "ms", ours=f"{ours}: {name}", floors=[f"{target}: {name}" for target in mine])


def watch_log(bench: Bench, url: str, seconds: float) -> None:
    """How far the prediction log had fallen behind when the load ended, and whether it lost any."""
    log = health(url)
    bench.add("prediction log: waiting when the load ends", log["buffered"], "answers")
    bench.add("prediction log: spooled when the load ends", log["spooled_bytes"], "bytes")
    ends_s, started_s, sent = time.monotonic() + seconds, time.monotonic(), log["sent"]
    while log["buffered"] and time.monotonic() < ends_s:
        time.sleep(0.1)
        log = health(url)
    if log["sent"] > sent:
        bench.add(
            "prediction log: stored without load", (log["sent"] - sent) / (time.monotonic() - started_s), "answers/s"
        )
    bench.add("prediction log: dropped of all", log["dropped"], "answers")
    bench.require(f"the intake took every prediction ({log['quarantined']} quarantined)", holds=log["quarantined"] == 0)


def main() -> None:
    bench = Bench.start("The gateway beside FastAPI + ONNX Runtime")
    with tempfile.TemporaryDirectory(prefix="mainspring-bench-") as folder:
        root = Path(folder)
        sender = Sender(root, requests(1_000))
        bench.say(f"load: {generator()}")
        config, graph = build(root / "project", 20_000 if bench.quick else 200_000)
        with (
            Supervisor(config, names=("intake", "gateway"), free_ports=True) as up,
            fastapi(root / "peer", graph) as peer,
        ):
            url = up.urls()["gateway"]
            wait_for(f"{url}/ready")
            ours = "mainspring, 5 views of 28 features"
            targets = [
                Target(ours, url, "/predict/five_views"),
                Target("mainspring, 1 view of 8 features", url, "/predict/one_view"),
                Target("mainspring, no features", url, "/predict/plain"),
                Target("FastAPI + ONNX Runtime, no features, no log", peer, "/predict/plain"),
            ]
            side_by_side(bench, sender, targets, "req/s", ours)
            watch_log(bench, url, 5.0 if bench.quick else 30.0)
            ours = f"mainspring, {BATCH} rows a request, 5 views"
            batches = [
                Target(ours, url, "/predict/five_views", BATCH),
                Target(f"FastAPI + ONNX Runtime, {BATCH} rows a request", peer, "/batch/plain", BATCH),
            ]
            side_by_side(bench, sender, batches, "rows/s", ours)
            bench.add("prediction log: dropped of all, after batches", health(url)["dropped"], "answers")
    bench.finish()


if __name__ == "__main__":
    main()
