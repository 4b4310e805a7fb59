"""Keys of an open door: who may ask for what, and how often. One keyring for each process; both doors use it.

A key is ``ms_ID_SECRET``. The secret is 256 random bits, so that a plain SHA-256 of the whole is all that is kept:
there is nothing to guess that a slow hash would have to protect. A scope is ``admin`` (everything), ``read`` (what is
told of the system), ``predict:MODEL`` or ``events:SOURCE``, with ``*`` for each of them.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import mmap
import os
import secrets
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from mainspring.core.errors import BackPressureError, ConfigError, RefusedError
from mainspring.core.names import is_name

ADMIN, READ = "admin", "read"
_OF = ("predict", "events")
_SLOTS = 4_096
MOST_PER_S = 1e6
MOST_FULL_S = 1e8
"""In how long a spent burst is whole again, at most: three years. A cell of 64 bits holds it in nanoseconds."""
_NOBODY = "0" * 64


class UnauthorizedError(RefusedError):
    """A request without a key where one is needed, or with one that is not known or no longer good."""

    http_status = 401


class LimitedError(BackPressureError):
    """A key asks more often than it may."""


class Key(msgspec.Struct, frozen=True):
    """One key as the catalog keeps it.

    Attributes:
        key_id: Public part; names the key in lists and metrics.
        number: Counts keys from 1; where its rate is kept.
        name: Whose it is.
        digest: SHA-256 of the whole text, in hexadecimal.
        per_s: Requests a second that it may make; None for any number.
        burst: Requests that it may make at once.
        revoked_us: Since when it is no good; None while it is.
    """

    key_id: str
    number: int
    name: str
    digest: str
    scopes: tuple[str, ...]
    per_s: float | None
    burst: int
    created_us: int
    revoked_us: int | None = None


class Tally(msgspec.Struct):
    """What a key has been answered: asked and let in, not let in for its scope, or for its rate."""

    allowed: int = 0
    forbidden: int = 0
    limited: int = 0


class Rates:
    """When each key may ask next, shared by all processes of a project: nanoseconds in cells of a mapped file.

    A token bucket as one number (the generic cell rate algorithm): the time at which the bucket would be full again.
    Two processes that write at the same moment may let one request too many in; none is kept out wrongly.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if os.fstat(handle).st_size < 8 * _SLOTS:
                os.ftruncate(handle, 8 * _SLOTS)
            self._cells = memoryview(mmap.mmap(handle, 8 * _SLOTS)).cast("q")
        finally:
            os.close(handle)

    def take(self, key: Key, now_ns: int) -> float:
        """Take one request's worth; 0, or the seconds until there is one."""
        if key.per_s is None:
            return 0.0
        slot = key.number % _SLOTS
        each_ns = round(1e9 / key.per_s)
        most_ns = each_ns * key.burst
        full_ns = self._cells[slot]
        if not now_ns <= full_ns <= now_ns + most_ns:  # long ago; or written before the machine was started anew
            full_ns = now_ns
        wait_ns = full_ns + each_ns - most_ns - now_ns
        if wait_ns > 0:
            return wait_ns / 1e9
        self._cells[slot] = full_ns + each_ns
        return 0.0


class Keyring:
    """The keys that are good now, and what each has been answered.

    Args:
        token: The project's internal token, which opens everything.
        rates: How often each may ask.
        clock_ns: A clock that all processes of this machine share.

    Attributes:
        tallies: By id of key.
        unauthorized: Requests that had no key, or one that is not known.
    """

    def __init__(self, token: str, rates: Rates, clock_ns: Callable[[], int] = time.monotonic_ns) -> None:
        self._token = f"Bearer {token}".encode()
        self._rates = rates
        self._clock_ns = clock_ns
        self._keys: dict[str, Key] = {}
        self.tallies: dict[str, Tally] = {}
        self.unauthorized = 0

    def __bool__(self) -> bool:
        """Whether any key is good."""
        return bool(self._keys)

    def use(self, keys: Iterable[Key]) -> None:
        """Let in these keys from now on, as far as they are not revoked."""
        self._keys = {key.key_id: key for key in keys if key.revoked_us is None}
        for key_id in self._keys:
            self.tallies.setdefault(key_id, Tally())

    def check(self, authorization: str, *scopes: str) -> Key | None:
        """Let a request in.

        Args:
            authorization: Its header ``Authorization``.
            scopes: Any one of which is enough.

        Returns:
            The key that it was let in by; None for the project's own token.

        Raises:
            UnauthorizedError: It has no key, or one that is not known (MS-S012).
            RefusedError: The key is for something else (MS-S013).
            LimitedError: The key asks too often (MS-S014).
        """
        key = self.known(authorization)
        if key is None:
            return None
        tally = self.tallies[key.key_id]
        if not _is_enough(key.scopes, scopes):
            tally.forbidden += 1
            raise RefusedError("MS-S013", f"the key is not for this: it would need {' or '.join(scopes)}")
        wait_s = self._rates.take(key, self._clock_ns())
        if wait_s > 0.0:
            tally.limited += 1
            error = LimitedError("MS-S014", "the key asks too often", why=f"it may ask {key.per_s:g} times a second")
            error.retry_after_s = max(1, math.ceil(wait_s))
            raise error
        tally.allowed += 1
        return key

    def known(self, authorization: str) -> Key | None:
        """Whose the header ``Authorization`` is; None for the project's own token.

        Raises:
            UnauthorizedError: It has no key, or one that is not known (MS-S012).
        """
        given = authorization.encode("utf-8", "replace")
        if hmac.compare_digest(given, self._token):
            return None
        text = authorization[7:].strip() if authorization[:7].lower() == "bearer " else ""
        parts = text.split("_", 2)
        key = self._keys.get(parts[1]) if len(parts) == 3 else None
        known = key.digest if key is not None else _NOBODY
        if not hmac.compare_digest(digest_of(text), known) or key is None:
            self.unauthorized += 1
            what = "this needs a key" if not authorization else "the key is not known here"
            raise UnauthorizedError("MS-S012", what, hint="Authorization: Bearer KEY; mainspring keys create makes one")
        return key

    def metrics(self) -> list[str]:
        """What each key has been answered, as Prometheus reads it."""
        lines = ["# TYPE mainspring_unauthorized_total counter", f"mainspring_unauthorized_total {self.unauthorized}"]
        lines.append("# TYPE mainspring_key_requests_total counter")
        for key_id, tally in sorted(self.tallies.items()):
            for outcome, count in msgspec.structs.asdict(tally).items():
                lines.append(f'mainspring_key_requests_total{{key="{key_id}",outcome="{outcome}"}} {count}')
        return lines


def new_key() -> tuple[str, str]:
    """Id and whole text of a new key; the text is shown once and kept nowhere."""
    key_id = secrets.token_hex(6)
    return key_id, f"ms_{key_id}_{secrets.token_urlsafe(32)}"


def digest_of(text: str) -> str:
    """What is kept of a key's text."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def check_scope(scope: str) -> None:
    """Refuse what is no scope.

    Raises:
        ConfigError: It is none (MS-C096).

    >>> check_scope("predict:late_flight"); check_scope("events:*"); check_scope("read")
    """
    kind, colon, name = scope.partition(":")
    if scope in (ADMIN, READ) or (colon and kind in _OF and (name == "*" or is_name(name))):
        return
    hint = "admin, read, predict:MODEL, events:SOURCE; predict:* and events:* are all of them"
    raise ConfigError("MS-C096", f"{scope[:80]!r} is no scope", hint=hint)


def check_rate(per_s: float | None, burst: int | None) -> None:
    """Refuse a rate that could not be kept.

    Args:
        per_s: Requests a second; None for any number.
        burst: Requests at once; None for a second's worth.

    Raises:
        ConfigError: A burst of no rate, or one of them is out of bounds (MS-C117).

    >>> check_rate(500.0, 1000); check_rate(None, None)
    """
    if per_s is None:
        if burst is not None:
            why = "without a rate a key is not limited at all"
            raise ConfigError("MS-C117", "--burst needs --per-second", why=why, hint=f"--per-second 10 --burst {burst}")
        return
    if not 0 < per_s <= MOST_PER_S:
        hint = "leave it out for a key that is not limited"
        raise ConfigError("MS-C117", f"--per-second {per_s:g} must be above 0 and at most {MOST_PER_S:,.0f}", hint=hint)
    if not (burst or 1) <= per_s * MOST_FULL_S:
        what = f"a burst of {burst or 1:,} at --per-second {per_s:g} would take more than three years to be whole again"
        raise ConfigError("MS-C117", what, hint="a smaller --burst, or a greater --per-second")


def _is_enough(has: tuple[str, ...], needed: tuple[str, ...]) -> bool:
    return ADMIN in has or any(one in has or f"{one.partition(':')[0]}:*" in has for one in needed)
