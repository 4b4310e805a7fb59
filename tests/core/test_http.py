import asyncio
import contextlib
import json
import socket
import struct
from dataclasses import replace

import pytest
import uvloop
from raw_http import POST, answer, client

from mainspring.core.connection import Connection
from mainspring.core.errors import BackPressureError, ContractError, RefusedError, UnavailableError
from mainspring.core.http import Access, Deferred, Limits, Response, error_response, json_response, serve

LIMITS = Limits(max_body_bytes=1_000, max_header_bytes=2_000, max_connections=8, idle_s=30, slow_s=30, spare_s=30)
CROWDED = replace(LIMITS, max_connections=4, spare_s=0)


def echo(request):
    return json_response(
        200, {"m": request.method, "p": request.path, "q": request.query, "b": request.body.decode("latin-1")}
    )


def run(story, handler=echo, limits=LIMITS):
    """Serve ``handler`` and tell the story against it, on the loop that production uses."""

    async def main():
        server = await serve(handler, Access(), 0, limits)
        try:
            return await asyncio.wait_for(story(server), 20)
        finally:
            await server.drain(1)

    return uvloop.run(main())


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def ask(server, raw):
    """What the server answers to bytes on a connection of their own, and whether it then closes."""
    async with client(server.port) as (reader, writer):
        writer.write(raw)
        status, _, body = await answer(reader)
        closed = False
        if status >= 400:
            closed = await reader.read() == b""
        return status, json.loads(body), closed


def post(body, *headers, path="/p"):
    lines = [f"POST {path} HTTP/1.1", "Host: localhost", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_request_arrives_whole_and_is_answered():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(post(b'{"a": 1}', path="/events/a%20b?x=1&y=%20"))
            status, headers, body = await answer(reader)
            assert status == 200
            assert headers["content-type"] == "application/json"
            assert "date" in headers
            assert json.loads(body) == {"m": "POST", "p": "/events/a b", "q": "x=1&y=%20", "b": '{"a": 1}'}

    run(story)


def test_a_request_in_pieces_is_the_same_request():
    async def story(server):
        async with client(server.port) as (reader, writer):
            for byte in post(b"abc"):
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert json.loads((await answer(reader))[2])["b"] == "abc"

    run(story)


def test_a_chunked_body_is_joined_and_its_trailers_are_ignored():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(b"POST /p HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n")
            writer.write(b"3\r\nabc\r\n2\r\nde\r\n0\r\nHost: evil\r\n\r\n")
            assert json.loads((await answer(reader))[2])["b"] == "abcde"

    run(story)


def test_pipelined_answers_leave_in_the_order_of_their_requests():
    waiting = {}

    def handler(request):
        if request.path == "/later":
            waiting["slot"] = Deferred()
            return waiting["slot"]
        if request.path == "/task":

            async def task():
                waiting["slot"].answer(Response(200, b"first"))
                return Response(200, b"second")

            return task()
        return Response(200, b"third")

    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(
                b"".join(b"GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n" % p for p in (b"/later", b"/task", b"/"))
            )
            assert [(await answer(reader))[2] for _ in range(3)] == [b"first", b"second", b"third"]

    run(story, handler)


def test_thousands_of_pipelined_requests_are_all_answered_while_reading_is_held_back():
    async def handler(request):
        await asyncio.sleep(0)
        return Response(200, request.path.encode())

    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(b"".join(b"GET /%d HTTP/1.1\r\nHost: localhost\r\n\r\n" % i for i in range(3_000)))
            for i in range(3_000):
                assert (await answer(reader))[2] == b"/%d" % i

    run(story, handler)


def test_a_head_request_gets_the_length_and_no_body():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(b"HEAD /x HTTP/1.1\r\nHost: localhost\r\n\r\nGET /y HTTP/1.1\r\nHost: localhost\r\n\r\n")
            _, headers, _ = await answer(reader, is_head=True)
            assert int(headers["content-length"]) > 0
            assert json.loads((await answer(reader))[2])["p"] == "/y"

    run(story)


def test_a_client_that_waits_for_a_go_ahead_gets_it():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(b"POST /p HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(b"ab")
            assert json.loads((await answer(reader))[2])["b"] == "ab"

    run(story)


def test_a_body_over_the_limit_is_refused_before_it_is_read():
    async def story(server):
        head = POST + b"Content-Length: 1000000000\r\n\r\n"
        status, body, closed = await ask(server, head)
        assert (status, body["code"], closed) == (413, "MS-S004", True)
        assert (await ask(server, post(b"x" * 1_000)))[0] == 200
        assert (await ask(server, post(b"x" * 1_001)))[0] == 413

    run(story)


def test_a_chunked_body_over_the_limit_is_refused_and_the_client_can_read_why():
    async def story(server):
        chunks = b"".join(b"64\r\n" + b"x" * 100 + b"\r\n" for _ in range(5_000))
        raw = POST + b"Transfer-Encoding: chunked\r\n\r\n" + chunks
        assert (await ask(server, raw))[0] == 413

    run(story)


def test_headers_over_the_limit_are_refused():
    async def story(server):
        assert (await ask(server, post(b"", "X: " + "a" * 2_000)))[0] == 431
        assert (await ask(server, b"GET /" + b"a" * 3_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n"))[0] == 431
        assert (await ask(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"a" * 5_000))[0] == 431
        assert (await ask(server, post(b"", "X: " + "a" * 1_000)))[0] == 200

    run(story)


def test_a_name_that_points_here_and_a_page_of_another_site_are_refused():
    async def story(server):
        for host, status in (("evil.example", 403), (f"127.0.0.1:{server.port}", 200), ("[::1]:80", 200), ("", 403)):
            raw = f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
            assert (await ask(server, raw))[0] == status, host
        assert (await ask(server, post(b"", "Origin: https://evil.example")))[0] == 403
        assert (await ask(server, post(b"", "Origin: null")))[0] == 403
        assert (await ask(server, post(b"", "Origin: http://localhost:8000")))[0] == 200

    run(story)


def test_a_slow_client_is_told_so_and_its_neighbours_are_not_held_up():
    async def story(server):
        async with client(server.port) as (slow, writer):
            writer.write(b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nab")
            assert (await ask(server, post(b"ok")))[0] == 200
            status, _, body = await answer(slow)
            assert (status, json.loads(body)["code"]) == (408, "MS-S005")
            assert await slow.read() == b""

    run(story, limits=Limits(max_body_bytes=1_000, slow_s=0.1))


def test_an_idle_connection_is_closed():
    async def story(server):
        async with client(server.port) as (reader, _):
            assert await reader.read() == b""
        assert not server.connections

    run(story, limits=Limits(max_body_bytes=1_000, idle_s=0.05))


def test_a_client_that_takes_no_answers_is_dropped():
    def handler(request):
        return Response(200, b"x" * 4_000_000)

    async def story(server):
        with socket.create_connection(("127.0.0.1", server.port)) as mute:
            mute.settimeout(10)
            mute.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n" * 5)
            await until(lambda: server.connections)
            await until(lambda: not server.connections)
            taken = 0
            with contextlib.suppress(ConnectionResetError):
                while data := mute.recv(1 << 20):
                    taken += len(data)
            assert taken < 5 * 4_000_000  # it was hung up on: what the kernel had taken is all that ever comes

    run(story, handler, limits=Limits(max_body_bytes=1_000, slow_s=0.1))


def test_connections_over_the_limit_are_refused_and_come_back_when_there_is_room():
    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                reader, writer = await stack.enter_async_context(client(server.port))
                writer.write(post(b"a"))
                assert (await answer(reader))[0] == 200
            async with client(server.port) as (reader, _):
                raw = await reader.read()
            assert raw.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 1\r\n" in raw
            assert b'"code":"MS-S007"' in raw
        await until(lambda: not server.connections)
        assert (await ask(server, post(b"b")))[0] == 200
        assert server.refusals[503] == 1

    run(story)


def test_who_has_been_idle_for_longest_makes_room_for_who_comes(monkeypatch):
    monkeypatch.setattr("mainspring.core.room._LOOK_EVERY_S", 0.0)

    async def later():
        now_s = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() > now_s)

    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            inside = [await stack.enter_async_context(client(server.port)) for _ in range(3)]  # they say nothing
            await until(lambda: len(server.connections) == 3)
            await later()
            inside.append(await stack.enter_async_context(client(server.port)))
            for reader, writer in (inside[3], inside[0]):  # and then the first one does, after the last one
                writer.write(post(b"a"))
                assert (await answer(reader))[0] == 200
                await later()
            for _ in range(3):
                reader, writer = await stack.enter_async_context(client(server.port))
                writer.write(post(b"b"))
                assert (await answer(reader))[0] == 200
            for i in (1, 2, 3):
                assert await inside[i][0].read() == b""
            inside[0][1].write(post(b"c"))
            assert (await answer(inside[0][0]))[0] == 200
        assert not server.refusals

    run(story, limits=CROWDED)


@pytest.mark.parametrize("begun", ["a head", "a body", "an answer"])
def test_who_is_busy_stays_and_who_comes_is_told_so_until_one_is_done(begun):
    waiting = []

    def handler(_request):
        waiting.append(Deferred())
        return waiting[-1]

    whole = post(b"abc")
    cut = {"a head": 1, "a body": len(whole) - 1, "an answer": len(whole)}[begun]

    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            inside = [await stack.enter_async_context(client(server.port)) for _ in range(4)]
            for _, writer in inside:
                writer.write(whole[:cut])
            await until(lambda: sum(one.idle_since() is None for one in server.connections) == 4)
            for _ in range(3):
                assert (await ask(server, whole))[0] == 503
            for _, writer in inside:
                writer.write(whole[cut:])
            await until(lambda: len(waiting) == 4)
            for slot in waiting:
                slot.answer(Response(200, b"{}"))
            for reader, _ in inside:
                assert (await answer(reader))[0] == 200
            await until(lambda: server.room.free_place(asyncio.get_running_loop().time()))
            assert len(server.connections) == 3

    run(story, handler, limits=CROWDED)


def test_who_has_been_idle_only_a_moment_stays():
    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(8):
                await stack.enter_async_context(client(server.port))
            assert (await ask(server, post(b"a")))[0] == 503

    run(story)


def test_while_all_are_busy_who_comes_costs_no_look_at_all_of_them(monkeypatch):
    monkeypatch.setattr("mainspring.core.room._LOOK_EVERY_S", 3_600.0)
    seen = []
    monkeypatch.setattr(Connection, "idle_since", lambda one: seen.append(one))  # noqa: PLW0108  None: busy

    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(4):
                await stack.enter_async_context(client(server.port))
            for _ in range(20):
                assert (await ask(server, post(b"a")))[0] == 503
        assert len(seen) == 4

    run(story, limits=CROWDED)


def test_of_those_over_the_limit_only_some_are_told_so_and_the_others_take_no_file(monkeypatch):
    monkeypatch.setattr("mainspring.core.room.TOLD", 2)
    monkeypatch.setattr("mainspring.core.connection._LINGER_S", 3_600.0)

    async def story(server):
        async with contextlib.AsyncExitStack() as stack:
            said = []
            for _ in range(12):
                reader, writer = await stack.enter_async_context(client(server.port))
                writer.write(post(b"a", "Expect: 100-continue")[:-1])
                try:
                    said.append((await reader.read(12))[9:])
                except ConnectionError:
                    said.append(b"")
        assert said == [b"100"] * 8 + [b"503"] * 2 + [b""] * 2
        assert server.refusals == {503: 4}
        await until(lambda: not server.room.everybody())

    run(story)


def test_a_handlers_errors_become_answers_and_its_bugs_stay_inside(capfd):
    def handler(request):
        match request.path:
            case "/contract":
                raise ContractError("MS-E101", "Expected `int`, got `str`", where="$.a")
            case "/full":
                raise BackPressureError("MS-E301", "full")
            case "/bug":
                raise ZeroDivisionError("secret one")
            case "/later":

                async def later():
                    raise ZeroDivisionError("secret two")

                return later()
            case "/late_contract":

                async def late_contract():
                    raise ContractError("MS-E101", "no")

                return late_contract()
            case "/header":
                return Response(200, b"", headers=(("X", "a\r\nSet-Cookie: b"),))

    async def story(server):
        seen = {}
        async with client(server.port) as (reader, writer):
            for path in ("contract", "full", "bug", "later", "late_contract", "header", "nothing"):
                writer.write(f"GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                seen[path] = await answer(reader)
        assert {p: s for p, (s, _, _) in seen.items()} == {
            "contract": 422, "full": 429, "bug": 500, "later": 500, "late_contract": 422, "header": 500, "nothing": 500,
        }  # fmt: skip
        assert json.loads(seen["contract"][2]) == {
            "code": "MS-E101", "error": "Expected `int`, got `str`", "where": "$.a",
        }  # fmt: skip
        assert seen["full"][1]["retry-after"] == "1"
        assert not any(b"secret" in body or b"Set-Cookie" in body for _, _, body in seen.values())

    run(story, handler)
    err = capfd.readouterr().err
    assert "secret one" in err
    assert "secret two" in err


def test_an_answer_for_a_client_that_left_is_thrown_away():
    slots = []

    def handler(request):
        slots.append(Deferred())
        return slots[-1]

    async def story(server):
        async with client(server.port) as (_, writer):
            writer.write(post(b""))
            await until(lambda: slots)
            reset = struct.pack("ii", 1, 0)  # a close that lingers for nothing is a reset
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
            writer.transport.abort()
        await until(lambda: slots[0].cancelled)
        slots[0].answer(Response(200, b""))
        assert not server.connections

    run(story, handler)


def test_draining_answers_what_is_under_way_and_accepts_no_more():
    slots = []

    def handler(request):
        slots.append(Deferred())
        return slots[-1]

    async def story(server):
        async with client(server.port) as (idle, _), client(server.port) as (busy, writer):
            writer.write(post(b""))
            await until(lambda: slots)
            drained = asyncio.ensure_future(server.drain(5))
            assert await idle.read() == b""
            slots[0].answer(Response(200, b"done"))
            status, headers, body = await answer(busy)
            assert (status, headers["connection"], body) == (200, "close", b"done")
            assert await drained
            with pytest.raises(OSError, match=r"refused|reset"):
                await asyncio.open_connection("127.0.0.1", server.port)

    run(story, handler)


def test_draining_gives_up_after_its_time():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(post(b""))
            await until(lambda: server.connections and next(iter(server.connections))._queue)
            assert not await server.drain(0.05)
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""

    run(story, lambda _: Deferred())


def test_a_door_that_others_could_reach_is_not_opened():
    async def main(host):
        await serve(echo, Access(host), 0, LIMITS)

    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org", ""):
        with pytest.raises(RefusedError, match="MS-S001"):
            uvloop.run(main(host))


def test_a_taken_port_is_said_so():
    async def story(server):
        with pytest.raises(UnavailableError, match="MS-S002"):
            await serve(echo, Access(), server.port, LIMITS)

    run(story)


def test_back_pressure_says_when_to_come_back():
    assert error_response(BackPressureError("MS-E301", "full")).headers == (("Retry-After", "1"),)


def test_who_computed_the_answer_and_was_stopped_says_when_to_come_back():
    def handler(_request):
        never = asyncio.get_running_loop().create_future()
        never.cancel()
        return never

    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(post(b""))
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
            assert b"\r\nRetry-After: 1\r\n" in head
            assert b'"code":"MS-S009"' in await reader.readuntil(b"}")

    run(story, handler)
