"""The raw protocol: what is refused, what is taken, and that nothing of a refused request becomes the next."""

import asyncio
import contextlib
import json

import h11
import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.http import Access, Deferred, Limits, Response, serve

from raw_http import CHUNKED, CLOSED, GET, HOST, POST, REFUSED, TAKEN, answer, cl, client, cut, exchange, get  # isort: skip

LIMITS = Limits(max_body_bytes=1_000, max_header_bytes=2_000, max_connections=8, idle_s=30, slow_s=30)
NEXT = get(b"/next")


def run(story, limits=LIMITS, handler=None):
    """Tell the story to a server that remembers what it was asked; on the loop that production uses."""
    asked = []

    def remember(request):
        asked.append((request.method, request.path, request.query, request.body))
        return Response(200, b"ok") if handler is None else handler(request)

    async def main():
        server = await serve(remember, Access(), 0, limits)
        try:
            return await asyncio.wait_for(story(server, asked), 60)
        finally:
            await server.drain(1)

    return uvloop.run(main())


def ways(raw):
    """Ways in which bytes may arrive: at once, one by one, and cut in the middle."""
    few = raw if len(raw) < 600 else raw[:600]
    return [raw], [bytes([byte]) for byte in few] + [raw[len(few) :]] * (len(few) < len(raw)), cut(raw, [len(raw) // 2])


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_refused_however_it_is_cut_and_nothing_of_it_becomes_a_request(status, raw):
    async def story(server, asked):
        for pieces in ways(raw + NEXT):
            found = await exchange(server.port, pieces)
            assert [one[0] for one in found] == [status], found
            assert found[0][1]["connection"] == "close"
            assert json.loads(found[0][2])["code"].startswith("MS-S0")
        assert asked == []
        assert server.refusals == {status: 3}

    run(story)


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED.keys())
def test_what_came_before_a_refused_request_is_answered_first(status, raw):
    later = []

    def handler(request):
        later.append(Deferred())
        asyncio.get_running_loop().call_soon(later[-1].answer, Response(200, b"ok"))
        return later[-1]

    async def story(server, asked):
        found = await exchange(server.port, [get(b"/before") + raw + NEXT])
        assert [one[0] for one in found] == [200, status]
        assert [path for _, path, _, _ in asked] == ["/before"]

    run(story, handler=handler)


@pytest.mark.parametrize(("raw", "request_"), TAKEN.values(), ids=TAKEN.keys())
def test_what_is_sound_is_taken_however_it_is_cut_and_the_next_request_after_it(raw, request_):
    async def story(server, asked):
        for pieces in ways(raw + NEXT):
            asked.clear()
            assert [one[0] for one in await exchange(server.port, pieces)] == [200, 200]
            assert asked == [request_, ("GET", "/next", "", b"")]

    run(story)


@pytest.mark.parametrize("raw", CLOSED.values(), ids=CLOSED.keys())
def test_a_request_that_is_to_be_the_last_is_the_last(raw):
    async def story(server, asked):
        for pieces in ways(raw + NEXT):
            asked.clear()
            found = await exchange(server.port, pieces)
            assert [one[0] for one in found] == [200]
            assert found[0][1]["connection"] == "close"
            assert len(asked) == 1

    run(story)


def test_bytes_after_a_body_are_the_next_request_and_refused_when_they_are_none():
    async def story(server, asked):
        found = await exchange(server.port, [cl(b"abc") + b"EXTRA\r\n\r\n"])
        assert [one[0] for one in found] == [200, 400]
        assert asked == [("POST", "/", "", b"abc")]

    run(story)


# --- HEAD, and the word to go ahead ----------------------------------------------------------------------------------


def test_an_answer_to_head_has_no_body_when_it_is_refused_either():
    async def story(server, asked):
        for head, status in (
            (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n", 403),
            (b"HEAD / HTTP/1.1\r\n" + HOST + b"Content-Length: 5000\r\n\r\n", 413),
            (b"HEAD / HTTP/1.1\r\n" + HOST + b"Connection: close\r\n\r\n", 200),
        ):
            async with client(server.port) as (reader, writer):
                writer.write(head)
                assert (await answer(reader, is_head=True))[0] == status
                assert await reader.read() == b""

    run(story)


def test_whoever_waits_for_the_word_gets_it_in_turn_and_only_when_there_is_something_to_wait_for():
    slots = []

    def handler(request):
        if request.path != "/slow":
            return Response(200, b"ok")
        slots.append(Deferred())
        return slots[-1]

    expects = b"Expect: 100-continue"

    async def story(server, asked):
        async with client(server.port) as (reader, writer):
            head, body = cl(b"abc", b"/", expects)[:-3], b"abc"
            writer.write(get(b"/slow") + head)
            while not slots:
                await asyncio.sleep(0.001)
            slots[0].answer(Response(200, b"first"))
            assert (await answer(reader))[2] == b"first"
            assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
            writer.write(body)
            assert (await answer(reader))[0] == 200
            for given in (head + body, POST + expects + b"\r\n\r\n"):  # the body is there already; there will be none
                writer.write(given)
                assert (await answer(reader))[0] == 200
        old = b"POST / HTTP/1.0\r\n" + expects + b"\r\nContent-Length: 3\r\n\r\n"
        found = await exchange(server.port, [old, body])
        assert [one[0] for one in found] == [200]

    run(story, handler=handler)


# --- slow ------------------------------------------------------------------------------------------------------------

SLOW = {
    "the first byte": b"G",
    "a request line": b"GET /" + b"a" * 1_500,
    "a header": GET + b"X: " + b"a" * 1_500,
    "many headers": GET + b"X: a\r\n" * 250,
    "a body": POST + b"Content-Length: 1000\r\n\r\n" + b"x" * 999,
    "chunks": CHUNKED + b"1\r\nx\r\n" * 900,
    "a chunk size": CHUNKED + b"0" * 1_500,
    "trailers": CHUNKED + b"0\r\n" + b"X: a\r\n" * 250,
}


@pytest.mark.parametrize("raw", SLOW.values(), ids=SLOW.keys())
def test_whoever_sends_a_byte_now_and_then_for_ever_is_told_that_it_took_too_long(raw):
    async def story(server, asked):
        async with client(server.port) as (reader, writer):
            told = asyncio.ensure_future(answer(reader))

            async def trickle():
                at = 0
                while not told.done():  # a limit that starts again with each byte would never end this
                    if at < len(raw):
                        writer.write(raw[at : at + 1])
                    at += 1
                    await asyncio.sleep(0.01)

            with contextlib.suppress(ConnectionError):
                await trickle()
            status, headers, body = await told
            assert (status, headers["connection"]) == (408, "close")
            assert json.loads(body)["code"] == "MS-S005"
            assert await reader.read() == b""
        assert asked == []

    run(story, limits=Limits(max_body_bytes=1_000, max_header_bytes=2_000, slow_s=0.2, idle_s=30))


ENDLESS = {
    "empty lines": (431, b"", b"\r\n"),
    "a target": (431, b"GET /", b"a"),
    "a header": (431, GET + b"X: ", b"a"),
    "headers": (431, GET, b"X: a\r\n"),
    "zeros of a chunk size": (431, CHUNKED, b"0"),
    "a chunk extension": (431, CHUNKED + b"3;", b"a"),
    "chunk extensions around single bytes": (431, CHUNKED, b"1;%s\r\nx\r\n" % (b"a" * 90)),
    "trailers": (431, CHUNKED + b"0\r\n", b"X: a\r\n"),
    "chunks": (413, CHUNKED, b"64\r\n" + b"x" * 100 + b"\r\n"),
}


@pytest.mark.parametrize(("status", "start", "more"), ENDLESS.values(), ids=ENDLESS.keys())
def test_whoever_sends_without_end_is_told_so_at_the_limit(status, start, more):
    async def story(server, asked):
        async with client(server.port) as (reader, writer):
            told = asyncio.ensure_future(answer(reader))
            writer.write(start)
            with contextlib.suppress(ConnectionError):
                while not told.done():
                    writer.write(more)
                    await asyncio.sleep(0)
            assert (await told)[0] == status
            assert await reader.read() == b""
        assert asked == []

    run(story)


def test_whoever_goes_on_sending_after_a_refusal_is_cut_off():
    async def story(server, asked):
        async with client(server.port) as (_, writer):
            with contextlib.suppress(ConnectionError):
                writer.write(b"hello\r\n\r\n")
                while server.connections or not server.refusals:
                    writer.write(b"x" * 1_000)
                    await asyncio.sleep(0.01)
        assert not server.connections
        assert asked == []

    run(story)


# --- any bytes -------------------------------------------------------------------------------------------------------

_SOUND = st.sampled_from([raw for raw, _ in TAKEN.values()])
_ODD = st.sampled_from([raw for _, raw in REFUSED.values() if len(raw) < 1_000])
_TOKENS = st.sampled_from(
    [
        b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"0", b"3\r\nabc\r\n", b"\r\n\r\n", HOST,
        b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n", b"Upgrade: h2c\r\n",
        b"Connection: upgrade\r\n", b"Expect: 100-continue\r\n", b"HTTP/1.0", b"HTTP/1.1", b"GET / ", b"\xff",
        b"0\r\n\r\n",
    ]
)  # fmt: skip


@st.composite
def mutated(draw):
    """A few requests, some of which are broken somewhere."""
    raw = bytearray(b"".join(draw(st.lists(_SOUND | _ODD, min_size=1, max_size=4))))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(raw)))
        match draw(st.integers(0, 3)):
            case 0:
                raw[at:at] = draw(_TOKENS)
            case 1:
                del raw[at : at + draw(st.integers(1, 12))]
            case 2:
                raw[at : at + 1] = draw(st.binary(min_size=1, max_size=2))
            case _:
                raw[at:at] = raw[at : at + draw(st.integers(1, 40))]
    return bytes(raw)


_CUTS = st.lists(st.integers(0, 5_000), max_size=6)


def finals(found):
    return [status for status, _, _ in found if status != 100]


async def told(port, pieces):
    """Statuses of the answers to ``pieces``, without go-aheads."""
    async with client(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
            writer.write_eof()
        raw = b""
        with contextlib.suppress(ConnectionError):
            raw = await asyncio.wait_for(reader.read(), 30)
    heads = [part for part in raw.split(b"HTTP/1.1 ")[1:] if not part.startswith(b"100 ")]
    return [int(part[:3]) for part in heads]


@given(st.lists(st.tuples(mutated() | st.binary(max_size=200), _CUTS), min_size=1, max_size=6))
def test_whatever_arrives_is_answered_without_fault_or_hang_and_a_refusal_is_the_last_answer(conversations):
    async def story(server, asked):
        for raw, places in conversations:
            asked.clear()
            statuses = await told(server.port, cut(raw, places))
            assert all(status < 500 for status in statuses)
            assert all(status == 200 for status in statuses[:-1])
            assert len(asked) == statuses.count(200)
        assert await told(server.port, [NEXT]) == [200]

    run(story)


@given(st.lists(st.tuples(mutated(), _CUTS), min_size=1, max_size=6))
def test_what_is_taken_is_what_another_strict_reader_takes(conversations):
    async def story(server, asked):
        for raw, places in conversations:
            asked.clear()
            await told(server.port, cut(raw, places))
            ours = [(method, body) for method, _, _, body in asked]
            theirs = read_by_h11(raw)
            assert ours[: len(theirs)] == theirs[: len(ours)]

    run(story)


def read_by_h11(raw):
    """Methods and bodies that h11 reads, up to where it stops."""
    reader = h11.Connection(h11.SERVER)
    reader.receive_data(raw)
    reader.receive_data(b"")
    found, method, body = [], "", b""
    with contextlib.suppress(h11.RemoteProtocolError, h11.LocalProtocolError):
        while True:
            match reader.next_event():
                case h11.Request() as request:
                    method, body = request.method.decode(), b""
                case h11.Data() as data:
                    body += bytes(data.data)
                case h11.EndOfMessage():
                    found.append((method, body))
                    reader.send(h11.Response(status_code=200, headers=[("Content-Length", "0")]))
                    reader.send(h11.EndOfMessage())
                    reader.start_next_cycle()
                case _:
                    return found
    return found
