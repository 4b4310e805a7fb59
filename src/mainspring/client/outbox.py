"""Events that wait to be sent, in memory or in a spool on the disk, in the order in which they came."""

from __future__ import annotations

import math
import secrets
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mainspring.client.outcomes import Delivery
from mainspring.core.errors import BackPressureError, ContractError, RefusedError
from mainspring.core.spool import Spool

_BATCH_BYTES = 1_048_576  # about as large is a request at most


class Parcel(msgspec.Struct, frozen=True, array_like=True):
    """Events of one source that were given together.

    Attributes:
        token: Names the delivery they belong to, in the process that took them.
        start: Place of the first of them in it.
        events: The JSON of each.
    """

    token: bytes
    start: int
    source: str
    events: list[bytes]


class Frames(Protocol):
    """What keeps frames: ``core.spool.Spool``, or memory."""

    def __bool__(self) -> bool:
        """Whether anything waits."""

    def append(self, frame: bytes, *, is_durable: bool = True) -> bool:
        """Keep a frame; False when there is no room."""

    def peek(self, most_bytes: int = 0) -> list[bytes]:
        """The oldest frames."""

    def drop(self, frames: Sequence[bytes]) -> None:
        """Forget the oldest frames."""

    def sync(self) -> None:
        """Have them on the disk."""

    def set_aside(self) -> int:
        """Put away what cannot be read."""

    def close(self) -> None:
        """Let go of the files."""


class Memory:
    """Frames in memory, at most ``max_bytes`` of them."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._frames: deque[bytes] = deque()
        self._size = 0

    def __bool__(self) -> bool:
        """Whether anything waits."""
        return bool(self._frames)

    def append(self, frame: bytes, *, is_durable: bool = True) -> bool:
        """Keep a frame; False when there is no room."""
        if self._size + len(frame) > self._max_bytes:
            return False
        self._frames.append(frame)
        self._size += len(frame)
        return True

    def peek(self, most_bytes: int = 0) -> list[bytes]:
        """The oldest frames, as ``Spool.peek``."""
        out: list[bytes] = []
        size = 0
        for frame in self._frames:
            size += len(frame)
            if out and size > most_bytes:
                break
            out.append(frame)
        return out

    def drop(self, frames: Sequence[bytes]) -> None:
        """Forget the oldest frames."""
        for frame in frames:
            self._frames.popleft()
            self._size -= len(frame)

    def sync(self) -> None:
        """Nothing to do."""

    def set_aside(self) -> int:
        """Nothing in memory is broken."""
        return 0

    def close(self) -> None:
        """Nothing to do."""


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Parcel).decode


class Outbox:
    """The queue between those who send and the thread that carries. Safe for many threads.

    Args:
        spool: Folder of spools; None keeps events in memory.
        max_bytes: Most that may wait.
        batch_rows: Events of one request, and so many make one due at once.
        batch_s: The oldest event waits no longer before it is sent.
    """

    def __init__(self, spool: Path | None, *, max_bytes: int, batch_rows: int, batch_s: float) -> None:
        self._batch_rows = batch_rows
        self._batch_s = batch_s
        self._changed = threading.Condition()
        self._deliveries: dict[bytes, tuple[Delivery, int]] = {}
        self._epoch, self._number = secrets.token_bytes(8), 0
        self._rows = 0  # of this process, that wait
        self._since_s = 0.0  # since when the oldest does
        self._put = self._done = 0  # parcels of this process
        self._is_urgent = False
        self._is_closing = False
        self._frames: Frames
        if spool is None:
            self._frames = Memory(max_bytes)
        else:
            self._frames = Spool(spool, secrets.token_hex(8), max_bytes)
            self._frames.adopt()
        if self._frames:
            self._is_urgent = True  # what an earlier process left is due now

    def put(self, source: str, events: Sequence[bytes], timeout_s: float) -> Delivery:
        """Take events of a source.

        Raises:
            BackPressureError: There is no room for them within ``timeout_s`` (MS-E501); those of a list that did fit
                are on their way.
            RefusedError: The client is closed (MS-E504).
        """
        delivery = Delivery(len(events))
        if not events:
            delivery.settle(0, [])
            return delivery
        deadline_s = time.monotonic() + timeout_s
        with self._changed:
            self._number += 1
            token = self._epoch + self._number.to_bytes(8, "big")
            self._deliveries[token] = (delivery, len(events))
            start = 0
            while start < len(events):
                stop = self._stop(events, start)
                frame = _encode(Parcel(token, start, source, list(events[start:stop])))
                self._append(frame, (start, len(events)), token, deadline_s)
                self._put += 1
                if not self._rows:
                    self._since_s = time.monotonic()
                    self._changed.notify_all()
                self._rows += stop - start
                start = stop
            if self._rows >= self._batch_rows:
                self._changed.notify_all()
        return delivery

    def _stop(self, events: Sequence[bytes], start: int) -> int:
        """Where the parcel that begins at ``start`` ends."""
        size, at = 0, start
        while at < len(events) and at - start < self._batch_rows:
            size += len(events[at])
            if at > start and size > _BATCH_BYTES:
                break
            at += 1
        return at

    def _append(self, frame: bytes, place: tuple[int, int], token: bytes, deadline_s: float) -> None:
        why, (start, n) = "it is full", place
        while not self._is_closing:
            try:
                if self._frames.append(frame, is_durable=False):
                    return
            except OSError as error:
                why = str(error)
            left_s = deadline_s - time.monotonic()
            if left_s <= 0:
                del self._deliveries[token]
                raise BackPressureError(
                    "MS-E501",
                    f"no room for {n - start} of {n} events in the outbox",
                    why=why,
                    hint="wait for the intake to take what waits, or give the client a larger spool_bytes",
                )
            self._changed.wait(min(left_s, 0.2))
        self._deliveries.pop(token, None)
        raise RefusedError("MS-E504", "the client is closed")

    def wait(self, timeout_s: float | None = None) -> bool:
        """Wait until a batch is due; whether one is."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        with self._changed:
            while True:
                now_s = time.monotonic()
                due_s = None
                if self._frames:
                    if self._is_urgent or self._is_closing or self._rows >= self._batch_rows:
                        return True
                    due_s = self._since_s + self._batch_s
                    if now_s >= due_s:
                        return True
                elif self._is_closing or (deadline_s is not None and now_s >= deadline_s):
                    return False
                ends = [end_s for end_s in (due_s, deadline_s) if end_s is not None]
                self._changed.wait(min(ends) - now_s if ends else None)

    def batch(self) -> list[tuple[bytes, Parcel | None]]:
        """The oldest parcels that make one round of requests, with their frames; None for one that cannot be read."""
        with self._changed:
            frames = self._frames.peek(_BATCH_BYTES)
            if not frames and self._frames:
                self._frames.set_aside()
        out: list[tuple[bytes, Parcel | None]] = []
        rows = 0
        for frame in frames:
            try:
                parcel: Parcel | None = _decode(frame)
            except msgspec.DecodeError:
                parcel = None
            rows += len(parcel.events) if parcel is not None else 0
            if out and rows > self._batch_rows:
                break
            out.append((frame, parcel))
        return out

    def done(self, batch: Sequence[tuple[bytes, Parcel | None]]) -> None:
        """Forget what ``batch`` gave: all of it has its outcome."""
        with self._changed:
            self._frames.drop([frame for frame, _ in batch])
            own = [parcel for _, parcel in batch if parcel is not None and parcel.token.startswith(self._epoch)]
            self._rows -= sum(len(parcel.events) for parcel in own)
            self._done += len(own)
            self._since_s = time.monotonic()
            self._is_urgent = self._is_urgent and bool(self._frames)
            self._changed.notify_all()

    def delivery(self, parcel: Parcel) -> Delivery | None:
        """Who waits for a parcel's outcomes; None for one of an earlier process."""
        with self._changed:
            found = self._deliveries.get(parcel.token)
            if found is None:
                return None
            if parcel.start + len(parcel.events) >= found[1]:  # its last parcel
                del self._deliveries[parcel.token]
            return found[0]

    def flush(self, timeout_s: float | None) -> bool:
        """Have what waits now sent now; whether it was within ``timeout_s``."""
        with self._changed:
            self._is_urgent, target = True, self._put
            self._changed.notify_all()
            return self._changed.wait_for(lambda: not self._frames or 0 < target <= self._done, timeout_s)

    @property
    def waiting(self) -> bool:
        """Whether anything waits."""
        with self._changed:
            return bool(self._frames)

    def sync(self) -> None:
        """Have on the disk what waits in a spool."""
        self._frames.sync()

    def end(self) -> None:
        """Take no more."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of the files; those who still wait for outcomes are told."""
        with self._changed:
            self._frames.close()
            for delivery, _ in self._deliveries.values():
                delivery.give_up()
            self._deliveries.clear()


def encoded(events: Any) -> list[bytes]:
    """The JSON of one event, or of each of a list.

    Raises:
        ContractError: One of them is no mapping, or holds what no JSON can say (MS-E505).
    """
    rows = events if isinstance(events, (list, tuple)) else [events]
    return [_json(row, i) for i, row in enumerate(rows)]


def _scalar(value: Any) -> Any:
    """A NumPy or pandas scalar as Python's own."""
    item = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", 0) == 0:
        return item()
    tolist = getattr(value, "tolist", None)
    if callable(tolist):
        return tolist()
    raise TypeError(f"a {type(value).__name__} cannot be sent")


def _refuse_infinite(row: Any) -> None:
    """JSON has no word for infinity, and null is something else.

    Raises:
        ValueError: A column is infinite.
    """
    for name, value in row.items() if isinstance(row, Mapping) else ():
        number = value.item() if hasattr(value, "item") and getattr(value, "ndim", 0) == 0 else value
        if isinstance(number, float) and math.isinf(number):
            raise ValueError(f"{name} is {number}")


_to_json = msgspec.json.Encoder(enc_hook=_scalar).encode


def json_of(value: Any) -> bytes:
    """Its JSON.

    Raises:
        ContractError: It holds what no JSON can say (MS-E505).
    """
    try:
        raw = _to_json(value)
        if b"null" in raw:
            for row in value if isinstance(value, (list, tuple)) else (value,):
                _refuse_infinite(row)
        return raw
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise ContractError("MS-E505", f"this cannot be sent: {error}") from None


def _json(row: Any, place: int) -> bytes:
    try:
        raw = _to_json(row)
        if b"null" in raw:
            _refuse_infinite(row)
    except (TypeError, ValueError, RecursionError, UnicodeEncodeError) as error:
        raise ContractError("MS-E505", f"this cannot be sent: {error}", where=f"event {place}") from None
    if not raw.startswith(b"{"):
        raise ContractError(
            "MS-E505",
            f"an event is a mapping of columns to values, not a {type(row).__name__}",
            where=f"event {place}",
        )
    return raw
