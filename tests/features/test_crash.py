"""``kill -9`` at any moment: state and offset stay one."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path

import correcting_child
import folding_child
import numpy as np
import pytest
from folding_child import MAP_BYTES
from streams import keys_frame, read_live

from mainspring.features.replay import replay
from mainspring.features.store import OnlineStore

KILLS = 10


def assert_is_replay(child, store, records):
    """All that the store answers is what a replay of the log up to its offset answers."""
    offset = store.folded_offset()
    keys = [("busy",), *((str(i),) for i in range(31))]
    t_us = np.full(len(keys), records[offset - 1].known_at_us)
    for view in child.make_views():
        values, status, _ = read_live(store, view, keys, t_us)
        again, codes = replay(view, child.history(view, records[:offset]), keys_frame(keys), t_us, known_offset=offset)
        exact = [i for i, f in enumerate(view.features) if f.function != "std"]
        assert values[:, exact].tobytes() == again[:, exact].tobytes()
        assert np.allclose(values, again, rtol=1e-12, atol=0, equal_nan=True)
        assert np.array_equal(status, codes)


@pytest.mark.crash
@pytest.mark.parametrize("child", [folding_child, correcting_child], ids=["events", "corrections"])
def test_a_fold_killed_at_any_moment_loses_nothing_and_counts_nothing_twice(child, tmp_path):
    records, dice, reached = child.stream(), random.Random(9), 0
    path = os.pathsep.join(p for p in sys.path if p)
    with subprocess.Popen(
        [sys.executable, str(Path(child.__file__)), str(tmp_path / "state")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    ) as parent:
        try:
            for _ in range(KILLS):
                parent.stdin.write("\n")
                parent.stdin.flush()
                process = int(parent.stdout.readline())
                with OnlineStore.open(tmp_path / "state", MAP_BYTES) as store:
                    assert store.wait_for(reached + dice.randint(1, 600), timeout_s=60.0)
                os.kill(process, signal.SIGKILL)
                assert int(parent.stdout.readline()) == signal.SIGKILL
                with OnlineStore.open(tmp_path / "state", MAP_BYTES) as store:
                    assert store.folded_offset() > reached
                    reached = store.folded_offset()
                    assert_is_replay(child, store, records)
        finally:
            os.killpg(parent.pid, signal.SIGKILL)  # a child that is stuck too
