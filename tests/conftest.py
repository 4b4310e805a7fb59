"""What every test shares: hypothesis profiles, the folder of compiled kernels, the repository's root."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parents[1]

# Processes that tests start inherit it, so kernels are compiled once for the whole run.
os.environ.setdefault("NUMBA_CACHE_DIR", str(ROOT / ".venv" / "cache" / "numba"))

# Servers are started as another user, which needs a fork. With gRPC's handlers the child would start gRPC's threads
# again and end by their closed files, before it is a server.
os.environ["GRPC_ENABLE_FORK_SUPPORT"] = "false"

# Two cores shared by two test processes: how long an example takes says nothing about our code.
_SHARED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("ci", derandomize=True, print_blob=True, **_SHARED)
settings.register_profile("explore", max_examples=300, **_SHARED)
settings.register_profile("thorough", max_examples=5_000, **_SHARED)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository's root folder."""
    return ROOT
