"""What the head of a request must keep to beyond what the parser checks: framing, host, origin, expectations."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Mapping
from functools import lru_cache
from urllib.parse import unquote, urlsplit

import httptools

from mainspring.core.errors import MainspringError
from mainspring.core.messages import RefusalError, is_here

ONCE = frozenset({"host", "authorization", "content-type", "content-length", "transfer-encoding", "expect"})
"""Headers that a request has once: who reads the first and who reads the last would disagree."""
_HOST = re.compile(r"[A-Za-z0-9._~!$&'()*+;=%-]*(:[0-9]*)?|\[[0-9A-Za-z:.%]+\](:[0-9]*)?")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


@lru_cache(maxsize=256)
def lower_name(name: bytes) -> str:
    """A header's name as it is looked up: clients say few different ones, so each is decoded once."""
    return name.decode("latin-1").lower()


def check_head(version: str, headers: Mapping[str, str], is_wide: bool) -> bool:  # noqa: FBT001  of the hot path
    """Refuse what need not be read further.

    Args:
        version: Of HTTP.
        headers: Lower-case names.
        is_wide: Whether others than this machine reach the door: it then takes any host and origin.

    Returns:
        Whether the client waits to be told that it may send its body (RFC 9110, 10.1.1).

    Raises:
        RefusalError: It is malformed (MS-S003), expects what nobody does here (MS-S010), or names another machine or
            site (MS-S006).
    """
    problem = _problem(version, headers.get("host"), is_wide)
    if problem is not None:
        raise RefusalError(*problem)
    if not is_wide and "origin" in headers and not _is_own_origin(headers["origin"]):
        raise RefusalError(403, "MS-S006", "pages of another site may not ask")
    coding = headers.get("transfer-encoding")
    if coding is not None:
        if version == "1.0":  # which has no chunks: whoever passed this on may have seen another end (RFC 9112, 6.1)
            raise _malformed("HTTP/1.0 has no Transfer-Encoding")
        if coding.lower() != "chunked":
            raise _malformed("Transfer-Encoding is chunked or nothing; packed bodies say so by Content-Encoding")
    expected = headers.get("expect")
    if expected is None or version == "1.0":
        return False
    if expected.lower() != "100-continue":
        raise RefusalError(417, "MS-S010", "nothing can be expected here but 100-continue")
    return coding is not None or int(headers.get("content-length", 0)) > 0


def without_upgrade(method: bytes, url: bytes, version: str, headers: Mapping[str, str]) -> bytes:
    """The head again without its wish for another protocol, which a server may ignore (RFC 9110, 7.8).

    The parser takes what follows such a wish for the other protocol; Java's client sends it with every first request.
    """
    kept = {name: text for name, text in headers.items() if name not in ("upgrade", "connection")}
    options = [one.strip() for one in headers.get("connection", "").split(",")]
    kept["connection"] = ", ".join(one for one in options if one.lower() not in ("", "upgrade", "http2-settings"))
    lines = [f"{name}: {text}".encode("latin-1") for name, text in kept.items() if text or name != "connection"]
    return b"\r\n".join([b"%s %s HTTP/%s" % (method, url, version.encode()), *lines, b"", b""])


@lru_cache(maxsize=256)
def target_of(url: bytes, *, any_host: bool = False) -> tuple[str, str]:
    """Path and query of a request's target; with ``any_host`` it may name a machine of any name.

    Raises:
        RefusalError: It is malformed, or names another machine (MS-S003).
    """
    try:
        text = url.decode("ascii")
    except UnicodeDecodeError:
        raise _malformed("a target is ASCII, other characters are percent-encoded") from None
    if "#" in text:
        raise _malformed("a target has no fragment")
    if not text.startswith("/"):
        try:
            parts = urlsplit(text)  # absolute form, as proxies send it
        except ValueError:
            raise _malformed("malformed target") from None
        if parts.scheme not in ("http", "https") or not (any_host or is_here(parts.netloc)):
            raise _malformed("malformed target")
        text = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    path, _, query = text.partition("?")
    return (_unquoted(path) if "%" in path else path), query


def _unquoted(path: str) -> str:
    if _BROKEN_ESCAPE.search(path):
        raise _malformed("a % in a path is followed by two hexadecimal digits")
    try:
        plain = unquote(path, errors="strict")
    except UnicodeDecodeError:
        raise _malformed("a path is UTF-8 once its escapes are read") from None
    if _CONTROL.search(plain):
        raise _malformed("a path holds no control characters")
    return plain


@lru_cache(maxsize=256)
def _problem(version: str, host: str | None, is_wide: bool) -> tuple[int, str, str] | None:  # noqa: FBT001
    """Status, code and words of what is wrong with version and host; most requests have those of the one before."""
    if version not in ("1.0", "1.1"):
        return 400, "MS-S003", f"HTTP/{version} is not spoken here"
    if host is None:
        return None if version == "1.0" else (400, "MS-S003", "no Host header")
    if not _HOST.fullmatch(host):
        return 400, "MS-S003", "malformed Host header"
    return None if is_wide or is_here(host) else (403, "MS-S006", "the Host header names another machine")


def _is_own_origin(origin: str) -> bool:
    try:
        return is_here(urlsplit(origin).netloc)
    except ValueError:
        return False


def too_long(limit: int) -> RefusalError:
    """A head that is over its limit in bytes."""
    return RefusalError(431, "MS-S004", f"headers over {limit} bytes")


def refusal_of(error: httptools.HttpParserError) -> MainspringError:
    """What the parser stumbled over: its input, what we refuse of it, or a fault of ours."""
    if not isinstance(error, httptools.HttpParserCallbackError):
        return RefusalError(400, "MS-S003", f"malformed HTTP: {error}")
    if isinstance(error.__context__, MainspringError):
        return error.__context__
    traceback.print_exception(error, file=sys.stderr)
    return RefusalError(500, "MS-S008", "internal error")


def _malformed(what: str) -> RefusalError:
    return RefusalError(400, "MS-S003", what)
