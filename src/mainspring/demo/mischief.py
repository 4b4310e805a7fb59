"""What goes wrong on the way, on purpose: each is planned for a day, done once, and noted for the report."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

DAY_US = 86_400_000_000
FLIPPED_SHARE = 0.3
FLIPPED = "three labels in ten were flipped"


@dataclass(frozen=True)
class Mischief:
    """When what goes wrong, in microseconds since 1970 UTC.

    Attributes:
        broken_from_us: From here the feed of arrivals sends minutes under another name, as text.
        broken_until_us: Until here.
        mended_us: When somebody mends and replays what lies in quarantine.
        killed_us: When the worker is killed (``kill -9``) in mid-stream.
        resent_us: When a sender that saw no answer sends a tick again.
        corrupted_us: From when on a release trained on corrupted labels is pushed past its gates, as soon as no other
            release is on its way.
    """

    broken_from_us: int
    broken_until_us: int
    mended_us: int
    killed_us: int
    resent_us: int
    corrupted_us: int

    @classmethod
    def planned(cls, start_us: int) -> Mischief:
        """The plan of the demo that starts at midnight ``start_us``."""
        return cls(
            broken_from_us=start_us + 5 * DAY_US,
            broken_until_us=start_us + 6 * DAY_US,
            mended_us=start_us + 6 * DAY_US + DAY_US // 3,
            killed_us=start_us + 9 * DAY_US + DAY_US * 5 // 8,
            resent_us=start_us + 10 * DAY_US + DAY_US // 2,
            corrupted_us=start_us + 13 * DAY_US,
        )


def break_feed(body: bytes) -> bytes:
    """The feed after somebody's clever change: ``arr_delay_min`` has become ``arrival_delay``."""
    return body.replace(b'"arr_delay_min":', b'"arrival_delay":')


MEND: dict[str, dict[str, str]] = {"rename": {"arrival_delay": "arr_delay_min"}}
"""What puts it right, as ``mainspring quarantine replay arrived --rename arrival_delay=arr_delay_min`` does."""


def flip_labels(y: np.ndarray, seed: int, share: float = FLIPPED_SHARE) -> np.ndarray:
    """Labels with a share of them turned round, shape (n,)."""
    flip = np.random.default_rng(seed).random(len(y)) < share
    return np.where(flip, 1.0 - y, y)
