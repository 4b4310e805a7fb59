"""Loading a file: through a running intake or straight into the log, with the same result."""

import json

import pytest

from mainspring.core.errors import NotFoundError, RefusedError
from mainspring.events import PREDICTION, Log
from mainspring.events.files import ingest_file

HEADER = "flight_id,carrier,delay_min,seats,arrived_at"
ROWS = [f"f{i},UA,{i % 50},,2013-02-{1 + i % 27:02}T12:00:00Z" for i in range(1_200)]


@pytest.fixture
def flights(write_lines):
    return write_lines("flights.csv", HEADER, *ROWS[:600], "broken,row", *ROWS[600:], "z,ZZ,1,,2013-02-01T12:00:00Z")


@pytest.fixture
def small_chunks(monkeypatch):
    monkeypatch.setattr("mainspring.events.files.CHUNK", 250)


def check(config, loaded, name):
    """What loading ``flights`` leaves behind."""
    assert (loaded.rows, loaded.accepted, loaded.duplicate, loaded.quarantined) == (1_202, 1_200, 0, 2)
    assert [(e["line"], e["code"]) for e in loaded.errors] == [(602, "MS-E406"), (1203, "MS-E103")]
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        records = log.read(0)
        assert [r.id for r in records[:1_200]] == [f"f{i}" for i in range(1_200)]
        assert all(r.is_history and r.known_at_us == r.time_us for r in records[:1_200])
        decision = records[1_200].to_dict()
        assert (decision["kind"], decision["subject"]) == ("ingest", "arrived")
        assert json.loads(decision["numbers"])["accepted"] == 1_200
        assert log.quarantined()[0].sender == f"{name} line 602"
        assert log.quarantined()[0].raw == b"broken,row"
        assert json.loads(log.quarantined()[1].raw)["carrier"] == "ZZ"


def test_a_file_is_loaded_straight_into_the_log_when_no_intake_is_up(config, project, clock, flights, small_chunks):
    done = []
    check(config, ingest_file(config, project, flights, "arrived", clock, progress=done.append), "flights.csv")
    assert done == [250, 500, 750, 1_000, 1_202]


def test_a_file_is_loaded_through_the_intake_when_it_is_up(running, config, project, clock, flights, small_chunks):
    check(config, ingest_file(config, project, flights, "arrived", clock), "flights.csv")


def test_loading_a_file_again_counts_nothing_twice(config, project, clock, flights):
    ingest_file(config, project, flights, "arrived", clock)
    loaded = ingest_file(config, project, flights, "arrived", clock)
    assert (loaded.accepted, loaded.duplicate, loaded.quarantined) == (0, 1_200, 2)


@pytest.mark.parametrize("is_up", [True, False])
def test_history_from_before_a_prediction_needs_backfill_and_is_recorded(
    start, config, project, clock, flights, is_up, small_chunks
):
    values = {
        "predicted_at": clock.now_us(),
        "status": "",
        "features": "[]",
        "folded": 0,
        "latency_us": 1,
        "probability": 1.0,
    }
    prediction = {f.name: values.get(f.name, None if f.nullable else f.name) for f in PREDICTION.fields}
    with start() as running:
        running.client().post_internal([("_prediction", prediction)])
        if is_up:
            with pytest.raises(RefusedError, match="--backfill"):
                ingest_file(config, project, flights, "arrived", clock)
            loaded = ingest_file(config, project, flights, "arrived", clock, backfill=True)
    if not is_up:
        with pytest.raises(RefusedError, match="--backfill"):
            ingest_file(config, project, flights, "arrived", clock)
        loaded = ingest_file(config, project, flights, "arrived", clock, backfill=True)
    assert loaded.accepted == 1_200
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert json.loads(log.read(log.last_offset() - 1)[0].to_dict()["numbers"])["backfill"] is True


def test_an_unknown_source_is_told_with_a_hint(config, project, clock, flights):
    with pytest.raises(NotFoundError, match="did you mean 'arrived'"):
        ingest_file(config, project, flights, "arived", clock)
