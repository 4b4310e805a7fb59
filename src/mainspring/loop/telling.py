"""What the running worker tells at its door, for commands that must not load what it has loaded."""

from __future__ import annotations

import http.client
from typing import Any
from urllib.parse import urlsplit

import msgspec

from mainspring.core import Config
from mainspring.core.run import read_door

DOOR = "worker"
TIMEOUT_S = 2.0


def ask_worker(config: Config, path: str) -> dict[str, Any] | None:
    """The JSON that the worker answers ``GET path`` with; None when none runs, or it is still folding what came before.

    Args:
        config: The project's settings.
        path: ``/health`` or ``/features``.
    """
    url = read_door(config.run, DOOR)
    if url is None:
        return None
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "127.0.0.1", parts.port, timeout=TIMEOUT_S)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        body = answer.read()
        return msgspec.json.decode(body, type=dict[str, Any]) if answer.status == http.client.OK else None
    except OSError:  # it has just gone
        return None
    finally:
        connection.close()
