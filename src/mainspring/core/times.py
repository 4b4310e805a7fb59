"""Instants: int64 microseconds since 1970 UTC inside, timezone-aware datetimes at the edges."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


def from_datetime(moment: datetime) -> int:
    """Microseconds since 1970 UTC; a naive datetime is read as UTC.

    >>> from_datetime(datetime(1970, 1, 2, tzinfo=UTC))
    86400000000
    """
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def to_datetime(time_us: int) -> datetime:
    """The UTC datetime of ``time_us``.

    Raises:
        OverflowError: Outside the years 1 to 9999.
    """
    return _EPOCH + time_us * _MICROSECOND


def to_iso(time_us: int) -> str:
    """ISO 8601 in UTC, as logs and pages show it.

    >>> to_iso(0)
    '1970-01-01T00:00:00Z'
    """
    return to_datetime(time_us).isoformat().replace("+00:00", "Z")


def parse_time(text: str) -> int:
    """Microseconds of an ISO 8601 text; a text without an offset is read as UTC.

    Raises:
        ValueError: The text is no instant.
    """
    return from_datetime(datetime.fromisoformat(text))
