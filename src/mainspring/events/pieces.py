"""A large body cut into records, with no more in memory than one of them and a piece."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Protocol

from mainspring.core.errors import TooLargeError
from mainspring.events.arrow import ArrowError, bytes_after, is_rows
from mainspring.events.bodies import UNPACKED, arrow_entries, entries_from, lines_in
from mainspring.events.contract import Contract
from mainspring.events.internal import Entries

_ARROW_ROWS = 65_536
_END = b"\xff\xff\xff\xff\0\0\0\0"


class Records(Protocol):
    """What makes records of pieces of a body."""

    def feed(self, piece: bytes) -> Iterator[tuple[Entries, int]]:
        """The records that are whole now, and how many bytes they were."""

    def end(self) -> Iterator[tuple[Entries, int]]:
        """Those that the end makes whole."""


class Lines:
    """A record a line."""

    def __init__(self, contract: Contract, sender: str, max_bytes: int) -> None:
        self._contract = contract
        self._sender = sender
        self._max_bytes = max_bytes
        self._rest: list[bytes] = []
        self._rest_bytes = 0

    def feed(self, piece: bytes) -> Iterator[tuple[Entries, int]]:
        """The lines that are whole now."""
        if b"\n" not in piece:
            self._rest.append(piece)
            self._rest_bytes += len(piece)
            if self._rest_bytes > self._max_bytes:
                raise too_large("a line", self._max_bytes)
            return
        whole, _, rest = (b"".join(self._rest) + piece).rpartition(b"\n")
        self._rest = [rest]
        self._rest_bytes = len(rest)
        yield entries_from(lines_in(whole), self._contract, self._sender), len(whole) + 1

    def end(self) -> Iterator[tuple[Entries, int]]:
        """A last line needs no break after it."""
        if self._rest_bytes:
            yield from self.feed(b"\n")


class ArrowBatches:
    """The rows of each record batch of an Arrow IPC stream, once it is whole."""

    def __init__(self, contract: Contract, sender: str, max_bytes: int) -> None:
        self._contract = contract
        self._sender = sender
        self._max_bytes = max_bytes
        self._buffer = bytearray()
        self._before = b""  # schema and dictionaries, which every batch needs

    def feed(self, piece: bytes) -> Iterator[tuple[Entries, int]]:
        """The batches that are whole now."""
        self._buffer += piece
        while (size := self._message_bytes()) is not None:
            message = bytes(self._buffer[:size])
            del self._buffer[:size]
            if is_rows(message):
                most = UNPACKED * self._max_bytes
                yield arrow_entries(self._before + message, self._contract, _ARROW_ROWS, most, self._sender), size
            else:
                self._before += message
                if len(self._before) > self._max_bytes:
                    raise too_large("schema and dictionaries", self._max_bytes)

    def end(self) -> Iterator[tuple[Entries, int]]:
        """Nothing may be left."""
        if self._buffer and bytes(self._buffer) != _END:
            raise ArrowError("MS-E211", "the Arrow stream ends early", where="$")
        yield from ()

    def _message_bytes(self) -> int | None:
        """Length of the first message in the buffer; None while it is not whole."""
        try:
            size = bytes_after(self._buffer)
        except (struct.error, IndexError, ValueError, OverflowError):
            raise ArrowError("MS-E211", "this is no Arrow IPC stream", where="$") from None
        if size is None:
            return None
        if size > self._max_bytes:
            raise too_large("a record batch", self._max_bytes)
        return size if len(self._buffer) >= size else None


def too_large(what: str, most: int) -> TooLargeError:
    """The error of a part of a body that is larger than a record may be."""
    hint = "shorter lines, or smaller record batches: max_chunksize= of pyarrow"
    return TooLargeError("MS-E213", f"{what} of a large body has more than {most} bytes", where="body", hint=hint)
