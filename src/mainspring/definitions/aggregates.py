"""The aggregate functions that users write in a feature view: ``ms.mean("amount", window="24h")``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True, eq=False)
class Pending:
    """An aggregate before it knows its view."""

    function: str
    value: str | pl.Expr | None
    window: str | None = None
    where: pl.Expr | None = None
    ttl: str | None = None
    k: Any = 1  # as written, to be checked
    q: float | None = None
    half_life: str | None = None
    per: str | None = None


def count(value: str | pl.Expr | None = None, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """How many events (or non-null values) the window holds; 0 when empty."""
    return Pending("count", value, window, where)


def sum(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Correctly rounded exact sum (as ``math.fsum``), whatever the order of events."""
    return Pending("sum", value, window, where)


def mean(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Exact sum divided by the count."""
    return Pending("mean", value, window, where)


def var(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Sample variance (divisor n − 1); null below two values; live and replay agree within 1e-12 relative."""
    return Pending("var", value, window, where)


def std(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Sample standard deviation (divisor n − 1); null below two values; agrees within 1e-12 relative."""
    return Pending("std", value, window, where)


def min(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Least value."""
    return Pending("min", value, window, where)


def max(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Greatest value."""
    return Pending("max", value, window, where)


def first(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Earliest non-null value."""
    return Pending("first", value, window, where)


def last(
    value: str | pl.Expr, *, window: str | None = None, ttl: str | None = None, where: pl.Expr | None = None
) -> Pending:
    """Latest non-null value; missing once it is older than ``ttl``."""
    return Pending("last", value, window, where, ttl)


def last_k(
    value: str | pl.Expr,
    k: int,
    *,
    window: str | None = None,
    ttl: str | None = None,
    where: pl.Expr | None = None,
) -> Pending:
    """The latest ``k`` non-null values, latest first: features ``name_1`` to ``name_k``, null where there are fewer."""
    return Pending("last_k", value, window, where, ttl, k=k)


def age(*, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Seconds since the latest event."""
    return Pending("age", None, window, where)


def rate(value: str | pl.Expr | None = None, *, window: str, per: str = "1s", where: pl.Expr | None = None) -> Pending:
    """Events (or non-null values) per ``per``: the count divided by the window's length; 0 when empty."""
    return Pending("rate", value, window, where, per=per)


def ewma(value: str | pl.Expr, *, half_life: str, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """Mean in which an event weighs half as much for each ``half_life`` of its age."""
    return Pending("ewma", value, window, where, half_life=half_life)


def trend(value: str | pl.Expr, *, window: str | None = None, per: str = "1h", where: pl.Expr | None = None) -> Pending:
    """Slope of the least-squares line over time, per ``per``; null below two values or at one instant only."""
    return Pending("trend", value, window, where, per=per)


def distinct(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """How many different values there are, exactly; 0 when empty."""
    return Pending("distinct", value, window, where)


def approx_distinct(value: str | pl.Expr, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """How many different values there are, by HyperLogLog with 4,096 registers: standard error 1.6 %; 0 when empty."""
    return Pending("approx_distinct", value, window, where)


def quantile(value: str | pl.Expr, q: float, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """The ``q`` quantile by DDSketch: within 0.78 % of the value at that rank, relative."""
    return Pending("quantile", value, window, where, q=q)


def top_k(value: str | pl.Expr, k: int, *, window: str | None = None, where: pl.Expr | None = None) -> Pending:
    """The ``k`` most frequent values, exactly: features ``name_1`` to ``name_k``, null where there are fewer."""
    return Pending("top_k", value, window, where, k=k)


def time_since(column: str | pl.Expr) -> pl.Expr:
    """Seconds from an instant (a datetime feature or column of the request) to the moment asked about."""
    import polars as pl

    from mainspring.definitions.features import MOMENT

    instant = pl.col(column) if isinstance(column, str) else column
    return (pl.col(MOMENT) - instant).dt.total_microseconds() / 1_000_000
