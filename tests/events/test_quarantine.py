"""Mends: a closed form, nothing evaluated."""

import json
from dataclasses import replace

import msgspec
import pytest

from mainspring.core.errors import ConfigError, ContractError, NotFoundError
from mainspring.events import Contract, Draft, Held, Log, Reject
from mainspring.events.held import MAX_RAW_BYTES, from_bytes
from mainspring.events.quarantine import Mend, chosen, fields_json, mended, parse_discard, parse_mend, replayed

T = "2013-03-01T11:00:00Z"
MAP = 1 << 26


def held(sequence, raw, **more):
    return Held(sequence, "arrived", raw, "MS-E102", "why", "$", "v", "http", 0, **more)


def test_each_repair_does_what_it_says_in_order():
    raw = json.dumps({"old": "90", "junk": 1, "carrier": "UA", "n": None}).encode()
    mend = Mend(
        rename={"old": "delay_min"},
        drop=("junk",),
        cast={"delay_min": "float", "n": "int"},
        scale={"delay_min": 0.5},
        set={"carrier": "AA"},
    )
    assert mended(raw, mend) == {"delay_min": 45.0, "carrier": "AA", "n": None}


def test_a_formula_sees_repaired_and_dropped_columns_and_nothing_of_another_formula():
    mend = Mend(
        rename={"old": "delay_min"},
        drop=("seconds",),
        cast={"delay_min": "float"},
        compute={"delay_min": "delay_min + seconds / 60", "carrier": "str(delay_min)"},
        set={"n": 1},
    )
    assert mended(b'{"old": "2", "seconds": 90}', mend) == {"delay_min": 3.5, "carrier": "2.0", "n": 1}


def test_a_mend_may_name_a_column_by_an_earlier_name(arrived):
    fields = tuple(replace(f, aliases=("late_by",)) if f.name == "delay_min" else f for f in arrived.fields)
    source = replace(arrived, fields=fields)
    mend = parse_mend(b'{"scale": {"late_by": 0.5}}', source)
    raw = json.dumps({"flight_id": "a", "carrier": "UA", "late_by": 90.0, "arrived_at": "2013-03-01T12:00:00Z"})
    (draft,) = replayed([held(1, raw.encode())], mend, Contract(source))
    assert isinstance(draft, Draft)
    assert draft.row[:3] == ("a", "UA", 45.0)


@pytest.mark.parametrize("came_as", ["delay", "delay_min", "late_by"])
@pytest.mark.parametrize("said", ["delay", "delay_min"])
def test_a_column_is_mended_under_whichever_of_its_names_it_came(came_as, said):
    now = {"delay": "delay_min", "late_by": "delay_min"}
    raw = json.dumps({came_as: "90"}).encode()
    for mend, value in (
        (Mend(cast={said: "float"}, scale={said: 0.5}), 45.0),
        (Mend(compute={said: f"float({said}) / 9"}), 10.0),
        (Mend(set={said: 1.0}), 1.0),
    ):
        assert mended(raw, mend, now) == {"delay_min": value}
    both = mended(b'{"delay": 1, "delay_min": 2}', Mend(scale={said: 2.0}), now)
    assert both == {"delay": 1, "delay_min": 4.0}  # the contract says what is wrong with that


@pytest.mark.parametrize(
    ("raw", "mend", "code"),
    [
        (b"no json", Mend(), "MS-E132"),
        (b"[1]", Mend(), "MS-E132"),
        (b'{"x": "late"}', Mend(cast={"x": "float"}), "MS-E133"),
        (b'{"x": "late"}', Mend(scale={"x": 2.0}), "MS-E133"),
        (b'{"x": true}', Mend(scale={"x": 2.0}), "MS-E133"),
        (b'{"x": [1]}', Mend(cast={"x": "str"}), "MS-E133"),
        (b'{"x": 0}', Mend(compute={"x": "1 / x"}), "MS-E136"),
        (b'{"x": 1e999}', Mend(cast={"x": "int"}), "MS-E132"),
    ],
)
def test_what_cannot_be_mended_says_why(raw, mend, code):
    with pytest.raises(ContractError) as caught:
        mended(raw, mend)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "raw",
    [
        b"[]",
        b'{"eval": "1"}',
        b"\xff",
        b'{"scale": {"delay_min": "2"}}',
        b'{"cast": {"delay_min": "bool"}}',
        b"[" * 99_999,
    ],
)
def test_what_is_no_mend_is_refused(arrived, raw):
    with pytest.raises(ConfigError, match="MS-E130"):
        parse_mend(raw, arrived)


def test_a_mend_of_a_column_that_is_not_there_is_refused_with_a_hint(arrived):
    with pytest.raises(ConfigError, match="did you mean 'delay_min'"):
        parse_mend(b'{"set": {"delay_mins": 1}}', arrived)


def test_replaying_resolves_what_passes_and_keeps_the_rest_with_its_new_reason(tmp_path, arrived, clock):
    good = {"flight_id": "a", "carrier": "UA", "delay": 5, "arrived_at": T}
    contract, mend = Contract(arrived), Mend(rename={"delay": "delay_min"})
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append([Draft(arrived, contract.check({"flight_id": "c", "carrier": "UA", "arrived_at": T}))], clock)
        raws = [good, good | {"flight_id": "b", "carrier": "ZZ"}, good | {"flight_id": "c", "delay": None}]
        log.append([Reject("arrived", json.dumps(r).encode(), "MS-E102", "unknown field") for r in raws], clock)
        clock.set(clock.now_us() + 1_000)
        acks = log.append(replayed(log.quarantined("arrived"), mend, contract), clock)
        assert [a.status for a in acks] == ["accepted", "quarantined", "duplicate"]
        (left,) = log.quarantined("arrived")
        assert (left.sequence, left.code, left.path) == (2, "MS-E103", "$.carrier")
        assert left.raw == json.dumps(raws[1]).encode()
        assert [h.status for h in log.quarantined(include_resolved=True)] == ["replayed", "open", "duplicate"]
        assert log.held(1).offset == 2
        record = log.read(1)[0]
        assert (record.known_at_us, record.id) == (clock.now_us(), "a")
        counts = log.counts()["arrived"]
        assert (counts.accepted, counts.duplicate, counts.quarantined, counts.mended) == (1, 0, 3, 1)
        assert log.append(replayed(log.quarantined("arrived"), mend, contract), clock)[0].status == "quarantined"
        assert log.discard([1, 2, 99], "sent twice") == 1
        assert log.quarantined() == []
        assert [(log.held(n).note, log.held(n).status) for n in (1, 2)] == [
            ("", "replayed"),
            ("sent twice", "discarded"),
        ]
        assert log.held(2).raw == b""


def test_only_some_records_may_be_replayed(arrived):
    entries = [held(1, b"{}"), held(2, b"{}")]
    assert [e.resolves for e in replayed(entries, Mend(only=(2,)), Contract(arrived))] == [2]


def test_a_number_that_is_of_no_record_that_waits_is_named(arrived):
    entries = [held(1, b"{}"), held(2, b"{}")]
    with pytest.raises(NotFoundError, match="MS-E135: no record of arrived waits in quarantine under 3, 99"):
        replayed(entries, Mend(only=(99, 2, 3)), Contract(arrived))
    assert [e.sequence for e in chosen(entries, (2, 1, 2), "arrived")] == [1, 2]
    assert chosen(entries, (), "arrived") == entries


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b'{"all": true}',
        b'{"only": [1]}',
        b'{"only": [1], "reason": ""}',
        b'{"reason": "r"}',
        b'{"only": [], "reason": "r"}',
        b'{"only": [1], "all": true, "reason": "r"}',
        b'{"only": ["1"], "reason": "r"}',
        b"[" * 99_999,
    ],
)
def test_what_does_not_say_which_and_why_is_not_discarded(raw):
    with pytest.raises(ConfigError, match="MS-E134"):
        parse_discard(raw)


def test_a_record_held_by_an_earlier_build_has_no_note():
    older = msgspec.msgpack.encode(msgspec.structs.astuple(held(1, b"x"))[:-1])
    assert from_bytes(older) == held(1, b"x")


def test_a_record_that_was_cut_is_kept_as_far_as_it_goes_and_not_replayed(tmp_path, arrived, clock):
    with Log.open(tmp_path / "log", MAP, writable=True) as log:
        log.append([Reject("arrived", b"[" * (MAX_RAW_BYTES + 1), "MS-E101", "no JSON")], clock)
        (entry,) = log.quarantined()
        assert (len(entry.raw), entry.is_cut) == (MAX_RAW_BYTES, True)
        (ack,) = log.append(replayed([entry], Mend(), Contract(arrived)), clock)
        assert ack.code == "MS-E132"


def test_the_text_of_a_record_cannot_command_a_terminal():
    text = held(1, b'\x1b]0;evil\x07\xff\n\xe2\x80\xae"caf\xc3\xa9"').text
    assert text.isprintable()
    assert "\\x1b" in text
    assert "café" in text


def test_a_record_in_another_form_is_kept_as_json_that_its_contract_reads(arrived):
    fields = {"flight_id": "a", "carrier": "UA", "delay_min": 1.5, "seats": None, "arrived_at": 1_000_000}
    assert Contract(arrived).check_json(fields_json(arrived, fields)) == ("a", "UA", 1.5, None, 1_000_000)
    assert json.loads(fields_json(arrived, {"arrived_at": 10**30})) == {"arrived_at": 10**30}
    assert json.loads(fields_json(None, [1, b"\xff"])) == [1, "/w=="]
