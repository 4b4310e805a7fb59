"""Checks are values of the definitions: named by what they are about, refused where they cannot be."""

import inspect
from datetime import datetime
from types import ModuleType
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mainspring as ms
from mainspring.core.errors import DefinitionError
from mainspring.definitions import collect


class Ride(ms.Source, id="ride", time="at"):
    ride: str
    city: Annotated[str, ms.one_of("graz", "linz")]
    note: str | None
    km: float
    at: datetime


class Seen(ms.Source, time="at"):
    x: float
    at: datetime


def test_what_is_usual_fits_the_columns():
    names = [check.name for check in ms.check.usual(Ride, within="2h")]
    assert names == [
        "ride_volume",
        "ride_freshness",
        "ride_duplicates",
        "ride_city_distribution",
        "ride_note_nulls",
        "ride_km_distribution",
        "ride_km_frozen",
    ]
    assert [c.kind for c in ms.check.usual(Seen)] == ["volume", "distribution", "frozen"]


def test_checks_are_collected_by_themselves_and_out_of_lists_with_their_sources():
    module = ModuleType("m")
    module.fresh = ms.check.freshness(Ride, "2h")
    module.more = [ms.check.nulls(Ride, "note", at_most=0.1), ms.check.sql("No long rides!", Seen, "from recent")]
    project = collect(module)
    assert list(project.checks) == ["ride_freshness", "ride_note_nulls", "seen_no_long"]
    assert project.sources.keys() == {"ride", "seen"}
    assert project.describe()["checks"]["ride_note_nulls"]["limits"] == {"at_most": 0.1}


def test_two_checks_with_one_name_are_refused():
    module = ModuleType("m")
    module.one, module.two = ms.check.freshness(Ride, "2h"), ms.check.freshness(Ride, "3h")
    with pytest.raises(DefinitionError, match="MS-D162: two checks are named 'ride_freshness'"):
        collect(module)


def test_another_limit_is_another_version_and_the_place_is_not():
    one, two = ms.check.nulls(Ride, "note"), ms.check.nulls(Ride, "note")
    assert one == two
    assert one.version == two.version
    assert ms.check.nulls(Ride, "note", at_most=0.1).version != one.version


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ms.check.nulls(Ride, "nots"), "MS-D102: source ride has no column 'nots'"),
        (lambda: ms.check.freshness("ride", "2h"), "MS-D120"),
        (lambda: ms.check.freshness(Ride, "soon"), "MS-D001"),
        (lambda: ms.check.volume(Ride, tolerance=1.5), "MS-D180: tolerance=1.5 is no share"),
        (lambda: ms.check.volume(Ride, every="5s"), "MS-D180: a window of 5s is too short"),
        (lambda: ms.check.unique(Ride), "MS-D180: unique names no column"),
        (lambda: ms.check.duplicates(Seen), "MS-D180: source seen has no id"),
        (lambda: ms.check.references(Ride, "ride", Seen), "MS-D180: source seen has no id"),
        (lambda: ms.check.distribution(Ride, "at"), "MS-D180: 'at' of ride is no number and no text"),
        (lambda: ms.check.references(Ride, "km", Ride), "MS-D180: 'km' is a float and 'ride' of ride a str"),
        (lambda: ms.check.frozen(Ride, "city"), "MS-D180: 'city' of ride is no number"),
        (lambda: ms.check.nulls(Ride, None), "MS-D102: source ride has no column None"),
        (lambda: ms.check.unique(Ride, ["km"]), "MS-D102: source ride has no column"),
        (lambda: ms.check.volume(Ride, tolerance="x"), "MS-D180: tolerance='x' is no share"),
        (lambda: ms.check.volume(Ride, tolerance=True), "MS-D180: tolerance=True is no share"),
        (lambda: ms.check.volume(Ride, blocking="no"), "MS-D180: blocking= is 'no'"),
        (lambda: ms.check.freshness(Ride, "2h", every=""), "MS-D001"),
        (lambda: ms.check.sql("a", Ride, " "), "MS-D180: the query of sql is"),
        (lambda: ms.check.sql(3, Ride, "from recent"), "MS-D180: the title of sql is"),
        (lambda: ms.check.sql("!", Ride, "from recent"), "MS-D180: '!' is no title of a check"),
    ],
)
def test_what_cannot_be_checked_is_refused_where_it_stands(make, message):
    with pytest.raises(DefinitionError, match=message) as raised:
        make()
    assert "soon" in message or "D001" in message or __file__ in raised.value.where


ODD = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.binary(max_size=4),
    st.sampled_from(["1d", "km", "ride", "at", "-1d", "1e9y", 10**400, Ride, Seen, ms.Source, int, object(), len]),
    st.lists(st.sampled_from(["km", "at", 1, None]), max_size=2),
    st.dictionaries(st.text(max_size=2), st.none(), max_size=1),
)
KINDS = {
    ms.check.freshness: {"within": "2h"},
    ms.check.volume: {},
    ms.check.duplicates: {},
    ms.check.references: {"column": "ride", "to": Ride},
    ms.check.distribution: {"column": "km"},
    ms.check.nulls: {"column": "note"},
    ms.check.frozen: {"column": "km"},
    ms.check.sql: {"title": "a", "query": "select 0"},
    ms.check.usual: {},
}


@given(st.sampled_from(list(KINDS)), st.data())
def test_whatever_a_check_is_given_it_is_a_value_that_can_be_hashed_or_an_error_that_says_what(make, data):
    names = list(inspect.signature(make).parameters)
    odd = data.draw(st.dictionaries(st.sampled_from(names), ODD, min_size=1, max_size=2))
    try:
        made = make(**({"source": Ride} | KINDS[make] | odd))
    except DefinitionError as error:
        made, said = (), error.where
    else:
        said = __file__
    assert __file__ in said
    for check in made if isinstance(made, tuple) else (made,):
        assert len(check.version) == 12
        assert hash(check) is not None


@given(st.lists(ODD, max_size=3))
def test_unique_takes_names_of_columns_and_nothing_else(columns):
    try:
        ms.check.unique(Ride, *columns)
    except DefinitionError:
        return
    assert set(columns) <= set(Ride.definition.columns)
