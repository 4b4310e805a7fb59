"""Puts this folder and the gateway's world on the path (folders of tests are not packages)."""

import sys
from pathlib import Path

import pytest

from mainspring.load.pool import Pool

sys.path.insert(0, str(Path(__file__).parent.parent / "serving"))
sys.path.insert(0, str(Path(__file__).parent))

from rides import World
from servers import Answering


@pytest.fixture
def world(tmp_path):
    """A project on disk with a catalog, packages and an online store, all real."""
    with World(tmp_path) as made:
        yield made


@pytest.fixture
def answering():
    return Answering


@pytest.fixture
def plain():
    """Requests whose body is their number."""
    head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 16\r\n\r\n"
    return Pool(((head, b""),), ("str", 0), 1)
