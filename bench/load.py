"""What loads a server: wrk, or a slower sender of our own where it is missing. Run alone, it says which.

So many connections (32 unless said otherwise), each of which waits for its answer before it asks again (a closed loop):
what it finds is how much a server does at most, and how long an answer takes then. Latency at a given rate is
`mainspring load`'s to tell.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from harness import quantile

CONNECTIONS = 32
JSON = "Content-Type: application/json\r\n"
ID = "<id>"
"""Stands in a body for what no other request has."""

LUA = """
local bodies, n, turn, path, prefix = {}, 0, 0, "/", ""
function init(args)
  path, prefix = args[1], args[2]
  for line in io.lines(args[3]) do
    local pieces, from = {}, 1
    while true do
      local at = line:find("<id>", from, true)
      if not at then break end
      pieces[#pieces + 1] = line:sub(from, at - 1)
      from = at + 4
    end
    pieces[#pieces + 1] = line:sub(from)
    bodies[#bodies + 1] = pieces
  end
end
wrk.headers["Content-Type"] = "application/json"
function request()
  turn = turn + 1
  local pieces = bodies[turn % #bodies + 1]
  if #pieces == 1 then return wrk.format("POST", path, nil, pieces[1]) end
  if #pieces == 2 then
    n = n + 1
    return wrk.format("POST", path, nil, pieces[1] .. prefix .. n .. pieces[2])
  end
  local out = {pieces[1]}
  for i = 2, #pieces do
    n = n + 1
    out[#out + 1] = prefix .. n
    out[#out + 1] = pieces[i]
  end
  return wrk.format("POST", path, nil, table.concat(out))
end
function done(summary, latency, requests)
  local e = summary.errors
  local failed = e.connect + e.read + e.write + e.timeout + e.status
  local function ms(share) return latency:percentile(share) / 1e3 end
  io.write(string.format("RESULT %f %f %f %f %d %d\\n",
    summary.requests / summary.duration * 1e6, ms(50), ms(99), ms(99.9), summary.requests, failed))
end
"""


@dataclass(frozen=True)
class Target:
    """A server's door, and what is posted to it.

    Attributes:
        bodies: Sent in turns, each a line; ``<id>`` within is replaced by a text of its own every time.
        rows: In each body.
    """

    name: str
    url: str
    path: str
    bodies: Sequence[str]
    rows: int = 1


@dataclass(frozen=True)
class Load:
    """One run: requests a second, quantiles of latency, and how many were answered by something else than 200."""

    per_s: float
    p50_ms: float
    p99_ms: float
    p999_ms: float
    sent: int
    errors: int


class Sender:
    """Keeps connections busy.

    Args:
        folder: For the script and the bodies.
        connections: How many.
    """

    def __init__(self, folder: Path, connections: int = CONNECTIONS) -> None:
        self.wrk = shutil.which("wrk")
        self.connections = connections
        self._folder = folder
        self._script = folder / "load.lua"
        self._runs = 0
        self._script.write_text(LUA)

    def load(self, target: Target, seconds: float) -> Load:
        """Ask ``target`` for whole seconds, at least one."""
        self._runs += 1
        prefix = f"r{os.getpid()}_{self._runs}_"
        if self.wrk is None:
            return asyncio.run(self._send(target, prefix, seconds))
        bodies = self._folder / "bodies.txt"
        bodies.write_text("\n".join(target.bodies) + "\n")
        argv = [self.wrk, "-t1", f"-c{self.connections}", f"-d{max(1, round(seconds))}s", "--timeout", "10s"]
        argv += ["-s", str(self._script), target.url, "--", target.path, prefix, str(bodies)]
        said = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
        found = next(line.split()[1:] for line in said.splitlines() if line.startswith("RESULT "))
        return Load(*(float(x) for x in found[:4]), *(int(x) for x in found[4:]))

    async def _send(self, target: Target, prefix: str, seconds: float) -> Load:
        """Without wrk: slower than what it loads, but honest about what it waits for."""
        parts, taken = urlsplit(target.url), list[float]()
        pieces = [body.split(ID) for body in target.bodies]
        turn = ids = errors = 0
        ends_s = time.perf_counter() + seconds

        def body() -> str:
            nonlocal turn, ids
            turn += 1
            first, *others = pieces[turn % len(pieces)]
            out = [first]
            for piece in others:
                ids += 1
                out += (f"{prefix}{ids}", piece)
            return "".join(out)

        async def client() -> None:
            nonlocal errors
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            while time.perf_counter() < ends_s:
                whole = body().encode()
                started_s = time.perf_counter()
                head = f"POST {target.path} HTTP/1.1\r\nHost: localhost\r\n{JSON}Content-Length: {len(whole)}\r\n\r\n"
                writer.write(head.encode() + whole)
                answer = (await reader.readuntil(b"\r\n\r\n")).lower()
                await reader.readexactly(int(answer.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
                errors += b" 200 " not in answer.partition(b"\r\n")[0]
                taken.append(time.perf_counter() - started_s)
            writer.close()

        started_s = time.perf_counter()
        await asyncio.gather(*(client() for _ in range(self.connections)))
        per_s = len(taken) / (time.perf_counter() - started_s)
        p50, p99, p999 = (quantile(taken, q) * 1e3 for q in (0.5, 0.99, 0.999))
        return Load(per_s, p50, p99, p999, len(taken), errors)


def generator() -> str:
    """Which sender it is, and what to do about it."""
    return shutil.which("wrk") or "a slower sender of our own: wrk is MISSING (tools/services.sh bench)"


if __name__ == "__main__":
    print(f"load generator: {generator()}", file=sys.stderr)
