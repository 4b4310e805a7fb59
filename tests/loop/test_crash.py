"""``kill -9`` of intake, worker and connector under load: accepted = in the log = in the lake = folded, by ids."""

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import crash_system


@pytest.mark.crash
@pytest.mark.slow
@pytest.mark.processes
def test_what_is_accepted_is_in_log_and_lake_and_folded_once_each_after_kills_of_every_process(tmp_path):
    left = crash_system.run(tmp_path, 9, random.Random(20131122))
    assert left.amiss == []
    assert all(n >= 1 for n in left.kills.values())
    assert left.acknowledged > 200
    assert left.lines > 200
