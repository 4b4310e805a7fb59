"""A static table beside a model: its columns in a training set and in the gateway's reads are the same."""

import numpy as np
import pytest

from mainspring.core import ManualClock, load_config
from mainspring.core.times import parse_time
from mainspring.definitions import load_project
from mainspring.events import Contract, Draft, Log
from mainspring.events.files import ingest_file
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.features import Folder, OnlineStore, Reader
from mainspring.serving.inference import Expressions, gather
from mainspring.training import build, sources_of

DEFINITIONS = """
from datetime import datetime
import mainspring as ms
from mainspring import col

class Plane(ms.Table, key="tailnum"):
    tailnum: str
    manufacturer: str
    seats: int
    engines: int | None

class Departing(ms.Source, id="flight_id", time="at"):
    flight_id: str
    tailnum: str | None
    passengers: int
    at: datetime

class Arrived(ms.Source, id="flight_id", time="at"):
    flight_id: str
    late_min: float
    at: datetime

Aircraft = ms.lookup(Plane, "seats", "engines")
late = ms.label(Arrived, on="flight_id", value=col("late_min") > 15, within="12h", otherwise=ms.exclude)

@ms.model(request=Departing, label=late, task="binary_classification", gates=[],
          monitor=ms.Monitor(every="1d", retrain=ms.every("30d")),
          rollout=ms.Rollout(prove=[ms.guard("log_loss", margin=0.02)], veto=[ms.guard("errors")]),
          features=[Aircraft, "passengers"])
def late_flight(train): ...
"""
NOW = parse_time("2026-03-01T12:00:00")
HOUR_US = 3_600_000_000
SEATS = {"N1": 180, "N2": 60}


@pytest.fixture
def project_folder(tmp_path):
    (tmp_path / "mainspring.toml").write_text('[project]\nname = "flights"\n[limits]\nstate_map_bytes = 67108864\n')
    (tmp_path / "definitions.py").write_text(DEFINITIONS)
    rows = ("N1,BOEING,180,2", "N2,EMBRAER,60,")
    (tmp_path / "planes.csv").write_text("\n".join(("tailnum,manufacturer,seats,engines", *rows)) + "\n")
    return tmp_path


def flights(project, hours):
    """Requests and outcomes an hour apart, of the planes in turn, one of which is not in the table and one unknown."""
    departing, arrived = (Contract(project.sources[name]) for name in ("departing", "arrived"))
    planes = ["N1", "N2", "N9", None]
    for n in range(hours):
        at, ident = NOW + n * HOUR_US, f"f{n}"
        asked = {"flight_id": ident, "tailnum": planes[n % 4], "passengers": n, "at": at}
        yield at, Draft(departing.source, departing.check(asked))
        yield (
            at + 1,
            Draft(arrived.source, arrived.check({"flight_id": ident, "late_min": 20.0 * (n % 2), "at": at + 1})),
        )


def test_a_table_from_a_file_and_a_row_sent_later_are_in_training_sets_and_in_requests_alike(project_folder):
    config = load_config(project_folder)
    project = load_project(config.definitions)
    clock = ManualClock(NOW - HOUR_US)
    loaded = ingest_file(config, project, project_folder / "planes.csv", "plane", clock)
    assert (loaded.accepted, loaded.quarantined) == (2, 0)
    model, plane = project.models["late_flight"], Contract(project.sources["plane"])
    asked = []
    with (
        Log.open(config.log_path, 1 << 26, writable=True) as log,
        OnlineStore.open(config.state_path, 1 << 26, writable=True) as store,
    ):
        folder, reader = Folder(project.views.values(), store), Reader((), store)
        expressions = Expressions((), model.request, model.views)
        for n, (at_us, draft) in enumerate(flights(project, 40)):
            clock.set(at_us)
            if n == 40:
                row = plane.check({"tailnum": "N1", "manufacturer": "BOEING", "seats": 200, "engines": 2})
                log.append([Draft(plane.source, row)], clock)
            folder.fold(log.read(store.folded_offset()))
            if draft.source is model.request:
                view, places = model.views[0], (list(model.request.columns).index("tailnum"),)
                gathered, error = gather([draft.row], [at_us], [(view, places)], expressions, reader)
                assert error is None
                asked.append(gathered.blocks[0][0][0])
            log.append([draft], clock)
        history = History(project, log, Lake(config.lake_path))
        history.catch_up()
        frames = {name: history.frame(name) for name in sources_of(model)}
        trained = build(model, frames, project_folder / "sets", now_us=NOW + 100 * HOUR_US)
    served = np.array(asked, np.float32)
    assert trained.frame.height == 40
    assert np.array_equal(trained.frame.select("plane__seats", "plane__engines").to_numpy(), served, equal_nan=True)
    assert served[:4, 0].tolist()[:2] == [180.0, 60.0]
    assert np.isnan(served[2:4]).all()
    assert np.isnan(served[1, 1])
    assert [served[n, 0] for n in (16, 20, 24)] == [180.0, 200.0, 200.0]
