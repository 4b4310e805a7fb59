"""Sources that are corrected or not, their records, and their history as it is shown, for tests of streams."""

import itertools
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
from hypothesis import strategies as st
from oracle import answer

from mainspring.definitions import Aggregate, Field, SourceDef, ViewDef
from mainspring.definitions.expressions import expression
from mainspring.definitions.features import event_schema
from mainspring.events.record import Record
from mainspring.events.versions import with_untils
from mainspring.features.fold import Folder
from mainspring.features.history import stream
from mainspring.features.reader import Reader

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
HOUR_US = 3_600_000_000
KEYS = st.sampled_from(["a", "a", "b", None])
NUMBERS = st.none() | st.sampled_from([0.0, 1.0, 2.5, -3.0, 8.0])
OPERATIONS = st.sampled_from(["insert", "update", "update", "delete"])
STEPS = st.sampled_from([1, 1, 1, 2, 1_000, HOUR_US // 4, HOUR_US])
DELAYS = st.sampled_from([-1, 0, 0, 0, 1, 2, 1_000, HOUR_US // 4, HOUR_US, HOUR_US + 1, 3 * HOUR_US, 5 * HOUR_US])


def source(name, *columns, corrects=False):
    """A source with ``id``, ``k``, ``at``, ``op`` and float columns."""
    fields = [
        Field("id", "str"),
        Field("k", "str", nullable=True),
        *(Field(c, "float", nullable=True) for c in columns),
    ]
    fields += [Field("op", "str", default="insert", has_default=True), Field("at", "datetime")]
    return SourceDef(name, tuple(fields), time="at", id="id", corrects="op" if corrects else None)


def view(name, sources, *features, using=(), hop_us=None):
    """A view for ``k``; a feature is (name, function, value, window_us, where, k, per_us)."""
    schema = event_schema(tuple(sources), tuple(using))

    def frozen(thing):
        return None if thing is None else expression(thing, schema, of="events", where="tests")

    made = []
    for feature in features:
        title, function, value, window_us, where, k, per_us = (
            *feature,
            *[None, None, None, 1, None][len(feature) - 2 :],
        )
        made.append(Aggregate(title, function, frozen(value), window_us, None, frozen(where), k, per_us=per_us))
    return ViewDef(name, tuple(sources), ("k",), tuple(made), using=tuple(using), hop_us=hop_us)


def record(offset, of, ident, k, values, at_us, known_us, op="insert"):
    """A record of a source that ``source`` made; ``values`` in the order of its own columns."""
    row = (ident, k, *values, op, at_us)
    return Record(offset, of.name, of.version, ident, at_us, known_us, known_us, row, tuple(of.columns))


def instant(time_us):
    """A datetime."""
    return EPOCH + timedelta(microseconds=time_us)


def frames(sources, records):
    """What ``History.frame`` shows of each source, by name."""
    out = {}
    for one in sources:
        mine = [r for r in records if r.source == one.name]
        schema = {**one.schema, "_offset": pl.Int64(), "_id": pl.String()}
        schema |= {"_time": pl.Datetime("us", "UTC"), "_known_at": pl.Datetime("us", "UTC")}
        rows = [
            (*r.values[:-1], instant(r.values[-1]), r.offset, r.id, instant(r.time_us), instant(r.known_at_us))
            for r in mine
        ]
        out[one.name] = with_untils(pl.DataFrame(rows, schema=schema, orient="row"), one)
    return out


def visible(records, sources, limit, stamp):
    """Offsets of the records that a moment of a limit sees, word by word: of a corrected id the latest, no deletes."""
    corrected = {s.name for s in sources if s.corrects}
    known = sorted((r for r in records if getattr(r, stamp) <= limit), key=lambda r: (r.known_at_us, r.offset))
    newest = {(r.source, r.id) if r.source in corrected else (r.source, r.offset): r for r in known}
    return {r.offset for r in newest.values() if r.source not in corrected or r.to_dict()["op"] != "delete"}


def expected(of, every, records, key, t_us, limit, stamp="known_at_us"):
    """(value, status) of each feature for one moment, by the oracle: over events that carry features of features."""
    events = stream_of(of, every, records)
    seen = visible(records, every, limit, stamp)
    return list(answer(of, events, (key,), t_us, lambda row: row["_offset"] in seen))


def stream_of(of, every, records):
    """The events of a view with what the views that it uses answered at each, one by one."""
    plain = ViewDef(of.name, of.sources, of.entity, of.features)
    events = stream(plain, frames(every, records).__getitem__)
    for used in of.using:
        rows = events.select("k", pl.col("_time", "_known_at").dt.timestamp("us")).rows()
        columns = {name: [] for name in used.column_names}
        for k, t_us, known_us in rows:
            if t_us < known_us - HOUR_US:
                found = [(None, None)] * len(columns)
            else:
                found = expected(used, every, records, k, t_us, known_us - 1)
            for column, (value, _) in zip(columns.values(), found, strict=True):
                column.append(value)
        events = events.with_columns(pl.Series(name, column, pl.Float64) for name, column in columns.items())
    return events


def shown(values, status):
    """A row of answers as the oracle gives them; sums are of few small numbers, so they are the same in any order."""
    return [(None if v != v else v, code) for v, code in zip(values.tolist(), status.tolist(), strict=True)]


@st.composite
def lives(draw, sources, most=24):
    """Records as they come live: each known later than the one before, of few rows, late and corrected in any way."""
    rows = draw(
        st.lists(
            st.tuples(st.sampled_from(sources), st.integers(0, 4), KEYS, NUMBERS, OPERATIONS, STEPS, DELAYS),
            max_size=most,
        )
    )
    known = 10 * HOUR_US
    out = []
    for n, (of, ident, k, x, op, step, delay) in enumerate(rows, 1):
        known += step
        out.append(record(n, of, f"i{ident}", k, (x,), known - delay, known, op))
    return out


def fold(store, views, records, cuts=()):
    """Fold in batches that end before each index in ``cuts``, each by a worker of its own."""
    edges = sorted({0, len(records), *(c for c in cuts if c < len(records))})
    for a, b in itertools.pairwise(edges):
        Folder(views, store).fold(records[a:b])


def read(store, of, key, t_us):
    """One moment from the store."""
    with Reader([of], store).snapshot() as snapshot:
        found, status = snapshot.read(of, [(key,)], np.array([t_us]))
        return shown(found[0], status[0])
