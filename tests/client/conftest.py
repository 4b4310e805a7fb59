"""A project with one source, and its intake."""

import sys
from pathlib import Path

import pytest

from mainspring.core import ManualClock, load_config
from mainspring.definitions.values import Field, Project, SourceDef

sys.path.insert(0, str(Path(__file__).parents[1] / "events"))

from doorstep import Runner

NOON_US = 1_362_139_200_000_000
PAYMENT = SourceDef(
    "payment",
    (Field("payment_id", "str"), Field("amount", "float", nullable=True), Field("paid_at", "datetime")),
    time="paid_at",
    id="payment_id",
)


@pytest.fixture
def start(tmp_path):
    """Starts an intake, on a port if one is given: ``with start() as running:``."""

    def run(port: int = 0, max_body_bytes: int = 200_000) -> Runner:
        limits = "[limits]\nlog_map_bytes = 67_108_864\ndisk_free_bytes = 0\n"
        door = f"[intake]\nport = {port}\nmax_body_bytes = {max_body_bytes}\n"
        (tmp_path / "mainspring.toml").write_text(f'[project]\nname = "t"\n{door}{limits}')
        return Runner(load_config(tmp_path), Project({"payment": PAYMENT}, {}, {}), ManualClock(NOON_US))

    return run
