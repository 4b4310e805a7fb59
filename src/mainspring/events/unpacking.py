"""Pieces of a large body as they were before its ``Content-Encoding``, unpacked no further than they are asked for."""

from __future__ import annotations

import io
import threading
import zlib
from collections import deque

from mainspring.core.errors import ContractError

_PIECE_BYTES = 65_536


class Plain:
    """Pieces as they come; what the others do besides is to unpack them."""

    def __init__(self) -> None:
        self._parts: deque[bytes] = deque()

    @property
    def waits(self) -> bool:
        """Whether a piece may be there."""
        return bool(self._parts)

    def add(self, part: bytes) -> None:
        """The next piece, as it came."""
        for start in range(0, len(part), _PIECE_BYTES):
            self._parts.append(part[start : start + _PIECE_BYTES])

    def end(self) -> None:
        """There is no other."""

    def piece(self) -> bytes | None:
        """The next piece, unpacked; None when there is none yet, or no more.

        Raises:
            ContractError: It is not what it is said to be (MS-E210).
        """
        return self._parts.popleft() if self._parts else None

    def check_end(self) -> None:
        """Whether all is whole, once there are no more pieces.

        Raises:
            ContractError: It is not (MS-E210).
        """

    def close(self) -> None:
        """Let go of everything; nobody asks any more."""


class Gzip(Plain):
    """Members of gzip, one after the other."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._rest = b""

    @property
    def waits(self) -> bool:
        """Whether there is something to unpack."""
        return bool(self._rest)

    def add(self, part: bytes) -> None:
        """The next piece, packed."""
        self._rest += part

    def piece(self) -> bytes | None:
        """The next piece, unpacked."""
        while self._rest:
            if self._member.eof:
                self._member = zlib.decompressobj(wbits=31)
            try:
                piece = self._member.decompress(self._rest, _PIECE_BYTES)
            except zlib.error as error:
                raise _packed_wrongly(f"the body is no gzip: {error}") from None
            self._rest = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
            if piece:
                return piece
        return None

    def check_end(self) -> None:
        """Whether the last member is whole."""
        if not self._member.eof:
            raise _packed_wrongly("the gzip body ends early")


class Zstd(Plain):
    """Frames of zstd, one after the other.

    Arrow's decompressor draws its input, and here input is handed in: so it runs in a thread, and thread and caller
    take turns. Only one of them ever runs.
    """

    def __init__(self) -> None:
        super().__init__()
        self._is_ended = self._is_done = self._is_closed = False
        self._mine, self._its = threading.Semaphore(0), threading.Semaphore(0)
        self._thread: threading.Thread | None = None
        self._piece: bytes | None = None
        self._error = ""
        self._may_have_more = False

    @property
    def waits(self) -> bool:
        """Whether there is something to unpack, or may be something unpacked."""
        return not self._is_done and (bool(self._parts) or self._may_have_more or self._is_ended)

    def end(self) -> None:
        """There is no other."""
        self._is_ended = True

    def piece(self) -> bytes | None:
        """The next piece, unpacked."""
        if not self.waits:
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="zstd", daemon=True)
            self._thread.start()
        self._piece = None
        self._its.release()
        self._mine.acquire()
        if self._error:
            raise _packed_wrongly(self._error)
        self._may_have_more = self._piece is not None
        return self._piece

    def close(self) -> None:
        """Let the thread end."""
        self._parts.clear()
        self._is_ended = self._is_closed = True
        if self._thread is not None:
            self._its.release()
            self._thread.join()

    def read(self, size: int) -> bytes:
        """In the thread: some of what has come, once something has; nothing at the end."""
        while not self._parts and not self._is_ended:
            self._turn()
        if not self._parts:
            return b""
        part = self._parts.popleft()
        if len(part) > size:
            self._parts.appendleft(part[size:])
        return part[:size]

    def _turn(self) -> None:
        """In the thread: let the caller go on, until it asks again."""
        self._mine.release()
        self._its.acquire()

    def _run(self) -> None:
        import pyarrow as pa

        self._its.acquire()
        try:
            with pa.CompressedInputStream(pa.PythonFile(_Reader(self), "r"), "zstd") as stream:
                while (piece := stream.read(_PIECE_BYTES)) and not self._is_closed:
                    self._piece = piece
                    self._turn()
        except (OSError, pa.ArrowException) as error:
            is_cut = self._is_ended and not self._parts
            self._error = "the zstd body ends early" if is_cut else f"the body is no zstd: {str(error)[:200]}"
        self._piece, self._is_done = None, True
        self._mine.release()


class _Reader(io.RawIOBase):
    """What Arrow reads from."""

    def __init__(self, source: Zstd) -> None:
        super().__init__()
        self._source = source

    def readable(self) -> bool:
        """It is."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most ``size`` bytes."""
        return self._source.read(size)


UNPACKERS: dict[str, type[Plain]] = {"": Plain, "identity": Plain, "gzip": Gzip, "x-gzip": Gzip, "zstd": Zstd}
"""By ``Content-Encoding``."""


def _packed_wrongly(what: str) -> ContractError:
    return ContractError("MS-E210", what, where="$")
