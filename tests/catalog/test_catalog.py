"""The catalog as a projection of decision events."""

import json
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime

import pytest

from mainspring.catalog import BadWindow, Catalog
from mainspring.core.errors import ConfigError, FormatError, NotFoundError

DAY = 86_400_000_000


class Story:
    """Writes decision events one after the other, as the log would hold them."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.events = []

    def __call__(self, kind, /, *, at_us=None, model="late", subject=None, reason="because", **numbers):
        offset = len(self.events) + 1
        row = {
            "decision_id": f"d{offset}",
            "decided_at": offset * 1_000 if at_us is None else at_us,
            "kind": kind,
            "model": model,
            "subject": subject,
            "actor": "ann",
            "reason": reason,
            "numbers": json.dumps(numbers),
        }
        self.events.append((offset, row))
        self.catalog.project(self.events[-1:])
        return self.catalog.decisions()[-1].note


@pytest.fixture
def catalog(tmp_path):
    with Catalog.open(f"sqlite:///{tmp_path / 'catalog.db'}") as opened:
        yield opened


@pytest.fixture
def tell(catalog):
    story = Story(catalog)
    for version in ("v1", "v2", "v3"):
        story("version", version=version, path=f"packages/{version}", run_id=f"run-{version}", dataset="abc")
    return story


def state_of(catalog):
    """Everything that the catalog answers, for comparison."""
    return (
        catalog.routes(),
        catalog.rollouts(),
        catalog.versions(),
        catalog.datasets("late"),
        catalog.incidents(),
        catalog.decisions(),
        catalog.definitions(),
        catalog.generation(),
        catalog.projected_offset(),
    )


def test_the_first_release_of_a_model_is_live_at_once(catalog, tell):
    assert catalog.champion("late") is None
    assert catalog.routes() == ()
    assert tell("release", version="v1") == ""
    assert catalog.champion("late").version == "v1"
    (route,) = catalog.routes()
    assert (route.champion, route.champion_path, route.challenger, route.stage) == ("v1", "packages/v1", None, "live")
    (rollout,) = catalog.rollouts()
    assert (rollout.state, rollout.stage, rollout.weight) == ("promoted", "live", 1.0)


def test_a_second_release_starts_in_shadow_and_climbs_to_champion(catalog, tell):
    tell("release", version="v1")
    tell("release", version="v2", at_us=10 * DAY)
    (route,) = catalog.routes()
    assert (route.champion, route.challenger, route.challenger_path) == ("v1", "v2", "packages/v2")
    assert (route.stage, route.weight) == ("shadow", 0.0)
    salt = route.salt
    tell("stage", stage="ramp:0", weight=0.05, at_us=11 * DAY)
    (route,) = catalog.routes()
    assert (route.stage, route.weight, route.salt) == ("ramp:0", 0.05, salt)
    assert catalog.rollout("late").exposure_us(12 * DAY) == DAY
    tell("promote", at_us=12 * DAY)
    (route,) = catalog.routes()
    assert (route.champion, route.challenger, route.stage) == ("v2", None, "live")
    assert (route.last_good, route.last_good_path) == ("v1", "packages/v1")
    assert catalog.rollout("late") is None
    assert [v.state for v in catalog.versions("late")] == ["retired", "champion", "candidate"]


def test_a_rollback_drops_the_challenger_and_leaves_the_champion(catalog, tell):
    tell("release", version="v1")
    tell("release", version="v2", forced=True)
    tell("rollback", reason="harm shown", e_value=21.5)
    (route,) = catalog.routes()
    assert (route.champion, route.challenger) == ("v1", None)
    rollout = catalog.rollouts("late")[-1]
    assert (rollout.state, rollout.forced, rollout.reason) == ("rolled_back", True, "harm shown")
    assert rollout.evidence == {"e_value": 21.5}
    assert catalog.version("late", "v2").state == "rolled_back"


def test_a_champion_rolled_back_by_hand_gives_way_to_the_last_good_version(catalog, tell):
    tell("release", version="v1")
    tell("release", version="v2")
    tell("promote")
    assert tell("rollback") == ""
    assert catalog.champion("late").version == "v1"
    assert catalog.version("late", "v2").state == "rolled_back"
    assert "no earlier version" in tell("rollback")
    assert catalog.champion("late").version == "v1"


def test_a_champion_named_in_a_rollback_takes_the_running_rollout_with_it(catalog, tell):
    for version in ("v1", "v2"):
        tell("release", version=version)
    tell("promote")
    tell("release", version="v3")
    tell("rollback", version="v2")
    (route,) = catalog.routes()
    assert (route.champion, route.challenger) == ("v1", None)
    assert catalog.rollouts()[-1].state == "superseded"


def test_a_pause_is_no_exposure_and_serves_the_champion_alone(catalog, tell):
    tell("release", version="v1")
    tell("release", version="v2", at_us=10 * DAY)
    tell("stage", stage="ramp:0", weight=0.25, at_us=10 * DAY)
    tell("pause", at_us=11 * DAY)
    (route,) = catalog.routes()
    assert (route.stage, route.challenger, route.weight) == ("paused", None, 0.0)
    assert catalog.rollout("late").exposure_us(20 * DAY) == DAY
    tell("resume", at_us=13 * DAY)
    (route,) = catalog.routes()
    assert (route.stage, route.challenger, route.weight) == ("ramp:0", "v2", 0.25)
    assert catalog.rollout("late").exposure_us(14 * DAY) == 2 * DAY


def test_a_newer_release_supersedes_the_one_under_way(catalog, tell):
    for version in ("v1", "v2", "v3"):
        tell("release", version=version)
    assert catalog.rollout("late").challenger == "v3"
    assert [r.state for r in catalog.rollouts()] == ["promoted", "superseded", "running"]
    assert catalog.version("late", "v2").state == "superseded"


@pytest.mark.parametrize(
    ("kind", "numbers", "note"),
    [
        ("release", {"version": "v9"}, "no version v9"),
        ("release", {"version": "v1"}, "champion already"),
        ("release", {}, "lack version"),
        ("promote", {}, "no rollout"),
        ("stage", {"stage": "ramp:0", "weight": 0.5}, "no rollout"),
        ("pause", {}, "no rollout"),
        ("resume", {}, "no rollout"),
        ("incident_close", {}, "no open incident"),
        ("incident_widen", {"checks": ["a"], "blocking": True, "since_us": 5}, "no open incident"),
        ("incident_widen", {"checks": ["a"], "blocking": True}, "lack since_us"),
        ("dance", {}, "does not know"),
    ],
)
def test_a_decision_that_cannot_be_carried_out_is_kept_with_its_reason(catalog, tell, kind, numbers, note):
    tell("release", version="v1")
    before = catalog.routes()
    assert note in tell(kind, **numbers)
    assert catalog.routes() == before


def test_a_weight_above_one_is_not_carried_out(catalog, tell):
    tell("release", version="v1")
    tell("release", version="v2")
    assert "no share" in tell("stage", stage="ramp:0", weight=1.5)
    assert catalog.routes()[0].weight == 0.0


def test_replaying_the_log_writes_nothing_twice(catalog, tell):
    tell("dataset", hash="abc", path="datasets/abc", rows=10)
    tell("release", version="v1")
    tell("incident_open", subject="i1", kind="quarantine", source="arrived")
    before = state_of(catalog)
    assert catalog.project(tell.events) == 0
    assert catalog.project(reversed(tell.events)) == 0
    assert state_of(catalog) == before


def test_a_new_catalog_projected_from_the_log_equals_the_old_one(catalog, tell, tmp_path):
    tell("release", version="v1")
    tell("release", version="v2")
    tell("stage", stage="ramp:0", weight=0.05)
    tell("incident_open", subject="i1", kind="drift", model="late", column="wind")
    tell("incident_close", subject="i1", reason="over")
    tell("promote")
    with Catalog.open(f"sqlite:///{tmp_path / 'again.db'}") as again:
        assert again.project(tell.events) == len(tell.events)
        assert state_of(again)[:-2] == state_of(catalog)[:-2]


def test_an_error_in_the_middle_of_a_projection_takes_all_of_it_back(catalog, tell):
    before = state_of(catalog)
    end = len(tell.events)
    good = dict(tell.events[0][1], decision_id="x1", kind="release", numbers='{"version": "v1"}')
    bad = dict(tell.events[0][1], decision_id="x2", numbers="{not json")
    with pytest.raises(ValueError, match="Expecting property name"):
        catalog.project([(end + 1, good), (end + 2, bad)])
    assert state_of(catalog) == before


def test_the_generation_rises_only_when_a_route_may_have_changed(catalog, tell):
    start = catalog.generation()
    tell("drift", numbers_seen=3)
    assert catalog.generation() == start
    tell("release", version="v1")
    assert catalog.generation() == start + 1
    tell("promote")  # nothing to promote
    assert catalog.generation() == start + 1


def test_the_offset_moves_over_records_that_are_no_decisions(catalog):
    assert catalog.project([], upto=500) == 0
    assert catalog.projected_offset() == 500
    catalog.project([], upto=400)
    assert catalog.projected_offset() == 500


def test_a_decision_time_may_be_a_datetime(catalog):
    row = {
        "decision_id": "a",
        "decided_at": datetime(1970, 1, 2, tzinfo=UTC),
        "kind": "drift",
        "actor": "x",
        "numbers": "{}",
    }
    catalog.project([(1, row)])
    assert catalog.decisions()[0].at_us == DAY


def test_labels_are_held_while_an_incident_is_open_on_their_source(catalog, tell):
    tell("incident_open", subject="i1", kind="quarantine", source="arrived", at_us=5)
    assert catalog.holds("arrived") == [(5, None)]
    assert [i.incident_id for i in catalog.incidents(is_open=True)] == ["i1"]
    tell("incident_close", subject="i1", at_us=9, reason="replayed")
    assert catalog.holds("arrived") == [(5, 9)]
    assert catalog.holds("weather") == []
    assert catalog.incidents(is_open=True) == ()
    assert catalog.incidents()[0].closing == "replayed"


def test_an_incident_that_is_widened_holds_from_the_first_window_that_blocks_however_often_it_is_said(catalog, tell):
    about = {"kind": "check", "source": "arrived", "column": "delay"}
    tell("incident_open", subject="i1", opened_us=5, checks=["a"], blocking=False, **about)
    assert catalog.holds("arrived") == []
    for _ in range(2):
        tell("incident_widen", subject="i1", reason="a; b", checks=["b"], blocking=True, since_us=9, **about)
        (one,) = catalog.incidents()
        assert (one.opened_us, one.reason, one.numbers["checks"]) == (5, "a; b", ["a", "b"])
        assert catalog.holds("arrived") == [(9, None)]
    tell("incident_widen", subject="i1", reason="a; b; c", checks=["c"], blocking=False, since_us=3, **about)
    assert catalog.incidents()[0].opened_us == 3
    assert catalog.holds("arrived") == [(9, None)]
    tell("incident_widen", subject="i1", reason="a; b; c; d", checks=["d"], blocking=True, since_us=2, **about)
    assert catalog.holds("arrived") == [(2, None)]
    tell("incident_close", subject="i1", at_us=20, until_us=15)
    (bad,) = catalog.bad_windows(["arrived"])
    assert (bad.column, bad.from_us, bad.until_us) == ("delay", 2, 15)
    assert "no open incident" in tell("incident_widen", subject="i1", checks=["e"], blocking=True, since_us=21)


def test_a_mend_that_is_taken_back_leaves_the_window_bad_and_the_next_mend_ends_it_again(catalog, tell):
    window = {"source": "arrived", "until_us": 9}
    tell("incident_open", subject="i1", kind="check", source="arrived", blocking=True, at_us=5)
    tell("mend", subject="i1", mended_us=20, at_us=21, reason="seconds", **window)
    assert catalog.bad_windows(["arrived"]) == (BadWindow("arrived", None, 5, 9, 20),)
    tell("mend", subject="i1", mended_us=30, at_us=31, is_undoing=True, **window)
    assert catalog.bad_windows(["arrived"]) == (BadWindow("arrived", None, 5, 9, None, restored=True),)
    assert [(one.closed_us, one.closing) for one in catalog.incidents()] == [(21, "seconds")]
    tell("mend", subject="i1", mended_us=40, at_us=41, is_undoing=False, **window)
    assert catalog.bad_windows(["arrived"]) == (BadWindow("arrived", None, 5, 9, 40),)


def test_a_version_knows_its_gates_and_its_feature_views(catalog):
    numbers = {
        "version": "v1",
        "path": "p",
        "metrics": {"roc_auc": 0.7},
        "gates": [{"metric": "roc_auc", "passed": False}],
        "view_versions": {"sky": "abc"},
    }
    row = {"decision_id": "a", "decided_at": 1, "kind": "version", "model": "late", "actor": "x", "numbers": numbers}
    catalog.project([(1, row)])
    version = catalog.version("late", "v1")
    assert version.views == {"sky": "abc"}
    assert version.metrics == {"roc_auc": 0.7}
    assert not version.passed


def test_a_candidate_has_what_its_gates_said_last_and_a_version_that_serves_what_let_it(catalog):
    def judged(offset, kind, *, passed):
        numbers = {"version": "v1", "path": "p", "gates": [{"gate": "g", "passed": passed}]}
        row = {"decision_id": f"d{offset}", "decided_at": offset, "kind": kind, "model": "late", "actor": "x"}
        catalog.project([(offset, row | {"numbers": numbers})])
        return catalog.version("late", "v1")

    assert not judged(1, "version", passed=False).passed
    again = judged(2, "version", passed=True)
    assert (again.passed, again.at_us) == (True, 1)
    judged(3, "release", passed=True)
    assert judged(4, "version", passed=False).passed


def test_an_unknown_version_is_not_found(catalog):
    with pytest.raises(NotFoundError, match="MS-C020: model late has no version v7"):
        catalog.version("late", "v7")


def test_decisions_are_listed_by_kind_model_and_number(catalog, tell):
    tell("drift", model="other")
    tell("release", version="v1")
    assert [d.kind for d in catalog.decisions("drift", "release")] == ["drift", "release"]
    assert [d.kind for d in catalog.decisions(limit=2)] == ["drift", "release"]
    assert {d.model for d in catalog.decisions(model="late")} == {"late"}
    assert catalog.decision_counts() == {"drift": 1, "release": 1, "version": 3}


def test_an_unknown_schema_version_is_refused(tmp_path):
    path = tmp_path / "catalog.db"
    Catalog.open(f"sqlite:///{path}").close()
    raw = sqlite3.connect(path)
    raw.execute("update meta set value = '99' where key = 'schema_version'")
    raw.commit()
    raw.close()
    with pytest.raises(FormatError, match="MS-C041: the catalog has schema version 99"):
        Catalog.open(f"sqlite:///{path}")


def test_another_database_is_refused():
    with pytest.raises(ConfigError, match=r"MS-C005: .*does not have"):
        Catalog.open("postgresql://localhost/catalog")


_WRITER = """
import sys
from mainspring.catalog import BadWindow, Catalog
url, me, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
done = 0
with Catalog.open(url) as catalog:
    for i in range(n):
        offset = catalog.projected_offset() + 1
        row = {"decision_id": f"{me}-{i}", "decided_at": 1, "kind": "drift", "actor": "a", "numbers": "{}"}
        while catalog.project([(offset, row)]) == 0:
            offset = catalog.projected_offset() + 1
        done += 1
        catalog.routes()
print(done)
"""


def test_several_processes_write_at_once_and_none_finds_the_database_locked(tmp_path):
    url = f"sqlite:///{tmp_path / 'catalog.db'}"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, url, str(me), "60"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for me in range(4)
    ]
    answers = [writer.communicate(timeout=60) for writer in writers]
    assert [(out.strip(), err) for out, err in answers] == [("60", "")] * 4
    with Catalog.open(url) as catalog:
        assert catalog.decision_counts() == {"drift": 240}
        assert [d.offset for d in catalog.decisions()] == list(range(1, 241))
