"""Checks are values of the definitions: named by what they are about, refused where they cannot be."""

from datetime import datetime
from types import ModuleType
from typing import Annotated

import pytest

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
        (lambda: ms.check.sql("!", Ride, "from recent"), "MS-D180: '!' is no title of a check"),
    ],
)
def test_what_cannot_be_checked_is_refused_where_it_stands(make, message):
    with pytest.raises(DefinitionError, match=message) as raised:
        make()
    assert "soon" in message or "D001" in message or __file__ in raised.value.where
