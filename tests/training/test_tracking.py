"""MLflow gets each training once, with its lineage, and no pickle."""

import subprocess
import sys

import pytest

from mainspring.training import Run, Tracking


@pytest.fixture(scope="module")
def tracking(tmp_path_factory):
    root = tmp_path_factory.mktemp("mlflow")
    made = Tracking(f"sqlite:///{root / 'mlflow.db'}", root / "artifacts")
    made.create_schema()
    return made


def run(tmp_path, version="abc", **changes):
    given = {
        "model": "late_trip",
        "version": version,
        "source": tmp_path,
        "started_us": 1_000_000,
        "ended_us": 2_000_000,
        "parameters": {"seed": "1"},
        "metrics": {"roc_auc": 0.75, "r2": float("nan")},
        "tags": {"mainspring.dataset": "d1", "mainspring.view.driver": "v1"},
    }
    return Run(**(given | changes))


def test_a_run_is_recorded_with_its_lineage_and_registered(tracking, tmp_path):
    run_id = tracking.record(run(tmp_path))
    client = tracking._open()
    found = client.get_run(run_id)
    assert found.info.status == "FINISHED"
    assert found.data.metrics == {"roc_auc": 0.75}
    assert found.data.params["seed"] == "1"
    assert found.data.tags["mainspring.dataset"] == "d1"
    assert found.data.tags["mainspring.view.driver"] == "v1"
    (version,) = [v for v in client.search_model_versions("name = 'late_trip'") if v.run_id == run_id]
    assert version.source == tmp_path.as_uri()


def test_recording_again_writes_nothing_twice(tracking, tmp_path):
    first = tracking.record(run(tmp_path, "twice"))
    assert tracking.record(run(tmp_path, "twice")) == first
    versions = tracking._open().search_model_versions("name = 'late_trip'")
    assert [v.tags["mainspring.version"] for v in versions].count("twice") == 1


def test_an_alias_points_at_the_version_that_serves(tracking, tmp_path):
    run_id = tracking.record(run(tmp_path, "serving"))
    tracking.alias("late_trip", "serving", "champion")
    assert tracking._open().get_model_version_by_alias("late_trip", "champion").run_id == run_id


def test_training_is_imported_without_mlflow():
    code = "import sys, mainspring.training; print(any(m.split('.')[0] == 'mlflow' for m in sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "False"
