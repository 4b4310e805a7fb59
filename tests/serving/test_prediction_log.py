import asyncio
import contextlib
import dataclasses
import json
import os
import threading
from types import SimpleNamespace

import msgspec
import numpy as np
import pytest
import uvloop

from mainspring.core.errors import ContractError, TooLargeError, UnavailableError
from mainspring.core.ids import PredictionIds
from mainspring.core.spool import Spool
from mainspring.events.cells import Cells
from mainspring.events.internal import Block, CheckedRows, RowShape
from mainspring.events.record_batch import RecordBatch
from mainspring.serving.answers import Batch
from mainspring.serving.inference import Choice
from mainspring.serving.layout import Gathered, Inputs
from mainspring.serving.log_rows import Logged, read_frame, rows_of
from mainspring.serving.poster import connect
from mainspring.serving.prediction_log import PredictionLog
from mainspring.serving.request import RequestReader

from rides import NOW, ride, until  # isort: skip


def answered(world, number, has_id=True, **changes):
    """A batch of one answer by a challenger in ramp."""
    source = world.project.sources["ride"]
    row = RequestReader(source, world.clock, 10).contract.check(ride(number))
    inputs = Inputs(
        ("distance_km", "zone"),
        np.array([[7.5, np.nan]]),
        np.array([[0, 1]], np.uint8),
        np.zeros((1, 1), np.float32),
        np.array([["north"]], object),
        {1: ["north"]},
    )
    request = source if has_id else dataclasses.replace(source, id=None)
    served = SimpleNamespace(
        model=SimpleNamespace(name="late_ride", request=request), is_shadow=False, absent=None, rollout="d9"
    )
    choice = Choice("challenger", "v1", inputs, 0.5, "v0", 0.25, None, 50)
    gathered = Gathered([row], (), {}, (), (), {}, 7)
    choices = [msgspec.structs.replace(choice, **changes)]
    ids = PredictionIds("e", [number])
    batch = Batch(served, gathered, [NOW], ids, choices, [0.25], [f"r{number}"], [100], [123], 1)
    return Logged(batch, None)


@contextlib.contextmanager
def started(world, connect, max_bytes=1_000_000, **options):
    log = PredictionLog(connect, Spool(world.config.run / "spool", "e", max_bytes), gather_s=0.001, **options)
    log.start()
    try:
        yield log
    finally:
        assert log.stop(10)


def test_an_answer_becomes_the_requests_event_and_a_prediction_after_it(world):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await world.start_intake(stack)
            with started(world, lambda: connect(world.config.run)) as log:
                log.put([answered(world, 1), answered(world, 2, has_id=False, output=None, error="model")])
                await until(lambda: log.sent == 2)
                assert (log.dropped, log.quarantined, log.is_away, log.buffered) == (0, 0, False, 0)

    uvloop.run(main())
    first, second = world.logged()
    assert first == {
        "prediction_id": "e-1", "predicted_at": NOW, "model": "late_ride", "version": "v1", "variant": "challenger",
        "probability": 0.25, "unit": "r1", "request_id": "r1", "folded": 7, "output": 0.5, "other_version": "v0",
        "other_output": 0.25, "features": '[7.5,"north"]', "status": "[0,1]", "latency_us": 123, "fallback": None,
        "error": None, "rollout": "d9", "other_latency_us": 150, "other_error": None, "drawn": None,
        "answered": None, "rules": None, "member": None, "members": None, "spread": None, "part_of": None,
        "selected": None, "cached": None,
    }  # fmt: skip
    assert (second["output"], second["error"], second["request_id"]) == (None, "model", None)
    assert [row["ride_id"] for row in world.logged("ride")] == ["r1"]


def test_while_the_intake_is_away_answers_wait_on_disk_and_are_sent_in_order_when_it_is_back(world):
    async def main():
        with started(world, lambda: connect(world.config.run), max_batch=10) as log:
            log.put([answered(world, i) for i in range(25)])
            await until(lambda: log.is_away and log.spooled_bytes and not log.buffered)
            assert log.sent == 0
            async with contextlib.AsyncExitStack() as stack:
                await world.start_intake(stack)
                log.put([answered(world, i) for i in range(25, 30)])
                await until(lambda: log.sent == 30 and not log.spooled_bytes)
                assert not log.is_away

    uvloop.run(main())
    assert [row["prediction_id"] for row in world.logged()] == [f"e-{i}" for i in range(30)]


def test_what_a_stopped_gateway_could_not_send_is_sent_by_the_next_one(world):
    with started(world, lambda: connect(world.config.run)) as log:
        log.put([answered(world, i) for i in range(5)])
    assert list((world.config.run / "spool").glob("e.*.spool"))

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await world.start_intake(stack)
            spool = Spool(world.config.run / "spool", "next", 1_000_000)
            assert spool.adopt() > 0
            log = PredictionLog(lambda: connect(world.config.run), spool)
            log.start()
            assert await asyncio.to_thread(log.stop, 10)

    uvloop.run(main())
    assert len(world.logged()) == 5
    assert not list((world.config.run / "spool").iterdir())


def test_what_is_sent_twice_is_logged_once(world):
    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await world.start_intake(stack)
            with started(world, lambda: connect(world.config.run)) as log:
                log.put([answered(world, 1)])
                log.put([answered(world, 1)])
                await until(lambda: log.sent == 2)

    uvloop.run(main())
    assert len(world.logged()) == 1
    assert len(world.logged("ride")) == 1


def named(packed):
    """Rows as source and values by name."""
    found = msgspec.msgpack.decode(packed, type=CheckedRows)
    return [
        (found.shapes[block.shape].source, dict(zip(found.shapes[block.shape].columns, row, strict=True)))
        for block in (*found.blocks, *found.batches)
        for row in block.rows()
    ]


class _Intake:
    """An intake whose moods are the point of the test; the real one is used wherever its answers are."""

    def __init__(self, mood=None):
        self.mood, self.posts = mood, []

    def post_rows(self, found):
        events = named(found)
        if self.mood is not None:
            self.mood(events)
        self.posts.append(events)
        return {"quarantined": 0}

    def close(self):
        pass


def test_a_post_that_is_too_large_is_halved_until_it_fits(world):
    def refuse(events):
        if len(events) > 3:
            raise TooLargeError("MS-S004", "too large")

    intake = _Intake(refuse)
    with started(world, lambda: intake) as log:
        log.put([answered(world, i) for i in range(8)])
    assert sum(len(post) for post in intake.posts) == 16
    assert [row["prediction_id"] for post in intake.posts for name, row in post if name == "_prediction"] == [
        f"e-{i}" for i in range(8)
    ]
    assert (log.sent, log.dropped) == (8, 0)


def test_what_the_intake_will_never_take_is_counted_and_does_not_hold_up_the_rest(world, caplog):
    def refuse(events):
        if any(row.get("prediction_id") == "e-1" for _, row in events):
            raise ContractError("MS-E202", "no msgpack")

    intake = _Intake(refuse)
    with started(world, lambda: intake, max_batch=1) as log:
        log.put([answered(world, i) for i in range(3)])
    assert (log.sent, log.dropped) == (2, 1)
    assert "MS-E202" in caplog.text


def test_of_a_post_that_is_too_large_only_what_will_never_be_taken_is_lost(world):
    def refuse(events):
        if len(events) > 2:
            raise TooLargeError("MS-S004", "too large")
        if any(row.get("prediction_id") == "e-1" for _, row in events):
            raise ContractError("MS-E202", "no msgpack")

    intake = _Intake(refuse)
    with started(world, lambda: intake) as log:
        log.put([answered(world, i, has_id=False) for i in range(8)])
    assert (log.sent, log.dropped) == (6, 2)  # two went together, and one of them was refused
    taken = {row["prediction_id"] for post in intake.posts for _, row in post}
    assert taken == {f"e-{i}" for i in range(2, 8)}


def test_a_full_buffer_drops_and_counts_and_never_blocks(world):
    gate = threading.Event()
    intake = _Intake(lambda events: gate.wait())
    with started(world, lambda: intake, max_bytes=1, max_buffered=10, max_batch=5) as log:
        for _ in range(100):
            log.put([answered(world, 1)])
        uvloop.run(until(lambda: log.buffered <= 10))  # while the thread takes a batch it is counted twice
        gate.set()
    assert (log.sent + log.dropped, log.buffered) == (100, 0)
    assert log.dropped >= 80


def test_nothing_is_written_while_the_intake_takes_what_it_is_sent(world):
    with started(world, _Intake, hold_s=60) as log:
        for i in range(50):
            log.put([answered(world, i)])
            uvloop.run(until(lambda i=i: log.sent == i + 1))
            assert list((world.config.run / "spool").glob("*.spool")) == []


def test_what_gathered_between_two_looks_at_the_clock_is_taken_at_once(world):
    """It once waited until it had to be kept, and was then both written and posted."""
    spool = Spool(world.config.run / "spool", "e", 1_000_000)
    log = PredictionLog(_Intake, spool, gather_s=0.001, hold_s=60)
    log.put([answered(world, 1)])
    assert log._due_s(log._since_s) == log._due_s(log._since_s + 0.002) == log._since_s + 0.001
    spool.close()


def test_while_a_post_takes_its_time_it_and_all_that_comes_after_it_are_on_disk_and_in_order(world):
    gate = threading.Event()
    intake = _Intake(lambda events: gate.wait())
    with started(world, lambda: intake, max_batch=10) as log:
        for i in range(40):
            log.put([answered(world, i)])
        uvloop.run(until(lambda: not log.buffered))  # it has not been sent, and nothing of it is in memory alone
        assert (log.sent, log.is_away) == (0, False)
        left = Spool(world.config.run / "copy", "copy", 1_000_000)
        for path in sorted((world.config.run / "spool").glob("e.*.spool")):
            left.folder.joinpath(path.name).write_bytes(path.read_bytes())
        left.adopt()  # what the next gateway would find
        found = []
        while frames := left.peek():
            found += [row["prediction_id"] for name, row in named(read_frame(frames[0])[1]) if name == "_prediction"]
            left.drop(frames)
        left.close()
        assert found == [f"e-{i}" for i in range(40)]
        gate.set()
        uvloop.run(until(lambda: log.sent == 40 and not log.spooled_bytes))
    posted = [row["prediction_id"] for post in intake.posts for name, row in post if name == "_prediction"]
    assert posted == found


def test_a_full_spool_drops_and_counts(world):
    def away():
        raise UnavailableError("MS-S113", "no intake")

    with started(world, away, max_bytes=3_000, max_batch=1) as log:
        log.put([answered(world, i) for i in range(20)])
    assert 0 < log.dropped < 20
    assert sum(path.stat().st_size for path in world.config.run.joinpath("spool").glob("e.*.spool")) <= 3_100


def test_a_spool_that_cannot_be_read_does_not_hold_up_what_comes_after(world, caplog):
    spool = Spool(world.config.run / "spool", "e", 1_000_000)
    spool.append(b"no msgpack")
    os.pwrite(spool._active.handle, b"????", 16)
    intake = _Intake()
    log = PredictionLog(lambda: intake, spool, gather_s=0.001)
    log.start()
    log.put([answered(world, 1)])
    assert log.stop(10)
    assert (log.sent, log.dropped) == (1, 1)
    assert "cannot be read" in caplog.text


def test_a_frame_that_cannot_be_read_is_dropped_and_counted(world, caplog):
    spool = Spool(world.config.run / "spool", "e", 1_000_000)
    spool.append(b"no msgpack")
    spool.append(msgspec.msgpack.encode((1, msgspec.msgpack.encode(rows_of([answered(world, 1)])))))
    intake = _Intake()
    log = PredictionLog(lambda: intake, spool, gather_s=0.001)
    log.start()
    assert log.stop(10)
    assert (log.sent, log.dropped) == (1, 1)
    assert "a frame of the spool cannot be read" in caplog.text


def test_frames_that_earlier_releases_have_kept_are_sent(world):
    spool = Spool(world.config.run / "spool", "e", 1_000_000)
    found = [rows_of([answered(world, i)]) for i in (1, 2)]
    spool.append(msgspec.msgpack.encode((1, named(msgspec.msgpack.encode(found[0])))))
    rows = [(block.shape, row) for block in (*found[1].blocks, *found[1].batches) for row in block.rows()]
    spool.append(msgspec.msgpack.encode((1, (found[1].shapes, rows))))

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await world.start_intake(stack)
            log = PredictionLog(lambda: connect(world.config.run), spool, gather_s=0.001)
            log.start()
            await until(lambda: log.sent == 2)
            assert await asyncio.to_thread(log.stop, 10)

    uvloop.run(main())
    assert [row["prediction_id"] for row in world.logged()] == ["e-1", "e-2"]
    assert [row["ride_id"] for row in world.logged("ride")] == ["r1", "r2"]


def test_a_row_of_another_version_of_its_source_is_checked_by_the_one_that_is_there(world):
    found = rows_of([answered(world, i) for i in range(3)])
    asked, predicted = found.batches
    shapes = tuple(RowShape(one.source, "another", one.columns) for one in found.shapes)
    rows = [(*row[:2], "nowhere", *row[3:]) if row[0] == "r1" else row for row in asked.rows()]
    other = CheckedRows(shapes, [Block.of(1, rows)], [predicted])
    again = CheckedRows(shapes, [], [asked])
    body = Block.of(1, rows).bodies[0]
    bad = [Block.of(2, rows), Block.of(-1, rows), Block.of(1, [["r1"]]), Block(1, [b""]), Block(1, [b"?"])]
    broken_rows = [CheckedRows(shapes, [block]) for block in (*bad, Block(1, [body[:-1]]))]
    columns = msgspec.msgpack.decode(predicted.body, type=list[Cells])
    ids, *others = columns
    some = (columns[:-1], [*columns, ids], [Cells.same(7), *others], [ids.part(3, slice(2)), *others])
    wrong = [RecordBatch(0, 3, msgspec.msgpack.encode(one)) for one in some]
    wrong += [RecordBatch(shape, n, predicted.body) for shape, n in ((2, 3), (-1, 3), (0, 2), (0, 0), (0, -3))]
    wrong += [RecordBatch(0, 3, body) for body in (b"", b"\xc1", predicted.body[:-1], b"\x80")]
    broken_rows += [CheckedRows(found.shapes, [], [batch]) for batch in wrong]
    broken_rows += [CheckedRows(shapes, [], [wrong[n]]) for n in (0, 1, 4, 5, 7, 9)]

    async def main():
        async with contextlib.AsyncExitStack() as stack:
            await world.start_intake(stack)
            client = connect(world.config.run)
            answer = await asyncio.to_thread(client.post_rows, msgspec.msgpack.encode(other))
            assert answer["quarantined"] == 1
            answer = await asyncio.to_thread(client.post_rows, msgspec.msgpack.encode(again))
            assert answer["quarantined"] == 0
            for broken in (*broken_rows, "no rows"):
                with pytest.raises(ContractError, match="MS-E202"):
                    await asyncio.to_thread(client.post_rows, msgspec.msgpack.encode(broken))
            client.close()

    uvloop.run(main())
    assert [row["ride_id"] for row in world.logged("ride")] == ["r0", "r2", "r1"]
    assert len(world.logged()) == 3


def test_the_record_holds_json_that_others_can_read(world):
    features, status = answered(world, 1).batch.choices[0].inputs.logged(0)
    assert json.loads(features) == [7.5, "north"]
    assert msgspec.json.decode(status) == [0, 1]


def test_no_connection_says_what_to_start(world):
    with pytest.raises(UnavailableError, match="mainspring up"):
        connect(world.config.run)
