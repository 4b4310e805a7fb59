"""What was sent and what became of it, by ids: nothing lost, nothing counted twice."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import polars as pl


@dataclass
class Account:
    """The sender's own book: every event it sent and how it was answered; ``loaded`` of them in a batch, as history."""

    sent: Counter[str] = field(default_factory=Counter)
    accepted: Counter[str] = field(default_factory=Counter)
    duplicate: Counter[str] = field(default_factory=Counter)
    quarantined: Counter[str] = field(default_factory=Counter)
    predictions: int = 0
    failed_requests: int = 0
    mended: int = 0
    loaded: int = 0
    ids: dict[str, set[str]] = field(default_factory=dict)
    latencies_ms: list[float] = field(default_factory=list)

    def take(self, source: str, ids: list[str], answer: dict[str, int]) -> None:
        """Book one answered batch."""
        self.sent[source] += len(ids)
        self.accepted[source] += answer["accepted"]
        self.duplicate[source] += answer["duplicate"]
        self.quarantined[source] += answer["quarantined"]
        self.ids.setdefault(source, set()).update(ids)

    @property
    def balances(self) -> bool:
        """Whether sent = accepted + duplicate + quarantined, source by source."""
        return all(n == self.accepted[s] + self.duplicate[s] + self.quarantined[s] for s, n in self.sent.items())

    def latency(self, share: float) -> float:
        """A quantile of the time from sending a tick's requests to each answer, in milliseconds."""
        return float(np.quantile(self.latencies_ms, share)) if self.latencies_ms else 0.0


@dataclass(frozen=True)
class Reconciliation:
    """One source: ids that were sent against ids in the log and lake.

    Attributes:
        lost: Sent and nowhere.
        twice: In the log more than once.
        strange: In the log and never sent.
    """

    source: str
    sent: int
    found: int
    lost: int
    twice: int
    strange: int


def reconcile(source: str, sent: set[str], frame: pl.DataFrame) -> Reconciliation:
    """Compare by ids; ``frame`` holds all events of the source, column ``_id``."""
    found = frame["_id"]
    unique = set(found.unique().to_list())
    return Reconciliation(
        source, len(sent), found.len(), len(sent - unique), found.len() - len(unique), len(unique - sent)
    )
