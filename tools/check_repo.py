"""The repository's own checks: what no general linter knows. `make check` runs them all.

Each check is a function registered with `@check`. It yields findings, one a problem: where (file and line), what is
wrong and what to do about it. Only files that git knows, or would add, are read.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

MAX_LINES = 400
MAX_TEST_LINES = 600
# A module that is longer for a reason: path → the reason. Any other past the limit wants to be two modules.
LONG_MODULES: dict[str, str] = {
    "src/mainspring/features/kernels.py": "one read: its compiled parts call one another and are cached as one",
    "src/mainspring/definitions/values.py": "one vocabulary: everything that a definitions file becomes, as values",
    "tests/definitions/test_errors.py": "one table: a case for each thing that definitions may not say",
    "src/mainspring/features/tape.py": "one compiler of expressions: a short method an operation, in one table",
    "src/mainspring/features/tiers.py": "one state machine: every move of an event between the tiers of a key",
}


@dataclass(frozen=True)
class Finding:
    """One problem: ``path:line: what; mend``."""

    path: str
    line: int
    what: str
    mend: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.what}; {self.mend}"


@dataclass(frozen=True)
class File:
    """A text file of the repository."""

    root: Path
    path: str

    @cached_property
    def text(self) -> str:
        """The whole file."""
        return (self.root / self.path).read_text(encoding="utf-8")

    @cached_property
    def tree(self) -> ast.Module:
        """A Python file, parsed."""
        return ast.parse(self.text, filename=self.path)

    def lines_with(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Line number (from 1) and matched text of every match."""
        for number, line in enumerate(self.text.splitlines(), start=1):
            for match in pattern.finditer(line):
                yield number, match.group()


@dataclass(frozen=True)
class Repo:
    """The files under a root, as paths relative to it."""

    root: Path
    files: tuple[File, ...]

    @classmethod
    def at(cls, root: Path) -> Repo:
        """Read the list of files from git: committed ones, and new ones that are not ignored."""
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        paths = sorted(path for path in set(listed.split("\0")) if path and (root / path).is_file())
        return cls(root, tuple(File(root, path) for path in paths if not _is_binary(root / path)))

    def get(self, path: str) -> File | None:
        """The file at a path, if it is there."""
        return next((file for file in self.files if file.path == path), None)

    def under(self, *folders: str, suffix: str = "") -> Iterator[File]:
        """Files below any of the folders, with the suffix."""
        return (file for file in self.files if file.path.startswith(folders) and file.path.endswith(suffix))


def _is_binary(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"\0" in stream.read(8192)


Check = Callable[[Repo], Iterable[Finding]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Register a check."""
    CHECKS.append(function)
    return function


# Written in pieces, so that this file does not find itself.
_HOSTS = ("py" + "pi.org", "python" + "hosted.org", "registry.npm" + "js.org", "npm" + "js.com", "deb.deb" + "ian.org")
_HOST = re.compile("|".join(re.escape(host) for host in _HOSTS), re.IGNORECASE)
_FOLDERS = ("ho" + "me", "ro" + "ot", "wo" + "rk", "op" + "t", "Us" + "ers")
_MACHINE_PATH = re.compile(rf"(?<![\w./~-])/(?:{'|'.join(_FOLDERS)})/[\w.-]+")


@check
def no_machine_paths(repo: Repo) -> Iterator[Finding]:
    """A clone works on any machine: nothing names a folder or a package registry of one."""
    for file in repo.files:
        for line, found in file.lines_with(_MACHINE_PATH):
            what = f"names a folder of one machine ({found})"
            yield Finding(file.path, line, what, "use a path relative to the project")
        for line, found in file.lines_with(_HOST):
            yield Finding(file.path, line, f"names a package registry ({found})", "leave it to pip's own configuration")


_VAGUE = re.compile(r"(?:^|/)(?:utils?|helpers?|commons?|managers?|misc)(?:\.py|/)")


@check
def modules_are_named_for_a_noun(repo: Repo) -> Iterator[Finding]:
    """`utils` and its friends are where code goes to be forgotten."""
    for file in repo.under("src/", "tests/", "tools/", "bench/", suffix=".py"):
        if _VAGUE.search(file.path):
            yield Finding(file.path, 1, "a module's name says nothing", "name it for the one noun it is about")


@check
def modules_stay_small(repo: Repo) -> Iterator[Finding]:
    """A module of 100 to 300 lines is read in one go."""
    for file in repo.under("src/", "tests/", "tools/", "bench/", suffix=".py"):
        lines = len(file.text.splitlines())
        limit = MAX_TEST_LINES if file.path.startswith("tests/") else MAX_LINES
        if lines > limit and file.path not in LONG_MODULES:
            what = f"{lines} lines, more than {limit}"
            yield Finding(file.path, limit, what, "split it by noun, or give its reason in tools/check_repo.py")
        if lines <= limit and file.path in LONG_MODULES:
            yield Finding(file.path, 1, "listed in LONG_MODULES but short", "take it off the list")


def _calls(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every call by name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield node.lineno, ast.unparse(node.func)


@check
def tests_do_not_sleep(repo: Repo) -> Iterator[Finding]:
    """The clock is ours: a test waits for a condition (polled in a `while`), never for a while."""
    for file in repo.under("tests/", suffix=".py"):
        polls = {line for loop in ast.walk(file.tree) if isinstance(loop, ast.While) for line, _ in _calls(loop)}
        for line, name in _calls(file.tree):
            yields = "sleep(0)" in file.text.splitlines()[line - 1]
            if name in {"time.sleep", "sleep", "asyncio.sleep"} and line not in polls and not yields:
                yield Finding(file.path, line, f"{name}() in a test", "wait for the condition itself, with a deadline")


_UNSAFE = {"eval", "exec"} | {
    f"{module}.{name}"
    for module in ("pickle", "cloudpickle", "joblib", "marshal", "dill")
    for name in ("load", "loads")
}


@check
def nothing_is_evaluated_or_unpickled(repo: Repo) -> Iterator[Finding]:
    """Data is data."""
    for file in repo.under("src/", suffix=".py"):
        for line, name in _calls(file.tree):
            if name in _UNSAFE:
                yield Finding(
                    file.path, line, f"{name}() runs what is in the data", "msgspec for values, ONNX for models"
                )


@check
def packages_list_their_names(repo: Repo) -> Iterator[Finding]:
    """What a room offers is in its `__all__`."""
    for file in repo.under("src/", suffix="__init__.py"):
        names = {
            target.id
            for node in file.tree.body
            if isinstance(node, ast.Assign | ast.AnnAssign)
            for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
            if isinstance(target, ast.Name)
        }
        if "__all__" not in names:
            yield Finding(file.path, 1, "a package without __all__", "list its public names, be it none")


EXAMPLE_LINES = 80


@check
def the_example_stays_small(repo: Repo) -> Iterator[Finding]:
    """A year of flights in under 80 lines is what we promise."""
    file = repo.get("examples/flights/definitions.py")
    if file and len(file.text.splitlines()) >= EXAMPLE_LINES:
        yield Finding(file.path, EXAMPLE_LINES, f"{EXAMPLE_LINES} lines or more", "make the definitions say it in less")


@check
def the_locks_hold_what_is_declared(repo: Repo) -> Iterator[Finding]:
    """Every dependency in pyproject.toml is in its lock, with hashes, at or above its lower bound."""
    pyproject = repo.get("pyproject.toml")
    if pyproject is None:
        return
    project = tomllib.loads(pyproject.text)["project"]
    extras = project["optional-dependencies"]
    wanted = {
        "requirements.lock": project["dependencies"],
        "requirements-dev.lock": [*project["dependencies"], *extras["dev"], *extras["docs"]],
    }
    for path, requirements in wanted.items():
        lock = repo.get(path)
        if lock is None:
            yield Finding(path, 1, "is missing", "make lock")
            continue
        locked = {
            name: version
            for line in lock.text.splitlines()
            if (parts := re.match(r"([\w.-]+)==(\S+)", line))
            for name, version in [parts.groups()]
        }
        for requirement in requirements:
            name, _, lower = requirement.partition(">=")
            if name not in locked:
                yield Finding(path, 1, f"does not hold {name}", "make lock")
            elif _numbers(locked[name]) < _numbers(lower):
                yield Finding(path, 1, f"holds {name} {locked[name]}, older than {lower}", "make lock")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


@check
def every_command_is_documented(repo: Repo) -> Iterator[Finding]:
    """A command has its section in the reference: a heading ``## mainspring NAME``."""
    reference = repo.get("docs/reference/cli.md")
    headings = re.findall(r"^#+ `?mainspring ([a-z ]+?)`?\s*$", reference.text if reference else "", re.MULTILINE)
    for file in repo.under("src/mainspring/cli/", suffix=".py"):
        for line, command in _commands(file.tree):
            if command not in headings:
                what = f"the command `mainspring {command}` is not in docs/reference/cli.md"
                yield Finding(file.path, line, what, f"add a section `## mainspring {command}`")


def _commands(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and name of every command that is registered with cyclopts' `app.command(..., name="…")`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "command":
            for keyword in node.keywords:
                if keyword.arg == "name" and isinstance(keyword.value, ast.Constant):
                    yield node.lineno, str(keyword.value.value)


_NAMED = re.compile(r"\bmainspring ([a-z]+)")


@check
def hints_name_real_commands(repo: Repo) -> Iterator[Finding]:
    """The command that an error offers as its mend is there: `hint=` with `mainspring WORD`."""
    commands = {name for file in repo.under("src/mainspring/cli/", suffix=".py") for _, name in _commands(file.tree)}
    for file in repo.under("src/", suffix=".py"):
        for line, hint in _hints(file.tree):
            for word in _NAMED.findall(hint):
                if word not in commands:
                    what = f"a hint names `mainspring {word}`, which is no command"
                    yield Finding(file.path, line, what, "say what mends it, with a command that is there")


def _hints(tree: ast.Module) -> Iterator[tuple[int, str]]:
    """Line and text of everything given as `hint=`, or to a variable of that name; what is filled in becomes `…`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.keyword | ast.Assign):
            names = [node.arg] if isinstance(node, ast.keyword) else [ast.unparse(target) for target in node.targets]
            if "hint" in names:
                yield node.value.lineno, _text(node.value)


def _text(node: ast.expr) -> str:
    """The text of an expression of strings."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_text(part) for part in node.values)
    if isinstance(node, ast.BinOp):
        return _text(node.left) + _text(node.right)
    if isinstance(node, ast.IfExp):
        return f"{_text(node.body)} {_text(node.orelse)}"
    return "…"


_LINK = re.compile(r"\]\((?!https?:|mailto:|#)([^)\s#]+)")


@check
def links_lead_somewhere(repo: Repo) -> Iterator[Finding]:
    """A relative link in the repository's pages names a file that is there (mkdocs checks its own pages besides)."""
    for file in repo.files:
        if file.path.endswith(".md"):
            for line, found in file.lines_with(_LINK):
                target = found.removeprefix("](")
                if not ((repo.root / file.path).parent / target.partition("#")[0]).exists():
                    yield Finding(file.path, line, f"links to {target}, which is not there", "mend the link")


def run(repo: Repo) -> list[Finding]:
    """Every finding of every check."""
    return [finding for function in CHECKS for finding in function(repo)]


def main() -> int:
    """Print the findings; exit code 1 if there is any."""
    findings = run(Repo.at(ROOT))
    for finding in findings:
        print(finding)
    print(f"{len(CHECKS)} checks, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
