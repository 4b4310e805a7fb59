"""View versions are built beside those that serve, kept for as long as a release reads them, and dropped then."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from standing import HOUR, T0, Standing

from mainspring.features import Reader
from mainspring.features.store import view_of
from mainspring.loop.builds import Build, Builds, begin
from mainspring.loop.consumers import asked_anew, consumers, needed_views


@pytest.fixture
def standing(config):
    made = Standing(config)
    made.apply(T0)
    made.version("v1", T0 + 1)
    made.decide("release", T0 + 2, {"version": "v1"}, subject="v1")
    yield made
    made.close()


def labels(standing):
    return set(standing.store.root().views)


def label(standing):
    return f"driver@{standing.project.views['driver'].version}"


def change(standing, old, new, at_us):
    path = standing.config.definitions
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    standing.apply(at_us)


def release(standing, version, at_us):
    """A version that goes all the way to serve."""
    standing.version(version, at_us)
    standing.decide("release", at_us + 1, {"version": version}, subject=version)
    standing.decide("promote", at_us + 2, {"version": version}, subject=version)
    assert standing.catalog.routes()[0].champion == version


def read(standing, view, driver, t_us):
    with Reader([view], standing.store).snapshot() as snapshot:
        return snapshot.read(view, [(driver,)], np.array([t_us]))[0][0].tolist()


def test_both_versions_are_folded_until_no_release_reads_the_old_one(standing):
    old = standing.project.views["driver"]
    standing.pay("ann", 3.0, T0 + HOUR)
    standing.fold()
    assert labels(standing) == {label(standing)}
    change(standing, 'tips_1d = ms.mean("tip", window="1d")', 'tips_1d = ms.sum("tip", window="2d")', T0 + 2 * HOUR)
    new = standing.project.views["driver"]
    standing.fold()
    assert labels(standing) == {f"driver@{old.version}", f"driver@{new.version}"}
    standing.pay("ann", 5.0, T0 + 3 * HOUR)
    standing.fold()
    assert read(standing, old, "ann", T0 + 4 * HOUR) == [4.0, 2.0]
    assert read(standing, new, "ann", T0 + 4 * HOUR) == [8.0, 2.0]  # the first was in the backfill, the second folded
    release(standing, "v2", T0 + 5 * HOUR)
    standing.fold()
    assert f"driver@{old.version}" in labels(standing)  # v1 is the last good one: a rollback needs it
    release(standing, "v3", T0 + 6 * HOUR)
    standing.fold()
    assert labels(standing) == {f"driver@{new.version}"}
    with standing.store.env.begin() as txn:
        heads = {view_of(key) for key, _ in txn.cursor(standing.store.heads)}
        days = {int.from_bytes(key[:4], "big") for key, _ in txn.cursor(standing.store.statistics)}
    assert heads == days == {standing.store.root().views[f"driver@{new.version}"].id}


def test_the_log_is_folded_between_two_steps_of_a_build(standing):
    for i in range(20):
        standing.pay("ann", float(i), T0 + HOUR + i)
    standing.fold()
    change(standing, 'window="1d")\n    rides', 'window="3d")\n    rides', T0 + 2 * HOUR)
    view = standing.project.views["driver"]
    told = []
    folder, builds = begin(
        standing.config, standing.project, standing.catalog, standing.store, standing.log, told.append
    )
    late = standing.pay("ann", 100.0, T0 + 3 * HOUR)
    while builds.step(0.0):
        folder.fold(standing.log.read(standing.store.folded_offset(), 1))
    while records := standing.log.read(standing.store.folded_offset(), 1_000):
        folder.fold(records)
    assert standing.store.folded_offset() == late
    assert read(standing, view, "ann", T0 + 4 * HOUR) == [(sum(range(20)) + 100) / 21, 21.0]
    (done,) = told
    assert (done.view, done.version, done.is_built) == ("driver", view.version, True)
    assert done.events == done.done >= 20


def test_a_store_that_was_lost_is_built_anew_from_the_lake(standing):
    for i in range(5):
        standing.pay("ann", float(i), T0 + HOUR + i)
    standing.history.catch_up()
    standing.history.flush()
    with standing._writable() as log:
        log.trim(log.last_offset())
    standing.fold()
    assert standing.store.folded_offset() == standing.log.last_offset()
    assert read(standing, standing.project.views["driver"], "ann", T0 + 2 * HOUR) == [2.0, 5.0]


def test_a_version_that_is_asked_for_is_built_before_its_apply_and_forgotten_with_the_next(standing):
    standing.pay("ann", 3.0, T0 + HOUR)
    standing.fold()
    applied = label(standing)
    path = standing.config.definitions
    before = path.read_text()
    path.write_text(before.replace('ms.mean("tip", window="1d")', 'ms.max("tip", window="1d")'))
    from mainspring.definitions import load_project

    ahead = load_project(path).views["driver"]
    numbers = {"view": "driver", "version": ahead.version, "definition": ahead.describe()}
    standing.decide("backfill", T0 + 2 * HOUR, numbers, model=None, subject=f"driver@{ahead.version}")
    assert asked_anew(standing.catalog).keys() == {f"driver@{ahead.version}"}
    standing.fold()
    assert labels(standing) == {applied, f"driver@{ahead.version}"}
    assert read(standing, ahead, "ann", T0 + 2 * HOUR) == [3.0, 1.0]
    path.write_text(before.replace('window="1d")\n    rides', 'window="9d")\n    rides'))
    standing.apply(T0 + 3 * HOUR)
    standing.fold()
    assert labels(standing) == {applied, label(standing)}


def test_a_version_that_is_asked_for_again_is_built_anew(standing):
    standing.pay("ann", 3.0, T0 + HOUR)
    standing.fold()
    view = standing.project.views["driver"]
    assert standing.corrupt(3.0, 4.0) == 1
    assert read(standing, view, "ann", T0 + 2 * HOUR) == [4.0, 1.0]
    numbers = {"view": "driver", "version": view.version, "definition": view.describe()}
    standing.decide("backfill", T0 + 2 * HOUR, numbers, model=None, subject=label(standing))
    standing.fold()
    assert read(standing, view, "ann", T0 + 2 * HOUR) == [3.0, 1.0]
    standing.decide("backfilled", T0 + 3 * HOUR, {"events": 1}, model=None, subject=label(standing))
    assert asked_anew(standing.catalog) == {}


def test_who_reads_a_view_is_known_from_definitions_and_releases(standing):
    found = consumers("driver", standing.project, standing.catalog)
    assert found.models == {"tipping": ("driver__tips_1d", "driver__rides_1d")}
    assert [(r.model, r.version, r.role) for r in found.releases] == [("tipping", "v1", "champion")]
    assert found.views == ()
    assert [v.name for v in needed_views(standing.project, standing.catalog)] == ["driver"]


def test_the_time_that_is_left_is_told_from_the_rate_so_far():
    assert Build("v", "1", events=1_000, done=250, seconds=2.0).eta_s == 6.0
    assert Build("v", "1", events=1_000).eta_s is None


def test_nothing_to_build_is_nothing_to_do(standing):
    folder, _ = begin(standing.config, standing.project, standing.catalog, standing.store, standing.log)

    def never():
        raise AssertionError("history was read for nothing")

    assert Builds(folder, [], standing.log, never).step() is False
