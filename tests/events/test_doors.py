"""Every door takes and refuses the same rows, with the same code and path, and stores the same values.

A table of rows, good and odd, goes through each door in that door's own form. What a form cannot say is left out of it
there: docs/reference/contracts.md has the list. What else differs is a defect.
"""

import csv
import io
import json
import math
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import msgspec
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.client.outbox import encoded
from mainspring.core.errors import ContractError
from mainspring.definitions.values import Field, SourceDef
from mainspring.events import Draft
from mainspring.events.bodies import ARROW, entries_in
from mainspring.events.bounds import OutOfBoundsError, check_of, takes_default
from mainspring.events.contract import Contract
from mainspring.events.file_rows import read_rows
from mainspring.events.internal import InternalRow, entries_of
from mainspring.events.packing import packed, unpack

from drawn import T_US, sources  # isort: skip

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
NS_RANGE_US = 9_000_000_000_000_000  # within it a time fits int64 nanoseconds


@dataclass(frozen=True)
class Time:
    """An instant: microseconds and nanoseconds beyond, and the offset in minutes that its text has; None for none."""

    us: int
    ns: int = 0
    offset: int | None = 0

    def text(self):
        moment = EPOCH + timedelta(microseconds=self.us)
        if self.offset is not None:
            moment = moment.astimezone(timezone(timedelta(minutes=self.offset)))
        base = moment.replace(tzinfo=None, microsecond=0).isoformat()
        zone = "" if self.offset is None else moment.strftime("%z")
        return f"{base}.{moment.microsecond:06}{self.ns:03}{zone[:3] + ':' + zone[3:] if zone else ''}"


class UnsayableError(Exception):
    """The form has no word for a value."""


# --- what a form makes of a value -------------------------------------------------------------------------------------


def as_json(value, _field):
    if isinstance(value, Time):
        return value.text()
    if isinstance(value, float) and not math.isfinite(value):
        raise UnsayableError
    if isinstance(value, list):
        return [as_json(one, None) for one in value]
    return value


def as_own(value, field):
    if type(value) is int and field.kind == "datetime":
        raise UnsayableError  # microseconds, here
    return value.text() if isinstance(value, Time) else value


def as_client(value, field):
    if isinstance(value, float) and math.isnan(value) and not field.nullable:
        raise UnsayableError  # null, by its documentation
    if isinstance(value, list) and any(isinstance(x, float) and not math.isfinite(x) for x in value):
        raise UnsayableError
    if isinstance(value, Time) and value.ns == 0:
        return EPOCH + timedelta(microseconds=value.us)
    return value.text() if isinstance(value, Time) else value


def as_csv(value, field):
    odd_text = field.kind == "str" and value is not None and not isinstance(value, str)
    if odd_text or value == "" or (value is None and field.kind == "str" and not field.nullable):
        raise UnsayableError
    if value is None:
        return ""
    if field.kind == "bool" and type(value) is int and value in (0, 1):
        raise UnsayableError
    if isinstance(value, Time):
        return value.text()
    return str(value).lower() if isinstance(value, bool) else str(value)


ARROW_TYPES = {"str": pa.string(), "int": pa.int64(), "float": pa.float64(), "bool": pa.bool_()}
PYTHON_TYPES = {"str": str, "int": int, "float": (int, float), "bool": bool, "datetime": Time, "vector": list}


def as_arrow(value, field, unit):
    if value is None:
        return None
    if not isinstance(value, PYTHON_TYPES[field.kind]) or (isinstance(value, bool) and field.kind != "bool"):
        raise UnsayableError
    if isinstance(value, Time):
        if unit == "us" and not value.ns:
            return value.us
        if unit == "ns" and abs(value.us) < NS_RANGE_US:
            return value.us * 1_000 + value.ns
        raise UnsayableError
    if isinstance(value, list):
        if any(isinstance(x, bool | str) for x in value):
            raise UnsayableError
        return [None if x is None else float(x) for x in value]
    if field.kind == "int" and not -(2**63) <= value < 2**63:
        raise UnsayableError
    if field.kind == "float" and isinstance(value, int):
        if abs(value) > 2**53:
            raise UnsayableError
        return float(value)
    return value


def as_table(source, names, rows, unit, zone):
    arrays = []
    for name in names:
        field = source.names[name]
        kind = ARROW_TYPES.get(field.kind) or (pa.list_(pa.float64()) if field.kind == "vector" else pa.int64())
        array = pa.array([row[name] for row in rows], kind)
        arrays.append(array.cast(pa.timestamp(unit, zone)) if field.kind == "datetime" else array)
    return pa.table(arrays, names=names)


# --- the doors --------------------------------------------------------------------------------------------------------


def said(entry):
    """What became of a record: its row, or code and path."""
    if isinstance(entry, Draft):
        return ("taken", repr(entry.row))
    return ("refused", entry.code, entry.path)


def checked(call):
    try:
        return ("taken", repr(call()))
    except ContractError as error:
        return ("refused", error.code, error.where)


def said_rows(contract, found):
    """What becomes of a file's rows: by ``contract check``, and on the way into the log, which agree."""
    rows = [
        InternalRow(contract.source.name, row.fields, "", row.raw)
        if row.problem is None
        else InternalRow(contract.source.name, None, "", row.raw, row.problem.code, row.problem.what)
        for row in found
    ]
    wired = msgspec.msgpack.decode(packed(rows), type=list[InternalRow], ext_hook=unpack)
    entries = [entries_of(one, {contract.source.name: contract}, "", is_history=False) for one in (rows, wired)]
    assert [said(entry) for entry in entries[0]] == [said(entry) for entry in entries[1]]
    return [said(entry) for entry in entries[0]]


def body(contract, raw, **headers):
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    return [said(e) for e in entries_in(raw, headers, contract, "", max_bytes=1 << 20, max_rows=1_000)[0]]


def through_client(contract, row):
    try:
        (raw,) = encoded(row)
    except ContractError:
        return ("refused", None, None)  # before it is sent: of the code, see below
    return body(contract, raw)[0]


def in_file(contract, name, write):
    with TemporaryDirectory() as folder:
        path = Path(folder, name)
        write(path)
        return said_rows(contract, read_rows(path, contract.source))


def csv_bytes(names, rows):
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    writer.writerow(names)
    writer.writerows([row[name] for name in names] for row in rows)
    return out.getvalue().encode("utf-8", "surrogateescape")


def json_bytes(row):
    return json.dumps(row, ensure_ascii=False).encode()


def stream(table):
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def doors(contract, names, unit, zone):
    """By name: what makes a row of the form, and what becomes of rows."""
    source = contract.source
    found = {
        "an object": (as_json, lambda rows: [body(contract, json_bytes(row))[0] for row in rows]),
        "an array": (as_json, lambda rows: body(contract, json_bytes(rows))),
        "lines": (
            as_json,
            lambda rows: body(contract, b"\n".join(map(json_bytes, rows)), content_type="application/x-ndjson"),
        ),
        "a mapping": (as_own, lambda rows: [checked(lambda: contract.check(row)) for row in rows]),  # noqa: B023
        "the client": (as_client, lambda rows: [through_client(contract, row) for row in rows]),
        "a file of lines": (
            as_json,
            lambda rows: in_file(contract, "a.jsonl", lambda p: p.write_bytes(b"\n".join(map(json_bytes, rows)))),
        ),
        "arrow": (
            lambda value, field: as_arrow(value, field, unit),
            lambda rows: body(contract, stream(as_table(source, names, rows, unit, zone)), content_type=ARROW),
        ),
        "parquet": (
            lambda value, field: as_arrow(value, field, unit),
            lambda rows: in_file(
                contract,
                "a.parquet",
                lambda p: pl.from_arrow(as_table(source, names, rows, unit, zone)).write_parquet(p),
            ),
        ),
    }
    if all(source.names[name].kind != "vector" for name in names):
        found["csv"] = (
            as_csv,
            lambda rows: in_file(contract, "a.csv", lambda p: p.write_bytes(csv_bytes(names, rows))),
        )
    return found


# --- what is drawn ----------------------------------------------------------------------------------------------------

GOOD = {
    "str": ["a", "bb", "é", "zz", "a,b", 'say "x"', "two\nlines", "\x00", "𝛑", " a "],
    "int": [1, 7, -3, 0, 2**53 + 1, 2**62, 2**63 - 1, -(2**63)],
    "float": [0.0, -0.0, 1, 1.5, 5e-324, 1.7976931348623157e308, 0.1, 2**53, 1e22, -7],
    "bool": [True, False],
    "datetime": [
        Time(us, ns, offset)
        for us in (T_US, T_US - 1, 10, 0, 1_700_000_000_123_456)
        for ns in (0, 1, 499, 500, 999)
        for offset in (0, None, 330, -300, 845)
    ],
    "vector": [[1.0, 2.0], [0, 1.5], [-0.0, 1.7e308]],
}
ODD = {
    "str": st.sampled_from([None, "", "x" * 50, 5, True]),
    "int": st.sampled_from([None, 2**63, -(2**63) - 1, 10**30, 1.5, 1.0, True, "x!"]),
    "float": st.sampled_from([None, math.nan, math.inf, -math.inf, True, "x!", 10**400, 2**60]),
    "bool": st.sampled_from([None, 0, 1, 5, 1.5, "x!"]),
    "datetime": st.sampled_from([None, "yesterday", 12, 1.5, Time(-1), Time(-62_135_596_800_000_000), Time(-7, 500)]),
    "vector": st.sampled_from([None, [1.0], [1.0, math.nan], [math.inf, 1.0], [1.0, None], [True, 1.0], "x!", 5]),
}


def good(field, source):
    """Values that a column takes; where its checks leave none of them, some that it does not."""
    check = check_of(field, source)

    def is_taken(value):
        try:
            return check is None or check(value.us if isinstance(value, Time) else value) is not None
        except OutOfBoundsError:
            return False

    return st.sampled_from([value for value in GOOD[field.kind] if is_taken(value)] or GOOD[field.kind])


@st.composite
def tables(draw):
    """A source, the names of some of its columns, and rows of which each has one odd value at most."""
    source = draw(sources())
    if draw(st.booleans()):  # else no CSV file would ever be drawn
        source = SourceDef("s", tuple(f for f in source.fields if f.kind != "vector"), time="at")
    names = ["at"]
    for field in source.fields[:-1]:
        said_as = draw(st.sampled_from([field.name, *field.aliases]))
        may_lack = field.nullable or field.has_default
        if not (may_lack and draw(st.integers(0, 3 if takes_default(field, source) else 20)) == 0):
            names.append(said_as)
    names = draw(st.permutations(names))
    rows = []
    for _ in range(draw(st.integers(1, 6))):
        row = {name: draw(good(source.names[name], source)) for name in names}
        if draw(st.integers(0, 3)):
            name = draw(st.sampled_from(names))
            row[name] = draw(ODD[source.names[name].kind])
        rows.append(row)
    return source, names, rows


def agree(source, names, rows, unit, zone):
    contract = Contract(source)
    exact = []
    for row in rows:
        own = {name: value.text() if isinstance(value, Time) else value for name, value in row.items()}
        is_number = any(type(row[n]) is int and source.names[n].kind == "datetime" for n in names)
        path = next((n for n in names if type(row[n]) is int and source.names[n].kind == "datetime"), "")
        exact.append(("refused", "MS-E102", f"$.{path}") if is_number else checked(lambda: contract.check(own)))  # noqa: B023
    for door, (form, send) in doors(contract, names, unit, zone).items():
        places, sent = [], []
        for place, row in enumerate(rows):
            try:
                sent.append({name: form(value, source.names[name]) for name, value in row.items()})
            except UnsayableError:
                continue
            places.append(place)
        if not sent:
            continue
        for place, outcome in zip(places, send(sent), strict=True):
            expected = exact[place] if outcome[1] is not None else (exact[place][0], None, None)
            assert outcome == expected, (door, rows[place], exact[place])


@settings(max_examples=200)
@given(tables(), st.sampled_from(["us", "ns"]), st.sampled_from([None, "UTC", "America/New_York"]))
def test_every_door_takes_refuses_and_stores_the_same(table, unit, zone):
    agree(*table, unit, zone)


# --- what a form cannot say, one by one -------------------------------------------------------------------------------

PLAIN = SourceDef(
    "s",
    (
        Field("text", "str", nullable=True),
        Field("word", "str", default="none", has_default=True),
        Field("n", "int", nullable=True),
        Field("x", "float", nullable=True),
        Field("at", "datetime"),
    ),
    time="at",
)
AT = "2013-03-01T12:00:00Z"


def csv_outcomes(*lines):
    return in_file(Contract(PLAIN), "a.csv", lambda p: p.write_bytes(b"\n".join(lines)))


def test_an_empty_field_of_a_csv_file_is_null_or_an_empty_text_and_never_the_default():
    found = csv_outcomes(b"text,word,n,at", b",,," + AT.encode())
    assert found == [("taken", repr((None, "", None, None, T_US)))]


def test_json_has_no_number_that_is_not_finite_and_null_is_no_infinity():
    contract = Contract(PLAIN)
    for word in (b"NaN", b"Infinity", b"-Infinity"):
        assert body(contract, b'{"x": ' + word + b', "at": "' + AT.encode() + b'"}') == [("refused", "MS-E101", "$")]
    assert body(contract, b'{"x": 1e999, "at": "' + AT.encode() + b'"}') == [("refused", "MS-E102", "$.x")]
    with pytest.raises(ContractError, match="x is inf") as caught:
        encoded({"x": math.inf, "at": AT})
    assert caught.value.code == "MS-E505"
    assert encoded({"x": math.nan, "at": AT}) == [b'{"x":null,"at":"' + AT.encode() + b'"}']


def test_bytes_that_are_no_utf8_are_refused_at_every_door_that_can_say_them():
    contract, at = Contract(PLAIN), AT.encode()
    raw = b'{"text": "\xff", "at": "' + at + b'"}'
    assert body(contract, raw) == body(contract, raw + b"\n", content_type="application/jsonl")
    assert body(contract, raw) == [("refused", "MS-E101", "$")]
    assert csv_outcomes(b"text,n,at", b"\xff,1," + at, b"a,\xff," + at, b"b,2," + at) == [
        ("refused", "MS-E104", "$.text"),
        ("refused", "MS-E104", "$.n"),
        ("taken", repr(("b", "none", 2, None, T_US))),
    ]


def test_a_date_alone_is_a_time_in_a_csv_file_and_no_time_in_json():
    assert csv_outcomes(b"at", b"2013-03-01")[0][0] == "taken"
    assert body(Contract(PLAIN), b'{"at": "2013-03-01"}') == [("refused", "MS-E102", "$.at")]


@pytest.mark.parametrize("dtype", [pl.Datetime("ms"), pl.Datetime("us"), pl.Date], ids=str)
def test_a_time_of_a_parquet_file_that_no_datetime_shows_is_refused_like_any_other(dtype):
    late, counts = (2**31 - 1, pl.Int32) if dtype == pl.Date else (2**60, pl.Int64)
    frame = pl.DataFrame({"at": pl.Series([0, late], dtype=counts).cast(dtype)})
    found = in_file(Contract(PLAIN), "a.parquet", frame.write_parquet)
    assert found == [("taken", repr((None, "none", None, None, 0))), ("refused", "MS-E104", "$.at")]
