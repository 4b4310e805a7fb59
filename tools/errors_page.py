"""Write docs/reference/errors.md from the errors that the source raises; `--check` only says whether it is up to date.

An error is a call such as `DefinitionError("MS-D102", "what", ...)`: a code and then a sentence. The sentence is taken
from the source as it stands, with what is filled in shown as `‹name›`; so the page says what the program says.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SOURCE = ROOT / "src" / "mainspring"
PAGE = ROOT / "docs" / "reference" / "errors.md"

ROOMS = {
    "D": "Definitions",
    "C": "Configuration, catalog and command line",
    "E": "Events",
    "F": "Features",
    "M": "Models",
    "T": "Training",
    "S": "Serving",
    "R": "Rollout",
    "W": "Monitoring",
    "L": "Loop",
}
CHECKS = {"one_of_kind": "= is ‹…›", "list_of_kind": "= is ‹…›, not a list", "number": " is ‹…›, not a number"}
"""What the functions of ``definitions/kinds.py`` say of the field that stands before the code."""
_CODE = re.compile(r"MS-([A-Z])\d{3}")
_INTRO = """# Errors

An error says what is wrong, where, why, and what to do about it, and carries a code that stays the same between
releases. In HTTP bodies and with `--json` it is an object with `code`, `error`, `where`, `why` and `hint`.

`make reference` writes this page from the source. `‹…›` stands for what is filled in.

| error | exit code | HTTP status |
|---|---|---|
"""


@dataclass(frozen=True)
class Kind:
    """An error class: what it is, how a process ends with it, how HTTP says it."""

    name: str
    exit_code: int
    http_status: int


@dataclass(frozen=True)
class Raised:
    """A place that makes an error; ``kind`` is its class, or the HTTP status that is given with it."""

    code: str
    kind: str
    what: str


def kinds(tree: ast.Module) -> dict[str, Kind]:
    """The error classes of ``core/errors.py`` by name; exit code and status are inherited from the class before."""
    found: dict[str, Kind] = {}
    for node in tree.body:
        if isinstance(node, ast.ClassDef):
            bases = [found[ast.unparse(base)] for base in node.bases if ast.unparse(base) in found]
            base = bases[0] if bases else Kind("", exit_code=1, http_status=500)
            exit_code = _constant(node, "exit_code", base.exit_code)
            http_status = _constant(node, "http_status", base.http_status)
            found[node.name] = Kind(node.name, exit_code, http_status)
    return found


def _constant(node: ast.ClassDef, name: str, otherwise: int) -> int:
    """The whole number that a class body assigns to a name."""
    for statement in node.body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return int(ast.literal_eval(statement.value))
    return otherwise


def raised(tree: ast.Module) -> Iterator[Raised]:
    """Every call in a module with an error code among its arguments and a sentence after it."""
    for scope in [tree, *(node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))]:
        texts = {
            target.id: node.value
            for node in _own(scope)
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.JoinedStr | ast.Constant)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        for node in _own(scope):
            if isinstance(node, ast.Call):
                yield from _raised_by(node, texts)


def _own(scope: ast.AST) -> Iterator[ast.AST]:
    """The nodes of a module or function without those of the functions inside it."""
    for child in ast.iter_child_nodes(scope):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield child
            yield from _own(child)


def _raised_by(call: ast.Call, texts: Mapping[str, ast.expr]) -> Iterator[Raised]:
    called = ast.unparse(call.func).rpartition(".")[2]
    for before, argument, following in zip([None, *call.args], call.args, call.args[1:], strict=False):
        if isinstance(argument, ast.Constant) and _CODE.fullmatch(str(argument.value)):
            if called in CHECKS and before is not None:
                yield Raised(str(argument.value), "DefinitionError", _sentence(before) + CHECKS[called])
                continue
            sentence = texts.get(following.id, following) if isinstance(following, ast.Name) else following
            first = call.args[0]
            status = str(first.value) if isinstance(first, ast.Constant) and isinstance(first.value, int) else ""
            yield Raised(str(argument.value), status or called, _sentence(sentence))


def _sentence(node: ast.expr) -> str:
    """The text that an expression builds, with what is filled in as ‹name›."""
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(_sentence(part) for part in node.values)
    if isinstance(node, ast.FormattedValue):
        return f"‹{_subject(node.value)}›"
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        return _sentence(node.left) + _sentence(node.right)
    return f"‹{_subject(node)}›"


def _subject(node: ast.expr) -> str:
    """A short name for what an expression fills in: the last name in it that says something."""
    if isinstance(node, ast.Name):
        return node.id.replace("_", " ")
    if isinstance(node, ast.Attribute):
        return node.attr.strip("_").replace("_", " ")
    return "…"


def page(source: Path) -> str:
    """The whole page."""
    known = kinds(ast.parse((source / "core" / "errors.py").read_text(encoding="utf-8")))
    lines = [f"| `{kind.name}` | {kind.exit_code} | {kind.http_status} |" for kind in known.values()]
    by_code: dict[str, list[Raised]] = {}
    for path in sorted(source.rglob("*.py")):
        for one in raised(ast.parse(path.read_text(encoding="utf-8"))):
            by_code.setdefault(one.code, []).append(one)
    if unknown := sorted(code for code in by_code if code[3] not in ROOMS):
        raise SystemExit(f"no room in tools/errors_page.py has the letter of {', '.join(unknown)}")
    for letter, room in ROOMS.items():
        codes = [code for code in sorted(by_code) if code[3] == letter]
        if codes:
            lines += ["", f"## {room}", "", "| code | error | says |", "|---|---|---|"]
            lines += [_row(code, by_code[code], known) for code in codes]
    return _INTRO + "\n".join(lines) + "\n"


def _row(code: str, places: list[Raised], known: dict[str, Kind]) -> str:
    kinds_said = sorted({f"`{place.kind}`" if place.kind in known else place.kind for place in places})
    sentences = dict.fromkeys(place.what.replace("|", "\\|").replace("\n", " ") for place in places)
    said = "<br>".join(re.sub(r"([<>*_])", r"\\\1", sentence) for sentence in sentences)
    return f"| {code} | {', '.join(kinds_said)} | {said} |"


def main() -> int:
    """Write the page, or with ``--check`` say whether it is what would be written."""
    text = page(SOURCE)
    if "--check" in sys.argv[1:]:
        if PAGE.is_file() and PAGE.read_text(encoding="utf-8") == text:
            return 0
        print(f"{PAGE.relative_to(ROOT)}:1: is not what the source raises; make reference")
        return 1
    PAGE.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
