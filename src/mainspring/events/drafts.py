"""What is appended to the log, what becomes of it, and how often each of that was so."""

from __future__ import annotations

import msgspec

from mainspring.definitions.values import SourceDef
from mainspring.events.contract import Row


class Draft(msgspec.Struct, frozen=True, gc=False):
    """A checked row on its way into the log.

    Attributes:
        raw: The bytes it came as, for quarantine; made from the row if None.
        history: Whether it keeps the ``known_at`` that its source declares instead of becoming known now.
        resolves: Sequence number of the quarantined record that this is the mended form of.
        first_wins: A request that is asked again is the first one, whatever else it says now: its id alone decides.
    """

    source: SourceDef
    row: Row
    raw: bytes | None = None
    history: bool = False
    sender: str = ""
    resolves: int | None = None
    first_wins: bool = False

    @property
    def known_at_us(self) -> int:
        """What the source declares for history."""
        known_at_us: int = self.row[self.source.places[self.source.known_at or self.source.time]]
        return known_at_us


class Ack(msgspec.Struct, frozen=True, gc=False):
    """What became of a draft: accepted, duplicate (of the event at ``offset``) or quarantined, with the reason."""

    status: str
    offset: int | None = None
    reason: str | None = None
    id: str | None = None
    code: str | None = None
    path: str | None = None


class Counts(msgspec.Struct, frozen=True):
    """Of one source since the beginning: sent = accepted + duplicate + quarantined; mended were quarantined before."""

    accepted: int = 0
    duplicate: int = 0
    quarantined: int = 0
    mended: int = 0


class Sent(msgspec.Struct, frozen=True):
    """How often a deprecated column came, other than null or its default, and when it last did."""

    times: int
    last_us: int
