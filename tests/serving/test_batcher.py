import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainspring.core.errors import BackPressureError
from mainspring.serving.batcher import Batcher, Job


class Reply:
    cancelled = False


def job(name, rows, deadline_s=1e18):
    return Job([(name, i) for i in range(rows)], [0] * rows, Reply(), 0.0, deadline_s, rows)


class Recorder:
    """A batcher that remembers what it scored, tick by tick."""

    def __init__(self, max_rows=10, max_queued_rows=100):
        self.batches, self.expired = [], []
        loop = asyncio.get_running_loop()
        self.batcher = Batcher(
            self.execute, self.expired.append, loop, max_rows=max_rows, max_queued_rows=max_queued_rows
        )

    def execute(self, slices):
        self.batches.append([row for s in slices for row in s.job.rows[s.start : s.stop]])


def test_what_arrives_in_one_tick_is_one_batch_and_nothing_runs_before():
    async def main():
        seen = Recorder()
        for name in "abc":
            seen.batcher.submit(job(name, 2))
            assert not seen.batches
        await asyncio.sleep(0)
        assert seen.batches == [[("a", 0), ("a", 1), ("b", 0), ("b", 1), ("c", 0), ("c", 1)]]
        seen.batcher.submit(job("d", 1))
        await asyncio.sleep(0)
        assert seen.batches[1:] == [[("d", 0)]]

    asyncio.run(main())


def test_an_idle_batcher_asks_nothing_of_the_loop():
    async def main():
        seen = Recorder()
        seen.batcher.submit(job("a", 1))
        await asyncio.sleep(0)
        loop = asyncio.get_running_loop()
        await asyncio.sleep(0)
        assert not [h for h in loop._ready if "Batcher" in repr(h)]
        assert not loop._scheduled

    asyncio.run(main())


@given(st.lists(st.integers(1, 35), max_size=12), st.integers(1, 20))
def test_every_row_is_scored_once_in_order_and_no_batch_is_over_its_limit(sizes, limit):
    async def main():
        seen = Recorder(max_rows=limit, max_queued_rows=10_000)
        for i, rows in enumerate(sizes):
            seen.batcher.submit(job(i, rows))
        while seen.batcher.queued_rows:
            await asyncio.sleep(0)
        assert [row for batch in seen.batches for row in batch] == [
            (i, r) for i, n in enumerate(sizes) for r in range(n)
        ]
        assert all(len(batch) <= limit for batch in seen.batches)
        assert len(seen.batches) == -(-sum(sizes) // limit)

    asyncio.run(main())


def test_a_cancelled_job_is_left_out_and_its_neighbours_are_scored():
    async def main():
        seen = Recorder()
        jobs = [job(name, 2) for name in "abc"]
        for one in jobs:
            seen.batcher.submit(one)
        jobs[1].reply.cancelled = True
        await asyncio.sleep(0)
        assert seen.batches == [[("a", 0), ("a", 1), ("c", 0), ("c", 1)]]
        assert seen.batcher.queued_rows == 0
        assert not seen.expired

    asyncio.run(main())


def test_a_job_past_its_deadline_is_answered_so_and_not_scored():
    async def main():
        seen = Recorder()
        late, good = job("late", 1, deadline_s=0.0), job("good", 1)
        seen.batcher.submit(late)
        seen.batcher.submit(good)
        await asyncio.sleep(0)
        assert seen.expired == [late]
        assert seen.batches == [[("good", 0)]]

    asyncio.run(main())


def test_a_full_queue_sheds_at_once_and_takes_again_when_there_is_room():
    async def main():
        seen = Recorder(max_rows=10, max_queued_rows=20)
        seen.batcher.submit(job("a", 15))
        with pytest.raises(BackPressureError, match="MS-S105"):
            seen.batcher.submit(job("b", 6))
        seen.batcher.submit(job("c", 5))
        await asyncio.sleep(0)
        seen.batcher.submit(job("d", 10))
        seen.batcher.finish()
        assert [row[0] for batch in seen.batches for row in batch] == ["a"] * 15 + ["c"] * 5 + ["d"] * 10

    asyncio.run(main())


def test_a_request_larger_than_the_queue_is_taken_when_nothing_waits():
    async def main():
        seen = Recorder(max_rows=10, max_queued_rows=20)
        seen.batcher.submit(job("a", 30))
        seen.batcher.finish()
        assert [len(batch) for batch in seen.batches] == [10, 10, 10]

    asyncio.run(main())
