"""Two gateways behind HAProxy, as docs/reference/scaling.md says: one dies under load, the service does not."""

import contextlib
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from services import MissingError, free_port, haproxy

from mainspring.core.run import read_door
from mainspring.load.pool import pool
from mainspring.load.rows import synthetic
from mainspring.load.sender import ANSWERED, Job, send
from mainspring.load.shape import arrivals, steady

pytestmark = pytest.mark.processes
RATE, SECONDS, KILL_S = 300.0, 3.0, 1.2
_TURN = threading.Event()


def until(holds, timeout_s=60.0):
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never held"
        _TURN.wait(0.02)


@contextlib.contextmanager
def processes(world, *commands):
    """Processes of the project, killed at the end."""
    argv = [sys.executable, "-m", "mainspring"]
    started = [subprocess.Popen([*argv, *each, "-C", str(world.root)], stderr=subprocess.DEVNULL) for each in commands]
    try:
        yield started
    finally:
        for one in started:
            one.kill()
            one.wait()


def is_ready(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/ready").status_code == 200
    except httpx.TransportError:
        return False


@pytest.fixture
def gateways(world):
    """Three gateways of a project, and its intake: the gateways' ports and processes."""
    world.live()
    ports = free_port(), free_port(), free_port()
    with processes(world, ["intake"], *(["serve", "--port", str(port)] for port in ports)) as (_, *started):
        until(lambda: all(map(is_ready, ports)) and read_door(world.config.run, "intake"))
        yield list(zip(ports, started, strict=True))


@pytest.fixture
def balancer(root):
    """Starts HAProxy as the page configures it, with other ports, and with what is to be said otherwise."""
    page = (root / "docs" / "reference" / "scaling.md").read_text()
    (config,) = re.findall(r"```haproxy\n(.*?)```", page, re.DOTALL)

    @contextlib.contextmanager
    def start(ports, change):
        def settings(own):
            text, wanted = config, dict(change)
            for said, port in zip((7000, 7080, 7081), (own, *ports), strict=True):
                wanted[f"127.0.0.1:{said}"] = f"127.0.0.1:{port}"
            for old, new in wanted.items():
                assert old in text
                text = text.replace(old, new)
            return text

        try:
            with haproxy(settings) as service:
                port = int(service.url.rpartition(":")[2])
                until(lambda: is_ready(port))
                yield port
        except MissingError as error:
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))

    return start


def killed_under_load(world, port, process):
    """Load through the balancer while a gateway is killed: what was sent, and the interval of the kill."""
    source = world.project.sources["ride"]
    rows = synthetic(source, 200, world.clock.now_us(), seed=1)
    requests = pool(source, "/predict/late_ride", f"127.0.0.1:{port}", rows, run=secrets.randbelow(1 << 16))
    times_s, _ = arrivals(steady(RATE, SECONDS), seed=3)
    begins_s = time.monotonic() + 0.2
    with ThreadPoolExecutor(1) as thread:
        sending = thread.submit(send, Job("127.0.0.1", port, False, requests, times_s, begins_s=begins_s))
        until(lambda: time.monotonic() > begins_s + KILL_S)
        before_s = time.monotonic()
        process.send_signal(signal.SIGKILL)
        process.wait()
        after_s = time.monotonic()
        sent = sending.result()
    return sent, begins_s + times_s, (before_s, after_s)


def test_a_gateway_is_killed_and_nothing_fails_but_what_was_in_flight_in_it(world, gateways, balancer):
    first, second, third = gateways
    without_ids = {"retry-on conn-failure empty-response 503": "retry-on conn-failure"}
    for (one, dies), (two, lives), change in ((first, second, without_ids), (second, third, {})):
        with balancer((one, two), change) as port:
            sent, due_s, (before_s, after_s) = killed_under_load(world, port, dies)
        failed = sent.kind != sent.kinds.index(ANSWERED)
        in_flight = (due_s <= after_s) & (due_s + sent.latency_s >= before_s)
        assert not (failed & ~in_flight).any(), [sent.kinds[k] for k in sent.kind[failed & ~in_flight]]
        assert (due_s[~failed] > after_s).sum() > 200  # the other one carries all of it
        assert lives.poll() is None
