"""Damaged stores as a person meets them: the error names the command, and the command mends."""

import hashlib
import shutil
import sqlite3
import subprocess
import sys
from dataclasses import replace

import pytest

from mainspring.catalog import database
from mainspring.core import load_config
from mainspring.core.errors import FormatError
from mainspring.core.run import Lease
from mainspring.definitions import load_project
from mainspring.definitions.values import Project
from mainspring.events.history import History
from mainspring.events.lake import Lake
from mainspring.events.log import Log


@pytest.fixture
def loaded(cli, project, rides, lines, monkeypatch):
    """A project with history in the lake and in the log, applied."""
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    assert cli("apply", at=project).code == 0
    asked, done = rides(200)
    assert cli("ingest", lines("asked.jsonl", asked), "--source", "asked", at=project).code == 0
    assert cli("ingest", lines("done.jsonl", done), "--source", "done", at=project).code == 0
    config = load_config(project)
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        history = History(load_project(config.definitions), log, Lake(config.lake_path))
        history.catch_up()
        history.flush()
    return project


def count(cli, project):
    found = cli("sql", "select count(*) as n, sum(minutes) as m from done", "--json", at=project)
    return found.json["rows"] if found.code == 0 else found.error


def catalog_file(project):
    return load_config(project).home / "catalog.db"


def test_a_damaged_table_is_found_and_mended_by_the_commands_that_the_error_names(cli, loaded):
    before = count(cli, loaded)
    assert cli("lake", "check", at=loaded).code == 0
    (file,) = (load_config(loaded).lake_path / "done").glob("*.parquet")
    file.write_bytes(file.read_bytes()[:-100])
    error = count(cli, loaded)
    assert error["code"] == "MS-E903"
    assert "mainspring lake check" in error["hint"]
    checked = cli("lake", "check", "--json", at=loaded)
    assert (checked.code, [one["path"] for one in checked.json["tables"]["done"]]) == (8, [file.name])
    assert "mainspring lake rebuild done" in cli("lake", "check", at=loaded).out
    done = cli("lake", "rebuild", "done", "--json", at=loaded)
    assert (done.code, done.json["lost"]) == (0, 0)
    assert count(cli, loaded) == before
    again = cli("lake", "rebuild", "asked", "--json", at=loaded)
    assert (again.code, again.error["code"]) == (5, "MS-E314")


def test_a_training_set_is_not_built_of_bytes_that_have_changed(cli, loaded):
    (file,) = (load_config(loaded).lake_path / "done").glob("*.parquet")
    sums = file.parent / "_sums"
    text = sums.read_text().replace(sums.read_text().splitlines()[1][:32], "0" * 32).partition("\n")[2]
    # A checksum of other bytes than the file has, as it has when a bit of it has flipped.
    sums.write_text(f"{hashlib.blake2b(text.encode(), digest_size=16).hexdigest()}\n{text}")
    for argv in (["dataset", "build", "is_late"], ["sql", "select max(minutes) from done"]):
        told = cli(*argv, "--json", at=loaded)
        assert (told.code, told.error["code"]) == (8, "MS-E903"), argv
        assert "mainspring lake rebuild" in told.error["hint"]


def test_a_table_whose_own_log_was_removed_is_told_of_and_mended(cli, loaded):
    before = count(cli, loaded)
    table = load_config(loaded).lake_path / "done"
    shutil.rmtree(table / "_delta_log")
    error = count(cli, loaded)
    assert (error["code"], error["where"]) == ("MS-E903", str(table))
    assert "mainspring lake rebuild" in error["hint"]
    shown = cli("lake", "check", at=loaded)
    assert shown.code == 8
    assert "None" not in shown.out
    assert "mainspring lake rebuild done" in shown.out
    done = cli("lake", "rebuild", "done", "--json", at=loaded)
    assert (done.code, done.json["lost"]) == (0, None)
    assert count(cli, loaded) == before


def test_mending_compiles_nothing(cli, loaded):
    (file,) = (load_config(loaded).lake_path / "done").glob("*.parquet")
    file.write_bytes(b"")
    for argv in (["lake", "rebuild", "done"], ["catalog", "rebuild"]):
        code = f"import sys\nfrom mainspring.cli import app\napp.run([*{argv}, '-C', sys.argv[1]])\n"
        code += "assert 'numba' not in sys.modules"
        done = subprocess.run([sys.executable, "-c", code, str(loaded)], check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_nothing_is_mended_under_a_running_worker(cli, loaded):
    config = load_config(loaded)
    with Lease(config.run / "worker.lock"):
        for argv in (("lake", "rebuild", "done"), ("catalog", "rebuild")):
            refused = cli(*argv, "--json", at=loaded)
            assert (refused.code, refused.error["code"]) == (7, "MS-C010")


@pytest.mark.parametrize("damage", ["empty", "cut", "garbled", "emptied pages", "no database"])
def test_a_damaged_catalog_is_told_of_and_projected_anew_from_the_log(cli, loaded, damage):
    before = cli("status", "--json", "--last", "50", at=loaded).json
    file = catalog_file(loaded)
    whole = file.read_bytes()
    bytes_of = {
        "empty": b"",
        "cut": whole[: len(whole) // 2 + 100],
        "garbled": whole[:100] + b"\xa7" * (len(whole) - 100),
        "emptied pages": whole[:4096] + bytes(len(whole) - 4096),
        "no database": b"no database" * 100,
    }
    file.write_bytes(bytes_of[damage])
    told = cli("plan", "--json", at=loaded)
    assert (told.code, told.error["code"]) == (8, "MS-C043")
    assert "mainspring catalog rebuild" in told.error["hint"]
    assert told.error["where"] == str(file)
    done = cli("catalog", "rebuild", "--json", at=loaded)
    assert (done.code, done.json["decisions"]) == (0, 3)
    assert done.json["aside"].endswith(".damaged")
    assert list(file.parent.glob("catalog.db.new*")) == []
    after = cli("status", "--json", "--last", "50", at=loaded).json
    assert [one["kind"] for one in after["decisions"]] == ["apply", "ingest", "ingest"]
    assert all(one in after["decisions"] for one in before["decisions"])
    assert cli("plan", "--json", at=loaded).json["changes"] == 0


def test_a_catalog_without_a_file_is_made_by_the_same_command(cli, loaded):
    for file in catalog_file(loaded).parent.glob("catalog.db*"):
        file.unlink()
    assert cli("catalog", "rebuild", "--json", at=loaded).json == {"decisions": 3, "aside": None}
    assert cli("plan", "--json", at=loaded).json["changes"] == 0


@pytest.mark.parametrize("is_trimmed", [False, True])
def test_a_catalog_that_is_gone_is_no_new_project(cli, loaded, is_trimmed):
    for file in catalog_file(loaded).parent.glob("catalog.db*"):
        file.unlink()
    if is_trimmed:  # the lake has the decisions
        shutil.rmtree(load_config(loaded).log_path)
    for command in ("plan", "apply", "plan"):
        told = cli(command, "--json", at=loaded)
        assert (told.code, told.error["code"]) == (8, "MS-C044"), command
        assert "mainspring catalog rebuild" in told.error["hint"]


def test_a_project_that_was_loaded_before_it_was_applied_is_a_new_one(cli, project, rides, lines, monkeypatch):
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    asked, _ = rides(20)
    assert cli("ingest", lines("asked.jsonl", asked), "--source", "asked", at=project).code == 0
    assert cli("plan", at=project).code == 0
    assert cli("apply", at=project).code == 0


def test_events_that_a_definition_does_not_fit_are_told_of(loaded, tmp_path):
    config = load_config(loaded)
    project = load_project(config.definitions)
    done = project.sources["done"]
    fields = tuple(replace(f, kind="str") if f.name == "minutes" else f for f in done.fields)
    broken = Project({**project.sources, "done": replace(done, fields=fields)}, {}, {})
    with Log.open(config.log_path, config.limits.log_map_bytes) as log:
        history = History(broken, log, Lake(tmp_path / "no lake"))
        history.catch_up()
        with pytest.raises(FormatError, match="column minutes") as caught:
            history.tail("done")
    assert caught.value.code == "MS-E904"


def test_a_catalog_whose_maker_was_killed_is_made_by_the_next(cli, project, monkeypatch):
    monkeypatch.setattr(database, "METADATA", None)
    with pytest.raises(AttributeError):
        database.Database.open(f"sqlite:///{catalog_file(project)}")
    monkeypatch.undo()
    catalog_file(project).write_bytes(b"")
    assert cli("plan", at=project).code == 0


def test_a_catalog_that_another_process_holds_is_said_to_be_in_use(cli, loaded, monkeypatch):
    monkeypatch.setattr(database, "BUSY_TIMEOUT_MS", 50)
    holder = sqlite3.connect(catalog_file(loaded), isolation_level=None)
    holder.execute("BEGIN EXCLUSIVE")
    try:
        told = cli("plan", "--json", at=loaded)
    finally:
        holder.close()
    assert (told.code, told.error["code"]) == (7, "MS-C042")
    assert "locked" in told.error["error"]
    assert cli("plan", at=loaded).code == 0
