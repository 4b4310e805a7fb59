"""Each command on a small project, from the definitions to a release and back."""

import json

import pytest

from mainspring.catalog import Catalog
from mainspring.core import load_config
from mainspring.events.log import Log


@pytest.fixture
def no_tracking(monkeypatch):
    """The tracking store's sixty tables take seconds: one test makes them, the others do without."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)


def change(project, old, new):
    text = (project / "definitions.py").read_text()
    assert old in text
    (project / "definitions.py").write_text(text.replace(old, new))


def test_plan_shows_what_apply_then_does(cli, project, no_tracking):
    planned = cli("plan", "--json", at=project)
    assert (planned.code, planned.json["changes"], planned.json["refused"]) == (0, 4, False)
    shown = cli("plan", at=project).out
    assert "+ source asked: 4 columns" in shown
    assert "+ view city: 2 features by city" in shown
    applied = cli("apply", "--reason", "first", "--json", at=project)
    assert applied.json["lines"] == planned.json["lines"]
    assert applied.json["applied"] is True
    assert cli("plan", at=project).out == "nothing changes\n"
    assert cli("apply", "--json", at=project).json["applied"] is False
    latest = cli("status", "--json", at=project).json["decisions"][-1]
    assert (latest["kind"], latest["reason"]) == ("apply", "first")


def test_a_definitions_file_that_does_not_run_keeps_nobody_from_a_decision(cli, project, no_tracking):
    cli("apply", at=project)
    assert cli("status", "--json", at=project).json["definitions"]["changed"] is False
    (project / "definitions.py").write_text("this is not python")
    assert cli("status", "--json", at=project).json["definitions"]["changed"] is True
    assert "has changed since it was applied" in " ".join(cli("status", at=project).out.split())
    assert cli("plan", "--json", at=project).error["code"] == "MS-D161"
    paused = cli("pause", "is_late", "--json", at=project)
    assert paused.error["code"] == "MS-C060"  # there is no rollout to pause; of the model it knows
    assert cli("pause", "no_such", "--json", at=project).error["code"] == "MS-C051"
    assert cli("keys", "list", "--json", at=project).code == 0


def test_a_breaking_change_is_shown_by_plan_and_refused_by_apply(cli, project, no_tracking):
    cli("apply", at=project)
    change(project, "    minutes: float", "    minutes: float\n    tip: float")
    planned = cli("plan", at=project)
    assert planned.code == 5
    assert "! source done: column tip is new and has neither a default nor | None" in planned.out
    applied = cli("apply", "--json", at=project)
    assert (applied.code, applied.error["code"]) == (5, "MS-C030")


def test_a_definitions_error_is_said_with_its_line(cli, project):
    change(project, '"km"]', '"kms"]')
    result = cli("plan", "--json", at=project)
    assert (result.code, result.error["code"]) == (3, "MS-D102")
    assert result.error["where"].startswith(str(project / "definitions.py") + ":")
    assert result.error["hint"] == "did you mean 'km'?"


def test_rows_that_break_their_contract_are_mended_and_replayed(cli, project, no_tracking, rides, lines):
    cli("apply", at=project)
    rows = rides(4)[1]
    rows[1]["note"] = "\x1b[2Jhi"
    file = lines("done.jsonl", rows)
    loaded = cli("ingest", file, "--source", "done", "--json", at=project)
    assert loaded.code == 4
    (done,) = loaded.json["sources"]
    assert (done["rows"], done["accepted"], done["quarantined"]) == (4, 3, 1)
    assert done["errors"][0]["line"] == 2
    listed = cli("quarantine", "list", "--json", at=project).json
    assert listed["waiting"] == 1
    number = str(listed["records"][0]["number"])
    shown = cli("quarantine", "show", number, at=project)
    assert "\x1b" not in shown.out
    assert "u001b[2Jhi" in shown.out
    still = cli("quarantine", "replay", "done", "--json", at=project)
    assert (still.code, still.json["quarantined"]) == (4, 1)
    mended = cli("quarantine", "replay", "done", "--drop", "note", "--only", number, "--json", at=project)
    assert (mended.code, mended.json["accepted"]) == (0, 1)
    assert cli("quarantine", "list", "--json", at=project).json["waiting"] == 0
    again = cli("ingest", file, "--source", "done", "--json", at=project).json["sources"][0]
    assert (again["accepted"], again["duplicate"]) == (0, 3)
    assert cli("status", "--json", at=project).json["events"]["done"]["mended"] == 1


def test_rows_that_will_not_be_mended_are_discarded_by_number_or_all(cli, project, no_tracking, rides, lines):
    cli("apply", at=project)
    rows = [row | {"note": "hi"} for row in rides(4)[1]]
    cli("ingest", lines("done.jsonl", rows), "--source", "done", at=project)
    numbers = [str(r["number"]) for r in cli("quarantine", "list", "--json", at=project).json["records"]]
    for word in ("replay", "discard"):
        more = ("--reason", "r") if word == "discard" else ()
        refused = cli("quarantine", word, "done", "--only", numbers[0], "--only", "99", *more, "--json", at=project)
        assert (refused.code, refused.error["code"]) == (6, "MS-E135")
        assert refused.error["error"].endswith(" 99")
    one = cli("quarantine", "discard", "done", "--only", numbers[0], "--reason", "sent twice", "--json", at=project)
    assert (one.code, one.json["discarded"]) == (0, 1)
    shown = cli("quarantine", "show", numbers[0], "--json", at=project).json
    assert (shown["status"], shown["note"]) == ("discarded", "sent twice")
    assert cli("quarantine", "discard", "done", "--all", "--reason", "r", at=project).out == "3 discarded\n"
    assert cli("quarantine", "list", "--json", at=project).json["waiting"] == 0


def test_one_file_is_loaded_into_two_sources(cli, project, no_tracking):
    cli("apply", at=project)
    file = project / "both.csv"
    file.write_text("Ride,City,KM,Minutes,Colour\nr1,graz,3.5,12,red\nr2,linz,4,13,blue\n")
    picked = ["--pick", "--row-every", "1h"]
    refused = cli("ingest", file, "--source", "asked", "--json", at=project)
    assert (refused.code, refused.error["code"]) == (4, "MS-E402")
    one = cli("ingest", file, "--source", "asked", *picked, "--row-time", "asked_at", "--json", at=project)
    two = cli("ingest", file, "--source", "done", *picked, "--row-time", "done_at", "--json", at=project)
    assert [one.json["sources"][0]["accepted"], two.json["sources"][0]["accepted"]] == [2, 2]


@pytest.mark.parametrize(
    ("argv", "code", "words"),
    [
        (["ingest", "gone.csv", "--source", "done"], 6, "MS-E400"),
        (["ingest", "gone.csv", "--source", "dane"], 6, "did you mean 'done'?"),
        (["ingest", "gone.csv", "--source", "_decision"], 6, "MS-C052"),
        (["ingest", "gone.csv", "--source", "done", "--row-id", "ride"], 3, "--pick"),
        (["train", "islate"], 6, "did you mean 'is_late'?"),
        (["train", "is_late", "--dataset", "abc"], 6, "MS-C064"),
        (["dataset", "build", "nothing"], 6, "MS-C051"),
        (["release", "is_late"], 6, "MS-C062"),
        (["promote", "is_late"], 5, "no rollout of is_late is under way"),
        (["rollback", "is_late"], 5, "no earlier version"),
        (["pause", "is_late"], 5, "no rollout of is_late is running"),
        (["resume", "is_late"], 5, "no rollout of is_late is paused"),
        (["parity", "is_late", "--sample", "2"], 3, "MS-C067"),
        (["parity", "is_late", "--sample", "0%"], 3, "MS-C067"),
        (["explain", "x-1"], 6, "MS-L150"),
        (["quarantine", "show", "7"], 6, "quarantine has no record 7"),
        (["quarantine", "replay", "gone"], 6, "MS-C052"),
        (["quarantine", "replay", "done", "--rename", "old"], 3, "no NAME=VALUE"),
        (["quarantine", "discard", "gone", "--all", "--reason", "r"], 6, "MS-C052"),
        (["quarantine", "discard", "done", "--reason", "r"], 3, "--only NUMBER, or --all"),
        (["quarantine", "discard", "done", "--all"], 2, "--reason"),
        (["quarantine", "replay", "done", "--scale", "minutes=much"], 3, "which is no number"),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(cli, project, no_tracking, argv, code, words):
    result = cli(*argv, at=project)
    assert result.code == code
    assert words in " ".join(result.err.split())
    assert result.out == ""


def test_parity_of_a_model_without_a_view_says_that_there_is_nothing_to_compare(cli, project, no_tracking):
    change(project, "features=[City, ", "features=[")
    cli("apply", at=project)
    result = cli("parity", "is_late", at=project)
    assert (result.code, result.out) == (0, "is_late has no feature of a view to compare\n")


def test_a_decision_that_would_change_nothing_is_not_written(cli, project, no_tracking):
    cli("apply", at=project)
    for command in ("promote", "rollback", "pause", "resume"):
        assert cli(command, "is_late", at=project).code == 5
    config = load_config(project)
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert log.last_offset() == 1


@pytest.mark.slow
def test_from_a_file_to_a_release_and_back(cli, project, rides, lines):
    """One story: apply, load, build, train, release, a second version, promote, pause, rollback."""
    assert cli("apply", at=project).code == 0
    asked, done = rides()
    cli("ingest", lines("asked.jsonl", asked), "--source", "asked", at=project)
    cli("ingest", lines("done.jsonl", done), "--source", "done", at=project)

    built = cli("dataset", "build", "is_late", "--json", at=project).json
    assert built["counts"]["rows"] == 600
    assert "600 of 600 requests" in cli("dataset", "build", "is_late", at=project).out

    trained = cli("train", "is_late", "--release", "--json", at=project)
    assert trained.code == 0
    first = trained.json
    assert (first["passed"], first["released"], first["serves"]) == (True, True, True)
    assert (first["dataset"], first["metrics"]["roc_auc"] > 0.9) == (built["hash"], True)
    assert first["run_id"]

    # the same content is the same version: nothing new is written
    config = load_config(project)
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        assert log.counts()["_decision"].quarantined == 0

    change(project, "at_least=0.6)],", "at_least=1.1)],\n    seed=2,")
    cli("apply", at=project)
    second = cli("train", "is_late", "--release", "--dataset", built["hash"], "--json", at=project)
    assert (second.code, second.json["released"], second.json["passed"]) == (5, False, False)
    other = second.json["version"]
    refused = cli("release", "is_late", "--version", other, at=project)
    assert (refused.code, "--force" in refused.err) == (5, True)
    for bar, passes in (("0.5", True), ("1.1", False)):  # other gates judge the same version
        change(project, "at_least=1.1" if passes else "at_least=0.5", f"at_least={bar}")
        assert "gates= changed" in cli("apply", at=project).out
        again = cli("train", "is_late", "--dataset", built["hash"], "--json", at=project).json
        assert (again["version"], again["passed"]) == (other, passes)
        with Catalog.open(config.catalog_url) as catalog:
            assert catalog.version("is_late", other).passed is passes
    shadow = cli("release", "is_late", "--version", other, "--force", "--reason", "trust me", "--json", at=project).json
    assert (shadow["version"], shadow["stage"]) == (other, "shadow")
    assert cli("release", "is_late", "--version", other, at=project).code == 5
    status = cli("status", "--json", at=project).json["models"]["is_late"]
    assert (status["champion"], status["challenger"], status["stage"]) == (first["version"], other, "shadow")

    assert cli("pause", "is_late", "--json", at=project).json["stage"] == "paused"
    assert cli("resume", "is_late", "--json", at=project).json["stage"] == "shadow"
    promoted = cli("promote", "is_late", "--reason", "enough", "--json", at=project).json
    assert (promoted["champion"], promoted["last_good"]) == (other, first["version"])
    back = cli("rollback", "is_late", "--json", at=project).json
    assert (back["champion"], back["challenger"]) == (first["version"], None)
    assert "is_late" in cli("status", at=project).out

    with Catalog.open(config.catalog_url) as catalog:
        kinds = [d.kind for d in catalog.decisions() if d.kind not in ("apply", "ingest")]
        assert kinds == [
            "dataset",
            "version",
            "release",
            *["version"] * 3,
            "release",
            "pause",
            "resume",
            "promote",
            "rollback",
        ]
        assert {d.note for d in catalog.decisions()} == {""}
        assert [r.forced for r in catalog.rollouts()] == [False, True]
        assert catalog.version("is_late", first["version"]).views.keys() == {"city"}
        assert json.loads(json.dumps(catalog.decisions("release")[1].numbers))["forced"] is True
