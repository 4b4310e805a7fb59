"""A gateway as production runs it, on a thread of its own, for clients that know nothing of our event loop."""

import contextlib
import threading
import time

import httpx
import msgspec

from mainspring.core.run import read_door
from mainspring.serving.gateway import run_gateway


@contextlib.contextmanager
def open_doors(world):
    """Serve a world; gives the addresses of its HTTP and its gRPC door."""
    gateway = msgspec.structs.replace(world.config.gateway, grpc=0)
    config = msgspec.structs.replace(world.config, gateway=gateway)
    stop = threading.Event()
    thread = threading.Thread(target=run_gateway, args=(config, world.project, world.clock, stop))
    thread.start()
    try:
        doors = [wait_for(lambda name=name: read_door(config.run, name)) for name in ("gateway", "gateway_grpc")]
        http, grpc = (door.partition("://")[2] for door in doors)
        wait_for(lambda: httpx.get(f"http://{http}/ready").status_code == 200)
        yield http, grpc
    finally:
        stop.set()
        thread.join()


def wait_for(found, seconds=30):
    """What another thread or process gives, once it is there."""
    until = time.monotonic() + seconds
    while not (value := found()):
        assert time.monotonic() < until
        time.sleep(0.01)
    return value
