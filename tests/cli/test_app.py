"""The command line as a whole: quick to help, the same words everywhere, exit codes that mean something."""

import json
import os
import re
import shlex
import subprocess
import sys
from types import SimpleNamespace

import pytest

import mainspring.cli.app as app_module
from mainspring.cli.app import app
from mainspring.core import errors

HEAVY = {
    *("polars", "pandas", "numpy", "scipy", "pyarrow", "numba", "duckdb", "lmdb", "deltalake", "sqlalchemy", "alembic"),
    *("mlflow", "lightgbm", "sklearn", "onnx", "onnxruntime", "dbos", "uvloop", "cryptography"),
}
COMMANDS = [name for name in app if not name.startswith("-")]


def python(code, *argv):
    return subprocess.run([sys.executable, "-c", code, *argv], check=True, capture_output=True, text=True).stdout


def test_help_imports_nothing_heavy():
    code = (
        "import sys\nfrom mainspring.cli import app\ntry:\n    app.run(['--help'])\nexcept SystemExit:\n    pass\n"
        "print('modules:', *sys.modules)"
    )
    loaded = python(code).rpartition("modules:")[2].split()
    assert sorted(HEAVY & set(loaded)) == []
    assert [m for m in loaded if m.startswith("mainspring.cli.") and m.split(".")[2] in COMMANDS] == []
    assert len(loaded) < 650


def test_help_starts_in_under_half_a_second_of_processor_time():
    before = os.times()
    subprocess.run([sys.executable, "-m", "mainspring", "--help"], check=True, capture_output=True)
    after = os.times()
    spent = after.children_user - before.children_user + after.children_system - before.children_system
    assert spent < 0.5


def test_help_lists_every_command(cli):
    shown = cli("--help").out
    assert all(re.search(rf"│ {name} ", shown) for name in COMMANDS)
    assert set(COMMANDS) >= {
        *("init", "plan", "apply", "up", "intake", "serve", "worker", "ingest", "dataset", "train", "status"),
        *("promote", "rollback", "parity", "explain", "demo", "quarantine"),
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_json_and_a_project(cli, name):
    result = cli(name, "--help")
    assert result.code == 0
    assert f"Examples:\n  mainspring {name}" in result.out
    sub = {
        "catalog": "search",
        "checks": "list",
        "contract": "diff",
        "connect": "list",
        "dataset": "build",
        "features": "list",
        "lake": "check",
        "quarantine": "list",
        "keys": "list",
    }.get(name)
    options = cli(name, sub, "--help").out if sub else result.out
    assert "--json" in options
    assert "--project" in options
    assert "[required]" in options or "--json" in options


def test_every_command_is_documented(root):
    page = (root / "docs" / "reference" / "cli.md").read_text()
    assert [name for name in COMMANDS if f"### mainspring {name}\n" not in page] == []


def test_every_exit_code_is_documented(root):
    page = (root / "docs" / "reference" / "cli.md").read_text()
    documented = {int(code) for code in re.findall(r"^\| (\d+) \|", page, re.MULTILINE)}
    kinds = [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MainspringError)]
    assert {one.exit_code for one in kinds} | {0, app_module.INTERRUPTED} == documented


def test_the_version_is_said(cli):
    from mainspring import __version__

    assert cli("--version").out.strip() == __version__


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["trian"], 'Unknown command "trian". Did you mean "train"?'),
        (["status", "--lats", "3"], "Unknown option"),
        (["train"], "requires an argument"),
        (["quarantine", "show", "x"], 'unable to convert "x" into int'),
        (["serve", "--port", "70000"], "Must be <= 65535"),
        (["serve", "--port", "-1"], "Must be >= 0"),
        (["intake", "--port", "65536"], "Must be <= 65535"),
    ],
)
def test_a_command_line_that_is_not_understood_ends_with_2(cli, argv, words):
    result = cli(*argv)
    assert result.code == 2
    assert words in " ".join(result.err.split())
    assert "--help" in result.err
    assert result.out == ""


def test_an_error_in_json_is_an_object_on_standard_error(cli, tmp_path):
    result = cli("status", "--json", at=tmp_path)
    assert result.code == 3
    assert result.out == ""
    assert result.error["code"] == "MS-C002"
    assert result.error["where"] == str(tmp_path)
    assert "mainspring init" in result.error["hint"]


def test_the_project_may_stand_before_the_command(cli, project):
    assert cli("-C", project, "plan", "--json").json["changes"] == 4
    assert cli(f"--project={project}", "plan", "--json").json["changes"] == 4


@pytest.mark.parametrize(
    "kind", [one for one in vars(errors).values() if isinstance(one, type) and issubclass(one, errors.MainspringError)]
)
def test_each_kind_of_error_ends_with_its_own_code(monkeypatch, cli, kind):
    def fail(*_args, **_more):
        raise kind("MS-X001", "what", where="where", why="why", hint="hint")

    monkeypatch.setattr(app_module, "app", SimpleNamespace(parse_args=fail))
    result = cli("status")
    assert result.code == kind.exit_code
    assert all(word in result.err for word in ("MS-X001", "what", "where", "why", "hint"))


def test_ctrl_c_ends_with_130(monkeypatch, cli):
    def interrupt(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr(app_module, "app", SimpleNamespace(parse_args=interrupt))
    assert cli("status").code == 130


def test_a_reader_that_goes_away_is_no_error(project):
    line = f"{shlex.quote(sys.executable)} -m mainspring plan -C {shlex.quote(str(project))} | true"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {line}"], check=False, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_what_stands_in_a_definitions_error_cannot_drive_the_terminal(cli, project):
    (project / "definitions.py").write_text('raise ValueError("\\x1b]0;owned\\x07 [red]x[/red]")\n')
    result = cli("plan", at=project)
    assert result.code == 3
    assert "\x1b]0" not in result.err
    assert "\\x1b]0;owned\\x07 [red]x[/red]" in result.err
    assert "\x07" not in json.dumps(cli("plan", "--json", at=project).err)


def test_status_imports_no_rows_and_no_models(cli, project, monkeypatch):
    monkeypatch.setattr("mainspring.training.tracking.Tracking.create_schema", lambda _: None)
    cli("apply", at=project)
    code = "import sys\nfrom mainspring.cli import app\napp.run(['status', '-C', sys.argv[1]])\n"
    code += "print('modules:', *sys.modules)"
    loaded = python(code, str(project)).rpartition("modules:")[2].split()
    assert sorted(HEAVY & set(loaded)) == ["lmdb", "sqlalchemy"]
