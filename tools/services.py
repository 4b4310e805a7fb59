"""Start PostgreSQL, Mosquitto or HAProxy on a free port, in a folder of its own, as a user without rights; stop it.

For the tests. By hand: ``python tools/services.py`` starts the first two, prints their URLs and stops them at Ctrl-C.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

_START_S = 60.0
_STOP_S = 20.0
_POSTGRES = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
wal_level = logical
max_wal_senders = 10
max_replication_slots = 20
max_connections = 40
shared_buffers = 16MB
fsync = off
full_page_writes = off
autovacuum = off
"""
_MOSQUITTO = """
listener {port} 127.0.0.1
allow_anonymous true
persistence true
persistence_location {folder}/
max_queued_messages 100000
log_dest stdout
"""


class MissingError(RuntimeError):
    """A server that is not installed here."""


@dataclass
class Service:
    """A server that was started; it may be killed and started again on its port, with what it has stored."""

    name: str
    url: str
    argv: list[str]
    folder: Path
    answers: Callable[[], bool]
    stop_signal: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = field(default=None)

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = _launch(self.argv, log)
        deadline = time.monotonic() + _START_S
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                said = (self.folder / "log").read_text(errors="replace")[-2_000:]
                raise RuntimeError(f"{self.name} does not start:\n{said}")
            time.sleep(0.02)

    def stop(self, how: int | None = None) -> None:
        """Stop it and wait until it is gone."""
        if self.process is None:
            return
        self.process.send_signal(self.stop_signal if how is None else how)
        try:
            self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process = None


@contextmanager
def postgres() -> Iterator[Service]:
    """A PostgreSQL server with logical decoding; its user ``mainspring`` may do everything, the password is ``ms-pw``.

    Raises:
        MissingError: It is not installed.
    """
    initdb = installed("initdb", "postgresql")
    with _folder("postgres") as folder:
        data, secret = folder / "data", folder / "password"
        secret.write_text("ms-pw\n", encoding="ascii")
        _own(secret)
        options = [
            "--username=mainspring",
            f"--pwfile={secret}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--no-sync",
        ]
        made = _launch([initdb, f"--pgdata={data}", "--locale=C.UTF-8", *options], subprocess.PIPE)
        said, _ = made.communicate(timeout=_START_S)
        if made.returncode:
            raise RuntimeError(f"initdb failed:\n{said.decode(errors='replace')}")
        port = free_port()
        with (data / "postgresql.conf").open("a", encoding="utf-8") as settings:
            settings.write(f"{_POSTGRES}port = {port}\n")
        url = f"postgresql://mainspring:ms-pw@127.0.0.1:{port}/postgres"
        server = str(Path(initdb).with_name("postgres"))
        ready = [str(Path(initdb).with_name("pg_isready")), "--quiet", "--host=127.0.0.1", f"--port={port}"]
        service = Service("PostgreSQL", url, [server, "-D", str(data)], folder, lambda: _runs(ready), signal.SIGINT)
        yield from _run(service)


@contextmanager
def mosquitto() -> Iterator[Service]:
    """An MQTT broker that keeps its sessions on the disk.

    Raises:
        MissingError: It is not installed.
    """
    path = installed("mosquitto", "mosquitto")
    with _folder("mosquitto") as folder:
        port = free_port()
        settings = folder / "mosquitto.conf"
        settings.write_text(_MOSQUITTO.format(port=port, folder=folder), encoding="utf-8")
        _own(settings)
        url = f"mqtt://127.0.0.1:{port}"
        yield from _run(Service("Mosquitto", url, [path, "-c", str(settings)], folder, lambda: _listens(port)))


@contextmanager
def haproxy(settings: Callable[[int], str]) -> Iterator[Service]:
    """A load balancer.

    Args:
        settings: Gives its configuration for the port that it listens on.

    Raises:
        MissingError: It is not installed.
    """
    path = installed("haproxy", "haproxy")
    with _folder("haproxy") as folder:
        port = free_port()
        file = folder / "haproxy.cfg"
        file.write_text(settings(port), encoding="utf-8")
        _own(file)
        url = f"http://127.0.0.1:{port}"
        yield from _run(Service("HAProxy", url, [path, "-db", "-f", str(file)], folder, lambda: _listens(port)))


@contextmanager
def redis(folder: Path) -> Iterator[Service]:
    """A Redis server whose every write is on the disk of ``folder`` before it is answered.

    Raises:
        MissingError: It is not installed.
    """
    # One program of many names: it is what it is called.
    path = str(Path(installed("redis-server", "redis-server")).with_name("redis-server"))
    folder.mkdir()
    _own(folder)
    port = free_port()
    argv = [
        path,
        "--port",
        str(port),
        "--bind",
        "127.0.0.1",
        "--dir",
        str(folder),
        "--save",
        "",
        "--appendonly",
        "yes",
    ]
    argv += ["--appendfsync", "always"]
    yield from _run(Service("Redis", f"redis://127.0.0.1:{port}", argv, folder, lambda: _listens(port)))


def _run(service: Service) -> Iterator[Service]:
    service.start()
    try:
        yield service
    finally:
        service.stop()


def installed(name: str, package: str) -> str:
    """Path of a server's program.

    Raises:
        MissingError: It is not there.
    """
    places = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin") or (places and str(places[-1]))
    if not found:
        raise MissingError(f"{package} is not installed here: bash tools/services.sh says how")
    return str(Path(found).resolve())


@contextmanager
def _folder(name: str) -> Iterator[Path]:
    """A folder of the user that the servers run as: PostgreSQL refuses to be root."""
    with tempfile.TemporaryDirectory(prefix=f"mainspring-{name}-") as text:
        _own(Path(text))
        yield Path(text)


def _user() -> str | None:
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    return None


def _own(path: Path) -> None:
    user = _user()
    if user is not None:
        shutil.chown(path, user)


def _launch(argv: list[str], output: object) -> subprocess.Popen[bytes]:
    # A group of its own: Ctrl-C reaches whoever started it, who stops it.
    user, environment = _user(), os.environ | {"LC_ALL": "C.UTF-8"}
    return subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=output,  # type: ignore[call-overload]
        stderr=subprocess.STDOUT,
        start_new_session=True,
        user=user,
        extra_groups=[] if user is not None else None,
        cwd="/",
        env=environment,
    )


def _runs(argv: list[str]) -> bool:
    return subprocess.run(argv, check=False, capture_output=True).returncode == 0


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def main() -> None:
    """Both, until Ctrl-C."""
    with postgres() as database, mosquitto() as broker, contextlib.suppress(KeyboardInterrupt):
        print(database.url, broker.url, sep="\n", flush=True)
        signal.pause()


if __name__ == "__main__":
    main()
