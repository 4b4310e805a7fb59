"""A process that folds until it is killed. It imports everything once, then forks a child for each line it is sent.

Polars' threads do not survive a fork: nothing here uses them before it.
"""

import os
import random
import sys
from pathlib import Path

import numpy as np
from streams import HOUR_US, every_aggregate, feature, frame, make_view, record

from mainspring.features.fold import Folder
from mainspring.features.store import OnlineStore

MAP_BYTES = 1 << 28


def make_views():
    """What is folded; made in each process, because checking an expression starts polars' threads."""
    unbounded = feature("n", "count", "x"), feature("sum", "sum", "x"), feature("fresh", "last", "x", ttl=HOUR_US)
    return [make_view(*every_aggregate(2 * HOUR_US), name="finite"), make_view(*unbounded, name="ever")]


def stream(n=60_000):
    """A log with a busy key and thirty others, some events late."""
    rng = np.random.default_rng(8)
    known = np.cumsum(rng.integers(1, 2_000_000, n)).tolist()
    late = np.where(rng.random(n) < 0.1, rng.integers(0, HOUR_US, n), 0).tolist()
    keys = np.where(rng.random(n) < 0.5, "busy", rng.integers(0, 30, n).astype(str)).tolist()
    return [
        record(i + 1, keys[i], float(x), known[i] - late[i], known[i]) for i, x in enumerate(rng.lognormal(0, 6, n))
    ]


def history(_view, records):
    """What a view is replayed from."""
    return frame(records)


def fold_for_ever(child, path, seed):
    """Fold a child's stream from where the store stands, in batches of any size, until nothing is left."""
    records, sizes = child.stream(), random.Random(seed)
    with OnlineStore.open(path, MAP_BYTES, writable=True) as store:
        folder = Folder(child.make_views(), store)
        while folder.offset < len(records):
            folder.fold(records[folder.offset : folder.offset + sizes.randint(1, 40)])


def serve(child, path):
    """Fork a process that folds for each line; print its id, and what ended it."""
    for number, _ in enumerate(sys.stdin):
        process = os.fork()
        if process == 0:
            try:
                fold_for_ever(child, Path(path), number)
            finally:
                os._exit(17)
        print(process, flush=True)
        print(os.waitpid(process, 0)[1], flush=True)


if __name__ == "__main__":
    serve(sys.modules["__main__"], sys.argv[1])
