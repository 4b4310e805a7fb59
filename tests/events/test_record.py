"""The envelope."""

import pytest

from mainspring.core.errors import FormatError
from mainspring.definitions.values import Field, SourceDef
from mainspring.events import Draft, Log
from mainspring.events.record import FORMAT, HEADER, Shape, decode

ROW = ("a", "UA", None, 3, -5)


def test_a_record_reads_back_as_it_was_written(tmp_path, arrived, clock):
    with Log.open(tmp_path / "log", 1 << 24, writable=True) as log:
        log.append([Draft(arrived, ROW, history=True)], clock)
        (record,) = log.read(0)
    assert record.values == ROW
    assert (record.source, record.version, record.id) == ("arrived", arrived.version, "a")
    assert (record.time_us, record.known_at_us, record.ingested_at_us) == (-5, -5, clock.now_us())
    assert record.is_history
    assert record.to_dict()["carrier"] == "UA"


def test_bytes_of_an_unknown_format_are_refused(arrived):
    shapes = {1: (Shape.of(arrived), 0)}
    raw = HEADER.pack(FORMAT + 1, 0, 1, 0, 0, 0, 0) + b"\x90"
    with pytest.raises(FormatError, match=f"format {FORMAT + 1}"):
        decode(9, raw, shapes)


def test_a_record_of_an_older_contract_is_read_by_the_names_of_its_columns(tmp_path, arrived, clock):
    newer = SourceDef(
        "arrived",
        (
            Field("gate", "str", default="?", has_default=True),
            Field("arrived_at", "datetime"),
            Field("seats", "float", nullable=True),
            Field("flight_id", "str"),
        ),
        time="arrived_at",
        id="flight_id",
    )
    with Log.open(tmp_path / "log", 1 << 24, writable=True) as log:
        log.append([Draft(arrived, ROW, history=True)], clock)
        log.append([Draft(newer, ("B4", 7, 2.0, "b"), history=True)], clock)
        old, new = log.read(0)
    assert old.row_for(newer) == ("?", -5, 3.0, "a")
    assert new.row_for(newer) == ("B4", 7, 2.0, "b")
