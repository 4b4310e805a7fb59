"""``mainspring checks``: what is declared, what it says now, and nothing is written by looking."""

import pytest


@pytest.fixture
def checked(cli, project, rides, lines):
    """The project with checks of its rides, and rides of January 2024."""
    definitions = project / "definitions.py"
    text = definitions.read_text()
    definitions.write_text(text + "\nchecks = [*ms.check.usual(Asked), ms.check.references(Done, 'ride', Asked)]\n")
    asked, _ = rides(40)
    assert cli("ingest", lines("asked.jsonl", asked), "--source", "asked", at=project).code == 0
    return project


def test_checks_are_listed_with_what_they_said_last(cli, checked):
    found = cli("checks", "list", "--json", at=checked).json
    names = ["asked_volume", "asked_duplicates", "asked_km_distribution", "asked_km_frozen", "done_ride_references"]
    assert [one["name"] for one in found] == names
    assert [one["last"] for one in found] == [None] * 5
    assert "not looked at yet" in cli("checks", "list", at=checked).out


def test_a_look_says_what_it_found_and_writes_nothing(cli, checked):
    found = cli("checks", "run", "asked_volume", "--json", at=checked)
    assert (found.code, found.json[0]["check"], found.json[0]["state"]) == (0, "asked_volume", "unknown")
    assert cli("checks", "history", "--json", at=checked).json == []


def test_a_look_that_finds_something_ends_with_1(cli, checked):
    with (checked / "definitions.py").open("a") as file:
        file.write("old = ms.check.freshness(Asked, '1h')\n")
    found = cli("checks", "run", "asked_freshness", "--json", at=checked)
    assert (found.code, found.json[0]["state"]) == (1, "fail")
    assert "1h are allowed" in found.json[0]["reason"]


def test_the_plan_says_which_checks_are_new(cli, checked):
    assert "+ check done_ride_references: references, holds what depends on" in cli("plan", at=checked).out


def test_unknown_names_are_errors_with_a_hint(cli, checked):
    found = cli("checks", "run", "asked_volum", "--json", at=checked)
    assert (found.code, found.error["code"], found.error["hint"]) == (6, "MS-C111", "did you mean 'asked_volume'?")
    assert cli("checks", "accept", "nothing", "--reason", "x", "--json", at=checked).error["code"] == "MS-C110"
