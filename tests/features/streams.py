"""Small sources, views and streams of events that the tests of the fold share."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from oracle import sized_answer

from mainspring import col
from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.definitions.features import AGGREGATES
from mainspring.definitions.values import Constraint
from mainspring.events.record import Record
from mainspring.features.fold import Folder
from mainspring.features.reader import Reader
from mainspring.features.words import words_of

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS = SourceDef(
    "events",
    (
        Field("k", "str", nullable=True),
        Field("x", "float", nullable=True),
        Field("n", "int", nullable=True),
        Field("at", "datetime"),
        Field("s", "str", nullable=True),
        Field("v", "vector", nullable=True, constraints=(Constraint("dim", (3,)),)),
    ),
    time="at",
)
COLUMNS = tuple(f.name for f in EVENTS.fields)


def value(of):
    """A row-level expression over ``EVENTS``."""
    return expression(of, EVENTS.schema, of="events", where="tests")


def feature(name, function, of=None, window=None, ttl=None, where=None, **rest):
    """An aggregate over ``EVENTS``; ``rest`` is k, q, half_life_us, per_us."""
    own = {"rate": {"per_us": 1_000_000}, "trend": {"per_us": 1_000_000}, "ewma": {"half_life_us": 9}}
    own |= {"last_k": {"k": 3}, "top_k": {"k": 3}, "quantile": {"q": 0.5}}
    what = None if of is None else value(of)
    dim = 3 if what is not None and what.kind == "vector" else 1
    where = None if where is None else value(where)
    return Aggregate(name, function, what, window, ttl, where, dim=dim, **(own.get(function, {}) | rest))


def make_view(*features, name="view", entity=("k",), **rest):
    """A view over ``EVENTS``."""
    return ViewDef(name, (EVENTS,), tuple(entity), tuple(features), **rest)


def every_aggregate(window, of="x", suffix="", functions=tuple(AGGREGATES)):
    """Each aggregate over one window, each with one value."""
    names = [name for name in functions if window is not None or name != "rate"]
    rest = {"last_k": {"k": 1}, "top_k": {"k": 1}}
    return tuple(
        feature(f"{name}{suffix}", name, None if name == "age" else of, window, **rest.get(name, {})) for name in names
    )


def owners_of(view):
    """The aggregate of each value that a view answers."""
    return [f for f in view.features for _ in f.slot_names]


def record(offset, k, x, at_us, known_us=None, n=None, s=None, v=None):
    """A record of ``EVENTS`` as the log holds it."""
    known_us = at_us if known_us is None else known_us
    return Record(offset, "events", EVENTS.version, None, at_us, known_us, known_us, (k, x, n, at_us, s, v), COLUMNS)


def frame(records):
    """The records as ``History.frame`` shows them."""
    schema = {
        **EVENTS.schema,
        "_offset": pl.Int64,
        "_time": pl.Datetime("us", "UTC"),
        "_known_at": pl.Datetime("us", "UTC"),
    }
    rows = [
        (*r.values[:3], stamp(r.values[3]), *r.values[4:], r.offset, stamp(r.time_us), stamp(r.known_at_us))
        for r in records
    ]
    return pl.DataFrame(rows, schema=schema, orient="row")


def stamp(time_us):
    """A datetime."""
    return EPOCH + timedelta(microseconds=time_us)


def keys_frame(keys, names=("k",)):
    """Entities as ``replay`` takes them."""
    return pl.DataFrame(list(keys), schema={name: EVENTS.schema[name] for name in names}, orient="row")


def read_live(store, view, keys, t_us):
    """Values, statuses and the offset of a snapshot."""
    with Reader([view], store).snapshot() as snap:
        return *snap.read(view, keys, np.array(t_us, np.int64)), snap.offset


def fold_all(store, views, records, cuts=()):
    """Fold records in micro-batches that end before each index in ``cuts``; a new Folder each, as after a restart."""
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    for a, b in itertools.pairwise(edges):
        Folder(views, store).fold(records[a:b])


def assert_is_oracle(view, records, keys, t_us, values, status, *, known):
    """Every value and status is the oracle's; ``known(i)`` is its ``is_known`` for the moment ``i``."""
    assert_frame_is_oracle(view, frame(records), keys, t_us, values, status, known=known)


def assert_frame_is_oracle(view, history, keys, t_us, values, status, *, known):
    """As ``assert_is_oracle``, for a history of any sources."""
    features = owners_of(view)
    for i, (key, t) in enumerate(zip(keys, t_us, strict=True)):
        wanted = list(sized_answer(view, history, key or (None,), t, known(i), word))
        assert len(wanted) == len(features) == len(values[i]) == len(status[i])
        for f, name, (want, code, size), got, got_code in zip(
            features, view.column_names, wanted, values[i], status[i], strict=True
        ):
            where = f"{name} of {key} at {t}"
            assert got_code == code, f"{where}: status {got_code}, the oracle says {code}"
            assert_is_value(f, want, size, got, where)


def assert_is_value(f, want, size, got, where):
    """``got`` is what the oracle wants, as near as semantics.md promises."""
    says = f"{where}: {got!r}, the oracle says {want!r}"
    if want is None:
        assert np.isnan(got), says
    elif isinstance(want, str):
        assert got == word(want), says
    elif f.function == "quantile":
        assert abs(got - want) <= 0.0078 * abs(want) + 2.0**-1022, says
    elif f.function == "approx_distinct":
        assert abs(got - want) <= max(1.0, 0.08 * want), says
    elif AGGREGATES[f.function].tolerance and np.isfinite(want):
        assert abs(got - want) <= 1e-12 * size, says
    else:
        assert same_bits(got, float(want)), says


def word(text):
    """The number that a text is answered as; numbers are their own."""
    return words_of(pl.Series([text]))[0] if isinstance(text, str) else text


def same_bits(a, b):
    """Whether two floats are one, −0.0 and 0.0 apart."""
    return np.float64(a).tobytes() == np.float64(b).tobytes()


OVER_TEN = col("x") > 10
