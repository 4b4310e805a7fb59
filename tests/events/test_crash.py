"""Nothing acknowledged is lost, nothing counted twice, nothing half written, after ``kill -9`` at random moments."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

DRIVER = Path(__file__).with_name("crash_driver.py")


@pytest.mark.crash
@pytest.mark.slow
def test_log_and_lake_agree_by_ids_after_thirty_kills(tmp_path):
    command = [sys.executable, str(DRIVER), str(tmp_path), "30", "20131122"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["kills"] == 30
    assert found["events"] >= found["acknowledged"] > 600
    assert found["in_lake"] > 0
    assert found["trimmed"] > 0
