"""A web service that answers with a JSON list, asked again and again for what is new.

Two ways to say where one is. ``next``: the answer holds an opaque cursor, which is sent back; exact, if the service is.
``watermark``: the greatest value of a field so far is sent back. Where a service means "later than" by it, rows that
share a value with the last one seen may be missed; where it means "from", they come again and their ids tell. With
neither, each answer is the whole list, and ids tell what is new.
"""

from __future__ import annotations

import urllib.error
import urllib.parse
import urllib.request
from hashlib import blake2b
from typing import Any, ClassVar

import msgspec

from mainspring.core.errors import ConfigError, ContractError, TooLargeError, UnavailableError
from mainspring.events.connectors.connector import Arrival, Batch, Connector, Settings, Site

_MOST_BYTES = 67_108_864


class PollingSettings(Settings, frozen=True, kw_only=True):
    """Settings of ``http``.

    Attributes:
        url: ``http`` or ``https``, with the query that every request has.
        headers: Sent with every request: ``Authorization = "Bearer ${TOKEN}"``.
        rows: Path to the list in the answer (``data.items``); the answer itself if empty.
        since: Name of the parameter that says where one is; none is sent at the beginning.
        next: Path to the cursor in the answer. Or:
        watermark: Field of a row of which the greatest value is sent.
        size: Name of the parameter that says how many rows; none is sent if empty.
        timeout_s: How long an answer may take.
    """

    url: str
    headers: dict[str, str] = msgspec.field(default_factory=dict)
    rows: str = ""
    since: str = "since"
    next: str = ""
    watermark: str = ""
    size: str = ""
    timeout_s: float = 30.0


class Polling(Connector):
    """Asks, and moves on by what it is told."""

    settings_type: ClassVar[type[Settings]] = PollingSettings

    def __init__(self, settings: PollingSettings, site: Site) -> None:
        self._parts = urllib.parse.urlsplit(settings.url)
        if self._parts.scheme not in ("http", "https"):
            raise ConfigError("MS-C086", f"the url of connector {site.name} is neither http nor https")
        if settings.next and settings.watermark:
            raise ConfigError("MS-C086", f"connector {site.name} has both next and watermark", hint="one of them")
        if not settings.next and not settings.watermark and site.source.id is None:
            why = f"every answer is a whole list, and {site.source.name} has no id to tell old rows from new ones"
            raise ConfigError("MS-C086", f"connector {site.name} has neither next nor watermark", why=why)
        self._settings = settings
        self._held: tuple[Any, Any] | None = None
        self._where = urllib.parse.urlunsplit(self._parts._replace(query="", netloc=self._parts.hostname or ""))

    def read(self, cursor: Any, limit: int) -> Batch:
        """One answer, or what is left of it; an answer that is like the last one has nothing new."""
        at, skip, last = (cursor["at"], cursor["skip"], cursor["last"]) if cursor else (None, 0, "")
        if skip and self._held is not None and self._held[0] == at:
            answer = self._held[1]
        else:  # never on from the middle of an answer that may be another one now
            answer, skip = self._ask(at, limit), 0
        rows = _at(answer, self._settings.rows)
        if not isinstance(rows, list):
            what = f"the answer has no list at {self._settings.rows or 'its top'}"
            raise ContractError("MS-E435", what, where=self._where, hint='rows = "path.to.the.list"')
        content = blake2b(msgspec.json.encode(rows), digest_size=12).hexdigest()
        after = self._after(answer, rows, at)
        if not rows or (after == at and content == last):
            return Batch((), {"at": after, "skip": 0, "last": content} if after != at else cursor)
        taken = rows[skip : skip + limit]
        arrivals = [
            Arrival({}, msgspec.json.encode(row), f"{self._settings.since} {at} row {number}")
            for number, row in enumerate(taken, start=skip)
        ]
        if skip + len(taken) < len(rows):
            self._held = (at, answer)
            return Batch(arrivals, {"at": at, "skip": skip + len(taken), "last": last}, more=True)
        return Batch(arrivals, {"at": after, "skip": 0, "last": content}, more=after != at)

    def _ask(self, at: Any, limit: int) -> Any:
        settings = self._settings
        asked = urllib.parse.parse_qsl(self._parts.query, keep_blank_values=True)
        if at is not None:
            asked.append((settings.since, str(at)))
        if settings.size:
            asked.append((settings.size, str(limit)))
        return self._get(urllib.parse.urlunsplit(self._parts._replace(query=urllib.parse.urlencode(asked))))

    def _after(self, answer: Any, rows: list[Any], at: Any) -> Any:
        settings = self._settings
        if settings.next:
            found = _at(answer, settings.next)
            return at if found in (None, "") else found
        if settings.watermark:
            values = [row[settings.watermark] for row in rows if isinstance(row, dict) and settings.watermark in row]
            values = [value for value in values if isinstance(value, int | float | str)]
            try:
                return max([at, *values] if at is not None else values, default=None)
            except TypeError:
                what = f"values of {settings.watermark} are numbers and texts: none is the greatest"
                raise ContractError("MS-E435", what, where=self._where) from None
        return at

    def _get(self, url: str) -> Any:
        request = urllib.request.Request(url, headers={"Accept": "application/json"} | self._settings.headers)  # noqa: S310  the scheme was checked
        try:
            with _opener.open(request, timeout=self._settings.timeout_s) as response:
                raw = response.read(_MOST_BYTES + 1)
        except urllib.error.HTTPError as error:
            what = f"the service answers {error.code} {error.reason}"
            raise UnavailableError("MS-E434", what, where=self._where) from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", error)
            raise UnavailableError("MS-E434", f"the service cannot be reached: {reason}", where=self._where) from None
        if len(raw) > _MOST_BYTES:
            raise TooLargeError("MS-E436", f"an answer of over {_MOST_BYTES} bytes", where=self._where)
        try:
            return msgspec.json.decode(raw)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ContractError("MS-E435", f"the answer is no JSON: {error}", where=self._where) from None


class _SameHost(urllib.request.HTTPRedirectHandler):
    """A redirect to another host is not followed: the headers hold secrets."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request that follows, or none."""
        old, new = urllib.parse.urlsplit(req.full_url), urllib.parse.urlsplit(newurl)
        if (old.scheme, old.netloc) != (new.scheme, new.netloc):
            raise urllib.error.HTTPError(req.full_url, code, "redirect to another host, not followed", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


_opener = urllib.request.build_opener(_SameHost)


def _at(value: Any, path: str) -> Any:
    for part in path.split(".") if path else ():
        value = value.get(part) if isinstance(value, dict) else None
    return value
