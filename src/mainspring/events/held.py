"""What quarantine holds: a record that was not let in, with its bytes, the reason and where in it the reason lies."""

from __future__ import annotations

import msgspec

from mainspring.core.errors import ContractError

MAX_RAW_BYTES = 65_536
OPEN = "open"
REPLAYED = "replayed"
DUPLICATE = "duplicate"
DISCARDED = "discarded"

_encode = msgspec.msgpack.Encoder().encode


class Held(msgspec.Struct, frozen=True, array_like=True):
    """A record in quarantine.

    Attributes:
        sequence: Its number, from 1, rising.
        raw: The bytes as they came, at most ``MAX_RAW_BYTES`` of them; empty once resolved.
        code: Error code of the reason, ``path`` where in the record it lies (``$.arr_delay_min``).
        version: Of the contract that it was checked against; empty when the source is unknown.
        sender: Who sent it: ``http``, a file and line.
        status: open, replayed (``offset`` says where it is in the log), duplicate or discarded.
        is_cut: Whether ``raw`` is only the beginning.
        note: Why it was discarded, in the words of whoever did.
    """

    sequence: int
    source: str
    raw: bytes
    code: str
    reason: str
    path: str
    version: str
    sender: str
    held_at_us: int
    is_history: bool = False
    is_cut: bool = False
    status: str = OPEN
    offset: int | None = None
    note: str = ""

    @property
    def text(self) -> str:
        """The bytes as printable text: control characters and what is no UTF-8 are escaped, for terminals and pages."""
        shown = self.raw.decode("utf-8", errors="backslashreplace")
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in shown)

    def to_bytes(self) -> bytes:
        """As the log stores it."""
        return _encode(self)


def from_bytes(raw: bytes) -> Held:
    """What ``Held.to_bytes`` wrote."""
    return _DECODER.decode(raw)


_DECODER = msgspec.msgpack.Decoder(Held)


class Reject(msgspec.Struct, frozen=True, gc=False):
    """A record on its way into quarantine: it broke its contract at the door."""

    source: str
    raw: bytes
    code: str
    reason: str
    path: str = "$"
    version: str = ""
    sender: str = ""
    is_history: bool = False
    resolves: int | None = None

    @classmethod
    def of(
        cls,
        source: str,
        raw: bytes,
        error: ContractError,
        *,
        version: str = "",
        sender: str = "",
        is_history: bool = False,
    ) -> Reject:
        """From the error that a contract raised."""
        return cls(source, raw, error.code, error.what, error.where or "$", version, sender, is_history)
