"""``mainspring catalog`` as a user runs it."""

import pytest

from mainspring.core import load_config
from mainspring.definitions import load_project
from mainspring.loop.desk import open_desk

AT_US = 1_704_067_200_000_000
SAID = (
    ('class Done(ms.Source, id="ride", time="done_at"', 'class Done(ms.Source, id="ride", time="done_at", owner="ops"'),
    (', owner="ops"', ', owner="ops", tags=["money"], consumers={"finance": ["minutes"], "audit": []}'),
    (
        "    city: str\n    minutes",
        '    city: Annotated[str, ms.pii("location"), ms.describe("Where it went.")]\n    minutes',
    ),
    ("import mainspring as ms", "from typing import Annotated\n\nimport mainspring as ms"),
    ('features=[City, "km"]', 'features=[City, "km", (col("km") * 2).alias("km2")]'),
)


def change(project, *changes):
    text = (project / "definitions.py").read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    (project / "definitions.py").write_text(text)


@pytest.fixture
def described(project):
    """A project whose sources say who answers for them; nothing is applied."""
    change(project, *SAID)
    return project


@pytest.fixture
def released(cli, described, monkeypatch):
    """The same with a champion that was trained by the definitions in force."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    assert cli("apply", at=described).code == 0
    config = load_config(described)
    defined = load_project(config.definitions)
    model = defined.models["is_late"]
    with open_desk(config, defined) as desk:
        sources = {"done": {"version": defined.sources["done"].version, "rows": 9, "last_offset": 9}}
        built = {"hash": "d1d1d1", "path": "datasets/d1d1d1", "rows": 9, "sources": sources}
        desk.ledger.decide("dataset", "dataset-1", AT_US, model="is_late", numbers=built)
        trained = {
            "version": "abc123def456",
            "path": "packages/abc",
            "dataset": "d1d1d1",
            "definition": model.version,
            "view_versions": {view.name: view.version for view in model.views},
        }
        desk.ledger.decide("version", "version-1", AT_US, model="is_late", numbers=trained)
        desk.ledger.decide("release", "release-1", AT_US, model="is_late", numbers={"version": "abc123def456"})
    return described


def search(cli, project, *argv):
    found = cli("catalog", "search", *argv, "--json", at=project).json["assets"]
    return {f"{one['kind']} {one['name']}" for one in found}


def show(cli, project, name, *argv):
    (one,) = cli("catalog", "show", name, *argv, "--json", at=project).json["assets"]
    return one


def far(steps):
    return [f"{one['kind']} {one['name']}" for one in steps]


def test_words_are_found_in_names_docs_tags_owners_and_expressions(cli, described):
    assert search(cli, described, "minutes") == {
        "column done.minutes",
        "feature city.minutes_6h",
        "label is_late.label",
    }
    assert search(cli, described, "WHERE", "went") == {"column done.city"}
    assert search(cli, described, "money") == {"source done"}
    assert "column done.ride" in search(cli, described, "ops")
    assert search(cli, described, "hour") == {"model is_late"}
    assert search(cli, described) >= {"source asked", "view city", "consumer finance", "feature is_late.km2"}


def test_a_search_is_narrowed_by_kind_tag_owner_and_what_tells_of_a_person(cli, described):
    assert search(cli, described, "--kind", "view") == {"view city"}
    assert search(cli, described, "--tag", "money") == {"source done"}
    for part in ("ops", "OP"):
        assert search(cli, described, "--owner", part, "--kind", "source") == {"source done"}
    personal = search(cli, described, "--pii")
    assert personal >= {"column done.city", "view city", "feature city.rides_6h", "model is_late"}
    assert not personal & {"source done", "column done.minutes", "label is_late.label", "feature is_late.km2"}


def test_what_is_not_found_says_what_was_meant(cli, described):
    nothing = cli("catalog", "search", "minuets", at=described)
    assert (nothing.code, nothing.out.strip()) == (0, "nothing matches; did you mean 'minutes'?")
    unknown = cli("catalog", "show", "done.minuets", "--json", at=described)
    assert (unknown.code, unknown.error["code"], unknown.error["hint"]) == (
        6,
        "MS-C056",
        "did you mean 'done.minutes'?",
    )
    kind = cli("catalog", "show", "done", "--kind", "sauce", "--json", at=described)
    assert (kind.code, kind.error["code"], kind.error["hint"]) == (2, "MS-C057", "did you mean 'source'?")


def test_a_column_goes_down_to_the_releases_that_read_it(cli, released):
    minutes = show(cli, released, "done.minutes")
    assert far(minutes["read_by"]) == ["feature city.minutes_6h", "label is_late.label", "consumer finance"]
    down = {f"{one['kind']} {one['name']}": one["distance"] for one in minutes["goes_to"]}
    assert down["model is_late"] == down["release is_late@abc123def456"] == 2
    assert far(minutes["reads"]) == ["source done"]
    shown = cli("catalog", "show", "done.minutes", at=released).out
    assert "    release is_late@abc123def456 (champion)" in shown


def test_a_release_goes_up_to_the_columns_that_it_is_made_of(cli, released):
    one = show(cli, released, "is_late@abc1")
    assert one["facts"]["state"] == "champion"
    up = far(one["comes_from"])
    assert {"dataset is_late/d1d1d1", "model is_late", "view city", "column asked.km", "column done.minutes"} <= set(up)
    assert one["made_of_pii"] == {"done.city": "location"}
    built = show(cli, released, "is_late/d1d1d1")
    assert (built["facts"]["rows"], far(built["reads"])) == (9, ["source done", "model is_late"])


def test_a_release_keeps_what_the_definitions_file_no_longer_has(cli, released):
    change(released, ('    minutes_6h = ms.mean("minutes", window="6h")\n', ""))
    gone = show(cli, released, "city.minutes_6h")
    assert (gone["is_defined"], far(gone["reads"])) == (False, ["column done.minutes", "view city"])
    assert far(gone["read_by"]) == ["release is_late@abc123def456"]
    assert "no longer in the definitions file" in cli("catalog", "show", "city.minutes_6h", at=released).out


def test_a_renamed_column_is_one_column(cli, released):
    change(
        released,
        ("    minutes: float", '    took: Annotated[float, ms.alias("minutes")]'),
        ('"minutes", window', '"took", window'),
        ('col("minutes")', 'col("took")'),
        ('["minutes"]', '["took"]'),
    )
    took = show(cli, released, "done.took")
    assert took["earlier_names"] == ["done.minutes"]
    assert "release is_late@abc123def456" in far(took["goes_to"])
    assert show(cli, released, "done.minutes") == took


def test_who_reads_from_outside_is_an_asset_too(cli, described):
    assert far(show(cli, described, "finance")["reads"]) == ["column done.minutes"]
    assert far(show(cli, described, "audit")["reads"]) == ["source done"]
    assert far(show(cli, described, "done", "--kind", "source")["read_by"]) == [
        "column done.city",
        "column done.done_at",
        "column done.minutes",
        "column done.ride",
        "consumer audit",
    ]


def test_text_of_users_is_escaped_and_state_is_told(cli, described):
    change(described, ("Where it went.", "Where\\x1b[2J it went."))
    assert "Where\\x1b[2J it went." in cli("catalog", "show", "done.city", at=described).out
    assert show(cli, described, "city", "--kind", "view")["facts"]["state"] == "not applied"


def warnings(cli, project):
    lines = cli("plan", "--json", at=project).json["lines"]
    return [one["text"] for one in lines if one["action"] == "warn" and one["kind"] == "source"]


def test_a_plan_names_the_releases_that_read_a_column_which_goes(cli, released):
    assert warnings(cli, released) == []
    change(
        released,
        ("    minutes: float\n", "    took: float = 0.0\n"),
        ('    minutes_6h = ms.mean("minutes", window="6h")\n', ""),
        ('col("minutes")', 'col("took")'),
        (', consumers={"finance": ["minutes"], "audit": []}', ""),
    )
    reads = "release is_late@abc123def456 (champion) reads minutes, gone in this contract"
    assert [text for text in warnings(cli, released) if text.startswith("release")] == [
        f"{reads}: later events have the default or null there"
    ]
    assert reads in " ".join(cli("plan", at=released).out.split())


def test_a_plan_names_the_releases_that_read_a_column_which_is_renamed(cli, released):
    change(
        released,
        ("    km: float", '    far: Annotated[float, ms.alias("km")]'),
        ('features=[City, "km", (col("km") * 2)', 'features=[City, "far", (col("far") * 2)'),
    )
    (text,) = warnings(cli, released)
    assert text.startswith("release is_late@abc123def456 (champion) reads km (now far): it goes on under the earlier")


def test_a_plan_says_nothing_of_a_column_that_no_release_reads(cli, released):
    change(released, ("    asked_at: datetime\n", "    asked_at: datetime\n    note: str | None\n"))
    assert cli("apply", at=released).code == 0
    change(released, ("    note: str | None\n", ""))
    assert warnings(cli, released) == []


def test_a_plan_names_the_checks_in_sql_that_name_a_column_which_goes(cli, released):
    query = 'ms.check.sql("long rides", Done, "SELECT count(*) FROM done WHERE minutes > 600")'
    (released / "definitions.py").write_text((released / "definitions.py").read_text() + f"\n\nlong = {query}\n")
    assert cli("apply", at=released).code == 0
    change(
        released,
        ("    minutes: float", '    took: Annotated[float, ms.alias("minutes")]'),
        ('"minutes", window', '"took", window'),
        ('col("minutes")', 'col("took")'),
    )
    found = [text for text in warnings(cli, released) if text.startswith("check")]
    assert len(found) == 1
    assert "names minutes, which SQL no longer knows" in found[0]


def sql(cli, project, query, *argv):
    return cli("sql", query, *argv, at=project)


def test_rows_leave_only_for_a_consumer_that_declares_their_columns(cli, released):
    query, out = "select sum(minutes) as total from done where minutes > 3", released / "total.csv"
    unnamed = sql(cli, released, query, "--json")
    assert (unnamed.code, unnamed.error["code"]) == (5, "MS-L112")
    assert (unnamed.error["hint"], unnamed.out) == ("--for one of finance, audit", "")
    wrong = sql(cli, released, query, "--out", out, "--for", "finanse", "--json")
    assert (wrong.code, wrong.error["hint"], out.exists()) == (5, "did you mean 'finance'?", False)
    more = sql(cli, released, "select minutes, ride from done", "--csv", "--for", "finance")
    assert (more.code, "finance declares other columns of done than ride" in " ".join(more.err.split())) == (5, True)
    unknown = sql(cli, released, query, "--json", "--for", "marketing")
    assert unknown.error["hint"] == "consumers={\"marketing\": ['minutes']} on done, then mainspring apply"
    assert sql(cli, released, query, "--out", out, "--for", "finance").code == 0
    assert sql(cli, released, "from done", "--csv", "--for", "audit").code == 0


def test_a_consumer_of_other_columns_is_told_how_to_declare_these_too(cli, released):
    more = sql(cli, released, "select minutes, ride from done", "--json", "--for", "finance")
    assert more.error["hint"] == "consumers={\"finance\": ['minutes', 'ride']} on done, then mainspring apply"


@pytest.mark.parametrize(("column", "means"), [("_id", "ride"), ("_time", "done_at")])
def test_a_column_that_repeats_another_is_held_as_that_one(cli, released, column, means):
    for query in (f"select minutes, {column} from done", f"select minutes from done where {column} is not null"):
        refused = sql(cli, released, query, "--json", "--for", "finance")
        assert (refused.code, refused.error["code"]) == (5, "MS-L112")
        assert refused.error["why"] == f"finance declares other columns of done than {means}"
        assert sql(cli, released, query, "--json", "--for", "audit").code == 0
    assert sql(cli, released, "select minutes, _offset from done", "--json", "--for", "finance").code == 0


def test_records_in_quarantine_leave_only_for_who_may_have_every_column(cli, released, lines):
    for column in ("record", "reason"):
        assert sql(cli, released, f"select {column} from quarantine", "--json", "--for", "finance").code == 0
    broken = [{"ride": "x", "city": "graz", "minutes": "many", "done_at": "2024-01-01T00:00:00Z"}]
    assert cli("ingest", lines("broken.jsonl", broken), "--source", "done", at=released).code == 4
    for column in ("record", "reason"):
        query = f"select {column} from quarantine where source = 'done'"
        refused = sql(cli, released, query, "--json", "--for", "finance")
        assert (refused.code, refused.error["code"]) == (5, "MS-L112")
        assert refused.error["why"] == "finance declares other columns of done than city, done_at, ride"
        assert sql(cli, released, query, "--json", "--for", "audit").code == 0
        looked = sql(cli, released, query)
        assert (looked.code, "an undeclared reader" in looked.err) == (0, True)
    assert sql(cli, released, "select sequence, status, code from quarantine", "--json", "--for", "finance").code == 0


def test_a_look_at_a_screen_is_told_that_it_is_undeclared_and_recorded_once_a_day(cli, released):
    for _ in range(2):
        looked = sql(cli, released, "select count(*) from done where city = 'graz'")
        assert looked.code == 0
        assert "an undeclared reader: done names who reads it, and nobody is named" in " ".join(looked.err.split())
    (read,) = [
        one for one in cli("status", "--json", "--last", "9", at=released).json["decisions"] if one["kind"] == "read"
    ]
    assert read["subject"] == "done"
    assert f"consumer {read['actor']}" in far(show(cli, released, "done.city")["read_by"])
    assert show(cli, released, read["actor"])["facts"]["declared"] == "no"


def test_who_was_named_is_seen_to_read(cli, released):
    assert sql(cli, released, "select max(minutes) from done", "--csv", "--for", "finance").code == 0
    facts = show(cli, released, "finance")["facts"]
    assert (facts["declared"], facts["as"]) == ("yes", "csv")


def test_a_source_that_names_nobody_is_free_to_read(cli, released):
    assert sql(cli, released, "select km from asked").code == 0
    assert sql(cli, released, "select 1", "--json").code == 0
    assert cli("status", "--json", at=released).json["decisions"][-1]["kind"] == "release"
    free = sql(cli, released, "select km from asked", "--json")
    assert (free.code, free.err) == (0, "")
    assert show(cli, released, "asked.km")["read_by"][-1]["kind"] == "consumer"
