"""What the parts of bench/serving.py share: requests to the gateway, what it says of itself, what it takes."""

from __future__ import annotations

import json
import os
import time
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from contenders import wait_for
from parts.served import FIVE_VIEWS, ONE_VIEW, PLAIN, Asked

from load import ID, Target
from mainspring.loop.supervisor import Supervisor

TITLES = {PLAIN: "mainspring, no features", ONE_VIEW: "mainspring, 8 features of 1 view"}
TITLES |= {FIVE_VIEWS: "mainspring, 28 features of 5 views"}
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def target_of(url: str, model: Asked, rows: Sequence[Mapping[str, object]], batch: int = 1) -> Target:
    """Requests to one model of the gateway, in plain JSON."""
    raw = [json.dumps({"order_id": ID} | dict(row), separators=(",", ":")) for row in rows]
    if batch > 1:
        parts = ([raw[(first + i) % len(raw)] for i in range(batch)] for first in range(0, len(raw), batch))
        raw = ["[" + ",".join(part) + "]" for part in parts]
    return Target(TITLES.get(model, model.name), url, f"/predict/{model.name}", raw, batch)


def tensors_of(url: str, model: Asked, rows: Sequence[Mapping[str, object]], batch: int) -> Target:
    """As ``target_of``, by column: requests of the V2 protocol in JSON."""
    bodies = []
    for first in range(0, len(rows), batch):
        part = [{"order_id": ID} | dict(rows[(first + i) % len(rows)]) for i in range(batch)]
        inputs = [
            {"name": name, "datatype": "BYTES" if isinstance(value, str) else "FP64", "shape": [batch]}
            | {"data": [row[name] for row in part]}
            for name, value in part[0].items()
        ]
        bodies.append(json.dumps({"inputs": inputs}, separators=(",", ":")))
    return Target(f"{TITLES.get(model, model.name)}, V2", url, f"/v2/models/{model.name}/infer", bodies, batch)


def ready(up: Supervisor) -> str:
    """The gateway's URL, once it serves."""
    url = up.urls()["gateway"]
    wait_for(f"{url}/ready")
    return url


def log_of(url: str) -> dict[str, Any]:
    """What the gateway's prediction log says."""
    with urllib.request.urlopen(f"{url}/health", timeout=30) as answer:  # noqa: S310  our own server
        log: dict[str, Any] = json.load(answer)["prediction_log"]
        return log


def settle(url: str, seconds: float) -> dict[str, Any]:
    """Wait until the prediction log has nothing left to send, so that its work falls on nobody else's turn."""
    ends_s = time.monotonic() + seconds
    while ((log := log_of(url))["buffered"] or log["spooled_bytes"]) and time.monotonic() < ends_s:
        time.sleep(0.05)
    return log


def cpu_s(pid: int) -> float:
    """Processor time that a process has taken, its threads together."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) * _TICK_S


def own_bytes(pid: int) -> int:
    """Memory of a process, what it shares with others counted in proportion (PSS)."""
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) * 1_024
    raise RuntimeError(f"process {pid} does not say what memory it takes")


def children_of(pid: int) -> list[int]:
    """Processes that a process has started and that run."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
