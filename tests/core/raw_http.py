"""HTTP as bytes: requests that a strict server refuses, requests that it must take, and a client that sends either."""

import asyncio
import contextlib
import itertools

HOST = b"Host: localhost\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def get(target, version=b"1.1", headers=HOST):
    return b"GET " + target + b" HTTP/" + version + b"\r\n" + headers + b"\r\n"


REFUSED = {
    # lengths
    "two lengths": (400, POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
    "the same length twice": (400, POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc"),
    "a list of lengths": (400, POST + b"Content-Length: 3, 3\r\n\r\nabc"),
    "two lengths in one": (400, POST + b"Content-Length: 3 3\r\n\r\nabc"),
    "a signed length": (400, POST + b"Content-Length: +3\r\n\r\nabc"),
    "a negative length": (400, POST + b"Content-Length: -1\r\n\r\nabc"),
    "a hexadecimal length": (400, POST + b"Content-Length: 0x3\r\n\r\nabc"),
    "an empty length": (400, POST + b"Content-Length: \r\n\r\nabc"),
    "a length in Arabic digits": (400, POST + "Content-Length: ٣\r\n\r\nabc".encode()),
    "a length after a vertical tab": (400, POST + b"Content-Length: \x0b3\r\n\r\nabc"),
    "a length that wraps around 64 bits": (400, POST + b"Content-Length: 18446744073709551619\r\n\r\nabc"),
    "a length over the limit": (413, POST + b"Content-Length: 1000000000\r\n\r\n"),
    # lengths and chunks
    "a length, then chunks": (400, POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    "chunks, then a length": (400, POST + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n" + END),
    "a length in a trailer": (400, CHUNKED + b"0\r\nContent-Length: 5\r\n\r\nhello"),
    "chunks in a trailer": (400, CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    # codings
    "chunked is not last": (400, POST + b"Transfer-Encoding: chunked, gzip\r\n\r\n" + END),
    "chunked twice": (400, POST + b"Transfer-Encoding: chunked, chunked\r\n\r\n" + END),
    "two codings": (400, POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    "a coding before chunked": (400, POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + END),
    "an unknown coding": (400, POST + b"Transfer-Encoding: xchunked\r\n\r\n" + END),
    "a quoted coding": (400, POST + b'Transfer-Encoding: "chunked"\r\n\r\n' + END),
    "a coding with a weight": (400, POST + b"Transfer-Encoding: chunked;q=1\r\n\r\n" + END),
    "no coding at all": (400, POST + b"Transfer-Encoding: \r\n\r\n" + END),
    "identity": (400, POST + b"Transfer-Encoding: identity\r\n\r\n"),
    "a coding after a vertical tab": (400, POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n" + END),
    "a coding with a NUL": (400, POST + b"Transfer-Encoding: chunked\x00\r\n\r\n" + END),
    "chunks of HTTP/1.0": (400, b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n" + END),
    # chunks
    "a negative chunk": (400, CHUNKED + b"-3\r\nabc\r\n" + END),
    "a chunk size with 0x": (400, CHUNKED + b"0x3\r\nabc\r\n" + END),
    "a chunk size of no digit": (400, CHUNKED + b"3g\r\nabc\r\n" + END),
    "a chunk size with an underscore": (400, CHUNKED + b"0_3\r\nabc\r\n" + END),
    "an empty chunk size": (400, CHUNKED + b"\r\nabc\r\n" + END),
    "a chunk size over 64 bits": (400, CHUNKED + b"10000000000000003\r\nabc\r\n" + END),
    "a space before a chunk size": (400, CHUNKED + b" 3\r\nabc\r\n" + END),
    "a space after a chunk size": (400, CHUNKED + b"3 \r\nabc\r\n" + END),
    "a chunk longer than it says": (400, CHUNKED + b"3\r\nabcd\r\n" + END),
    "chunk lines that end in a bare newline": (400, CHUNKED + b"3\nabc\n0\n\n"),
    "a chunk that ends in a bare newline": (400, CHUNKED + b"3\r\nabc\n" + END),
    "a newline in a chunk extension": (400, CHUNKED + b"1;a\nb\r\nX\r\n" + END),
    "a carriage return in a chunk extension": (400, CHUNKED + b"3;a\rb\r\nabc\r\n" + END),
    "a line break in a quoted chunk extension": (400, CHUNKED + b'3;a="\r\nb"\r\nabc\r\n' + END),
    "no end of the last chunk": (400, CHUNKED + b"3\r\nabc\r\n0\r\nX"),
    "a folded trailer": (400, CHUNKED + b"0\r\nX: a\r\n b\r\n\r\n"),
    "a trailer that ends in a bare newline": (400, CHUNKED + b"0\r\nX: a\n\r\n"),
    "trailers over the limit": (431, CHUNKED + b"0\r\n" + b"X: %s\r\n" % (b"a" * 100) * 50 + b"\r\n"),
    # hosts
    "two hosts": (400, GET + b"Host: other\r\n\r\n"),
    "the same host twice": (400, GET + HOST + b"\r\n"),
    "hosts in one line": (400, get(b"/", headers=b"Host: localhost, other\r\n")),
    "a host with a user": (400, get(b"/", headers=b"Host: me@localhost\r\n")),
    "a host with a path": (400, get(b"/", headers=b"Host: localhost/x\r\n")),
    "a host with a port of letters": (400, get(b"/", headers=b"Host: localhost:abc\r\n")),
    "no host": (400, get(b"/", headers=b"")),
    "another host": (403, get(b"/", headers=b"Host: evil.example\r\n")),
    "another host of HTTP/1.0": (403, get(b"/", b"1.0", b"Host: evil.example\r\n")),
    "an origin elsewhere": (403, GET + b"Origin: https://evil.example\r\n\r\n"),
    "an origin that is none": (403, GET + b"Origin: http://[\r\n\r\n"),
    # lines
    "a folded header": (400, GET + b"X: a\r\n b\r\n\r\n"),
    "a folded header with a tab": (400, GET + b"X: a\r\n\tb\r\n\r\n"),
    "a first header that is folded": (400, b"GET / HTTP/1.1\r\n " + HOST + b"\r\n"),
    "a coding in a fold": (400, GET + b"X: a\r\n Transfer-Encoding: chunked\r\n\r\n"),
    "a bare newline after the request line": (400, b"GET / HTTP/1.1\n" + HOST + b"\r\n"),
    "a bare newline after a header": (400, GET + b"X: a\nY: b\r\n\r\n"),
    "a bare newline after the head": (400, GET + b"X: a\r\n\n"),
    "bare newlines only": (400, b"GET / HTTP/1.1\nHost: localhost\n\n"),
    "a bare carriage return in a value": (400, GET + b"X: a\rb\r\n\r\n"),
    "a bare carriage return in a name": (400, GET + b"X\r: a\r\n\r\n"),
    "two carriage returns": (400, GET + b"X: a\r\r\n\r\n"),
    "a NUL in a value": (400, GET + b"X: a\x00b\r\n\r\n"),
    "a NUL in a name": (400, GET + b"X\x00: a\r\n\r\n"),
    "a NUL in a target": (400, get(b"/a\x00b")),
    "a control character in a value": (400, GET + b"X: a\x01b\r\n\r\n"),
    "a space before the colon": (400, POST + b"Content-Length : 3\r\n\r\nabc"),
    "a space before the colon of a coding": (400, POST + b"Transfer-Encoding : chunked\r\n\r\n" + END),
    "a header without a colon": (400, GET + b"XYZ\r\n\r\n"),
    "a header without a name": (400, GET + b": a\r\n\r\n"),
    "a name with a bracket": (400, GET + b"X(a): a\r\n\r\n"),
    "a name beyond ASCII": (400, GET + b"X\xc3: a\r\n\r\n"),
    "two keys": (400, GET + b"Authorization: Bearer a\r\nAuthorization: Bearer b\r\n\r\n"),
    "headers over the limit": (431, GET + b"X: %s\r\n\r\n" % (b"a" * 2_000)),
    "headers without number": (431, GET + b"a:\r\n" * 500 + b"\r\n"),
    "a target over the limit": (431, get(b"/" + b"a" * 3_000)),
    # the request line
    "no HTTP": (400, b"hello\r\n\r\n"),
    "bytes": (400, bytes(range(256))),
    "a TLS hello": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
    "HTTP/0.9": (400, b"GET /\r\n\r\n"),
    "HTTP/0.9 that says so": (400, get(b"/", b"0.9")),
    "HTTP/1.2": (400, get(b"/", b"1.2")),
    "HTTP/1.10": (400, get(b"/", b"1.10")),
    "HTTP/2.0": (400, get(b"/", b"2.0")),
    "HTTP/3.0": (400, get(b"/", b"3.0")),
    "the preface of HTTP/2": (400, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    "http in small letters": (400, b"GET / http/1.1\r\n" + HOST + b"\r\n"),
    "a space after the version": (400, b"GET / HTTP/1.1 \r\n" + HOST + b"\r\n"),
    "tabs between the words": (400, b"GET\t/\tHTTP/1.1\r\n" + HOST + b"\r\n"),
    "a space in the target": (400, get(b"/a b")),
    "a space before the method": (400, b" " + GET + b"\r\n"),
    "an unknown method": (400, b"FETCH / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a method in small letters": (400, b"get / HTTP/1.1\r\n" + HOST + b"\r\n"),
    "a tunnel": (400, b"CONNECT localhost:22 HTTP/1.1\r\n" + HOST + b"\r\n"),
    # targets
    "another host's target": (400, get(b"http://example.org/")),
    "a target of another scheme": (400, get(b"ftp://localhost/")),
    "a target with a user": (400, get(b"http://me@localhost/")),
    "a target with half an address": (400, get(b"http://[::1/")),
    "a target without a host": (400, get(b"http:///a")),
    "a target here that says it is elsewhere": (403, get(b"http://localhost/a", headers=b"Host: evil.example\r\n")),
    "a relative target": (400, get(b"a")),
    "a target beyond ASCII": (400, get("/ä".encode())),
    "a fragment": (400, get(b"/a#b")),
    "the server as a whole": (400, b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n"),
    "half an escape": (400, get(b"/a%2")),
    "an escape of no digits": (400, get(b"/%zz")),
    "an escaped NUL": (400, get(b"/a%00")),
    "an escaped line break": (400, get(b"/a%0d%0aX: b")),
    "escapes that are no UTF-8": (400, get(b"/%ff")),
    # expectations
    "an expectation that nobody meets": (417, POST + b"Expect: tea\r\nContent-Length: 3\r\n\r\nabc"),
    "a body too large to go ahead": (413, POST + b"Expect: 100-continue\r\nContent-Length: 1000000000\r\n\r\n"),
}
"""Status and bytes of what is refused, at the limits ``LIMITS`` of the tests: 1,000 bytes of body, 2,000 of head."""


def cl(body, target=b"/", *lines):
    head = b"POST " + target + b" HTTP/1.1\r\n" + HOST + b"".join(one + b"\r\n" for one in lines)
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


TAKEN = {
    # method, path, query, body
    "a request": (get(b"/a?b=1"), ("GET", "/a", "b=1", b"")),
    "a body": (cl(b"abc"), ("POST", "/", "", b"abc")),
    "a length with zeros before it": (POST + b"Content-Length: 003\r\n\r\nabc", ("POST", "/", "", b"abc")),
    "a length between tabs": (POST + b"Content-Length:\t3\t\r\n\r\nabc", ("POST", "/", "", b"abc")),
    "no length and no body": (POST + b"\r\n", ("POST", "/", "", b"")),
    "a GET with a body": (GET + b"Content-Length: 3\r\n\r\nabc", ("GET", "/", "", b"abc")),
    "a name that looks like a length": (POST + b"Content_Length: 30\r\n\r\n", ("POST", "/", "", b"")),
    "chunks": (CHUNKED + b"3\r\nabc\r\nA\r\n0123456789\r\n" + END, ("POST", "/", "", b"abc0123456789")),
    "CHUNKS": (POST + b"Transfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n" + END, ("POST", "/", "", b"abc")),
    "chunk sizes with zeros": (CHUNKED + b"0003\r\nabc\r\n00\r\n\r\n", ("POST", "/", "", b"abc")),
    "chunk extensions": (CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;x\r\n\r\n', ("POST", "/", "", b"abc")),
    "many chunks of one byte": (CHUNKED + b"1\r\nx\r\n" * 900 + END, ("POST", "/", "", b"x" * 900)),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nHost: evil\r\nX: y\r\n\r\n", ("POST", "/", "", b"abc")),
    "empty lines before it": (b"\r\n\r\n" + get(b"/a"), ("GET", "/a", "", b"")),
    "a header without a value": (GET + b"X:\r\n\r\n", ("GET", "/", "", b"")),
    "a value beyond ASCII": (GET + b"X: \xff\r\n\r\n", ("GET", "/", "", b"")),
    "the target in absolute form": (get(b"http://localhost:80/a?b=1"), ("GET", "/a", "b=1", b"")),
    "no path in absolute form": (get(b"http://localhost"), ("GET", "/", "", b"")),
    "escapes": (get(b"/a%20b%c3%a4?c=%20"), ("GET", "/a bä", "c=%20", b"")),
    "dots are no folders": (get(b"/a/../b"), ("GET", "/a/../b", "", b"")),
    "two slashes are no host": (get(b"//evil/a"), ("GET", "//evil/a", "", b"")),
    "a wish for a socket": (GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n", ("GET", "/", "", b"")),
    "Java's wish for HTTP/2, with a body": (
        cl(b"abc", b"/a", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAEAAEAAAAIAAAAB"),
        ("POST", "/a", "", b"abc"),
    ),
    "a wish for HTTP/2, in chunks": (
        POST + b"Connection: upgrade\r\nUpgrade: h2c\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n" + END,
        ("POST", "/", "", b"abc"),
    ),
    "a wish that nobody is asked for": (GET + b"Upgrade: h2c\r\n\r\n", ("GET", "/", "", b"")),
}
"""Bytes of what is taken, and the request that it is. The connection stays open after each."""

CLOSED = {
    "HTTP/1.0": get(b"/", b"1.0", b""),
    "HTTP/1.0 that would stay": get(b"/", b"1.0", b"Connection: keep-alive\r\n"),
    "HTTP/1.0 with a body": b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc",
    "close": GET + b"Connection: close\r\n\r\n",
    "Close": GET + b"Connection: Close\r\n\r\n",
    "close among others": GET + b"Connection: x, close\r\n\r\n",
    "close after keep-alive": GET + b"Connection: keep-alive\r\nConnection: close\r\n\r\n",
    "close and a wish for HTTP/2": GET + b"Connection: close, upgrade\r\nUpgrade: h2c\r\n\r\n",
}
"""Requests that are answered, and the connection closed."""


@contextlib.asynccontextmanager
async def client(port):
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


async def answer(reader, *, is_head=False):
    """One answer: status, headers, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.strip().split("\r\n")
    headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines)}
    body = b"" if is_head else await reader.readexactly(int(headers["content-length"]))
    return int(first.split()[1]), headers, body


async def exchange(port, pieces):
    """What is answered to bytes that come in pieces on a connection of their own, until the server closes it."""
    found = []
    async with client(port) as (reader, writer):
        with contextlib.suppress(ConnectionError):
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0)
            writer.write_eof()
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                found.append(await answer(reader))
    return found


def cut(raw, places):
    """The pieces of ``raw`` between ``places``."""
    edges = [0, *sorted({place % (len(raw) + 1) for place in places}), len(raw)]
    return [raw[a:b] for a, b in itertools.pairwise(edges) if b > a]
