"""Puts the world of these tests on the path (folders of tests are not packages)."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "core"))

from rides import World


@pytest.fixture
def world(tmp_path):
    """A project on disk with a catalog, packages and an online store, all real."""
    with World(tmp_path) as made:
        yield made
