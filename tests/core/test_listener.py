import asyncio
import contextlib
import errno
import socket

import pytest
import uvloop

from mainspring.core.listener import Listener

CLIENTS = 60
TURNS = 20
"""Of the event loop, within which all clients are to be in; one a turn would not be enough."""


class Door:
    """A listener, and who has come through it."""

    def __init__(self):
        self.inside = set()
        self.listener = Listener(self._protocol)

    def _protocol(self):
        inside = self.inside

        class Guest(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport
                inside.add(self)

            def data_received(self, data):
                self.transport.write(data)

            def connection_lost(self, _exc):
                inside.discard(self)

        return Guest()

    async def are_inside(self, clients, turns):
        for _ in range(turns):
            if len(self.inside) == clients:
                return True
            await asyncio.sleep(0)
        return False


def run(story):
    async def main():
        door = Door()
        try:
            await asyncio.wait_for(story(door), 20)
        finally:
            door.listener.close()

    uvloop.run(main())


@contextlib.contextmanager
def clients(port, number):
    """Connections as the kernel makes them, before anybody accepts."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=10)) for _ in range(number)]


def test_all_that_come_while_the_loop_is_busy_are_let_in_together():
    async def story(door):
        port = await door.listener.listen("127.0.0.1", 0)
        with clients(port, CLIENTS):
            assert await door.are_inside(CLIENTS, TURNS)

    run(story)


def test_who_was_let_in_is_heard_and_who_goes_is_forgotten():
    async def story(door):
        port = await door.listener.listen("127.0.0.1", 0)
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        door.listener.close()
        writer.write(b"again")
        assert await reader.readexactly(5) == b"again"  # it only stops listening
        writer.close()
        while door.inside:
            await asyncio.sleep(0.001)
        with pytest.raises(OSError, match="Connect"):
            await asyncio.open_connection("127.0.0.1", port)

    run(story)


def test_without_a_file_left_clients_wait_and_are_let_in_later_and_the_log_says_so_once(monkeypatch, caplog):
    real = socket.socket.accept
    refused = []
    monkeypatch.setattr("mainspring.core.listener._PAUSE_S", 0.001)
    monkeypatch.setattr("mainspring.core.listener._TELL_EVERY_S", 3_600.0)

    def full(listener):
        if len(refused) < 5:
            refused.append(listener)
            raise OSError(errno.EMFILE, "Too many open files")
        return real(listener)

    async def story(door):
        port = await door.listener.listen("127.0.0.1", 0)
        monkeypatch.setattr(socket.socket, "accept", full)
        with clients(port, 3):
            while len(door.inside) < 3:
                await asyncio.sleep(0.001)
        assert len(refused) == 5
        assert caplog.text.count("no connection can be accepted") == 1

    run(story)


def test_no_host_is_all_of_this_machine():
    async def story(door):
        port = await door.listener.listen("", 0)
        with clients(port, 2):
            assert await door.are_inside(2, TURNS)

    run(story)


def test_a_port_that_is_taken_leaves_nothing_open():
    async def story(door):
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = other.getsockname()[1]
            with pytest.raises(OSError, match="in use"):
                await door.listener.listen("127.0.0.1", port)
        assert await door.listener.listen("127.0.0.1", port) == port

    run(story)
