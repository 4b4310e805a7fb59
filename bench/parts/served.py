"""The projects that bench/serving.py serves: real definitions, packages, catalog and folded features."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from lightgbm import LGBMClassifier

from mainspring.catalog import Catalog
from mainspring.core import Config, load_config
from mainspring.definitions import ModelDef, load_project
from mainspring.events.record import Record
from mainspring.features import Folder, OnlineStore
from mainspring.models import Meta, convert, features_of, signature_of, to_frame, write

FLOATS, VIEWS = 30, 5
KEYS = 1_000
TREES, LEAVES = 100, 31
HOUR_US = 3_600_000_000

SOURCE = """
class {name}(ms.Source, id="order_id", time="ordered_at"):
    order_id: str
{keys}
{floats}
    ordered_at: datetime
"""

DEFINITIONS = """
from datetime import datetime
import mainspring as ms
{sources}
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
MORE = '    mean_1h = ms.mean("x", window="1h")\n    min_7d = ms.min("x", window="7d")\n    x = ms.last("x")\n'

MODEL = """
@ms.model(request={request}, label=late, task="binary_classification", gates=[], rollout=ROLLOUT, monitor=MONITOR,
          features=[{features}]{options})
def {name}(train): ...
"""


@dataclass(frozen=True)
class Asked:
    """One model of a project.

    Attributes:
        floats: How many its request source has.
        views: How many of the five views it reads: the first has 8 features, each of the others 5.
        inputs: Columns of the model, views' features included.
        same_as: A model whose package is this one's too.
        options: Further arguments of ``ms.model``.
    """

    name: str
    floats: int = FLOATS
    views: int = 0
    inputs: int = FLOATS
    same_as: str = ""
    options: str = ""

    @property
    def source(self) -> str:
        """Class of its requests."""
        return f"Order{self.floats}"

    def define(self) -> str:
        """Its definition."""
        taken = 8 + 5 * (self.views - 1) if self.views else 0
        features = [*(f"By{i}" for i in range(self.views)), *(f'"f{i}"' for i in range(self.inputs - taken))]
        options = f", {self.options}" if self.options else ""
        return MODEL.format(request=self.source, features=", ".join(features), options=options, name=self.name)


PLAIN = Asked("plain")
ONE_VIEW = Asked("one_view", views=1)
FIVE_VIEWS = Asked("five_views", views=5)


def build(root: Path, models: Sequence[Asked], events: int, *, workers: int = 1, train_rows: int = 5_000) -> Config:
    """A project with a champion for each model, and ``events`` of the last thirty days folded into all views."""
    root.mkdir(parents=True)
    (root / "mainspring.toml").write_text(f'[project]\nname = "bench"\n[gateway]\nworkers = {workers}\n')
    (root / "definitions.py").write_text(_definitions(models))
    config = load_config(root)
    project = load_project(config.definitions)
    made: dict[str, tuple[Meta, bytes, Any, Any]] = {}
    with Catalog.open(config.catalog_url) as catalog:
        for one in models:
            model = project.models[one.name]
            if one.same_as:
                meta, graph, signature, examples = made[one.same_as]
                meta = msgspec.structs.replace(meta, model=one.name, definition_version=model.version)
            else:
                meta, graph, signature, examples = made[one.name] = _train(model, train_rows)
            path = write(config.packages, meta, (graph, graph), (signature, signature), examples).path
            release(catalog, one.name, path)
    fold(config, events)
    return config


def graph_of(config: Config, model: str) -> Path:
    """The graph of a model's only version."""
    return next((config.packages / model).glob("*/model.onnx"))


def release(catalog: Catalog, model: str, path: Path) -> None:
    """Make a package its model's champion."""
    for kind, numbers in (("version", {"version": path.name, "path": str(path)}), ("release", {"version": path.name})):
        offset = catalog.projected_offset() + 1
        said = {"decision_id": f"d{offset}", "decided_at": 1, "kind": kind, "model": model}
        catalog.project([(offset, said | {"actor": "bench", "reason": "", "numbers": numbers})])


def fold(config: Config, events: int) -> None:
    """Fold events of the last thirty days, denser towards now, into all views."""
    project = load_project(config.definitions)
    source, rng = project.sources["paid"], np.random.default_rng(6)
    now_us = time.time_ns() // 1_000
    times = np.sort(now_us - 1 - (rng.random(events) ** 3 * 700 * HOUR_US).astype(np.int64)).tolist()
    keys = rng.integers(0, KEYS, (events, VIEWS)).tolist()
    columns = tuple(f.name for f in source.fields)
    records = [
        Record(i, source.name, source.version, f"p{i}", t, t, t, _paid(i, k, t), columns)
        for i, (t, k) in enumerate(zip(times, keys, strict=True), 1)
    ]
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes, writable=True) as store:
        folder = Folder(project.views.values(), store)
        for first in range(0, events, 5_000):
            folder.fold(records[first : first + 5_000])


def orders(n: int, floats: int = FLOATS) -> list[dict[str, object]]:
    """Rows of a request source, without id and time."""
    rng = np.random.default_rng(8)
    keys, numbers = rng.integers(0, KEYS, (n, VIEWS)).tolist(), rng.normal(size=(n, floats)).round(4).tolist()
    return [
        {f"k{i}": str(k) for i, k in enumerate(ks)} | {f"f{i}": x for i, x in enumerate(xs)}
        for ks, xs in zip(keys, numbers, strict=True)
    ]


def _definitions(models: Sequence[Asked]) -> str:
    keys = "\n".join(f"    k{i}: str" for i in range(VIEWS))
    sources = {
        one.source: SOURCE.format(
            name=one.source, keys=keys, floats="\n".join(f"    f{i}: float" for i in range(one.floats))
        )
        for one in models
    }
    return DEFINITIONS.format(
        sources="".join(sources.values()),
        keys=keys,
        views=VIEW.format(i=0) + MORE + "".join(VIEW.format(i=i) for i in range(1, VIEWS)),
        models="".join(one.define() for one in models),
    )


def _train(model: ModelDef, rows: int) -> tuple[Meta, bytes, Any, Any]:
    """A model on noise: its package's description, graph, signature and examples."""
    rng = np.random.default_rng(5)
    columns: Mapping[str, Any] = {feature.name: rng.normal(size=rows) for feature in model.features}
    signature = signature_of(model, {})
    y = sum(columns.values()) + rng.normal(size=rows) > 0
    estimator = LGBMClassifier(n_estimators=TREES, num_leaves=LEAVES, random_state=5, verbose=-1, n_jobs=1)
    estimator.fit(to_frame(columns, signature), y)
    graph: bytes = convert(estimator, signature, model.name).SerializeToString()
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
    return meta, graph, signature, (signature.numbers_matrix(columns)[:20], signature.texts_matrix(columns)[:20])


def _paid(number: int, keys: Sequence[int], time_us: int) -> tuple[object, ...]:
    return (f"p{number}", *map(str, keys), float(number % 100), number % 3 == 0, time_us)
