"""From a prediction to all that it came from."""

import json

import pytest

from mainspring.catalog import Catalog
from mainspring.cli.app import run
from mainspring.core.clock import ManualClock
from mainspring.core.errors import FormatError, NotFoundError
from mainspring.definitions import load_project
from mainspring.events.contract import Contract
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Draft, Log
from mainspring.events.system import DECISION, OTHERWISE, PREDICTION
from mainspring.loop.ledger import decision_row
from mainspring.loop.lineage import trace

HOUR = 3_600_000_000
T0 = 1_700_000_000_000_000


class World:
    """A log that is written by hand, and what reads it."""

    def __init__(self, config):
        self.project = load_project(config.definitions)
        self.clock = ManualClock(T0)
        self.log = Log.open(config.log_path, config.limits.log_map_bytes, writable=True)
        self.history = History(self.project, self.log, Lake(config.lake_path))
        self.catalog = Catalog.open(config.catalog_url)

    def close(self):
        self.catalog.close()
        self.log.close()

    def add(self, source, at_us, **fields):
        self.clock.set(at_us)
        contract = Contract(source)
        (ack,) = self.log.append([Draft(source, contract.check(fields))], self.clock)
        assert ack.status == "accepted", ack.reason
        return ack.offset

    def pay(self, ride, driver, at_us):
        return self.add(self.project.sources["paid"], at_us, ride_id=ride, driver=driver, tip=1.0, paid_at=at_us)

    def decide(self, kind, at_us, numbers):
        row = decision_row(kind, f"{kind}-{at_us}", at_us, "tipping", None, "ann", "", numbers)
        self.catalog.project([(self.add(DECISION, at_us, **row), row)])

    def predict(self, at_us, folded, **more):
        fields = {
            "prediction_id": "g-1",
            "predicted_at": at_us,
            "model": "tipping",
            "version": "v1",
            "variant": "champion",
            "probability": 1.0,
            "unit": "ride",
            "request_id": "ride",
            "folded": folded,
            "output": 0.25,
            "features": "[1.0, 2, 3.5]",
            "status": "",
            "latency_us": 900,
        }
        self.add(PREDICTION, at_us, **(fields | more))
        self.history.catch_up()


@pytest.fixture
def world(config):
    made = applied(config)
    yield made
    made.close()


def applied(config):
    """A project with a version of its model."""
    made = World(config)
    described = made.project.describe()
    made.decide("apply", T0, described)
    made.decide("dataset", T0 + 1, {"hash": "d1", "path": "datasets/d1", "rows": 9})
    numbers = {
        "version": "v1",
        "path": "packages/v1",
        "run_id": "run1",
        "dataset": "d1",
        "definition": described["models"]["tipping"]["version"],
        "view_versions": {"driver": described["views"]["driver"]["version"]},
    }
    made.decide("version", T0 + 2, numbers)
    return made


def asked(world, at_us, driver="ann"):
    ride = world.project.sources["ride"]
    return world.add(ride, at_us, ride_id="ride", driver=driver, km=3.5, started_at=at_us)


def test_a_prediction_leads_to_everything_it_was_made_of(world):
    at_us = T0 + 100 * HOUR
    first = world.pay("a", "ann", at_us - 25 * HOUR)
    inside = world.pay("b", "ann", at_us - 24 * HOUR)
    world.pay("c", "bob", at_us - 2 * HOUR)
    latest = world.pay("d", "ann", at_us - HOUR)
    request = asked(world, at_us)
    late = world.pay("e", "ann", at_us - 1)  # known only after the fold that was read
    world.predict(at_us, folded=latest)
    found = trace(world.catalog, world.history, "g-1")
    assert (found.version.version, found.version.run_id, found.dataset.hash) == ("v1", "run1", "d1")
    assert found.model.version == world.project.models["tipping"].version
    assert (found.request["_offset"], found.request["km"]) == (request, 3.5)
    tips, rides, km = found.features
    assert (tips.name, tips.value, tips.status, tips.function) == ("driver__tips_1d", 1.0, "present", "mean")
    assert (tips.view_version, tips.source, tips.key) == (
        world.project.views["driver"].version,
        "paid",
        {"driver": "ann"},
    )
    assert tips.window == (at_us - 24 * HOUR, at_us)
    assert [event.offset for event in tips.events] == [latest, inside]
    assert [event.id for event in rides.events] == ["d", "b"]
    assert rides.event_count == 2
    assert {first, late} & {event.offset for event in tips.events} == set()
    assert (km.view, km.inputs) == (None, {"km": 3.5})


def test_it_is_all_json(world):
    at_us = T0 + 100 * HOUR
    offset = world.pay("a", "ann", at_us - HOUR)
    asked(world, at_us)
    world.predict(at_us, folded=offset, features="[null, 2, 3.5]", status="[1, 0, 0]")
    shown = json.loads(json.dumps(trace(world.catalog, world.history, "g-1").to_dict(), default=str))
    assert [f["status"] for f in shown["features"]] == ["missing", "present", "present"]
    assert shown["features"][1]["events"] == [{"offset": offset, "id": "a", "time": "2023-11-19T01:13:20Z"}]
    assert shown["definition"]["name"] == "tipping"
    assert shown["dataset"]["rows"] == 9


def test_a_request_that_was_no_event_is_said_so(world):
    world.predict(T0 + HOUR, folded=3, request_id=None)
    found = trace(world.catalog, world.history, "g-1")
    assert found.request is None
    assert [feature.event_count for feature in found.features] == [0, 0, 0]
    assert found.features[2].inputs == {"km": None}


def test_the_definitions_are_those_of_the_version_that_answered(world, config):
    at_us = T0 + 100 * HOUR
    offset = world.pay("a", "ann", at_us - 20 * HOUR)
    asked(world, at_us)
    world.predict(at_us, folded=offset)
    text = config.definitions.read_text().replace('window="1d"', 'window="1h"')
    config.definitions.write_text(text)
    world.decide("apply", at_us + 1, load_project(config.definitions).describe())
    found = trace(world.catalog, world.history, "g-1")
    assert found.features[0].window == (at_us - 24 * HOUR, at_us)
    assert found.features[0].event_count == 1


def test_an_id_that_was_never_answered_is_not_found(world):
    with pytest.raises(NotFoundError, match=r"MS-L150: no prediction 'g-9' is logged"):
        trace(world.catalog, world.history, "g-9")


def split(world, config):
    """Put what there is into a file of the lake, of each source; the files of payments."""
    before = set((config.lake_path / "paid").glob("*.parquet"))
    world.history.flush()
    (file,) = set((config.lake_path / "paid").glob("*.parquet")) - before
    return file


def paid_twice(world, config, at_us):
    """A prediction, and the files of what had been paid long before and shortly before it."""
    world.pay("a", "ann", at_us - 90 * HOUR)
    world.history.catch_up()
    long_ago = split(world, config)
    offset = world.pay("b", "ann", at_us - 2 * HOUR)
    asked(world, at_us)
    world.predict(at_us, folded=offset)
    lately = split(world, config)
    return long_ago, lately


def traced(world, config):
    """Where a prediction comes from, and the files that nothing of it needs."""
    history = History(world.project, world.log, Lake(config.lake_path, passes_over=True))
    history.catch_up()
    return trace(world.catalog, history, "g-1"), list(history.lake.unread.values())


def test_files_of_which_nothing_is_needed_may_be_damaged_and_are_named(world, config, capsys):
    long_ago, lately = paid_twice(world, config, T0 + 100 * HOUR)
    assert traced(world, config)[1] == []
    whole = long_ago.read_bytes()
    long_ago.write_bytes(whole[:-100])
    with pytest.raises(FormatError, match="MS-E903"):
        trace(world.catalog, History(world.project, world.log, Lake(config.lake_path)), "g-1")
    found, (unread,) = traced(world, config)
    assert [event.id for event in found.features[0].events] == ["b"]
    assert unread.error.where == str(long_ago)
    world.close()
    assert run(["explain", "g-1", "--json", "-C", str(config.root)]) == 0
    (damage,) = json.loads(capsys.readouterr().out)["damaged"]
    assert (damage["where"], "mainspring lake rebuild paid" in damage["hint"]) == (str(long_ago), True)
    assert run(["explain", "g-1", "-C", str(config.root)]) == 0
    assert "not needed for this, but damaged" in capsys.readouterr().out
    long_ago.write_bytes(whole)
    lately.write_bytes(b"")
    assert run(["explain", "g-1", "--json", "-C", str(config.root)]) == 8  # what was in the window may be in it
    assert json.loads(capsys.readouterr().err)["where"] == str(lately)


def test_of_what_is_last_only_what_came_since_is_needed(config):
    text = config.definitions.read_text()
    config.definitions.write_text(text.replace('ms.mean("tip", window="1d")', 'ms.last("tip")'))
    world = applied(config)
    long_ago, lately = paid_twice(world, config, T0 + 100 * HOUR)
    files = [(path, path.read_bytes()) for path in (long_ago, lately)]
    long_ago.write_bytes(b"")
    found, _ = traced(world, config)
    assert [event.id for event in found.features[0].events] == ["b"]
    long_ago.write_bytes(files[0][1])
    lately.write_bytes(b"")
    with pytest.raises(FormatError, match="MS-E903"):
        traced(world, config)
    world.close()


def test_what_may_be_in_a_damaged_file_is_not_said_not_to_be_there(world, config):
    at_us = T0 + 100 * HOUR
    asked(world, at_us)
    world.predict(at_us, folded=0)
    world.history.flush()
    for name, id in (("_prediction", "g-2"), ("ride", "g-1")):
        (file,) = (config.lake_path / name).glob("*.parquet")
        whole = file.read_bytes()
        file.write_bytes(whole[:-100])
        history = History(world.project, world.log, Lake(config.lake_path, passes_over=True))
        with pytest.raises(FormatError, match="MS-E903") as caught:
            trace(world.catalog, history, id)
        assert caught.value.where == str(file)
        file.write_bytes(whole)


def test_an_answer_that_output_rules_changed_is_shown_with_the_models_own_output_and_the_rules(world, config, capsys):
    at_us = T0 + 100 * HOUR
    offset = asked(world, at_us)
    world.predict(at_us, folded=offset, prediction_id="g-1")
    world.predict(at_us, folded=offset, prediction_id="g-2", answered=0.01, rules="at most 0.5; small change")
    more = {"version": OTHERWISE, "error": "deadline", "answered": 0.0, "rules": "a bus"}
    world.predict(at_us, folded=offset, prediction_id="g-3", **more)
    with pytest.raises(NotFoundError, match="MS-L152") as refused:
        trace(world.catalog, world.history, "g-3")
    assert refused.value.why == "no model answered: deadline; 0.0 was told, by output rules: a bus"
    world.close()
    assert run(["explain", "g-1", "-C", str(config.root)]) == 0
    plain = capsys.readouterr().out
    assert plain.startswith("prediction g-1: 0.25\n")
    assert "output rules" not in plain
    assert run(["explain", "g-2", "-C", str(config.root)]) == 0
    head, told, *_ = capsys.readouterr().out.splitlines()
    assert head == "prediction g-2: 0.01"
    assert told.endswith("the output was 0.25; changed by output rules: at most 0.5; small change")


def test_a_composites_answer_that_output_rules_changed_is_shown_too(world, config, capsys):
    at_us = T0 + 100 * HOUR
    members = json.dumps([["tipping", "v1", "champion", 0.25]])
    more = {"model": "both", "version": "c1-mean", "members": members, "answered": 0.01, "rules": "small change"}
    world.predict(at_us, folded=0, **more)
    world.close()
    assert run(["explain", "g-1", "-C", str(config.root)]) == 0
    head, told, *_ = capsys.readouterr().out.splitlines()
    assert head == "prediction g-1: 0.01"
    assert told.endswith("the output was 0.25; changed by output rules: small change")
