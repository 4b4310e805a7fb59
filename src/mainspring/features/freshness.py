"""How far the fold is behind, and how old what it has is: service levels that are told apart from parity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mainspring.features.statistics import Feed, read_feeds

if TYPE_CHECKING:
    from mainspring.definitions import ViewDef
    from mainspring.events.log import Log
    from mainspring.features.store import OnlineStore, Root


@dataclass(frozen=True)
class Lag:
    """What the log holds and the fold has not counted yet.

    Attributes:
        records: How many records.
        seconds: Age of the oldest of them, since it was written down; 0 when there is none.
    """

    records: int
    seconds: float


@dataclass(frozen=True)
class ViewFreshness:
    """Where a view version stands.

    Attributes:
        offset: Log offset folded into it; None when it has no state.
        serves: Whether it is read: its state stands where the store does.
        lag: Behind the log.
        feeds: What it has had of each source, by the source's name; a source of which nothing came is not there.
        too_old: Events that came too late to count anywhere.
    """

    view: ViewDef
    offset: int | None
    serves: bool
    lag: Lag
    feeds: Mapping[str, Feed]
    too_old: int

    def age_s(self, source: str, now_us: int) -> float | None:
        """Seconds since the newest folded event of a source became known; None when none has been folded."""
        feed = self.feeds.get(source)
        return None if feed is None else max(0.0, (now_us - feed.newest_known_us) / 1e6)

    def stale(self, now_us: int, fresh_us: int) -> tuple[str, ...]:
        """Sources whose newest folded event became known longer ago than ``fresh_us``, or of which nothing came."""
        late = []
        for source in self.view.sources:
            age_s = self.age_s(source.name, now_us)
            if age_s is None or age_s * 1e6 > fresh_us:
                late.append(source.name)
        return tuple(late)


def lag_of(log: Log, offset: int, now_us: int) -> Lag:
    """How far a fold that stands at ``offset`` is behind the log."""
    records = log.last_offset() - offset
    if records <= 0:
        return Lag(0, 0.0)
    oldest = log.read(offset, 1)
    return Lag(records, max(0.0, (now_us - oldest[0].ingested_at_us) / 1e6) if oldest else 0.0)


def freshness(view: ViewDef, store: OnlineStore, log: Log, now_us: int) -> ViewFreshness:
    """Where a view version stands in the store, as of one snapshot of it."""
    with store.env.begin() as txn:
        root: Root = store.root(txn)
        state = root.views.get(f"{view.name}@{view.version}")
        feeds = {} if state is None else read_feeds(txn, store.statistics, state.id)
    offset = None if state is None or state.offset < 0 else state.offset
    lag = lag_of(log, offset or 0, now_us)
    serves = offset is not None and offset == root.offset
    return ViewFreshness(view, offset, serves, lag, feeds, 0 if state is None else state.too_old)
