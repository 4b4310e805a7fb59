"""Decisions are written once, and whoever cannot write them says so."""

import subprocess
import sys
import threading
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from mainspring.core import UnavailableError
from mainspring.core.run import internal_token
from mainspring.definitions.values import Project
from mainspring.events.log import Log
from mainspring.loop.desk import open_desk
from mainspring.loop.ledger import reload_gateways

_JOIN = "import sys; from pathlib import Path; from mainspring.core.run import join_door\n"
_JOIN += "join_door(Path(sys.argv[1]), 'gateway', sys.argv[2]); print(flush=True); sys.stdin.read()"


def test_a_command_does_not_wait_for_ever_for_a_log_that_somebody_else_writes(config, monkeypatch):
    monkeypatch.setattr("mainspring.loop.ledger.PATIENCE_S", 0.0)
    nothing = Project({}, {}, {})
    with (
        Log.open(config.log_path, config.limits.log_map_bytes, writable=True),
        open_desk(config, nothing) as desk,
        pytest.raises(UnavailableError, match="the event log is in use"),
    ):
        desk.ledger.decide("ingest", "one", 1)
    with open_desk(config, nothing) as desk:
        desk.ledger.decide("ingest", "one", 1)
        assert desk.catalog.knows("one")


@contextmanager
def a_gateway(run, heard):
    """What a gateway is to those who tell it of routes: a process with a door, where it is asked to reload."""

    class Door(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append((self.server.server_port, self.path, self.headers["Authorization"]))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Door)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    argv = [sys.executable, "-c", _JOIN, run, f"http://127.0.0.1:{server.server_port}"]
    child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert child.stdout.readline() == b"\n"
        yield server.server_port
    finally:
        child.kill()
        child.communicate()
        server.shutdown()
        thread.join()
        server.server_close()


def test_every_gateway_of_a_project_is_told_of_new_routes_and_one_that_is_away_keeps_none_from_it(config):
    heard = []
    with ExitStack() as stack:
        away = [sys.executable, "-c", _JOIN, config.run, "http://127.0.0.1:1"]  # nobody answers there
        child = stack.enter_context(subprocess.Popen(away, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
        stack.callback(child.kill)
        assert child.stdout.readline() == b"\n"
        ports = [stack.enter_context(a_gateway(config.run, heard)) for _ in range(2)]
        reload_gateways(config)
        assert heard == [(port, "/internal/reload", f"Bearer {internal_token(config.run)}") for port in ports]
