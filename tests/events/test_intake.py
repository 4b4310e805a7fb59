"""The intake over real HTTP: partial success, refusals, group commit, back-pressure, and bodies of every kind."""

import http.client
import json
import threading

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mainspring.core.errors import (
    BackPressureError,
    ContractError,
    NotFoundError,
    RefusedError,
    TooLargeError,
    UnavailableError,
)
from mainspring.core.run import read_door
from mainspring.events import Log
from mainspring.events.client import IntakeClient
from mainspring.events.wake import Wake

T = "2013-03-01T11:00:00Z"


def flight(ident, **more):
    return {"flight_id": ident, "carrier": "UA", "delay_min": 1.0, "arrived_at": T} | more


def ask(running, method, path, body=b"", **headers):
    """Status and body of any request."""
    host = running.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=20)
    try:
        connection.request(method, path, body, {k.replace("_", "-"): v for k, v in headers.items()})
        response = connection.getresponse()
        return response.status, response.read(), dict(response.headers)
    finally:
        connection.close()


def test_a_bad_record_does_not_harm_its_neighbours(running, config):
    client = running.client()
    bad = [flight("b", delay_min="late"), flight("c", extra=1), flight("d", arrived_at="2999-01-01T00:00:00Z"), 7, None]
    bad.append(flight("x", arrived_at="1913-01-01T00:00:00Z"))
    answer = client.post_events("arrived", [flight("a"), *bad, flight("e"), flight("a")])
    assert [answer[k] for k in ("accepted", "duplicate", "quarantined", "last_offset")] == [2, 1, 6, 2]
    assert [(e["index"], e["code"], e["path"]) for e in answer["errors"]] == [
        (1, "MS-E102", "$.delay_min"),
        (2, "MS-E102", "$"),
        (3, "MS-E105", "$.arrived_at"),
        (4, "MS-E102", "$"),
        (5, "MS-E102", "$"),
        (6, "MS-E107", "$.arrived_at"),
    ]
    assert answer["errors"][0]["reason"] == "Expected `float | null`, got `str`"
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [r.id for r in log.read(0)] == ["a", "e"]
        assert [h.code for h in log.quarantined("arrived")] == [e["code"] for e in answer["errors"]]


def test_one_object_an_array_and_lines_are_read_alike(running):
    bodies = [
        ("application/json", json.dumps(flight("a"))),
        ("application/json; charset=utf-8", json.dumps([flight("b"), flight("c")])),
        ("application/x-ndjson", f"{json.dumps(flight('d'))}\r\n\n{json.dumps(flight('e'))}"),
        ("application/x-www-form-urlencoded", json.dumps(flight("f"))),
    ]
    accepted = []
    for kind, body in bodies:
        status, raw, _ = ask(running, "POST", "/events/arrived", body, content_type=kind)
        assert status == 200
        accepted.append(json.loads(raw)["accepted"])
    assert accepted == [1, 2, 2, 1]


@pytest.mark.parametrize(
    ("body", "kind", "status", "quarantined"),
    [
        (b"{", "", 400, 1),
        (b"[{}", "", 400, 1),
        (b"\xff\xfe\x00", "", 400, 1),
        (b"[" * 190_000, "", 400, 1),
        (b"[" * 95_000 + b"]" * 95_000, "", 400, 1),
        (b'{"a":' * 30_000, "", 422, 1),
        (b"{}", "", 422, 1),
        (b"null", "", 422, 1),
        (b"[1, 2]", "", 422, 2),
        (b"nope\n[]\n", "application/x-ndjson", 422, 2),
        (b"", "", 400, 0),
        (b" \n ", "", 400, 0),
        (b"x" * 200_001, "", 413, 0),
        (b"[" + b"1," * 500 + b"1]", "", 413, 0),
    ],
)
def test_a_bad_body_is_a_clear_4xx_and_its_bytes_are_kept(running, config, body, kind, status, quarantined):
    found, raw, _ = ask(running, "POST", "/events/arrived", body, content_type=kind)
    assert found == status
    answer = json.loads(raw)
    assert answer.get("quarantined", 0) == quarantined
    assert answer.get("errors") or answer["error"]
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        held = log.quarantined()
        assert len(held) == quarantined
        assert log.last_offset() == 0
        if status == 400 and quarantined:
            assert body.startswith(held[0].raw)
    assert running.client().post_events("arrived", [flight("after")])["accepted"] == 1


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("POST", "/events/arived", 404, "MS-E201"),
        ("POST", "/events/_prediction", 403, "MS-E203"),
        ("POST", "/events/arrived/x", 404, "MS-E200"),
        ("GET", "/events/arrived", 405, "MS-E207"),
        ("POST", "/internal/events", 403, "MS-E203"),
        ("POST", "/internal/trim", 403, "MS-E203"),
        ("DELETE", "/quarantine", 405, "MS-E207"),
        ("POST", "/quarantine/arived/replay", 404, "MS-E201"),
        ("GET", "/%20/..", 404, "MS-E200"),
        ("GET", "/%00%ff/..", 400, "MS-S003"),
    ],
)
def test_a_request_that_cannot_be_is_refused_with_a_code(running, method, path, status, code):
    found, raw, _ = ask(running, method, path, b"{}")
    assert (found, json.loads(raw)["code"]) == (status, code)


def test_only_who_has_the_token_writes_system_events(running, config, clock):
    row = (
        "_decision",
        {
            "decision_id": "d",
            "decided_at": clock.now_us(),
            "kind": "apply",
            "actor": "a",
            "reason": "",
            "numbers": "{}",
        },
    )
    with pytest.raises(RefusedError):
        running.client(with_token=False).post_internal([row])
    with IntakeClient(running.url, "wrong") as stranger, pytest.raises(RefusedError):
        stranger.post_internal([row])
    rows = [
        row,
        ("arrived", flight("a")),
        ("nobody", {"x": 1}),
        ("../etc", {}),
        ("arrived", {"flight_id": b"\xff"}),
        row,
    ]
    answer = running.client().post_internal(rows)
    assert answer["statuses"] == ["accepted", "accepted", "quarantined", "quarantined", "quarantined", "duplicate"]
    assert [e["index"] for e in answer["errors"]] == [2, 3, 4]
    assert answer["last_offset"] == 2
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [h.source for h in log.quarantined()] == ["nobody", "unknown", "arrived"]


@pytest.mark.parametrize("body", [b"", b"\xc1", b"\x91\x01", msgspec.msgpack.encode({"a": 1}), b"\x91" * 90_000])
def test_an_internal_body_that_is_no_list_of_rows_is_refused(running, body):
    token = running.client()._token
    found, raw, _ = ask(running, "POST", "/internal/events", body, authorization=f"Bearer {token}")
    assert (found, json.loads(raw)["code"]) == (400, "MS-E202")


def test_history_keeps_its_known_at_and_live_events_are_stamped(running, config, clock):
    row = ("weather", {"origin": "EWR", "observed_at": 10, "published_at": 20})
    running.client().post_internal([row], history=True)
    running.client().post_internal([row])
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert [r.known_at_us for r in log.read(0)] == [20, clock.now_us()]


def test_many_clients_at_once_are_each_answered_with_what_is_durable(running, config):
    answers = {}

    def send(number):
        with IntakeClient(running.url) as client:
            answers[number] = [
                client.post_events("arrived", [flight(f"{number}-{i}")])["last_offset"] for i in range(25)
            ]

    threads = [threading.Thread(target=send, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        ids = {r.offset: r.id for r in log.read(0)}
    assert sorted(ids) == list(range(1, 201))
    for number, offsets in answers.items():
        assert [ids[o] for o in offsets] == [f"{number}-{i}" for i in range(25)]


def test_everybody_who_waits_is_woken_by_an_event(running, config):
    with Wake(config.run, "fold") as wake:
        running.client().post_events("arrived", [flight("a")])
        assert wake.wait(10)


def test_a_full_disk_and_a_full_map_are_429_with_a_time_to_come_back(start, config):
    full = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, disk_free_bytes=1 << 60))
    with start(full) as running:
        status, raw, headers = ask(running, "POST", "/events/arrived", json.dumps(flight("a")).encode())
        assert (status, json.loads(raw)["code"]) == (429, "MS-E302")
        assert int(headers["Retry-After"]) >= 1
    small = msgspec.structs.replace(config, limits=msgspec.structs.replace(config.limits, log_map_bytes=6 << 20))
    with start(small) as running:
        client = running.client()
        sent = 0
        with pytest.raises(BackPressureError, match="MS-E301"):  # noqa: PT012  until it is full
            while True:
                sent += client.post_events("arrived", [flight(f"{sent + i}") for i in range(200)])["accepted"]
        assert client.get("/health")["last_offset"] == sent
        client.post_json("/internal/trim", {"before": sent})
    with Log.open(small.log_path, small.limits.log_map_bytes) as log:
        assert (log.first_offset(), log.last_offset(), log.counts()["arrived"].accepted) == (sent, sent, sent)


def test_a_full_queue_is_back_pressure_before_any_work(running, monkeypatch):
    monkeypatch.setattr("mainspring.events.committer._MAX_QUEUED_ROWS", 0)
    with pytest.raises(BackPressureError, match="MS-E306"):
        running.client().post_events("arrived", [flight("a")])
    monkeypatch.undo()
    assert running.client().post_events("arrived", [flight("a")])["accepted"] == 1


def test_quarantine_is_listed_mended_and_replayed_over_http(running):
    client = running.client()
    client.post_events(
        "arrived", [{"flight_id": f"f{i}", "carrier": "UA", "delay": i, "arrived_at": T} for i in range(5)]
    )
    client.post_events("arrived", [flight("\x1b[2J", carrier="\x1b[31m")])
    listed = client.get("/quarantine?source=arrived&limit=4")
    assert [r["sequence"] for r in listed["records"]] == [1, 2, 3, 4]
    assert client.get("/quarantine?source=weather")["records"] == []
    assert all("\x1b" not in r["text"] for r in client.get("/quarantine")["records"])
    with pytest.raises(ContractError, match="MS-E131"):
        client.post_json("/quarantine/arrived/replay", {"rename": {"delay": "dellay"}})
    answer = client.post_json("/quarantine/arrived/replay", {"rename": {"delay": "delay_min"}})
    assert (answer["accepted"], answer["quarantined"], answer["last_offset"]) == (5, 1, 5)
    assert answer["errors"][0]["index"] == 6
    for path, body in (("replay", {"only": [1, 6, 99]}), ("discard", {"only": [1, 6, 99], "reason": "r"})):
        with pytest.raises(NotFoundError, match="MS-E135: no record of arrived waits in quarantine under 1, 99"):
            client.post_json(f"/quarantine/arrived/{path}", body)
    for body in ({}, {"only": [6]}, {"reason": "r"}):
        with pytest.raises(ContractError, match="MS-E134"):
            client.post_json("/quarantine/arrived/discard", body)
    assert [r["sequence"] for r in client.get("/quarantine")["records"]] == [6]
    assert client.post_json("/quarantine/arrived/discard", {"only": [6], "reason": "a joke"}) == {"discarded": 1}
    last = client.get("/quarantine?all=1")["records"][-1]
    assert (last["status"], last["note"]) == ("discarded", "a joke")
    assert client.post_json("/quarantine/arrived/discard", {"all": True, "reason": "none waits"}) == {"discarded": 0}
    assert client.post_json("/quarantine/arrived/replay", {})["accepted"] == 0
    assert client.get("/quarantine")["counts"]["arrived"] == {
        "accepted": 0,
        "duplicate": 0,
        "quarantined": 6,
        "mended": 5,
    }


def test_the_log_is_trimmed_when_asked_by_the_system(running):
    client = running.client()
    client.post_events("arrived", [flight(f"f{i}") for i in range(10)])
    assert client.post_json("/internal/trim", {"before": 4}) == {"deleted": 3, "first_offset": 4}
    for body in ({}, {"before": "x"}, []):
        with pytest.raises(ContractError, match="MS-E206"):
            client.post_json("/internal/trim", body)


def test_metrics_count_what_was_sent(running):
    running.client().post_events("arrived", [flight("a"), flight("a"), flight("b", carrier="ZZ")])
    status, raw, headers = ask(running, "GET", "/metrics")
    text = raw.decode()
    assert (status, headers["Content-Type"].split(";")[0]) == (200, "text/plain")
    for name, n in (("accepted", 1), ("duplicate", 1), ("quarantined", 1), ("mended", 0)):
        assert f'mainspring_events_total{{source="arrived",status="{name}"}} {n}' in text
    assert "mainspring_intake_commit_seconds_count 1" in text


def test_a_second_intake_is_refused_and_the_first_goes_on(running, start):
    with pytest.raises(UnavailableError, match="MS-C010"), start():
        pass
    assert running.client().post_events("arrived", [flight("a")])["accepted"] == 1


def test_its_door_is_written_down_and_taken_back(start, config):
    with start() as running:
        assert read_door(config.run, "intake") == running.url
    assert read_door(config.run, "intake") is None


def test_other_definitions_hold_from_then_on(running, project, weather):
    running.client().post_events("arrived", [flight("a")])
    running.loop.call_soon_threadsafe(running.intake.use, type(project)({"weather": weather}, {}, {}))
    with pytest.raises(NotFoundError):
        running.client().post_events("arrived", [flight("b")])


def test_too_many_events_in_one_request_are_refused(running):
    with pytest.raises(TooLargeError, match="MS-E204"):
        running.client().post_internal([("arrived", flight(str(i))) for i in range(501)])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(max_size=8) | st.sampled_from(list(flight("a"))), inner, max_size=6)
    ),
    max_leaves=12,
)
bodies = st.one_of(
    st.binary(max_size=300),
    json_values.map(lambda v: json.dumps(v).encode()),
    st.lists(json_values, max_size=5).map(lambda v: b"\n".join(json.dumps(x).encode() for x in v)),
    st.builds(lambda a, n: json.dumps(a).encode()[:n], json_values, st.integers(0, 60)),
)
kinds = st.sampled_from(["application/json", "application/x-ndjson", "text/plain", ""])


@settings(max_examples=10)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["/events/arrived", "/events/weather", "/quarantine/arrived/replay", "/internal/events"]),
            bodies,
            kinds,
        ),
        min_size=20,
        max_size=40,
    )
)
def test_no_body_whatever_it_is_makes_a_5xx_or_a_hang(lasting, requests):
    for path, body, kind in requests:
        headers = {"content_type": kind, "authorization": f"Bearer {lasting.client()._token}"}
        status, raw, _ = ask(lasting, "POST", path, body, **headers)
        assert status in (200, 400, 403, 404, 405, 413, 422), (path, body, raw)
        json.loads(raw)
