"""The plan: the difference between what is in force and what a file says."""

import textwrap

import pytest

from mainspring.catalog import Catalog, Cost, plan
from mainspring.core.errors import RefusedError
from mainspring.definitions import load_project

FILE = """
from datetime import datetime
import mainspring as ms

class Arrived(ms.Source, id="flight_id", time="arrived_at"):
    flight_id: str
    carrier: str
    delay: float
    arrived_at: datetime

class Wind(ms.Source, time="seen_at"):
    speed: float
    carrier: str
    seen_at: datetime

@ms.feature_view(Arrived, entity="carrier")
class Carrier:
    late_3h = ms.mean("delay", window="3h")

@ms.feature_view(Wind, entity="carrier")
class Sky:
    speed = ms.sum("speed")

@ms.model(request=Arrived, label=ms.label(Wind, on="carrier", value=ms.col("speed"), within="1d", otherwise=0.0),
          task="regression", features=[Carrier])
def gust(train):
    return None
"""


@pytest.fixture
def described(tmp_path):
    def describe(*changes):
        text = textwrap.dedent(FILE)
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / f"d{len(list(tmp_path.iterdir()))}.py"
        path.write_text(text)
        return load_project(path).describe()

    return describe


def lines(plan_):
    return [(line.action, line.kind, line.name) for line in plan_.changes]


def test_the_first_plan_adds_everything_and_names_what_to_know(described):
    first = plan({}, described(), {"carrier": Cost(1000), "sky": Cost(10)})
    assert lines(first) == [
        ("add", "source", "arrived"),
        ("add", "source", "wind"),
        ("add", "view", "carrier"),
        ("add", "view", "sky"),
        ("add", "model", "gust"),
    ]
    notes = {(line.name, line.text) for line in first.lines if line.action == "note"}
    assert ("wind", "has no id: it is not deduplicated, a record that is sent twice is counted twice") in notes
    assert ("sky", "speed has no window: its state is kept since the beginning") in notes
    assert len(notes) == 2
    assert first.events == 1010
    first.check()


def test_nothing_changed_is_an_empty_plan(described):
    again = plan(described(), described(), {})
    assert again.changes == ()
    assert again.events == 0


def test_what_the_catalog_gives_back_is_what_was_applied(described, tmp_path):
    with Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        catalog.apply_definitions(described(), 1, "ann")
        assert catalog.definitions() == described()
        assert plan(catalog.definitions(), described()).changes == ()


def test_a_changed_window_is_a_new_version_that_replays_its_source_alone(described):
    changed = plan(described(), described(('window="3h"', 'window="4h"')), {"carrier": Cost(1000)})
    assert lines(changed) == [("change", "view", "carrier"), ("change", "model", "gust")]
    assert "~ late_3h" in changed.lines[0].text or any("~ late_3h" in line.text for line in changed.lines)
    assert changed.events == 1000


def test_a_cost_is_said_in_events_time_state_and_models(described):
    cost = Cost(1000, keys=3, bytes=2_500, seconds=4.2, basis="the newest 20,000 events")
    changed = plan(described(), described(('window="3h"', 'window="4h"')), {"carrier": cost})
    (line,) = [one for one in changed.changes if one.kind == "view"]
    assert line.models == ("gust",)
    said = "replays 1,000 events in about 4 s into about 2.5 KB of state, 3 keys (from the newest 20,000 events)"
    assert str(line).endswith(f"; read by gust; {said}")
    unknown = plan(described(), described(('window="3h"', 'window="4h"')), {"carrier": Cost(1000)})
    assert "replays 1,000 events in a time that no earlier backfill tells" in str(unknown)


def test_a_tally_without_a_window_is_warned_of(described):
    grows = plan({}, described(('ms.sum("speed")', 'ms.distinct("speed")')))
    warned = [line for line in grows.lines if line.action == "warn"]
    assert [(line.kind, line.name) for line in warned] == [("view", "sky")]
    assert str(warned[0]).startswith("w view sky: speed is a distinct without a window: its state grows")
    for word in ('distinct("speed", window="1h")', 'approx_distinct("speed")', 'quantile("speed", 0.5)'):
        bounded = plan({}, described(('ms.sum("speed")', f"ms.{word}")))
        assert not [line for line in bounded.lines if line.action == "warn"]


@pytest.mark.parametrize(
    ("line", "features"),
    [
        ('ms.last_k("speed", 3)', 3),
        ('ms.top_k("speed", 2, window="1h")', 2),
        ('ms.sum("speed")\n    twice = ms.col("speed") * 2', 2),
    ],
)
def test_a_view_counts_as_many_features_as_it_has_columns(described, line, features):
    first = plan({}, described(('ms.sum("speed")', line)))
    (added,) = [one for one in first.changes if one.name == "sky"]
    assert added.text == f"{features} features by carrier"


def test_the_latest_values_do_not_grow_without_a_window(described):
    latest = plan({}, described(('ms.sum("speed")', 'ms.last_k("speed", 3)')))
    assert not [line for line in latest.lines if line.action == "warn"]


def test_a_removed_view_is_named(described):
    without = described(
        ('@ms.feature_view(Wind, entity="carrier")\nclass Sky:\n    speed = ms.sum("speed")\n', ""),
    )
    assert ("remove", "view", "sky") in lines(plan(described(), without))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("delay: float", "delay: float\n    gate: str", "column gate is new and has neither a default nor | None"),
        ("delay: float", "delay: str", "column delay was float and would be str"),
        ("speed: float", "speed: int", "column speed was float and would be int"),
        (', id="flight_id"', "", "id was 'flight_id' and would be None"),
        ('time="arrived_at"', 'time="left_at"', "time was 'arrived_at' and would be 'left_at'"),
    ],
)
def test_a_breaking_contract_change_is_refused_with_the_column_named(described, old, new, text):
    changes = [(old, new)]
    if "left_at" in new:
        changes.append(("    arrived_at: datetime", "    left_at: datetime\n    arrived_at: datetime"))
    if "str" in new or "int" in new:
        before = described(('ms.mean("delay"', 'ms.count("delay"'), ('ms.sum("speed"', 'ms.count("speed"'))
        after = described(('ms.mean("delay"', 'ms.count("delay"'), ('ms.sum("speed"', 'ms.count("speed"'), *changes)
    else:
        before, after = described(), described(*changes)
    refused = plan(before, after)
    with pytest.raises(RefusedError) as caught:
        refused.check()
    assert caught.value.code == "MS-C030"
    assert text in caught.value.what
    assert "V2(ms.Source" in caught.value.hint


def test_a_column_that_may_be_none_becomes_required_only_under_a_new_name(described):
    nullable = described(("delay: float", "delay: float | None"))
    with pytest.raises(RefusedError, match=r"column delay may be None in stored events"):
        plan(nullable, described()).check()
    plan(described(), nullable).check()


@pytest.mark.parametrize("column", ["gate: str | None", 'gate: str = "A1"'])
def test_a_new_column_with_a_default_or_none_is_accepted(described, column):
    changed = plan(described(), described(("delay: float", f"delay: float\n    {column}")))
    changed.check()
    assert ("change", "source", "arrived") in lines(changed)


def test_an_int_may_become_a_float(described):
    plan(described(("delay: float", "delay: int")), described()).check()


def test_a_model_change_names_what_changed(described):
    changed = plan(described(), described(("return None", "return 1")))
    assert [(line.name, line.text) for line in changed.changes] == [
        ("gust", "function changed: the next training uses it")
    ]


# --- what is said of sources, and who reads them ----------------------------------------------------------------------

OWNED = ('class Arrived(ms.Source, id="flight_id",', 'class Arrived(ms.Source, owner="ops", id="flight_id",')
READ = (
    'class Arrived(ms.Source, id="flight_id",',
    'class Arrived(ms.Source, consumers={"bi": ["delay"], "audit": []}, id="flight_id",',
)


def test_what_is_said_of_a_source_is_a_change_of_its_own_that_makes_no_new_version(described, tmp_path):
    changed = plan(described(), described(OWNED))
    assert lines(changed) == [("change", "source", "arrived")]
    assert changed.changes[0].text == "owner (described anew, no new version)"
    with Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        catalog.apply_definitions(described(), 1, "ann")
        catalog.apply_definitions(described(OWNED), 2, "ben")
        assert catalog.definitions() == described(OWNED)
        (version,) = catalog.definition_versions("sources", "arrived")
        assert (version.first_at_us, version.actor) == (1, "ann")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("carrier: str\n    delay: float", "carrier: str", ["bi reads delay, gone", "audit reads delay, gone"]),
        ("delay: float\n", "delay: float | None\n", ["bi reads delay, changed", "audit reads delay, changed"]),
        (
            "delay: float\n",
            'late: Annotated[float, ms.alias("delay")]\n',
            ["bi reads delay (now late), renamed", "audit reads delay (now late), renamed"],
        ),
        ("    flight_id: str", "    gate: str | None\n    flight_id: str", []),
    ],
)
def test_who_said_that_they_read_a_column_is_named_when_it_changes(described, old, new, told):
    head = ("from datetime import datetime", "from datetime import datetime\nfrom typing import Annotated")
    free = ('late_3h = ms.mean("delay", window="3h")', 'late_3h = ms.count(window="3h")')
    after = described(head, free, (old, new))  # whoever takes the word back is told all the same
    found = plan(described(head, READ, free), after)
    warned = [line.text for line in found.lines if line.action == "warn"]
    assert [text.split(" in this contract")[0] for text in warned] == told


def test_a_deprecated_column_is_warned_of_with_how_often_it_still_comes(described):
    head = ("from datetime import datetime", "from datetime import datetime\nfrom typing import Annotated")
    old = (
        "carrier: str\n    delay",
        'gate: Annotated[str | None, ms.deprecated("send stand")]\n    carrier: str\n    delay',
    )
    found = plan({}, described(head, old), sent={"arrived:gate": "; it came 3 times, last at 2024"})
    (warned,) = [line for line in found.lines if line.action == "warn"]
    assert warned.text == "gate is deprecated: send stand; it came 3 times, last at 2024"


def test_a_source_that_comes_back_is_held_against_what_was_stored(described, tmp_path):
    with Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}") as catalog:
        catalog.apply_definitions(described(), 1, "ann")
        earlier = {"wind": [one.description for one in catalog.definition_versions("sources", "wind")]}
    label = ('value=ms.col("speed")', 'value=ms.col("carrier") == "UA"')
    other = described(("speed: float", "speed: str"), ('ms.sum("speed")', "ms.count()"), label)
    without = described() | {"sources": {"arrived": described()["sources"]["arrived"]}}
    with pytest.raises(RefusedError, match="column speed was float and would be str"):
        plan(without, other, earlier=earlier).check()
