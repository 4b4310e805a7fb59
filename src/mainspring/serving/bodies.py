"""Bodies of requests of one row, which are read with their neighbours in the tick: that costs less than one by one."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mainspring.core.errors import MainspringError
from mainspring.serving.batcher import Job, Slice, rows_of
from mainspring.serving.request import RequestReader
from mainspring.serving.table import Row

SMALL_BYTES = 16_384
"""What is larger is read when it comes: what waits to be read is kept."""


class Bodies:
    """Reads the bodies of one model's jobs.

    Args:
        requests: What reads them.
        refuse: Told of each that is wrong.
    """

    def __init__(self, requests: RequestReader, refuse: Callable[[MainspringError], None]) -> None:
        self._requests = requests
        self._refuse = refuse

    def read(self, slices: Sequence[Slice]) -> tuple[Sequence[Slice], Sequence[Row], Sequence[int]] | None:
        """Slices with good rows, these rows, and the moment of each; None if there are none."""
        bodies = [one.job.body for one in slices if not one.job.rows]
        if bodies:
            # One row alone is no column: a wide source's would cost as much as many rows.
            found = self._requests.read_each(bodies) if 1 < len(bodies) == len(slices) else None
            if found is not None:
                return slices, *found
            slices = self.opened(slices)
        return (slices, *rows_of(slices)) if slices else None

    def opened(self, slices: Sequence[Slice]) -> list[Slice]:
        """Slices whose jobs have their rows, read one by one; a job whose body is wrong is answered, and left out."""
        return [one for one in slices if one.job.rows or self._open(one.job)]

    def _open(self, job: Job) -> bool:
        try:
            read = self._requests.read(job.body)
        except MainspringError as error:
            self._refuse(error)
            job.close()
            job.reply.fail(error)
            return False
        job.rows, job.times_us = read.rows, read.times_us
        return True
