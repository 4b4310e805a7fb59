"""Run by `bench/online.py` in Feast's own environment: pushes and online reads of its SQLite store, as JSON.

One feature view of 28 float features by an int key, 100,000 keys; what is pushed is one row a key, the latest.
"""

from __future__ import annotations

import json
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median

import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig, ValueType
from feast.types import Float64

KEYS = 100_000


def rows(keys: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    now = datetime.now(UTC)
    values = {f"f{i}": rng.lognormal(3, 1, len(keys)) for i in range(28)}
    return pd.DataFrame({"k": keys, **values, "at": now, "created": now})


def main(folder: Path, *, quick: bool) -> None:
    rng = np.random.default_rng(1)
    rows(np.arange(10), rng).to_parquet(folder / "history.parquet")
    config = RepoConfig(
        project="bench",
        provider="local",
        registry=str(folder / "registry.db"),
        online_store={"type": "sqlite", "path": str(folder / "online.db")},
        entity_key_serialization_version=3,
    )
    store = FeatureStore(config=config)
    key = Entity(name="k", join_keys=["k"], value_type=ValueType.INT64)
    batch = FileSource(path=str(folder / "history.parquet"), timestamp_field="at", created_timestamp_column="created")
    push = PushSource(name="pushed", batch_source=batch)
    fields = [Field(name=f"f{i}", dtype=Float64) for i in range(28)]
    view = FeatureView(name="spending", entities=[key], ttl=timedelta(days=30), schema=fields, source=push, online=True)
    store.apply([key, push, view])
    out = []
    for size, rounds in ((1, 20), (1_000, 2 if quick else 5)):
        taken = []
        for _ in range(rounds):
            frame = rows(rng.choice(KEYS, size, replace=False), rng)
            started_s = time.perf_counter()
            store.push("pushed", frame)
            taken.append(time.perf_counter() - started_s)
        out.append((f"push, {size:,} rows a call", size / median(taken), "events/s"))
    names = [f"spending:f{i}" for i in range(28)]
    for size in (1, 32):
        taken = []
        for _ in range(30 if quick else 200):
            asked = [{"k": int(k)} for k in rng.choice(KEYS, size, replace=False)]
            started_s = time.perf_counter()
            store.get_online_features(features=names, entity_rows=asked).to_dict()
            taken.append((time.perf_counter() - started_s) * 1e6)
        out.append((f"read, {size} key{'s' if size > 1 else ''} of 28 features, median", median(taken), "us"))
    print(json.dumps(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), quick="--quick" in sys.argv)
