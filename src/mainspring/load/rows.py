"""The rows that requests hold: those that were asked before, or some made from the source's contract."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mainspring.core.errors import NotFoundError
from mainspring.core.times import to_iso
from mainspring.definitions import SourceDef
from mainspring.definitions.values import Field

if TYPE_CHECKING:
    import polars as pl

KEYS = 1_000
"""Different texts and whole numbers that a column without constraints takes, small ones most often."""
NULLS = 0.05
_DAY_US = 86_400_000_000


def recorded(source: SourceDef, history: pl.DataFrame, most: int) -> list[dict[str, Any]]:
    """The newest requests of history, as the wire carries them.

    Args:
        source: Of the request.
        history: Its events, in the order of the log.
        most: How many.

    Raises:
        NotFoundError: There is none (MS-C101).
    """
    if history.is_empty():
        what = f"{source.name} has no event yet: nothing was recorded"
        raise NotFoundError("MS-C101", what, hint="--requests synthetic makes them from the contract")
    import polars as pl

    instants = [f.name for f in source.fields if f.kind == "datetime"]
    rows = (
        history.tail(most)
        .select(list(source.columns))
        .with_columns(pl.col(instants).cast(pl.Datetime("us")).to_physical())
    )
    return [_wire(row, instants) for row in rows.iter_rows(named=True)]


def synthetic(
    source: SourceDef, count: int, now_us: int, seed: int, given: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """Rows that keep the source's contract.

    A column draws from what its constraints allow. Without any a text or whole number is one of a thousand, small ones
    most often (as keys are); a float is normal around 0; a datetime lies within a day from now; and what may be null
    is null once in twenty. One with a pattern is its default or null.

    Args:
        source: Of the request.
        count: How many.
        now_us: Around when its datetimes lie.
        given: Values of columns that are the same in every row.
        seed: The same seed makes the same rows.

    Raises:
        NotFoundError: A column has a pattern and neither a default nor ``| None`` (MS-C102).
    """
    draw = random.Random(seed)  # noqa: S311  values to be sent, no secrets
    given = given or {}
    made = [f for f in source.fields if f.name != source.time and f.name not in given]
    return [{f.name: _value(f, draw, now_us) for f in made} | dict(given) for _ in range(count)]


def _wire(row: dict[str, Any], instants: list[str]) -> dict[str, Any]:
    return row | {name: to_iso(row[name]) for name in instants if row[name] is not None}


def _value(field: Field, draw: random.Random, now_us: int) -> Any:
    if field.nullable and draw.random() < NULLS:
        return None
    allowed = {c.name: c.args for c in field.constraints}
    if "one_of" in allowed:
        return draw.choice(allowed["one_of"])
    if field.kind == "str":
        return _text(field, allowed, draw)
    if field.kind == "bool":
        return draw.random() < 0.5
    if field.kind == "vector":
        return [draw.gauss(0.0, 1.0) for _ in range(field.dim)]
    if field.kind == "datetime":
        low, high = allowed.get("between", (now_us, now_us + _DAY_US))
        return to_iso(draw.randint(low, high))
    if field.kind == "int":
        low, high = allowed.get("between", (None, None))
        return _key(draw) if low is None else draw.randint(-int(-low // 1), int(high // 1))
    low, high = allowed.get("between", (None, None))
    return draw.gauss(0.0, 1.0) if low is None else draw.uniform(low, high)


def _text(field: Field, allowed: dict[str, Any], draw: random.Random) -> str | None:
    if "pattern" in allowed:
        if field.has_default or field.nullable:
            return None if field.default is None else str(field.default)
        raise NotFoundError(
            "MS-C102",
            f"no value for {field.name} can be made up",
            why=f"it must match {allowed['pattern'][0]!r}",
            hint=f"--value {field.name}=TEXT, or --requests recorded for those of history",
        )
    low, high = allowed.get("length", (0, KEYS))
    return f"{field.name}_{_key(draw)}".rjust(low, "x")[-high:] if high else ""


def _key(draw: random.Random) -> int:
    """1 to ``KEYS``, log-uniform: each power of ten as often as the next."""
    return min(int(KEYS ** draw.random()), KEYS)
