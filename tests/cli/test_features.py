"""``mainspring features`` as a user runs it."""

import io
import re
import struct
import subprocess
import sys
import time

import pytest

from mainspring.cli.app import run
from mainspring.core import WallClock, load_config, to_iso
from mainspring.features import OnlineStore

AT = "2024-01-05T12:00:00Z"


@pytest.fixture
def loaded(cli, project, rides, lines, no_tracking):
    """A project with five days of history, applied; nothing is folded."""
    cli("apply", at=project)
    asked, done = rides(400)
    cli("ingest", lines("asked.jsonl", asked), "--source", "asked", at=project)
    cli("ingest", lines("done.jsonl", done), "--source", "done", at=project)
    return project


@pytest.fixture
def built(cli, loaded):
    """The same, with the view's state."""
    assert cli("features", "backfill", "city", at=loaded).code == 0
    return loaded


@pytest.fixture
def no_tracking(monkeypatch):
    """The tracking store's sixty tables take seconds."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)


def recent(n):
    """Rides of two cities, a minute apart, the newest a moment ago."""
    now_us = WallClock().now_us()
    return [
        {
            "ride": f"r{i}",
            "city": ("graz", "linz")[i % 2],
            "minutes": 7.25 + i,
            "done_at": to_iso(now_us - i * 60_000_000),
        }
        for i in range(n)
    ]


def change(project, old, new):
    text = (project / "definitions.py").read_text()
    assert old in text
    (project / "definitions.py").write_text(text.replace(old, new))


def test_views_are_listed_with_their_state_and_readers(cli, loaded):
    (one,) = cli("features", "list", "--json", at=loaded).json["views"]
    assert (one["view"], one["state"], one["features"], one["used_by"]) == ("city", "not built", 2, ["is_late"])
    cli("features", "backfill", "city", at=loaded)
    (one,) = cli("features", "list", "--json", at=loaded).json["views"]
    assert (one["state"], one["older_versions"]) == ("serves", [])
    assert "is_late" in cli("features", "list", at=loaded).out


def test_a_backfill_without_a_worker_builds_the_state_here(cli, loaded):
    done = cli("features", "backfill", "city", "--json", at=loaded).json
    assert (done["view"], done["events"], done["is_built"], done["eta_s"]) == ("city", 400, True, None)
    again = cli("features", "backfill", "city", at=loaded)
    assert "is built: 400 events in" in again.out
    kinds = [d["kind"] for d in cli("status", "--json", "--last", "4", at=loaded).json["decisions"]]
    assert kinds == ["backfill", "backfilled"] * 2


def test_a_version_that_was_built_ahead_of_its_apply_replays_nothing(cli, built, no_tracking):
    assert cli("apply", at=built).code == 0
    change(built, 'ms.mean("minutes", window="6h")', 'ms.mean("minutes", window="3h")')
    assert cli("plan", "--json", at=built).json["events"] == 400
    assert cli("features", "backfill", "city", at=built).code == 0
    assert cli("plan", "--json", at=built).json["events"] == 0
    assert "are replayed" not in cli("apply", at=built).out


def test_a_view_is_described_whole(cli, built):
    found = cli("features", "describe", "city", "--json", at=built).json
    minutes, rides = found["features"]
    assert (minutes["name"], minutes["function"], minutes["value"]) == ("minutes_6h", "mean", 'col("minutes")')
    assert (minutes["window"], minutes["kind"], minutes["error"]) == ("6h", "float", "exact")
    assert (rides["window"], rides["kind"], "value" in rides) == ("6h", "int", True)
    (source,) = found["sources"]
    assert (source["name"], source["id"], source["events"]) == ("done", "ride", 400)
    assert source["newest_known_at"].startswith("2024-01-06")
    assert source["age_s"] > 0
    assert found["used_by"]["models"] == {"is_late": ["city__minutes_6h", "city__rides_6h"]}
    assert (found["state"]["keys"], found["state"]["serves"]) == (2, True)
    assert found["state"]["bytes"] > found["state"]["keys"] * 100
    assert minutes["state_bytes"] < found["state"]["bytes"]
    told = minutes["statistics"]
    assert (told["values"], told["nulls"], told["min"], told["max"]) == (400, 0, 3.0, 48.0)
    assert told["p50"] == pytest.approx(25, rel=0.1)
    assert [v["defined"] for v in found["versions"]] == [True]
    shown = cli("features", "describe", "city", at=built).out
    assert 'mean(col("minutes"))' in shown
    assert "2 keys" in shown


def test_a_view_without_state_is_described_all_the_same(cli, loaded):
    result = cli("features", "describe", "city", at=loaded)
    assert (result.code, "no state yet" in result.out) == (0, True)
    assert cli("features", "describe", "city", "--json", at=loaded).json["state"] is None


def test_values_of_a_key_now_and_then(cli, built):
    then = cli("features", "show", "city", "graz", "--at", AT, "--json", at=built).json
    assert (then["from"], then["key"], then["at"]) == ("history", {"city": "graz"}, AT)
    assert then["values"]["rides_6h"] == {"value": 9, "status": "present"}
    assert then["values"]["minutes_6h"]["value"] == pytest.approx(212 / 9)
    now = cli("features", "show", "city", "graz", "--json", at=built).json
    assert (now["from"], now["values"]["minutes_6h"]["status"]) == ("online", "missing")
    assert now["values"]["rides_6h"]["value"] == 0
    unseen = cli("features", "show", "city", "nowhere", "--at", AT, at=built)
    assert "missing" in unseen.out


def test_what_is_derived_is_shown_too(cli, built):
    change(
        built, "    rides_6h = ms.count", '    per_ride = col("minutes_6h") / col("rides_6h")\n    rides_6h = ms.count'
    )
    found = cli("features", "show", "city", "graz", "--at", AT, "--json", at=built).json["values"]
    assert found["per_ride"]["value"] == pytest.approx(212 / 9 / 9)
    assert found["minutes_6h"]["value"] == pytest.approx(212 / 9)


def test_what_is_derived_and_cannot_be_computed_is_shown_as_missing(cli, built):
    strict = '    each = (1 / col("rides_6h")).cast(int)\n    twice = col("rides_6h") * 2\n    rides_6h = ms.count'
    change(built, "    rides_6h = ms.count", strict)
    found = cli("features", "show", "city", "nowhere", "--at", AT, "--json", at=built).json["values"]
    assert found["each"] == {"value": None, "status": "missing"}  # 1 / 0 is no whole number
    assert found["twice"]["value"] == 0


def test_online_values_are_those_of_a_replay_until_the_state_is_wrong(cli, built):
    same = cli("features", "diff", "city", "graz", "--json", at=built)
    assert (same.code, same.json["different"], same.json["unavailable"]) == (0, 0, 0)
    assert {one["equal"] for one in same.json["values"]} == {"exact"}
    late = cli("features", "diff", "city", "graz", "--at", AT, at=built)
    assert (late.code, "2 are unavailable online" in late.out) == (0, True)


def test_what_is_derived_from_what_cannot_be_read_cannot_be_read_either(cli, loaded):
    change(loaded, "    rides_6h = ms.count", '    some = col("rides_6h").fill_null(0)\n    rides_6h = ms.count')
    cli("features", "backfill", "city", at=loaded)
    then = cli("features", "diff", "city", "graz", "--at", AT, "--json", at=loaded).json
    assert {one["name"]: one["one_status"] for one in then["values"]}["some"] == "unavailable"
    assert (then["different"], then["unavailable"]) == (0, 3)


def test_two_versions_are_compared_for_a_key_or_a_sample(cli, built):
    change(built, 'ms.mean("minutes", window="6h")', 'ms.mean("minutes", window="3h")')
    change(built, "    rides_6h = ms.count", '    longest_6h = ms.max("minutes", window="6h")\n    rides_6h = ms.count')
    found = cli("features", "diff", "city", "--at", AT, "--json", at=built)
    assert (found.code, found.json["keys"]) == (0, 2)
    by_name = {one["name"]: one for one in found.json["features"]}
    assert (by_name["minutes_6h"]["changed"], by_name["rides_6h"]["changed"]) == (2, 0)
    assert by_name["minutes_6h"]["mean_change"] is not None
    assert by_name["longest_6h"]["where"] == "second"
    old, new = found.json["old"], found.json["new"]
    assert old != new
    side = cli("features", "diff", "city", "graz", "--old", old[:6], "--at", AT, "--json", at=built).json["values"]
    assert side["rides_6h"] == {"old": 9, "new": 9}
    assert side["longest_6h"]["old"] is None
    assert side["minutes_6h"]["old"] != side["minutes_6h"]["new"]


def test_a_new_version_is_built_beside_the_old_before_it_is_applied(cli, built):
    change(built, 'ms.mean("minutes", window="6h")', 'ms.mean("minutes", window="3h")')
    assert "(a new version beside the old one" in cli("plan", at=built).out
    done = cli("features", "backfill", "city", "--json", at=built).json
    assert done["events"] == 400
    (one,) = cli("features", "list", "--json", at=built).json["views"]
    assert (one["version"], one["state"], len(one["older_versions"])) == (done["version"], "serves", 1)


def test_plan_says_what_a_change_costs(cli, project, no_tracking, lines):
    cli("apply", at=project)
    cli("ingest", lines("done.jsonl", recent(400)), "--source", "done", at=project)
    cli("features", "backfill", "city", at=project)
    change(
        project, "    rides_6h = ms.count", '    most_12h = ms.max("minutes", window="12h")\n    rides_6h = ms.count'
    )
    (line,) = [one for one in cli("plan", "--json", at=project).json["lines"] if one["kind"] == "view"]
    assert (line["action"], line["events"], line["keys"], line["models"]) == ("change", 400, 2, ["is_late"])
    assert line["seconds"] > 0
    assert "read by is_late; replays 400 events in" in cli("plan", at=project).out
    cli("features", "backfill", "city", at=project)
    after = cli("features", "describe", "city", "--json", at=project).json
    assert after["state"]["bytes"] / 2 < line["bytes"] < after["state"]["bytes"] * 2


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["describe", "citi"], 6, "did you mean 'city'?"),
        (["show", "citi", "graz"], 6, "MS-C053"),
        (["show", "city", "graz"], 6, "MS-C054"),
        (["show", "city"], 2, "no key of city is named"),
        (["show", "city"], 2, "mainspring features show city CITY"),
        (["show", "city", "graz", "linz"], 2, "a key of it is city"),
        (["show", "city", "graz", "--at", "yesterday"], 3, "MS-C076"),
        (["diff", "city", "graz"], 6, "MS-C054"),
        (["diff", "city", "--old", "zz"], 6, "MS-C055"),
        (["backfill", "citi"], 6, "MS-C053"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(cli, loaded, argv, code, words):
    result = cli("features", *argv, at=loaded)
    assert result.code == code
    assert words in " ".join(result.err.split())
    assert result.out == ""


def test_a_state_that_is_wrong_is_seen_by_diff(cli, project, no_tracking, lines):
    rows = [row for row in recent(10) if row["city"] == "linz"]
    cli("apply", at=project)
    cli("ingest", lines("done.jsonl", rows), "--source", "done", at=project)
    cli("features", "backfill", "city", at=project)
    assert cli("features", "diff", "city", "linz", at=project).code == 0
    config = load_config(project)
    was, becomes = struct.pack("<d", 8.25), struct.pack("<d", 88.0)
    with OnlineStore.open(config.state_path, config.limits.state_map_bytes, writable=True) as store:
        (found,) = [(bytes(key), bytes(raw)) for key, raw in heads_of(store)]
        assert found[1].count(was) == 1
        with store.env.begin(write=True) as txn:
            txn.put(found[0], found[1].replace(was, becomes), db=store.heads)
    wrong = cli("features", "diff", "city", "linz", "--json", at=project)
    assert (wrong.code, wrong.json["different"]) == (1, 1)
    (differs,) = [one for one in wrong.json["values"] if one["equal"] == "differs"]
    assert differs["name"] == "minutes_6h"


def heads_of(store):
    with store.env.begin() as txn, txn.cursor(store.heads) as cursor:
        return [(bytes(key), bytes(raw)) for key, raw in cursor]


class Terminal(io.StringIO):
    """Somebody who watches."""

    def isatty(self):
        return True


@pytest.fixture
def watched(cli, monkeypatch):
    """Runs a command line before a terminal's eyes, and tells what was seen of it beside the answer."""

    def call(*argv, at):
        with monkeypatch.context() as patch:
            screen = Terminal()
            patch.setattr("sys.stderr", screen)
            patch.setenv("TERM", "xterm")
            assert run([*argv, "-C", str(at)]) in (0, 5)
        return screen.getvalue()

    return call


def test_a_replay_shows_how_far_it_has_come_and_how_long_it_takes(cli, watched, built):
    change(built, 'ms.mean("minutes", window="6h")', 'ms.mean("minutes", window="3h")')
    for argv in (["dataset", "build", "is_late"], ["features", "diff", "city"]):
        seen = watched(*argv, at=built)
        assert "events replayed" in seen
        assert re.search(r"(\d+)/\1\b.*0:00:00", seen)
        assert watched(*argv, "--json", at=built) == ""
        assert "events replayed" not in cli(*argv, at=built).err


def test_help_starts_without_loading_what_folds(project):
    code = (
        "import sys; from mainspring.cli.app import run; run(['features', '--help']); "
        "print([m for m in ('numba', 'polars', 'numpy', 'sqlalchemy') if m in sys.modules])"
    )
    started = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=project)
    assert done.stdout.splitlines()[-1] == "[]"
    assert time.perf_counter() - started < 5.0  # a fraction of a second on a machine that does nothing else


VECTORS = '''
from datetime import datetime
from typing import Annotated

import mainspring as ms


class Seen(ms.Source, time="at"):
    """A photo of a listing."""

    listing: str
    photo: Annotated[list[float], ms.dim(2)]
    at: datetime


@ms.feature_view(Seen, entity="listing")
class Listing:
    photo = ms.last("photo")
    seen = ms.count()
'''


def test_the_nearest_keys_by_a_vector_now_and_then(cli, project, no_tracking, lines):
    (project / "definitions.py").write_text(VECTORS)
    cli("apply", at=project)
    photos = {"a": [1.0, 0.0], "b": [2.0, 0.1], "c": [0.0, 1.0], "d": [-1.0, 0.0]}
    rows = [{"listing": k, "photo": v, "at": f"2024-01-0{i}T00:00:00Z"} for i, (k, v) in enumerate(photos.items(), 1)]
    cli("ingest", lines("seen.jsonl", rows), "--source", "seen", at=project)
    cli("features", "backfill", "listing", at=project)
    now = cli("features", "nearest", "listing.photo", "a", "--n", "2", "--json", at=project).json["nearest"]
    assert [one["key"] for one in now] == [["b"], ["c"]]
    assert now[1]["score"] == 0.0
    then = cli("features", "nearest", "listing.photo", "a", "--at", "2024-01-02T12:00:00Z", "--json", at=project).json
    assert [one["key"] for one in then["nearest"]] == [["b"]]
    far = cli("features", "nearest", "listing.photo", "a", "--metric", "euclidean", at=project)
    assert (far.code, far.out.index(" b ") < far.out.index(" c ") < far.out.index(" d ")) == (0, True)
    for argv, code in (("listing.seen a", "MS-F120"), ("listing.photo z", "MS-F121"), ("lasting.photo a", "MS-C053")):
        refused = cli("features", "nearest", *argv.split(), "--json", at=project)
        assert refused.error["code"] == code
    shown = cli("features", "show", "listing", "a", "--json", at=project).json["values"]
    assert (shown["photo_1"]["value"], shown["photo_2"]["value"]) == (1.0, 0.0)
    assert cli("features", "describe", "listing", at=project).code == 0
