"""Other servers of the same graph, each in an environment of its own. Run alone, it says which are installed.

What each is asked: to score rows of 30 floats by the graph of a model without features. None of them reads features,
checks what it is told beyond types, or logs what it answers. Batching is on where a server has it.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import ROOT

from load import ID, Target

HERE = ROOT / "bench/peers/serving"
ENVIRONMENTS = ROOT / ".venv/peers"
START_S = 120.0

Row = Mapping[str, Any]


@dataclass(frozen=True)
class Peer:
    """One kind of server.

    Attributes:
        name: Of its environment.
        title: Of its rows.
        argv: Command, from its port, how many workers, and a folder of its own in which it runs.
        path: Where one row is posted to; ``batch_path`` where many are.
        body: What is posted.
        ready: A path that answers 200 once it serves.
        workers: How many processes, each a contender.
    """

    name: str
    title: str
    argv: Callable[[int, int, Path], list[str]]
    path: str
    body: Callable[[Sequence[Row]], Any]
    ready: str
    workers: Sequence[int] = (1,)
    batch_path: str = ""

    @property
    def is_installed(self) -> bool:
        """Whether its environment is there."""
        return (ENVIRONMENTS / self.name / ".installed").exists()

    def why_not(self) -> str:
        """What its installation said last."""
        found = ENVIRONMENTS / f"{self.name}.error"
        said = found.read_text().strip().splitlines() if found.exists() else []
        return said[-1] if said else "bench/peers/serving/install.sh has not been run"


def _python(name: str) -> str:
    return str(ENVIRONMENTS / name / "bin/python")


def _script(name: str, script: str) -> list[str]:
    return [_python(name), str(ENVIRONMENTS / name / "bin" / script)]


def _fastapi(port: int, workers: int, _folder: Path) -> list[str]:
    argv = [_python("fastapi"), "-m", "uvicorn", "fastapi_app:app", "--app-dir", str(HERE), "--port", str(port)]
    argv += ["--no-access-log", "--log-level", "warning", "--loop", "uvloop", "--http", "httptools"]
    return [*argv, "--workers", str(workers)]


def _mlserver(port: int, _workers: int, folder: Path) -> list[str]:
    model = {"name": "graph", "implementation": "mlserver_model.Graph", "max_batch_size": 32, "max_batch_time": 0.001}
    ports = {"http_port": port, "grpc_port": free_port(), "metrics_port": free_port()}
    settings = {"host": "127.0.0.1", "debug": False, "parallel_workers": 0} | ports
    (folder / "model-settings.json").write_text(json.dumps(model))
    (folder / "settings.json").write_text(json.dumps(settings))
    shutil.copy(HERE / "mlserver_model.py", folder)
    return [*_script("mlserver", "mlserver"), "start", "."]


def _bentoml(port: int, _workers: int, folder: Path) -> list[str]:
    shutil.copy(HERE / "bentoml_service.py", folder)
    serve = ["serve", "bentoml_service:Graph", "--host", "127.0.0.1", "--port", str(port)]
    return [*_script("bentoml", "bentoml"), *serve]


def _litserve(port: int, _workers: int, _folder: Path) -> list[str]:
    return [_python("litserve"), str(HERE / "litserve_server.py"), str(port)]


def _mlflow(port: int, workers: int, _folder: Path) -> list[str]:
    serve = ["models", "serve", "-m", "model", "--env-manager", "local", "-h", "127.0.0.1", "-p", str(port)]
    return [_python("mlflow"), str(HERE / "mlflow_model.py"), "model", *serve, "-w", str(workers)]


def _numbers(rows: Sequence[Row]) -> list[list[float]]:
    return [[x for name, x in row.items() if name.startswith("f")] for row in rows]


def _orders(rows: Sequence[Row]) -> Any:
    named = [{"order_id": ID} | dict(row) for row in rows]
    return named[0] if len(named) == 1 else named


def _v2(rows: Sequence[Row]) -> Any:
    numbers = _numbers(rows)
    data = [x for row in numbers for x in row]
    shape = [len(rows), len(data) // len(rows)]
    return {"inputs": [{"name": "numbers", "shape": shape, "datatype": "FP32", "data": data}]}


def _matrix(rows: Sequence[Row]) -> Any:
    return {"numbers": _numbers(rows)}


def _tensors(rows: Sequence[Row]) -> Any:
    return {"inputs": _matrix(rows)}


PEERS = (
    Peer("fastapi", "FastAPI + ONNX Runtime", _fastapi, "/predict", _orders, "/openapi.json", (1, 2), "/batch"),
    Peer("mlserver", "MLServer", _mlserver, "/v2/models/graph/infer", _v2, "/v2/models/graph/ready"),
    Peer("bentoml", "BentoML", _bentoml, "/predict", _matrix, "/readyz", (1, 2)),
    Peer("litserve", "LitServe", _litserve, "/predict", _matrix, "/health", (1, 2)),
    Peer("mlflow", "mlflow serve", _mlflow, "/invocations", _tensors, "/ping"),
)


@dataclass(frozen=True, eq=False)
class Running:
    """One contender that serves; asleep (SIGSTOP) while it is not its turn, for some of them poll all the time."""

    peer: Peer
    workers: int
    url: str
    process: subprocess.Popen[bytes]
    log: Path

    @property
    def title(self) -> str:
        """Of its rows."""
        of = f"{self.workers} worker{'s' if self.workers > 1 else ''}"
        return f"{self.peer.title}, {of}" if len(self.peer.workers) > 1 else self.peer.title

    def target(self, rows: Sequence[Row], batch: int = 1) -> Target:
        """What is posted to it: every row in a request of its own, or ``batch`` of them."""
        parts = [[rows[(first + i) % len(rows)] for i in range(batch)] for first in range(0, len(rows), batch)]
        path = self.peer.batch_path if batch > 1 and self.peer.batch_path else self.peer.path
        bodies = [json.dumps(self.peer.body(part), separators=(",", ":")) for part in parts]
        return Target(self.title, self.url, path, bodies, batch)

    def sleep(self) -> None:
        """Take no processor."""
        os.killpg(self.process.pid, signal.SIGSTOP)

    def wake(self) -> None:
        """Serve again."""
        os.killpg(self.process.pid, signal.SIGCONT)
        wait_for(self.url + self.peer.ready)

    def stop(self) -> None:
        """End it and all that it started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGCONT)
            os.killpg(self.process.pid, signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@contextlib.contextmanager
def running(root: Path, graph: Path, peers: Sequence[Peer]) -> Iterator[tuple[list[Running], dict[str, str]]]:
    """All contenders of installed peers, asleep; and why others are not among them."""
    with contextlib.ExitStack() as stack:
        up: list[Running] = []
        missing = {peer.title: peer.why_not() for peer in peers if not peer.is_installed}
        started: list[Running] = []
        for peer in peers:
            for workers in peer.workers if peer.is_installed else ():
                started.append(_start(peer, workers, root / f"{peer.name}_{workers}", graph))
                stack.callback(started[-1].stop)
        for one in started:
            try:
                wait_for(one.url + one.peer.ready, START_S, one.process)
            except (TimeoutError, ChildProcessError) as error:
                said = one.log.read_text(errors="replace").strip().splitlines()
                missing[one.title] = f"{error}; {said[-1] if said else ''}"
            else:
                one.sleep()
                up.append(one)
        yield up, missing


def _start(peer: Peer, workers: int, folder: Path, graph: Path) -> Running:
    folder.mkdir(parents=True)
    port, log = free_port(), folder / "log.txt"
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    env |= {"GRAPH": str(graph), "WORKERS": str(workers), "BENTOML_HOME": str(folder), "BENTOML_DO_NOT_TRACK": "1"}
    env["PATH"] = f"{ENVIRONMENTS / peer.name / 'bin'}:{env.get('PATH', '')}"
    with log.open("wb") as out:
        argv = peer.argv(port, workers, folder)
        process = subprocess.Popen(argv, cwd=folder, env=env, stdout=out, stderr=out, start_new_session=True)
    return Running(peer, workers, f"http://127.0.0.1:{port}", process, log)


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def wait_for(url: str, seconds: float = 60.0, process: subprocess.Popen[bytes] | None = None) -> None:
    """Until ``url`` answers 200.

    Raises:
        TimeoutError: It has not in time.
        ChildProcessError: The process that should answer has ended.
    """
    ends_s = time.monotonic() + seconds
    while True:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310  our own servers
            return
        if process is not None and process.poll() is not None:
            raise ChildProcessError(f"it ended with {process.returncode}")
        if time.monotonic() > ends_s:
            raise TimeoutError(f"{url} does not answer")
        time.sleep(0.05)


if __name__ == "__main__":
    for peer in PEERS:
        print(f"{peer.title}: {'installed' if peer.is_installed else 'MISSING: ' + peer.why_not()}", file=sys.stderr)
