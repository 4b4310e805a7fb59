"""Bodies larger than are kept: their records are checked and committed as they come, with bounded memory.

``POST /events/{source}`` as NDJSON or an Arrow stream, plain, gzip or zstd. The answer comes at the end and counts all
of it; ``errors`` and ``duplicates`` list the first thousand. When something goes wrong on the way the answer is the
error, and ``taken`` in it says what became of the records before: they stay, and with ids may be sent again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import msgspec

from mainspring.core.errors import BackPressureError, ContractError, MainspringError, TooLargeError
from mainspring.core.exchange import Answer
from mainspring.core.http import Deferred, Response, error_headers, json_response
from mainspring.events.answers import events_answer
from mainspring.events.batch import Batch
from mainspring.events.bodies import ARROW, NDJSON, empty_body, kind_of
from mainspring.events.committer import Committer
from mainspring.events.contract import Contract
from mainspring.events.held import Reject
from mainspring.events.internal import Entries
from mainspring.events.log import Ack
from mainspring.events.pieces import ArrowBatches, Lines, Records, too_large
from mainspring.events.unpacking import UNPACKERS, Plain

_MOST_STREAMS = 16
_MOST_PENDING = 4
_BATCH_ROWS, _BATCH_BYTES = 2_000, 1_048_576
_MOST_LISTED = 1_000
_TURN_PIECES = 16
_MOST_BROKEN = 10_000


class Stream:
    """One large body on its way into the log: a ``core.http.Sink``.

    Args:
        source: Unpacks the body.
        records: Cuts it into records.
        max_bytes: Most that may come in a row without a record in it.
        max_stream_bytes: Most that all of it may unpack to.
        done: Called when it is over, however it ends.
    """

    def __init__(
        self,
        source: Plain,
        records: Records,
        committer: Committer,
        max_bytes: int,
        max_stream_bytes: int,
        done: Callable[[], None],
    ) -> None:
        self.deferred = Deferred()
        self.wake: Callable[[], None] = lambda: None
        self._input = source
        self._records = records
        self._committer = committer
        self._max_bytes = max_bytes
        self._max_stream_bytes = max_stream_bytes
        self._done = done
        self._groups: list[Entries] = []
        self._rows = self._group_bytes = self._bytes = self._pending = self._sent = self._barren_bytes = (
            self._broken
        ) = 0
        self._tally = Tally()
        self._error: MainspringError | None = None
        self._is_ending = self._is_over = self._has_turn = False

    @property
    def full(self) -> bool:
        """Whether it waits for the log."""
        return self._pending >= _MOST_PENDING or (self._error is None and self._input.waits)

    def feed(self, part: bytes) -> None:
        """The next piece of the body."""
        if self._error is None:
            self._input.add(part)
            self._advance()

    def end(self) -> None:
        """The body is whole."""
        self._is_ending = True
        self._input.end()
        self._advance()

    def abort(self) -> None:
        """The client is gone: what is committed stays, what is not is forgotten."""
        self._is_ending = False
        self._finish()

    def _advance(self) -> None:
        steps = 0
        try:
            while self._error is None and self._pending < _MOST_PENDING:
                if steps >= _TURN_PIECES:  # the loop has others to serve
                    self._go_on_later()
                    break
                if (piece := self._input.piece()) is None:
                    break
                self._bytes += len(piece)
                if self._bytes > self._max_stream_bytes:
                    what = f"the body unpacks to more than {self._max_stream_bytes} bytes"
                    raise TooLargeError("MS-E208", what, where="body", hint="send it in several requests")
                steps += max(1, self._take(self._records.feed(piece)))
            if self._is_ending and self._error is None and not self._input.waits and self._pending < _MOST_PENDING:
                self._is_ending = False
                self._input.check_end()
                self._take(self._records.end())
                self._submit()
                if not self._sent:
                    raise empty_body()
                self._is_over = True
        except MainspringError as error:
            self._error = error
            self._submit()
        if (self._is_over or self._error is not None) and not self._pending:
            self._answer()

    def _go_on_later(self) -> None:
        if not self._has_turn and self._input.waits:
            self._has_turn = True
            asyncio.get_running_loop().call_soon(self._go_on)

    def _go_on(self) -> None:
        self._has_turn = False
        self._advance()
        self.wake()

    def _take(self, found: Iterator[tuple[Entries, int]]) -> int:
        """Queue what was found; returns how many groups that were, each of them work."""
        groups = 0
        for entries, size in found:
            groups += 1
            self._barren_bytes = 0 if entries else self._barren_bytes + size
            if self._barren_bytes > self._max_bytes:
                raise too_large("what lies between two records", self._max_bytes)
            taken = self._sound(entries)
            if taken:
                self._groups.append(taken)
            self._rows += len(taken)
            self._group_bytes += size
            if self._broken >= _MOST_BROKEN:
                what = f"{_MOST_BROKEN} records in a row break the contract; the rest was not read"
                raise ContractError(
                    "MS-E215", what, where="body", hint="mend what writes them; taken says what is held"
                )
            if self._rows >= _BATCH_ROWS or self._group_bytes >= _BATCH_BYTES:
                self._submit()
        return groups

    def _sound(self, entries: Entries) -> Entries:
        """The records up to the one with which too many in a row break the contract: mostly all."""
        if isinstance(entries, Batch):
            self._broken = 0 if entries else self._broken
            return entries
        for place, entry in enumerate(entries, 1):
            self._broken = self._broken + 1 if isinstance(entry, Reject) else 0
            if self._broken >= _MOST_BROKEN:
                return entries[:place]
        return entries

    def _submit(self) -> None:
        if not self._groups:
            return
        groups, self._groups = self._groups, []
        size, self._group_bytes = self._group_bytes, 0
        start, self._sent = self._sent, self._sent + self._rows
        self._rows = 0
        self._pending += 1

        def finish(parts: Sequence[Sequence[Ack]], last_offset: int) -> Response:
            at = start
            for acks in parts:
                self._tally.add(acks, at, last_offset)
                at += len(acks)
            return Response(200, b"")

        self._committer.hand_over(groups, size, finish, self._committed)

    def _committed(self, response: Response) -> None:
        self._pending -= 1
        if response.status != 200 and self._error is None:
            self._error = _said(response)
        self._advance()
        self.wake()

    def _answer(self) -> None:
        if self.deferred.answered:
            return
        if self._error is None:
            response = self._tally.answer()
        else:
            error = self._error
            said = error.to_dict() | {"taken": self._tally.counts()}
            response = json_response(error.http_status, said, error_headers(error))
        self._finish()
        self.deferred.answer(response)

    def _finish(self) -> None:
        self._input.close()
        self._input = Plain()
        done, self._done = self._done, lambda: None
        done()


class Tally:
    """What became of the records of a stream so far."""

    def __init__(self) -> None:
        self._counts = {"accepted": 0, "duplicate": 0, "quarantined": 0}
        self._last_offset = 0
        self._listed: dict[str, list[Any]] = {"duplicates": [], "errors": []}

    def add(self, acks: Sequence[Ack], start: int, last_offset: int) -> None:
        """Those that begin at the place ``start``."""
        said = msgspec.json.decode(events_answer(acks, last_offset, numbers=range(start, start + len(acks))).body)
        for word in self._counts:
            self._counts[word] += said[word]
        for word, listed in self._listed.items():
            listed.extend(said[word][: _MOST_LISTED - len(listed)])
        self._last_offset = max(self._last_offset, said["last_offset"])

    def counts(self) -> dict[str, int]:
        """How many had which outcome."""
        return dict(self._counts)

    def answer(self) -> Response:
        """As for a body that was kept."""
        held = self._counts["quarantined"]
        status = 422 if held and held == sum(self._counts.values()) else 200
        return json_response(status, self._counts | {"last_offset": self._last_offset} | self._listed)


class Streams:
    """The large bodies that are under way.

    Args:
        max_bytes: Most that one record, or one record batch, may have.
        max_stream_bytes: Most that a whole body may unpack to.
    """

    def __init__(self, committer: Committer, max_bytes: int, max_stream_bytes: int) -> None:
        self._committer = committer
        self._max_bytes = max_bytes
        self._max_stream_bytes = max_stream_bytes
        self._running = 0

    def open(self, headers: Mapping[str, str], contract: Contract, sender: str) -> Stream | None:
        """What takes a body; None when it is of a kind that is taken only whole.

        Raises:
            BackPressureError: The queue is full (MS-E306), or too many bodies are under way (MS-E311).
        """
        if not _can(headers):
            return None
        self._committer.check_room(0)
        if self._running >= _MOST_STREAMS:
            raise BackPressureError("MS-E311", f"{_MOST_STREAMS} large bodies are under way; nothing of this was taken")
        self._running += 1
        records = (ArrowBatches if kind_of(headers) == ARROW else Lines)(contract, sender, self._max_bytes)
        limits = self._max_bytes, self._max_stream_bytes
        return Stream(UNPACKERS[_encoding(headers)](), records, self._committer, *limits, self._ended)

    def _ended(self) -> None:
        self._running -= 1


def _can(headers: Mapping[str, str]) -> bool:
    """Whether a large body with these headers can be taken piece by piece."""
    return kind_of(headers) in (ARROW, *NDJSON) and _encoding(headers) in UNPACKERS


def _encoding(headers: Mapping[str, str]) -> str:
    return headers.get("content-encoding", "").strip().lower()


def _said(response: Response) -> MainspringError:
    """The error that the committer answered with."""
    return Answer(response.status, {}, response.body).error()
