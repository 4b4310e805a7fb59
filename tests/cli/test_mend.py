"""``mainspring checks mend``: accepted events are corrected, by whom and why is kept, and nothing is lost."""

import getpass

import pytest

from mainspring.core import load_config
from mainspring.core.times import parse_time
from mainspring.definitions import load_project
from mainspring.loop.desk import open_desk

SPAN = ("--since", "2024-01-01T06:00:00Z", "--until", "2024-01-01T12:00:00Z")
HALVES = ("--with-expr", "minutes=minutes / 2", "--reason", "sent twice as long")


@pytest.fixture
def corrected(cli, project, rides, lines, monkeypatch):
    """A project whose finished rides can be corrected, with two days of them."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    definitions = project / "definitions.py"
    text = definitions.read_text().replace('time="done_at"', 'time="done_at", corrects="op"')
    op = '    op: Annotated[str, ms.one_of("insert", "update", "delete")] = "insert"\n'
    text = text.replace("    done_at: datetime\n", f"    done_at: datetime\n{op}")
    definitions.write_text("from typing import Annotated\n" + text)
    assert cli("apply", at=project).code == 0
    _, done = rides(144)
    assert cli("ingest", lines("done.jsonl", done), "--source", "done", at=project).code == 0
    return project


def total(cli, project):
    return cli("sql", "select count(*) as n, sum(minutes) as m from done", "--json", at=project).json["rows"][0]


def test_a_dry_run_shows_what_would_be_sent_and_sends_nothing(cli, corrected):
    before = total(cli, corrected)
    shown = cli("checks", "mend", "done", *SPAN, *HALVES, "--dry-run", "--json", at=corrected)
    assert (shown.code, shown.json["sent"], len(shown.json["examples"])) == (0, 0, 10)
    assert shown.json["would_send"] > 10
    was, becomes = shown.json["examples"][0]["columns"]["minutes"]
    assert becomes == was / 2
    text = cli("checks", "mend", "done", *SPAN, *HALVES, "--dry-run", at=corrected).out
    assert f"{shown.json['would_send']} corrections of done would be sent" in text
    assert total(cli, corrected) == before
    assert "mend" not in {one["kind"] for one in cli("status", "--json", at=corrected).json["decisions"]}


def test_a_mend_is_recorded_and_every_version_is_kept(cli, corrected):
    before = total(cli, corrected)
    done = cli("checks", "mend", "done", *SPAN, *HALVES, "--json", at=corrected)
    assert done.code == 0, done.err
    sent = done.json["sent"]
    after = total(cli, corrected)
    assert after["n"] == before["n"]
    assert after["m"] < before["m"]
    query = "select count(*) as n, count(distinct _id) as ids from done__versions"
    assert cli("sql", query, "--json", at=corrected).json["rows"] == [{"n": before["n"] + sent, "ids": before["n"]}]
    (decision,) = [one for one in cli("status", "--json", at=corrected).json["decisions"] if one["kind"] == "mend"]
    assert (decision["actor"], decision["reason"]) == (getpass.getuser(), "sent twice as long")
    again = cli("checks", "mend", "done", *SPAN, *HALVES, "--json", at=corrected).json
    assert (again["sent"], again["done_before"]) == (0, sent)
    other = cli("checks", "mend", "done", *SPAN, "--withdraw", "--reason", "not ours", "--json", at=corrected).json
    assert other["sent"] == sent + done.json["unchanged"]
    assert total(cli, corrected)["n"] == before["n"] - other["sent"]


def test_a_mend_that_is_killed_before_it_is_recorded_is_ended_by_the_same_command(cli, corrected, monkeypatch):
    mend = ("checks", "mend", "done", *SPAN, *HALVES, "--json")

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("mainspring.loop.ledger.Ledger.decide", killed)
        assert cli(*mend, at=corrected).code != 0
    after = total(cli, corrected)
    done = cli(*mend, at=corrected)
    assert (done.code, done.json["sent"]) == (0, 0)
    assert done.json["done_before"] > 10
    assert total(cli, corrected) == after
    (decision,) = [one for one in cli("status", "--json", at=corrected).json["decisions"] if one["kind"] == "mend"]
    assert decision["reason"] == "sent twice as long"


def test_nulls_are_computed_from_other_columns_and_what_is_not_null_stays(cli, corrected, rides, lines):
    definitions = corrected / "definitions.py"
    text = definitions.read_text().replace(
        "    minutes: float\n", "    minutes: float | None\n    seconds: float = 0.0\n"
    )
    definitions.write_text(text)
    assert cli("apply", at=corrected).code == 0
    _, done = rides(200)
    burst = [
        row | {"seconds": row["minutes"] * 60, "minutes": None if i % 2 else row["minutes"]}
        for i, row in enumerate(done[144:])
    ]
    assert cli("ingest", lines("burst.jsonl", burst), "--source", "done", at=corrected).code == 0
    assert total(cli, corrected)["m"] < sum(row["minutes"] for row in done)
    span = ("--since", "2024-01-01", "--until", "2024-02-01", "--where", "seconds > 0")
    undo = (
        "checks",
        "mend",
        "done",
        *span,
        "--with-expr",
        "minutes=coalesce(minutes, seconds / 60)",
        "--reason",
        "lost",
    )
    found = cli(*undo, "--json", at=corrected)
    assert (found.code, found.json["sent"]) == (0, 28)
    assert total(cli, corrected) == {"n": 200, "m": sum(row["minutes"] for row in done)}


def by_city(cli, project):
    query = "select city, count(*) as n, sum(minutes) as m from done group by city"
    rows = cli("sql", query, "--json", at=project).json["rows"]
    return {row["city"]: (row["n"], row["m"]) for row in rows}


def test_a_second_mend_of_a_window_leaves_what_the_first_did_and_both_can_be_taken_back(cli, corrected):
    def mend(*argv):
        found = cli("checks", "mend", "done", *SPAN, *argv, "--reason", "x", "--json", at=corrected)
        assert found.code == 0, found.err
        kinds = ("changed", "withdrawn", "restored", "unchanged", "stay_withdrawn")
        return tuple(found.json[kind] for kind in kinds)

    def text(*argv):
        return cli("checks", "mend", "done", *SPAN, *argv, "--reason", "x", "--dry-run", at=corrected).out

    came = by_city(cli, corrected)
    changed, *_ = mend("--with-expr", "minutes=minutes / 2")
    halved = by_city(cli, corrected)
    linz, *others = mend("--set", "city=wien", "--where", "city == 'linz'")
    assert others == [0, 0, changed - linz, 0]
    now = by_city(cli, corrected)
    assert now["graz"] == halved["graz"]
    assert (now["wien"][0], now["linz"][0]) == (linz, came["linz"][0] - linz)
    assert now["wien"][1] + now["linz"][1] == halved["linz"][1]
    withdraw = ("--withdraw", "--where", "city == 'graz'")
    assert f"({changed - linz} withdrawn)" in text(*withdraw)
    assert mend(*withdraw) == (0, changed - linz, 0, linz, 0)
    assert mend("--with-expr", "minutes=minutes / 2") == (0, 0, 0, 0, changed - linz)
    assert by_city(cli, corrected) == now | {
        "graz": (came["graz"][0] - changed + linz, by_city(cli, corrected)["graz"][1])
    }
    shown = cli("checks", "mend", "done", *SPAN, "--restore", "--reason", "x", "--dry-run", "--json", at=corrected).json
    back = [one for one in shown["examples"] if not one["held"]]
    assert {(one["operation"], one["holds"], len(one["columns"])) for one in back} == {("restored", True, 0)}
    assert {tuple(one["columns"]) for one in shown["examples"] if one["held"]} == {("city", "minutes")}
    assert f"({changed} restored)" in text("--restore")
    assert mend("--restore") == (0, 0, changed, 0, 0)
    assert by_city(cli, corrected) == came
    assert mend("--restore") == (0, 0, 0, 0, 0)


def test_what_is_to_be_mended_is_said_or_asked_for(cli, corrected):
    for argv, code in (
        (("done", *HALVES), "MS-L171"),
        (("dnoe", *SPAN, *HALVES), "MS-L170"),
        (("asked", *SPAN, "--set", "km=1", "--reason", "x"), "MS-E141"),
        (("done", *SPAN, "--reason", "x"), "MS-E140"),
        (("done", *SPAN, *HALVES, "--restore"), "MS-E140"),
        (("done", *SPAN, *HALVES, "--where", "minutes"), "MS-E138"),
        (("done", "--since", SPAN[3], "--until", SPAN[1], *HALVES), "MS-L174"),
        (("done", "--since", SPAN[1], "--until", SPAN[1], *HALVES), "MS-L174"),
        (("done", "--since", "2999-01-01", "--until", "2999-01-02", *HALVES), "MS-L174"),
        (("done", "--since", "yesterday", "--until", "2024-01-02", *HALVES), "MS-C076"),
        (("done", *SPAN, "--set", "minutes", "--reason", "x"), "MS-C066"),
    ):
        told = cli("checks", "mend", *argv, "--json", at=corrected)
        assert (told.error["code"], told.code != 0) == (code, True), argv
    assert "done" in cli("checks", "mend", "dnoe", *SPAN, *HALVES, "--json", at=corrected).error["hint"]


def release(project, view_version, name):
    """Say that a version of the model was trained on a version of its view, and serves."""
    config = load_config(project)
    with open_desk(config, load_project(config.definitions)) as desk:
        numbers = {"version": name, "path": f"packages/{name}", "views": {"city": view_version}}
        at_us = parse_time("2024-02-01")
        desk.ledger.decide("version", f"version-{name}", at_us, model="is_late", numbers=numbers)
        desk.ledger.decide("release", f"release-{name}", at_us, model="is_late", numbers={"version": name})
        desk.ledger.decide("promote", f"promote-{name}", at_us, model="is_late", numbers={"version": name})


def test_a_release_that_would_count_corrections_twice_is_named_and_nothing_is_sent(cli, project, corrected, rides):
    config = load_config(corrected)
    now = load_project(config.definitions).views["city"].version
    text = config.definitions.read_text()
    config.definitions.write_text(text.replace(', corrects="op"', ""))
    plain = load_project(config.definitions).views["city"].version
    assert plain != now
    assert cli("apply", at=corrected).code == 0
    config.definitions.write_text(text)
    assert cli("apply", at=corrected).code == 0
    release(corrected, plain, "old")
    warned = cli("plan", "--json", at=corrected).json["lines"]
    text = "release is_late@old (champion) reads views from before corrects=: each correction is a further event to it"
    assert text in [line["text"] for line in warned]
    told = cli("checks", "mend", "done", *SPAN, *HALVES, "--json", at=corrected)
    assert (told.code, told.error["code"]) == (5, "MS-L172")
    assert "is_late old (champion)" in told.error["error"]
    release(corrected, now, "new")
    done = cli("checks", "mend", "done", *SPAN, *HALVES, "--json", at=corrected)
    assert (done.code, done.json["miscounted_by"]) == (0, ["is_late@old"])
