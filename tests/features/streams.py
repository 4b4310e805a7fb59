"""Small sources, views and streams of events that the tests of the fold share."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from oracle import answer

from mainspring import col
from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.events.record import Record
from mainspring.features.fold import Folder
from mainspring.features.reader import Reader

HOUR_US = 3_600_000_000
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EVENTS = SourceDef(
    "events",
    (
        Field("k", "str", nullable=True),
        Field("x", "float", nullable=True),
        Field("n", "int", nullable=True),
        Field("at", "datetime"),
    ),
    time="at",
)
COLUMNS = tuple(f.name for f in EVENTS.fields)


def value(of):
    """A row-level expression over ``EVENTS``."""
    return expression(of, EVENTS.schema, of="events", where="tests")


def feature(name, function, of=None, window=None, ttl=None, where=None):
    """An aggregate over ``EVENTS``."""
    return Aggregate(
        name, function, None if of is None else value(of), window, ttl, None if where is None else value(where)
    )


def make_view(*features, name="view", entity=("k",)):
    """A view over ``EVENTS``."""
    return ViewDef(name, (EVENTS,), tuple(entity), tuple(features))


def every_aggregate(window, of="x", suffix=""):
    """Each aggregate over one window."""
    names = ("count", "sum", "mean", "std", "min", "max", "last", "age")
    return tuple(feature(f"{name}{suffix}", name, None if name == "age" else of, window) for name in names)


def record(offset, k, x, at_us, known_us=None, n=None):
    """A record of ``EVENTS`` as the log holds it."""
    known_us = at_us if known_us is None else known_us
    return Record(offset, "events", EVENTS.version, None, at_us, known_us, known_us, (k, x, n, at_us), COLUMNS)


def frame(records):
    """The records as ``History.frame`` shows them."""
    schema = {
        **EVENTS.schema,
        "_offset": pl.Int64,
        "_time": pl.Datetime("us", "UTC"),
        "_known_at": pl.Datetime("us", "UTC"),
    }
    rows = [(*r.values[:3], stamp(r.values[3]), r.offset, stamp(r.time_us), stamp(r.known_at_us)) for r in records]
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
    history = frame(records)
    for i, (key, t) in enumerate(zip(keys, t_us, strict=True)):
        for f, (want, code), got, got_code in zip(
            view.features, answer(view, history, key or (None,), t, known(i)), values[i], status[i], strict=True
        ):
            where = f"{f.name} of {key} at {t}"
            assert got_code == code, f"{where}: status {got_code}, the oracle says {code}"
            if want is None:
                assert np.isnan(got), f"{where}: {got}, the oracle says null"
            elif f.function == "std":
                assert abs(got - want) <= 1e-12 * want, f"{where}: {got!r}, the oracle says {want!r}"
            else:
                assert same_bits(got, want), f"{where}: {got!r}, the oracle says {want!r}"


def same_bits(a, b):
    """Whether two floats are one, −0.0 and 0.0 apart."""
    return np.float64(a).tobytes() == np.float64(b).tobytes()


OVER_TEN = col("x") > 10
