"""What loads a server: wrk, or a slower sender of our own where it is missing. Run alone, it says which.

32 connections, each of which waits for its answer before it asks again (a closed loop).
"""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness import quantile

CONNECTIONS = 32
JSON = "Content-Type: application/json\r\n"

LUA = """
local bodies, n, rows, path, prefix = {}, 0, 1, "/", ""
function init(args)
  path, prefix, rows = args[1], args[2], tonumber(args[3])
  for line in io.lines(args[4]) do bodies[#bodies + 1] = line end
end
wrk.headers["Content-Type"] = "application/json"
local function row() n = n + 1; return '{"order_id":"' .. prefix .. n .. '",' .. bodies[n % #bodies + 1] end
function request()
  if rows == 1 then return wrk.format("POST", path, nil, row()) end
  local list = {}
  for i = 1, rows do list[i] = row() end
  return wrk.format("POST", path, nil, "[" .. table.concat(list, ",") .. "]")
end
function done(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout + e.status
  local p50, p99 = latency:percentile(50) / 1e3, latency:percentile(99) / 1e3
  io.write(string.format("RESULT %f %f %f %d\\n", summary.requests / summary.duration * 1e6, p50, p99, failed))
end
"""


@dataclass(frozen=True)
class Target:
    """A server's door. ``rows`` in each request."""

    name: str
    url: str
    path: str
    rows: int = 1


@dataclass(frozen=True)
class Load:
    """One run's requests a second, quantiles of latency, and answers that were none."""

    per_s: float
    p50_ms: float
    p99_ms: float
    errors: int


class Sender:
    """Sends requests whose ``order_id`` never repeats.

    Args:
        folder: For the script and the bodies.
        rows: What the requests say besides, in turns.
    """

    def __init__(self, folder: Path, rows: Sequence[Mapping[str, object]]) -> None:
        self.wrk = shutil.which("wrk")
        self._script, self._bodies = folder / "load.lua", folder / "bodies.txt"
        self._runs = 0
        self._rows = [json.dumps(row, separators=(",", ":"))[1:] for row in rows]
        self._script.write_text(LUA)
        self._bodies.write_text("\n".join(self._rows) + "\n")

    def load(self, target: Target, seconds: float) -> Load:
        """Keep 32 connections busy for a while."""
        self._runs += 1
        prefix = f"r{os.getpid()}_{self._runs}_"
        if self.wrk is None:
            return asyncio.run(self._send(target, prefix, seconds))
        argv = [
            self.wrk,
            "-t1",
            f"-c{CONNECTIONS}",
            f"-d{max(1, round(seconds))}s",
            "-s",
            str(self._script),
            target.url,
        ]
        argv += ["--", target.path, prefix, str(target.rows), str(self._bodies)]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        found = next(line.split()[1:] for line in said.splitlines() if line.startswith("RESULT "))
        return Load(float(found[0]), float(found[1]), float(found[2]), int(found[3]))

    async def _send(self, target: Target, prefix: str, seconds: float) -> Load:
        """Without wrk: slower than what it loads, but honest about what it waits for."""
        parts, taken = urlsplit(target.url), list[float]()
        sent = errors = 0
        ends_s = time.perf_counter() + seconds

        def row() -> str:
            nonlocal sent
            sent += 1
            return f'{{"order_id":"{prefix}{sent}",{self._rows[sent % len(self._rows)]}'

        async def client() -> None:
            nonlocal errors
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            while time.perf_counter() < ends_s:
                body = (row() if target.rows == 1 else "[" + ",".join(row() for _ in range(target.rows)) + "]").encode()
                started_s = time.perf_counter()
                head = f"POST {target.path} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {len(body)}\r\n\r\n"
                writer.write(head.encode() + body)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                errors += b" 200 " not in answer.partition(b"\r\n")[0]
                taken.append(time.perf_counter() - started_s)
            writer.close()

        started_s = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
        per_s = len(taken) / (time.perf_counter() - started_s)
        return Load(per_s, quantile(taken, 0.5) * 1e3, quantile(taken, 0.99) * 1e3, errors)


def generator() -> str:
    """Which sender it is, and what to do about it."""
    return shutil.which("wrk") or "a slower sender of our own: wrk is MISSING (apt-get install wrk)"


if __name__ == "__main__":
    print(f"load generator: {generator()}", file=sys.stderr)
