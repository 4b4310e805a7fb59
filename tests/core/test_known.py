import asyncio
import json

import pytest
from raw_http import REFUSED, answer, client, get
from test_http import post, run

from mainspring.core.http import Response, json_response
from mainspring.core.known import KnownHeads
from mainspring.core.messages import Request

HEAD = b"POST /p HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\n"


def request(body=b"abc", **headers):
    return Request("POST", "/p", "", {"host": "localhost", "content-length": "3"} | headers, body)


def test_a_known_head_says_what_it_said_and_its_body_is_of_this_request():
    known = KnownHeads()
    known.keep(HEAD + b"abc", request())
    assert known.find(HEAD + b"xyz") == (
        "POST",
        "/p",
        "",
        {"host": "localhost", "content-length": "3"},
        len(HEAD),
        len(HEAD) + 3,
    )
    assert known.find(HEAD + b"xy") is None, "the body is not whole"
    assert known.find(HEAD.replace(b"/p", b"/q") + b"xyz") is None
    assert known.find(b"") is None


@pytest.mark.parametrize(
    ("data", "asked"),
    [
        (HEAD[:-6] + b"\n\n" + HEAD, request(b"POS")),
        (b"\r\n" + HEAD + b"abc", request()),
        (HEAD, request()),
        (HEAD + b"abc", request(b"abcd")),
        (HEAD + b"abc", request(connection="close")),
        (HEAD + b"abc", request(expect="100-continue")),
        (HEAD + b"abc", request(**{"transfer-encoding": "chunked"})),
        (HEAD + b"abc", request(**{"content-length": "03"})),
        (HEAD[:-4] + b"\r\nX: " + b"x" * 3_000 + b"\r\n\r\nabc", request()),
    ],
)
def test_a_head_that_says_more_than_where_its_body_ends_is_not_kept(data, asked):
    known = KnownHeads()
    known.keep(data, asked)
    assert known.find(HEAD + b"abc") is None
    assert known.find(data) is None


def test_heads_that_come_once_do_not_add_up():
    known = KnownHeads()
    for i in range(1_000):
        known.keep(HEAD.replace(b"/p", b"/%d" % i) + b"abc", request())
    assert len(known._heads) <= 256
    assert known.find(HEAD.replace(b"/p", b"/999") + b"abc") is not None


def test_a_handler_that_changes_headers_changes_those_of_its_own_request():
    def handler(request):
        request.headers["seen"] = request.headers.get("seen", "") + "x"
        return json_response(200, request.headers["seen"])

    async def story(server):
        async with client(server.port) as (reader, writer):
            for _ in range(4):
                writer.write(post(b"{}"))
                assert (await answer(reader))[2] == b'"x"'

    run(story, handler)


def test_known_and_unknown_heads_in_one_piece_are_answered_in_their_order():
    async def story(server):
        async with client(server.port) as (reader, writer):
            writer.write(post(b"0"))
            await answer(reader)
            writer.write(b"".join(post(b"%d" % i) + post(b"%d" % (i + 10)) for i in range(1, 5)) + post(b"9")[:-1])
            bodies = [json.loads((await answer(reader))[2])["b"] for _ in range(8)]
            assert bodies == ["1", "11", "2", "12", "3", "13", "4", "14"]
            writer.write(b"9" + post(b"5"))
            assert [json.loads((await answer(reader))[2])["b"] for _ in range(2)] == ["9", "5"]

    run(story)


def test_a_door_that_is_closing_says_so_also_to_those_it_knows():
    held = []

    async def handler(request):
        held.append(asyncio.get_running_loop().create_future())
        return await held[-1]

    async def story(server):
        async with client(server.port) as (reader, writer):
            for i in range(2):
                writer.write(post(b"{}"))
                while len(held) <= i:
                    await asyncio.sleep(0)
                if i:
                    server.draining = True
                held[-1].set_result(Response(200, b"{}"))
                assert (await answer(reader))[1].get("connection") == ("close" if i else None)

    run(story, handler)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_once_is_refused_again_by_a_door_that_has_seen_it(name):
    status, raw = REFUSED[name]

    async def story(server):
        for _ in range(2):
            for before in (b"", post(b"{}")):
                async with client(server.port) as (reader, writer):
                    writer.write(before + raw + get(b"/next"))
                    found = [(await answer(reader))[0] for _ in range(1 + bool(before))]
                    assert found[-1] == status

    run(story)
