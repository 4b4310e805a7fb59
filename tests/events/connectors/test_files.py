"""Files as they appear, of every kind, here and in another file system."""

import json
import os

import fsspec
import polars as pl
import pytest

from mainspring.core.errors import ConfigError, UnavailableError


def lines(*numbers):
    return "".join(json.dumps({"ride": f"r{n}", "km": 1.0, "at": "2026-01-02T03:04:05Z"}) + "\n" for n in numbers)


def rides(feed, url="in/*.jsonl", **more):
    return feed(**{"kind": "files", "source": "ride", "url": url, "settle": "0s"} | more)


@pytest.fixture
def folder(config):
    """The folder that is watched."""
    found = config.root / "in"
    found.mkdir()
    return found


def test_each_file_is_read_once_in_the_order_of_names_and_what_is_added_later_too(feed, folder):
    (folder / "b.jsonl").write_text(lines(3, 4))
    (folder / "a.jsonl").write_text(lines(1, 2))
    one = rides(feed, batch=1)
    assert one.once() == ["accepted"] * 4
    assert one.once() == []
    (folder / "0.jsonl").write_text(lines(5))
    with (folder / "b.jsonl").open("a") as file:
        file.write(lines(6))
    assert one.once() == ["accepted"] * 2
    assert one.ids() == ["r1", "r2", "r3", "r4", "r5", "r6"]


def test_a_file_that_was_rewritten_is_read_anew_and_one_that_was_out_of_sight_is_not(feed, folder):
    (folder / "a.jsonl").write_text(lines(1, 2))
    one = rides(feed)
    one.once()
    (folder / "a.jsonl").write_text(lines(7, 1, 2))
    assert one.once() == ["accepted", "duplicate", "duplicate"]
    (folder / "a.jsonl").rename(folder / "a.hidden")
    assert one.once() == []
    (folder / "a.hidden").rename(folder / "a.jsonl")
    assert one.once() == []


def test_a_file_that_is_being_written_is_left_until_it_is_quiet(feed, folder):
    (folder / "a.jsonl").write_text(lines(1))
    one = rides(feed, settle="1h")
    assert one.once() == []
    os.utime(folder / "a.jsonl", (1, 1))
    assert one.once() == ["accepted"]


def test_rows_without_an_id_come_once_too(feed, folder):
    rows = [{"n": n, "at": "2026-01-02T03:04:05Z"} for n in range(10)]
    (folder / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    one = rides(feed, source="tick", batch=3)
    assert one.once() == ["accepted"] * 10
    assert one.once() == []
    assert [row["n"] for row in one.records()] == list(range(10))


def test_every_kind_of_file_says_the_same(feed, folder):
    frame = pl.DataFrame({"ride": ["a", "b"], "km": [1.0, 2.0], "at": ["2026-01-02T03:04:05Z"] * 2})
    typed = frame.with_columns(pl.col("at").str.to_datetime("%+", time_unit="us", time_zone="UTC"))
    frame.write_csv(folder / "1.csv")
    typed.write_parquet(folder / "2.parquet")
    typed.write_ipc(folder / "3.arrow")
    typed.write_ipc_stream(folder / "4.arrows")
    frame.write_ndjson(folder / "5.jsonl")
    one = rides(feed, url="in/*")
    assert one.once() == ["accepted", "accepted"] + ["duplicate"] * 8


def test_a_file_that_makes_no_sense_waits_in_quarantine_and_the_next_one_is_read(feed, folder):
    (folder / "a.csv").write_text("what,is\nthis,now\n")
    (folder / "b.parquet").write_bytes(b"PAR1 nope")
    (folder / "c.arrow").write_bytes(b"ARROW1\0\0 nope")
    (folder / "d.jsonl").write_text("nope\n" + lines(1))
    one = rides(feed, url="in/*")
    assert one.once() == ["quarantined"] * 4 + ["accepted"]
    assert [code for code, *_ in one.held()] == ["MS-E402", "MS-E403", "MS-E211", "MS-E101"]
    assert one.once() == []


def test_names_are_mapped_and_a_place_may_be_an_id(feed, folder):
    (folder / "a.csv").write_text("Distance,Stadt,at\n5,graz,2026-01-02T03:04:05Z\n7,linz,2026-01-02T03:04:05Z\n")
    columns = {"km": "Distance", "city": "Stadt", "ride": "$line"}
    with pytest.raises(ConfigError, match="no column 'way'"):
        rides(feed, url="in/*.csv", columns={"way": "x"}).once()
    assert rides(feed, url="in/*.csv", columns=columns).once() == ["quarantined", "quarantined"]  # a number is no text
    one = rides(feed, name="other", url="in/*.csv", columns=columns | {"ride": "$file"})
    assert one.once() == ["accepted", "quarantined"]  # the same id with another row
    assert one.records() == [{"ride": "a.csv", "km": 5.0, "city": "graz", "at": 1_767_323_045_000_000}]


def test_any_file_system_of_fsspec_will_do(feed):
    memory = fsspec.filesystem("memory")
    memory.pipe("/bucket/rides/a.jsonl", lines(1, 2).encode())
    memory.pipe("/bucket/rides/b.jsonl", lines(3).encode())
    one = rides(feed, url="memory://bucket/rides/*.jsonl", batch=1)
    assert one.once() == ["accepted"] * 3
    memory.pipe("/bucket/rides/c.jsonl", lines(4).encode())
    assert one.once() == ["accepted"]
    memory.rm("/bucket", recursive=True)
    assert one.once() == []
    with pytest.raises(UnavailableError, match="MS-E432"):
        rides(feed, url="nonsense://x/*").once()
