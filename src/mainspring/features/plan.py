"""How questions are written down for the kernels: functions, and the columns of plans, keys, moments and pasts.

``MOMENTS`` are the bits of ``tree`` that a walk over a window's events gathers.
"""

from __future__ import annotations

from mainspring.features.exact import DIGITS
from mainspring.features.status import Status
from mainspring.features.tree import COUNT, EXTREMES, SQUARES, SUM, SUMMARY

# Aggregate functions, as a plan numbers them; from F_SCAN on they are the scans' own.
F_COUNT, F_SUM, F_MEAN, F_STD, F_MIN, F_MAX, F_LAST, F_AGE, F_VAR, F_FIRST, F_RATE = range(11)
F_SCAN = 16
# Columns of a plan: value column, function, index of the window, ttl (−1: none), place of the first answer, bits to
# gather, how many answers.
P_COLUMN, P_FUNCTION, P_WINDOW, P_TTL, P_OUT, P_GATHER, P_SLOTS = range(7)
PLAN = 7
# A past: a summary, then the latest and the earliest value; in int64, (time, known_at, offset) of the latest, of the
# earliest, then the accumulator's digits.
P_LAST, P_FIRST = SUMMARY, SUMMARY + 1
PAST = SUMMARY + 2
PAST_DIGITS = 6
PAST_INTS = PAST_DIGITS + DIGITS
# Rows of the keys: first event and first leaf of each, and the end; its place in the past (−1: none); whether its
# leaves hold only their outermost events.
KEY_EVENT, KEY_LEAF, KEY_PAST, KEY_HOLLOW = range(4)
# Rows of the moments: time asked about, greatest visible stamp, place of the answer, key (−1: without events).
M_T, M_LIMIT, M_ROW, M_KEY = range(4)

PRESENT, MISSING, EXPIRED, UNAVAILABLE = (
    int(s) for s in (Status.PRESENT, Status.MISSING, Status.EXPIRED, Status.UNAVAILABLE)
)
PARTIAL = 255  # a hollow key's answer that needs all of its events
UNBOUNDED = -1  # a window since the beginning
MOMENTS = COUNT | SUM | SQUARES | EXTREMES
