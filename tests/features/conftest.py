"""Puts the oracle and the streams beside these tests on the path (folders of tests are not packages)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from mainspring.features import OnlineStore


@pytest.fixture
def store(tmp_path):
    """An empty online store, writable."""
    with OnlineStore.open(tmp_path / "state", 1 << 28, writable=True) as opened:
        yield opened
