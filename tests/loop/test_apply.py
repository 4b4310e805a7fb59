"""Apply: what is in force, and that it is a decision like any other."""

import json
import time

import pytest

from mainspring.catalog import Catalog
from mainspring.catalog.in_force import in_force
from mainspring.core.errors import NotFoundError, RefusedError, UnavailableError
from mainspring.core.run import read_door
from mainspring.definitions import load_project
from mainspring.definitions.applied import load_applied
from mainspring.events.client import IntakeClient
from mainspring.events.log import Log
from mainspring.loop.apply import apply_project, plan_project
from mainspring.loop.assets import Key
from mainspring.loop.inventory import inventory
from mainspring.loop.supervisor import Supervisor

T0 = 1_700_000_000_000_000


@pytest.fixture(autouse=True)
def no_tracking(monkeypatch):
    """The tracking store's sixty tables take seconds, and have tests of their own."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)


def change(config, old, new):
    text = config.definitions.read_text()
    assert old in text
    config.definitions.write_text(text.replace(old, new))


def decisions(config):
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        return [record for record in log.read(0) if record.source == "_decision"]


def test_an_apply_is_a_decision_in_the_log_and_the_catalog_follows(config):
    found = apply_project(config, now_us=T0, actor="ann", reason="first")
    assert len(found.changes) == 4
    (record,) = decisions(config)
    assert record.time_us == T0
    described = load_project(config.definitions).describe()
    assert json.loads(record.values[-1]) == described
    with Catalog.open(config.catalog_url) as catalog:
        assert catalog.definitions() == described
        (made,) = catalog.decisions()
        assert (made.kind, made.actor, made.reason) == ("apply", "ann", "first")
        assert catalog.definition("models", "tipping", described["models"]["tipping"]["version"]).first_at_us == T0


def test_an_apply_that_changes_nothing_writes_nothing(config):
    apply_project(config, now_us=T0, actor="ann")
    assert str(apply_project(config, now_us=T0 + 1, actor="ann")) == "nothing changes"
    assert len(decisions(config)) == 1


@pytest.mark.parametrize(
    ("old", "new", "word"),
    [
        ('retrain=ms.every("1d")', 'retrain=ms.every("2d")', "monitor="),
        ('ms.guard("log_loss", margin=0.02)', 'ms.guard("log_loss", margin=0.03)', "rollout="),
        ("features=[Driver", 'gates=[ms.gate("roc_auc", at_least=0.6)], features=[Driver', "gates="),
    ],
)
def test_how_releases_are_judged_is_in_force_with_an_apply_and_asks_for_no_training(config, old, new, word):
    apply_project(config, now_us=T0, actor="ann")
    before = load_project(config.definitions)
    with Catalog.open(config.catalog_url) as catalog:
        assert in_force(before, catalog.definitions(), config) is before
        change(config, old, new)
        assert in_force(before, catalog.definitions(), config) is before  # it is not applied yet
        assert state(config, catalog) == "changed, not applied"
        found = apply_project(config, now_us=T0 + 1, actor="ann")
        (line,) = found.changes
        assert str(line) == f"~ model tipping: {word} changed: in force once applied, without a new training"
        after = load_project(config.definitions)
        assert after.models["tipping"].version == before.models["tipping"].version
        assert catalog.definitions() == after.describe()
        taken = in_force(before, catalog.definitions(), config)
        assert taken.describe() == after.describe() != before.describe()
        assert state(config, catalog) == "in force"
    assert len(decisions(config)) == 2
    assert str(apply_project(config, now_us=T0 + 2, actor="ann")) == "nothing changes"


def test_what_starts_anew_goes_on_with_what_was_applied(config):
    assert load_applied(config).describe() == load_project(config.definitions).describe()  # nothing was applied yet
    apply_project(config, now_us=T0, actor="ann")
    applied = load_project(config.definitions).describe()
    change(config, 'ms.guard("log_loss", margin=0.02)', 'ms.guard("log_loss", margin=0.03)')
    assert load_project(config.definitions).describe() != applied
    assert load_applied(config).describe() == applied
    config.definitions.write_text("this is not python")
    assert load_applied(config).describe() == applied
    config.definitions.unlink()
    found = load_applied(config)
    assert found.describe() == applied
    with Catalog.open(config.catalog_url) as catalog:
        assert in_force(found, catalog.definitions(), config) is found


def test_an_apply_that_is_not_kept_yet_is_read_from_the_file(config, monkeypatch):
    apply_project(config, now_us=T0, actor="ann")
    before = load_applied(config)
    change(config, 'ms.guard("log_loss", margin=0.02)', 'ms.guard("log_loss", margin=0.03)')
    monkeypatch.setattr("mainspring.loop.apply.keep", lambda *_: None)  # the process ended just before
    apply_project(config, now_us=T0 + 1, actor="ann")
    with Catalog.open(config.catalog_url) as catalog:
        assert in_force(before, catalog.definitions(), config).describe() == load_project(config.definitions).describe()
        assert load_applied(config).describe() == before.describe()


def test_an_apply_that_is_kept_just_after_it_was_looked_for_is_read_from_the_file(config, monkeypatch):
    apply_project(config, now_us=T0, actor="ann")
    before = load_applied(config)
    change(config, 'ms.guard("log_loss", margin=0.02)', 'ms.guard("log_loss", margin=0.03)')
    apply_project(config, now_us=T0 + 1, actor="ann")
    monkeypatch.setattr("mainspring.catalog.in_force.load_applied", lambda _: before)
    with Catalog.open(config.catalog_url) as catalog:
        assert in_force(before, catalog.definitions(), config).describe() == load_project(config.definitions).describe()


def test_what_is_no_part_of_a_version_is_in_force_with_an_apply_too(config):
    apply_project(config, now_us=T0, actor="ann")
    before = load_applied(config)
    change(config, 'ms.Source, id="ride_id"', 'ms.Source, keep="400d", id="ride_id"')
    with Catalog.open(config.catalog_url) as catalog:
        assert in_force(before, catalog.definitions(), config) is before
        apply_project(config, now_us=T0 + 1, actor="ann")
        taken = in_force(before, catalog.definitions(), config)
    kept = [(one.sources["ride"].version, one.sources["ride"].keep_us) for one in (before, taken)]
    assert kept == [(before.sources["ride"].version, None), (before.sources["ride"].version, 400 * 86_400_000_000)]


def test_kept_definitions_that_cannot_be_read_are_told_and_the_file_is_taken(config, caplog):
    apply_project(config, now_us=T0, actor="ann")
    (config.home / "definitions.py").write_text("cut o")
    assert load_applied(config).describe() == load_project(config.definitions).describe()
    assert "as they were applied" in caplog.text


def state(config, catalog):
    """Whether the model as its file defines it is in force."""
    return inventory(load_project(config.definitions), catalog)[Key("model", "tipping")].facts["state"]


def test_a_breaking_change_is_refused_and_nothing_is_written(config):
    apply_project(config, now_us=T0, actor="ann")
    before = plan_project(config, load_project(config.definitions))
    change(config, "    tip: float", "    tip: float\n    table: int")
    with pytest.raises(RefusedError, match=r"MS-C030: source paid: column table is new"):
        apply_project(config, now_us=T0 + 1, actor="ann")
    assert len(decisions(config)) == 1
    assert before.changes == ()


def test_a_plan_counts_the_events_that_a_new_view_replays(config):
    apply_project(config, now_us=T0, actor="ann")
    with Supervisor(config, ("intake",)), IntakeClient(str(read_door(config.run, "intake"))) as client:
        rows = [{"ride_id": f"r{i}", "driver": "ann", "tip": 1.0, "paid_at": "2023-01-01T00:00:00Z"} for i in range(7)]
        assert client.post_events("paid", rows)["accepted"] == 7
    change(config, 'ms.mean("tip", window="1d")', 'ms.mean("tip", window="2d")')
    assert plan_project(config, load_project(config.definitions)).events == 7


def accepted(client, source, rows, timeout_s=20.0):
    """How many rows a running intake takes, once it has read the new definitions."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return client.post_events(source, rows)["accepted"]
        except NotFoundError:
            assert time.monotonic() < deadline, "the intake never read the new definitions"


def test_a_running_intake_takes_events_of_a_new_source_without_a_restart(config):
    apply_project(config, now_us=T0, actor="ann")
    with Supervisor(config, ("intake",)), IntakeClient(str(read_door(config.run, "intake"))) as client:
        change(config, "class Paid(", 'class Seen(ms.Source, time="at"):\n    at: datetime\n\n\nclass Paid(')
        apply_project(config, now_us=T0 + 1, actor="ann")
        assert accepted(client, "seen", [{"at": "2023-01-01T00:00:00Z"}]) == 1
    assert len(decisions(config)) == 2


def test_a_log_in_use_by_another_writer_is_said(config):
    apply_project(config, now_us=T0, actor="ann")
    with Log.open(config.log_path, config.limits.log_map_bytes, writable=True) as writer:
        assert writer.last_offset() == 1
        with pytest.raises(UnavailableError, match=r"MS-C010"):
            Log.open(config.log_path, config.limits.log_map_bytes, writable=True)
