"""When things are due: pure arithmetic on boundaries of time."""

from __future__ import annotations


def boundaries(after_us: int, now_us: int, every_us: int) -> list[int]:
    """Multiples of ``every_us`` in ``(after_us, now_us]``, in order.

    >>> boundaries(5, 30, 10)
    [10, 20, 30]
    """
    first = (after_us // every_us + 1) * every_us
    return list(range(first, now_us + 1, every_us))


def retrain_is_due(trained_at_us: int, now_us: int, every_us: int | None) -> bool:
    """Whether the schedule asks for a training.

    Args:
        trained_at_us: When the newest training began, successful or not.
        now_us: The moment asked about.
        every_us: The schedule, or None for none.
    """
    return every_us is not None and now_us - trained_at_us >= every_us
