"""Each of the repository's own checks finds what it is there to find, and leaves the rest alone."""

import shutil
import subprocess
from pathlib import Path

import pytest
from check_repo import CHECKS, Repo, run

CLEAN = {
    "src/mainspring/__init__.py": "__all__: list[str] = []\n",
    "src/mainspring/cli/__init__.py": '__all__ = ["main"]\n\napp.command("x:y", name="plan")\n',
    "docs/reference/cli.md": "# Commands\n\n## mainspring plan\n\n[home](../index.md#top)\n",
    "docs/index.md": "# Home\n",
    "tests/test_a.py": "import time\n\nwhile not done():\n    time.sleep(0.01)\ntime.sleep(0)\n",
    "examples/flights/definitions.py": "x = 1\n",
    "pyproject.toml": (
        '[project]\ndependencies = ["polars>=2.1"]\noptional-dependencies = {dev = ["pytest>=9"], docs = []}\n'
    ),
    "requirements.lock": "polars==2.1.0 \\\n",
    "requirements-dev.lock": "polars==2.1.0 \\\npytest==9.2.0 \\\n",
}

PLANTED = {
    "a path of one machine": ("README.md", "see /" + "home/ann/data\n", "README.md:1: names a folder"),
    "a registry": ("README.md", "\nfrom https://" + "py" + "pi.org/simple\n", "README.md:2: names a package registry"),
    "a vague module": ("src/mainspring/core/" + "utils.py", "", "utils.py:1: a module's name says nothing"),
    "a vague package": ("src/mainspring/common/x.py", "", "common/x.py:1: a module's name says nothing"),
    "a long module": ("src/mainspring/core/long.py", "x = 1\n" * 401, "long.py:400: 401 lines"),
    "a sleep": ("tests/test_b.py", "import time\n\ntime.sleep(1)\n", "tests/test_b.py:3: time.sleep() in a test"),
    "a pickle": ("src/mainspring/core/p.py", "import pickle\n\npickle.loads(b)\n", "p.py:3: pickle.loads() runs"),
    "an eval": ("src/mainspring/core/e.py", "eval('1')\n", "e.py:1: eval() runs"),
    "no __all__": ("src/mainspring/core/__init__.py", "", "core/__init__.py:1: a package without __all__"),
    "a large example": ("examples/flights/definitions.py", "x = 1\n" * 80, "definitions.py:80: 80 lines or more"),
    "a hole in the lock": (
        "requirements-dev.lock",
        "polars==2.1.0 \\\n",
        "requirements-dev.lock:1: does not hold pytest",
    ),
    "an old lock": (
        "requirements.lock",
        "polars==2.0.9 \\\n",
        "requirements.lock:1: holds polars 2.0.9, older than 2.1",
    ),
    "a command without words": (
        "docs/reference/cli.md",
        "# Commands\n",
        "the command `mainspring plan` is not in docs",
    ),
    "a hint that leads nowhere": (
        "src/mainspring/core/h.py",
        'def f(view):\n    raise Error("what", hint=f"mainspring features {view}, or mainspring plan")\n',
        "h.py:2: a hint names `mainspring features`",
    ),
    "a dead link": ("docs/index.md", "[x](nowhere.md)\n", "docs/index.md:1: links to nowhere.md"),
}


@pytest.fixture
def clean(tmp_path) -> Path:
    for path, text in CLEAN.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    return tmp_path


def test_a_clean_repository_has_no_findings(clean):
    assert [str(finding) for finding in run(Repo.at(clean))] == []


@pytest.mark.parametrize(("path", "text", "found"), PLANTED.values(), ids=PLANTED.keys())
def test_a_planted_fault_is_found_where_it_is(clean, path, text, found):
    (clean / path).parent.mkdir(parents=True, exist_ok=True)
    (clean / path).write_text(text)
    findings = [str(finding) for finding in run(Repo.at(clean))]
    assert len(findings) == 1
    assert found in findings[0]
    assert "; " in findings[0]


def test_every_check_has_its_fault_planted(clean):
    without = set()
    for path, text, _ in PLANTED.values():
        (clean / path).parent.mkdir(parents=True, exist_ok=True)
        kept = (clean / path).read_text() if (clean / path).exists() else None
        (clean / path).write_text(text)
        without |= {function.__name__ for function in CHECKS if any(function(Repo.at(clean)))}
        (clean / path).unlink() if kept is None else (clean / path).write_text(kept)
    assert without == {function.__name__ for function in CHECKS}


def test_ignored_and_binary_files_are_not_read(clean):
    (clean / ".gitignore").write_text("private/\n")
    (clean / "private").mkdir()
    (clean / "private" / "notes.md").write_text("/" + "root/secret\n")
    (clean / "picture.png").write_bytes(b"\x89PNG\0/" + b"root/x")
    assert run(Repo.at(clean)) == []
    shutil.rmtree(clean / "private")
