"""Clients that leave at any moment, send slowly or too much; and a neighbour that must not notice."""

import asyncio
import contextlib
import json
import random
import socket
import struct
from collections import Counter


def _head(path, length, *lines):
    return "\r\n".join(
        [f"POST {path} HTTP/1.1", "Host: localhost", *lines, f"Content-Length: {length}", "", ""]
    ).encode()


class Crowd:
    """Rude clients of one path of a server.

    Args:
        port: Of the server, on 127.0.0.1.
        path: Where good requests go.
        body: Gives a good request as bytes.
        large: A good request whose answer is long, as bytes.
        seed: Of what they do.

    Attributes:
        done: How often each thing was done.
        odd: Answers that should have been others.
    """

    def __init__(self, port, path, body, large, seed):
        self._port, self._path, self._body, self._large = port, path, body, large
        self._dice = random.Random(seed)
        self.done = Counter()
        self.odd = []

    async def run(self, clients, at_once=20):
        """So many of them, a few at once."""
        left = iter(range(clients))

        async def one_after_another():
            for _ in left:
                await self._one()

        await asyncio.gather(*(one_after_another() for _ in range(at_once)))

    async def _one(self):
        way = self._dice.choice(
            [self._in_the_request, self._in_the_answer, self._pipelined, self._slow, self._too_large, self._half]
        )
        self.done[way.__name__.strip("_")] += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                await way(reader, writer)
            finally:
                if self._dice.random() < 0.7:  # a close that lingers for nothing is a reset
                    reset = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
                    writer.transport.abort()
                else:
                    writer.close()
                    with contextlib.suppress(ConnectionError):
                        await writer.wait_closed()

    def _whole(self, body):
        return _head(self._path, len(body)) + body

    async def _in_the_request(self, reader, writer):
        raw = self._whole(self._body())
        writer.write(raw[: self._dice.randrange(len(raw) + 1)])
        await self._a_moment()

    async def _in_the_answer(self, reader, writer):
        writer.write(self._whole(self._large()))
        await reader.readexactly(self._dice.randrange(1, 200))

    async def _pipelined(self, reader, writer):
        writer.write(b"".join(self._whole(self._body()) for _ in range(self._dice.randrange(1, 30))))
        await self._a_moment()

    async def _slow(self, reader, writer):
        raw = self._whole(self._body())
        for at in range(self._dice.randrange(40)):
            writer.write(raw[at : at + 1])
            await asyncio.sleep(0)

    async def _too_large(self, reader, writer):
        if self._dice.random() < 0.5:
            writer.write(_head(self._path, 1 << 40) + b"x" * self._dice.randrange(100_000))
        else:
            writer.write(b"POST / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * self._dice.randrange(20_000, 100_000))
        status = (await reader.readuntil(b"\r\n")).split()[1]
        if status not in (b"413", b"431"):
            self.odd.append(status)

    async def _half(self, reader, writer):
        """Says that it will send no more, and must be answered all the same."""
        writer.write(self._whole(self._body()))
        writer.write_eof()
        status = (await reader.readuntil(b"\r\n")).split()[1]
        if status != b"200":
            self.odd.append(status)

    async def _a_moment(self):
        for _ in range(self._dice.randrange(4)):
            await asyncio.sleep(0)


async def neighbour(port, path, body, expected, stop):
    """Ask one after the other until told to stop; the number of answers, and those that were not as expected."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answers, wrong = 0, []
    while not stop.is_set():
        raw = body()
        writer.write(_head(path, len(raw)) + raw)
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)).lower()
        got = await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        answers += 1
        if b" 200 " not in head.partition(b"\r\n")[0] or json.loads(got)["prediction"] != expected:
            wrong.append(got)
    writer.close()
    return answers, wrong
