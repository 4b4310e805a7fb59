import asyncio
import contextlib
import json
import socket
import subprocess
import sys

import pytest
from raw_http import answer, cl, client

from mainspring.core.descriptors import unread_bytes

DOOR = """
import asyncio, json, logging, resource, sys
from mainspring.core.http import Access, Limits, Response, serve

async def main(soft, hard, doors):
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    limits = Limits(max_body_bytes=1_000)
    servers = [await serve(lambda _: Response(200, b"{}"), Access(), 0, limits) for _ in range(doors)]
    left = resource.getrlimit(resource.RLIMIT_NOFILE)
    print(json.dumps({"port": servers[0].port, "left": left, "most": servers[0].limits.max_connections}), flush=True)
    await asyncio.to_thread(sys.stdin.read)

asyncio.run(main(*map(int, sys.argv[1:])))
"""


@contextlib.contextmanager
def door(soft, hard, doors=1):
    """A process that listens, with so many files that it may open."""
    argv = [sys.executable, "-c", DOOR, str(soft), str(hard), str(doors)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        line = process.stdout.readline()
        try:
            yield process, json.loads(line)
        finally:
            process.stdin.close()


@pytest.mark.parametrize(("soft", "hard", "left", "most"), [(256, 1_800, 1_800, 1_024), (1_024, 1_024, 1_024, 512)])
def test_a_door_raises_the_limit_of_open_files_as_far_as_it_may(soft, hard, left, most):
    with door(soft, hard) as (_, told):
        assert told["left"] == [left, hard]
        assert told["most"] == most


def test_where_too_few_files_can_be_opened_the_log_says_so_once():
    with door(64, 128, doors=3) as (process, _):
        process.stdin.close()
        said = process.stderr.read()
    assert said.count("a door takes 64 connections instead of 1024") == 1
    assert said.count("\n") == 1


def test_where_too_few_files_can_be_opened_clients_hear_that_there_is_no_room():
    async def story(port, most):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(most):
                reader, writer = await stack.enter_async_context(client(port))
                writer.write(cl(b"abc") + cl(b"abc")[:-1])  # the next one is under way
                assert (await answer(reader))[0] == 200
            reader, _ = await stack.enter_async_context(client(port))
            status, headers, body = await answer(reader)
            assert (status, headers["retry-after"], json.loads(body)["code"]) == (503, "1", "MS-S007")

    with door(64, 128) as (_, told):
        asyncio.run(asyncio.wait_for(story(told["port"], told["most"]), 60))


def test_what_nobody_has_read_of_a_socket_is_counted():
    here, there = socket.socketpair()
    with here, there:
        assert unread_bytes(here.fileno()) == 0
        there.sendall(b"x" * 300)
        assert unread_bytes(here.fileno()) == 300
        assert here.recv(200) == b"x" * 200
        assert unread_bytes(here.fileno()) == 100
