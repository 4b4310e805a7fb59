"""A copy of a project that is started for a test and thrown away: what it is asked is no event of the project.

It has the project's definitions, releases and settings, reads its online store, and writes to a log of its own, on the
same disk. Its gateway does all that the project's would: checks, features, models, the prediction log, an intake that
takes it. The worker is left out: nothing of what was sent is folded.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import sqlite3
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mainspring.core.config import FILE_NAME, Config, load_config
from mainspring.core.errors import UnavailableError
from mainspring.core.run import GRPC_DOOR, exists, read_door
from mainspring.loop.supervisor import Supervisor

READY_S = 60.0
_TURN_S = 0.05
_SQLITE = "sqlite:///"


@contextmanager
def replica(config: Config, *, grpc: bool = False) -> Iterator[str]:
    """A copy's gateway, with its intake; stopped and deleted at the end.

    Args:
        config: Of the project.
        grpc: Give its gRPC door.

    Returns:
        Its URL, once it is ready to predict.

    Raises:
        UnavailableError: It is not ready in time (MS-C106), or has no gRPC door (MS-C118).
    """
    _sweep(config.home)
    folder = Path(tempfile.mkdtemp(prefix=f"load-{os.getpid()}-", dir=config.home))
    try:
        copy(config, folder, grpc=grpc)
        own = load_config(folder)
        with Supervisor(own, ("intake", "gateway"), free_ports=True) as supervisor:
            url = supervisor.urls()["gateway"]
            _await_ready(url, supervisor)
            yield _grpc_door(own) if grpc else url
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _sweep(home: Path) -> None:
    """Delete the copies whose process is no more: one that was killed could not."""
    for folder in home.glob("load-*-*"):
        number = folder.name.split("-")[1]
        if number.isdigit() and not exists(int(number)):
            shutil.rmtree(folder, ignore_errors=True)


def _await_ready(url: str, supervisor: Supervisor) -> None:
    parts = urlsplit(url)
    deadline_s = time.monotonic() + READY_S
    while True:
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=1.0)
        try:
            connection.request("GET", "/ready")
            if connection.getresponse().status == http.client.OK:
                return
        except OSError:
            pass
        finally:
            connection.close()
        if time.monotonic() > deadline_s:
            what = f"the copy's gateway is not ready after {READY_S:g} s"
            raise UnavailableError("MS-C106", what, where=url, why=supervisor.tail("gateway"))
        time.sleep(_TURN_S)


def _grpc_door(config: Config) -> str:
    url = read_door(config.run, GRPC_DOOR)
    if url is None:
        what = "the copy's gateway has no gRPC door"
        raise UnavailableError("MS-C118", what, why="grpcio is not installed", hint="pip install 'mainspring[grpc]'")
    return url


def copy(config: Config, folder: Path, *, grpc: bool = False) -> None:
    """Write what a copy of a project needs into an empty folder."""
    home = folder / config.project.home
    home.mkdir()
    catalog = config.catalog_url
    if catalog.startswith(_SQLITE):
        with (
            closing(sqlite3.connect(f"file:{catalog.removeprefix(_SQLITE)}?mode=ro", uri=True)) as old,
            closing(sqlite3.connect(home / "catalog.db")) as new,
        ):
            old.backup(new)
        catalog = ""
    if config.packages.exists():
        (home / "packages").symlink_to(config.packages.resolve(), target_is_directory=True)
    sections = {
        "project": {
            "name": config.project.name,
            "definitions": str(config.definitions.resolve()),
            "home": config.project.home,
        },
        "urls": {"online": f"lmdb:{config.state_path.resolve()}", "catalog": catalog, "compute": config.urls.compute},
        "intake": _door(config.intake),
        "gateway": _door(config.gateway) | {"grpc": 0 if grpc else None},
        "limits": msgspec.to_builtins(config.limits),
    }
    (folder / FILE_NAME).write_text("".join(_section(name, values) for name, values in sections.items()))


def _door(door: msgspec.Struct) -> dict[str, Any]:
    """A door as it is declared, but for this machine alone, without keys and TLS."""
    told: dict[str, Any] = msgspec.to_builtins(door)
    return told | {"host": "127.0.0.1", "port": 0, "keys": False}


def _section(name: str, values: dict[str, Any]) -> str:
    lines = [f"{key} = {json.dumps(value)}\n" for key, value in values.items() if value is not None]
    return f"[{name}]\n{''.join(lines)}\n"
