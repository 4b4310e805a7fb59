"""Whatever a contract became, all that was ever stored is read under any of its versions, wherever it lies."""

import tempfile
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mainspring.catalog.compatibility import breaks
from mainspring.core import ManualClock
from mainspring.core.errors import ContractError
from mainspring.definitions.values import Constraint, Field, Project, SourceDef
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.record import stored_default

NOON_US = 1_362_139_200_000_000
AT = Field("at", "datetime")
FIRST = SourceDef("s", (Field("i", "int"), Field("f", "float", nullable=True), Field("t", "str"), AT), time="at")
VALUES = {
    "int": st.integers(-3, 3),
    "float": st.sampled_from([-1.5, 0.0, 2.0, 2.5]),
    "str": st.sampled_from(["", "a", "é"]),
    "bool": st.booleans(),
    "datetime": st.integers(0, 3),
    "vector": st.lists(st.sampled_from([0.5, 1.0]), min_size=2, max_size=2),
}
KINDS = ("int", "float", "str", "bool", "vector")
DIM = (Constraint("dim", (2,)),)


@st.composite
def evolved(draw, source, number):
    """A contract that may follow ``source``: one thing about it is other."""
    fields = list(source.fields)
    place = draw(st.integers(0, len(fields) - 2))
    column = fields[place]
    match draw(st.sampled_from(["add", "default", "filled", "drop", "wider", "rename", "nullable", "order"])):
        case "add" | "default" | "filled" as how:
            kind = draw(st.sampled_from(KINDS))
            default = draw(VALUES[kind]) if how != "add" and kind != "vector" else None
            nullable = how != "default" or default is None
            checks = DIM if kind == "vector" else ()
            new = Field(f"n{number}", kind, nullable, checks, default, has_default=default is not None)
            fields.insert(place, new)
        case "drop" if len(fields) > 2:
            del fields[place]
        case "wider" if column.kind == "int":
            default = float(column.default) if column.has_default and column.default is not None else column.default
            fields[place] = replace(column, kind="float", default=default)
        case "rename":
            fields[place] = replace(column, name=f"r{number}", aliases=(column.name, *column.aliases))
        case "nullable" if not column.has_default:
            fields[place] = replace(column, nullable=True)
        case _:
            fields = [*fields[1:-1], fields[0], fields[-1]]
    return replace(source, fields=tuple(fields))


@st.composite
def events(draw, source):
    """Records as senders of a version write them: under any name of a column, without what may be left out."""
    out = {}
    for f in source.fields:
        if f.name == "at":
            out["at"] = NOON_US
        elif not ((f.nullable or f.has_default) and draw(st.booleans())):
            value = None if f.nullable and draw(st.booleans()) else draw(VALUES[f.kind])
            out[draw(st.sampled_from((f.name, *f.aliases)))] = value
    return out


@st.composite
def lives(draw):
    """Versions of a source, what was sent under each, and when the lake was written and compacted."""
    source, steps = FIRST, []
    for number in range(draw(st.integers(2, 5))):
        if number:
            source = draw(evolved(source, number))
        sent = draw(st.lists(events(source), max_size=3))
        steps.append((source, sent, draw(st.sampled_from(["", "flush", "flush and compact"]))))
    return steps


def oracle(reader, writer, sent):
    """What a reader of one version sees of a record that was sent under another."""
    out = []
    for f in reader.fields:
        names = {f.name, *f.aliases}
        column = next((c for c in writer.fields if names & {c.name, *c.aliases}), None)
        value = stored_default(f)
        if column is not None:
            value = next((sent[n] for n in (column.name, *column.aliases) if n in sent), stored_default(column))
            if value is None and f.has_default and not f.nullable:
                value = stored_default(f)
        out.append(float(value) if f.kind == "float" and isinstance(value, int) else value)
    return out


def rows(history, source):
    history.catch_up()
    frame = history.frame("s").select(f.name for f in source.fields)
    physical = frame.with_columns(frame["at"].dt.timestamp("us"))
    return [list(row) for row in physical.rows()]


@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
@given(lives())
def test_any_allowed_evolution_leaves_all_that_is_stored_readable(life):
    newest = life[-1][0]
    versions = [source for source, _, _ in life]
    for number, source in enumerate(versions):
        assert breaks(source.describe(), [v.describe() for v in versions[:number]]) == []
    with tempfile.TemporaryDirectory() as folder, closing(Log.open(Path(folder) / "log", 2**22, writable=True)) as log:
        clock = ManualClock(NOON_US)
        stored = []
        for source, sent, then in life:
            lake = Lake(Path(folder) / "lake")
            contract = Contract(source)
            log.append([Draft(source, contract.check(one), None) for one in sent], clock)
            stored += [(source, one) for one in sent]
            if then:
                history = History(Project({"s": source}, {}, {}), log, lake)
                history.catch_up()
                history.flush()
            if "compact" in then and lake.sources():
                lake.compact("s")
        expected = [oracle(newest, writer, one) for writer, one in stored]
        project = Project({"s": newest}, {}, {})
        assert rows(History(project, log, Lake(Path(folder) / "none")), newest) == expected
        assert rows(History(project, log, Lake(Path(folder) / "lake")), newest) == expected
        for reader in versions:  # a release may be older or newer than what it reads
            read = [list(record.row_for(reader)) for record in log.read(0)]
            assert read == [oracle(reader, writer, one) for writer, one in stored]


# --- what is sent under an earlier name ------------------------------------------------------------------------------

RENAMED = SourceDef(
    "s",
    (
        Field("amount_eur", "float", constraints=(Constraint("between", (0, 10)),), aliases=("amount", "class")),
        Field("note", "str", nullable=True, default="-", has_default=True, aliases=("remark",)),
        AT,
    ),
    time="at",
)


@pytest.mark.parametrize("name", ["amount_eur", "amount", "class"])
def test_a_column_is_taken_under_each_of_its_names(name):
    contract = Contract(RENAMED)
    assert contract.check({name: 2, "at": 5}) == (2.0, "-", 5)
    assert contract.check({name: 2, "remark": None, "at": 5}) == (2.0, None, 5)
    assert contract.check_json(b'{"%b": 2, "at": "1970-01-01T00:00:00.000005Z"}' % name.encode()) == (2.0, "-", 5)


@pytest.mark.parametrize(
    ("sent", "code", "where", "what"),
    [
        ({}, "MS-E102", "$", "missing required field `amount_eur`"),
        ({"amount": 1, "amount_eur": 1}, "MS-E102", "$", "`amount_eur` under 2 names: amount_eur, amount"),
        ({"amount": "x"}, "MS-E102", "$.amount", "Expected `float`, got `str`"),
        ({"amount": None}, "MS-E102", "$.amount", "got `null`"),
        ({"class": 11}, "MS-E103", "$.class", "between 0 and 10"),
        ({"amount": 1, "other": 1}, "MS-E102", "$", "unknown field `other`"),
    ],
)
def test_a_record_under_an_earlier_name_is_refused_by_the_name_that_it_used(sent, code, where, what):
    with pytest.raises(ContractError, match=what) as caught:
        Contract(RENAMED).check(sent | {"at": 5})
    assert (caught.value.code, caught.value.where) == (code, where)


def test_a_delete_may_leave_a_renamed_column_out_too():
    fields = (Field("k", "str", aliases=("id",)), Field("b", "float", aliases=("a",)), Field("op", "str"), AT)
    contract = Contract(SourceDef("s", fields, "at", "k", corrects="op"))
    assert contract.check({"id": "x", "op": "delete", "at": 5}) == ("x", None, "delete", 5)
    with pytest.raises(ContractError, match="missing required field `b`"):
        contract.check({"id": "x", "op": "update", "at": 5})
    with pytest.raises(ContractError, match="missing required field `k`"):
        contract.check({"op": "delete", "at": 5})


def test_the_lake_keeps_the_fraction_of_a_column_that_was_whole_before(tmp_path):
    """Delta itself would write 2.5 into a column of integers as 2."""
    narrow, wide = (SourceDef("s", (Field("i", kind), AT), time="at") for kind in ("int", "float"))
    with closing(Log.open(tmp_path / "log", 2**22, writable=True)) as log:
        for source, value in ((narrow, 2), (wide, 2.5), (wide, 3.5)):
            log.append([Draft(source, (value, NOON_US), None)], ManualClock(NOON_US))
            history = History(Project({"s": source}, {}, {}), log, Lake(tmp_path / "lake"))
            history.catch_up()
            history.flush()
    assert Lake(tmp_path / "lake").frame("s")["i"].to_list() == [2.0, 2.5, 3.5]


def test_a_deprecated_column_is_counted_where_it_still_comes(tmp_path):
    about = replace(AT.about, deprecated="send shop")
    old = Field("till", "str", nullable=True, default="-", has_default=True, about=about)
    source = SourceDef("s", (Field("shop", "str"), old, AT), time="at")
    with closing(Log.open(tmp_path / "log", 2**22, writable=True)) as log:
        assert log.sent() == {}
        rows = [("a", "t1", NOON_US), ("a", "-", NOON_US), ("a", None, NOON_US), ("a", "t2", NOON_US)]
        log.append([Draft(source, row, None) for row in rows], ManualClock(NOON_US))
        log.append([Draft(source, rows[0], None)], ManualClock(NOON_US + 1))
    with closing(Log.open(tmp_path / "log", 2**22)) as log:
        (sent,) = log.sent().values()
        assert (*log.sent(), sent.times, sent.last_us) == ("s:till", 3, NOON_US + 1)
